"""A terminal that shows one frame after another, and gives the keys that are pressed.

No library: those for whole screens are large, take a tenth of a second to import, and what is needed here is a
screen of its own, its top left corner, and one key at a time. All terminals of today understand these sequences
(ECMA-48; the alternate screen is xterm's).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_OPEN: Final = "\x1b[?1049h\x1b[?25l"  # a screen of its own, without a cursor
_CLOSE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


class Screen:
    """The terminal, while it is ours. See `opened`."""

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and lines now."""
        return shutil.get_terminal_size()

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines, each of which fits, and nothing else."""
        sys.stdout.write(_HOME + "\r\n".join(line + _REST_OF_LINE for line in lines) + _REST_OF_SCREEN)
        sys.stdout.flush()

    def key(self, within_s: float) -> str:
        """The next key that is pressed; empty when none is in that time."""
        descriptor = sys.stdin.fileno()
        ready, _, _ = select.select([descriptor], [], [], within_s)
        # Not through `sys.stdin`: that would keep what else was pressed, where `select` does not see it.
        return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""


def can_be_opened() -> bool:
    """Whether there is a terminal for both what is shown and what is pressed."""
    try:
        import termios  # noqa: F401  # there is none on Windows
    except ImportError:
        return False
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def opened() -> Iterator[Screen]:
    """Have the terminal for us, and give it back as it was: at the end, and whenever a signal ends or stops us."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)

    def take() -> None:
        tty.setcbreak(sys.stdin)
        _write(_OPEN)

    def give_back() -> None:
        with suppress(OSError, termios.error):  # its window may be closed
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
            _write(_CLOSE)

    try:
        with _given_back_on_signals(take, give_back):
            take()
            yield Screen()
    finally:
        give_back()


@contextmanager
def _given_back_on_signals(take: Callable[[], None], give_back: Callable[[], None]) -> Iterator[None]:
    """Give the terminal back before a signal does to us what it does to any program, and take it again if we go on."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP

    def act(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # first: a terminal may stand still, and the next signal ends us anyway
        give_back()
        signal.raise_signal(number)
        signal.signal(number, act)  # Ctrl-Z, and fg
        take()

    for number in ours:
        signal.signal(number, act)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _write(sequence: str) -> None:
    # Not through `sys.stdout`: a signal may come in the middle of a write to it, which it does not bear.
    os.write(sys.stdout.fileno(), sequence.encode())

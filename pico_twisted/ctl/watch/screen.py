"""A terminal that shows one frame after another, and gives the keys that are pressed.

No library: those for whole screens are large, take a tenth of a second to import, and what is needed here is a
screen of its own, its top left corner, and one key at a time. All terminals of today understand these sequences
(ECMA-48; the alternate screen is xterm's).
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """Have the terminal for us, and give it back as it was."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_OPEN)
        yield Screen()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_CLOSE)
        sys.stdout.flush()

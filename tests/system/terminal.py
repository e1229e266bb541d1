"""A terminal of a person, and what is started on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers.pipe import PATIENCE_S
from tools.stage.waiting import wait_until


class Terminal:
    """A terminal with a program in its foreground.

    Args:
        command: with its arguments.
        columns: that it has.
        env: the program's environment; ours when None.
        directory: where it is started; here when None.
    """

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 80,
        env: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._shown = bytearray()
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=env,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C and its end are signals
        )
        os.close(its)

    @property
    def text(self) -> str:
        """What it shows."""
        with contextlib.suppress(OSError):  # nobody is there any more
            while select.select([self._ours], [], [], 0)[0] and (piece := os.read(self._ours, 65536)):
                self._shown += piece
        return self._shown.decode("utf-8", "replace")

    @property
    def is_as_shells_want_it(self) -> bool:
        """Whether keys are echoed, and come line by line."""
        wanted = termios.ECHO | termios.ICANON
        return termios.tcgetattr(self._ours)[3] & wanted == wanted

    def wait(self, words: str) -> None:
        """Wait until it shows them."""
        wait_until(lambda: words in self.text, f"{words!r} on the terminal")

    def press(self, key: bytes) -> None:
        """A key."""
        os.write(self._ours, key)

    def end(self) -> None:
        """The window is closed. Idempotent."""
        with contextlib.suppress(OSError):
            os.close(self._ours)

    def exit_status(self) -> int:
        """Of the program, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End all of it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.end()

"""The token that `picoctl forward` shows, for as long as it runs: a file with another one in it is read again."""

from __future__ import annotations

import os
from collections.abc import Callable

from pico_twisted.config.checks import read_secret


class CurrentToken:
    """Returns the token to show now.

    Args:
        token: the first one; empty for none.
        file: that it is from; empty when it is from none.
        warn: told when the file has changed and cannot be used: the token before it stays.
    """

    def __init__(self, token: str, file: str, warn: Callable[[str], None]) -> None:
        self._token = token
        self._file = file
        self._warn = warn
        self._seen = self._stamp()

    def __call__(self) -> str:
        """The token; empty for none."""
        if self._file and (stamp := self._stamp()) != self._seen:
            self._seen = stamp
            token = read_secret(self._file)
            if token:
                self._token = token
            else:
                self._warn(f"{self._file} holds no token that can be read: the one before it is shown")
        return self._token

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

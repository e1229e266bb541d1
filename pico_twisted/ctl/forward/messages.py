"""What `picoctl forward` says while it runs, on stderr: each reason at most once a second."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from pico_twisted.core.text import escaped
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.observe.writer import LineWriter

REPEAT_S: Final = 1.0
"""Seconds after which the same reason is told again."""
CLOSE_S: Final = 1.0
"""Seconds that a reader of stderr gets at the end to take the last lines."""


class Messages:
    """Writes lines without ever holding up the reactor.

    Args:
        seconds: the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._lines = LineWriter(sys.stderr, _lost)
        self._lines.start()
        self._reasons = RepeatedWarning(REPEAT_S)

    def say(self, text: str) -> None:
        """Write a line."""
        self._lines.write(f"picoctl: {escaped(text)}\n")

    def warn(self, text: str) -> None:
        """Write a line, unless the same was written just now."""
        suppressed = self._reasons.due(text, self._seconds())
        if suppressed is not None:
            self.say(f"{text} ({suppressed} more since then)" if suppressed else text)

    def close(self) -> None:
        """Wait until the lines are written, not for long."""
        self._lines.close(CLOSE_S)


def _lost(message: str, /, **fields: str | int) -> str:
    """The line that says how many were lost."""
    return f"picoctl: {message} {' '.join(f'{name}={value}' for name, value in fields.items())}\n"

"""Warnings that come up again and again: a node that is down for an hour is tried thousands of times."""

from __future__ import annotations

import math
from typing import Final

REPEAT_S: Final = 30.0
"""Seconds after which the same warning is logged again: often enough to be found, too rarely to fill a disk."""


class RepeatedWarning:
    """Decides whether a repeated warning is logged again or only counted.

    It is logged when it differs from the last one, when that was long ago, or when things were fine in between.

    Args:
        repeat_s: seconds after which the same warning is logged again.
    """

    __slots__ = ("_last", "_last_at", "_repeat_s", "_suppressed")

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        self._repeat_s = repeat_s
        self._last = ""
        self._last_at = -math.inf
        self._suppressed = 0

    def due(self, warning: str, now: float) -> int | None:
        """Ask whether to log a warning.

        Returns:
            None when it is only counted; else how often it was, since it was logged last.
        """
        if warning != self._last:
            self._suppressed = 0
        elif now - self._last_at < self._repeat_s:
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        self._last = warning
        self._last_at = now
        return suppressed

    def cleared(self) -> None:
        """Things are fine: the next warning is logged."""
        self._last = ""

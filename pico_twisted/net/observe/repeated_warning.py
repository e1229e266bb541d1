"""Warnings that come up again and again: a node that is down for an hour is tried thousands of times."""

from __future__ import annotations

import math
from typing import Final

REPEAT_S: Final = 30.0
"""Seconds after which the same warning is logged again: often enough to be found, too rarely to fill a disk."""

MAX_REMEMBERED: Final = 16
"""Most different warnings of one place that are remembered. It has fewer reasons to give than that."""


class RepeatedWarning:
    """Decides whether a repeated warning is logged again or only counted.

    It is logged when it was not for long, or when things were fine in between. Others in between change nothing.

    Args:
        repeat_s: seconds after which the same warning is logged again.
    """

    __slots__ = ("_repeat_s", "_seen")

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        self._repeat_s = repeat_s
        self._seen: dict[str, tuple[float, int]] = {}  # when it was logged last, and how often it came since then

    def due(self, warning: str, now: float) -> int | None:
        """Ask whether to log a warning.

        Returns:
            None when it is only counted; else how often it was, since it was logged last.
        """
        seen = self._seen
        logged_at, suppressed = seen.pop(warning, (-math.inf, 0))
        if now - logged_at < self._repeat_s:
            seen[warning] = (logged_at, suppressed + 1)
            return None
        if len(seen) >= MAX_REMEMBERED:
            del seen[next(iter(seen))]
        seen[warning] = (now, 0)
        return suppressed

    def cleared(self) -> None:
        """Things are fine: the next warning is logged."""
        self._seen.clear()

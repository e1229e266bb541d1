"""Rates that are kept: token buckets, on a clock that is told."""

from __future__ import annotations

import attrs


@attrs.define
class TokenBucket:
    """Lets so many through in a second, and as many at once as came in one second, at least one.

    Args:
        rate: how many a second.
        now: in seconds.
    """

    rate: float
    _at: float = attrs.field(alias="now")
    _left: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self._most

    @property
    def _most(self) -> float:
        return max(1.0, self.rate)

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take from it. Returns whether there was enough; else nothing is taken."""
        self._fill(now)
        if self._left < count:
            return False
        self._left -= count
        return True

    def wait_s(self, now: float, count: float = 1.0) -> float:
        """Seconds until so many are there."""
        self._fill(now)
        return max(0.0, (count - self._left) / self.rate)

    def is_full(self, now: float) -> bool:
        """Whether nothing was taken for so long that it can be forgotten."""
        self._fill(now)
        return self._left >= self._most

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._most, self._left + (now - self._at) * self.rate)
            self._at = now

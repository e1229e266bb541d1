"""A distribution of times, kept in little memory however many there are.

Each time is counted in a bucket that is a thousandth wide, and a percentile is the upper edge of its bucket: so no
figure is too small, and none is more than 0.1 % too large. The buckets are those of a logarithmic scale, in a
dictionary, so only those that were hit cost anything.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

STEPS: Final = 1001
"""The number of buckets in which times grow by the factor e; each is then a little less than a thousandth wide."""
LEAST_S: Final = 1e-9
"""The shortest time that is told apart, in seconds; the clock has no shorter one."""
CURVE: Final = (
    *range(0, 90, 5),
    *(90, 92, 94, 95, 96, 97, 98, 99, 99.25, 99.5, 99.75, 99.9, 99.95, 99.99, 99.995, 99.999, 99.9999),
)
"""The percentages for which a curve has points, denser where people look."""


class Latencies:
    """Counts times, and tells how they are distributed.

    Attributes:
        max_s: the longest time in seconds; 0 of none.
    """

    __slots__ = ("_buckets", "_min_s", "_sum_s", "max_s")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._sum_s = 0.0
        self._min_s = math.inf
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one time; a negative one counts as 0."""
        seconds = max(seconds, 0.0)
        self._buckets[math.ceil(math.log(max(seconds, LEAST_S)) * STEPS)] += 1
        self._sum_s += seconds
        self._min_s = min(self._min_s, seconds)
        self.max_s = max(self.max_s, seconds)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._buckets.total()

    @property
    def mean_s(self) -> float:
        """Their mean in seconds; 0 of none."""
        return self._sum_s / (self.count or 1)

    @property
    def min_s(self) -> float:
        """The shortest in seconds; 0 of none."""
        return self._min_s if self._buckets else 0.0

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """For each percentage, the time in seconds that so many per cent of all took at most; 0 of none."""
        if not self._buckets:
            return [0.0] * len(percents)
        buckets = sorted(self._buckets)
        below = list(accumulate(self._buckets[bucket] for bucket in buckets))
        ranks = [max(1, math.ceil(below[-1] * percent / 100 - 1e-9)) for percent in percents]
        return [min(math.exp(buckets[bisect_left(below, rank)] / STEPS), self.max_s) for rank in ranks]

    def known(self, percents: Sequence[float]) -> list[float]:
        """Those of the percentages that the count can tell: above each of them there is one time at least."""
        count = self.count
        return [percent for percent in percents if round(count * (100 - percent), 6) >= 100]

    def curve(self) -> list[tuple[float, float]]:
        """Points of the distribution: per cent, seconds. Only the last one is beyond what the count tells."""
        percents = [*self.known(CURVE), 100.0]
        return list(zip(percents, self.percentiles(percents), strict=True)) if self._buckets else []

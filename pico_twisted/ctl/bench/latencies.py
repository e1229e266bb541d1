"""A distribution of times, kept in little memory however many there are.

Each time goes to a bucket whose width is at most a thousandth of it (11 significant bits of its nanoseconds), and a
percentile is the upper edge of its bucket: so no figure is too small, and none is more than 0.1 % too large. The
buckets are a dictionary, so only those that were hit cost anything. The package `hdrhistogram` does the same; it would
bring setuptools and pbr to every machine with an agent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

PRECISION_BITS: Final = 11
_NS: Final = 1_000_000_000
CURVE: Final = (
    *range(0, 90, 5),
    *(90, 92, 94, 95, 96, 97, 98, 99, 99.25, 99.5, 99.75, 99.9, 99.95, 99.99, 99.995, 99.999, 99.9999),
)
"""The percentiles of a curve, denser where it is looked at."""


class Latencies:
    """Counts times, and tells how they are distributed."""

    __slots__ = ("_buckets", "_max_s", "_min_s", "_sum_s")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._sum_s = 0.0
        self._min_s = math.inf
        self._max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one time; one below nothing counts as nothing."""
        seconds = max(seconds, 0.0)
        ns = int(seconds * _NS)
        shift = max(0, ns.bit_length() - PRECISION_BITS)
        self._buckets[((ns >> shift) + 1) << shift] += 1
        self._sum_s += seconds
        self._min_s = min(self._min_s, seconds)
        self._max_s = max(self._max_s, seconds)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._buckets.total()

    @property
    def mean_s(self) -> float:
        """Their mean; 0 of none."""
        count = self.count
        return self._sum_s / count if count else 0.0

    @property
    def min_s(self) -> float:
        """The shortest; 0 of none."""
        return self._min_s if self._buckets else 0.0

    @property
    def max_s(self) -> float:
        """The longest; 0 of none."""
        return self._max_s

    def percentiles(self, percents: Sequence[float]) -> Iterator[float]:
        """For each percentage, in rising order, the time that so many per cent of all took at most; 0 of none."""
        edges = sorted(self._buckets)
        below = list(accumulate(self._buckets[edge] for edge in edges))
        total = below[-1] if below else 0
        at = 0
        for percent in percents:
            if not total:
                yield 0.0
                continue
            rank = max(1, math.ceil(total * percent / 100 - 1e-9))
            while below[at] < rank:
                at += 1
            yield min(edges[at] / _NS, self._max_s)

    def known(self, percents: Sequence[float]) -> list[float]:
        """Those of the percentages that the count can tell: above each of them there is one time at least."""
        count = self.count
        return [percent for percent in percents if round(count * (100 - percent), 6) >= 100]

    def curve(self) -> list[tuple[float, float]]:
        """Points of the distribution for a plot: per cent, seconds. None but the last beyond what the count tells."""
        percents = [*self.known(CURVE), 100.0]
        return list(zip(percents, self.percentiles(percents), strict=True)) if self._buckets else []

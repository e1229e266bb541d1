"""Counts in the form in which `prometheus_client` writes them out."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric


class Distribution:
    """How often a duration fell between two bounds: what a Prometheus histogram is made of.

    Args:
        bounds_s: rising upper bounds in seconds, without the infinite one.
    """

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(self._bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def counts(self) -> tuple[int, ...]:
        """How many durations there are up to each bound and above the one before; the last are above them all."""
        return tuple(self._counts)

    def family(self, name: str, help: str) -> Metric:
        """The histogram in the form that `prometheus_client` writes out."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds_s, math.inf), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == math.inf else repr(bound), total))
        return HistogramMetricFamily(name, help, buckets=buckets, sum_value=self._sum_s)


def labelled(name: str, help: str, labels: Sequence[str], counts: Mapping[tuple[str, ...], int]) -> Metric:
    """A counter with a number for each combination of its labels.

    Args:
        name: of the metric.
        help: what it says, for people.
        labels: the names of its labels.
        counts: the numbers, by the values of the labels.
    """
    family = CounterMetricFamily(name, help, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def by_label(name: str, help: str, label: str, counts: Mapping[str, int]) -> Metric:
    """Make a metric as `labelled` does, with one label.

    Args:
        name: of the metric.
        help: what it says, for people.
        label: the name of its label.
        counts: the numbers, by the value of the label.
    """
    return labelled(name, help, (label,), {(value,): count for value, count in counts.items()})


def levels(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
    """A gauge with a number for each value of its label; arguments as of `by_label`."""
    family = GaugeMetricFamily(name, help, labels=(label,))
    for value, level in values.items():
        family.add_metric((value,), level)
    return family

"""How busy a process is: what counters say of the last seconds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.net.observe.busyness import KEPT_S, Readings, quantile
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.metrics.requests import REQUEST_BOUNDS_S


class Bench:
    """Readings on a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.cpu_s = 0.0
        self.metrics = Metrics("node")
        self.readings = Readings(self.metrics, lambda: self.now_s, lambda: self.cpu_s)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.readings.turn(self.now_s)


def test_rates_are_of_the_last_seconds() -> None:
    """Not of all the time since the start; the first look has an answer, too."""
    bench = Bench()
    for _ in range(100):
        bench.metrics.request_done(b"GET", 200, 0.004, 10, 100)
    bench.pass_time(4.0)
    busy = bench.readings.busyness()
    assert (busy.over_s, busy.requests_per_s, busy.bytes_out_per_s) == (4.0, 25.0, 2500.0)
    for _ in range(3):
        bench.pass_time(KEPT_S)
    bench.metrics.request_done(b"GET", 502, 0.004, 0, 0)
    bench.cpu_s += 1.0
    busy = bench.readings.busyness()
    assert busy.over_s == KEPT_S
    assert busy.requests_per_s == busy.failed_per_s == 1 / KEPT_S
    assert busy.cpu == 1 / KEPT_S
    assert busy.p50_s is not None and 0.0025 <= busy.p50_s <= 0.005


def test_nothing_happens() -> None:
    """No rate, no time, and nothing is divided by zero."""
    busy = Bench().readings.busyness()
    assert (busy.over_s, busy.requests_per_s, busy.p99_s) == (0.0, 0.0, None)


@given(st.lists(st.integers(0, 1000), min_size=len(REQUEST_BOUNDS_S) + 1, max_size=len(REQUEST_BOUNDS_S) + 1))
def test_quantiles(counts: list[int]) -> None:
    """They rise with the share, and lie in the bucket where so many have been counted."""
    found = [quantile(REQUEST_BOUNDS_S, counts, share) for share in (0.01, 0.5, 0.99, 1.0)]
    if not any(counts):
        assert found == [None] * 4
        return
    assert all(low <= high for low, high in itertools.pairwise(found))  # type: ignore[operator]
    half = found[1]
    assert half is not None
    below = sum(count for bound, count in zip(REQUEST_BOUNDS_S, counts, strict=False) if bound <= half)
    assert below <= sum(counts) / 2 + max(counts)


@pytest.mark.parametrize(("counts", "expected"), [([0, 4, 0], 1.5), ([0, 0, 4], 2.0), ([4, 0, 0], 0.5)])
def test_half_of_them(counts: list[int], expected: float) -> None:
    """As if they were spread evenly between two bounds; above the last one nothing is known."""
    assert quantile((1.0, 2.0), counts, 0.5) == expected

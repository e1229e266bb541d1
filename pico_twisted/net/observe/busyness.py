"""How busy the process was in the last seconds: differences of what is counted anyway."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.metrics.registry import LAG_BOUNDS_S
from pico_twisted.net.observe.metrics.requests import REQUEST_BOUNDS_S, RequestTotals

KEPT_S: Final = 5.0
"""Seconds between two readings that are kept: what is told is of the last one or two spans."""


@attrs.frozen(kw_only=True)
class _Reading:
    at_s: float
    cpu_s: float
    requests: RequestTotals
    lag: Sequence[int]


@attrs.frozen(kw_only=True)
class Busyness:
    """How busy the process was.

    Attributes:
        over_s: for how many seconds that is so.
        requests_per_s, failed_per_s, bytes_in_per_s, bytes_out_per_s: of requests that ended.
        p50_s, p99_s: in which half, and 99 of 100, of them ended; None when there were none.
        first_byte_p50_s, first_byte_p99_s: in which so many answers began; None when none did.
        lag_p99_s: how much later than asked for 99 of 100 timers came; None when there were none.
        cpu: share of one core.
    """

    over_s: float
    requests_per_s: float
    failed_per_s: float
    bytes_in_per_s: float
    bytes_out_per_s: float
    p50_s: float | None
    p99_s: float | None
    first_byte_p50_s: float | None
    first_byte_p99_s: float | None
    lag_p99_s: float | None
    cpu: float


class Readings:
    """Reads the counters now and then.

    Args:
        metrics: of the process.
        clock: seconds that only advance.
        cpu_clock: seconds of a core that the process has used.
    """

    def __init__(
        self, metrics: Metrics, clock: Callable[[], float], cpu_clock: Callable[[], float] = time.process_time
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._kept: deque[_Reading] = deque([self._read()], maxlen=2)

    def turn(self, now: float) -> None:
        """Called by the sweep: keep a reading, when the last one is old enough."""
        if self._clock() - self._kept[-1].at_s >= KEPT_S:
            self._kept.append(self._read())

    def busyness(self) -> Busyness:
        """How busy the process was lately."""
        before, now = self._kept[0], self._read()
        over_s = now.at_s - before.at_s
        a_second = 1 / over_s if over_s > 0 else 0.0
        was, is_now = before.requests, now.requests
        took = _more(was.took, is_now.took)
        first_bytes = _more(was.first_bytes, is_now.first_bytes)
        return Busyness(
            over_s=over_s,
            requests_per_s=(is_now.requests - was.requests) * a_second,
            failed_per_s=(is_now.failed - was.failed) * a_second,
            bytes_in_per_s=(is_now.bytes_in - was.bytes_in) * a_second,
            bytes_out_per_s=(is_now.bytes_out - was.bytes_out) * a_second,
            p50_s=quantile(REQUEST_BOUNDS_S, took, 0.5),
            p99_s=quantile(REQUEST_BOUNDS_S, took, 0.99),
            first_byte_p50_s=quantile(REQUEST_BOUNDS_S, first_bytes, 0.5),
            first_byte_p99_s=quantile(REQUEST_BOUNDS_S, first_bytes, 0.99),
            lag_p99_s=quantile(LAG_BOUNDS_S, _more(before.lag, now.lag), 0.99),
            cpu=(now.cpu_s - before.cpu_s) * a_second,
        )

    def _read(self) -> _Reading:
        metrics = self._metrics
        return _Reading(
            at_s=self._clock(), cpu_s=self._cpu_clock(), requests=metrics.request_totals(), lag=metrics.lag_counts()
        )


def _more(was: Sequence[int], is_now: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in zip(was, is_now, strict=True)]


def quantile(bounds_s: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Below which duration a share of all lie, as far as the bounds tell: as if they were spread evenly between two.

    Args:
        bounds_s: rising upper bounds in seconds, without the infinite one.
        counts: how many durations there are up to each bound, and above the last one.
        share: from 0 to 1.

    Returns:
        Seconds; the last bound for what is above it; None when there are no durations.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    below = 0.0
    for bound, count in zip(bounds_s, counts, strict=False):
        if count and wanted <= count:
            return below + (bound - below) * wanted / count
        wanted -= count
        below = bound
    return bounds_s[-1]

"""Requests by endpoint: for those who ask for it, since each endpoint is ten time series more.

A client may name any endpoint. So only requests that found an agent are counted under their endpoint's name; all others
are counted as `other`, and so are all endpoints beyond `MOST_ENDPOINTS`. At a scrape those make room that nobody holds
any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from pico_twisted.net.observe.metrics.labels import OTHER, STATUS_CLASSES

MOST_ENDPOINTS: Final = 1000
"""Most endpoints with series of their own: some ten thousand series, which Prometheus takes at ease."""


class _Count:
    """What is counted of one endpoint."""

    __slots__ = ("by_class", "first_bytes", "first_bytes_s")

    def __init__(self) -> None:
        self.by_class = [0] * len(STATUS_CLASSES)
        self.first_bytes = 0
        self.first_bytes_s = 0.0


class EndpointCounts:
    """Counts requests by endpoint.

    Args:
        in_flight: gives the endpoints of the requests that are in progress now, each as often as it has some.
        is_held: says whether there is an endpoint of an ID.
    """

    def __init__(self, in_flight: Callable[[], Iterable[str]], is_held: Callable[[str], bool]) -> None:
        self._in_flight = in_flight
        self._is_held = is_held
        self._counts: dict[str, _Count] = {}
        self._other = _Count()

    def done(self, endpoint: str, found: bool, status: int, first_byte_s: float | None) -> None:
        """Count a request that is over.

        Args:
            endpoint: its ID.
            found: it went to an agent, so there is such an endpoint.
            status: what the client got.
            first_byte_s: seconds until the answer began; None when it did not.
        """
        count = self._counts.get(endpoint)
        if count is None:
            count = self._other
            if found and endpoint != OTHER and len(self._counts) < MOST_ENDPOINTS:
                count = self._counts[endpoint] = _Count()
        count.by_class[status // 100 if 100 <= status <= 599 else 0] += 1
        if first_byte_s is not None:
            count.first_bytes += 1
            count.first_bytes_s += first_byte_s

    def families(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        if len(self._counts) >= MOST_ENDPOINTS:
            self._counts = {endpoint: count for endpoint, count in self._counts.items() if self._is_held(endpoint)}
        flying = Counter(endpoint if endpoint in self._counts else OTHER for endpoint in self._in_flight())
        requests = CounterMetricFamily(
            "pico_endpoint_requests", "Requests that are over, by endpoint and status.", labels=("endpoint", "status")
        )
        first_bytes = SummaryMetricFamily(
            "pico_endpoint_first_byte_seconds",
            "From the head of a request to the first byte of its answer.",
            labels=("endpoint",),
        )
        in_flight = GaugeMetricFamily(
            "pico_endpoint_requests_in_flight", "Requests in progress, by endpoint.", labels=("endpoint",)
        )
        # No endpoint is counted as `other` twice: one of that ID has no series of its own.
        for endpoint, count in [(OTHER, self._other), *self._counts.items()]:
            for status, number in zip(STATUS_CLASSES, count.by_class, strict=True):
                if number:
                    requests.add_metric((endpoint, status), number)
            first_bytes.add_metric((endpoint,), count.first_bytes, count.first_bytes_s)
            in_flight.add_metric((endpoint,), flying[endpoint])
        yield from (requests, first_bytes, in_flight)

"""What is counted of HTTP/2, and told of clients that do what no honest one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.logger import Logger

from pico_twisted.net.observe.metrics import by_label
from pico_twisted.net.observe.repeated_warning import RepeatedWarning

log = Logger()


class Http2Counts:
    """Of all connections of a port.

    Attributes:
        connections: the open ones.
        requests: taken so far.
        refused: requests that came beyond what a connection may have in progress.
    """

    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.requests = 0
        self.refused = 0
        self._ended: Counter[str] = Counter()
        self._warning = RepeatedWarning()

    def ended(self, reason: str, peer: str, now: float) -> None:
        """A connection was ended for what its client did: count it, and log it now and then."""
        self._ended[reason] += 1
        suppressed = self._warning.due(reason + peer, now)
        if suppressed is not None:
            log.warn(
                "A connection of HTTP/2 was ended for what its client did: {reason}",
                reason=reason,
                peer=peer,
                suppressed=suppressed,
            )

    def metrics(self) -> Iterator[Metric]:
        """What is counted, for a scrape."""
        yield GaugeMetricFamily(
            "pico_http2_connections", "Connections of proxy clients over HTTP/2.", value=len(self.connections)
        )
        yield CounterMetricFamily("pico_http2_requests", "Requests that came over HTTP/2.", value=self.requests)
        yield CounterMetricFamily(
            "pico_http2_refused", "Requests over HTTP/2 beyond what a connection may have.", value=self.refused
        )
        yield by_label(
            "pico_http2_ended",
            "Connections of HTTP/2 that were ended for what their clients did, by what that was.",
            "reason",
            self._ended,
        )

"""An agent's attempts to reach nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from pico_twisted.net.observe.metrics.families import by_label
from pico_twisted.net.observe.metrics.labels import CONNECT_FAILURES, OTHER


class ConnectionCounts:
    """What came of them."""

    def __init__(self) -> None:
        self._connects = {False: 0, True: 0}
        self._failures: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    def connected(self, again: bool = False) -> None:
        """Count a registration that a node accepted; `again` when the listener had been registered before."""
        self._connects[again] += 1

    def failed(self, reason: str) -> None:
        """Count an attempt that came to nothing; the reasons are `CONNECT_FAILURES`."""
        self._failures[reason if reason in CONNECT_FAILURES else OTHER] += 1

    def refused(self, status: int) -> None:
        """Count an attempt that the node answered with an error status; counts as a failed attempt as well."""
        self._refusals[str(status) if 100 <= status <= 599 else OTHER] += 1
        self.failed("refused")

    def families(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield CounterMetricFamily(
            "pico_agent_connects",
            "Registrations that a node accepted, first ones and repeated ones.",
            value=self._connects[False] + self._connects[True],
        )
        yield CounterMetricFamily(
            "pico_agent_reconnects",
            "Registrations that a node accepted for a listener that had been registered before.",
            value=self._connects[True],
        )
        yield by_label(
            "pico_agent_connection_failures",
            "Attempts to reach a node that came to nothing, by reason; refused: the node answered no.",
            "reason",
            self._failures,
        )
        yield by_label(
            "pico_agent_refusals",
            "Attempts that the node answered with an error, by its HTTP status.",
            "status",
            self._refusals,
        )

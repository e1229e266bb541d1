"""What is counted of the services of an agent: how often they went out, what checks said, how long calls waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric

from pico_twisted.net.observe.metrics import Metrics, by_label
from pico_twisted.net.observe.metrics.families import Distribution

WAIT_BOUNDS_S: Final = (0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram of waits, in seconds: a wait is measured with the clock of the sweep."""


class ServiceCounts:
    """Counts of all services of an agent.

    Args:
        metrics: where they are shown.

    Attributes:
        waited: counts a call that waited for a connection or a stream, and got it, by its seconds.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._outages = 0
        self._checks: Counter[str] = Counter()
        self._waits_s = Distribution(WAIT_BOUNDS_S)
        self.waited = self._waits_s.observe
        metrics.families(self._families)

    def out(self) -> None:
        """A service went out."""
        self._outages += 1

    def checked(self, good: bool) -> None:
        """A check has ended."""
        self._checks["healthy" if good else "unhealthy"] += 1

    def _families(self) -> Iterator[Metric]:
        yield by_label("pico_agent_health_checks", "Checks of services, by their result.", "result", self._checks)
        help = "How often services went out: calls got no answers, or checks failed."
        yield CounterMetricFamily("pico_agent_service_outages", help, value=self._outages)
        help = "How long requests waited that found no connection or stream of their service free."
        yield self._waits_s.family("pico_agent_service_wait_seconds", help)

"""All that a process counts.

Every request is counted by method, status, bytes and time. `prometheus_client`'s own Counter and Histogram take a lock
and a label look-up for each observation, some microseconds together: more than all other bookkeeping of a request. So
the data path bumps plain ints in dicts and lists, and only for a scrape does a collector turn those into
metric families. Everything runs on the reactor's thread, so a scrape sees a consistent picture without a lock.

`prometheus_client.twisted` is not used: importing it installs the global reactor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from twisted.logger import Logger

from pico_twisted.net.observe.metrics.calls import CallCounts, LinkCounts
from pico_twisted.net.observe.metrics.connections import ConnectionCounts
from pico_twisted.net.observe.metrics.endpoints import EndpointCounts
from pico_twisted.net.observe.metrics.families import Distribution
from pico_twisted.net.observe.metrics.limits import LimitLevels
from pico_twisted.net.observe.metrics.requests import RequestCounts

log = Logger()

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of what `Metrics.exposition` returns."""

LAG_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the histogram of the reactor's lag, in seconds."""

_NAME: Final = re.compile(r"pico_[a-z0-9_]*[a-z0-9]\Z")


class Metrics(Collector):
    """All counters of one process.

    The forwarder and the tunnels of a node, or those of an agent, call the short methods, each of which is one of the
    subject that it belongs to; the admin port calls `exposition`.

    Args:
        component: `node` or `agent`; an agent has the `pico_agent_*` counters as well.
        version: the version that `pico_build_info` shows.

    Attributes:
        component: the same.
        request_done, first_byte, failed, service_failed, request_totals: of `RequestCounts`.
        call_started, calls_started, reset, retried, session_registered, heartbeat: of `CallCounts`.
        link_call, link_round_trip, link_failed: of `LinkCounts`.
        connected, connect_failed, refused: of `ConnectionCounts`.
        limit, near_limits: of `LimitLevels`.
        lag_counts: of the reactor's lag, with `LAG_BOUNDS_S`; as of `Distribution.counts`.
        endpoints: requests by endpoint; None unless somebody wants that.
    """

    def __init__(self, component: str, version: str = "") -> None:
        if component not in ("node", "agent"):
            raise ValueError(f"component is node or agent, not {component!r}")
        self.component = component
        self._requests = RequestCounts()
        self.request_done = self._requests.done
        self.first_byte = self._requests.first_byte
        self.failed = self._requests.failed
        self.service_failed = self._requests.service_failed
        self.request_totals = self._requests.totals
        self._calls = CallCounts()
        self.call_started = self._calls.started
        self.calls_started = self._calls.total
        self.reset = self._calls.reset
        self.retried = self._calls.retried
        self.session_registered = self._calls.registered
        self.heartbeat = self._calls.heartbeat
        self._links = LinkCounts()
        self.link_call = self._links.call
        self.link_round_trip = self._links.round_trip
        self.link_failed = self._links.failed
        self._connections = ConnectionCounts()
        self.connected = self._connections.connected
        self.connect_failed = self._connections.failed
        self.refused = self._connections.refused
        self._limits = LimitLevels()
        self.limit = self._limits.add
        self.near_limits = self._limits.near
        self.endpoints: EndpointCounts | None = None
        self._lag_s = Distribution(LAG_BOUNDS_S)
        self.lag_counts = self._lag_s.counts
        self._readings: dict[str, tuple[str, Callable[[], float]]] = {}  # by name: what it says, and what reads it
        self._sources: list[Callable[[], Iterable[Metric]]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)
        self.info("pico_build_info", "Which program this is", component=component, version=version)

    def lag(self, seconds: float) -> None:
        """Count how much later than asked for a timer came: how long the reactor was busy with something else."""
        self._lag_s.observe(max(0.0, seconds))

    # Reading.

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Add a number that is read at each scrape, such as the requests in flight or the open sessions.

        Args:
            name: `pico_` and lower-case words joined by underscores.
            help: what it says, for people.
            read: gives the number; one that raises is logged and left out of that scrape.

        Raises:
            ValueError: the name is not one of ours, or is taken.
        """
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no metric name of ours: pico_ and lower-case words")
        if name in self._readings or any(family.name == name for family in self._counted()):
            raise ValueError(f"the metric {name} is there already")
        self._readings[name] = (help, read)

    def info(self, name: str, help: str, **labels: str) -> None:
        """Add a metric that is always 1 and tells something by its labels.

        Args:
            name: of the metric; ends in `_info`.
            help: what it says, for people.
            labels: by their names.
        """
        family = GaugeMetricFamily(name, f"{help}; always 1.", labels=tuple(labels))
        family.add_metric(tuple(labels.values()), 1)
        self.families(lambda: (family,))

    def families(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Add metrics that another part counts: `read` gives them at each scrape."""
        self._sources.append(read)

    def exposition(self) -> bytes:
        """Everything in the text format 0.0.4, for `/metrics`; see `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metric families as they are now; called by the registry."""
        yield from self._counted()
        for name, (help, read) in self._readings.items():
            try:
                value = float(read())
            except Exception:
                log.failure("could not read a metric", metric=name)
                continue
            yield GaugeMetricFamily(name, help, value=value)
        for source in (self._limits.families, *self._sources):
            try:
                yield from source()
            except Exception:
                log.failure("could not read metrics")

    def _counted(self) -> Iterator[Metric]:
        at_node = self.component == "node"
        yield from self._requests.families(at_node)
        yield from self._calls.families(at_node)
        yield self._lag_s.family(
            "pico_reactor_lag_seconds", "How late the process came to its timers, or to what had been sent to it."
        )
        yield from self._links.families() if at_node else self._connections.families()
        if self.endpoints is not None:
            yield from self.endpoints.families()

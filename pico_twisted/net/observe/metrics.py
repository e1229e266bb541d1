"""What the data path counts, and how Prometheus reads it.

Every request is counted by method, status, bytes and time. `prometheus_client`'s own Counter and Histogram take a lock
and a label look-up for each observation, some microseconds together: more than all other bookkeeping of a request. So
the data path bumps plain ints in dicts and lists, and only for a scrape does a collector turn those into
metric families. Everything runs on the reactor's thread, so a scrape sees a consistent picture without a lock.

Labels are bounded: whatever a client, agent or service sends, the number of time series stays fixed. Methods outside
the standard set, reset codes and reasons outside ours are counted as `other`.

`prometheus_client.twisted` is not used: importing it installs the global reactor.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from twisted.logger import Logger

log = Logger()

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of what `Metrics.exposition` returns."""

OTHER: Final = "other"
"""Label of what has no label of its own."""

METHODS: Final = tuple(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK TCP".split()
)
"""The methods of RFC 9110, RFC 5789 and RFC 4918 (WebDAV), and what stands for one of TCP calls at an agent; all others
share one label."""

RESET_CODES: Final = frozenset(
    (
        "refused not-here",
        "refused draining",
        "refused busy",
        "cancelled",
        "timeout",
        "stop",
        "failed",
        "protocol",
    )
)
"""The codes that a reset of the tunnel's protocol may carry."""

ROUTES: Final = ("agent", "node", "draining-node", "service")
"""Where an http call goes: from a node to an agent of its own, to another node, to a draining node that alone holds the
endpoint; from an agent to its service."""

RETRY_REASONS: Final = RESET_CODES | frozenset(
    ("lost", "unsupported", "service-unreachable", "stale", "stream-refused", "http1-required")
)
"""Why a request was tried again: the call was refused or reset; its session ended (`lost`); the peer does not know such
calls (`unsupported`); the agent could not reach its service; a connection to the service turned out dead
(`stale`); the service did not look at what came over HTTP/2 (`stream-refused`), or wants it over HTTP/1.1."""

CONNECT_FAILURES: Final = frozenset(("refused", "connect", "dns", "tls", "timeout", "handshake", "protocol", "proxy"))
"""Why an agent's attempt to reach a node failed: the node answered no (`refused`), no TCP connection, no address, a
certificate or TLS fault, too slow, a broken WebSocket handshake, a peer that speaks something else,
whoever answers for a node that is away, or a proxy that does not connect us (`proxy`)."""

LINK_FAILURES: Final = frozenset(
    ("address", "connect", "dns", "tls", "timeout", "refused", "handshake", "wrong-node", "proof", "lost")
)
"""Why a link to another node failed: its address is not known, no TCP connection, no IP for its name, a certificate or
TLS fault, too slow, it answered no, a broken WebSocket handshake, another node answered, one of both could not prove
itself; an open link broke (`lost`)."""

REQUEST_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram of requests, in seconds."""
HEARTBEAT_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms of round trips, in seconds."""
LAG_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the histogram of the reactor\'s lag, in seconds."""

_NAME: Final = re.compile(r"pico_[a-z0-9_]*[a-z0-9]\Z")


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

    def family(self, name: str, help: str) -> Metric:
        """The histogram in the form that `prometheus_client` writes out."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds_s, math.inf), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == math.inf else repr(bound), total))
        return HistogramMetricFamily(name, help, buckets=buckets, sum_value=self._sum_s)


class Metrics(Collector):
    """All counters of one process.

    The forwarder and the tunnels of a node, or those of an agent, call the short methods; the admin port calls
    `exposition`.

    Args:
        component: `node` or `agent`; an agent has the `pico_agent_*` counters as well.
        version: the version that `pico_build_info` shows.
    """

    def __init__(self, component: str, version: str = "") -> None:
        if component not in ("node", "agent"):
            raise ValueError(f"component is node or agent, not {component!r}")
        self.component = component
        self._version = version
        self._others: dict[int, int] = {}
        self._requests: dict[bytes, dict[int, int]] = {method: {} for method in METHODS}
        self._request_s = Distribution(REQUEST_BOUNDS_S)
        self._observe_request = self._request_s.observe
        self._bytes_in = 0
        self._bytes_out = 0
        self._calls = dict.fromkeys(ROUTES, 0)
        self._resets: Counter[tuple[str, ...]] = Counter()
        self._retries: Counter[str] = Counter()
        self._heartbeat_s = Distribution(HEARTBEAT_BOUNDS_S)
        self._lag_s = Distribution(LAG_BOUNDS_S)
        self._link_calls = {False: 0, True: 0}
        self._link_round_trip_s = Distribution(HEARTBEAT_BOUNDS_S)
        self._link_failures: Counter[str] = Counter()
        self._connects = {False: 0, True: 0}
        self._connect_failures: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._readings: dict[str, tuple[str, Callable[[], float]]] = {}  # by name: what it says, and what reads it
        self._sources: list[Callable[[], Iterable[Metric]]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    # The data path.

    def request_done(self, method: bytes, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count a request that is over.

        Args:
            method: as received; anything unusual is counted as `other`.
            status: what the client got; 499 when it went away first.
            seconds: from the first byte of its head to the last of its answer.
            bytes_in: bytes of the request's body.
            bytes_out: bytes of the answer's body.
        """
        counts = self._requests.get(method, self._others)
        if not 100 <= status <= 599:
            status = 0
        counts[status] = counts.get(status, 0) + 1
        self._observe_request(seconds)
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out

    def call_started(self, to: str) -> None:
        """Count an http call.

        Args:
            to: where it goes, one of `ROUTES`.
        """
        self._calls[to] += 1

    def reset(self, sent: bool, code: str) -> None:
        """Count a call that ended by a reset.

        Args:
            sent: whether it was ours.
            code: its code, as in the frame.
        """
        self._resets["sent" if sent else "received", code if code in RESET_CODES else OTHER] += 1

    def retried(self, reason: str) -> None:
        """Count a request that is tried once more; the reasons are `RETRY_REASONS`."""
        self._retries[reason if reason in RETRY_REASONS else OTHER] += 1

    def heartbeat(self, seconds: float) -> None:
        """Count the round trip of one heartbeat."""
        self._heartbeat_s.observe(seconds)

    def lag(self, seconds: float) -> None:
        """Count how much later than asked for a timer came: how long the reactor was busy with something else."""
        self._lag_s.observe(max(0.0, seconds))

    # Links between nodes.

    def link_call(self, sent: bool) -> None:
        """Count a request that went to another node (`sent`), or came from one."""
        self._link_calls[sent] += 1

    def link_round_trip(self, seconds: float) -> None:
        """Count the round trip of one heartbeat on a link."""
        self._link_round_trip_s.observe(seconds)

    def link_failed(self, reason: str) -> None:
        """Count a link that could not be opened, or broke; the reasons are `LINK_FAILURES`."""
        self._link_failures[reason if reason in LINK_FAILURES else OTHER] += 1

    # The agent's connections.

    def connected(self, again: bool = False) -> None:
        """Count a registration that a node accepted; `again` when the listener had been registered before."""
        self._connects[again] += 1

    def connect_failed(self, reason: str) -> None:
        """Count an attempt that came to nothing; the reasons are `CONNECT_FAILURES`."""
        self._connect_failures[reason if reason in CONNECT_FAILURES else OTHER] += 1

    def refused(self, status: int) -> None:
        """Count an attempt that the node answered with an error status; counts as a failed attempt as well."""
        self._refusals[str(status) if 100 <= status <= 599 else OTHER] += 1
        self.connect_failed("refused")

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
        for source in self._sources:
            try:
                yield from source()
            except Exception:
                log.failure("could not read metrics")

    def _counted(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("pico_build_info", "Which program this is; always 1.", labels=("component", "version"))
        info.add_metric((self.component, self._version), 1)
        yield info
        yield from self._counted_requests()
        yield from self._counted_calls()
        yield from self._counted_links() if self.component == "node" else self._counted_connections()

    def _counted_requests(self) -> Iterator[Metric]:
        yield labelled(
            "pico_requests",
            "Requests that are over, by method and status; 499 is a client that left.",
            ("method", "status"),
            {
                (method.decode("ascii"), str(status) if status else OTHER): count
                for method, counts in (*self._requests.items(), (OTHER.encode(), self._others))
                for status, count in counts.items()
            },
        )
        yield self._request_s.family("pico_request_seconds", "From the head of a request to the end of its answer.")
        yield CounterMetricFamily("pico_request_bytes", "Bytes of request bodies.", value=self._bytes_in)
        yield CounterMetricFamily("pico_response_bytes", "Bytes of response bodies.", value=self._bytes_out)

    def _counted_calls(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "pico_calls", "HTTP calls: opened by this node, or served by this agent.", value=sum(self._calls.values())
        )
        if self.component == "node":
            yield by_label(
                "pico_routed",
                "HTTP calls by where they went: an agent of this node, or another node.",
                "to",
                {to: count for to, count in self._calls.items() if to != "service"},
            )
        yield labelled(
            "pico_resets",
            "Calls that ended by a reset, by who sent it and its code.",
            ("direction", "code"),
            self._resets,
        )
        yield by_label("pico_retries", "Requests that were tried once more, by reason.", "reason", self._retries)
        yield self._heartbeat_s.family("pico_heartbeat_seconds", "Round trips of heartbeats on tunnels.")
        yield self._lag_s.family("pico_reactor_lag_seconds", "How much later than asked for a timer came.")

    def _counted_links(self) -> Iterator[Metric]:
        yield by_label(
            "pico_link_calls",
            "Requests over node links: sent to other nodes, and received from them.",
            "direction",
            {"sent": self._link_calls[True], "received": self._link_calls[False]},
        )
        yield self._link_round_trip_s.family("pico_link_round_trip_seconds", "Round trips of heartbeats on links.")
        yield by_label(
            "pico_link_failures",
            "Links to other nodes that could not be opened, or broke, by reason.",
            "reason",
            self._link_failures,
        )

    def _counted_connections(self) -> Iterator[Metric]:
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
            self._connect_failures,
        )
        yield by_label(
            "pico_agent_refusals",
            "Attempts that the node answered with an error, by its HTTP status.",
            "status",
            self._refusals,
        )


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

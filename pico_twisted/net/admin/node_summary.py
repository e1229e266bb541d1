"""How busy this node is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from resource import getpagesize
from typing import Final, Protocol

import attrs

from pico_twisted import __version__
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.routing.table import ACTIVE
from pico_twisted.net.admin.shapes.summary import NEAR, EndpointSummary, LimitUse, NodeSummary
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.observe.busyness import Readings, quantile
from pico_twisted.net.observe.metrics.requests import REQUEST_BOUNDS_S
from pico_twisted.net.observe.requests import EndpointCounts, RequestWatch
from pico_twisted.net.routing.cluster_service import ClusterService

_STATM: Final = "/proc/self/statm"


class Serves(Protocol):
    """The proxy port.

    Attributes:
        connections: of clients.
    """

    @property
    def connections(self) -> Sized: ...

    def serving(self) -> int:
        """How many requests are in progress."""


@attrs.frozen(kw_only=True, eq=False)
class NodeBusyness:
    """Puts together how busy a node is.

    Attributes:
        status: what the node says of itself.
        cluster: its registry, and what it takes.
        proxy: its proxy port.
        readings: of the counters of the process.
        near_limits: gives what is used and allowed of the limits of which so large a share is used, by their names.
        requests: that are over.
        wall: seconds since 1970.
        started_at_s: when the node started, in the same.
    """

    status: INodeStatus
    cluster: ClusterService
    proxy: Serves
    readings: Readings
    near_limits: Callable[[float], Mapping[str, tuple[float, float]]]
    requests: RequestWatch
    wall: Callable[[], float] = time.time
    started_at_s: float = attrs.field(factory=time.time)

    def summary(self, certificates: Mapping[str, float]) -> NodeSummary:
        """How busy the node is now.

        Args:
            certificates: when the first one of each port ends, in seconds since 1970.
        """
        busy = self.readings.busyness()
        is_ready, why_not = self.status.ready()
        return NodeSummary(
            id=self.status.node_id,
            version=__version__,
            status=ACTIVE if is_ready else why_not,
            cordoned=self.cluster.intake is not Intake.OPEN,
            started_at_s=round(self.started_at_s, 3),
            at_s=round(self.wall(), 3),
            over_s=round(busy.over_s, 3),
            requests_per_s=round(busy.requests_per_s, 3),
            failed_per_s=round(busy.failed_per_s, 3),
            p50_s=_rounded(busy.p50_s),
            p99_s=_rounded(busy.p99_s),
            first_byte_p50_s=_rounded(busy.first_byte_p50_s),
            first_byte_p99_s=_rounded(busy.first_byte_p99_s),
            in_flight=self.proxy.serving(),
            connections=len(self.proxy.connections),
            sessions=len(self.cluster.registry),
            bytes_in_per_s=round(busy.bytes_in_per_s),
            bytes_out_per_s=round(busy.bytes_out_per_s),
            cpu=round(busy.cpu, 4),
            memory_bytes=resident_bytes(),
            lag_p99_s=_rounded(busy.lag_p99_s),
            refused_share=round(self.cluster.refused_share, 2),
            certificates=certificates,
            near_limits={name: LimitUse(used=used, most=most) for name, (used, most) in self.near_limits(NEAR).items()},
            endpoints_over_s=round(self.requests.endpoints()[0], 3),
            endpoints=self._endpoints(),
        )

    def _endpoints(self) -> dict[str, EndpointSummary]:
        over_s, counted = self.requests.endpoints()
        calls: Counter[str] = Counter()
        for route in self.cluster.registry:
            calls[route.endpoint] += len(route.calls)
        a_second = 1 / over_s if over_s > 0 else 0.0
        return {
            endpoint: _endpoint(counted.get(endpoint, []), a_second, calls[endpoint])
            for endpoint in sorted({*counted, *calls})
        }


def _endpoint(windows: list[EndpointCounts], a_second: float, in_flight: int) -> EndpointSummary:
    if not windows:
        return EndpointSummary(in_flight=in_flight)
    took = _summed([window.durations for window in windows])
    first_bytes = _summed([window.first_bytes for window in windows])
    return EndpointSummary(
        requests_per_s=round(sum(window.requests for window in windows) * a_second, 3),
        failed_per_s=round(sum(window.failed for window in windows) * a_second, 3),
        p50_s=_rounded(quantile(REQUEST_BOUNDS_S, took, 0.5)),
        p99_s=_rounded(quantile(REQUEST_BOUNDS_S, took, 0.99)),
        first_byte_p50_s=_rounded(quantile(REQUEST_BOUNDS_S, first_bytes, 0.5)),
        first_byte_p99_s=_rounded(quantile(REQUEST_BOUNDS_S, first_bytes, 0.99)),
        in_flight=in_flight,
    )


def _summed(counts: list[list[int]]) -> Sequence[int]:
    return counts[0] if len(counts) == 1 else [sum(column) for column in zip(*counts, strict=True)]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the system does not tell."""
    try:
        with open(_STATM, "rb") as file:
            return int(file.read().split()[1]) * getpagesize()
    except (OSError, ValueError, IndexError):
        return 0

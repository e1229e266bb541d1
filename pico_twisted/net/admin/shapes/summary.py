"""What is told of how busy nodes are, and how well they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

SUMMARY_PATH: Final = "/status/summary"
"""Path of the route that tells how busy a node is."""
CLUSTER_SUMMARY_PATH: Final = "/status/cluster/summary"
"""Path of the route that tells that of all nodes."""
NEAR: Final = 0.8
"""The share of a limit from which on it is near."""


@attrs.frozen(kw_only=True)
class LimitUse:
    """How much there is of what a limit limits.

    Attributes:
        used: how much there is.
        most: how much there may be.
    """

    used: float
    most: float


@attrs.frozen(kw_only=True)
class EndpointSummary:
    """How busy one endpoint is at one node.

    Attributes:
        requests_per_s: requests that ended at its proxy port.
        failed_per_s: those of them with a status from 499 on, or whose answer was cut.
        p50_s, p99_s: in how many seconds half, and 99 of 100, of them ended; None when there were none.
        first_byte_p50_s, first_byte_p99_s: in how many seconds so many of the answers began; None when none did.
        in_flight: calls in progress to agents of this node, also for requests that came to other nodes.
    """

    requests_per_s: float = 0.0
    failed_per_s: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    first_byte_p50_s: float | None = None
    first_byte_p99_s: float | None = None
    in_flight: int = 0


@attrs.frozen(kw_only=True)
class NodeSummary:
    """How busy a node is. Rates and latencies are those of the last seconds before `at_s`.

    Attributes:
        id, version: of the node.
        status: `active`, `draining`; or why it is not ready.
        cordoned: whether it takes no new agents: it is cordoned, drained, or stops.
        started_at_s, at_s: when it started, and when this was so, in seconds since 1970.
        over_s: of how many seconds the rates are.
        requests_per_s: requests that ended at its proxy port.
        failed_per_s: those of them with a status from 499 on.
        p50_s, p99_s: in how many seconds half, and 99 of 100, of them ended; None when there were none.
        first_byte_p50_s, first_byte_p99_s: in how many seconds so many of the answers began; None when none did.
        in_flight: requests of its clients in progress.
        connections: of its clients.
        sessions: of its agents.
        bytes_in_per_s, bytes_out_per_s: of the bodies of requests and answers.
        cpu: share of one core that the process used.
        memory_bytes: its resident memory; 0 where the system does not tell.
        lag_p99_s: how late 99 of 100 looks at its timers, and at what had been sent to it, were at most; None when
            there were none.
        certificates: when the first certificate of each port ends, in seconds since 1970.
        refused_share: of new requests that it refuses since it has more to do than it can; 0 as a rule, and of a node
            that is older.
        near_limits: the keys of `limits` that are near, of which `NEAR` or more is used; none of a node that is older.
        endpoints_over_s: of how many seconds the rates of endpoints are; 0 when nothing was counted yet, since nobody
            has looked lately and there is no access log.
        endpoints: how busy those are that its agents serve, or that were asked for lately.
    """

    id: str
    version: str = ""
    status: str = "active"
    cordoned: bool = False
    started_at_s: float
    at_s: float
    over_s: float = 0.0
    requests_per_s: float = 0.0
    failed_per_s: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    first_byte_p50_s: float | None = None
    first_byte_p99_s: float | None = None
    in_flight: int = 0
    connections: int = 0
    sessions: int = 0
    bytes_in_per_s: float = 0.0
    bytes_out_per_s: float = 0.0
    cpu: float = 0.0
    memory_bytes: int = 0
    lag_p99_s: float | None = None
    refused_share: float = 0.0
    certificates: Mapping[str, float] = attrs.field(factory=dict)
    near_limits: Mapping[str, LimitUse] = attrs.field(factory=dict)
    endpoints_over_s: float = 0.0
    endpoints: Mapping[str, EndpointSummary] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Summary:
    """How busy nodes are.

    Attributes:
        nodes: those that told, the one that was asked first.
        unanswered: why other nodes did not tell, by node ID.
    """

    nodes: Sequence[NodeSummary] = ()
    unanswered: Mapping[str, str] = attrs.field(factory=dict)

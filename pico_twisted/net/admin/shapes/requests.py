"""What is told of requests that are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

REQUESTS_PATH: Final = "/status/requests"
"""Path of the route that tells the requests which a node remembers."""
CLUSTER_REQUESTS_PATH: Final = "/status/cluster/requests"
"""Path of the route that tells those of all nodes."""


@attrs.frozen(kw_only=True)
class RequestRow:
    """A request that is over, as one hop of its way saw it.

    Attributes:
        node: ID of the node that tells; of the agent, where an agent does.
        port: where the request came in there: `proxy` from its client, `link` from another node, `tunnel` at an agent.
        at_s: when it ended, in seconds since 1970.
        seq: the number of the row at that node since its start.
        request_id: its `x-request-id`; empty when it failed before it had one.
        client: address of the client; at a link, ID of the node that sent it on.
        method: as received.
        target: path and query, with values hidden that look like credentials, and cut when it is long.
        endpoint: the endpoint ID; empty when none was found.
        upstream: where it was sent last: ID of an agent or a node, or the address of a service; empty for nowhere.
        sent_to_node: whether that is a node.
        hop: where it failed: `client`, `proxy`, `link`, `agent` or `service`; empty when it did not.
        status: what its client got, 499 when the client left first. 0 at a link where it was given back to the node
            that sent it on.
        error: code of an error that Pico made; empty when it made none.
        bytes_in: bytes of the request's body.
        bytes_out: bytes of the answer's body.
        first_byte_s: seconds until the answer began; None when it did not, or nobody looked.
        duration_s: seconds from the head of the request to its end.
        protocol: what it came over, such as `HTTP/1.1`.
        subject: who sent it, where the port authenticates; else empty.
    """

    node: str
    port: str = "proxy"
    at_s: float
    seq: int
    request_id: str = ""
    client: str = ""
    method: str = ""
    target: str = ""
    endpoint: str = ""
    upstream: str = ""
    sent_to_node: bool = False
    hop: str = ""
    status: int = 0
    error: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_s: float | None = None
    duration_s: float = 0.0
    protocol: str = ""
    subject: str = ""


@attrs.frozen(kw_only=True)
class RequestReach:
    """How far back a node remembers requests.

    Attributes:
        now_s: its time, in seconds since 1970.
        failed_since_s: it remembers all that failed since then.
        all_since_s: it remembers all since then; None when it keeps only those that failed.
    """

    now_s: float
    failed_since_s: float
    all_since_s: float | None = None


@attrs.frozen(kw_only=True)
class Requests:
    """What nodes remember of requests that are over.

    Attributes:
        rows: the newest of those that were asked for, by the time of their ends.
        more: how many were left out because they are too many.
        reach: how far back each node remembers, by its ID.
        unanswered: why other nodes did not tell, by node ID.
    """

    rows: Sequence[RequestRow] = ()
    more: int = 0
    reach: Mapping[str, RequestReach] = attrs.field(factory=dict)
    unanswered: Mapping[str, str] = attrs.field(factory=dict)

"""What is told of nodes."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class _Node:
    """What the list of nodes and the page of one have in common.

    Attributes:
        id: its node ID.
        status: `active`, `draining` while it shuts down, `unreachable` when it has been silent for too long, `left`
            when it said that it ends.
        proxy_addr: where proxy clients reach it, `host:port`.
        admin_addr: where operators reach it.
        gossip_addr: where nodes reach it; empty when it takes part in no cluster.
        version: of its program.
        intake: `cordoned` or `drained` when an operator has taken it out, which `status` calls `draining`; else empty.
    """

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    gossip_addr: str = ""
    version: str = ""
    intake: str = ""


@attrs.frozen(kw_only=True)
class NodeRow(_Node):
    """A node in the list of nodes.

    Attributes:
        endpoints: how many endpoint IDs its agents have registered.
        upstreams: how many registrations that are, counting each agent's.
        link: `open` when the node that was asked has a link to it, or why none could be opened lately; empty when none
            was needed.
    """

    endpoints: int = 0
    upstreams: int = 0
    link: str = ""


@attrs.frozen(kw_only=True)
class NodeDetail(_Node):
    """One node with the endpoints themselves.

    Attributes:
        endpoints: registrations of each endpoint ID.
        link: as in `NodeRow`.
        public_url: where clients reach endpoints, as the node that was asked is told; empty for another one.
    """

    endpoints: Mapping[str, int] = attrs.field(factory=dict)
    link: str = ""
    public_url: str = ""

    def row(self) -> NodeRow:
        """The same node for the list."""
        common = {field.name: getattr(self, field.name) for field in attrs.fields(_Node)}
        upstreams = sum(self.endpoints.values())
        return NodeRow(**common, endpoints=len(self.endpoints), upstreams=upstreams, link=self.link)

"""What the status routes say, as values. Both sides use them: the admin port writes them, its clients read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import cattrs


@attrs.frozen(kw_only=True)
class NodeRow:
    """A node in the list of nodes.

    Attributes:
        id: its node ID.
        status: `active`, or `draining` while it shuts down.
        proxy_addr: where proxy clients reach it, `host:port`.
        admin_addr: where operators reach it.
        gossip_addr: where nodes reach it; empty when it takes part in no cluster.
        version: of its program.
        endpoints: how many endpoint IDs its agents have registered.
        upstreams: how many registrations that are, counting each agent's.
    """

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    gossip_addr: str = ""
    version: str = ""
    endpoints: int = 0
    upstreams: int = 0


@attrs.frozen(kw_only=True)
class NodeDetail:
    """One node: as `NodeRow`, but with the endpoints themselves.

    Attributes:
        endpoints: registrations of each endpoint ID.
    """

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    gossip_addr: str = ""
    version: str = ""
    endpoints: Mapping[str, int] = attrs.field(factory=dict)

    def row(self) -> NodeRow:
        """The same node for the list."""
        return NodeRow(
            id=self.id,
            status=self.status,
            proxy_addr=self.proxy_addr,
            admin_addr=self.admin_addr,
            gossip_addr=self.gossip_addr,
            version=self.version,
            endpoints=len(self.endpoints),
            upstreams=sum(self.endpoints.values()),
        )


_converter = cattrs.Converter()


def to_json(value: object) -> Any:
    """A shape, or lists and maps of them, as what JSON can hold."""
    return _converter.unstructure(value)


def node_rows(data: object) -> list[NodeRow]:
    """The list of nodes out of decoded JSON. Keys that a newer node added are ignored.

    Raises:
        cattrs.BaseValidationError: it is no such list.
    """
    return _converter.structure(data, list[NodeRow])


def node_detail(data: object) -> NodeDetail:
    """One node out of decoded JSON. Keys that a newer node added are ignored.

    Raises:
        cattrs.BaseValidationError: it is no such node.
    """
    return _converter.structure(data, NodeDetail)

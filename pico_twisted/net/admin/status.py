"""What the admin port asks of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import Attribute, Interface

from pico_twisted.net.admin.shapes.agents import AgentDetail, Agents
from pico_twisted.net.admin.shapes.gossip import GossipDetail, GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow


class IAgentStatus(Interface):
    """An agent's own view of itself. Each answer is a value that does not change afterwards."""

    def ready() -> tuple[bool, str]:
        """Whether at least one listener is registered, and if none is, why."""

    def detail() -> AgentDetail:
        """Its listeners and their sessions."""


class INodeStatus(Interface):
    """A node's own view of itself and of the other nodes. Each answer is a value that does not change afterwards."""

    node_id: str = Attribute("The ID of this node.")

    def ready() -> tuple[bool, str]:
        """Whether the node is to be sent requests, and if it is not, why."""

    def nodes() -> Sequence[NodeRow]:
        """All nodes that this one knows, itself included."""

    def nodes_there() -> Sequence[str]:
        """The IDs of the other nodes that are there."""

    def node(id: str) -> NodeDetail | None:
        """One node by its ID, this one by `local`; None when there is no such node."""

    def endpoints() -> Mapping[str, int]:
        """The endpoint IDs that agents registered at this node, with the number of registrations of each."""

    def agents(endpoint: str) -> Agents:
        """The sessions of agents at this node; only those that serve an endpoint, unless it is empty."""

    def cluster_endpoints() -> Mapping[str, Mapping[str, int]]:
        """The endpoint IDs of the cluster: for each the registrations of the nodes that hold it and are there."""

    def holders(endpoint: str) -> Mapping[str, int]:
        """The same of one endpoint."""

    def gossip_nodes() -> Sequence[GossipRow]:
        """What gossip knows of each node, this one included."""

    def gossip_node(id: str) -> GossipDetail | None:
        """The same of one node with its keys, of this one by `local`; None when there is no such node."""

    def admin_url(id: str) -> str | None:
        """Where another node's admin port is reached: `http://host:port` or https. None when there is no such node."""

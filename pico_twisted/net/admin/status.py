"""What the admin port asks of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import Interface

from pico_twisted.net.admin.shapes import NodeDetail, NodeRow


class INodeStatus(Interface):
    """A node's own view of itself and of the other nodes. Each answer is a value that does not change afterwards."""

    def ready() -> tuple[bool, str]:
        """Whether the node is to be sent requests, and if it is not, why."""

    def nodes() -> Sequence[NodeRow]:
        """All nodes that this one knows, itself included."""

    def node(id: str) -> NodeDetail | None:
        """One node by its ID, this one by `local`; None when there is no such node."""

    def endpoints() -> Mapping[str, int]:
        """The endpoint IDs that agents registered at this node, with the number of registrations of each."""

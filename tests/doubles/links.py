"""Nodes joined by links without gossip: who is where, and who holds what, is told by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pico_twisted.core.gossip.events import KeysChanged, StatusChanged
from pico_twisted.core.routing.table import ClusterTable, endpoint_key
from pico_twisted.net.links.links import LinkSettings, NodeLinks
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.routing.cluster_service import LocalRouter
from tests.doubles.node import NodeParts


def join(
    parts: NodeParts,
    addresses: Mapping[str, tuple[str, int]],
    *,
    cluster: str = "pico",
    secrets: Sequence[bytes] = (),
    tls: LinkTls | None = None,
    generation: int = 1,
    maps: bytes = b"the maps",
    **rest: Any,
) -> NodeLinks:
    """Give a node links to others, and let its proxy port use them. Of several nodes it chooses the first.

    Args:
        parts: of the node.
        addresses: of other nodes' gossip ports, by node ID. May change later.
        cluster, secrets, tls, generation: as of `LinkSettings`, and so is what else is given.
        maps: how this node answers a question for the maps: with these bytes behind what was asked.
    """
    service = parts.cluster
    settings = LinkSettings(
        cluster=cluster,
        node_id=service.node_id,
        generation=lambda: generation,
        secrets=secrets,
        router=LocalRouter(service),
        address_of=addresses.get,
        answer_sync=lambda node_id, request: b"%b asks %b: " % (node_id.encode(), request) + maps,
        tls=tls,
        **rest,
    )
    links = NodeLinks(parts.tunnel_parts, settings, reactor=parts.clock)
    service.holds_bytes(links.held_bytes)
    service.links = links
    service.table = ClusterTable(lambda: 0.0)
    return links


def tell(parts: NodeParts, endpoint: str, holders: Sequence[str]) -> None:
    """Let a node know, as if from gossip, who holds an endpoint.

    Args:
        parts: of the node.
        endpoint: in lower case.
        holders: all other nodes that hold it, those to choose first in front.
    """
    table = parts.cluster.table
    key = endpoint_key(endpoint)
    for node_id in table.nodes:
        table.keys_changed(KeysChanged(node_id, {key: None}))
    for node_id in holders:
        if node_id not in table.nodes:
            table.status_changed(StatusChanged(node_id, "active"))
        table.keys_changed(KeysChanged(node_id, {key: 1}))

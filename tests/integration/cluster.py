"""Several nodes on loopback, joined by links, each with a proxy port and an upstream port of its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from pico_twisted.config import ClusterTlsConfig
from pico_twisted.net.links.links import NodeLinks
from tests.doubles.node import ToldMembership
from tests.integration.harness import RunningNode, eventually, reactor

SECRET = b"a secret of 16 bytes and more"


class LinkedNodes:
    """Nodes that know each other's addresses. Close them when the test is over.

    Args:
        names: their IDs.
        secrets: of the cluster, for all or by node ID.
        tls: by node ID.
        limits: of each node, as of `MemoryNode`.

    Attributes:
        nodes, links: by node ID.
        addresses: of the link ports, by node ID.
    """

    def __init__(
        self,
        names: Sequence[str] = ("n1", "n2"),
        *,
        secrets: Sequence[bytes] | Mapping[str, Sequence[bytes]] = (),
        tls: Mapping[str, ClusterTlsConfig] | None = None,
        **limits: Any,
    ) -> None:
        self.nodes: dict[str, RunningNode] = {}
        self.links: dict[str, NodeLinks] = {}
        self.addresses: dict[str, tuple[str, int]] = {}
        self._ports: list[Any] = []
        for name in names:
            node = self.nodes[name] = RunningNode(
                node_id=name,
                secrets=secrets.get(name, ()) if isinstance(secrets, Mapping) else secrets,
                tls=(tls or {}).get(name),
                membership=functools.partial(ToldMembership, addresses=self.addresses),
                **limits,
            )
            links = self.links[name] = node.parts.links
            port = reactor.listenTCP(0, links.port_factory, interface="127.0.0.1")
            self._ports.append(port)
            self.addresses[name] = ("127.0.0.1", port.getHost().port)
        self.held_by("n1")

    def held_by(self, *names: str) -> None:
        """Let all nodes know who holds the endpoint, those to choose first in front."""
        for name, node in self.nodes.items():
            node.parts.tell("my-ep", [other for other in names if other != name])

    @property
    def holder(self) -> RunningNode:
        """The node that agents connect to: n1."""
        return self.nodes["n1"]

    @property
    def entry(self) -> RunningNode:
        """The node that clients connect to: n2."""
        return self.nodes["n2"]

    def held_bytes(self) -> int:
        """What links and clients make all nodes hold."""
        return sum(
            self.links[name].held_bytes() + node.parts.proxy.held_bytes() + node.parts.upstream.held_bytes()
            for name, node in self.nodes.items()
        )

    async def close(self) -> None:
        """Close every connection and port."""
        for port in self._ports:
            await port.stopListening()
        for links in self.links.values():
            await links.abort()
        await eventually(lambda: not any(links.port.connections for links in self.links.values()))
        for node in self.nodes.values():
            await node.close()

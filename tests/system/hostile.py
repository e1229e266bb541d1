"""A small cluster, for tests of those who try to be taken for a node, or to disturb the nodes.

Each of these tests ends with a look at what the nodes say of the cluster: it has to be what it was before.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.peers import v2
from tests.peers.link import Claim, Node
from tests.system import wire
from tests.system.cluster import Cluster
from tests.system.service import Service
from tools.stage.stage import Stage

OTHER_SECRET = "another-secret-of-another-cluster"

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: pico.v2",
)
"""The fields of a WebSocket handshake, with version 2 of the tunnel."""

WITH_SECRET = pytest.mark.parametrize("running_target", ["secret"], indirect=True)
"""For tests of what there is to prove."""


class Target:
    """Two nodes, an agent at the first, and those that try.

    Attributes:
        secret: of the cluster; None when it has none.
        n1, n2: the nodes; n1 has the agent.
        service: behind the agent.
    """

    def __init__(self, cluster: Cluster, secret: str | None, service: Service) -> None:
        self.cluster = cluster
        self.secret = secret
        self.service = service
        self.n1, self.n2 = cluster["n1"], cluster["n2"]
        self.gossip = ("127.0.0.1", self.n1.ports.gossip)
        self._open: list[Any] = []
        self._before: dict[str, Any] = {}

    @property
    def stage(self) -> Stage:
        """Its processes."""
        return self.cluster.stage

    def claim(self, **changes: Any) -> Claim:
        """An honest claim of a third node, or one with something wrong in it."""
        good = Claim(node_id="n3", to="n1", secret=None if self.secret is None else self.secret.encode())
        return good.but(**changes)

    def link(self, claim: Claim | None = None, **options: Any) -> Node:
        """A link to n1 with the right claim or another one, of which nothing is proven."""
        return self.keep(Node(self.gossip, self.claim() if claim is None else claim, **options))

    def proven(self) -> Node:
        """A link to n1 that is as good as that of any node."""
        node = self.link()
        if self.secret is not None:
            assert node.wait_response(node.prove()).payload == b""
        return node

    def client(self, address: tuple[str, int]) -> wire.Stream:
        """A raw connection."""
        return self.keep(wire.connect(address))

    def udp(self) -> socket.socket:
        """A socket that sends packets to n1 and sees what they draw."""
        sender = self.keep(socket.socket(type=socket.SOCK_DGRAM))
        sender.bind(("127.0.0.1", 0))
        sender.connect(self.gossip)
        sender.setblocking(False)
        return sender

    def keep(self, thing: Any) -> Any:
        """Close it when the test ends."""
        self._open.append(thing)
        return thing

    # -- one test after the other

    def begin(self) -> None:
        """Before a test: what the nodes say of the cluster is noted."""
        self.service.reset()
        self._before = self.state()

    def end(self) -> None:
        """After a test: they say the same, serve what they served, and logged no fault of theirs."""
        self.close()
        self.service.reset()
        assert self.state() == self._before
        for node in (self.n1, self.n2):
            assert self.ask(node, "x-pico-endpoint: web").status == 200
        assert self.stage.new_faults() == []
        self.close()

    def close(self) -> None:
        """End all connections of the test."""
        for thing in self._open:
            thing.vanish() if isinstance(thing, v2.Peer) else thing.close()
        self._open = []

    def state(self) -> dict[str, Any]:
        """All that both nodes say of the cluster, without what moves by itself."""
        found: dict[str, Any] = {}
        for node in (self.n1, self.n2):
            for path in ("/status/cluster/nodes", "/status/upstream/endpoints"):
                found[f"{node.name} {path}"] = node.admin.json(path)
            for id in ("n1", "n2"):
                found[f"{node.name} {id}"] = node.admin.json(f"/status/cluster/nodes/{id}")
                gossip = node.admin.json(f"/status/gossip/nodes/{id}")
                found[f"{node.name} gossip {id}"] = [gossip[key] for key in ("generation", "status", "floor", "keys")]
            found[f"{node.name} gossip"] = [row["id"] for row in node.admin.json("/status/gossip/nodes")]
            found[f"{node.name} ready"] = node.admin.status("/ready")
        return found

    def ask(self, node: Any, *fields: str, line: str = "GET / HTTP/1.1", body: bytes = b"") -> wire.Response:
        """One request to the proxy port of a node; a body gets its length."""
        lengths = [f"Content-Length: {len(body)}"] if body else []
        client = self.client(node.proxy)
        client.send("\r\n".join([line, "Host: localhost", *fields, *lengths, "", ""]).encode("latin-1") + body)
        return client.read_response(line.partition(" ")[0])

    def links_inbound(self) -> float:
        """The links of other nodes that n1 has accepted."""
        return self.n1.admin.metric("pico_links_inbound")

    def dropped(self, reason: str) -> float:
        """Packets that n1 has dropped for a reason."""
        return self.n1.admin.metric("pico_gossip_dropped_total", f'reason="{reason}"')

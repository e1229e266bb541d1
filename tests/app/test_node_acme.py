"""What a node tells the others when it orders a certificate, and what it answers with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pico_twisted.app.node_acme import NodeAcme
from pico_twisted.config import NodeConfig
from pico_twisted.core.routing.table import ClusterTable, KnownNode
from pico_twisted.net.tls.acme.challenges import TLS_ALPN_01, Challenges, challenge_key
from tests.doubles.said import said_of

KEY = challenge_key(TLS_ALPN_01, "pico.example")


class Cluster:
    """Nodes that know at once, or when a test says so, what the others tell."""

    def __init__(self, *names: str) -> None:
        self.maps: dict[str, dict[str, str]] = {name: {} for name in names}
        self.tables = {name: ClusterTable(lambda: 0.0) for name in names}
        self.nodes = {name: self._node(name) for name in names}
        for name in names:
            self.tables[name].nodes = {other: KnownNode(other, "active") for other in names if other != name}

    def _node(self, name: str) -> NodeAcme:
        told = self.maps[name]
        gossip = SimpleNamespace(set=told.__setitem__, delete=lambda key: told.pop(key, None))
        own = SimpleNamespace(map=told)
        membership = SimpleNamespace(gossip=gossip, core=SimpleNamespace(view=SimpleNamespace(own=own)))
        cluster = SimpleNamespace(table=self.tables[name])
        node: Any = SimpleNamespace(node_id=name, membership=membership, cluster=cluster, config=NodeConfig())
        reactor: Any = None
        return NodeAcme(reactor, node, orders=True)

    def spread(self) -> None:
        """All hear what the others tell."""
        for table in self.tables.values():
            for other, known in table.nodes.items():
                known.said = said_of(self.maps[other])

    def answers(self) -> set[str | None]:
        """What the nodes answer with."""
        return {Challenges(node._say).answer(TLS_ALPN_01, "pico.example") for node in self.nodes.values()}


def test_all_answer_for_one() -> None:
    """What one tells all answer with, until it takes it back."""
    cluster = Cluster("n1", "n2", "n3")
    assert cluster.nodes["n2"].tell({KEY: "of n2"})
    cluster.spread()
    assert cluster.answers() == {"of n2"}
    assert cluster.nodes["n2"].is_ours([KEY])
    assert cluster.nodes["n2"].tell({})
    cluster.spread()
    assert cluster.answers() == {None}


def test_two_at_the_same_time() -> None:
    """For a name there is one answer, so of two nodes that begin at once the first by its ID goes on, and all answer
    for it; a third one that comes later does not begin."""
    cluster = Cluster("n1", "n2", "n3")
    assert cluster.nodes["n2"].tell({KEY: "of n2"})
    assert cluster.nodes["n3"].tell({KEY: "of n3"})
    cluster.spread()
    assert cluster.answers() == {"of n2"}
    assert cluster.nodes["n2"].is_ours([KEY])
    assert not cluster.nodes["n3"].is_ours([KEY])
    assert not cluster.nodes["n1"].tell({KEY: "of n1"})
    assert cluster.nodes["n3"].tell({})
    cluster.spread()
    assert cluster.answers() == {"of n2"}


def test_one_that_died_in_the_middle() -> None:
    """Its answers hold nobody up."""
    cluster = Cluster("n1", "n2")
    assert cluster.nodes["n1"].tell({KEY: "of n1"})
    cluster.spread()
    cluster.tables["n2"].nodes["n1"].status = "unreachable"
    assert cluster.nodes["n2"].tell({KEY: "of n2"})
    assert cluster.nodes["n2"].is_ours([KEY])

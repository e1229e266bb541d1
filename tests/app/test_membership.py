"""Two nodes that find each other: what each tells, routes to, and shows on its admin port."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pico_twisted.app.membership import Membership
from pico_twisted.config import Address, ClusterConfig
from pico_twisted.core.gossip import SyncError
from pico_twisted.core.routing.intake import Intake
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import register
from tests.net.gossip.gossip_net import FLIGHT_S, PORT, Net, Transport

OTHERS = {"proxy_addr": "10.0.0.1:8000", "admin_addr": "10.0.0.1:8001", "admin_scheme": "https", "version": "0.9"}


class NetNode:
    """A node without ports.

    Args:
        net: that it is in.
        name: its ID.
        ip: its address.
        seeds: hosts of nodes to join.
    """

    def __init__(self, net: Net, name: str, ip: str, *seeds: str) -> None:
        def join(config: ClusterConfig, node_id: str, **given: Any) -> Membership:
            given |= {
                "siblings": [Address(host, PORT) for host in seeds],
                "rng": random.Random(name),
                "wall_ms": 1_700_000_000_000 + int(net.clock.seconds() * 1000),
            }
            return Membership(config, node_id, **given)

        self.parts = MemoryNode(net.clock, node_id=name, membership=join)
        self.membership = self.parts.node.membership
        self.status = self.parts.node.status
        net.nodes[ip, PORT] = self.membership.gossip
        self.membership.gossip.transport = Transport(net, (ip, PORT), "0.0.0.0")  # type: ignore[assignment]
        self.membership.start(f"{ip}:{PORT}", OTHERS)
        self.membership.gossip.begin_alone()  # there are no links here, over which a node learns what others know

    def stop(self) -> None:
        """Drop everything."""
        self.membership.abort()
        self.parts.stop()


class Pair:
    """Nodes `a` and `b`, which have found each other."""

    def __init__(self) -> None:
        self.net = Net()
        self.a, self.b = (
            NetNode(self.net, "a", "10.0.0.1"),
            NetNode(self.net, "b", "10.0.0.2", "10.0.0.1"),
        )
        self.net.pass_time(3)

    def stop(self) -> None:
        """Nothing is left."""
        self.a.stop()
        self.b.stop()
        self.net.clock.advance(FLIGHT_S)
        assert self.net.clock.getDelayedCalls() == []


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two nodes."""
    pair = Pair()
    yield pair
    pair.stop()


def test_what_agents_register(pair: Pair) -> None:
    """What the agents of a node register is routed to by the other, with its number, until it is gone."""
    first, second = register(pair.b.parts, FakeTunnel()), register(pair.b.parts, FakeTunnel(slot="1"))
    pair.net.pass_time(0.1)
    assert pair.a.parts.cluster.table.holders("my-ep") == {"b": 2}
    chosen = pair.a.parts.cluster.take("my-ep", [])
    assert chosen is not None
    assert chosen.node_id == "b"
    first.lose()
    pair.net.pass_time(0.1)
    assert pair.a.parts.cluster.table.holders("my-ep") == {"b": 1}
    second.lose()
    pair.net.pass_time(0.1)
    assert pair.a.parts.cluster.take("my-ep", []) is None
    assert pair.b.parts.cluster.take("my-ep", []) is None


def test_what_is_shown(pair: Pair) -> None:
    """Both nodes show both, themselves first, with what each says of itself."""
    register(pair.b.parts, FakeTunnel())
    pair.net.pass_time(0.1)
    own, other = pair.a.status.nodes()
    assert (own.id, own.status, own.gossip_addr, own.endpoints) == ("a", "active", "10.0.0.1:8003", 0)
    assert (other.id, other.status, other.gossip_addr) == ("b", "active", "10.0.0.2:8003")
    assert (other.endpoints, other.upstreams) == (1, 1)
    for row in (own, other):
        assert (row.proxy_addr, row.admin_addr, row.version) == ("10.0.0.1:8000", "10.0.0.1:8001", "0.9")
    detail = pair.a.status.node("b")
    assert detail is not None
    assert detail.endpoints == {"my-ep": 1}
    assert pair.a.status.node("local") == pair.a.status.node("a")
    assert pair.a.status.node("c") is None
    assert pair.a.status.endpoints() == {}
    assert pair.b.status.endpoints() == {"my-ep": 1}


def test_endpoints_of_who_is_not_there(pair: Pair) -> None:
    """A node that cannot be reached holds no endpoint that could be counted; gossip still shows what it said last."""
    register(pair.b.parts, FakeTunnel())
    pair.net.pass_time(0.1)
    assert [row.endpoints for row in pair.a.status.nodes()] == [0, 1]
    pair.net.cut.add(("10.0.0.2", PORT))
    pair.net.pass_time(8)
    (_, row), detail, said = pair.a.status.nodes(), pair.a.status.node("b"), pair.a.status.gossip_node("b")
    assert (row.status, row.endpoints, row.upstreams) == ("unreachable", 0, 0)
    assert detail is not None
    assert detail.endpoints == {}
    assert said is not None
    assert "endpoint:my-ep" in said.keys
    pair.net.cut.clear()
    pair.net.pass_time(5)
    assert [row.endpoints for row in pair.a.status.nodes()] == [0, 1]


def test_what_gossip_shows(pair: Pair) -> None:
    """The keys of a node have the same versions at both; the other one was heard of just now."""
    theirs, ours = pair.a.status.gossip_node("b"), pair.b.status.gossip_node("local")
    assert theirs is not None
    assert ours is not None
    assert (ours.local, theirs.local) == (True, False)
    assert theirs.keys == ours.keys
    assert (theirs.version, theirs.floor, theirs.generation) == (ours.version, ours.floor, ours.generation)
    assert theirs.heard_s is not None
    assert theirs.heard_s < 2
    assert theirs.suspicion < 8
    rows = pair.a.status.gossip_nodes()
    assert [(row.id, row.status, row.local) for row in rows] == [("a", "active", True), ("b", "active", False)]
    assert pair.a.status.gossip_node("c") is None


def test_draining(pair: Pair) -> None:
    """A node that drains is shown so by both, and gets what nobody else takes."""
    register(pair.b.parts, FakeTunnel())
    pair.b.parts.cluster.start_draining()
    pair.b.membership.say(Intake.STOPPING)
    pair.net.pass_time(0.1)
    assert [node.status.nodes()[place].status for node, place in ((pair.a, 1), (pair.b, 0))] == ["draining"] * 2
    chosen = pair.a.parts.cluster.take("my-ep", [])
    assert chosen is not None
    assert chosen.node_id == "b"


def test_admin_urls(pair: Pair) -> None:
    """Another node's admin port is found by what the node says; not of one that says nothing, nor of a stranger."""
    assert pair.a.status.admin_url("b") == "https://10.0.0.1:8001"
    assert pair.a.status.admin_url("c") is None
    pair.b.membership.gossip.set("gossip_addr", "10.0.0.1:8003")
    for own_machine in ("127.0.0.1:8001", "[::1]:8001"):  # at the machine that asks that is another port
        pair.b.membership.gossip.set("admin_addr", own_machine)
        pair.net.pass_time(0.1)
        assert pair.a.status.admin_url("b") is None
    pair.b.membership.gossip.delete("admin_addr")
    pair.net.pass_time(0.1)
    assert pair.a.status.admin_url("b") is None


@pytest.mark.parametrize("nonsense", ["", "nowhere", "host:0", "host:70000", "host:port", ":8003", 7])
def test_an_address_that_is_none(pair: Pair, nonsense: Any) -> None:
    """What a node says of its address is not believed to be one: there is just no way to it."""
    pair.b.membership.gossip.set("gossip_addr", nonsense)
    pair.net.pass_time(0.1)
    member = pair.a.membership.core.view.members["b"]
    assert member.get("gossip_addr") == nonsense
    member.source = ""  # else that is where it is
    link = pair.a.membership.links.link("b")
    assert not link.is_open
    assert pair.a.membership.links.load("b") is None
    pair.net.pass_time(0.1)


def test_maps_for_others(pair: Pair) -> None:
    """Another node's question for maps is answered with all that is known; nonsense is its fault."""
    answer = pair.a.membership.answer_sync("b", pair.b.membership.core.sync_request(), True)
    assert b"".join(answer)
    with pytest.raises(SyncError):
        pair.a.membership.answer_sync("b", json.dumps({"not": "a question"}).encode(), True)


def test_secrets(pair: Pair) -> None:
    """New secrets hold for packets and links alike."""
    for node in (pair.a, pair.b):
        node.membership.set_secrets(("a secret of this cluster",))
    pair.net.pass_time(5)
    assert [row.status for row in pair.a.status.nodes()] == ["active", "active"]


def test_the_same_id(pair: Pair) -> None:
    """A second process that has our ID, since it could ask nobody: whoever has to end is told why."""
    twin = NetNode(pair.net, "b", "10.0.0.3", "10.0.0.1")
    told: list[str] = []
    for node in (pair.b, twin):
        node.membership.conflict.addCallback(told.append)
    pair.net.pass_time(10)
    twin.stop()
    assert told
    assert "b" in told[0]


def test_who_serves_what(pair: Pair) -> None:
    """A node tells the endpoints of all nodes that are there, with their holders, and its own agents with what they
    said; the endpoints of the cluster are counted once."""
    tunnel = FakeTunnel()
    register(pair.b.parts, tunnel)
    register(pair.a.parts, FakeTunnel())
    register(pair.a.parts, FakeTunnel(endpoint="other"))
    pair.net.pass_time(2.0)
    held = {"my-ep": {"a": 1, "b": 1}, "other": {"a": 1}}
    assert pair.a.status.cluster_endpoints() == pair.b.status.cluster_endpoints() == held
    assert b"pico_cluster_endpoints 2.0" in pair.b.parts.metrics.exposition()
    (told,) = pair.b.status.agents("my-ep").sessions
    assert (told.agent, told.address, told.node, told.endpoint) == (tunnel.agent_id, tunnel.peer, "b", "my-ep")
    assert 1.0 < told.since_s < 3.0 and not told.draining and told.in_flight == 0
    assert pair.b.status.agents("other").sessions == () and len(pair.a.status.agents("").sessions) == 2
    pair.net.cut.add(("10.0.0.2", PORT))
    pair.net.pass_time(8)
    assert pair.a.status.cluster_endpoints() == {"my-ep": {"a": 1}, "other": {"a": 1}}

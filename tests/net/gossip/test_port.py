"""The UDP side of the gossip port: several nodes on one clock, with a network in memory and names that move."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import globalLogPublisher

from pico_twisted.core.gossip import Gossip, GossipSettings
from pico_twisted.core.routing.table import ClusterTable, endpoint_key
from pico_twisted.net.gossip.answers import ANSWERS_S
from pico_twisted.net.gossip.metrics import GossipMetrics
from pico_twisted.net.gossip.port import DROPPED, GossipParts, GossipProtocol
from pico_twisted.net.gossip.seeds import LOOK_UP_S
from pico_twisted.net.observe.metrics import Metrics
from tests.conftest import LoggedFailures
from tests.net.gossip.gossip_net import FLIGHT_S, PORT, Net, Transport


class GossipNodes(Net):
    """All nodes of a test.

    Attributes:
        started: the nodes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[GossipNode] = []

    def rows(self) -> dict[str, dict[str, str]]:
        """The status of each other node at each node."""
        return {node.name: {name: row.status for name, row in node.table.nodes.items()} for node in self.started}


class GossipNode:
    """One node's gossip port.

    Args:
        net: that it is in.
        name: its ID.
        ip: its address.
        seeds: hosts of nodes to join.
        interface: that its socket is bound to.
        advertised: a host instead of its IP.
        secrets, cluster: of its cluster.

    Attributes:
        table: what it knows of others.
        heard, doubted, conflicts, in_use: what it told.
        fetched: whom it asked for maps.
        answers: gives what it gets, by node ID.
    """

    def __init__(
        self,
        net: GossipNodes,
        name: str,
        ip: str,
        seeds: Sequence[str] = (),
        *,
        interface: str = "0.0.0.0",
        advertised: str | None = None,
        secrets: tuple[str, ...] = (),
        cluster: str = "pico",
    ) -> None:
        self.name = name
        self.net = net
        self.table = ClusterTable(random.Random(name).random)
        self.heard: list[str] = []
        self.doubted: list[str] = []
        self.conflicts: list[str] = []
        self.in_use: list[tuple[str, float]] = []
        self.fetched: list[str] = []
        self.pending: list[Deferred[bytes]] = []
        self.joined = False
        self.core = Gossip(
            GossipSettings(node_id=name, secrets=secrets, cluster=cluster),
            rng=random.Random(name),
            now=net.clock.seconds(),
            wall_ms=int(1_700_000_000_000 + net.clock.seconds() * 1000),
        )
        self.metrics = Metrics("node")
        self.gossip = GossipProtocol(
            GossipParts(
                clock=net.clock,
                core=self.core,
                table=self.table,
                metrics=GossipMetrics(self.core, self.metrics, net.clock.seconds, self.table.count_by_status),
                seeds=[(host, PORT) for host in seeds],
                fetch=self._fetch,
                heard=self.heard.append,
                doubted=self.doubted.append,
                conflict=self.conflicts.append,
                in_use=lambda address, uptime_s: self.in_use.append((address, uptime_s)),
            )
        )
        self.gossip.met.addCallback(lambda _: self.gossip.vouch())
        self.gossip.joined.addCallback(self._joined)
        self.address = (ip, PORT)
        net.nodes[self.address] = self.gossip
        net.started.append(self)
        self.gossip.transport = Transport(net, self.address, interface)  # type: ignore[assignment]
        self.core.set("gossip_addr", f"{advertised or ip}:{PORT}", net.clock.seconds())
        self.core.set("status", "active", net.clock.seconds())
        self.gossip.start()

    def _joined(self, _: None) -> None:
        self.joined = True

    def _fetch(self, node_id: str, request: bytes) -> Deferred[bytes]:
        self.fetched.append(node_id)
        for node in self.net.started:
            if node.name == node_id and node.address not in self.net.cut:
                return succeed(b"".join(node.core.sync_answer(request, self.net.clock.seconds(), takes_parts=True)))
        self.pending.append(Deferred())
        return self.pending[-1]

    def metric(self, line: str) -> float:
        """One value of the metrics."""
        for text in self.metrics.exposition().decode().splitlines():
            if text.startswith(line + " "):
                return float(text.rpartition(" ")[2])
        raise AssertionError(f"there is no {line}")


@pytest.fixture
def net() -> Iterator[GossipNodes]:
    """A network whose nodes are all stopped afterwards, and leave no timer behind."""
    net = GossipNodes()
    yield net
    for node in net.started:
        node.gossip.stop()
        node.gossip.stop()
    net.clock.advance(FLIGHT_S)
    assert net.clock.getDelayedCalls() == []


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged in the meantime."""
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def messages(logged: list[dict[str, Any]]) -> list[str]:
    """The texts."""
    return [event["log_format"].format(**event) for event in logged if event.get("log_format")]


def test_three_nodes(net: GossipNodes) -> None:
    """Nodes that know of one another by one seed find each other, and tell all what they hold at once."""
    a = GossipNode(net, "a", "10.0.0.1")
    others = [GossipNode(net, name, ip, ["10.0.0.1"]) for name, ip in (("b", "10.0.0.2"), ("c", "10.0.0.3"))]
    assert a.joined, "there is nobody to join"
    net.pass_time(2)
    assert all(node.joined for node in others)
    assert all(set(row.values()) == {"active"} and len(row) == 2 for row in net.rows().values())
    others[0].gossip.set(endpoint_key("ep"), 2)
    net.pass_time(0.1)
    assert [node.table.choose("ep", "active", (), lambda _: 0) for node in (a, others[1])] == ["b", "b"]
    others[0].gossip.delete(endpoint_key("ep"))
    net.pass_time(0.1)
    assert a.table.choose("ep", "active", (), lambda _: 0) is None
    assert a.metric("pico_gossip_delay_seconds_count") > 0


def test_status_of_others(net: GossipNodes, logged: list[dict[str, Any]]) -> None:
    """A node that is silent is told as unreachable to whoever has links to it, and again when it is back."""
    a, b = GossipNode(net, "a", "10.0.0.1"), GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(3)
    assert a.heard == ["b"]
    net.cut.add(b.address)
    net.pass_time(8)
    assert net.rows()["a"] == {"b": "unreachable"}
    assert a.doubted == ["b"]
    assert a.metric('pico_nodes{status="unreachable"}') == 1
    net.cut.clear()
    net.pass_time(5)
    assert net.rows()["a"] == {"b": "active"}
    assert a.heard == ["b", "b"]
    said = messages(logged)
    assert said.count("Node b at 10.0.0.2:8003 is unreachable") == 1
    assert said.count("Node b at 10.0.0.2:8003 is active") == 2


def test_leaving(net: GossipNodes) -> None:
    """A node that leaves is told as left within moments, knows that all know, and is heard of no more."""
    _, b = GossipNode(net, "a", "10.0.0.1"), GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(3)
    b.gossip.leave()
    net.pass_time(0.1)
    assert b.gossip.told
    assert net.rows()["a"] == {"b": "left"}
    b.gossip.stop()
    assert b.gossip.told
    b.gossip.leave()
    net.pass_time(30)
    assert net.rows()["a"] == {"b": "left"}


def test_nobody_to_join(net: GossipNodes) -> None:
    """A node whose seeds are all itself is alone; one whose seeds do not answer has not joined."""
    alone = GossipNode(net, "a", "10.0.0.1", ["10.0.0.1", "me.example"])
    net.names.ips["me.example"] = ["10.0.0.1"]
    other = GossipNode(net, "b", "10.0.0.2", ["10.0.0.9"])
    net.pass_time(3)
    assert alone.joined
    assert not other.joined


def test_own_address_by_another_name(net: GossipNodes) -> None:
    """A node knows its own packets, and so that a seed is itself, though it is advertised with another address."""
    node = GossipNode(net, "a", "10.0.0.1", ["10.0.0.1"], advertised="nat.example")
    net.pass_time(2)
    assert node.joined
    assert node.metric('pico_gossip_dropped_total{reason="own"}') > 0


def test_a_name_without_an_address(net: GossipNodes) -> None:
    """A seed that cannot be looked up now may be somebody: the node has not joined, and looks again until it can."""
    a = GossipNode(net, "a", "10.0.0.1")
    b = GossipNode(net, "b", "10.0.0.2", ["later.example"])
    net.pass_time(5)
    assert not b.joined
    assert net.names.asked.count("later.example") >= 4
    net.names.ips["later.example"] = ["10.0.0.1"]
    net.pass_time(3)
    assert b.joined
    assert net.rows()["a"] == {"b": "active"}
    assert a.joined


def test_a_seed_that_moves(net: GossipNodes) -> None:
    """Names are looked up for ever: a cluster whose nodes all have new addresses is found again."""
    net.names.ips["seed.example"] = ["10.0.0.1", "10.0.0.1"]
    a = GossipNode(net, "a", "10.0.0.1")
    b = GossipNode(net, "b", "10.0.0.2", ["seed.example"])
    net.pass_time(3)
    assert net.rows()["b"] == {"a": "active"}
    a.gossip.stop()
    net.names.ips["seed.example"] = ["10.0.0.3"]
    GossipNode(net, "c", "10.0.0.3")
    net.pass_time(LOOK_UP_S + 3)
    assert net.rows()["b"]["c"] == "active"
    assert net.rows()["c"] == {"b": "active"}
    assert b.joined
    assert net.rows()["b"]["a"] == "unreachable"


def test_advertised_names(net: GossipNodes) -> None:
    """A node may advertise a name, which others look up."""
    net.names.ips["b.example"] = ["10.0.0.2"]
    GossipNode(net, "a", "10.0.0.1")
    GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"], advertised="b.example")
    net.pass_time(4)
    assert net.rows()["a"] == {"b": "active"}
    assert "b.example" in net.names.asked


def test_both_families(net: GossipNodes) -> None:
    """A socket for both families sends IPv4 as mapped addresses; one for IPv4 sends nothing to IPv6."""
    a = GossipNode(net, "a", "10.0.0.1", ["2001:db8::9"])
    both = GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"], interface="::")
    net.pass_time(3)
    assert both.joined
    assert net.rows()["a"] == {"b": "active"}
    assert a.metric("pico_gossip_not_sent_total") > 0


@pytest.mark.parametrize(
    ("reason", "packet"),
    [("garbage", b""), ("format", b"\x00" * 40), ("format", b"GET / HTTP/1.1\r\n\r\n"), ("format", b"\xff" * 1400)],
    ids=["empty", "zeros", "http", "large"],
)
def test_garbage(net: GossipNodes, logged: list[dict[str, Any]], reason: str, packet: bytes) -> None:
    """What is no packet is counted, said once a second with how many more there were, and changes nothing."""
    a = GossipNode(net, "a", "10.0.0.1")
    logged.clear()
    for _ in range(100):
        a.gossip.datagramReceived(packet, ("10.9.9.9", 1))
    assert a.metric(f'pico_gossip_dropped_total{{reason="{reason}"}}') == 100
    assert messages(logged) == [f"Gossip packet dropped: {DROPPED[reason]}"]
    assert logged[0]["source"] == "10.9.9.9:1"
    net.pass_time(1.1)
    a.gossip.datagramReceived(packet, ("10.9.9.9", 1))
    assert logged[-1]["suppressed"] == 99
    assert a.table.nodes == {}


@pytest.mark.parametrize(
    ("reason", "stranger"),
    [
        ("cluster", {"cluster": "other"}),
        ("secret", {"secrets": ("another secret of 16 bytes",)}),
        ("secret", {"secrets": ()}),
        ("cluster", {"cluster": "other", "secrets": ("the secret of this cluster",)}),
    ],
)
def test_strangers(net: GossipNodes, reason: str, stranger: dict[str, Any]) -> None:
    """A node of another cluster, or with another secret, is never shown, and neither side joins the other."""
    secrets = () if stranger == {"cluster": "other"} else ("the secret of this cluster",)
    a = GossipNode(net, "a", "10.0.0.1", secrets=secrets)
    b = GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"], **stranger)
    net.pass_time(5)
    assert net.rows() == {"a": {}, "b": {}}
    assert not b.joined
    dropped = {name: a.metric(f'pico_gossip_dropped_total{{reason="{name}"}}') for name in DROPPED}
    assert dropped[reason] > 0 or dropped["seal"] > 0, dropped


def test_secrets_are_changed(net: GossipNodes) -> None:
    """A secret is changed without a node being lost: added everywhere, put in front everywhere, taken away."""
    old, new = "the old secret of the cluster", "the new secret of the cluster"
    nodes = [
        GossipNode(net, "a", "10.0.0.1", secrets=(old,)),
        GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"], secrets=(old,)),
    ]
    net.pass_time(3)
    for secrets in ((old, new), (new, old), (new,)):
        for node in nodes:
            node.gossip.set_secrets(secrets)
            net.pass_time(2)
    assert net.rows() == {"a": {"b": "active"}, "b": {"a": "active"}}
    assert [node.doubted for node in nodes] == [[], []]


def test_two_of_one_id(net: GossipNodes, logged: list[dict[str, Any]]) -> None:
    """A second process with a node ID is told where the first one is, and joins when that has gone; the others say at
    which address a node is."""
    a = GossipNode(net, "a", "10.0.0.1")
    first = GossipNode(net, "twin", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(3)
    second = GossipNode(net, "twin", "10.0.0.3", ["10.0.0.1"])
    net.pass_time(8)
    assert [address for address, _ in second.in_use] == ["10.0.0.2:8003"]
    assert not second.joined and not first.conflicts and not second.conflicts
    assert messages(logged).count("Node twin at 10.0.0.2:8003 is active") == 1
    first.gossip.leave()
    net.pass_time(0.1)
    first.gossip.stop()
    net.pass_time(3)
    assert second.joined and net.rows()["a"] == {"twin": "active"}
    assert any("10.0.0.3:8003" in text for text in messages(logged) if "twin" in text)
    assert a.core.view.members["twin"].address == "10.0.0.3:8003"


def test_maps_that_packets_do_not_suffice_for(net: GossipNodes) -> None:
    """A node that is far behind fetches whole maps over a link, and is woken by the answer."""
    a = GossipNode(net, "a", "10.0.0.1")
    for number in range(2000):
        a.gossip.set(endpoint_key(f"endpoint-{number}"), 1)
    b = GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(3)
    assert b.joined
    assert b.fetched
    assert b.table.nodes["a"].said.count_endpoints() == (2000, 2000)


def test_maps_that_are_not_got(net: GossipNodes, logged: list[dict[str, Any]]) -> None:
    """A fetch that fails, or whose answer is nonsense, is counted and tried again; one in flight ends with the node."""
    a = GossipNode(net, "a", "10.0.0.1")
    b = GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(2)
    answers: list[Deferred[bytes]] = [fail(OSError("no way")), succeed(b"nonsense"), Deferred()]

    def fetch(node_id: str, request: bytes) -> Deferred[bytes]:
        return answers.pop(0) if answers else Deferred()

    object.__setattr__(b.gossip._parts, "fetch", fetch)
    last = answers[2]
    for _ in range(4):
        for number in range(3000):
            a.core.set(endpoint_key(f"endpoint-{number}"), int(net.clock.seconds() * 1000), net.clock.seconds())
        net.pass_time(2.5)
    assert not answers
    assert b.metric('pico_gossip_syncs_total{result="failed"}') == 2
    assert any("not well made" in text for text in messages(logged))
    ended: list[Any] = []
    last.addErrback(ended.append)
    b.gossip.stop()
    assert ended == []


def test_what_the_system_does_not_send(net: GossipNodes) -> None:
    """A socket that takes no packets stops nothing: it is counted, and all is well once it takes them again."""
    a, b = GossipNode(net, "a", "10.0.0.1"), GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(2)
    net.refuses = True
    net.pass_time(8)
    assert a.metric("pico_gossip_not_sent_total") > 0
    assert net.rows() == {"a": {"b": "unreachable"}, "b": {"a": "unreachable"}}
    net.refuses = False
    net.pass_time(5)
    assert net.rows() == {"a": {"b": "active"}, "b": {"a": "active"}}
    assert b.joined


def test_faults_of_ours(net: GossipNodes, logged: list[dict[str, Any]], logged_failures: LoggedFailures) -> None:
    """Rounds survive exceptions: whatever part of ours raises is logged, and the next round comes."""
    a, b = GossipNode(net, "a", "10.0.0.1"), GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(2)

    def broken(*args: Any) -> Any:
        raise RuntimeError("a fault of ours")

    core: Any = a.core
    table: Any = a.table
    tick, receive, changed = core.tick, core.receive, table.keys_changed
    core.tick = core.receive = table.keys_changed = broken
    b.gossip.set(endpoint_key("ep"), 1)
    net.pass_time(1)
    core.tick, core.receive = tick, receive
    net.pass_time(1)
    table.keys_changed = changed
    net.pass_time(6)
    assert net.rows() == {"a": {"b": "active"}, "b": {"a": "active"}}
    said = messages(logged)
    for text in ("packet", "round", "event"):
        assert any(f"A gossip {text} failed" in one for one in said)
    assert len(logged_failures.flush(RuntimeError)) < 40


def test_who_answers_packets(net: GossipNodes) -> None:
    """A node answers at its address as soon as a packet gets there and back; at another one nobody does, or another
    node, and that is told in time, and when the port is stopped."""
    a, b = GossipNode(net, "a", "10.0.0.1"), GossipNode(net, "b", "10.0.0.2", ["10.0.0.1"])
    net.pass_time(2)
    told: dict[str, bool] = {}

    def ask(name: str, node_id: str, address: str) -> None:
        a.gossip.answers.await_from(node_id, address).addCallback(lambda answers: told.__setitem__(name, answers))

    ask("there", "b", "10.0.0.2:8003")
    net.pass_time(0.02)
    assert told == {"there": True}
    ask("elsewhere", "b", "10.0.0.77:8003")
    ask("another node", "c", "10.0.0.2:8003")
    ask("nonsense", "b", "nonsense")
    net.pass_time(ANSWERS_S - 0.1)
    assert told == {"there": True}
    net.pass_time(0.2)
    assert told == {"there": True, "elsewhere": False, "another node": False, "nonsense": False}
    net.cut.add(b.address)
    ask("late", "b", "10.0.0.2:8003")
    a.gossip.stop()
    assert told["late"] is False

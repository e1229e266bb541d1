"""The upstream port: who may register, what is registered, and until when."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head
from pico_twisted.core.routing.table import ALL_DRAIN, SOME_ARE_OUT, alone_key, endpoint_key, last_choice_key
from pico_twisted.core.rpc.frames import DRAIN, HEALTH, HEARTBEAT, HTTP, RESET, RESPONSE
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.tunnel import Admission, Refusal
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.said import says
from tests.doubles.service import Receiver
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import register
from tests.net.tunnel.websockets import RawPeer, TunnelPair

GET = b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n"


def head(path: bytes, *fields: bytes) -> RequestHead:
    """A handshake's head, as far as admission looks at it."""
    lines = [b"GET " + path + b" HTTP/1.1", b"Host: node", *fields]
    return parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n", HeadLimits())


@pytest.fixture
def parts() -> MemoryNode:
    """A node."""
    return MemoryNode(Clock())


def test_admission(parts: MemoryNode) -> None:
    """What an agent says of itself is taken over: endpoint in lower case, the rest as it is, or empty."""
    answer = parts.upstream.admit(
        head(
            b"/pico/v1/listener/My-EP.1",
            b"X-Pico-Agent-Id: Agent_1",
            b"X-Pico-Slot: 0.1",
            b"X-Pico-Agent-Version: 1.2.3-rc.1",
        ),
        Credential(),
    )
    assert answer == Admission(endpoint="my-ep.1", agent_id="Agent_1", slot="0.1", agent_version="1.2.3-rc.1")
    answer = parts.upstream.admit(head(b"/pico/v1/listener/x"), Credential())
    assert answer == Admission(endpoint="x", agent_id="", slot="", agent_version="")


@pytest.mark.parametrize("name", [b"X-Pico-Agent-Id", b"X-Pico-Slot", b"X-Pico-Agent-Version"])
@pytest.mark.parametrize("value", [b"", b"a b", b"a/b", b"<script>", b"a" * 65, b"a,b"])
def test_odd_names(parts: MemoryNode, name: bytes, value: bytes) -> None:
    """What would end up in logs and metrics is a short token, or refused."""
    answer = parts.upstream.admit(head(b"/pico/v1/listener/x", name + b": " + value), Credential())
    assert isinstance(answer, Refusal) and answer.status == 400 and answer.code == "bad-request"


def test_many_registrations(parts: MemoryNode) -> None:
    """Any number of agents, and of slots of one agent, may serve an endpoint."""
    for agent in ("a", "b"):
        for slot in ("0", "1", "2"):
            RawPeer(parts, headers=[("x-pico-agent-id", agent), ("x-pico-slot", slot)])
    assert parts.cluster.registry.counts() == {"my-ep": 6}
    assert len(parts.upstream.connections) == 6


def test_unnamed_agents(parts: MemoryNode) -> None:
    """Agents that do not name themselves do not replace each other, when their addresses differ."""
    peers: list[Any] = []
    for port in (1, 2):
        peer = RawPeer(parts, 1, shake=False)
        peer.transport._peer = IPv4Address("TCP", "192.0.2.7", port)
        peer.send_raw(
            b"GET /pico/v1/listener/my-ep HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
        )
        peers.append(peer)
    assert parts.cluster.registry.counts() == {"my-ep": 2}
    assert not any(peer.transport.over for peer in peers)


def test_registered_until_gone(parts: MemoryNode) -> None:
    """A registration ends with its session, however that ends."""
    ends = ("fin", "reset", "close", "violation", "abort")
    for how in ends:
        peer = RawPeer(parts)
        assert parts.cluster.registry.held("my-ep")
        if how == "fin":
            peer.transport.receive_fin()
        elif how == "reset":
            peer.transport.receive_reset()
        elif how == "close":
            peer.send_ws(8, b"\x03\xe8")
        elif how == "violation":
            peer.send_ws(1, b"text")
        else:
            peer.tunnel.abort()
        assert not parts.cluster.registry.held("my-ep"), how


def test_draining_agent(parts: MemoryNode) -> None:
    """An agent that drains is still there for what nobody else serves; told so again, no call could start there."""
    peer = RawPeer(parts)
    peer.received()
    call = Receiver().open(peer.tunnel, HTTP, GET)
    peer.received()
    for call_id in (1, 2):
        (held,) = parts.cluster.registry.held("my-ep")
        assert held.last_choice is (call_id == 2)
        peer.send(DRAIN, call_id)
        assert peer.received_rpc() == [(DRAIN, call_id, RESPONSE, b"")]
    assert not parts.cluster.registry.held("my-ep")
    peer.send(HTTP, 2, RESPONSE, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert call.ended
    peer.transport.receive_fin()


def test_held_bytes() -> None:
    """What sessions hold is summed up, queued and received."""
    pair = TunnelPair()
    receiver = Receiver().open(pair.node, HTTP, GET, True)
    receiver.takes = False
    pair.flush()
    pair.acceptor.accepted[0].send(bytes(10_000), True)
    pair.flush()
    assert pair.parts.upstream.held_bytes() == 10_000
    pair.node_end.takes = False
    receiver.send(bytes(500_000), True)
    assert pair.parts.upstream.held_bytes() > 400_000
    receiver.take()
    receiver.reset_it("cancelled")
    assert pair.parts.upstream.held_bytes() == 0


# Spreading


def know(parts: MemoryNode, node_id: str, status: str = "active") -> None:
    """Let the node hear of another."""
    parts.cluster.table.status_changed(StatusChanged(node_id=node_id, status=status))


def test_elsewhere(parts: MemoryNode) -> None:
    """A session that is here already is sent elsewhere exactly while another node could take it."""
    own = parts.cluster.node_id.encode()

    def code(elsewhere: bytes) -> tuple[int, str] | None:
        answer = parts.upstream.admit(head(b"/pico/v1/listener/x", b"X-Pico-Elsewhere: " + elsewhere), Credential())
        return (answer.status, answer.code) if isinstance(answer, Refusal) else None

    assert code(own) is None, "alone"
    know(parts, "n2", "draining")
    know(parts, "n3", "unreachable")
    assert code(own) is None, "nobody else takes agents"
    know(parts, "n2")
    assert code(own) == (409, "elsewhere")
    assert code(b"n7, " + own) == (409, "elsewhere")
    assert code(b"n7") is None
    assert code(b"n2," + own) is None, "it is at all of them"
    know(parts, "n3")
    assert code(b"n2," + own) == (409, "elsewhere")
    assert code(b",".join([b"x"] * 16)) is None
    for bad in (b"", b"a b", b"a,,b", b"a" * 65, b",".join([b"x"] * 17)):
        assert code(bad) == (400, "bad-request"), bad


def test_the_number_of_nodes(parts: MemoryNode) -> None:
    """An agent hears how many nodes take agents: in the answer to its handshake, and with every heartbeat."""
    parts.sweep.start()
    assert b"x-pico-nodes: 1\r\n" in RawPeer(parts).answer
    know(parts, "n2")
    know(parts, "n3", "left")
    peer = RawPeer(parts)
    assert b"x-pico-nodes: 2\r\n" in peer.answer
    peer.received()
    for _ in range(60):
        parts.clock.advance(0.2)
    heartbeats = [payload for kind, _, _, payload in peer.received_rpc() if kind == HEARTBEAT]
    assert heartbeats and heartbeats[-1] == b"pico nodes=2"


def admitted(parts: MemoryNode, *lines: bytes) -> Admission | Refusal:
    """What becomes of an agent with the ID `new`."""
    answer = parts.upstream.admit(head(b"/pico/v1/listener/my-ep", b"X-Pico-Agent-Id: new", *lines), Credential())
    assert isinstance(answer, Admission | Refusal)
    return answer


def test_who_else_serves_it(parts: MemoryNode) -> None:
    """An agent that registers is told who serves its endpoint already; its own sessions and what drains are nobody."""
    register(parts, FakeTunnel(agent_id="new", slot="other"))
    answer = admitted(parts)
    assert isinstance(answer, Admission) and answer.others == ""
    old = register(parts, FakeTunnel(agent_id="old"))
    pass_time(parts.clock, 240, 1.0)
    answer = admitted(parts)
    assert isinstance(answer, Admission) and answer.others == "old (192.0.2.7, 4 min)"
    parts.cluster.resign(old)
    answer = admitted(parts)
    assert isinstance(answer, Admission) and answer.others == ""


@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize("who", ["the newcomer", "the other", "nobody"])
def test_an_endpoint_that_is_not_shared(parts: MemoryNode, where: str, who: str) -> None:
    """One agent that will not share is enough to refuse a second one, at its node and at others that gossip told."""
    tunnel = FakeTunnel(agent_id="old")
    tunnel.alone = who == "the other"
    if where == "here":
        register(parts, tunnel)
    else:
        know(parts, "n2", "active")
        keys: dict[str, int | str | None] = {endpoint_key("my-ep"): 1}
        if tunnel.alone:
            keys[alone_key("my-ep")] = "old"
        says(parts.cluster.table, "n2", keys)
    answer = admitted(parts, *([b"X-Pico-Share: no"] if who == "the newcomer" else []))
    if who == "nobody":
        assert isinstance(answer, Admission) and answer.others and not answer.alone
        own = admitted(parts, b"X-Pico-Elsewhere: n2")
        assert isinstance(own, Admission) and bool(own.others) is (where == "here")
    else:
        assert isinstance(answer, Refusal) and (answer.status, answer.code) == (409, "not-shared")
        assert ("old (192.0.2.7" if where == "here" else "at node n2") in answer.message


def test_own_sessions_are_no_others(parts: MemoryNode) -> None:
    """An agent that will not share has sessions at two nodes all the same."""
    know(parts, "n2", "active")
    says(parts.cluster.table, "n2", {endpoint_key("my-ep"): 1, alone_key("my-ep"): "new"})
    answer = admitted(parts, b"X-Pico-Share: no")
    assert isinstance(answer, Admission) and answer.alone


@pytest.mark.parametrize(("value", "counts"), [(ALL_DRAIN, False), (SOME_ARE_OUT, True)])
def test_who_is_the_last_choice_elsewhere(parts: MemoryNode, value: int, counts: bool) -> None:
    """What drains makes way for an agent that will not share; a service that is out for a moment does not."""
    know(parts, "n2", "active")
    says(parts.cluster.table, "n2", {endpoint_key("my-ep"): 1, last_choice_key("my-ep"): value})
    answer = admitted(parts, b"X-Pico-Share: no")
    assert isinstance(answer, Refusal if counts else Admission)


def test_an_agent_tells_how_its_service_is(parts: MemoryNode) -> None:
    """While it is out its session is the last choice, for one call on trial it is not, and it is a choice like any
    other once it is back; each is answered, and nonsense resets the call alone."""
    peer = RawPeer(parts, headers=[("x-pico-agent-id", "a")])
    register(parts, FakeTunnel(agent_id="b"))
    peer.received()
    held = parts.cluster.registry.find("my-ep", "a", "")
    assert held is not None
    for call_id, (payload, last) in enumerate([(b"out 3", True), (b"trial 4", False), (b"up", False)], 1):
        peer.send(HEALTH, call_id, 0, payload)
        assert peer.received_rpc() == [(HEALTH, call_id, RESPONSE, b"")]
        assert held.last_choice is last
    peer.send(HEALTH, 4, 0, b"out 5")
    for call_id, payload in ((5, b"fine"), (6, b"out")):
        peer.send(HEALTH, call_id, 0, payload)
        ((kind, answered, flags, _),) = peer.received_rpc()[-1:]
        assert (kind, answered, flags) == (HEALTH, call_id, RESPONSE | RESET)
    assert held.last_choice and parts.cluster.registry.held("my-ep")
    peer.transport.receive_fin()

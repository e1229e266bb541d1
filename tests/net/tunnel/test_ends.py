"""How a tunnel ends, in memory: closing, time that passes, drains."""

from __future__ import annotations

import struct

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.rpc import frames as rpc
from pico_twisted.core.rpc.frames import DRAIN, HEARTBEAT, HTTP, MORE, NOT_SUPPORTED, RESET, RESPONSE
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.tunnel import CLOSE_TIMEOUT_S, STALL_S
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.service import Acceptor, Receiver, echo
from tests.net.doubles import FakeDownstream, request_head
from tests.net.socket.test_options import Told
from tests.net.tunnel.tunnel_peers import GET, OK, fill, raw
from tests.net.tunnel.websockets import RawPeer, TunnelPair, frames_in
from tests.peers.websocket import BINARY, CLOSE, close_payload, frame_bytes


class TestClosing:
    """How sessions end."""

    @pytest.mark.parametrize("side", ["node", "agent"])
    def test_in_good_order(self, pair: TunnelPair, side: str) -> None:
        """Who closes says why; both are told once, the calls are lost, and then the connection is gone."""
        receiver = Receiver().open(pair.node, HTTP, GET, True)
        pair.flush()
        other = "agent" if side == "node" else "node"
        gone = []
        for name in (side, other):
            getattr(pair, name).gone.addCallback(lambda _, name=name: gone.append(name))
        getattr(pair, side).close(1001, "going away")
        mine = pair.closed[side]
        assert (mine.by_us, mine.code, mine.reason) == (True, 1001, "going away")
        pair.flush()
        yours = pair.closed[other]
        assert (yours.by_us, yours.clean, yours.code, yours.reason) == (False, True, 1001, "going away")
        assert receiver.was_lost and pair.acceptor.accepted[0].was_lost
        assert sorted(gone) == ["agent", "node"]
        assert pair.node_end.over and pair.agent_end.over
        getattr(pair, side).close()
        pair.parts.stop()
        assert pair.clock.getDelayedCalls() == []

    def test_both_at_once(self, pair: TunnelPair) -> None:
        """Close frames may cross."""
        pair.node.close(1000, "n")
        pair.agent.close(1000, "a")
        pair.flush()
        assert pair.closed["node"].by_us and pair.closed["agent"].by_us
        assert pair.node_end.over and pair.agent_end.over

    @pytest.mark.parametrize(
        "payload", [b"", close_payload(1000), close_payload(4000, "so be it"), close_payload(1012)]
    )
    def test_close_frames(self, peer: RawPeer, payload: bytes) -> None:
        """A peer's close frame is answered, and the connection closed."""
        peer.send_ws(CLOSE, payload)
        ((opcode, _),) = peer.received()
        assert opcode == CLOSE
        (closed,) = peer.closed
        assert (closed.by_us, closed.clean) == (False, True)
        assert closed.code == (struct.unpack(">H", payload[:2])[0] if payload else None)
        peer.parts.clock.advance(0)
        assert peer.transport.over and peer.transport.producer is None

    def test_peer_that_does_not_answer(self, peer: RawPeer) -> None:
        """A peer that leaves our close frame unanswered is dropped after a moment."""
        peer.tunnel.close(1000, "enough")
        peer.send(HEARTBEAT, 1, 0, b"still here")
        pass_time(peer.parts.clock, CLOSE_TIMEOUT_S - 0.5)
        assert not peer.transport.over
        pass_time(peer.parts.clock, 2.0)
        assert peer.transport.aborted and peer.transport.over
        assert [opcode for opcode, _ in peer.received()] == [CLOSE]

    def test_peer_that_takes_nothing_of_it(self, peer: RawPeer) -> None:
        """The same when the close frame does not even leave."""
        fill(peer)
        peer.tunnel.close(1000, "enough")
        pass_time(peer.parts.clock, CLOSE_TIMEOUT_S + 1.5)
        assert peer.transport.over

    @pytest.mark.parametrize("how", ["fin", "reset"])
    def test_without_a_word(self, peer: RawPeer, how: str) -> None:
        """A connection that just ends is no clean end; the endpoint is gone at once."""
        receiver = Receiver().open(peer.tunnel, HTTP, GET, True)
        assert peer.parts.cluster.registry.held("my-ep")
        if how == "fin":
            peer.transport.receive_fin()
        else:
            peer.transport.receive_reset()
        (closed,) = peer.closed
        assert (closed.by_us, closed.clean, closed.code) == (False, False, None)
        assert receiver.was_lost and not peer.parts.cluster.registry.held("my-ep")

    def test_in_the_middle_of_a_message(self, peer: RawPeer) -> None:
        """Also within a frame or a fragmented message."""
        peer.send_ws(BINARY, bytes(10), fin=False)
        peer.send_raw(b"\x80\xfe\x10")
        peer.transport.receive_fin()
        assert len(peer.closed) == 1

    def test_abort(self, pair: TunnelPair) -> None:
        """An abort drops the connection without a word."""
        pair.node.abort()
        assert pair.closed["node"].by_us and not pair.closed["node"].clean
        pair.flush()
        assert not pair.closed["agent"].clean and pair.agent_end.over

    def test_users_of_a_dead_tunnel(self, pair: TunnelPair) -> None:
        """What is done on a tunnel that is over does nothing."""
        receiver = Receiver().open(pair.node, HTTP, GET, True)
        pair.node.close()
        pair.flush()
        receiver.send(b"x", False)
        receiver.reset_it(rpc.CANCELLED)
        pair.node.consumed(receiver.call, 5)
        done: list[None] = []
        pair.node.drain().addCallback(done.append)
        pair.node.abort()
        pair.node.close()
        pair.flush()
        assert done == [None]

    def test_calls_made_while_calls_are_lost(self, peer: RawPeer) -> None:
        """A session is out of the registry before its calls hear of its end."""
        seen: list[bool] = []
        receiver = Receiver(then=lambda receiver: seen.append(bool(peer.parts.cluster.registry.held("my-ep"))))
        receiver.open(peer.tunnel, HTTP, GET, True)
        peer.transport.receive_fin()
        assert seen == [False]

    def test_replaced(self) -> None:
        """A newer session of the same agent and slot closes the older one with 1000."""
        parts = MemoryNode(Clock())
        headers = [("x-pico-agent-id", "a"), ("x-pico-slot", "0")]
        old, new = RawPeer(parts, headers=headers), RawPeer(parts, headers=headers)
        assert old.close_code() == 1000 and not new.closed
        assert parts.cluster.registry.counts() == {"my-ep": 1}


class TestTime:
    """Heartbeats, silence, peers that take nothing."""

    def test_heartbeats_go_on(self, pair: TunnelPair) -> None:
        """The node asks at once and every 10 s; the round trip is measured; nobody is judged dead."""
        pair.pass_time(100)
        assert not pair.closed
        assert pair.parts.metrics.exposition().decode().count("pico_heartbeat") > 0
        assert pair.node.rtt_s >= 0.0

    def test_round_trip(self, peer: RawPeer) -> None:
        """The round trip is what passed between the heartbeat and its echo."""
        peer.parts.clock.advance(0.125)
        peer.send(HEARTBEAT, 1, RESPONSE, b"pico")
        assert peer.tunnel.rtt_s == pytest.approx(0.125)

    @pytest.mark.parametrize("version", [1, 2])
    def test_silence(self, version: int) -> None:
        """A peer of which no byte came for 20 s is dropped, and its calls are lost."""
        peer = raw(version)
        receiver = Receiver().open(peer.tunnel, HTTP, GET)
        pass_time(peer.parts.clock, 19.5)
        assert not peer.closed
        pass_time(peer.parts.clock, 2.5)
        (closed,) = peer.closed
        assert not closed.by_us and "no byte" in closed.reason
        assert receiver.was_lost and peer.transport.over

    def test_any_byte_is_life(self, peer: RawPeer) -> None:
        """A single byte of a frame now and then keeps a session alive."""
        for byte in frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0, bytes(100)), mask=True)[:8]:
            pass_time(peer.parts.clock, 15)
            peer.send_raw(bytes((byte,)))
        assert not peer.closed

    def test_cut_off(self, peer: RawPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the kernel says that nothing gets to an agent, a POST there is answered; the session has its 20 s."""
        parts = peer.parts
        settings = RoutingSettings(
            router=parts.cluster, sweep=parts.sweep, metrics=parts.metrics, timeout_s=60.0, idle_timeout_s=60.0
        )
        down = FakeDownstream(request_head(b"POST"))
        RoutedRequest(settings, down).start(b"", True)
        with Told() as sock:
            sock.info = struct.pack("=2xB21xI28xI", 2, 1, 3001)
            monkeypatch.setattr(peer.transport, "socket", sock, raising=False)
            pass_time(parts.clock, 3.8)
            assert down.status == 502
            kinds = [(kind, flags & RESET) for kind, _, flags, _ in peer.received_rpc()]
            assert kinds == [(HTTP, 0), (HEARTBEAT, 0), (HTTP, RESET)]
            pass_time(parts.clock, 15.0)
            assert not peer.closed
            pass_time(parts.clock, 4.0)
            assert "no byte for 20 s" in peer.closed[0].reason

    def test_silent_node(self, pair: TunnelPair) -> None:
        """An agent asks after 15 s of silence and drops a dead node after 20."""
        pair.node_end.takes = False
        pair.node_end.reading = False
        pair.agent_end.clear()
        pass_time(pair.clock, 16.5)
        kinds = [rpc.HEADER.unpack_from(payload)[0] for _, payload in frames_in(pair.agent_end.clear())]
        assert kinds == [HEARTBEAT] and "agent" not in pair.closed
        pass_time(pair.clock, 6)
        assert not pair.closed["agent"].by_us and pair.agent_end.over
        pair.node_end.receive_reset()

    def test_stall(self, peer: RawPeer) -> None:
        """A peer that sends but takes no byte of our output for 20 s is dropped."""
        peer.transport.takes = False
        receiver = Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        for second in range(int(STALL_S) + 3):
            if not peer.closed:
                peer.send(HEARTBEAT, second + 1, 0, b"alive")
            pass_time(peer.parts.clock, 1.0)
            if second < STALL_S - 2:
                assert not peer.closed
        (closed,) = peer.closed
        assert "took no byte" in closed.reason and receiver.was_lost and peer.transport.over

    def test_slow_reader_is_not_stalled(self, peer: RawPeer) -> None:
        """A peer that empties the transport now and then is no stalled one."""
        peer.transport.takes = False
        for number in range(5):
            for _ in range(2):
                Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
            for second in range(15):
                peer.send(HEARTBEAT, number * 100 + second + 1, 0, b"alive")
                pass_time(peer.parts.clock, 1.0)
            peer.transport.take()
            peer.received()
        assert not peer.closed

    def test_stopped_process(self, pair: TunnelPair) -> None:
        """A process that was stopped for an hour judges nobody by it."""
        pair.clock.advance(3600)
        pair.flush()
        pair.pass_time(5)
        assert not pair.closed


class TestDrain:
    """Saying that a session will end."""

    def test_agent_drains(self, pair: TunnelPair) -> None:
        """A node that is told routes nothing there any more; calls in flight are served."""
        receiver = Receiver().open(pair.node, HTTP, GET)
        pair.flush()
        done: list[None] = []
        pair.agent.drain().addCallback(done.append)
        pair.flush()
        assert done == [None] and pair.node.draining and pair.agent.draining
        pair.acceptor.accepted[0].send(OK, False)
        pair.flush()
        assert receiver.ended

    def test_node_drains(self) -> None:
        """An agent that is told hears it once, and serves on."""
        pair = TunnelPair(acceptor=Acceptor(echo))
        done: list[None] = []
        pair.node.drain().addCallback(done.append)
        pair.node.drain().addCallback(done.append)
        pair.flush()
        assert done == [None, None] and pair.acceptor.drains == [pair.agent]
        receiver = Receiver().open(pair.node, HTTP, GET)
        pair.flush()
        assert receiver.ended

    def test_v1_cannot_be_told(self) -> None:
        """Draining a v1 session is over at once."""
        pair = TunnelPair(version=1)
        done: list[None] = []
        pair.node.drain().addCallback(done.append)
        assert done == [None] and pair.node.draining

    @pytest.mark.parametrize("how", ["not supported", "reset", "close", "nonsense"])
    def test_odd_answers(self, peer: RawPeer, how: str) -> None:
        """Whatever becomes of a drain, who waits for its answer does not wait for ever."""
        done: list[None] = []
        peer.tunnel.drain().addCallback(done.append)
        ((kind, call_id, _, _),) = peer.received_rpc()
        assert kind == DRAIN and done == []
        if how == "not supported":
            peer.send(DRAIN, call_id, RESPONSE | NOT_SUPPORTED)
        elif how == "reset":
            peer.send(DRAIN, call_id, RESPONSE | RESET, b"failed")
        elif how == "close":
            peer.transport.receive_fin()
        else:
            peer.send(DRAIN, call_id, RESPONSE | MORE, b"what?")
        assert done == [None]

    def test_drain_of_the_peer_is_no_answer(self, peer: RawPeer) -> None:
        """Odd frames about the peer's own drain are no answer to ours."""
        done: list[None] = []
        peer.tunnel.drain().addCallback(done.append)
        peer.transport.takes = False
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        peer.send(DRAIN, 1)
        peer.send(DRAIN, 1, RESET, b"cancelled")
        assert done == []

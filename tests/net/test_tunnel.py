"""RPC over WebSocket, in memory: both roles, both handshakes, and peers that misbehave."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pico_twisted.core.rpc import frames as rpc
from pico_twisted.core.rpc.frames import DRAIN, HEARTBEAT, HTTP, MORE, NOT_SUPPORTED, RESET, RESPONSE
from pico_twisted.net.interfaces import ITunnel
from pico_twisted.net.periodic import EndOfTurn
from pico_twisted.net.tunnel import (
    CLOSE_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    MAX_REFUSAL_BODY_BYTES,
    STALL_S,
    HandshakeRefused,
    TunnelClientFactory,
)
from pico_twisted.testing.node import NodeParts, pass_time
from pico_twisted.testing.service import Acceptor, Receiver, echo
from pico_twisted.testing.transport import MemoryTransport
from tests.conftest import LoggedFailures
from tests.net.websockets import KEY, LISTENER, RawPeer, TunnelPair, frames_in
from tests.peers.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame_bytes,
    handshake_request,
)

GET = b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def raw(version: int = 2, **kwargs: Any) -> RawPeer:
    """A raw peer of a node of its own, behind the node's first heartbeat."""
    peer = RawPeer(NodeParts(Clock()), version, **kwargs)
    ((kind, *_),) = peer.received_rpc()
    assert kind == HEARTBEAT
    return peer


class TestCalls:
    """Two tunnels of ours."""

    @pytest.mark.parametrize("version", [1, 2])
    def test_call(self, version: int) -> None:
        """A call goes to the agent and its answer comes back, in either version."""
        pair = TunnelPair(version=version, acceptor=Acceptor(echo))
        assert pair.node.version == pair.agent.version == version
        receiver = Receiver().open(pair.node, HTTP, GET + b"body")
        pair.flush()
        assert bytes(receiver.data) == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody" and receiver.ended
        assert pair.node.call_count == pair.agent.call_count == 0

    @pytest.mark.parametrize("seed", range(5))
    def test_many_calls_in_pieces(self, seed: int) -> None:
        """Calls of all sizes cross whole and in order, however the bytes are cut on the way."""
        rng = random.Random(seed)
        pair = TunnelPair(
            acceptor=Acceptor(echo),
            piece_bytes=lambda: rng.choice((1, 2, 3, 7, 100, 4096, 65536, 65536, 65536)),
        )
        bodies = [rng.randbytes(rng.choice((0, 1, 125, 126, 60_000, 65_536, 300_000))) for _ in range(20)]
        receivers = []
        for body in bodies:
            receiver = Receiver().open(pair.node, HTTP, GET, True)
            receiver.send(body, False)
            receivers.append(receiver)
        pair.flush()
        for receiver, body in zip(receivers, bodies, strict=True):
            assert receiver.ended and bytes(receiver.data).partition(b"\r\n\r\n")[2] == body

    def test_small_overtakes_big(self) -> None:
        """A small call is answered while megabytes wait, and the transport never holds much."""
        pair = TunnelPair(acceptor=Acceptor(echo))
        big = [Receiver().open(pair.node, HTTP, GET, True) for _ in range(3)]
        pair.node_end.takes = False
        for receiver in big:
            receiver.send(bytes(5_000_000), False)
        small = Receiver().open(pair.node, HTTP, GET + b"small")
        most = 0
        while not small.ended:
            most = max(most, pair.node_end.held)
            pair.node_end.take(50_000)
            pair.wire.flush()
        assert not any(receiver.ended for receiver in big)
        assert most < 300_000
        pair.node_end.takes = True
        pair.node_end.take()
        pair.flush()
        assert all(receiver.ended for receiver in big)

    def test_slow_consumer(self) -> None:
        """A consumer that takes nothing holds up its own call only, and the socket is read on."""
        acceptor = Acceptor()
        pair = TunnelPair(acceptor=acceptor)
        stuck = Receiver().open(pair.node, HTTP, GET, True)
        pair.flush()
        acceptor.accepted[0].takes = False
        stuck.send(bytes(1_000_000), False)
        pair.flush()
        assert len(acceptor.accepted[0].data) == 64 * 1024 + 0 * len(GET)
        assert pair.agent.held_bytes() == 64 * 1024 - len(GET)
        acceptor.then = echo
        other = Receiver().open(pair.node, HTTP, GET + b"x")
        pair.flush()
        assert other.ended and pair.agent_end.reading
        acceptor.accepted[0].takes = True
        acceptor.accepted[0].take()
        pair.flush()
        assert acceptor.accepted[0].ended and len(acceptor.accepted[0].data) == 1_000_000 + len(GET)

    def test_paused_writer(self) -> None:
        """A writer that queued much is told once when little is left."""
        pair = TunnelPair(acceptor=Acceptor(echo))
        pair.node_end.takes = False
        receiver = Receiver().open(pair.node, HTTP, GET, True)
        receiver.send(bytes(300_000), True)
        receiver.send(bytes(300_000), True)
        assert receiver.drains == 0
        pair.node_end.takes = True
        pair.node_end.take()
        pair.flush()
        assert receiver.drains == 1
        receiver.send(b"", False)
        pair.flush()
        assert receiver.ended

    def test_a_reset_when_drained(self) -> None:
        """What a writer does when it is told to go on leaves at once, a reset too."""
        peer = raw()
        receiver = Receiver(then=lambda receiver: receiver.reset_it(rpc.CANCELLED))
        peer.transport.takes = False
        receiver.open(peer.tunnel, HTTP, GET, True)
        receiver.send(bytes(64 * 1024 - len(GET) + 2 * 60 * 1024), True)  # so that its last frame leaves nothing
        call_id = peer.received_rpc()[0][1] if peer.transport.taken else 2
        peer.transport.takes = True
        peer.transport.take()
        peer.send(HTTP, call_id, RESPONSE | rpc.CREDIT, struct.pack(">I", 1_000_000))
        assert receiver.drains == 1
        assert peer.received_rpc()[-1][2:] == (RESET, b"cancelled")

    def test_resets(self) -> None:
        """A reset of either side ends the call on the other, with its code and words."""
        pair = TunnelPair()
        ours, theirs = Receiver().open(pair.node, HTTP, GET, True), Receiver().open(pair.node, HTTP, GET, True)
        pair.flush()
        ours.reset_it(rpc.CANCELLED, "client left")
        pair.acceptor.accepted[1].reset_it(rpc.REFUSED_BUSY, "come again")
        pair.flush()
        assert (pair.acceptor.accepted[0].reset_code, pair.acceptor.accepted[0].reset_text) == (
            rpc.CANCELLED,
            "client left",
        )
        assert (theirs.reset_code, theirs.reset_text) == (rpc.REFUSED_BUSY, "come again")
        assert ours.reset_code is None and pair.node.call_count == 0
        text = pair.parts.metrics.exposition().decode()
        assert "pico_resets" in text

    def test_agents_open_no_calls(self) -> None:
        """A node serves no call of an agent: 0xC000."""
        pair = TunnelPair()
        receiver = Receiver().open(pair.agent, HTTP, GET)
        pair.flush()
        assert receiver.reset_code == rpc.UNSUPPORTED

    def test_a_fault_of_ours_costs_one_call(self, logged_failures: LoggedFailures) -> None:
        """An exception in who serves a call is logged, resets that call, and nothing else."""

        def broken(receiver: Receiver) -> None:
            if b"break" in receiver.data:
                raise ValueError("as the test wants")
            echo(receiver)

        pair = TunnelPair(acceptor=Acceptor(broken))
        bad = Receiver().open(pair.node, HTTP, GET + b"break", True)
        good = Receiver().open(pair.node, HTTP, GET + b"fine")
        pair.flush()
        assert bad.reset_code == rpc.FAILED and good.ended
        assert logged_failures.flush(ValueError)

    def test_gathered_output(self) -> None:
        """With an `EndOfTurn` the frames of a turn leave with one write, and none is forgotten at a close."""
        pair = TunnelPair()
        gathering = pair.parts.make_tunnel_parts()
        object.__setattr__(gathering, "end_of_turn", EndOfTurn(pair.clock))
        pair.node.parts = gathering
        receivers = [Receiver().open(pair.node, HTTP, GET) for _ in range(10)]
        assert not pair.node_end.taken
        pair.clock.advance(0)
        assert len(frames_in(bytes(pair.node_end.taken))) == 10
        pair.flush()
        assert len(pair.acceptor.accepted) == 10
        last = Receiver().open(pair.node, HTTP, GET)
        pair.node.close(1001, "going")
        frames = frames_in(bytes(pair.node_end.taken))
        assert [opcode for opcode, _ in frames] == [BINARY, CLOSE]
        assert last.was_lost and all(receiver.was_lost for receiver in receivers)
        pair.flush()


class TestFraming:
    """What WebSocket allows a peer, and what it does not."""

    def conversation(self) -> bytes:
        """Frames of a call: two pieces, an empty end, and a heartbeat."""
        return b"".join(
            frame_bytes(BINARY, message, mask=True)
            for message in (
                rpc.encode(HEARTBEAT, 1, 0, b"?"),
                rpc.encode(HTTP, 2, RESPONSE | MORE, OK[:-2]),
                rpc.encode(HTTP, 2, RESPONSE | MORE, b"h" + bytes(200)),
                rpc.encode(HTTP, 2, RESPONSE, b""),
            )
        )

    def judge(self, peer: RawPeer, receiver: Receiver) -> None:
        """The conversation arrived."""
        assert bytes(receiver.data) == OK[:-1] + bytes(200) and receiver.ended
        assert peer.received_rpc() == [(HEARTBEAT, 1, RESPONSE, b"?")]

    def called(self) -> tuple[RawPeer, Receiver]:
        """A peer with a call of ours."""
        peer = raw()
        receiver = Receiver().open(peer.tunnel, HTTP, GET)
        ((_, call_id, _, _),) = peer.received_rpc()
        assert call_id == 2
        return peer, receiver

    def test_split_at_every_byte(self) -> None:
        """Frames may arrive cut at any byte."""
        data = self.conversation()
        for cut in range(1, len(data)):
            peer, receiver = self.called()
            peer.send_raw(data[:cut])
            peer.send_raw(data[cut:])
            self.judge(peer, receiver)

    def test_byte_by_byte(self) -> None:
        """And byte by byte."""
        peer, receiver = self.called()
        for byte in self.conversation():
            peer.send_raw(bytes((byte,)))
        self.judge(peer, receiver)

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("size", [4096, 1, 11, 12, 13])
    def test_fragments(self, version: int, size: int) -> None:
        """Messages may be fragmented, with control frames between the fragments."""
        peer = raw(version)
        receiver = Receiver().open(peer.tunnel, HTTP, GET)
        peer.received()
        message = rpc.encode(HTTP, 2, RESPONSE, OK[:-2] + bytes(3000))
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        for number, piece in enumerate(pieces):
            peer.send_ws(CONTINUATION if number else BINARY, piece, fin=number == len(pieces) - 1)
            if number < 3:
                peer.send_ws(PING, b"between")
        assert bytes(receiver.data) == OK[:-2] + bytes(3000) and receiver.ended
        assert peer.received() == [(PONG, b"between")] * min(3, len(pieces))
        assert peer.tunnel.held_bytes() == 0

    @pytest.mark.parametrize("cut", [1, 5, 13, 14, 15, 30, 33, 40])
    def test_fragments_split_in_reads(self, cut: int) -> None:
        """A whole message behind a fragmented one in the same read, and reads that end within a fragment, are fine."""
        peer, receiver = self.called()
        first = rpc.encode(HTTP, 2, RESPONSE | MORE, OK[:-2])
        data = (
            frame_bytes(BINARY, first[:20], fin=False, mask=True)
            + frame_bytes(CONTINUATION, first[20:], mask=True)
            + frame_bytes(BINARY, rpc.encode(HTTP, 2, RESPONSE, b"hi"), mask=True)
        )
        peer.send_raw(data[:cut])
        peer.send_raw(data[cut:])
        assert bytes(receiver.data) == OK and receiver.ended

    def test_unmasked_zero_mask_and_empty(self) -> None:
        """A mask of zeros is a mask."""
        peer, receiver = self.called()
        message = rpc.encode(HTTP, 2, RESPONSE, OK)
        peer.send_raw(bytes((0x82, 0x80 | len(message))) + bytes(4) + message)
        assert receiver.ended

    VIOLATIONS = {
        "text": (frame_bytes(TEXT, b"hello", mask=True), 1002),
        "text begun": (frame_bytes(TEXT, b"hello", fin=False, mask=True), 1002),
        "text not UTF-8": (frame_bytes(TEXT, b"\xff", mask=True), 1002),
        "short": (frame_bytes(BINARY, bytes(11), mask=True), 1002),
        "empty": (frame_bytes(BINARY, b"", mask=True), 1002),
        "short in fragments": (
            frame_bytes(BINARY, bytes(5), fin=False, mask=True) + frame_bytes(CONTINUATION, bytes(6), mask=True),
            1002,
        ),
        "unmasked": (frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0), mask=False), 1002),
        "unmasked ping": (frame_bytes(PING, b"", mask=False), 1002),
        "reserved bit": (frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0), mask=True, reserved=0x40), 1002),
        "compressed": (frame_bytes(BINARY, bytes(20), mask=True, reserved=0x40), 1002),
        "reserved opcode": (frame_bytes(3, bytes(20), mask=True), 1002),
        "reserved control opcode": (frame_bytes(11, b"", mask=True), 1002),
        "continuation of nothing": (frame_bytes(CONTINUATION, bytes(20), mask=True), 1002),
        "message in a message": (
            frame_bytes(BINARY, bytes(5), fin=False, mask=True) + frame_bytes(BINARY, bytes(20), mask=True),
            1002,
        ),
        "fragmented ping": (frame_bytes(PING, b"x", fin=False, mask=True), 1002),
        "big ping": (frame_bytes(PING, bytes(126), mask=True), 1002),
        "long form of a short length": (b"\x82\xfe\x00\x10" + bytes(20), 1002),
        "longest form of a short length": (b"\x82\xff" + struct.pack(">Q", 100) + bytes(104), 1002),
        "endless length": (b"\x82\xff" + struct.pack(">Q", 2**63) + bytes(4), 1002),
        "close of one byte": (frame_bytes(CLOSE, b"\x03", mask=True), 1002),
        "close with a reserved code": (frame_bytes(CLOSE, close_payload(1005), mask=True), 1002),
        "close with a bad code": (frame_bytes(CLOSE, close_payload(0), mask=True), 1002),
        "close with bad words": (frame_bytes(CLOSE, close_payload(1000) + b"\xff", mask=True), 1007),
        "too big": (b"\x82\xff" + struct.pack(">Q", rpc.MAX_MESSAGE_V2 + 1) + bytes(4), 1009),
        "too big in fragments": (
            frame_bytes(BINARY, bytes(60_000), fin=False, mask=True)
            + frame_bytes(CONTINUATION, bytes(6_000), fin=False, mask=True),
            1009,
        ),
        "answer to nothing": (frame_bytes(BINARY, rpc.encode(HTTP, 99, RESPONSE, b"x"), mask=True), 1002),
        "changed type": (frame_bytes(BINARY, rpc.encode(rpc.TCP, 2, RESPONSE, b"x"), mask=True), 1002),
    }

    @pytest.mark.parametrize("name", VIOLATIONS)
    def test_violations(self, name: str) -> None:
        """Whoever breaks WebSocket or the RPC gets a close frame with the code, and every call is lost at once."""
        data, code = self.VIOLATIONS[name]
        for cut in {0, 1, 2, len(data) // 2, len(data) - 1}:
            peer, receiver = self.called()
            peer.send_raw(data[:cut])
            peer.send_raw(data[cut:])
            assert peer.close_code() == code
            assert receiver.was_lost
            (closed,) = peer.closed
            assert (closed.by_us, closed.clean, closed.code) == (False, False, code) and closed.reason
            assert peer.transport.half_closed and not peer.parts.cluster.registry.counts()
            peer.send_raw(data)
            peer.send_ws(CLOSE, close_payload(code))
            peer.transport.receive_fin()
            assert peer.transport.over and peer.received() == []

    def test_biggest_messages(self) -> None:
        """The largest message that is allowed is taken: v2 64 KiB and its header, v1 16 MiB and a little."""
        peer = raw()
        receiver = Receiver().open(peer.tunnel, HTTP, GET, True)
        peer.received()
        peer.send(HTTP, 2, RESPONSE | MORE, bytes(64 * 1024))
        assert len(receiver.data) == 64 * 1024
        peer = raw(1)
        receiver = Receiver().open(peer.tunnel, HTTP, GET)
        peer.received()
        message = frame_bytes(BINARY, rpc.encode(HTTP, 2, RESPONSE, bytes(rpc.MAX_MESSAGE_V1 - 12)), mask=True)
        for at in range(0, len(message), 1 << 20):
            peer.send_raw(message[at : at + (1 << 20)])
        assert receiver.ended and len(receiver.data) == rpc.MAX_MESSAGE_V1 - 12
        peer = raw(1)
        peer.send_raw(b"\x82\xff" + struct.pack(">Q", rpc.MAX_MESSAGE_V1 + 1) + bytes(4))
        assert peer.close_code() == 1009

    def test_no_memory_for_a_large_message(self) -> None:
        """While the process holds as much as it may, a large v1 message ends its session instead of being gathered."""
        peer = raw(1)
        peer.parts.budget.measure(1 << 40)
        message = frame_bytes(BINARY, rpc.encode(HTTP, 2, RESPONSE, bytes(1_000_000)), mask=True)
        for at in range(0, len(message), 10_000):
            peer.send_raw(message[at : at + 10_000])
        assert peer.close_code() == 1013

    def test_partial_messages_count_as_held(self) -> None:
        """What has come of a message is among the bytes that the process holds."""
        peer = raw(1)
        peer.send_ws(BINARY, bytes(100_000), fin=False)
        assert peer.tunnel.held_bytes() == 100_000
        assert peer.parts.upstream.held_bytes() == 100_000

    def test_masked_frames_from_a_server(self) -> None:
        """An agent refuses masked frames."""
        pair = TunnelPair()
        pair.agent_end.receive(frame_bytes(BINARY, rpc.encode(HEARTBEAT, 9, 0), mask=True))
        frames = frames_in(pair.agent_end.clear())
        assert frames[-1][0] == CLOSE and frames[-1][1][:2] == struct.pack(">H", 1002)
        assert pair.closed["agent"].code == 1002

    def test_our_frames(self) -> None:
        """An agent masks each frame with a mask of its own; a node masks none."""
        pair = TunnelPair()
        pair.flush()
        receiver = Receiver().open(pair.node, HTTP, GET, True)
        assert pair.node_end.taken[1] & 0x80 == 0
        pair.flush()
        served = pair.acceptor.accepted[0]
        served.send(b"a" * 50, True)
        one = bytes(pair.agent_end.taken)
        served.send(b"a" * 50, True)
        two = bytes(pair.agent_end.taken)[len(one) :]
        assert one[1] & 0x80 and one[2:6] != two[2:6]
        pair.flush()
        assert bytes(receiver.data) == b"a" * 100


class TestPings:
    """WebSocket's own pings, which first-generation peers may use."""

    def test_pong(self) -> None:
        """A ping is answered with its payload; a pong that nobody asked for is ignored."""
        peer = raw()
        for payload in (b"", b"x", bytes(125)):
            peer.send_ws(PING, payload)
            assert peer.received() == [(PONG, payload)]
        peer.send_ws(PONG, b"unasked")
        assert peer.received() == [] and not peer.closed

    def test_flood_while_paused(self) -> None:
        """Pings at a transport that is full make us owe one pong, the newest."""
        peer = raw()
        peer.transport.takes = False
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        held = peer.transport.held
        for number in range(10_000):
            peer.send_ws(PING, b"%d" % number)
        assert peer.transport.held == held
        peer.transport.takes = True
        peer.transport.take()
        pongs = [payload for opcode, payload in peer.received() if opcode == PONG]
        assert pongs == [b"9999"]
        peer.tunnel.pauseProducing()
        peer.tunnel.resumeProducing()
        assert peer.received() == [], "an answer is given once"

    def test_heartbeats_while_paused(self) -> None:
        """The same for heartbeats of the RPC."""
        peer = raw()
        peer.transport.takes = False
        for _ in range(3):
            Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        held = peer.transport.held
        for number in range(1, 10_000):
            peer.send(HEARTBEAT, number, 0, b"%d" % number)
        assert peer.transport.held == held and not peer.closed
        peer.transport.takes = True
        peer.transport.take()
        echoes = [item for item in peer.received_rpc() if item[0] == HEARTBEAT and item[2] == RESPONSE]
        assert echoes == [(HEARTBEAT, 9999, RESPONSE, b"9999")]

    def test_owed_answers_while_paused(self) -> None:
        """A peer that makes us owe answers and takes none is closed with 1008."""
        peer = raw()
        peer.transport.takes = False
        for _ in range(3):
            Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        for number in range(1, 10_000):
            peer.send(77, number)
            if peer.closed:
                break
        (closed,) = peer.closed
        assert closed.code == 1008 and number < 5000


class TestClosing:
    """How sessions end."""

    @pytest.mark.parametrize("side", ["node", "agent"])
    def test_in_good_order(self, side: str) -> None:
        """Who closes says why; both are told once, the calls are lost, and then the connection is gone."""
        pair = TunnelPair()
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

    def test_both_at_once(self) -> None:
        """Close frames may cross."""
        pair = TunnelPair()
        pair.node.close(1000, "n")
        pair.agent.close(1000, "a")
        pair.flush()
        assert pair.closed["node"].by_us and pair.closed["agent"].by_us
        assert pair.node_end.over and pair.agent_end.over

    @pytest.mark.parametrize(
        "payload", [b"", close_payload(1000), close_payload(4000, "so be it"), close_payload(1012)]
    )
    def test_close_frames(self, payload: bytes) -> None:
        """A peer's close frame is answered, and the connection closed."""
        peer = raw()
        peer.send_ws(CLOSE, payload)
        ((opcode, _),) = peer.received()
        assert opcode == CLOSE
        (closed,) = peer.closed
        assert (closed.by_us, closed.clean) == (False, True)
        assert closed.code == (struct.unpack(">H", payload[:2])[0] if payload else None)
        peer.parts.clock.advance(0)
        assert peer.transport.over and peer.transport.producer is None

    def test_peer_that_does_not_answer(self) -> None:
        """A peer that leaves our close frame unanswered is dropped after a moment."""
        peer = raw()
        peer.tunnel.close(1000, "enough")
        peer.send(HEARTBEAT, 1, 0, b"still here")
        pass_time(peer.parts.clock, CLOSE_TIMEOUT_S - 0.5)
        assert not peer.transport.over
        pass_time(peer.parts.clock, 2.0)
        assert peer.transport.aborted and peer.transport.over
        assert [opcode for opcode, _ in peer.received()] == [CLOSE]

    def test_peer_that_takes_nothing_of_it(self) -> None:
        """The same when the close frame does not even leave."""
        peer = raw()
        peer.transport.takes = False
        for _ in range(3):
            Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        peer.tunnel.close(1000, "enough")
        pass_time(peer.parts.clock, CLOSE_TIMEOUT_S + 1.5)
        assert peer.transport.over

    @pytest.mark.parametrize("how", ["fin", "reset"])
    def test_without_a_word(self, how: str) -> None:
        """A connection that just ends is no clean end; the endpoint is gone at once."""
        peer = raw()
        receiver = Receiver().open(peer.tunnel, HTTP, GET, True)
        assert peer.parts.cluster.holds("my-ep")
        if how == "fin":
            peer.transport.receive_fin()
        else:
            peer.transport.receive_reset()
        (closed,) = peer.closed
        assert (closed.by_us, closed.clean, closed.code) == (False, False, None)
        assert receiver.was_lost and not peer.parts.cluster.holds("my-ep")

    def test_in_the_middle_of_a_message(self) -> None:
        """Also within a frame or a fragmented message."""
        peer = raw()
        peer.send_ws(BINARY, bytes(10), fin=False)
        peer.send_raw(b"\x80\xfe\x10")
        peer.transport.receive_fin()
        assert len(peer.closed) == 1

    def test_abort(self) -> None:
        """An abort drops the connection without a word."""
        pair = TunnelPair()
        pair.node.abort()
        assert pair.closed["node"].by_us and not pair.closed["node"].clean
        pair.flush()
        assert not pair.closed["agent"].clean and pair.agent_end.over

    def test_users_of_a_dead_tunnel(self) -> None:
        """What is done on a tunnel that is over does nothing."""
        pair = TunnelPair()
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

    def test_calls_made_while_calls_are_lost(self) -> None:
        """A session is out of the registry before its calls hear of its end."""
        peer = raw()
        seen: list[bool] = []
        receiver = Receiver(then=lambda receiver: seen.append(peer.parts.cluster.holds("my-ep")))
        receiver.open(peer.tunnel, HTTP, GET, True)
        peer.transport.receive_fin()
        assert seen == [False]

    def test_replaced(self) -> None:
        """A newer session of the same agent and slot closes the older one with 1000."""
        parts = NodeParts(Clock())
        headers = [("x-pico-agent-id", "a"), ("x-pico-slot", "0")]
        old, new = RawPeer(parts, headers=headers), RawPeer(parts, headers=headers)
        assert old.close_code() == 1000 and not new.closed
        assert parts.cluster.registry.counts() == {"my-ep": 1}


class TestTime:
    """Heartbeats, silence, peers that take nothing."""

    def test_heartbeats_go_on(self) -> None:
        """The node asks at once and every 10 s; the round trip is measured; nobody is judged dead."""
        pair = TunnelPair()
        pair.pass_time(100)
        assert not pair.closed
        assert pair.parts.metrics.exposition().decode().count("pico_heartbeat") > 0
        assert pair.node.rtt_s >= 0.0

    def test_round_trip(self) -> None:
        """The round trip is what passed between the heartbeat and its echo."""
        peer = raw()
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

    def test_any_byte_is_life(self) -> None:
        """A single byte of a frame now and then keeps a session alive."""
        peer = raw()
        for byte in frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0, bytes(100)), mask=True)[:8]:
            pass_time(peer.parts.clock, 15)
            peer.send_raw(bytes((byte,)))
        assert not peer.closed

    def test_silent_node(self) -> None:
        """An agent asks after 15 s of silence and drops a dead node after 20."""
        pair = TunnelPair()
        pair.node_end.takes = False
        pair.node_end.reading = False
        pair.agent_end.clear()
        pass_time(pair.clock, 16.5)
        kinds = [rpc.HEADER.unpack_from(payload)[0] for _, payload in frames_in(pair.agent_end.clear())]
        assert kinds == [HEARTBEAT] and "agent" not in pair.closed
        pass_time(pair.clock, 6)
        assert not pair.closed["agent"].by_us and pair.agent_end.over
        pair.node_end.receive_reset()

    def test_stall(self) -> None:
        """A peer that sends but takes no byte of our output for 20 s is dropped."""
        peer = raw()
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

    def test_slow_reader_is_not_stalled(self) -> None:
        """A peer that empties the transport now and then is no stalled one."""
        peer = raw()
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

    def test_stopped_process(self) -> None:
        """A process that was stopped for an hour judges nobody by it."""
        pair = TunnelPair()
        pair.clock.advance(3600)
        pair.flush()
        pair.pass_time(5)
        assert not pair.closed


class TestDrain:
    """Saying that a session will end."""

    def test_agent_drains(self) -> None:
        """A node that is told routes nothing there any more; calls in flight are served."""
        pair = TunnelPair()
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
    def test_odd_answers(self, how: str) -> None:
        """Whatever becomes of a drain, who waits for its answer does not wait for ever."""
        peer = raw()
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

    def test_drain_of_the_peer_is_no_answer(self) -> None:
        """Odd frames about the peer's own drain are no answer to ours."""
        peer = raw()
        done: list[None] = []
        peer.tunnel.drain().addCallback(done.append)
        peer.transport.takes = False
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)
        peer.send(DRAIN, 1)
        peer.send(DRAIN, 1, RESET, b"cancelled")
        assert done == []


class TestServerHandshake:
    """Our own handshake in front of Autobahn."""

    def ask(self, data: bytes, *, parts: NodeParts | None = None) -> tuple[int, dict[str, str], Any, RawPeer]:
        """Send a head; the answer's status, fields and body, and the peer."""
        peer = RawPeer(parts or NodeParts(Clock()), shake=False)
        peer.send_raw(data)
        head, _, body = peer.transport.clear().partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        answered = int(status.split(" ")[1])
        return answered, fields, json.loads(body) if answered != 101 and body else None, peer

    def shake(self, path: str = LISTENER, **headers: str) -> bytes:
        """A good handshake with other fields."""
        data = handshake_request(path, "node", KEY, [rpc.SUBPROTOCOL_V2], ())
        lines = data.decode().split("\r\n")
        for name, value in headers.items():
            field = name.replace("_", "-")
            lines = [line for line in lines if not line.lower().startswith(field + ":")]
            if value:
                lines.insert(1, f"{field}: {value}")
        return "\r\n".join(lines).encode("latin-1")

    def test_accepted(self) -> None:
        """A v2 agent is told the node's ID and the subprotocol, and no extension."""
        headers = [
            ("x-pico-agent-id", "agent-1"),
            ("x-pico-slot", "0.1"),
            ("x-pico-agent-version", "1.2.3"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("Origin", "http://elsewhere.example"),
        ]
        peer = RawPeer(NodeParts(Clock()), headers=headers)
        answer = peer.answer.lower()
        assert b"sec-websocket-protocol: pico.v2\r\n" in answer and b"x-pico-node-id: n1\r\n" in answer
        assert b"extensions" not in answer
        tunnel = peer.tunnel
        assert (tunnel.version, tunnel.endpoint, tunnel.agent_id, tunnel.slot) == (2, "my-ep", "agent-1", "0.1")
        assert tunnel.peer == "192.0.2.7:50007"
        assert peer.parts.cluster.choose("my-ep", []) is tunnel

    def test_version_1(self) -> None:
        """Without an offer, and with unknown offers alone, it is v1; an unnamed agent is told apart by its address."""
        peer = RawPeer(NodeParts(Clock()), 1)
        assert peer.tunnel.version == 1 and peer.tunnel.agent_id == "v1-192.0.2.7:50007"
        assert b"sec-websocket-protocol" not in peer.answer.lower()
        peer = RawPeer(NodeParts(Clock()), shake=False)
        peer.send_raw(handshake_request(LISTENER, "node", KEY, ["pico.v3", "chat"], ()))
        assert peer.tunnel.version == 1
        peer = RawPeer(NodeParts(Clock()), shake=False)
        peer.send_raw(handshake_request(LISTENER, "node", KEY, ["pico.v3", "pico.v2"], ()))
        assert peer.tunnel.version == 2

    def test_endpoint_in_any_case(self) -> None:
        """Endpoint IDs compare without case; a query is not part of it."""
        _, _, _, peer = self.ask(self.shake("/pico/v1/listener/My-EP?token=x"))
        assert peer.tunnel.endpoint == "my-ep"

    def test_byte_by_byte(self) -> None:
        """A head may come in any pieces, and frames right behind it are taken."""
        peer = RawPeer(NodeParts(Clock()), shake=False)
        for byte in self.shake() + frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0, b"?"), mask=True):
            peer.send_raw(bytes((byte,)))
        _, _, rest = peer.transport.clear().partition(b"\r\n\r\n")
        assert (BINARY, rpc.encode(HEARTBEAT, 1, RESPONSE, b"?")) in frames_in(rest)
        peer = RawPeer(NodeParts(Clock()), shake=False)
        peer.send_raw(self.shake() + frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0, b"?"), mask=True))
        _, _, rest = peer.transport.clear().partition(b"\r\n\r\n")
        assert (BINARY, rpc.encode(HEARTBEAT, 1, RESPONSE, b"?")) in frames_in(rest)

    @pytest.mark.parametrize(
        ("data", "status", "code"),
        [
            (b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", 426, "upgrade-required"),
            (b"GET /pico/v1/listener/x HTTP/1.1\r\nHost: node\r\n\r\n", 426, "upgrade-required"),
            (b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\n\r\nx", 400, "bad-request"),
            (b"HEAD / HTTP/1.1\r\nHost: node\r\n\r\n", 400, "bad-request"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
            (b"nonsense\r\n\r\n", 400, "bad-request"),
            (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad-request"),  # without waiting for the end of a head
            (b"GET / HTTP/2.0\r\nHost: node\r\n\r\n", 505, "version"),
            (b"CONNECT node:1 HTTP/1.1\r\nHost: node\r\n\r\n", 501, "not-implemented"),
            (b"GET / HTTP/1.1\r\nHost: node\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, "head-too-large"),
            (b"GET /" + b"y" * 40_000, 431, "head-too-large"),
            (b"GET / HTTP/1.1\r\nHost: node\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "head-too-large"),
        ],
    )
    def test_no_handshakes(self, data: bytes, status: int, code: str) -> None:
        """What is no WebSocket handshake gets an answer in JSON that says so, from this node, and a close."""
        got, fields, body, peer = self.ask(data)
        assert (got, fields["x-pico-error"]) == (status, f"n1; {code}")
        assert fields["content-type"] == "application/json" and set(body) == {"error"} and body["error"]
        assert peer.transport.half_closed
        peer.send_raw(b"more of it" * 1000 + b"GET / HTTP/1.1\r\n\r\n")
        pass_time(peer.parts.clock, CLOSE_TIMEOUT_S + 1)
        assert peer.transport.over and not peer.transport.taken
        assert peer.parts.upstream.connections == set()

    @pytest.mark.parametrize(
        ("changes", "status", "code"),
        [
            ({"path": "/"}, 404, "not-found"),
            ({"path": "/pico/v1/listener"}, 404, "not-found"),
            ({"path": "/pico/v1/node"}, 404, "not-found"),
            ({"path": "/pico/v1/listener/"}, 400, "invalid-endpoint"),
            ({"path": "/pico/v1/listener/a/b"}, 400, "invalid-endpoint"),
            ({"path": "/pico/v1/listener/-a"}, 400, "invalid-endpoint"),
            ({"path": "/pico/v1/listener/" + "a" * 129}, 400, "invalid-endpoint"),
            ({"x_pico_agent_id": "a b"}, 400, "bad-request"),
            ({"x_pico_slot": "s" * 65}, 400, "bad-request"),
            ({"x_pico_agent_version": "{}"}, 400, "bad-request"),
            ({"sec_websocket_version": "12"}, 426, "upgrade-required"),
            ({"sec_websocket_version": ""}, 426, "upgrade-required"),
            ({"sec_websocket_key": ""}, 400, "bad-request"),
            ({"sec_websocket_key": "short"}, 400, "bad-request"),
            ({"upgrade": "h2c"}, 426, "upgrade-required"),
            ({"upgrade": "notwebsocket"}, 426, "upgrade-required"),
            ({"connection": "close"}, 426, "upgrade-required"),
            ({"host": "a:b:c"}, 400, "bad-request"),
        ],
    )
    def test_refused(self, changes: dict[str, str], status: int, code: str) -> None:
        """A handshake that cannot be accepted is refused in JSON, with a reason."""
        got, fields, body, peer = self.ask(self.shake(**changes))
        assert (got, fields["x-pico-error"]) == (status, f"n1; {code}"), body
        assert body["error"] and peer.transport.half_closed
        assert not peer.parts.cluster.registry.counts()

    def test_upgrade_is_told(self) -> None:
        """426 says what to upgrade to."""
        _, fields, _, _ = self.ask(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        assert fields["upgrade"] == "websocket"
        _, fields, _, _ = self.ask(self.shake(sec_websocket_version="8"))
        assert fields["sec-websocket-version"] == "13"

    def test_draining_and_full(self) -> None:
        """A node that shuts down, or has as many sessions as it may, says 503 and when to come again."""
        parts = NodeParts(Clock(), max_sessions=1)
        first = RawPeer(parts)
        status, fields, body, _ = self.ask(self.shake(), parts=parts)
        assert (status, fields["x-pico-error"], body["error"]) == (503, "n1; busy", "too many sessions")
        assert int(fields["retry-after"]) > 0
        first.transport.receive_fin()
        pass_time(parts.clock, CLOSE_TIMEOUT_S + 1)
        assert RawPeer(parts).tunnel.version == 2
        parts = NodeParts(Clock())
        parts.cluster.start_draining()
        status, fields, _, _ = self.ask(self.shake(), parts=parts)
        assert (status, fields["x-pico-error"]) == (503, "n1; draining") and fields["retry-after"]

    @pytest.mark.parametrize("trickle", [False, True])
    def test_timeout(self, trickle: bool) -> None:
        """A handshake has 10 s in all; bytes do not extend it."""
        peer = RawPeer(NodeParts(Clock()), shake=False)
        for number in range(int(HANDSHAKE_TIMEOUT_S) - 1):
            pass_time(peer.parts.clock, 1.0)
            if trickle:
                peer.send_raw(self.shake()[number : number + 1])
        assert not peer.transport.over
        pass_time(peer.parts.clock, 2.0)
        assert peer.transport.over and peer.parts.upstream.connections == set()

    def test_gone_before_its_end(self) -> None:
        """A peer that leaves within its handshake leaves nothing behind."""
        for data in (b"", b"GET", self.shake()[:-1]):
            peer = RawPeer(NodeParts(Clock()), shake=False)
            peer.send_raw(data)
            peer.transport.receive_fin()
            assert peer.parts.upstream.connections == set()
            peer.parts.stop()
            assert peer.parts.clock.getDelayedCalls() == []


class Attempt:
    """An agent's handshake with a server that the test plays."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.parts = NodeParts(self.clock)
        self.factory = TunnelClientFactory(
            self.parts.make_tunnel_parts(),
            url=f"ws://node:8002{LISTENER}",
            headers={"x-pico-agent-id": "agent-1", "Authorization": "Bearer secret"},
            acceptor=Acceptor(),
            endpoint="my-ep",
            agent_id="agent-1",
            slot="0",
            reactor=self.clock,
        )
        self.result: list[Any] = []
        self.factory.ready.addBoth(self.result.append)
        self.transport = MemoryTransport(self.clock)
        self.tunnel: Any = self.transport.connect(self.factory.buildProtocol(self.transport.getPeer()))
        self.asked = bytes(self.transport.clear())

    def error(self) -> Exception:
        """What the attempt failed with."""
        (failure,) = self.result
        assert isinstance(failure, Failure)
        self.clock.advance(0)
        value: Any = failure.value
        assert isinstance(value, Exception)
        return value


class TestClientHandshake:
    """The agent's side."""

    def test_request(self) -> None:
        """It offers v2 alone, no extension, and says who it is."""
        asked = Attempt().asked.decode().lower()
        assert asked.startswith(f"get {LISTENER} http/1.1\r\n") and asked.endswith("\r\n\r\n")
        assert "sec-websocket-protocol: pico.v2\r\n" in asked and "extensions" not in asked
        assert "x-pico-agent-id: agent-1\r\n" in asked and "authorization: bearer secret\r\n" in asked

    @pytest.mark.parametrize(
        ("answer", "status", "words"),
        [
            (b"HTTP/1.1 403 No\r\nContent-Length: 28\r\n\r\n" + b'{"error": "wrong token, you"}'[:28], 403, None),
            (b'HTTP/1.1 401 No\r\nContent-Length: 24\r\n\r\n{"error": "wrong token"}', 401, "wrong token"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "Not Found"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n<html>\n  hi </html>", 200, "<html> hi </html>"),
            (b'HTTP/1.1 503 No\r\nContent-Length: 17\r\n\r\n{"error": [1, 2]}', 503, '{"error": [1, 2]}'),
            (b"HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\n\x00\xff\x1b", 400, None),
            (b"HTTP/1.1 599 " + b"x" * 40_000, 502, None),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, None),
            (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", 502, None),
        ],
    )
    def test_refusals(self, answer: bytes, status: int, words: str | None) -> None:
        """A refusal is told by its status and the server's own words, made printable and short."""
        attempt = Attempt()
        for at in range(0, len(answer), 1000):
            attempt.transport.receive(answer[at : at + 1000])
        error = attempt.error()
        assert isinstance(error, HandshakeRefused) and error.status == status
        assert error.message.isprintable() and 0 < len(error.message) <= 200
        if words is not None:
            assert error.message == words
        assert attempt.transport.over

    def test_refusal_that_ends_with_the_connection(self) -> None:
        """A body without a length, or cut short, is told as far as it came."""
        for head in (b"HTTP/1.1 403 No\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\n"):
            attempt = Attempt()
            attempt.transport.receive(head + b"not ")
            assert attempt.result == []
            attempt.transport.receive(b"you")
            attempt.transport.receive_fin()
            error = attempt.error()
            assert isinstance(error, HandshakeRefused) and (error.status, error.message) == (403, "not you")

    def test_endless_refusal(self) -> None:
        """No more than 8 KiB of a refusal are read."""
        attempt = Attempt()
        attempt.transport.receive(b"HTTP/1.1 403 No\r\n\r\n")
        for _ in range(MAX_REFUSAL_BODY_BYTES // 1024 + 1):
            attempt.transport.receive(b"no " * 400)
        assert isinstance(attempt.error(), HandshakeRefused)
        assert attempt.transport.over

    @pytest.mark.parametrize(
        "change",
        [
            (b"Accept: ", b"Accept: x"),
            (b"Upgrade: WebSocket", b"Upgrade: other"),
            (b"Connection: Upgrade", b"Connection: close"),
            (b"Protocol: pico.v2", b"Protocol: pico.v9"),
            (b"Protocol: pico.v2", b"Extensions: permessage-deflate\r\nX: y"),
        ],
    )
    def test_bad_101(self, change: tuple[bytes, bytes]) -> None:
        """A 101 that does not fit what was asked is refused."""
        attempt = Attempt()
        peer = RawPeer(attempt.parts, shake=False)
        peer.send_raw(attempt.asked)
        answer = bytes(peer.transport.clear())
        assert change[0] in answer
        attempt.transport.receive(answer.replace(*change))
        error = attempt.error()
        assert isinstance(error, HandshakeRefused) and error.message
        assert attempt.transport.over

    def test_version_1_server(self) -> None:
        """A server that selects nothing is a v1 node."""
        attempt = Attempt()
        peer = RawPeer(attempt.parts, shake=False)
        peer.send_raw(attempt.asked.replace(b"pico.v2", b"other"))
        attempt.transport.receive(bytes(peer.transport.clear()))
        assert attempt.result == [attempt.tunnel] and attempt.tunnel.version == 1

    @pytest.mark.parametrize("how", ["fin", "reset"])
    @pytest.mark.parametrize("data", [b"", b"HTTP/1.1 1"])
    def test_closed_within(self, how: str, data: bytes) -> None:
        """A connection that ends within the handshake fails the attempt, once."""
        attempt = Attempt()
        attempt.transport.receive(data)
        if how == "fin":
            attempt.transport.receive_fin()
        else:
            attempt.transport.receive_reset()
        assert not isinstance(attempt.error(), HandshakeRefused)
        attempt.parts.stop()
        assert attempt.clock.getDelayedCalls() == []

    def test_node_id(self) -> None:
        """The agent knows which node it is connected to."""
        pair = TunnelPair()
        assert pair.agent.node_id == "n1" and pair.node.node_id is None
        assert ITunnel.providedBy(pair.agent)

"""RPC over WebSocket, in memory: both roles, calls, framing and pings, and peers that misbehave."""

from __future__ import annotations

import random
import struct

import pytest

from pico_twisted.core.rpc import frames as rpc
from pico_twisted.core.rpc.frames import HEARTBEAT, HTTP, MORE, RESET, RESPONSE
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from tests.conftest import LoggedFailures
from tests.doubles.service import Acceptor, Receiver, echo
from tests.net.tunnel.tunnel_peers import GET, OK, fill, raw
from tests.net.tunnel.websockets import RawPeer, TunnelPair, frames_in
from tests.peers.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, frame_bytes


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

    def test_a_reset_when_drained(self, peer: RawPeer) -> None:
        """What a writer does when it is told to go on leaves at once, a reset too."""
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

    def test_resets(self, pair: TunnelPair) -> None:
        """A reset of either side ends the call on the other, with its code and words."""
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

    def test_agents_open_no_calls(self, pair: TunnelPair) -> None:
        """A node serves no call of an agent: 0xC000."""
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

    def test_gathered_output(self, pair: TunnelPair) -> None:
        """With an `EndOfTurn` the frames of a turn leave with one write, and none is forgotten at a close."""
        gathering = pair.parts.agent_parts()
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

    def test_biggest_messages(self, peer: RawPeer) -> None:
        """The largest message that is allowed is taken: v2 64 KiB and its header, v1 16 MiB and a little."""
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

    @pytest.mark.parametrize("piece", [1 << 20, (1 << 20) - 7])
    @pytest.mark.parametrize("size", [rpc.MAX_MESSAGE_V1 + 1, 2 * rpc.MAX_MESSAGE_V1])
    def test_a_message_that_is_too_large_costs_one_call(self, size: int, piece: int) -> None:
        """Of a larger v1 message nothing is kept but its header, however it comes: the call fails that it belongs to,
        and the session and its other calls go on."""
        peer = raw(1)
        large, other = Receiver().open(peer.tunnel, HTTP, GET), Receiver().open(peer.tunnel, HTTP, GET)
        peer.received()
        message = rpc.encode(HTTP, 2, RESPONSE, bytes(size - 12))
        if piece == 1 << 20:
            raw_bytes = frame_bytes(BINARY, message, mask=True)
            for at in range(0, len(raw_bytes), piece):
                peer.send_raw(raw_bytes[at : at + piece])
                assert peer.tunnel.held_bytes() < 1000
        else:
            peer.send_ws(BINARY, message[:5], fin=False)
            for at in range(5, size, piece):
                peer.send_ws(CONTINUATION, message[at : at + piece], fin=at + piece >= size)
        assert large.reset_code == rpc.TOO_LARGE and "too large" in large.reset_text
        peer.send(HTTP, 3, RESPONSE, b"fine")
        assert other.ended and bytes(other.data) == b"fine" and peer.closed == []

    def test_no_memory_for_a_large_message(self) -> None:
        """While the process holds as much as it may, a large v1 message is not gathered, and its call fails alone."""
        peer = raw(1)
        receiver = Receiver().open(peer.tunnel, HTTP, GET)
        peer.received()
        peer.parts.budget.measure(1 << 40)
        message = frame_bytes(BINARY, rpc.encode(HTTP, 2, RESPONSE, bytes(1_000_000)), mask=True)
        for at in range(0, len(message), 10_000):
            peer.send_raw(message[at : at + 10_000])
            assert peer.tunnel.held_bytes() < 200_000
        assert receiver.reset_code == rpc.TOO_LARGE and peer.closed == []

    def test_partial_messages_count_as_held(self) -> None:
        """What has come of a message is among the bytes that the process holds."""
        peer = raw(1)
        peer.send_ws(BINARY, bytes(100_000), fin=False)
        assert peer.tunnel.held_bytes() == 100_000
        assert peer.parts.upstream.held_bytes() == 100_000

    def test_masked_frames_from_a_server(self, pair: TunnelPair) -> None:
        """An agent refuses masked frames."""
        pair.agent_end.receive(frame_bytes(BINARY, rpc.encode(HEARTBEAT, 9, 0), mask=True))
        frames = frames_in(pair.agent_end.clear())
        assert frames[-1][0] == CLOSE and frames[-1][1][:2] == struct.pack(">H", 1002)
        assert pair.closed["agent"].code == 1002

    def test_our_frames(self, pair: TunnelPair) -> None:
        """An agent masks each frame with a mask of its own; a node masks none."""
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

    def test_pong(self, peer: RawPeer) -> None:
        """A ping is answered with its payload; a pong that nobody asked for is ignored."""
        for payload in (b"", b"x", bytes(125)):
            peer.send_ws(PING, payload)
            assert peer.received() == [(PONG, payload)]
        peer.send_ws(PONG, b"unasked")
        assert peer.received() == [] and not peer.closed

    def test_flood_while_paused(self, peer: RawPeer) -> None:
        """Pings at a transport that is full make us owe one pong, the newest."""
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

    def test_heartbeats_while_paused(self, peer: RawPeer) -> None:
        """The same for heartbeats of the RPC."""
        fill(peer)
        held = peer.transport.held
        for number in range(1, 10_000):
            peer.send(HEARTBEAT, number, 0, b"%d" % number)
        assert peer.transport.held == held and not peer.closed
        peer.transport.takes = True
        peer.transport.take()
        echoes = [item for item in peer.received_rpc() if item[0] == HEARTBEAT and item[2] == RESPONSE]
        assert echoes == [(HEARTBEAT, 9999, RESPONSE, b"9999")]

    def test_owed_answers_while_paused(self, peer: RawPeer) -> None:
        """A peer that makes us owe answers and takes none is closed with 1008."""
        fill(peer)
        for number in range(1, 10_000):
            peer.send(77, number)
            if peer.closed:
                break
        (closed,) = peer.closed
        assert closed.code == 1008 and number < 5000

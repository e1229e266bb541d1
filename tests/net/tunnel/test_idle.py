"""Tunnels on which nothing happens: what a node keeps of them, and how seldom it looks at them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.rpc.frames import HEARTBEAT, HTTP, MORE, RESPONSE
from pico_twisted.core.rpc.heartbeats import HEARTBEAT_S, SILENCE_S
from pico_twisted.net.tunnel.session_pump import TICK_S
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.service import Receiver
from tests.net.tunnel.websockets import RawPeer
from tests.peers.websocket import CONTINUATION

REQUEST = b"GET / HTTP/1.1\r\nHost: my-ep.example.com\r\n\r\n"
SOON_S = 0.2
"""More than a sweep of these nodes takes."""


def idle_peer(version: int = 2, **limits: Any) -> RawPeer:
    """A peer whose tunnel had the time to become idle; it has answered the first heartbeat."""
    peer = RawPeer(MemoryNode(Clock(), **limits), version)
    pass_time(peer.parts.clock, SOON_S)
    ((kind, call_id, _, payload),) = peer.received_rpc()
    assert kind == HEARTBEAT
    peer.send(HEARTBEAT, call_id, RESPONSE, payload)
    return peer


@pytest.fixture
def peer() -> RawPeer:
    """A peer of version 2 with an idle tunnel."""
    return idle_peer()


def peers_of(parts: MemoryNode, count: int) -> list[RawPeer]:
    """Sessions that do not replace each other."""
    return [
        RawPeer(parts, headers=[("x-pico-agent-id", "agent-1"), ("x-pico-slot", str(slot))]) for slot in range(count)
    ]


class TestMemory:
    """What is kept."""

    def test_few_attributes(self, peer: RawPeer) -> None:
        """Once open, a tunnel has few attributes, so that their dictionary is small."""
        assert len(vars(peer.tunnel)) <= 42

    def test_no_heads(self, peer: RawPeer) -> None:
        """Nothing of the handshake's heads is kept."""
        kept = [value for value in vars(peer.tunnel).values() if isinstance(value, (str, bytes, dict))]
        assert not any("Sec-WebSocket" in str(value) or "sec-websocket" in str(value) for value in kept)

    def test_options_are_shared(self) -> None:
        """Two tunnels of a port have one set of options, which are those of the port's factory."""
        parts = MemoryNode(Clock())
        one, other = (peer.tunnel for peer in peers_of(parts, 2))
        assert type(one) is type(other) and "autoPingInterval" not in vars(one)
        assert one.perMessageCompressionAccept([]) is None
        assert one.utf8validateIncoming is parts.upstream.utf8validateIncoming is False

    def test_no_state_is_shared(self) -> None:
        """What happens to one tunnel is not seen at another."""
        one, other = peers_of(MemoryNode(Clock()), 2)
        one.send_ws(0x1, b"text")
        assert one.close_code() == 1002
        assert one.tunnel.failedByMe and not other.tunnel.failedByMe
        assert other.tunnel.localCloseCode is None


class TestLooks:
    """How often it is looked at."""

    def test_idle_until_heartbeat(self, peer: RawPeer) -> None:
        """A tunnel without calls is looked at when its next heartbeat is due, not before."""
        left_s = peer.tunnel.deadline - peer.parts.sweep.now
        assert HEARTBEAT_S - 2 * SOON_S <= left_s <= HEARTBEAT_S
        pass_time(peer.parts.clock, HEARTBEAT_S - 3 * SOON_S)
        assert peer.received_rpc() == []
        pass_time(peer.parts.clock, 4 * SOON_S)
        assert [frame[0] for frame in peer.received_rpc()] == [HEARTBEAT]

    def test_silence_ends_it(self, peer: RawPeer) -> None:
        """A peer that falls silent while its tunnel is idle is given up as ever."""
        pass_time(peer.parts.clock, SILENCE_S - SOON_S)
        assert not peer.closed
        pass_time(peer.parts.clock, 4 * SOON_S)
        assert [closed.reason for closed in peer.closed] == ["no byte for 20 s"]

    def test_a_call_wakes_it(self, peer: RawPeer) -> None:
        """A tunnel with a call is looked at every second, and its bytes are counted; then it is idle again."""
        upstream, sweep = peer.parts.upstream, peer.parts.sweep
        assert upstream.connections == {peer.tunnel} and not upstream.awake
        receiver = Receiver()
        receiver.takes = False
        receiver.open(peer.tunnel, HTTP, REQUEST)
        assert upstream.awake == {peer.tunnel} and peer.tunnel.deadline <= sweep.now + TICK_S
        ((_, call_id, _, _),) = peer.received_rpc()
        peer.send(HTTP, call_id, RESPONSE | MORE, b"x" * 1000)
        pass_time(peer.parts.clock, 3 * TICK_S)
        assert upstream.awake == {peer.tunnel} and upstream.held_bytes() == 1000
        receiver.take()
        peer.send(HTTP, call_id, RESPONSE, b"x")
        pass_time(peer.parts.clock, TICK_S + SOON_S)
        assert not upstream.awake and upstream.held_bytes() == 0

    def test_part_of_a_message_wakes_it(self) -> None:
        """Pieces of a message are counted from the first one on, though there is no call."""
        peer = idle_peer(version=1)
        upstream = peer.parts.upstream
        peer.send_ws(0x2, b"x" * 500, fin=False)
        peer.send_ws(CONTINUATION, b"x" * 500, fin=False)
        pass_time(peer.parts.clock, 3 * TICK_S)
        assert upstream.awake == {peer.tunnel} and upstream.held_bytes() == 1000

    def test_gone(self, peer: RawPeer) -> None:
        """A tunnel that is gone is not awake."""
        Receiver().open(peer.tunnel, HTTP, REQUEST)
        peer.transport.receive_reset()
        assert not peer.parts.upstream.awake and not peer.parts.upstream.connections

    def test_closing_ends(self, peer: RawPeer) -> None:
        """A tunnel that is closed while it is idle does not wait for a peer that never answers."""
        peer.tunnel.close(1001, "node is shutting down")
        pass_time(peer.parts.clock, 4.0)
        assert peer.transport.over and not peer.parts.upstream.connections


class TestHerd:
    """Many agents that came together."""

    def test_heartbeats_part(self) -> None:
        """The second heartbeats of tunnels that began together are spread, and so are all that follow."""
        parts = MemoryNode(Clock())
        chances = iter([0.0, 0.25, 0.5, 0.75])
        parts.upstream.chance = lambda: next(chances)
        peers = peers_of(parts, 4)
        asked: list[list[float]] = [[] for _ in peers]
        began = parts.sweep.now
        while parts.sweep.now < began + 3 * HEARTBEAT_S:
            pass_time(parts.clock, SOON_S)
            for peer, times in zip(peers, asked, strict=True):
                for _, call_id, _, payload in peer.received_rpc():
                    times.append(parts.sweep.now - began)
                    peer.send(HEARTBEAT, call_id, RESPONSE, payload)
        seconds = [times[1] for times in asked]
        assert all(sooner - later > 1.5 for sooner, later in pairwise(seconds))
        for times in asked:
            gaps = [later - sooner for sooner, later in pairwise(times[1:])]
            assert gaps and all(HEARTBEAT_S - SOON_S < gap < HEARTBEAT_S + 3 * SOON_S for gap in gaps)

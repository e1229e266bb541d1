"""How large bodies cross a tunnel."""

from __future__ import annotations

import pytest

from benchmarks.memory_path import MemoryPath
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import MAX_DATA_BYTES
from tests.doubles.service import Receiver
from tests.net.tunnel.tunnel_peers import GET
from tests.net.tunnel.websockets import TunnelPair

PIECES = 64
BODY = b"x" * (PIECES * MAX_DATA_BYTES)
ANSWERS = {
    b"/down": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    b"/up": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}
DOWN = b"GET /down HTTP/1.1\r\nHost: bench.example.com\r\n\r\n"
UP = b"POST /up HTTP/1.1\r\nHost: bench.example.com\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.mark.parametrize("request_bytes", [DOWN, UP], ids=["down", "up"])
def test_a_body_crosses_a_tunnel_in_few_frames(monkeypatch: pytest.MonkeyPatch, request_bytes: bytes) -> None:
    """What is read at once of a large body is one frame, once the credit of its stream has grown; else each read would
    be cut in two, one of them small."""
    path = MemoryPath(ANSWERS)
    sizes: list[int] = []
    receive = SessionV2.receive

    def received(session: SessionV2, message: bytes) -> object:
        sizes.append(len(message))
        return receive(session, message)

    monkeypatch.setattr(SessionV2, "receive", received)
    path.request(request_bytes)
    data = [size for size in sizes if size > 16]  # what is smaller grants credit
    assert sum(data) > len(BODY)
    assert PIECES <= len(data) <= 1.2 * PIECES


def test_a_read_of_a_tunnel_is_one_large_frame() -> None:
    """At both ends it takes as much as a frame of the largest size, with its headers and, at the node, its mask."""
    pair = TunnelPair()
    receiver = Receiver().open(pair.node, HTTP, GET, True)
    pair.flush()
    pair.node.send(receiver.call, bytes(MAX_DATA_BYTES), True)
    assert pair.agent_end.bufferSize == len(pair.node_end.taken)
    pair.flush()
    pair.acceptor.accepted[0].send(bytes(MAX_DATA_BYTES), True)
    assert pair.node_end.bufferSize == len(pair.agent_end.taken)
    pair.flush()

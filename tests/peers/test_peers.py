"""The test peers checked against each other and against a WebSocket library, before they judge the product."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from tests.peers import frames, v1, v2, websocket
from tests.peers.pipe import Ended

REQUEST = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def v1_server() -> Iterator[v1.Server]:
    """A v1 server."""
    server = v1.Server()
    yield server
    server.close()


@pytest.fixture
def v2_server() -> Iterator[v2.Server]:
    """A v2 server."""
    server = v2.Server()
    yield server
    server.close()


def test_a_frame_is_twelve_bytes_and_a_payload() -> None:
    """The header's layout is the documented one, byte by byte."""
    data = frames.packed(frames.HTTP, 0x0102030405060708, frames.RESPONSE | frames.MORE, b"xy")
    assert data == b"\x00\x02\x01\x02\x03\x04\x05\x06\x07\x08\xa0\x00xy"
    assert frames.parsed(data) == frames.Frame(2, 0x0102030405060708, 0xA000, b"xy")
    with pytest.raises(ValueError):
        frames.parsed(b"\x00" * 11)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_the_websocket_agrees_with_a_library(size: int) -> None:
    """Messages of every length form, whole and in fragments, pass between this module and `websockets` unchanged."""

    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    with websockets.sync.server.serve(echo, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        socket, _ = websocket.connect(server.socket.getsockname(), "/")
        for fragment in (None, 4096):
            socket.send(payload, fragment=fragment)
            assert socket.receive() == (websocket.BINARY, payload)
        socket.close(1000, "done")
        with pytest.raises(Ended) as ended:
            socket.receive()
        assert ended.value.code == 1000 and ended.value.clean
        socket.drop()
        server.shutdown()
        thread.join(10)


def test_the_accepting_side_agrees_with_a_library(v1_server: v1.Server) -> None:
    """A library's client completes the handshake of the server role and reads its frames."""
    url = f"ws://127.0.0.1:{v1_server.port}/pico/v1/listener/lib"
    with websockets.sync.client.connect(url, compression=None, proxy=None) as client:
        heartbeat = client.recv(timeout=10)
        assert isinstance(heartbeat, bytes) and frames.parsed(heartbeat).kind == frames.HEARTBEAT
        client.send(frames.packed(frames.HEARTBEAT, 1, 0, b"hi"))
        assert client.recv(timeout=10) == frames.packed(frames.HEARTBEAT, 1, frames.RESPONSE, b"hi")


def test_a_refusal_keeps_status_and_body() -> None:
    """What the server said when it refused reaches the client's exception."""
    server = v1.Server(refuse=lambda offer: (403, b'{"error": "no"}'))
    try:
        with pytest.raises(websocket.Refused) as refused:
            v1.Agent(("127.0.0.1", server.port), "a", lambda request: RESPONSE)
        assert (refused.value.status, refused.value.body) == (403, b'{"error": "no"}')
    finally:
        server.close()


def test_v1_serves_calls_out_of_order_in_fragments(v1_server: v1.Server) -> None:
    """A v1 agent answers two calls in the other order, with messages cut into 4 KiB pieces, each to its caller."""
    second_done = threading.Event()

    def serve(request: bytes) -> bytes:
        if request.startswith(b"GET /first"):
            assert second_done.wait(10)
        return request[:12] + b"." * 10_000

    agent = v1.Agent(("127.0.0.1", v1_server.port), "a", serve)
    session = v1_server.wait_session("a")
    answers: list[bytes] = []
    first = threading.Thread(target=lambda: answers.append(session.http(b"GET /first." + b"x" * 9000)))
    first.start()
    assert session.http(b"GET /second" + b"x" * 9000).startswith(b"GET /second")
    second_done.set()
    first.join(10)
    assert answers[0].startswith(b"GET /first.")
    agent.close()
    assert session.wait_ended().clean


def test_v1_answers_unknown_types_and_vanishes(v1_server: v1.Server) -> None:
    """An unknown type is answered 0xC000 and the session goes on; `vanish` shows no close frame."""
    agent = v1.Agent(("127.0.0.1", v1_server.port), "a", lambda request: RESPONSE)
    session = v1_server.wait_session("a")
    assert session.call(9, b"what").flags == 0xC000
    assert session.http(REQUEST) == RESPONSE
    assert agent.call(frames.HEARTBEAT, b"mine").payload == b"mine"
    agent.vanish()
    assert not session.wait_ended().clean


def test_v2_streams_keep_to_the_credit(v2_server: v2.Server) -> None:
    """A stream of many windows arrives whole, never more than its credit outstanding."""
    agent = v2.Agent(("127.0.0.1", v2_server.port), "a", agent_id="agent")
    node = v2_server.wait_peer()
    body = bytes(range(256)) * 4096
    call = node.take_id()
    sender = threading.Thread(target=lambda: node.send_stream(call, body, response=False))
    sender.start()
    assert agent.wait_stream(agent.next_call().call, response=False) == body
    sender.join(10)
    agent.answer_call(call, b"done")
    assert node.wait_stream(call, response=True) == b"done"
    assert v2_server.offers[0].get("x-pico-agent-id") == "agent"
    agent.close()


def test_v2_streams_end_with_trailers(v2_server: v2.Server) -> None:
    """They wait for all of their credit, and are no part of the payload."""
    agent = v2.Agent(("127.0.0.1", v2_server.port), "a", agent_id="agent", capabilities="trailers", grant=False)
    node = v2_server.wait_peer()
    assert v2_server.offers[0].get("x-pico-capabilities") == "trailers"
    call = node.open_call(bytes(frames.WINDOW_BYTES - 7), end=False)
    with pytest.raises(TimeoutError):
        node.send_trailers(call, b"x-t: 1\r\n", response=False, timeout=0.2)
    agent.credit(agent.next_call().call, 1, response=True)
    node.send_trailers(call, b"x-t: 1\r\n", response=False)
    assert agent.wait_stream(call, response=False) == bytes(frames.WINDOW_BYTES - 7)
    assert agent.trailers(call, response=False) == b"x-t: 1\r\n"
    agent.answer_call(call, b"done", end=False)
    agent.send_trailers(call, b"x-u: 2\r\n", response=True)
    assert node.wait_stream(call, response=True) == b"done"
    assert node.trailers(call, response=True) == b"x-u: 2\r\n"
    agent.close()


def test_v2_without_credit_stands_still(v2_server: v2.Server) -> None:
    """A sender of this module stops at 64 KiB when nothing is granted: so a test can count what was granted."""
    agent = v2.Agent(("127.0.0.1", v2_server.port), "a", grant=False)
    node = v2_server.wait_peer()
    with pytest.raises(TimeoutError):
        node.send_stream(node.take_id(), bytes(100_000), response=False, timeout=0.2)
    call = agent.next_call().call
    agent.wait_for(lambda _: len(agent.stream(call, response=False)[0]) == frames.WINDOW_BYTES)
    agent.reset(call, "stop", response=True)
    assert node.wait_reset(call) == "stop"
    node.alive()
    agent.vanish(reset=True)
    assert not node.wait_ended().clean

"""Upgraded connections: WebSockets and any other protocol behind a 101."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
import websockets.asyncio.client

from tests.peers import websocket
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.service import Connection, answer, chunk
from tests.system.shapes import NODES
from tests.system.stack import PLAIN, Stack
from tests.system.wire import Request

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
UPGRADE = ("Connection: Upgrade", "Upgrade: raw")


def websocket_echo(connection: Connection) -> None:
    """A script: a WebSocket that echoes what comes, text as text."""
    echo_websocket(connection, connection.request_head())


def echo_websocket(connection: Connection, request: Request) -> None:
    """The same behind the head of the request."""
    key = request.get("sec-websocket-key")
    assert key is not None and request.get("upgrade") == b"websocket"
    protocol = request.get("sec-websocket-protocol")
    connection.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {websocket.accept_value(key)}\r\n".encode()
        + (b"Sec-WebSocket-Protocol: %b\r\n" % protocol if protocol else b"")
        + b"\r\n"
    )
    echo = websocket.WebSocket(connection.pipe, client=False)
    while True:
        kind, message = echo.receive(3600)
        echo.send(message, opcode=kind)


def test_websocket_echo(stack: Stack) -> None:
    """A WebSocket client library talks with a service through the tunnel: text, binary, 1 MiB, ping, close."""
    stack.service.script = websocket_echo
    scheme = "wss" if stack.tls else "ws"

    async def chat() -> None:
        # (the library's client of threads reads in one while it sends in another: over TLS that corrupts both)
        async with websockets.asyncio.client.connect(
            f"{scheme}://127.0.0.1:{stack.node.ports.proxy}/chat",
            additional_headers={"x-pico-endpoint": stack.endpoint},
            subprotocols=[websockets.Subprotocol("chat")],
            ssl=stack.tls.context if stack.tls else None,
            compression=None,
            max_size=None,
            proxy=None,
        ) as client:
            assert client.subprotocol == "chat"
            await client.send("text \u2713")
            assert await client.recv() == "text \u2713"
            big = os.urandom(1 << 20)
            await client.send(big)
            assert await client.recv() == big
            await (await client.ping())

    asyncio.run(asyncio.wait_for(chat(), PATIENCE_S))


def test_bytes_right_behind_both_heads(stack: Stack) -> None:
    """What either side sends in the same write as its head arrives, once and in order."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(SWITCH + b"service first")
        assert connection.read(12) == b"client first"
        connection.send(b" / service second")
        assert connection.read(13) == b"client second"
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET /raw HTTP/1.1", *UPGRADE) + b"client first")
    response = client.read_response()
    assert (response.status, response.get("upgrade")) == (101, b"raw")
    assert client.read(30) == b"service first / service second"
    client.send(b"client second")
    connection = stack.service.wait_connection()
    client.close()
    assert connection.gone.wait(PATIENCE_S)
    assert bytes(connection.received).partition(b"\r\n\r\n")[2] == b"client firstclient second"


BODY = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def warmed(stack: Stack) -> Stack:
    """A stack whose nodes know each other: over a link that is still being opened a body goes with a plain request."""
    assert stack.request("GET /before HTTP/1.1").status == 200
    stack.service.reset()
    return stack


def chunked(body: bytes) -> bytes:
    return b"".join(chunk(body[at : at + 1000]) for at in range(0, len(body), 1000)) + chunk(b"")


@NODES
@pytest.mark.parametrize("body", [BODY, b"b" * 60_000], ids=["small", "large"])
@pytest.mark.parametrize("coded", [False, True])
def test_an_upgrade_with_a_body(stack: Stack, body: bytes, coded: bool) -> None:
    """As of `docker exec`: the service gets offer and body, whose length is known, then both go on with raw bytes."""

    def script(connection: Connection) -> None:
        request = connection.read_request()
        assert (request.get("upgrade"), request.length, request.body) == (b"raw", len(body), body)
        connection.send(SWITCH + b"service first")
        assert connection.read(12) == b"client first"
        connection.send(b" / service second")
        connection.linger()

    warmed(stack).service.script = script
    client = stack.connect()
    framing = "Transfer-Encoding: chunked" if coded else f"Content-Length: {len(body)}"
    client.send(stack.head("POST /exec HTTP/1.1", *UPGRADE, framing) + (chunked(body) if coded else body))
    assert client.read_response().status == 101
    client.send(b"client first")
    assert client.read(30) == b"service first / service second"


@NODES
@pytest.mark.parametrize("early", [False, True])
def test_an_upgrade_with_a_body_that_is_declined(stack: Stack, early: bool) -> None:
    """Whatever the service answers, and when, its body is a body and the next request the next one; so for a GET with
    an offer of TLS, as Apache HttpClient sends it."""

    def script(connection: Connection) -> None:
        while True:
            request = connection.request_head()
            if early and request.method == b"GET":
                connection.send(answer(b"declined", headers=[("Connection", "close")]))
                connection.linger()
                return
            body = connection.body()
            connection.send(answer(b"declined" if body == BODY else b"after"))

    warmed(stack).service.script = script
    client = stack.connect()
    fields = ("Connection: Upgrade", "Upgrade: TLS/1.2", f"Content-Length: {len(BODY)}")
    client.send(stack.head("GET / HTTP/1.1", *fields) + BODY)
    response = client.read_response()
    assert (response.status, response.body) == (200, b"declined")
    after = client if response.get("connection") is None and not early else stack.connect()
    after.send(stack.head("POST /after HTTP/1.1", "Content-Length: 0"))
    assert after.read_response().body == b"after"
    assert b"/smuggled" not in b"".join(request.target for request in stack.service.requests)


@NODES
def test_a_body_that_is_too_large_to_be_gathered(stack: Stack) -> None:
    """A body in chunks over 64 KiB goes on with a plain request."""
    stack.service.handler = lambda request: answer(
        b"%d" % len(request.body), headers=[("X-Offer", str(request.get("upgrade")))]
    )
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", *UPGRADE, "Transfer-Encoding: chunked") + chunked(b"b" * 100_000))
    response = client.read_response()
    assert (response.status, response.body, response.get("x-offer")) == (200, b"100000", b"None")


def test_an_upgrade_is_made_anew_at_each_hop(stack: Stack) -> None:
    """The service sees Connection: Upgrade and the protocol; what else Connection named is gone, both ways."""

    def script(connection: Connection) -> None:
        request = connection.request_head()
        assert request.get("upgrade") == b"raw"
        tokens = [token.strip().lower() for token in (request.get("connection") or b"").split(b",")]
        assert b"upgrade" in tokens and b"x-private" not in tokens
        assert b"x-private" not in request.names
        connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, X-Secret\r\nUpgrade: raw\r\nX-Secret: 1\r\n"
            b"X-Pico-Error: fake\r\nX-Kept: 1\r\n\r\n"
        )
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", "Connection: X-Private, Upgrade", "Upgrade: raw", "X-Private: 1"))
    response = client.read_response()
    assert response.status == 101
    assert response.names & {b"x-secret", b"x-pico-error"} == set()
    assert response.get("x-kept") == b"1"
    assert b"upgrade" in (response.get("connection") or b"").lower()


def test_an_upgrade_that_the_service_ignores(stack: Stack) -> None:
    """Another answer than 101 is an ordinary response, and the client's connection serves on."""
    stack.service.handler = lambda request: answer(b"no " + request.target)
    client = stack.connect()
    client.send(stack.head("GET /1 HTTP/1.1", *UPGRADE))
    assert client.read_response().body == b"no /1"
    client.send(stack.head("GET /2 HTTP/1.1"))
    assert client.read_response().body == b"no /2"


def test_a_pipelined_request_behind_an_upgrade_that_was_ignored(stack: Stack) -> None:
    """Bytes behind an upgrade's head that is answered without 101 are never taken for the upgraded protocol's.

    They may be served as the next request or be cut off with the connection, but reach no service as raw bytes.
    """
    stack.service.handler = lambda request: answer(b"no " + request.target)
    client = stack.connect()
    client.send(stack.head("GET /1 HTTP/1.1", *UPGRADE) + stack.head("GET /2 HTTP/1.1"))
    assert client.read_response().body == b"no /1"
    if not client.ended():
        assert client.read_response().body == b"no /2"
    assert all(request.target in (b"/1", b"/2") for request in stack.service.requests)


def test_h2c_is_dropped(stack: Stack) -> None:
    """An offer of h2c is not passed on; the request is an ordinary one, its body included."""
    response = stack.request(
        "POST / HTTP/1.1",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        body=b"body",
    )
    assert response.status == 200
    request: Request = stack.service.wait_request()
    assert request.names & {b"upgrade", b"http2-settings"} == set()
    assert request.body == b"body"


def test_big_streams_both_ways_after_an_upgrade(stack: Stack) -> None:
    """Ten megabytes in each direction at once pass an upgraded connection unchanged."""
    data = os.urandom(1 << 20) * 10

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(SWITCH)
        sender = threading.Thread(target=connection.send, args=(data,))
        sender.start()
        assert connection.read(len(data)) == data
        sender.join(PATIENCE_S)
        connection.send(b"all there")
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", *UPGRADE))
    assert client.read_response().status == 101
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    assert client.read(len(data)) == data
    sender.join(PATIENCE_S)
    assert client.read(9) == b"all there"


@PLAIN
def test_a_client_half_closes_an_upgraded_connection(stack: Stack) -> None:
    """The client's end of stream reaches the service, which goes on sending. (TLS knows no half-close.)"""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(SWITCH)
        assert connection.read_rest() == b"last words"
        connection.send(b"answer after the end")

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", *UPGRADE))
    assert client.read_response().status == 101
    client.send(b"last words")
    client.pipe.half_close()
    assert client.read_rest() == b"answer after the end"


@PLAIN
def test_a_service_half_closes_an_upgraded_connection(stack: Stack) -> None:
    """The service's end of stream reaches the client, which goes on sending."""
    heard: list[bytes] = []
    done = threading.Event()

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(SWITCH + b"that is all")
        connection.pipe.half_close()
        heard.append(connection.read_rest())
        done.set()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", *UPGRADE))
    assert client.read_response().status == 101
    assert client.read_rest() == b"that is all"
    client.send(b"and this from me")
    client.pipe.half_close()
    assert done.wait(PATIENCE_S)
    assert heard == [b"and this from me"]


@pytest.mark.parametrize("reset", [False, True])
def test_the_end_of_an_upgraded_connection_is_seen(stack: Stack, reset: bool) -> None:
    """A client that leaves an upgraded connection is seen by the service, and the other way round."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(SWITCH)
        if connection.read(4) == b"die!":
            connection.pipe.reset() if reset else connection.pipe.close()
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", *UPGRADE))
    assert client.read_response().status == 101
    client.send(b"live")
    if reset:
        client.pipe.reset()
    else:
        client.close()
    assert stack.service.wait_connection().gone.wait(PATIENCE_S)
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", *UPGRADE))
    assert client.read_response().status == 101
    client.send(b"die!")
    with pytest.raises(Ended):
        client.read(1)


def test_idle_upgrades_beside_requests(stack: Stack) -> None:
    """Fifty idle upgraded connections keep nobody else waiting, and each still works afterwards."""

    def script(connection: Connection) -> None:
        request = connection.request_head()
        if request.get("upgrade") is None:
            connection.send(answer(b"small"))
            connection.linger()
            return
        connection.send(SWITCH)
        while True:
            connection.send(connection.read(1, 3600))

    stack.service.script = script
    clients = [stack.connect() for _ in range(50)]
    for client in clients:
        client.send(stack.head("GET / HTTP/1.1", *UPGRADE))
    for client in clients:
        assert client.read_response().status == 101
    assert stack.request().body == b"small"
    for client in clients:
        client.send(b"!")
    for client in clients:
        assert client.read(1) == b"!"

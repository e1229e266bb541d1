"""Bodies that stream: every chunk at once, both ways, and what happens when one end goes away.

No test here asserts a time. Each sender waits until its last piece was received before it sends the next, so a proxy
that held a piece back would stop for ever; how long a piece takes is measured by the soak run.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading

import pytest

from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.service import Connection, answer, chunk
from tests.system.stack import Stack
from tests.system.wire import Broken, Request

PIECES = [b"first", b"s", b"e", b"third piece" * 20, b"\x00", b"x" * 5000]
MEGABYTE = os.urandom(1 << 20)


@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
def test_every_piece_of_a_response_comes_before_the_next_is_sent(stack: Stack, framing: str) -> None:
    """Each piece reaches the client while the service still waits with the next, single bytes too."""
    arrived = [threading.Event() for _ in PIECES]
    size = sum(len(piece) for piece in PIECES)
    header = {
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "length": b"Content-Length: %d\r\n" % size,
        "until close": b"",
    }[framing]

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n" + header + b"\r\n")
        for piece, event in zip(PIECES, arrived, strict=True):
            connection.send(chunk(piece) if framing == "chunked" else piece)
            assert event.wait(PATIENCE_S)
        if framing == "chunked":
            connection.send(chunk(b""))
        if framing != "until close":
            connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head())
    assert client.response_head().status == 200
    for piece, event in zip(PIECES, arrived, strict=True):
        assert client.body_bytes(len(piece)) == piece
        event.set()
    assert client.body_piece() == b""


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_every_piece_of_a_request_comes_before_the_next_is_sent(stack: Stack, framing: str) -> None:
    """Each piece of an upload reaches the service while the client still waits with the next."""
    arrived = [threading.Event() for _ in PIECES]

    def script(connection: Connection) -> None:
        connection.request_head()
        for piece, event in zip(PIECES, arrived, strict=True):
            assert connection.body_bytes(len(piece)) == piece
            event.set()
        assert connection.body_piece() == b""
        connection.send(answer(b"all"))
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    size = sum(len(piece) for piece in PIECES)
    client.send(
        stack.head(
            "POST / HTTP/1.1", "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {size}"
        )
    )
    for piece, event in zip(PIECES, arrived, strict=True):
        client.send(chunk(piece) if framing == "chunked" else piece)
        assert event.wait(PATIENCE_S)
    if framing == "chunked":
        client.send(chunk(b""))
    assert client.read_response().body == b"all"


def test_both_directions_at_once(stack: Stack) -> None:
    """A response may begin before its request has ended: each piece is echoed before the next is sent."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := connection.body_piece():
            connection.send(chunk(piece))
        connection.send(chunk(b""))
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
    assert client.response_head().status == 200
    for piece in PIECES:
        client.send(chunk(piece))
        assert client.body_bytes(len(piece)) == piece
    client.send(chunk(b""))
    assert client.body_piece() == b""


def test_a_whole_answer_before_the_request_has_ended(stack: Stack) -> None:
    """A service may answer at once and in full: the client has it all while its upload is still going on."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(answer(MEGABYTE, status=403, reason="Forbidden"))
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Content-Length: 1000000") + b"begin")
    response = client.read_response()
    assert (response.status, response.body == MEGABYTE) == (403, True)


def test_an_answer_and_a_close_in_the_middle_of_an_upload(stack: Stack) -> None:
    """A service that answers and closes while the client uploads: the client gets the whole answer.

    It may then find its connection closed, but never its answer lost to a reset (lingering close).
    """

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.body_piece()
        connection.send(answer(b"no more, thank you", status=413, reason="Enough"))
        connection.pipe.half_close()
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Content-Length: 50000000"))
    stop = threading.Event()

    def upload() -> None:
        try:
            for _ in range(50):
                if stop.is_set():
                    return
                client.send(bytes(1_000_000))
        except (Ended, TimeoutError):
            pass

    sender = threading.Thread(target=upload, daemon=True)
    sender.start()
    response = client.read_response()
    assert (response.status, response.body) == (413, b"no more, thank you")
    stop.set()
    client.close()
    sender.join(PATIENCE_S)


def test_server_sent_events(stack: Stack) -> None:
    """Each event is there before the next is sent, and the stream's end ends the response."""
    seen = [threading.Event() for _ in range(5)]

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number, event in enumerate(seen):
            connection.send(chunk(b"id: %d\ndata: tick\n\n" % number))
            assert event.wait(PATIENCE_S)
        connection.send(chunk(b""))
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET /events HTTP/1.1", "Accept: text/event-stream"))
    response = client.response_head()
    assert response.get("content-type") == b"text/event-stream"
    for number, event in enumerate(seen):
        message = b"id: %d\ndata: tick\n\n" % number
        assert client.body_bytes(len(message)) == message
        event.set()
    assert client.body() == b""


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_large_bodies_arrive_unchanged(stack: Stack, framing: str) -> None:
    """Twenty-four megabytes each way keep their hash."""
    count = 24
    wanted = hashlib.sha256(MEGABYTE * count).hexdigest()

    def script(connection: Connection) -> None:
        connection.request_head()
        digest = hashlib.sha256()
        while piece := connection.body_piece():
            digest.update(piece)
        assert digest.hexdigest() == wanted
        if framing == "chunked":
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(MEGABYTE) * count))
        for _ in range(count):
            connection.send(chunk(MEGABYTE) if framing == "chunked" else MEGABYTE)
        if framing == "chunked":
            connection.send(chunk(b""))
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    chunked = framing == "chunked"
    size = len(MEGABYTE) * count
    client.send(stack.head("POST / HTTP/1.1", "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"))
    for _ in range(count):
        client.send(chunk(MEGABYTE) if chunked else MEGABYTE)
    if chunked:
        client.send(chunk(b""))
    assert client.response_head().status == 200
    digest = hashlib.sha256()
    while piece := client.body_piece():
        digest.update(piece)
    assert digest.hexdigest() == wanted


def test_small_requests_beside_readers_that_do_not_read(stack: Stack) -> None:
    """Four downloads stand still because nobody reads; small requests on the same tunnel are answered meanwhile."""
    size = 16 << 20

    def script(connection: Connection) -> None:
        while connection.read_request().target != b"/big":
            connection.send(answer(b"small"))
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(16):
            connection.send(MEGABYTE, 600)
        connection.linger()

    stack.service.script = script
    slow = [stack.connect(receive_buffer=16384) for _ in range(4)]
    for client in slow:
        client.send(stack.head("GET /big HTTP/1.1"))
        assert client.response_head().status == 200
    for _ in range(20):
        assert stack.request("GET /small HTTP/1.1").body == b"small"
    assert hashlib.sha256(slow[0].body()).hexdigest() == hashlib.sha256(MEGABYTE * 16).hexdigest()


def test_small_requests_beside_a_service_that_does_not_read(stack: Stack) -> None:
    """An upload that the service does not take is held back at the client; small requests are answered meanwhile."""
    go_on = threading.Event()
    size = 64 << 20

    def script(connection: Connection) -> None:
        while connection.request_head(3600).method != b"POST":
            connection.send(answer(b"small"))
        assert go_on.wait(PATIENCE_S)
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", f"Content-Length: {size}"))
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < size:
            client.send(MEGABYTE, 1.0)
            sent += len(MEGABYTE)
    # Part of the piece that timed out was taken, so this connection is of no more use; what counts is that it stood.
    for _ in range(20):
        assert stack.request("GET /small HTTP/1.1").body == b"small"
    client.close()
    go_on.set()


def test_two_hundred_calls_on_one_tunnel(stack: Stack) -> None:
    """Two hundred concurrent calls with random delays: each client gets its own answer, none is lost or mixed up.

    The first hundred wait at the service until the second hundred were answered, so the answers are out of order
    for certain; all of it goes over one tunnel, because the endpoint has one registration.
    """
    count = 200
    rng = random.Random(200)
    delays = [rng.random() * 0.3 for _ in range(count)]
    pause = threading.Event()
    second_half_done = threading.Event()

    def handler(request: Request) -> bytes:
        number = int(request.target[1:])
        if number < count // 2:
            assert second_half_done.wait(PATIENCE_S)
        pause.wait(delays[number])
        return answer(b"answer %d " % number + request.body)

    stack.service.handler = handler
    assert stack.registrations()[stack.endpoint] == 1
    clients = [stack.connect() for _ in range(count)]
    for number, client in enumerate(clients):
        body = b"question %d" % number
        client.send(stack.head(f"POST /{number} HTTP/1.1", f"Content-Length: {len(body)}") + body)
    finished: list[int] = []
    for number in [*range(count // 2, count), *range(count // 2)]:
        response = clients[number].read_response()
        assert (response.status, response.body) == (200, b"answer %d question %d" % (number, number))
        finished.append(number)
        if len(finished) == count // 2:
            second_half_done.set()
    assert len(stack.service.requests) == count


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("when", ["before the answer", "in the answer", "in the upload"])
def test_a_client_that_leaves_is_seen_by_the_service(stack: Stack, when: str, reset: bool) -> None:
    """The service's connection ends when the client goes, whatever the call is doing."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.body_bytes(5)
        begun.set()
        if when == "in the answer":
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"begin"))
        connection.linger()

    begun = threading.Event()
    stack.service.script = script
    client = stack.connect()
    size = 10 if when == "in the upload" else 5
    client.send(stack.head("POST / HTTP/1.1", f"Content-Length: {size}") + b"12345")
    if when == "in the answer":
        client.response_head()
        assert client.body_bytes(5) == b"begin"
    assert begun.wait(PATIENCE_S)
    connection = stack.service.wait_connection()
    if reset:
        client.pipe.reset()
    else:
        client.close()
    assert connection.gone.wait(PATIENCE_S)
    # What was cut short must not look like a whole request.
    if when == "in the upload":
        assert bytes(connection.received).endswith(b"12345")


def test_a_client_that_leaves_a_flood_is_seen_by_the_service(stack: Stack) -> None:
    """A service that sends without end stops when the client is gone."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.send(chunk(MEGABYTE))

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head())
    client.response_head()
    assert client.body_piece()
    client.close()
    assert stack.service.wait_connection().gone.wait(PATIENCE_S)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_service_that_dies_in_its_answer(stack: Stack, framing: str, reset: bool) -> None:
    """The client's transfer is broken too, as curl says with 18 or 56: never a short success."""

    def script(connection: Connection) -> None:
        connection.read_request()
        header = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: 1000"
        connection.send(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n")
        connection.send(chunk(b"half of it") if framing == "chunked" else b"half of it")
        # Only when the first part has arrived does the service die: a reset could overtake it otherwise.
        assert arrived.wait(PATIENCE_S)
        if reset:
            connection.pipe.reset()

    arrived = threading.Event()
    stack.service.script = script
    client = stack.connect()
    client.send(stack.head())
    assert client.response_head().status == 200
    assert client.body_bytes(10) == b"half of it"
    arrived.set()
    with pytest.raises(Broken):
        while client.body_piece():
            pass
    got = stack.curl_endpoint()
    # Nobody waits this time, so a reset may come before the agent has read a byte: then it is an honest 502.
    assert got.code in (18, 56) or (reset and got.status == 502), got
    assert got.status == 502 or len(got.body) <= 10


def test_a_body_until_close_that_ends_in_a_reset(stack: Stack) -> None:
    """A reset is no end: where only the connection's end ends the body, the client's transfer is broken too."""
    arrived = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        assert arrived.wait(PATIENCE_S)
        connection.pipe.reset()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head())
    assert client.response_head().status == 200
    assert client.body_bytes(10) == b"half of it"
    arrived.set()
    with pytest.raises(Broken):
        client.body_piece()


def test_a_client_that_cuts_its_upload(stack: Stack) -> None:
    """A chunked upload cut off without its last chunk never looks whole to the service."""

    def script(connection: Connection) -> None:
        connection.request_head()
        with pytest.raises(Broken):
            connection.body()
        connection.gone.set()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + chunk(b"some"))
    connection = stack.service.wait_connection()
    client.close()
    assert connection.gone.wait(PATIENCE_S)
    assert stack.service.requests == []

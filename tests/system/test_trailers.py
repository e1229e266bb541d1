"""Trailers, end to end: from a client's chunks to the service, and from the service's to a client that takes them."""

from __future__ import annotations

import pytest

from tests.peers import frames, v2
from tests.peers.frames import HTTP, MORE, RESPONSE, TRAILERS
from tests.system.service import Connection, answer, chunk
from tests.system.shapes import ENDS, NODES
from tests.system.stack import Stack
from tests.system.wire import Fields, Request, Stream

CHUNKED = "Transfer-Encoding: chunked"
TAKES = ("TE: trailers", "Connection: TE")
OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"

FORBIDDEN = [
    b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close", b"Upgrade: x", b"TE: trailers",
    b"Trailer: Host", b"Keep-Alive: 1", b"Host: other", b"x-pico-endpoint: other", b"x-pico-error: n1; x", b"X-Hop: 1",
    b"X-Forwarded-For: 10.0.0.1", b"X_Forwarded_For: 10.0.0.1", b"Forwarded: for=10.0.0.1", b"X-Real-IP: 10.0.0.1",
    b"CDN-Loop: pico", b"Via: 1.1 pico-n1", b"x-request-id: mine", b"Authorization: Basic eDp5", b"Cookie: admin=1",
    b"Set-Cookie: admin=1", b"Location: http://evil.example/", b"Content-Type: text/html", b"Content_Length: 5",
    b"Cache-Control: public", b"Expect: 100-continue", b"Range: bytes=0-", b"If-None-Match: *", b"Remote-User: root",
    b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /admin", b"Access-Control-Allow-Origin: *",
]  # fmt: skip


def lines(*fields: bytes) -> bytes:
    """The end of a body in chunks, with these trailers."""
    return b"0\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def send_chunked(stack: Stack, client: Stream, body: bytes, *trailers: bytes, extra: tuple[str, ...] = ()) -> None:
    """A request in chunks."""
    client.send(stack.head("POST /upload HTTP/1.1", CHUNKED, *extra) + chunk(body) + lines(*trailers))


def answering(*trailers: bytes, body: bytes = b"body", extra: bytes = b"") -> bytes:
    """A response in chunks."""
    return OK + extra + b"\r\n" + chunk(body) + lines(*trailers)


def test_of_a_request(stack: Stack) -> None:
    """The service gets them behind the same body, is told which may come, and both connections go on."""
    client = stack.connect()
    for number in (1, 2):
        send_chunked(stack, client, b"x" * 5000, b"X-T: 1", b"Digest:  d ", b"X-T: 2", extra=("Trailer: X-T, Digest",))
        assert client.read_response().status == 200
        request = stack.service.wait_request(number - 1)
        assert request.body == b"x" * 5000 and request.chunked and request.get("trailer") == b"X-T, Digest"
        assert request.trailers == [(b"x-t", b"1"), (b"digest", b"d"), (b"x-t", b"2")]


def test_of_a_response(stack: Stack) -> None:
    """A client that takes them gets them; one that says nothing, or HTTP/1.0, gets the same body without."""
    stack.service.handler = lambda request: answering(b"X-T: 1", b"ETag: e", extra=b"Trailer: X-T, Host\r\n")
    client = stack.connect()
    for takes in (True, False, True):
        client.send(stack.head("GET / HTTP/1.1", *(TAKES if takes else ())))
        response = client.read_response()
        assert (response.body, response.chunked) == (b"body", True)
        assert response.trailers == ([(b"x-t", b"1"), (b"etag", b"e")] if takes else [])
        assert response.get("trailer") == (b"X-T" if takes else None)
    response = stack.request("GET / HTTP/1.0", *TAKES)
    assert (response.body, response.trailers, response.get("trailer")) == (b"body", [], None)
    told = [(request.get("te"), request.get("connection")) for request in stack.service.requests]
    assert told == [(b"trailers", b"TE"), (None, None), (b"trailers", b"TE"), (None, None)]


def test_curl_shows_them(stack: Stack) -> None:
    """curl gets them when it asks, as it would from the service itself."""
    stack.service.handler = lambda request: answering(b"X-T: 1")
    got = stack.curl_endpoint("/", "--http1.1", "-H", "TE: trailers")
    assert (got.code, got.body, got.headers.get("x-t")) == (0, b"body", "1"), got.errors
    got = stack.curl_endpoint("/", "--http1.1")
    assert (got.code, got.body, got.headers.get("x-t")) == (0, b"body", None), got.errors


@NODES
def test_what_may_not_be_in_them(stack: Stack) -> None:
    """Nothing that frames, routes or tells who somebody is goes on, either way: one of them, or all at once."""
    client = stack.connect()
    hop = ("Connection: X-Hop",)
    stack.service.handler = lambda request: answering(
        *FORBIDDEN, b"X-T: 1", extra=b"Connection: X-Hop\r\nTrailer: Host, Set-Cookie\r\n"
    )
    for field in FORBIDDEN:
        send_chunked(stack, client, b"hello", field, b"X-T: 1", extra=hop)
        assert client.read_response().status == 200
    send_chunked(stack, client, b"hello", *FORBIDDEN, b"X-T: 1", extra=(*hop, *TAKES))
    response = client.read_response()
    assert response.trailers == [(b"x-t", b"1")] and response.get("trailer") is None
    requests = stack.service.requests
    assert len(requests) == len(FORBIDDEN) + 1
    for request in requests:
        assert (request.target, request.body, request.trailers) == (b"/upload", b"hello", [(b"x-t", b"1")])
    stack.still_serves()


@NODES
@pytest.mark.parametrize(
    "trailers",
    [
        b"0\r\nContent-Length: 60\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_behind_them_is_the_next_request(stack: Stack, trailers: bytes) -> None:
    """Whatever a trailer says of the length, the client's next request begins behind it, for client and service."""
    stack.service.handler = lambda request: answer(request.target)
    client = stack.connect()
    second = stack.head("GET /second HTTP/1.1")
    client.send(stack.head("POST /first HTTP/1.1", CHUNKED) + chunk(b"hello") + trailers + second)
    assert [client.read_response().body for _ in range(2)] == [b"/first", b"/second"]
    assert [(request.target, request.trailers) for request in stack.service.requests] == [
        (b"/first", []),
        (b"/second", []),
    ]


@NODES
def test_a_request_in_the_trailers(stack: Stack) -> None:
    """Lines that are no fields are no trailers: the client is refused, and nothing of it reaches the service whole."""
    for evil in (b"GET /evil HTTP/1.1", b"X-T: 1\nHost: b", b"X-T : 1", b" X: folded", b"X-T: \x00"):
        client = stack.connect()
        send_chunked(stack, client, b"hello", evil)
        assert client.read_response().status == 400
    assert stack.service.requests == []
    stack.still_serves()


@NODES
def test_how_large_they_may_be(stack: Stack) -> None:
    """Up to 8 KiB arrive; what is more is dropped whole; over the limit of heads the message is refused."""
    client = stack.connect()
    for size, arrives in ((8 * 1024 - len(b"x: \r\n"), True), (8 * 1024, False), (20_000, False)):
        block = b"X: " + b"y" * size
        stack.service.handler = lambda request, block=block: answering(block)  # type: ignore[misc]
        send_chunked(stack, client, b"hello", block, extra=TAKES)
        response = client.read_response()
        expected: Fields = [(b"x", b"y" * size)] if arrives else []
        assert (response.body, response.trailers) == (b"body", expected)
        request = stack.service.requests[-1]
        assert (request.body, request.trailers) == (b"hello", expected)
    send_chunked(stack, client, b"hello", b"X: " + b"y" * 40_000)
    assert client.read_response().status == 400
    client = stack.connect()
    send_chunked(stack, client, b"hello", *[b"X: y"] * 200)
    assert client.read_response().status == 400


@NODES
def test_behind_large_bodies(stack: Stack) -> None:
    """They come behind the last byte of a body of many windows, however slowly that is read, and none is lost."""
    body, last = bytes(1 << 20), b"Digest: " + b"d" * 8000

    def handler(request: Request) -> bytes:
        return OK + b"\r\n" + chunk(request.body) + lines(last)

    stack.service.handler = handler
    client = stack.connect(receive_buffer=16 * 1024)
    client.send(stack.head("POST / HTTP/1.1", CHUNKED, *TAKES))
    for start in range(0, len(body), 100_000):
        client.send(chunk(body[start : start + 100_000]))
    client.send(lines(last))
    response = client.read_response()
    assert response.body == body and response.trailers == [(b"digest", b"d" * 8000)]
    request = stack.service.wait_request()
    assert request.body == body and request.trailers == [(b"digest", b"d" * 8000)]


@NODES
def test_while_the_response_is_on_its_way(stack: Stack) -> None:
    """Both streams may end with them in any order: an answer that has ended does not keep back the request's."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(answering(b"X-Early: 1"))
        assert connection.body() == b"hello"
        assert connection.trailers == [(b"x-late", b"1")]
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", CHUNKED, *TAKES))
    response = client.read_response()
    assert response.trailers == [(b"x-early", b"1")]


@NODES
def test_a_request_that_is_made_again(stack: Stack) -> None:
    """The trailers of a body that is sent to another agent are sent again with it, a POST's too if nothing was done."""
    one, endpoint = stack.v2_agent(agent_id="one", capabilities="trailers")
    other, _ = stack.v2_agent(endpoint, agent_id="other", capabilities="trailers")
    stack.wait_endpoint(endpoint, 2)
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", CHUNKED, endpoint=endpoint) + chunk(b"hello") + lines(b"X-T: 1"))
    first, second = (one, other) if stack_called(one, other) is one else (other, one)
    call = first.next_call().call
    assert first.wait_stream(call, response=False).endswith(b"\r\n\r\nhello")
    assert first.trailers(call, response=False) == b"x-t: 1\r\n"
    first.reset(call, "refused draining", response=True)
    call = second.next_call().call
    assert second.wait_stream(call, response=False).endswith(b"\r\n\r\nhello")
    assert second.trailers(call, response=False) == b"x-t: 1\r\n"
    second.answer_call(call, answer(b"ok"))
    assert client.read_response().body == b"ok"


def stack_called(one: v2.Peer, other: v2.Peer) -> v2.Peer:
    """Which of two agents got the call."""
    while True:
        for peer in (one, other):
            if peer.opened():
                return peer


@NODES
def test_what_an_agent_did_not_list(stack: Stack) -> None:
    """It gets no trailers, and does not hear that the client takes some; with version 1 there are none either."""
    agent, endpoint = stack.v2_agent()
    client = stack.connect()
    head = stack.head("POST / HTTP/1.1", CHUNKED, *TAKES, endpoint=endpoint)
    client.send(head + chunk(b"hello") + lines(b"X-T: 1"))
    call = agent.next_call().call
    sent = agent.wait_stream(call, response=False)
    assert sent.endswith(b"\r\n\r\nhello") and b"\r\nTE:" not in sent
    assert not agent.trailers(call, response=False)
    agent.answer_call(call, answer(b"ok"))
    assert client.read_response().body == b"ok"
    seen: list[bytes] = []

    def serve(request: bytes) -> bytes:
        seen.append(request)
        return answering(b"X-T: 1")

    _, endpoint = stack.v1_agent(serve)
    head = stack.head("POST / HTTP/1.1", CHUNKED, *TAKES, endpoint=endpoint)
    client.send(head + chunk(b"hello") + lines(b"X-T: 1"))
    response = client.read_response()
    assert (response.body, response.trailers) == (b"body", [])
    assert seen[0].endswith(b"\r\n\r\nhello") and b"\r\nTE:" not in seen[0] and b"x-t" not in seen[0].lower()


@NODES
@pytest.mark.parametrize(
    ("flags", "block"),
    [
        (TRAILERS | MORE, b"x: 1\r\n"),
        (TRAILERS, b""),
        (TRAILERS, b"X: 1\r\n"),
        (TRAILERS, b"x: 1"),
        (TRAILERS, b"x: 1\r\nGET / HTTP/1.1\r\n"),
        (TRAILERS, b"x: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        (TRAILERS, b"x: 1\r\n" * 101),
        (TRAILERS, b"x: " + b"y" * 9000 + b"\r\n"),
    ],
)
def test_an_agent_that_sends_nonsense(stack: Stack, flags: int, block: bytes) -> None:
    """Its call is reset with `protocol`, and its session goes on: before the head that is a 502, behind it a cut."""
    agent, endpoint = stack.v2_agent(capabilities="trailers")
    for begun in (False, True):
        client = stack.connect()
        client.send(stack.head("POST / HTTP/1.1", *TAKES, endpoint=endpoint))
        call = agent.next_call().call
        if begun:
            agent.answer_call(call, b"HTTP/1.1 200 OK\r\n\r\nbody", end=False)
            client.response_head()
            assert client.body_bytes(4) == b"body"
        agent.send(HTTP, call, RESPONSE | flags, block)
        assert agent.wait_reset(call) == "protocol"
        if begun:
            assert not client.read_rest().endswith(b"0\r\n\r\n")
        else:
            assert client.read_response().status == 502
    agent.alive()


@ENDS
def test_what_an_agent_may_not_say(stack: Stack) -> None:
    """Its trailers are judged once more before a client gets them, for it may be anybody's."""
    agent, endpoint = stack.v2_agent(capabilities="trailers")
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", *TAKES, endpoint=endpoint))
    call = agent.next_call().call
    assert b"\r\nTE: trailers\r\n" in agent.wait_stream(call, response=False)
    agent.answer_call(call, b"HTTP/1.1 200 OK\r\n\r\nbody", end=False)
    agent.send_trailers(call, b"set-cookie: a=1\r\nx-t: 1\r\ncontent-length: 7\r\n", response=True)
    response = client.read_response()
    assert (response.body, response.trailers) == (b"body", [(b"x-t", b"1")])
    for length in (b"Content-Length: 4\r\n", b"Content-Length: 5\r\n"):
        client = stack.connect()
        client.send(stack.head("GET / HTTP/1.1", *TAKES, endpoint=endpoint))
        call = agent.next_call().call
        agent.answer_call(call, b"HTTP/1.1 200 OK\r\n" + length + b"\r\nbody", end=False)
        agent.send_trailers(call, b"x-t: 1\r\n", response=True)
        client.response_head()
        assert client.body_bytes(4) == b"body"
        if length.endswith(b"5\r\n"):
            assert client.ended(), "it is cut: a byte is missing"
    agent.alive()


def test_flags_of_the_page() -> None:
    """The peers of the tests know the flag as the protocol's page has it."""
    assert frames.TRAILERS == 0x0400

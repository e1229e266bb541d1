"""Traps of HTTP parsers: each row's bytes go to the real proxy port, and what counts is what the service received.

Nothing, or exactly one well-formed request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.service import Service, chunk
from tests.system.shapes import whole_in_plain
from tests.system.stack import Stack
from tests.system.wire import Broken, Request, parse_requests

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n"
FENCE = b"/fence"

NOTHING, ONE, CUT = "nothing", "one", "cut"


@dataclass(frozen=True)
class Trap:
    """Bytes for the proxy port.

    Attributes:
        data: {E} stands for `x-pico-endpoint: <the endpoint>` and its line's end.
        statuses: one of them answers; empty when there may be no answer.
        closes: is the connection closed after a success too? After an error it always is.
        reaches: NOTHING; ONE request; or CUT, at most the beginning of one, never whole.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...] = (400,)
    reaches: str = NOTHING
    closes: bool = False


def get(field: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A GET with one more line in its head, and a smuggled request behind it."""
    return line + b"\r\nHost: a.example\r\n{E}" + field + b"\r\n\r\n" + SMUGGLED


def post(field: bytes, body: bytes = b"") -> bytes:
    """A POST with one more line in its head; what follows could be taken for a second request."""
    return b"POST / HTTP/1.1\r\nHost: a.example\r\n{E}" + field + b"\r\n\r\n" + body + SMUGGLED


def upgrade(framing: bytes, body: bytes) -> bytes:
    """An offer to upgrade, which the service declines, with a body."""
    return b"POST / HTTP/1.1\r\nHost: a\r\n{E}Connection: Upgrade\r\nUpgrade: raw\r\n" + framing + b"\r\n\r\n" + body


def line(request_line: bytes) -> bytes:
    """A head with another request line."""
    return request_line + b"\r\nHost: a.example\r\n{E}\r\n" + SMUGGLED


REQUESTS = [
    # Upgrade with a body, which must not be parsed as a request.
    Trap(
        "upgrade with a length",
        upgrade(b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
        (200,),
        ONE,
    ),
    Trap(
        "upgrade with chunks",
        upgrade(b"Transfer-Encoding: chunked", chunk(SMUGGLED) + chunk(b"")),
        (200,),
        ONE,
    ),
    Trap(
        "upgrade with many chunks",
        upgrade(b"Transfer-Encoding: chunked", chunk(SMUGGLED) * 2000 + chunk(b"")),
        (200,),
        ONE,
    ),
    Trap("upgrade with two lengths", upgrade(b"Content-Length: 3\r\nContent-Length: 47", SMUGGLED)),
    Trap("upgrade with a length and chunks", upgrade(b"Content-Length: 3\r\nTransfer-Encoding: chunked", SMUGGLED)),
    Trap(
        "h2c with a length",
        b"POST / HTTP/1.1\r\nHost: a.example\r\n{E}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        (200,),
        ONE,
    ),
    Trap(
        "h2c with chunks",
        b"POST / HTTP/1.1\r\nHost: a.example\r\n{E}Connection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(SMUGGLED) + chunk(b""),
        (200,),
        ONE,
    ),
    Trap("connect", line(b"CONNECT a.example:443 HTTP/1.1"), (501,)),
    Trap(
        "connect with a body",
        line(b"CONNECT a.example:443 HTTP/1.1").replace(b"{E}", b"Content-Length: 3\r\n{E}"),
        (501,),
    ),
    # Transfer codings and lengths.
    Trap("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked", chunk(b""))),
    Trap("chunked, gzip", post(b"Transfer-Encoding: chunked, gzip", chunk(b""))),
    Trap("chunked twice", post(b"Transfer-Encoding: chunked, chunked", chunk(b""))),
    Trap("chunked in two lines", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", chunk(b""))),
    Trap("identity", post(b"Transfer-Encoding: identity")),
    Trap("identity and chunked", post(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", chunk(b""))),
    Trap("xchunked", post(b"Transfer-Encoding: xchunked", chunk(b""))),
    Trap("chunked with a parameter", post(b"Transfer-Encoding: chunked;a=b", chunk(b""))),
    Trap("chunked in quotes", post(b'Transfer-Encoding: "chunked"', chunk(b""))),
    Trap("an empty coding", post(b"Transfer-Encoding:", chunk(b""))),
    Trap("vertical tab before chunked", post(b"Transfer-Encoding: \x0bchunked", chunk(b""))),
    Trap(
        "chunked on 1.0",
        post(b"Transfer-Encoding: chunked", chunk(b"")).replace(b"/1.1\r\nHost: a", b"/1.0\r\nHost: a", 1),
    ),
    Trap("length and chunked", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", chunk(b""))),
    Trap("chunked and length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", chunk(b""))),
    Trap("the same length twice", post(b"Content-Length: 3\r\nContent-Length: 3", b"abc")),
    Trap("two lengths", post(b"Content-Length: 3\r\nContent-Length: 50", b"abc")),
    Trap("a list of lengths", post(b"Content-Length: 3, 3", b"abc")),
    Trap("a plus", post(b"Content-Length: +3", b"abc")),
    Trap("a minus", post(b"Content-Length: -3", b"abc")),
    Trap("hexadecimal", post(b"Content-Length: 0x3", b"abc")),
    Trap("a fraction", post(b"Content-Length: 3.0", b"abc")),
    Trap("an empty length", post(b"Content-Length:", b"")),
    Trap("a space in the length", post(b"Content-Length: 3 0", b"abc")),
    Trap("an underscore", post(b"Content-Length: 1_0", b"abc")),
    Trap("a length beyond 64 bits", post(b"Content-Length: 99999999999999999999999", b"abc")),
    # Host.
    Trap("no host", b"GET / HTTP/1.1\r\n{E}\r\n" + SMUGGLED),
    Trap("host twice", get(b"Host: a.example")),
    Trap("another host", get(b"Host: b.example")),
    Trap("two hosts in one", b"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n{E}\r\n" + SMUGGLED),
    Trap("host with a space", b"GET / HTTP/1.1\r\nHost: a example\r\n{E}\r\n" + SMUGGLED),
    Trap("host with a path", b"GET / HTTP/1.1\r\nHost: a.example/x\r\n{E}\r\n" + SMUGGLED),
    Trap("host with a user", b"GET / HTTP/1.1\r\nHost: u@a.example\r\n{E}\r\n" + SMUGGLED),
    Trap("host with a bad port", b"GET / HTTP/1.1\r\nHost: a.example:8x\r\n{E}\r\n" + SMUGGLED),
    Trap("half a bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n{E}\r\n" + SMUGGLED),
    Trap("no host on 1.0 either", b"GET / HTTP/1.0\r\nHost: a.example\r\nHost: b.example\r\n{E}\r\n" + SMUGGLED),
    Trap("the endpoint twice", get(b"X-Pico-Endpoint: other")),
    # Versions.
    Trap("no version", b"GET /\r\nHost: a.example\r\n{E}\r\n" + SMUGGLED, (400, 505)),
    Trap("http/0.9", line(b"GET / HTTP/0.9"), (505,)),
    Trap("http/2.0", line(b"GET / HTTP/2.0"), (505,)),
    Trap("http/2", line(b"GET / HTTP/2"), (400, 505)),
    Trap("http/1.10", line(b"GET / HTTP/1.10"), (400, 505)),
    Trap("http/01.1", line(b"GET / HTTP/01.1"), (400, 505)),
    Trap("lower case http", line(b"GET / http/1.1"), (400, 505)),
    Trap("icy", line(b"GET / ICY/1.1"), (400, 505)),
    # Request lines.
    Trap("a fragment", line(b"GET /a#b HTTP/1.1")),
    Trap("two spaces", line(b"GET  / HTTP/1.1")),
    Trap("two spaces before the version", line(b"GET /  HTTP/1.1")),
    Trap("a space behind the version", line(b"GET / HTTP/1.1 ")),
    Trap("a tab", line(b"GET\t/\tHTTP/1.1")),
    Trap("a space in the target", line(b"GET /a b HTTP/1.1")),
    Trap("a space in front", line(b" GET / HTTP/1.1")),
    Trap("a relative target", line(b"GET a/b HTTP/1.1")),
    Trap("a query alone", line(b"GET ?x=1 HTTP/1.1")),
    Trap("an asterisk for GET", line(b"GET * HTTP/1.1")),
    Trap("an authority for GET", line(b"GET a.example:80 HTTP/1.1")),
    Trap("another scheme", line(b"GET ftp://a.example/ HTTP/1.1")),
    Trap("absolute with a user", line(b"GET http://u:p@a.example/ HTTP/1.1")),
    Trap("absolute without authority", line(b"GET http:///x HTTP/1.1")),
    Trap("a high byte in the authority", line(b"GET http://\xff/ HTTP/1.1")),
    Trap("a high byte behind the target", line(b"GET / \xff HTTP/1.1")),
    Trap("a control byte in the target", line(b"GET /\x01 HTTP/1.1")),
    Trap("delete in the target", line(b"GET /\x7f HTTP/1.1")),
    Trap("NUL in the target", line(b"GET /\x00 HTTP/1.1")),
    Trap("head in lower case", line(b"head / HTTP/1.1"), (501,)),
    Trap("connect in lower case", line(b"connect a.example:443 HTTP/1.1"), (501,)),
    Trap("a method with a colon", line(b"GE:T / HTTP/1.1")),
    Trap("a high byte in the method", line(b"G\xc9T / HTTP/1.1")),
    # Field lines.
    Trap("obs-fold", get(b"X-A: b\r\n c")),
    Trap("obs-fold with a tab", get(b"X-A: b\r\n\tc")),
    Trap("obs-fold at the start", b"GET / HTTP/1.1\r\n X: y\r\nHost: a.example\r\n{E}\r\n" + SMUGGLED),
    Trap("bare CR", get(b"X-A: b\rX-B: c")),
    Trap("bare CR at the end", get(b"X-A: b\r")),
    Trap("bare LF", get(b"X-A: b\nX-B: c")),
    Trap("only LF", b"GET / HTTP/1.1\nHost: a.example\n{E}\n" + SMUGGLED),
    Trap("LF LF", get(b"X-A: b\n\nGET /smuggled HTTP/1.1\r\nHost: x")),
    Trap("NUL", get(b"X-A: b\x00c")),
    Trap("0x01", get(b"X-A: b\x01c")),
    Trap("0x1f", get(b"X-A: b\x1fc")),
    Trap("0x7f", get(b"X-A: b\x7fc")),
    Trap("a high byte in a name", get(b"X-\xe9: b")),
    Trap("a space before the colon", get(b"X-A : b")),
    Trap("a space before Content-Length's colon", post(b"Content-Length : 3", b"abc")),
    Trap("a tab before the colon", get(b"X-A\t: b")),
    Trap("a space in a name", get(b"X A: b")),
    Trap("no name", get(b": b")),
    Trap("no colon", get(b"X-A")),
    Trap("brackets in a name", get(b"X(A): b")),
    # Expectations that services read in different ways.
    Trap("another expectation", post(b"Expect: 200-ok\r\nContent-Length: 3", b"abc"), (417,)),
    Trap("a word before the expectation", post(b"Expect: y 100-continue\r\nContent-Length: 3", b"abc"), (417,)),
    Trap("two expectations", post(b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 3"), (417,)),
    Trap("an expectation of nothing", post(b"Expect:\r\nContent-Length: 3", b"abc"), (417,)),
    # Limits.
    Trap("a long head", get(b"X-A: " + b"a" * 40_000), (431,)),
    Trap("a long name", get(b"a" * 40_000 + b": x"), (431,)),
    Trap("101 fields", get(b"\r\n".join([b"X-A: b"] * 101)), (431,)),
    Trap("a long target", line(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), (414,)),
    Trap("a target beyond the head", line(b"GET /" + b"a" * 50_000 + b" HTTP/1.1"), (414, 431)),
    Trap("a head that never ends", b"GET / HTTP/1.1\r\nHost: a.example\r\n{E}" + b"X-A: b\r\n" * 9000, (431,)),
    # Chunks. Their faults show when the request is on its way: it may have begun at the service, and must not be whole.
    Trap("no chunk size", post(b"Transfer-Encoding: chunked", b"\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("a bad chunk size", post(b"Transfer-Encoding: chunked", b"xyz\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("a signed chunk size", post(b"Transfer-Encoding: chunked", b"+3\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("a negative chunk size", post(b"Transfer-Encoding: chunked", b"-1\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("0x", post(b"Transfer-Encoding: chunked", b"0x3\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("a space before the size", post(b"Transfer-Encoding: chunked", b" 3\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap(
        "a huge chunk size", post(b"Transfer-Encoding: chunked", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), (400,), CUT
    ),
    Trap("LF behind the size", post(b"Transfer-Encoding: chunked", b"3\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("a bare CR behind the size", post(b"Transfer-Encoding: chunked", b"3\r\rabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap("a chunk longer than its size", post(b"Transfer-Encoding: chunked", b"3\r\nabcde\r\n0\r\n\r\n"), (400,), CUT),
    Trap("LF behind a chunk", post(b"Transfer-Encoding: chunked", b"3\r\nabc\n0\r\n\r\n"), (400,), CUT),
    Trap(
        "a control byte in an extension",
        post(b"Transfer-Encoding: chunked", b"3;a=\x01\r\nabc\r\n0\r\n\r\n"),
        (400,),
        CUT,
    ),
    Trap("LF in an extension", post(b"Transfer-Encoding: chunked", b"3;a\nb\r\nabc\r\n0\r\n\r\n"), (400,), CUT),
    Trap(
        "a flood of extensions",
        post(b"Transfer-Encoding: chunked", b"1;" + b"a" * 1_000_000 + b"\r\nx\r\n0\r\n\r\n"),
        (400, 431),
        CUT,
    ),
    Trap(
        "a flood of small extensions",
        post(b"Transfer-Encoding: chunked", (b"1;" + b"a" * 50 + b"\r\nx\r\n") * 20_000 + b"0\r\n\r\n"),
        (400, 431),
        CUT,
    ),
    Trap(
        "a flood of trailers",
        post(b"Transfer-Encoding: chunked", chunk(b"x") + b"0\r\n" + b"X-T: y\r\n" * 10_000 + b"\r\n"),
        (400, 431),
        CUT,
    ),
    Trap(
        "a long trailer",
        post(b"Transfer-Encoding: chunked", b"0\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"),
        (400, 431),
        CUT,
    ),
    Trap("a bad trailer", post(b"Transfer-Encoding: chunked", b"0\r\nX : y\r\n\r\n"), (400,), CUT),
    Trap("a folded trailer", post(b"Transfer-Encoding: chunked", b"0\r\nX: y\r\n z\r\n\r\n"), (400,), CUT),
    # And what is to be served, to show that the above is no accident.
    Trap(
        "trailers",
        b"POST / HTTP/1.1\r\nHost: a\r\n{E}Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: y\r\n\r\n",
        (200,),
        ONE,
    ),
    Trap(
        "chunked in capitals",
        b"POST / HTTP/1.1\r\nHost: a\r\n{E}Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        (200,),
        ONE,
    ),
    Trap("empty lines in front", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n{E}\r\n", (200,), ONE),
    Trap("no space behind the colon", b"GET / HTTP/1.1\r\nHost:a\r\n{E}X-A:b\r\n\r\n", (200,), ONE),
    Trap("an empty value", b"GET / HTTP/1.1\r\nHost: a\r\n{E}X-A:\r\nX-B: \t \r\n\r\n", (200,), ONE),
    Trap("bytes behind Connection: close", get(b"Connection: close"), (200,), ONE, closes=True),
    Trap(
        "bytes behind a body and Connection: close",
        post(b"Connection: close\r\nContent-Length: 3", b"abc"),
        (200,),
        ONE,
        closes=True,
    ),
    Trap("bytes behind an HTTP/1.0 request", line(b"GET / HTTP/1.0"), (200,), ONE, closes=True),
]


def recorded(service: Service) -> tuple[list[Request], list[bytes]]:
    """The whole requests that the service received, and beginnings of requests that were cut."""
    whole: list[Request] = []
    cut: list[bytes] = []
    for connection in list(service.connections):
        data = bytes(connection.received)
        try:
            whole += parse_requests(data)
        except Broken:
            cut.append(data)
    return whole, cut


IN_ALL_SHAPES = (
    "upgrade with a length",
    "h2c with chunks",
    "length and chunked",
    "another expectation",
    "host twice",
    "only LF",
    "a long head",
    "a head that never ends",
    "a bad chunk size",
    "a chunk longer than its size",
    "a flood of small extensions",
    "a flood of trailers",
    "bytes behind a body and Connection: close",
    "bytes behind an HTTP/1.0 request",
)


@whole_in_plain("trap", REQUESTS, IN_ALL_SHAPES, name=lambda trap: trap.name)
def test_requests(stack: Stack, trap: Trap) -> None:
    """The client gets the status, its connection is closed after an error, and the service sees what it should."""
    client = stack.connect()
    data = trap.data.replace(b"{E}", b"x-pico-endpoint: %b\r\n" % stack.endpoint.encode())
    try:
        client.send(data)
    except Ended:
        pass  # closed before all of it was sent; the answer is there all the same
    response = client.read_response()
    assert response.status in trap.statuses, response
    if response.status != 200:
        assert response.get("x-pico-error") is not None
        assert isinstance(json.loads(response.body)["error"], str)
        assert response.get("connection") == b"close"
        assert client.ended()
    elif trap.closes:
        assert client.ended()
    # A fence: when this request has reached the service, everything before it has.
    assert stack.request("GET /fence HTTP/1.1").status == 200
    stack.service.wait_request(1 if trap.reaches == ONE else 0)
    for connection in list(stack.service.connections):
        if trap.reaches == CUT and b" /fence " not in connection.received:
            assert connection.gone.wait(PATIENCE_S)
    whole, cut = recorded(stack.service)
    targets = [request.target for request in whole]
    if trap.reaches == NOTHING:
        assert (targets, cut) == ([FENCE], [])
    elif trap.reaches == ONE:
        assert (targets[1:], cut) == ([FENCE], [])
        assert b"/smuggled" not in targets
    else:
        assert targets == [FENCE]
        assert len(cut) <= 1
        assert all(b"smuggled" not in data for data in cut)


def test_a_good_request_before_a_bad_one(stack: Stack) -> None:
    """Pipelined: the good one is answered first, then the bad one, then the connection is closed."""
    client = stack.connect()
    client.send(stack.head("GET /good HTTP/1.1") + stack.head("GET /bad HTTP/1.1", "Host: twice") + SMUGGLED)
    assert client.read_response().status == 200
    assert client.read_response().status == 400
    assert client.ended()
    assert [request.target for request in stack.service.requests] == [b"/good"]


def test_upgrade_with_a_body_in_single_bytes(stack: Stack) -> None:
    """The smuggling attempt byte by byte: where the reads are cut makes no difference to what is a body."""
    client = stack.connect()
    head = stack.head(
        "POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", f"Content-Length: {len(SMUGGLED)}"
    )
    for byte in head + SMUGGLED:
        client.send(bytes([byte]))
    assert client.read_response().status == 200
    (request,) = stack.service.requests
    assert (request.method, request.body) == (b"POST", SMUGGLED)

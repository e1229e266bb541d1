"""Traps that a service lays: whatever it sends, a client receives exactly one well-formed response, or a broken one."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import pytest

from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.service import Connection, answer
from tests.system.shapes import whole_in_plain
from tests.system.stack import Stack
from tests.system.wire import Broken

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """Bytes of a service.

    Attributes:
        outcome: "error": a 502 of ours; "broken": a transfer cut short, or a 502; a bytes value: a 200 with that body.
        method: of the request that it answers.
    """

    name: str
    data: bytes
    outcome: str | bytes = "error"
    method: str = "GET"


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def reply(field: bytes, body: bytes = b"ok", status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response with one more line in its head, and a second response behind it."""
    return status + b"\r\n" + field + b"\r\n\r\n" + body + EVIL


def coded(body: bytes) -> bytes:
    """A chunked response."""
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


RESPONSES = [
    Reply("length and chunked", reply(b"Content-Length: 2\r\nTransfer-Encoding: chunked")),
    Reply("chunked and length", reply(b"Transfer-Encoding: chunked\r\nContent-Length: 2")),
    Reply("the same length twice", reply(b"Content-Length: 2\r\nContent-Length: 2")),
    Reply("two lengths", reply(b"Content-Length: 2\r\nContent-Length: 3")),
    Reply("a list of lengths", reply(b"Content-Length: 2, 2")),
    Reply("a plus", reply(b"Content-Length: +2")),
    Reply("a minus", reply(b"Content-Length: -2")),
    Reply("a huge length", reply(b"Content-Length: 99999999999999999999999")),
    Reply("gzip, chunked", reply(b"Transfer-Encoding: gzip, chunked")),
    Reply("chunked twice", reply(b"Transfer-Encoding: chunked, chunked")),
    Reply("chunked in two lines", reply(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    Reply("xchunked", reply(b"Transfer-Encoding: xchunked")),
    Reply("identity", reply(b"Transfer-Encoding: identity")),
    Reply("chunked on 1.0", reply(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK")),
    Reply("obs-fold", reply(b"Content-Length: 2\r\nX-A: b\r\n c")),
    Reply("bare CR", reply(b"Content-Length: 2\r\nX-A: b\rSet-Cookie: evil=1")),
    Reply("bare LF", reply(b"Content-Length: 2\r\nX-A: b\nSet-Cookie: evil=1")),
    Reply("only LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    Reply("NUL", reply(b"Content-Length: 2\r\nX-A: b\x00c")),
    Reply("0x01 in a value", reply(b"Content-Length: 2\r\nX-A: b\x01c")),
    Reply("0x7f in a value", reply(b"Content-Length: 2\r\nX-A: b\x7fc")),
    Reply("a space before the colon", reply(b"Content-Length : 2")),
    Reply("no colon", reply(b"Content-Length: 2\r\nX-A")),
    Reply("a high byte in a name", reply(b"Content-Length: 2\r\nX-\xe9: b")),
    Reply("0x01 in the reason", reply(b"Content-Length: 2", status=b"HTTP/1.1 200 O\x01K")),
    Reply("CR in the reason", reply(b"Content-Length: 2", status=b"HTTP/1.1 200 O\rK")),
    Reply("status 099", reply(b"Content-Length: 2", status=b"HTTP/1.1 099 What")),
    Reply("status 000", reply(b"Content-Length: 2", status=b"HTTP/1.1 000 What")),
    Reply("status 600", reply(b"Content-Length: 2", status=b"HTTP/1.1 600 What")),
    Reply("status 999", reply(b"Content-Length: 2", status=b"HTTP/1.1 999 What")),
    Reply("two digits", reply(b"Content-Length: 2", status=b"HTTP/1.1 20 What")),
    Reply("four digits", reply(b"Content-Length: 2", status=b"HTTP/1.1 2000 What")),
    Reply("a status with a sign", reply(b"Content-Length: 2", status=b"HTTP/1.1 +20 What")),
    Reply("http/2.0", reply(b"Content-Length: 2", status=b"HTTP/2.0 200 OK")),
    Reply("http/0.0", reply(b"Content-Length: 2", status=b"HTTP/0.0 200 OK")),
    Reply("http/0.9", reply(b"Content-Length: 2", status=b"HTTP/0.9 200 OK")),
    Reply("no version", reply(b"Content-Length: 2", status=b"HTTP/ 200 OK")),
    Reply("icy", reply(b"Content-Length: 2", status=b"ICY 200 OK")),
    Reply("garbage", b"hello, this is no HTTP\r\n\r\n"),
    Reply("garbage without end", b"a" * 100_000),
    Reply("nothing", b""),
    Reply("a request", SMUGGLED),
    Reply("a long head", reply(b"Content-Length: 2\r\nX-A: " + b"a" * 40_000)),
    Reply("101 fields", reply(b"Content-Length: 2\r\n" + b"\r\n".join([b"X-A: b"] * 101))),
    Reply("a head that never ends", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 9000),
    Reply("an unasked 101", reply(b"Connection: Upgrade\r\nUpgrade: raw", status=b"HTTP/1.1 101 Switching")),
    Reply("1xx and then garbage", b"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 999 What\r\n\r\n"),
    # Behind its head a response can only be cut.
    Reply("a bad chunk size", coded(b"5\r\nhello\r\nxyz\r\n"), "broken"),
    Reply("a signed chunk size", coded(b"+5\r\nhello\r\n0\r\n\r\n"), "broken"),
    Reply("a chunk longer than its size", coded(b"3\r\nhello\r\n0\r\n\r\n"), "broken"),
    Reply("LF behind the size", coded(b"5\nhello\r\n0\r\n\r\n"), "broken"),
    Reply("a flood of extensions", coded(b"5;" + b"a" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n"), "broken"),
    Reply("a flood of trailers", coded(b"5\r\nhello\r\n0\r\n" + b"X-T: y\r\n" * 10_000 + b"\r\n"), "broken"),
    Reply("a bad trailer", coded(b"5\r\nhello\r\n0\r\nX : y\r\n\r\n"), "broken"),
    Reply("no last chunk", coded(b"5\r\nhello\r\n"), "broken"),
    Reply("half a length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "broken"),
    # What must pass; and what is left over must not answer anybody's next request.
    Reply("bytes behind a length", reply(b"Content-Length: 2"), b"ok"),
    Reply("bytes behind the last chunk", coded(b"2\r\nok\r\n0\r\n\r\n" + EVIL), b"ok"),
    Reply("trailers", coded(b"2\r\nok\r\n0\r\nX-T: y\r\n\r\n"), b"ok"),
    Reply("a chunk extension", coded(b'2;a="b"\r\nok\r\n0;c\r\n\r\n'), b"ok"),
    Reply("high bytes in a value", reply(b"Content-Length: 2\r\nX-A: caf\xe9"), b"ok"),
    Reply("high bytes in the reason", reply(b"Content-Length: 2", status=b"HTTP/1.1 200 \xe9t\xe9"), b"ok"),
    Reply("seventeen 1xx", b"HTTP/1.1 103 Hint\r\n\r\n" * 17 + answer(b"ok"), b"ok"),
    Reply("a thousand 1xx", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000 + answer(b"ok"), b"ok"),
    Reply("chunk sizes with blanks", coded(b"2  \r\nok\r\n0 \r\n\r\n"), b"ok"),
    Reply("no reason", reply(b"Content-Length: 2", status=b"HTTP/1.1 200 "), b"ok"),
    Reply("no reason and no space", reply(b"Content-Length: 2", status=b"HTTP/1.1 200"), b"ok"),
    Reply("http/1.0 with a length", reply(b"Content-Length: 2", status=b"HTTP/1.0 200 OK"), b"ok"),
    Reply("a body behind HEAD", reply(b"Content-Length: 2"), b"", "HEAD"),
    Reply("chunks behind HEAD", coded(b"2\r\nok\r\n0\r\n\r\n"), b"", "HEAD"),
]


IN_ALL_SHAPES = (
    "length and chunked",
    "bare LF",
    "garbage without end",
    "nothing",
    "a long head",
    "an unasked 101",
    "seventeen 1xx",
    "1xx and then garbage",
    "a bad chunk size",
    "a flood of trailers",
    "half a length",
    "bytes behind a length",
    "chunks behind HEAD",
)


@whole_in_plain("case", RESPONSES, IN_ALL_SHAPES, name=lambda case: case.name)
def test_responses(stack: Stack, case: Reply) -> None:
    """The client gets one well-formed answer or a broken one, and nobody's next request is answered by the rest."""

    def script(connection: Connection) -> None:
        while True:
            request = connection.read_request()
            if request.target == b"/trap":
                connection.send(case.data)
                connection.pipe.half_close()
                connection.linger()
                return
            connection.send(answer(b"after"))

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head(f"{case.method} /trap HTTP/1.1"))
    if case.outcome == "broken":
        with pytest.raises((Broken, Ended)):
            response = client.read_response(case.method)
            assert response.status == 502
            raise Broken("an error is as good")
    else:
        response = client.read_response(case.method)
        if case.outcome == "error":
            assert response.status == 502
            assert (response.get("x-pico-error") or b"").startswith(b"node-1; ")
            assert json.loads(response.body)["error"]
        else:
            assert (response.status, response.body) == (200, case.outcome)
    # On the same connection, if it is still open, and on another one.
    try:
        client.send(stack.head("GET /after HTTP/1.1"))
        assert client.read_response().body == b"after"
    except Ended:
        pass
    for _ in range(3):
        assert stack.request("GET /after HTTP/1.1").body == b"after"
    assert b"evil" not in client.received
    stack.still_serves()


def test_a_204_with_a_body(stack: Stack) -> None:
    """Bytes behind a 204 or 304 belong to nobody: not passed on, and the service's connection is not used again."""
    for status in (b"204 No Content", b"304 Not Modified"):

        def script(connection: Connection, status: bytes = status) -> None:
            while connection.read_request().target != b"/trap":
                connection.send(answer(b"after"))
            connection.send(b"HTTP/1.1 %b\r\n\r\n" % status + EVIL)
            connection.linger()

        stack.service.reset()
        stack.service.script = script
        client = stack.connect()
        client.send(stack.head("GET /trap HTTP/1.1"))
        assert client.read_response().status in (204, 304)
        client.send(stack.head("GET /after HTTP/1.1"))
        assert client.read_response().body == b"after"
        assert b"evil" not in client.received


def test_a_second_answer_that_comes_later(stack: Stack) -> None:
    """A service that sends a second response while its connection is idle: it answers nobody."""

    sent = threading.Event()

    def script(connection: Connection) -> None:
        while connection.read_request().target != b"/trap":
            connection.send(answer(b"after"))
        connection.send(answer(b"first"))
        connection.send(EVIL)
        sent.set()
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET /trap HTTP/1.1"))
    assert client.read_response().body == b"first"
    assert sent.wait(PATIENCE_S)
    for _ in range(5):
        client.send(stack.head("GET /after HTTP/1.1"))
        assert client.read_response().body == b"after"
    assert b"evil" not in client.received

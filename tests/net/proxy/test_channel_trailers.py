"""Trailers of proxy clients: those of their requests, and those that they get."""

from __future__ import annotations

from typing import Any

import pytest

from pico_twisted.core.rpc.capabilities import TRAILERS
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK2
from tests.net.proxy.proxy_client import CHUNKED, GET, Client

ASKS = GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
HEAD = b"HTTP/1.1 200 OK\r\nTrailer: X-T, Host\r\n\r\n"


def client(data: bytes, **limits: Any) -> Client:
    """A client of a node whose agent takes trailers."""
    tunnel = FakeTunnel()
    tunnel.capabilities = frozenset((TRAILERS,))
    return Client(data, tunnel=tunnel, **limits)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_of_a_request(size: int) -> None:
    """They go to the agent behind the body, in however many pieces they come; what may not be in them is dropped."""
    data = CHUNKED + b"5\r\nhello\r\n0\r\nX-T:  1 \r\nHost: evil\r\nContent-Length: 9\r\nx-pico-endpoint: other\r\n\r\n"
    made = client(b"")
    for at in range(0, len(data), size):
        made.send(data[at : at + size])
    assert made.call.trailers == b"x-t: 1\r\n" and made.call.sent.endswith(b"\r\n\r\nhello") and made.call.send_ended
    made.respond(OK2 + b"hi")
    made.send(GET)
    assert made.call.send_ended and not made.call.trailers and len(made.tunnel.opened) == 2


def test_that_are_all_dropped() -> None:
    """A request of which no trailers are left just ends."""
    made = client(CHUNKED + b"5\r\nhello\r\n0\r\nHost: evil\r\nX-Forwarded-For: 1\r\n\r\n")
    assert made.call.send_ended and not made.call.trailers


def test_that_connection_names() -> None:
    """Trailers end at the hop for which they are, like fields."""
    made = client(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: x-hop\r\n\r\n") + b"0\r\nX-Hop: 1\r\nX-T: 2\r\n\r\n")
    assert made.call.trailers == b"x-t: 2\r\n"


@pytest.mark.parametrize("gathers", [False, True])
def test_for_a_client_that_takes_them(gathers: bool) -> None:
    """Whoever says so gets them behind chunks, is told which may come, and goes on with the connection."""
    made = client(ASKS, gathers=gathers)
    assert made.call.first.count(b"\r\nTE: trailers\r\n") == 1 and b"Connection" not in made.call.first
    made.respond(HEAD, True)
    made.respond(b"hi", True)
    made.call.respond_with_trailers(b"x-t: 1\r\nset-cookie: evil\r\nx-u: \r\n")
    made.clock.advance(0)
    _, fields, body = made.answer()
    assert fields["transfer-encoding"] == "chunked" and fields["trailer"] == "X-T"
    assert body == b"2\r\nhi\r\n0\r\nx-t: 1\r\nx-u: \r\n\r\n"
    made.send(GET)
    assert len(made.tunnel.opened) == 2 and not made.transport.disconnecting


@pytest.mark.parametrize(
    "request_",
    [GET, ASKS.replace(b"TE: trailers", b"TE: gzip"), ASKS.replace(b"HTTP/1.1", b"HTTP/1.0")],
    ids=["silent", "others", "1.0"],
)
def test_for_a_client_that_does_not(request_: bytes) -> None:
    """It gets the body without them, and hears of none."""
    made = client(request_)
    assert b"TE:" not in made.call.first
    made.respond(HEAD, True)
    made.respond(b"hi", True)
    made.call.respond_with_trailers(b"x-t: 1\r\n")
    _, fields, body = made.answer()
    assert "trailer" not in fields and body in (b"hi", b"2\r\nhi\r\n0\r\n\r\n") and b"x-t" not in body


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 204 No Content\r\n\r\n"],
)
def test_where_they_have_no_place(head: bytes) -> None:
    """A body with a length, or none, leaves no place for trailers: the response is as it would be without."""
    made = client(ASKS)
    made.respond(head.replace(b"\r\n\r\n", b"\r\nTrailer: X-T\r\n\r\n", 1), True)
    made.call.respond_with_trailers(b"x-t: 1\r\n")
    _, fields, body = made.answer()
    assert not {"trailer", "transfer-encoding"} & set(fields) and body in (b"", b"hi")


def test_of_an_error_of_the_agent() -> None:
    """The answer is ours then, and has none."""
    made = client(ASKS)
    made.respond(b"HTTP/1.1 503 X\r\nx-pico-error: a; busy\r\n\r\n", True)
    made.call.respond_with_trailers(b"x-t: 1\r\n")
    status, fields, body = made.answer()
    assert status == 503 and "content-length" in fields and b"x-t" not in body

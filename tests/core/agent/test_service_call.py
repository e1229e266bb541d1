"""A call as its service sees it, without a connection: what is written to the service, what goes to the caller."""

from __future__ import annotations

import pytest

from pico_twisted.core.agent.service_call import (
    COMING,
    ENDED,
    EXPECTING,
    KEPT_BYTES,
    UPGRADING,
    Body,
    ServiceRequest,
    ServiceResponse,
)
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.http import CallProtocolError, RequestStream


def begun(head: bytes, body: bytes = b"", *, more: bool) -> tuple[ServiceRequest, bytes]:
    """A request, and what its first frame made for the service."""
    request = ServiceRequest(RequestStream(HeadLimits()))
    payload = head + b"\r\nHost: web\r\n\r\n" + body
    return request, request.begin(payload, more, host=None)


def asked(request: ServiceRequest | None = None, *, upgrade: bool = False) -> tuple[ServiceResponse, ClientConnection]:
    """A response that is awaited, and the connection on which it comes."""
    http = ClientConnection(HeadLimits())
    http.expect(b"GET", upgrade=upgrade)
    return ServiceResponse(request or ServiceRequest(RequestStream(HeadLimits()))), http


@pytest.mark.parametrize(
    ("head", "more", "body"),
    [
        (b"GET / HTTP/1.1", False, ENDED),
        (b"PUT / HTTP/1.1", True, COMING),
        (b"PUT / HTTP/1.1\r\nExpect: 100-continue", True, EXPECTING),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo", True, UPGRADING),
    ],
)
def test_who_has_the_next_say(head: bytes, more: bool, body: Body) -> None:
    """By the head of the request, and by whether more of it follows."""
    request, _ = begun(head, more=more)
    assert request.body is body
    request.feed(b"", True)
    assert request.body is (COMING if body is EXPECTING else body)
    request.feed(b"", False)
    assert request.body is ENDED


def test_a_body_is_framed_as_its_length_is_known() -> None:
    """As it is behind a length, else in chunks, of which only the end makes the last one."""
    request, data = begun(b"POST / HTTP/1.1\r\nContent-Length: 4", b"ab", more=True)
    assert data.endswith(b"\r\n\r\nab") and request.feed(b"cd", False) == b"cd"
    request, data = begun(b"POST / HTTP/1.1", b"ab", more=True)
    assert data.endswith(b"\r\n\r\n2\r\nab\r\n")
    assert [request.feed(b"", True), request.feed(b"c", True), request.feed(b"", False)] == [
        b"",
        b"1\r\nc\r\n",
        b"0\r\n\r\n",
    ]
    assert request.body_bytes == 3


def test_what_may_be_sent_again_is_kept() -> None:
    """All that was written, of idempotent requests, while it is not too much."""
    request, data = begun(b"PUT / HTTP/1.1", b"ab", more=True)
    more = request.feed(b"cd", True)
    assert request.replay == data + more
    request.feed(b"x" * KEPT_BYTES, True)
    assert request.replay is None
    assert begun(b"POST / HTTP/1.1", more=True)[0].replay is None


def test_a_broken_stream_is_an_error() -> None:
    """Neither a head that is none nor a body of another length reaches the service."""
    with pytest.raises(Http1Error):
        begun(b"GET / HTTP/9.1", more=False)
    request, _ = begun(b"POST / HTTP/1.1\r\nContent-Length: 1", more=True)
    with pytest.raises(CallProtocolError):
        request.feed(b"ab", False)


def test_a_small_response_is_one_payload() -> None:
    """Head and body, without transfer coding."""
    response, http = asked()
    http.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert response.read(http) == b"HTTP/1.1 200 OK\r\n\r\nok"
    assert response.ended and response.body_bytes == 2


def test_a_response_comes_in_pieces() -> None:
    """Each as it is there; at the end of the connection the last one may be empty."""
    response, http = asked()
    http.receive(b"HTTP/1.1 200 OK\r\n")
    assert response.read(http) is None and response.head is None
    http.receive(b"\r\n")
    assert response.read(http) is not None and not response.ended
    http.receive(b"body")
    assert response.read(http) == b"body"
    assert response.read(http) is None
    http.receive_eof()
    assert response.read(http) == b"" and response.ended


def test_interim_heads_come_one_by_one_and_a_100_sets_the_request_going() -> None:
    """A client that waits for the 100 may send its body then."""
    request, _ = begun(b"PUT / HTTP/1.1\r\nExpect: 100-continue", more=True)
    response, http = asked(request)
    http.receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    read = [response.read(http) or b"" for _ in range(3)]
    assert [payload[9:12] for payload in read] == [b"100", b"103", b"204"]
    assert request.body is COMING and response.ended


def test_a_101_comes_with_what_is_behind_it() -> None:
    """Which is not read as HTTP."""
    response, http = asked(upgrade=True)
    http.receive(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nHTTP/9.9 raw")
    payload = response.read(http)
    assert payload is not None and payload.endswith(b"\r\n\r\nHTTP/9.9 raw")
    assert response.head is not None and response.head.status == 101 and response.body_bytes == 12


def test_a_response_that_is_cut_short_is_an_error() -> None:
    """At the end of the connection, and whenever it is asked for again."""
    response, http = asked()
    http.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
    response.read(http)
    http.receive_eof()
    for _ in range(2):
        with pytest.raises(Http1Error):
            response.read(http)

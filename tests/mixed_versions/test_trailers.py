"""Trailers where one part of the way does not know them: they are left out, and everything else arrives."""

from __future__ import annotations

from tests.system.service import answer, chunk
from tests.system.stack import Stack
from tests.system.test_trailers import CHUNKED, TAKES, answering, lines, send_chunked


def test_of_a_request(stack: Stack) -> None:
    """Its body is whole and no more, and the connections go on."""
    client = stack.connect()
    for number in (1, 2, 3):
        send_chunked(stack, client, b"hello", b"X-T: 1", b"Host: other", extra=("Trailer: X-T",))
        assert client.read_response().status == 200
        request = stack.service.wait_request(number - 1)
        assert (request.body, request.trailers, request.get("x-t")) == (b"hello", [], None)


def test_of_a_response(stack: Stack) -> None:
    """Its body is whole; the service does not hear that anybody takes trailers, nor the client of any."""
    stack.service.handler = lambda request: answering(b"X-T: 1", b"Content-Length: 9", extra=b"Trailer: X-T\r\n")
    client = stack.connect()
    for number in (1, 2, 3):
        client.send(stack.head("GET / HTTP/1.1", *TAKES))
        response = client.read_response()
        assert (response.body, response.trailers, response.get("x-t")) == (b"body", [], None)
        request = stack.service.wait_request(number - 1)
        assert (request.get("te"), request.get("connection")) == (None, None)


def test_behind_large_bodies(stack: Stack) -> None:
    """Nothing of a block is ever taken for a piece of the body."""
    body = bytes(range(256)) * 1000
    stack.service.handler = lambda request: answer(request.body)
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", CHUNKED, *TAKES) + chunk(body) + lines(b"Digest: " + b"d" * 8000))
    assert client.read_response().body == body
    stack.service.handler = lambda request: answering(b"Digest: " + b"d" * 8000, body=body)
    client.send(stack.head("GET / HTTP/1.1", *TAKES))
    response = client.read_response()
    assert (response.body == body, response.trailers) == (True, [])

"""A response in chunks: what one turn of the reactor brings is one chunk."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from tests.net.proxy.proxy_client import GET, Client

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture
def client() -> Client:
    """A client of a node that gathers, and whose request was answered with a head and three pieces of a body."""
    client = Client(GET, gathers=True)
    for payload in (HEAD, b"one", b"two", b"three"):
        client.call.respond(payload, True)
    return client


def body(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


def test_at_the_end_of_the_turn(client: Client) -> None:
    """A client gets about as many chunks as the service sent, and not one for each frame between."""
    assert client.taken() == b""
    client.clock.advance(0)
    data = client.taken()
    assert b"Transfer-Encoding: chunked" in data and body(data) == b"b\r\nonetwothree\r\n"
    client.respond(b"four", False)
    assert client.taken() == b"4\r\nfour\r\n0\r\n\r\n"


def test_with_the_end_of_the_response(client: Client) -> None:
    """The last piece goes with those before it, and the next response is another one."""
    client.respond(b"!", False)
    assert body(client.taken()) == b"c\r\nonetwothree!\r\n0\r\n\r\n"
    client.send(GET)
    client.respond(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nok"))
    assert body(client.taken()) == b"ok"


def test_a_response_that_is_cut(client: Client) -> None:
    """The client gets what came of it, and no last chunk."""
    client.call.refuse(frames.FAILED)
    client.clock.advance(0)
    assert body(client.taken()) == b"b\r\nonetwothree\r\n"


def test_a_client_that_leaves(client: Client) -> None:
    """Nothing is written to a connection that is gone."""
    client.transport.receive_reset()
    client.clock.advance(0)
    assert client.taken() == b""

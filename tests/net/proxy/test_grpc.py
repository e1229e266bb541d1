"""Clients of gRPC at the proxy port: what the node itself answers them, and how long it waits for a service."""

from __future__ import annotations

import pytest
from h2.events import TrailersReceived

from pico_twisted.core.rpc.capabilities import TRAILERS
from tests.doubles.node import PROXY_KEYS
from tests.doubles.tunnel import FakeTunnel
from tests.net.proxy.http2_client import Http2Client
from tests.net.proxy.proxy_client import Client

GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\n"


def asked(client: Http2Client, **more: object) -> int:
    """A call of gRPC."""
    return client.request(b"/s.S/M", *GRPC, method=b"POST", **more)  # type: ignore[arg-type]


def test_an_error_of_the_node() -> None:
    """A head that is all of it: HTTP's 200, gRPC's UNAVAILABLE, and words; the log says what others would get."""
    client = Http2Client()
    stream = asked(client, host=b"nobody.example")
    status, fields, body = client.answer(stream)
    assert (status, body, client.ended(stream)) == (200, b"", True)
    assert fields[b"content-type"] == b"application/grpc" and fields[b"grpc-status"] == b"14"
    assert fields[b"grpc-message"] == b"no available upstreams" and fields[b"x-pico-error"] == b"n1; no-upstreams"
    assert client.log[0]["status"] == 502 and client.log[0]["error"] == "no-upstreams"


@pytest.mark.parametrize(("status", "code"), [(429, b"8"), (401, b"16"), (403, b"7"), (503, b"14"), (504, b"4")])
def test_an_error_of_the_agent(status: int, code: bytes) -> None:
    """What an agent answers in its service's place is told in the same way."""
    client = Http2Client()
    stream = asked(client)
    words = b'{"error": "not now"}'
    client.respond(
        b"HTTP/1.1 %d X\r\nx-pico-error: agent-1; some-code\r\nContent-Length: %d\r\n\r\n" % (status, len(words))
        + words
    )
    told, fields, body = client.answer(stream)
    assert (told, body) == (200, b"") and fields[b"grpc-status"] == code and fields[b"grpc-message"] == b"not now"


def test_an_error_over_http1() -> None:
    """gRPC-Web comes over HTTP/1.1 as well: the status stands in the head."""
    client = Client(
        b"POST /s.S/M HTTP/1.1\r\nHost: nobody.example\r\nContent-Type: application/grpc-web+proto\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    status, fields, body = client.answer()
    assert (status, body) == (200, b"") and fields["content-type"] == "application/grpc-web+proto"
    assert fields["grpc-status"] == "14"


def test_a_response_that_is_cut_ends_as_unavailable() -> None:
    """When the agent is lost in the middle of a stream its client may come again."""
    client = Http2Client()
    stream = asked(client)
    client.respond(BEGUN + b"\0\0\0\0\1x", True)
    client.tunnel.lose()
    client.flush()
    (trailers,) = [dict(event.headers) for event in client.of(stream, TrailersReceived)]
    assert trailers[b"grpc-status"] == b"14" and client.body(stream) == b"\0\0\0\0\1x"
    assert client.ended(stream) and not client.resets(stream)


def test_a_cut_response_of_grpc_web_is_not_whole() -> None:
    """Its client finds the outcome in the body: it has to see that the body is not all of it."""
    client = Http2Client()
    stream = client.request(b"/s.S/M", (b"content-type", b"application/grpc-web+proto"), method=b"POST")
    client.respond(BEGUN + b"x", True)
    client.tunnel.lose()
    client.flush()
    assert client.resets(stream) == [2] and not client.ended(stream)


def test_a_client_that_still_sends_when_its_response_is_cut() -> None:
    """It hears the outcome, and that nothing more is wanted."""
    client = Http2Client()
    stream = asked(client, ended=False)
    client.respond(BEGUN, True)
    client.tunnel.lose()
    client.flush()
    assert client.ended(stream) and client.stopped(stream)
    other = asked(client)
    assert client.answer(other)[1][b"grpc-status"] == b"14"


def test_trailers_of_a_service() -> None:
    """The outcome that the service tells goes on as it is."""
    tunnel = FakeTunnel()
    tunnel.capabilities = frozenset((TRAILERS,))
    client = Http2Client(tunnel=tunnel)
    stream = asked(client)
    assert b"TE: trailers" in client.call.sent
    client.respond(BEGUN, True)
    client.call.receiver.trailers(b"grpc-status: 5\r\ngrpc-message: none\r\n")
    client.flush()
    (trailers,) = [event.headers for event in client.of(stream, TrailersReceived)]
    assert trailers == [(b"grpc-status", b"5"), (b"grpc-message", b"none")] and client.ended(stream)


def test_a_call_may_be_silent_for_as_long_as_any_stream() -> None:
    """Many services of gRPC send no head before their first message: the wait for it is that of a silent stream."""
    client = Http2Client()
    call, other = asked(client), client.request()
    client.pass_time(PROXY_KEYS["timeout"] + 2)
    assert client.answer(other)[0] == 504 and not client.ended(call)
    client.pass_time(PROXY_KEYS["idle_timeout"] - 4)
    assert client.answer(call)[1][b"grpc-status"] == b"4"

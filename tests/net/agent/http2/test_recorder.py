"""What the inspector keeps of calls whose service speaks HTTP/2."""

from __future__ import annotations

import pytest

from pico_twisted.core.inspect.shown import detail
from pico_twisted.net.agent.inspect import Inspector
from tests.net.agent.http2.h2_fakes import Http2Bench


@pytest.fixture
def inspector(h2bench: Http2Bench) -> Inspector:
    """That of the bench's agent."""
    found = h2bench.local.inspector = Inspector(h2bench.clock)
    return found


def test_a_call_of_grpc(h2bench: Http2Bench, inspector: Inspector) -> None:
    """Head, messages and trailers, both ways, while the stream goes on and behind it."""
    h2bench.tunnel.capabilities = (b"trailers",)
    request = h2bench.post(b"\0\0\0\0\x01a", b"Content-Type: application/grpc\r\nTE: trailers\r\n")
    (found,) = inspector.recordings
    assert found.method == "POST" and bytes(found.request_body.kept) == b"\0\0\0\0\x01a" and not found.request_ended
    request.send(b"\0\0\0\0\x01b", False)
    assert found.request_ended and found.request_body.count == 12
    fields = [(b"content-type", b"application/grpc")]
    h2bench.peer.answer(1, b"\0\0\0\0\x01c", fields, trailers=[(b"grpc-status", b"0")])
    assert found.over and found.shown_status == 200 and bytes(found.response_body.kept) == b"\0\0\0\0\x01c"
    told = detail(found)["response"]
    assert isinstance(told, dict) and told["trailers"] == [{"name": "grpc-status", "value": "0", "hidden": False}]
    assert h2bench.nothing_is_left()


def test_a_call_that_is_tried_again(h2bench: Http2Bench, inspector: Inspector) -> None:
    """A service that refuses a stream and takes the next one had one call, whose request is kept once."""
    request = h2bench.post(b"hello", b"Content-Length: 5\r\n", more=False)
    h2bench.peer.say(lambda connection: connection.reset_stream(1, 7))
    h2bench.peer.answer(3, b"ok")
    (found,) = inspector.recordings
    assert request.body == b"ok" and found.shown_status == 200 and bytes(found.request_body.kept) == b"hello"


def test_a_stream_that_breaks(h2bench: Http2Bench, inspector: Inspector) -> None:
    """What the service says in place of an answer is told by its name."""
    h2bench.get()
    h2bench.peer.say(lambda connection: connection.reset_stream(1, 2))
    (found,) = inspector.recordings
    assert found.shown_status == 502 and found.error == "service-failed" and "INTERNAL_ERROR" in found.trouble

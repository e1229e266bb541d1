"""A call of an agent as a stream of a service: requests, responses, trailers, WebSockets."""

from __future__ import annotations

import base64
import hashlib

import pytest
from h2.settings import SettingCodes

from pico_twisted.config import HeaderEditsConfig
from pico_twisted.core.http2.heads import WEBSOCKET_KEY
from tests.net.agent.agent_fakes import Request
from tests.net.agent.http2.h2_fakes import H2Peer, Http2Bench

CANCEL, NO_ERROR = 8, 0


def test_a_small_request_is_a_stream_and_its_answer_one_frame(h2bench: Http2Bench) -> None:
    """The service gets the request as HTTP/2 has it, without what is of hops or ours; a small answer is one frame."""
    request = h2bench.get(b"/a?b=c", b"X-Pico-Authorization: secret\r\nAccept: */*\r\nX-Request-Id: r1\r\n")
    peer = h2bench.peer
    assert peer.requests == {
        1: {
            b":method": b"GET",
            b":scheme": b"http",
            b":authority": b"web",
            b":path": b"/a?b=c",
            b"accept": b"*/*",
            b"x-request-id": b"r1",
        }
    }
    assert peer.ended(1)
    peer.answer(1, b"ok", [(b"x-a", b"b"), (b"x-pico-error", b"no"), (b"content-length", b"2")])
    assert len(request.frames) == 1
    assert request.head == b"HTTP/1.1 200 OK\r\nx-a: b\r\nContent-Length: 2"
    assert request.body == b"ok"
    assert h2bench.nothing_is_left() and peer.resets() == []


def test_calls_share_one_connection_and_are_answered_in_any_order(h2bench: Http2Bench) -> None:
    """Calls at the same time are streams of one connection; each answer goes to its own caller."""
    requests = [h2bench.ask() for _ in range(10)]
    peer = h2bench.peer
    for number in reversed(range(10)):
        peer.answer(1 + 2 * number, b"%d" % number)
        assert requests[number].body == b"%d" % number
    assert len(h2bench.service.transports) == 1 and h2bench.nothing_is_left()


def test_a_host_is_rewritten_and_edits_are_made(h2bench: Http2Bench) -> None:
    """What a listener changes in heads is changed for HTTP/2 as well, trailers included."""
    bench = Http2Bench(
        rewrite_host=True,
        request_headers=HeaderEditsConfig(set=("X-Set: s",), remove=("accept",)),
        response_headers=HeaderEditsConfig(set=("X-Frame-Options: DENY",), remove=("x-powered-by",)),
    )
    request = bench.ask(b"Accept: */*\r\nTE: trailers\r\n")
    peer = bench.peer
    asked = peer.requests[1]
    assert asked[b":authority"] == b"127.0.0.1:3000" and asked[b"x-set"] == b"s" and b"accept" not in asked
    peer.answer(1, b"ok", [(b"x-powered-by", b"x")], trailers=[(b"x-powered-by", b"y"), (b"a", b"b")])
    assert b"X-Frame-Options: DENY" in request.head and b"x-powered-by" not in request.head
    assert request.trailers == b"a: b\r\n"


def test_a_body_goes_as_it_comes_and_the_answer_may_begin_before_its_end(h2bench: Http2Bench) -> None:
    """Bytes pass both ways as they come, head first: so both streams of a bidirectional call of gRPC work."""
    request = h2bench.post(b"one", b"Content-Type: application/grpc\r\n")
    peer = h2bench.peer
    assert peer.body(1) == b"one" and not peer.ended(1)
    assert peer.requests[1][b"te"] == b"trailers"
    peer.answer(1, None, ends=False)
    assert request.status == 200 and not request.ended, "the head goes on before any DATA"
    for piece in (b"two", b"three"):
        request.send(piece)
        peer.pump()
        peer.say(lambda h2: h2.send_data(1, b"-" + piece))  # noqa: B023 - it is called at once
    assert peer.body(1) == b"onetwothree" and request.body == b"-two-three"
    request.send(b"", False)
    peer.pump()
    assert peer.ended(1)
    peer.say(lambda h2: h2.send_headers(1, [(b"grpc-status", b"0")], end_stream=True))
    assert request.trailers == b"grpc-status: 0\r\n" and request.ended
    assert h2bench.nothing_is_left()


def test_an_answer_of_trailers_only(h2bench: Http2Bench) -> None:
    """A head that ends the stream is a whole answer: the status of gRPC is in it."""
    request = h2bench.ask(b"TE: trailers\r\nContent-Type: application/grpc+proto\r\n", method=b"POST")
    h2bench.peer.answer(1, None, [(b"content-type", b"application/grpc"), (b"grpc-status", b"5")])
    assert len(request.frames) == 1 and request.ended and not request.trailers
    assert b"grpc-status: 5" in request.head and h2bench.nothing_is_left()


def test_trailers_of_requests_and_of_answers(h2bench: Http2Bench) -> None:
    """Trailers go both ways, but for what must not be there."""
    request = h2bench.post(b"body", b"TE: trailers\r\n")
    request.end_with(b"checksum: 1\r\nhost: evil\r\n")
    peer = h2bench.peer
    assert peer.body(1) == b"body" and peer.ended(1) and peer.trailers(1) == [(b"checksum", b"1")]
    peer.answer(1, b"ok", trailers=[(b"x-pico-error", b"no"), (b"digest", b"2"), (b"authorization", b"no")])
    assert request.body == b"ok" and request.trailers == b"digest: 2\r\n"
    assert h2bench.nothing_is_left()


def test_trailers_that_are_too_large_leave_the_status_of_grpc(h2bench: Http2Bench) -> None:
    """Without grpc-status a call has no outcome: so details that do not fit do not take it away."""
    request = h2bench.ask(b"TE: trailers\r\nContent-Type: application/grpc\r\n", method=b"POST")
    large = [(b"grpc-status", b"3"), (b"grpc-message", b"bad"), (b"grpc-status-details-bin", b"x" * 9000)]
    h2bench.peer.answer(1, b"ok", trailers=large)
    assert request.trailers == b"grpc-status: 3\r\ngrpc-message: bad\r\n"


def test_a_caller_without_trailers_gets_the_answer_without(h2bench: Http2Bench) -> None:
    """A node that does not know trailers gets a stream that ends without them, and the service hears no TE."""
    h2bench.tunnel.capabilities = frozenset()
    request = h2bench.ask(b"TE: trailers\r\n")
    peer = h2bench.peer
    assert b"te" not in peer.requests[1]
    peer.answer(1, b"ok", trailers=[(b"digest", b"2")])
    assert request.ended and request.body == b"ok" and not request.trailers


def test_a_listener_of_grpc_always_takes_trailers() -> None:
    """Some services of gRPC refuse a request without `te: trailers`, whatever hops have dropped."""
    bench = Http2Bench(protocol="grpc")
    bench.ask()
    assert bench.peer.requests[1][b"te"] == b"trailers"


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_answers_without_a_body(h2bench: Http2Bench, status: bytes) -> None:
    """A status that has no body, and an answer to HEAD whose length is not that of its body."""
    request = h2bench.ask()
    h2bench.peer.answer(1, None, status=status)
    assert request.status == int(status) and request.ended
    head = h2bench.ask(method=b"HEAD")
    h2bench.peer.answer(3, None, [(b"content-length", b"123")])
    assert b"Content-Length: 123" in head.head and head.ended
    assert h2bench.nothing_is_left()


def test_interim_heads_go_on(h2bench: Http2Bench) -> None:
    """A 100 sets a body going that waits for it; hints go on before the answer."""
    request = h2bench.post(b"", b"Content-Length: 3\r\nExpect: 100-continue\r\n")
    peer = h2bench.peer
    assert peer.requests[1][b"expect"] == b"100-continue"
    peer.say(lambda h2: h2.send_headers(1, [(b":status", b"100")]))
    assert request.frames == [(b"HTTP/1.1 100 \r\n\r\n", True)]
    request.send(b"abc", False)
    peer.say(lambda h2: h2.send_headers(1, [(b":status", b"103"), (b"link", b"</a>")]))
    assert request.frames[1] == (b"HTTP/1.1 103 \r\nlink: </a>\r\n\r\n", True)
    peer.answer(1)
    assert request.frames[2][0].startswith(b"HTTP/1.1 200 OK\r\n") and request.ended
    assert peer.body(1) == b"abc"


def test_a_service_that_says_no_100_does_not_hold_the_body_up(h2bench: Http2Bench) -> None:
    """nginx says none over HTTP/2: a client that waits for it is told to go on by the agent, once, after a moment.
    From then on it is the client's turn, however long it takes."""
    request = h2bench.post(b"", b"Content-Length: 3\r\nExpect: 100-continue\r\n")
    peer = h2bench.peer
    assert not request.frames
    h2bench.pass_time(1.0)
    assert request.frames == [(b"HTTP/1.1 100 Continue\r\n\r\n", True)]
    for _ in range(60):
        h2bench.pass_time(10.0)
        peer.pump()
    assert len(request.frames) == 1 and not request.reset_code
    request.send(b"abc", False)
    peer.answer(1)
    assert peer.body(1) == b"abc" and request.ended and h2bench.nothing_is_left()


def test_a_service_that_wants_no_body_says_so_in_time(h2bench: Http2Bench) -> None:
    """A final answer in place of a 100: nothing is said in the service's name, and the body stays where it is."""
    request = h2bench.post(b"", b"Content-Length: 3\r\nExpect: 100-continue\r\n")
    h2bench.peer.answer(1, b"no", status=b"413")
    h2bench.pass_time(10.0)
    assert request.status == 413 and request.reset_code == "stop" and h2bench.nothing_is_left()


def test_an_answer_before_the_end_of_the_request_stops_it(h2bench: Http2Bench) -> None:
    """When the response is complete the rest of the request is of no use: the service and the caller are told."""
    request = h2bench.post(b"some", b"Content-Length: 100\r\n")
    peer = h2bench.peer
    peer.answer(1, b"no", status=b"413")
    assert request.status == 413 and request.body == b"no"
    assert request.reset_code == "stop"
    assert peer.resets() == [(1, NO_ERROR)] and h2bench.nothing_is_left()


def test_a_caller_that_gives_up_resets_the_stream_at_once(h2bench: Http2Bench) -> None:
    """The service hears CANCEL, and the connection serves on."""
    request = h2bench.ask()
    peer = h2bench.peer
    request.cancel()
    assert peer.resets() == [(1, CANCEL)] and h2bench.nothing_is_left()
    other = h2bench.ask()
    peer.answer(3)
    assert other.body == b"ok" and len(h2bench.service.transports) == 1


def test_a_session_that_ends_resets_its_streams(h2bench: Http2Bench) -> None:
    """When the tunnel is lost the service is told of each call."""
    h2bench.ask()
    h2bench.ask()
    peer = h2bench.peer
    h2bench.tunnel.end()
    assert sorted(peer.resets()) == [(1, CANCEL), (3, CANCEL)]


def test_an_offer_of_another_protocol_is_left_out(h2bench: Http2Bench) -> None:
    """HTTP/2 knows no Upgrade: the request goes without, which may be ignored anyway."""
    request = h2bench.ask(b"Connection: Upgrade\r\nUpgrade: echo\r\n", more=True)
    peer = h2bench.peer
    assert peer.requests[1][b":method"] == b"GET" and b"upgrade" not in peer.requests[1] and peer.ended(1)
    peer.answer(1)
    assert request.status == 200
    request.send(b"", False)
    assert h2bench.nothing_is_left()


WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + WEBSOCKET_KEY
    + b"\r\nSec-WebSocket-Protocol: chat\r\n"
)


def opened() -> tuple[Http2Bench, H2Peer, Request]:
    """A WebSocket that is open."""
    bench = Http2Bench(settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    request = bench.ask(WEBSOCKET, more=True)
    peer = bench.peer
    asked = peer.requests[1]
    assert asked[b":method"] == b"CONNECT" and asked[b":protocol"] == b"websocket"
    assert asked[b"sec-websocket-protocol"] == b"chat" and b"sec-websocket-key" not in asked
    assert not peer.ended(1)
    peer.answer(1, None, [(b"sec-websocket-protocol", b"chat")], ends=False)
    return bench, peer, request


def test_a_websocket_is_an_extended_connect() -> None:
    """RFC 8441: the caller gets the 101 that it asked for, and bytes pass both ways until both sides have ended."""
    bench, peer, request = opened()
    digest = hashlib.sha1(WEBSOCKET_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert request.status == 101
    head = request.head
    assert b"Upgrade: websocket" in head and b"sec-websocket-protocol: chat" in head
    assert b"Sec-WebSocket-Accept: " + base64.b64encode(digest) in head
    request.send(b"hello")
    peer.pump()
    assert peer.body(1) == b"hello"
    peer.say(lambda h2: h2.send_data(1, b"there"))
    assert request.body == b"there"
    request.send(b"", False)
    peer.pump()
    assert peer.ended(1) and not request.ended
    peer.say(lambda h2: h2.end_stream(1))
    assert request.ended and bench.nothing_is_left()


def test_a_websocket_whose_service_ends_first() -> None:
    """The caller hears the end, and may still send."""
    bench, peer, request = opened()
    peer.say(lambda h2: h2.end_stream(1))
    assert request.ended
    request.send(b"bye", False)
    peer.pump()
    assert peer.body(1) == b"bye" and peer.ended(1) and bench.nothing_is_left()


def test_a_websocket_that_ends_with_its_first_bytes() -> None:
    """The service takes it, ends it and resets its stream in one read: its caller is told to stop, too."""
    bench = Http2Bench(settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    request = bench.ask(WEBSOCKET, more=True)
    peer = bench.peer
    peer.h2.send_headers(1, [(b":status", b"200")])
    peer.h2.send_data(1, b"bye", end_stream=True)
    peer.h2.reset_stream(1, NO_ERROR)
    peer.pump()
    assert request.status == 101 and request.body == b"bye" and request.ended
    assert request.reset_code == "stop" and bench.nothing_is_left()


def test_a_websocket_that_the_service_declines() -> None:
    """An answer that is no success is an ordinary one."""
    bench = Http2Bench(settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    request = bench.ask(WEBSOCKET, more=True)
    bench.peer.answer(1, b"no", status=b"403")
    assert request.status == 403 and request.body == b"no"
    request.send(b"", False)
    assert bench.nothing_is_left()


def test_a_service_that_takes_no_websockets(h2bench: Http2Bench) -> None:
    """The client is told what is wrong: 501, and a code of its own."""
    request = h2bench.ask(WEBSOCKET, more=True)
    assert request.status == 501 and request.error == "agent-1; no-websocket"
    assert not h2bench.peer.requests
    request.send(b"", False)
    assert h2bench.nothing_is_left()


def test_a_node_of_version_1_gets_the_answer_as_one_message() -> None:
    """Version 1 knows no pieces and no trailers: the answer is collected and framed with its length."""
    bench = Http2Bench(1, v1_body_bytes=100)
    request = bench.get()
    peer = bench.peer
    peer.answer(1, b"one", trailers=[(b"a", b"b")])
    assert request.frames[0][0].endswith(b"Content-Length: 3\r\n\r\none") and len(request.frames) == 1
    large = bench.get()
    peer.answer(3, b"x" * 101)
    assert large.status == 502 and large.error == "agent-1; body-too-large"
    assert bench.nothing_is_left()

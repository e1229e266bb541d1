"""The WebSocket of a client of a TCP endpoint, with an agent that the test plays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pico_twisted.config import TcpConfig
from pico_twisted.core.http1.head import HeadLimits, parse_request_head
from pico_twisted.core.rpc.frames import CANCELLED, FAILED, HTTP, STOP, TCP, TIMEOUT, UNSUPPORTED
from pico_twisted.net.proxy import tcp
from pico_twisted.net.proxy.tcp import STALLED_S
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import register
from tests.net.proxy.http2_client import Http2Client
from tests.net.proxy.proxy_client import Client
from tests.peers.websocket import BINARY, CLOSE, PING, close_payload, frame_bytes

HANDSHAKE = (
    b"GET /_pico/v1/tcp/my-ep HTTP/1.1\r\nHost: node.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: pico.tcp\r\n"
    b"Cookie: a=b\r\n\r\n"
)
CONNECTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
UNREACHABLE = (
    b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: agent-1; service-unreachable\r\nContent-Length: 15\r\n\r\n"
    b'{"error": "no"}'
)
EMPTY = b"\x82\x00"


def frame(payload: bytes, kind: int = BINARY) -> bytes:
    """A client's frame."""
    return frame_bytes(kind, payload, mask=True)


def closing(code: int, reason: str = "") -> bytes:
    """The node's close frame."""
    return frame_bytes(CLOSE, close_payload(code, reason), mask=False)


def asked(head: bytes = HANDSHAKE, **keys: Any) -> Client:
    """A client whose handshake was sent."""
    return Client(head, **keys)


def opened(**keys: Any) -> Client:
    """A client whose service was reached."""
    client = asked(**keys)
    client.respond(CONNECTED, True)
    status, fields, rest = client.answer()
    assert (status, rest) == (101, b"")
    assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert fields["sec-websocket-protocol"] == "pico.tcp"
    return client


def test_the_call() -> None:
    """A session is a call of type TCP that begins with a head that offers an upgrade, without the client's own fields;
    nothing is answered before the service was reached."""
    client = asked()
    assert client.call.kind == TCP and not client.call.send_ended
    head = parse_request_head(bytes(client.call.sent), HeadLimits())
    assert (head.method, head.target, head.upgrade) == (b"GET", b"/", b"tcp")
    assert head.by_name[b"x-forwarded-for"] and head.by_name[b"cdn-loop"] == b"pico" and b"cookie" not in head.by_name
    assert client.taken() == b""


def test_bytes_sent_ahead() -> None:
    """What a client sends before it is answered goes to the service once that was reached, and not before."""
    client = asked(HANDSHAKE + frame(b"ahead"))
    begun = len(client.call.sent)
    client.send(frame(b" of time"))
    assert len(client.call.sent) == begun
    client.respond(CONNECTED, True)
    assert bytes(client.call.sent[begun:]) == b"ahead of time"


def test_both_streams() -> None:
    """Messages are the bytes of each direction, empty ones their ends, and the close says that both have ended."""
    client = opened()
    begun = len(client.call.sent)
    client.send(frame(b"hello") + frame(b", service"))
    client.respond(b"hello, client", True)
    assert bytes(client.call.sent[begun:]) == b"hello, service"
    assert client.taken() == b"\x82\x0dhello, client"
    client.send(frame(b""))
    assert client.call.send_ended
    client.respond(b"bye")
    assert client.taken() == b"\x82\x03bye" + EMPTY + closing(1000)
    assert client.log[-1]["status"] == 101
    assert (client.log[-1]["bytes_in"], client.log[-1]["bytes_out"]) == (14, 16)


def test_the_service_ends_first() -> None:
    """A client whose service has ended goes on until it ends, too."""
    client = opened()
    client.respond(b"bye")
    assert client.taken() == b"\x82\x03bye" + EMPTY
    client.send(frame(b"more"))
    assert client.call.sent.endswith(b"more") and not client.call.send_ended
    client.send(frame(b""))
    assert client.call.send_ended and client.taken() == closing(1000)


def test_cuts() -> None:
    """A call that is reset ends the session with 1011 and the reason, behind what came before."""
    client = opened()
    client.respond(b"half", True)
    client.call.refuse(FAILED, "the service broke the connection")
    assert client.taken() == b"\x82\x04half" + closing(1011, "the service broke the connection")
    assert client.log[-1]["error"] == "upstream-unreachable"


def test_a_service_that_takes_no_more() -> None:
    """A call that is stopped behind its response is no end in good order, as the client has not ended."""
    client = opened()
    client.respond(b"bye")
    client.taken()
    client.call.refuse(STOP)
    assert client.taken() == closing(1011, "the service closed the connection")


def test_the_node_stops() -> None:
    """Sessions that are left at the end of the grace period are told with 1001."""
    client = opened()
    client.parts.cluster.cut_streams()
    assert client.taken() == b"", "a session has the whole grace period"
    client.parts.cluster.cut_tcp()
    assert client.taken() == closing(1001, "the node stops")
    assert client.call.reset_code == CANCELLED and client.log[-1]["error"] == "shutdown"


def test_a_client_that_breaks_off() -> None:
    """A client that is gone, or closes with anything but 1000, is a reset for the call."""
    for leave in (
        lambda one: one.transport.receive_reset(),
        lambda one: one.transport.receive_fin(),
        lambda one: one.send(frame(close_payload(1001), CLOSE)),
        lambda one: one.send(frame(b"text", 1)),
    ):
        client = opened()
        leave(client)
        client.clock.advance(0)
        assert client.call.reset_code == CANCELLED
        assert client.log[-1]["error"] == "client-gone"


@pytest.mark.parametrize("code", [b"", close_payload(1000)])
def test_a_client_that_closes(code: bytes) -> None:
    """A client that closes in order has said all: its stream ends, what the service still says is dropped, and so is
    the call when it takes too long."""
    client = opened()
    client.send(frame(b"all") + frame(code, CLOSE))
    assert client.call.sent.endswith(b"all") and client.call.send_ended
    assert client.taken() == closing(1000)
    client.transport.receive_fin()
    client.clock.advance(0)
    client.respond(bytes(70_000), True)
    assert client.call.consumed >= 70_000 and client.call.reset_code is None
    client.pass_time(11)
    assert client.call.reset_code == CANCELLED and client.taken() == b""


def test_a_client_that_closes_and_a_service_that_ends() -> None:
    """The same, with a service that ends in time: nothing was cut."""
    client = opened()
    client.send(frame(close_payload(1000), CLOSE))
    client.transport.receive_fin()
    client.clock.advance(0)
    client.respond(b"late")
    assert client.call.reset_code is None and client.log[-1]["error"] == ""


def test_pings() -> None:
    """A session in which the client hears nothing gets a ping every half minute, and not while bytes flow or it does
    not read; pings of the client are answered, once it reads."""
    client = opened()
    client.pass_time(20)
    client.respond(b"x", True)
    client.taken()
    client.pass_time(20)
    assert client.taken() == b""
    client.pass_time(11)
    assert client.taken() == frame_bytes(PING, b"", mask=False)
    client.send(frame(b"here?", PING))
    assert client.taken() == b"\x8a\x05here?"
    client.pass_time(31)
    assert client.taken() == frame_bytes(PING, b"", mask=False)


def test_idle_sessions() -> None:
    """By default a session may be silent for hours. With an idle timeout one in which no byte moves is cut, whatever
    pings there are."""
    client = opened()
    client.pass_time(3 * 300)
    assert client.call.reset_code is None
    client = opened(tcp=TcpConfig(idle_timeout=60.0))
    client.pass_time(50)
    client.send(frame(b"x"))
    client.pass_time(50)
    client.respond(b"y", True)
    client.send(frame(b"", PING))
    client.pass_time(50)
    assert client.call.reset_code is None
    client.taken()
    client.pass_time(12)
    assert client.taken() == closing(1011, "no byte for 60 s")
    assert client.call.reset_code == TIMEOUT and client.log[-1]["error"] == "idle-timeout"


def test_a_client_that_does_not_read() -> None:
    """What comes for a client that does not read is not granted again, until it reads; its pings wait as well."""
    client = opened()
    client.channel.pauseProducing()
    client.taken()
    before = client.call.consumed
    client.respond(bytes(1000), True)
    client.send(frame(b"?", PING))
    assert client.call.consumed == before
    assert b"\x8a" not in client.taken()
    client.channel.resumeProducing()
    assert client.call.consumed == before + 1000
    assert client.taken() == b"\x8a\x01?"


def test_an_agent_that_cannot_reach_its_service() -> None:
    """Another agent is tried, and where there is none the handshake is refused with the words of the agent."""
    client = asked()
    other = register(client.parts, FakeTunnel(agent_id="agent-2"))
    first = client.call
    client.respond(UNREACHABLE)
    assert other.opened[-1].kind == TCP and first is client.call
    other.opened[-1].respond(UNREACHABLE, False)
    client.clock.advance(0)
    status, fields, body = client.answer()
    assert status == 502 and fields["x-pico-error"].endswith("; service-unreachable")
    assert json.loads(body)["error"] == "no"


def test_an_agent_that_serves_no_tcp() -> None:
    """0xC000 is tried elsewhere; when nobody serves TCP the client is told that the endpoint does not."""
    client = asked()
    other = register(client.parts, FakeTunnel(agent_id="agent-2"))
    client.call.refuse(UNSUPPORTED)
    other.opened[-1].refuse(UNSUPPORTED)
    client.clock.advance(0)
    status, fields, _ = client.answer()
    assert status == 421 and fields["x-pico-error"].endswith("; not-tcp")


def test_an_agent_that_serves_no_http() -> None:
    """The same for HTTP at an endpoint of TCP, whatever the method."""
    for method in ("GET", "POST"):
        client = Client(f"{method} / HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: 0\r\n\r\n".encode())
        assert client.call.kind == HTTP
        client.call.refuse(UNSUPPORTED)
        client.clock.advance(0)
        status, fields, _ = client.answer()
        assert status == 421 and fields["x-pico-error"].endswith("; not-http")


def test_an_agent_of_version_1() -> None:
    """An agent of version 1 is not called: it has no streams."""
    client = asked(tunnel=FakeTunnel(version=1))
    assert not client.tunnel.opened
    assert client.answer()[:1] == (421,)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n"])
def test_an_agent_that_answers_something_else(answer: bytes) -> None:
    """An answer that is neither a 101 nor an agent's own error is none to this call."""
    client = asked()
    client.respond(answer)
    status, fields, _ = client.answer()
    assert status == 502 and fields["x-pico-error"].endswith("; bad-response")


def test_pages_of_browsers() -> None:
    """A page may open a session only if its origin is known."""
    page = HANDSHAKE.replace(b"Cookie: a=b", b"Origin: https://App.example.com")
    client = asked(page)
    assert client.answer()[0] == 403 and not client.tunnel.opened
    client = asked(page, tcp=TcpConfig(origins=("https://app.example.com",)))
    client.respond(CONNECTED, True)
    assert client.answer()[0] == 101


def test_no_session_without_an_end() -> None:
    """Hundreds of sessions leave nothing behind, however they end."""
    client = opened()
    parts = client.parts
    for number in range(100):
        one = Client(HANDSHAKE, parts=parts)
        client.tunnel.opened[-1].respond(CONNECTED, True)
        if number % 3 == 0:
            one.transport.receive_reset()
        elif number % 3 == 1:
            one.send(frame(close_payload(1000), CLOSE))
            client.tunnel.opened[-1].respond(b"", False)
        else:
            client.tunnel.opened[-1].refuse(FAILED)
        parts.clock.advance(0)
    assert len(parts.cluster.pending) == 1


def test_over_http2() -> None:
    """Over HTTP/2 (RFC 8441): a 200 once the service was reached, bytes both ways, both ends and the stream's; a
    refusal has no field of a connection."""
    client = Http2Client()
    stream = client.websocket(b"/_pico/v1/tcp/my-ep", (b"sec-websocket-protocol", b"pico.tcp"))
    assert client.call.kind == TCP
    client.respond(CONNECTED, True)
    status, fields, _ = client.answer(stream)
    assert (status, fields[b"sec-websocket-protocol"]) == (200, b"pico.tcp")
    assert b"sec-websocket-accept" not in fields
    begun = len(client.call.sent)
    client.send(stream, frame(b"hello") + frame(b""))
    assert client.call.sent[begun:] == b"hello" and client.call.send_ended
    client.respond(b"bye")
    assert client.answer(stream)[2] == b"\x82\x03bye" + EMPTY + closing(1000)
    assert client.ended(stream)
    wrong = client.request(b"/_pico/v1/tcp/my-ep")
    status, fields, _ = client.answer(wrong)
    assert status == 426 and b"upgrade" not in fields and fields[b"sec-websocket-version"] == b"13"


def test_a_ping_of_a_client_that_does_not_read_over_http2() -> None:
    """It is answered as soon as the client reads again, though nothing else happens then."""
    client = Http2Client(takes_all=False, window=1000)
    stream = client.websocket(b"/_pico/v1/tcp/my-ep", (b"sec-websocket-protocol", b"pico.tcp"))
    client.respond(CONNECTED, True)
    while not client.call.receiver.paused:
        client.respond(bytes(30_000), True)
    client.send(stream, frame(b"are you there", PING))
    client.take(stream, 10**6)
    assert client.body(stream).endswith(b"are you there") and not client.call.receiver.paused


def test_a_stream_of_http2_that_is_reset() -> None:
    """A client that gives its stream up has broken the session off."""
    client = Http2Client()
    stream = client.websocket(b"/_pico/v1/tcp/my-ep", (b"sec-websocket-protocol", b"pico.tcp"))
    client.respond(CONNECTED, True)
    client.h2.reset_stream(stream)
    client.flush()
    assert client.call.reset_code == CANCELLED


def test_the_last_bytes_of_a_client_that_reads_slowly() -> None:
    """However long a client takes for the last bytes: it gets them, and the close; until then its session is one in
    progress, and then nothing is left of it."""
    client = opened()
    client.transport.takes = False
    client.send(frame(b""))
    client.respond(bytes(70_000))
    client.pass_time(600)
    assert client.channel.serving and not client.log
    client.transport.takes = True
    client.transport.take()
    client.clock.advance(0)
    assert client.taken().endswith(EMPTY + closing(1000)) and client.transport.half_closed
    assert client.log[-1]["status"] == 101 and client.log[-1]["error"] == "" and not client.channel.serving


def test_a_client_that_leaves_before_it_took_the_last_bytes() -> None:
    """Its session is over then."""
    client = opened()
    client.transport.takes = False
    client.send(frame(b""))
    client.respond(bytes(70_000))
    client.transport.receive_reset()
    assert client.log[-1]["status"] == 101 and not client.channel.serving


def test_the_last_bytes_of_a_client_that_has_left() -> None:
    """A client that closes in order has said all, and its service gets that however slowly it takes it, unless it
    takes nothing for a minute."""
    client = opened()
    call = client.call
    client.tunnel.takes = False
    client.send(frame(bytes(60_000)) + frame(close_payload(1000), CLOSE))
    client.transport.receive_fin()
    for _ in range(9):
        client.pass_time(50)
        call.queued -= 5_000
        assert call.queued > 0 and call.reset_code is None
    client.pass_time(STALLED_S + 20)
    client.pass_time(STALLED_S + 20)
    assert call.reset_code == CANCELLED


def test_a_session_that_is_ended_by_the_node() -> None:
    """The client of one that is revoked is told, in the words of a WebSocket."""
    client = opened()
    (request,) = client.parts.proxy.in_progress()
    request.shut("revoked")
    assert client.taken() == closing(1008, "revoked")
    assert client.call.reset_code == CANCELLED and client.log[-1]["error"] == "revoked"


def test_a_client_that_acknowledges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine is gone: the kernel would send our pings to it again for a quarter of an hour."""
    client = opened()
    monkeypatch.setattr(tcp, "is_unheard", lambda transport, seconds: True)
    client.pass_time(31)
    assert client.transport.aborted and client.call.reset_code == CANCELLED
    assert client.log[-1]["error"] == "client-gone"

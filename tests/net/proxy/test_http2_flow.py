"""Clients of the proxy port over HTTP/2: flow control, WebSockets, limits, time, and a node that drains."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes

from pico_twisted.config import Http2Config
from pico_twisted.core.rpc.frames import CANCELLED
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_S
from pico_twisted.net.proxy.http2.channel import LAST_STREAMS_S
from pico_twisted.net.proxy.http2.output import CONNECTION_HIGH_BYTES, SPARE_BYTES, STREAM_HIGH_BYTES
from pico_twisted.net.proxy.http2.request import MOST_WINDOW_BYTES, WINDOW_BYTES
from tests.doubles.node import PROXY_KEYS
from tests.net.doubles import OK, OK2
from tests.net.proxy.http2_client import Http2Client
from tests.net.proxy.proxy_client import Client
from tests.peers.http2_frames import DATA, PREFACE

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


class TestDownloads:
    """Nobody holds more than is needed, and nobody waits for somebody else."""

    def test_one_that_does_not_read(self) -> None:
        """Its call is paused and gets no credit; the others go on; what waits is counted until it is taken."""
        client = Http2Client(takes_all=False, window=1000)
        slow = client.request(b"/slow")
        slow_call = client.call
        client.respond(OK, True)
        while slow_call.consumed == len(slow_call.first) or slow_call.consumed < 10**6:
            before = slow_call.consumed
            client.respond(bytes(30_000), True, slow_call)
            if slow_call.consumed == before:
                break
        assert slow_call.consumed <= 1000 + STREAM_HIGH_BYTES + 30_000 + len(OK)
        for _ in range(20):
            quick = client.request(b"/quick")
            client.respond(OK2 + b"ok")
            assert client.answer(quick)[2] == b"ok"
        assert STREAM_HIGH_BYTES < client.parts.proxy.held_bytes() < 2 * STREAM_HIGH_BYTES
        client.pass_time(0.2)
        assert client.parts.budget.held > STREAM_HIGH_BYTES
        consumed = slow_call.consumed
        client.take(slow, 10**6)
        assert slow_call.consumed > consumed and client.parts.proxy.held_bytes() == 0
        client.respond(b"end", False, slow_call)
        assert client.ended(slow) and client.body(slow).endswith(b"\0end")

    def test_a_full_transport(self) -> None:
        """A client that reads nothing at all holds a bounded number of bytes, however many streams it has."""
        client = Http2Client(window=2**24)
        streams = [client.request(flush=False) for _ in range(100)]
        client.flush()
        client.transport.takes = False
        for call in client.tunnel.opened:
            call.respond(OK, True)
        for _ in range(10):
            for call in client.tunnel.opened:
                if not call.receiver.paused:
                    call.respond(bytes(30_000), True)
        held = client.parts.proxy.held_bytes()
        assert held < 64 * 1024 + CONNECTION_HIGH_BYTES + STREAM_HIGH_BYTES + 100 * 30_000 * 2
        assert all(call.receiver.paused for call in client.tunnel.opened)
        client.transport.takes = True
        client.transport.take()
        client.flush()
        assert not any(call.receiver.paused for call in client.tunnel.opened)
        for call in client.tunnel.opened:
            call.respond(b"", False)
        client.flush()
        assert all(client.ended(stream) for stream in streams) and client.parts.proxy.held_bytes() == 0

    def test_windows_that_stay_shut(self) -> None:
        """A client that opens no window is given up, whether its response is over for the service or not."""
        client = Http2Client(takes_all=False, window=0)
        whole, endless = client.request(), client.request()
        client.respond(OK2 + b"ok", False, client.tunnel.opened[0])
        client.respond(OK + b"some", True, client.tunnel.opened[1])
        assert client.parts.proxy.serving() == 2
        client.pass_time(2.5 * PROXY_KEYS["idle_timeout"])
        assert client.resets(whole) == [ErrorCodes.CANCEL] and client.resets(endless)
        assert client.parts.proxy.serving() == 0 and client.call.reset_code

    def test_an_end_that_waits_for_a_window(self) -> None:
        """Where a client took all but opens no window for the end, it is given up as well: else its connection would
        never be idle."""
        client = Http2Client(takes_all=False, window=2)
        stream = client.request()
        client.respond(OK, True)
        client.respond(b"ok", True)
        client.respond(b"")
        assert client.body(stream) == b"ok" and not client.ended(stream) and client.parts.proxy.serving() == 1
        client.pass_time(2.5 * PROXY_KEYS["idle_timeout"])
        assert client.resets(stream) and client.parts.proxy.serving() == 0

    def test_what_comes_in_one_turn(self) -> None:
        """It leaves with one write."""
        client = Http2Client(gathers=True)
        for _ in range(20):
            client.request(flush=False)
        client.flush()
        client.transport.takes = False
        for call in client.tunnel.opened:
            call.respond(OK2 + b"ok", False)
        assert client.transport.held == 0
        client.clock.advance(0)
        assert client.transport.held > 20 * 9


class TestUploads:
    """A service that does not read slows down its client, and no other."""

    def test_a_slow_service(self) -> None:
        """The client's window shuts, and opens again; what waits is bounded."""
        client = Http2Client()
        slow = client.request(b"/slow", method=b"POST", ended=False)
        client.tunnel.takes = False
        sent = 0
        while (window := client.h2.local_flow_control_window(slow)) > 0:
            client.send(slow, bytes(min(window, 16_384)))
            sent += min(window, 16_384)
            assert sent < 10**6
        assert sent < 400_000 and client.parts.proxy.held_bytes() > 0
        other = client.request(b"/other")
        client.respond(OK2 + b"ok")
        assert client.answer(other)[2] == b"ok"
        client.tunnel.opened[0].take()
        client.flush()
        assert client.h2.local_flow_control_window(slow) > 30_000 and client.parts.proxy.held_bytes() == 0
        client.send(slow, b"", True)
        assert client.tunnel.opened[0].send_ended

    def test_a_fast_service(self) -> None:
        """The window of a body grows that is taken as fast as it comes, and those of all together are bounded."""
        client = Http2Client()
        streams = []
        for _ in range(8):
            streams.append(client.request(method=b"POST", ended=False))
            for _ in range(250):
                client.send(streams[-1], bytes(16_000))
        windows = [client.h2.local_flow_control_window(stream) for stream in streams]
        assert max(windows) > MOST_WINDOW_BYTES / 2 > 4 * WINDOW_BYTES
        assert sum(windows) <= len(streams) * WINDOW_BYTES + SPARE_BYTES
        for stream in streams:
            client.send(stream, b"", True)
        for call in client.tunnel.opened:
            client.respond(OK2 + b"ok", False, call)
        assert client.channel.held_bytes == 0
        stream = client.request(method=b"POST", ended=False)
        for _ in range(250):
            client.send(stream, bytes(16_000))
        assert client.h2.local_flow_control_window(stream) > MOST_WINDOW_BYTES / 2

    def test_an_answer_while_the_body_waits(self) -> None:
        """A body that has come whole goes on to its service, though the stream is over."""
        client = Http2Client()
        stream = client.request(method=b"POST", ended=False)
        client.tunnel.takes = False
        for _ in range(12):
            client.send(stream, bytes(16_000))
        client.respond(OK2 + b"ok")
        client.send(stream, b"end", True)
        assert client.answer(stream)[2] == b"ok" and not client.call.send_ended
        client.call.take()
        client.flush()
        assert client.call.send_ended and client.call.sent.endswith(b"end") and client.call.reset_code is None
        assert client.log[0]["status"] == 200 and client.log[0]["error"] == ""

    def test_bodies_that_nobody_takes(self) -> None:
        """The window of the connection is not used up by those of refused requests."""
        client = Http2Client()
        for _ in range(200):
            stream = client.request(b"/a", method=b"POST", host=b"other.example.com", ended=False, flush=False)
            client.send(stream, bytes(60_000), True)
        stream = client.request(method=b"POST", ended=False)
        client.send(stream, bytes(60_000), True)
        assert client.call.send_ended

    def test_a_body_that_comes_too_slowly(self) -> None:
        """Its client is told so."""
        client = Http2Client(min_body_rate=1000, idle_timeout=600.0, timeout=600.0)
        stream = client.request(method=b"POST", ended=False)
        for _ in range(50):
            client.pass_time(1)
            if client.call.reset_code is None:
                client.send(stream, b"x")
        assert client.answer(stream)[0] == 408 and client.resets(stream) == [ErrorCodes.NO_ERROR]


class TestWebSockets:
    """An extended CONNECT becomes an offer to upgrade (RFC 8441)."""

    def test_both_ways(self) -> None:
        """The 101 is a 200, what was sent before it waits for it, and each side ends its half."""
        client = Http2Client()
        stream = client.websocket(b"/ws", (b"sec-websocket-protocol", b"chat"))
        assert b"GET /ws HTTP/1.1\r\n" in client.call.sent and b"\r\nUpgrade: websocket" in client.call.sent
        assert b"\r\nSec-WebSocket-Key: " in client.call.sent
        head = len(client.call.sent)
        client.send(stream, b"early")
        assert len(client.call.sent) == head
        client.respond(SWITCH, True)
        status, fields, _ = client.answer(stream)
        assert (status, fields[b"sec-websocket-protocol"]) == (200, b"chat")
        assert b"sec-websocket-accept" not in fields and b"upgrade" not in fields
        assert client.call.sent[head:] == b"early"
        client.respond(b"there", True)
        client.send(stream, b" and back", True)
        assert client.call.sent[head:] == b"early and back" and client.call.send_ended
        client.respond(b" you are")
        assert client.body(stream) == b"there you are" and client.ended(stream) and not client.resets(stream)
        assert client.log[0]["status"] == 101 and client.parts.proxy.serving() == 0

    def test_declined(self) -> None:
        """Another answer is that of a plain request, and what follows the offer goes nowhere."""
        client = Http2Client()
        stream = client.websocket()
        client.send(stream, b"frames")
        client.respond(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        assert client.answer(stream)[::2] == (403, b"no") and client.stopped(stream)
        assert b"frames" not in client.call.sent

    def test_cut(self) -> None:
        """One that breaks off is reset; a client that resets it is gone for the service."""
        client = Http2Client()
        stream = client.websocket()
        client.respond(SWITCH + b"x", True)
        client.call.refuse("failed")
        client.flush()
        assert client.body(stream) == b"x" and client.resets(stream) == [ErrorCodes.CANCEL]
        stream = client.websocket()
        client.respond(SWITCH, True)
        client.reset(stream)
        assert client.call.reset_code == CANCELLED

    def test_silence(self) -> None:
        """It may last for any length of time."""
        client = Http2Client()
        stream = client.websocket()
        client.respond(SWITCH, True)
        client.pass_time(5 * PROXY_KEYS["idle_timeout"])
        client.respond(b"x", True)
        assert client.body(stream) == b"x"

    def test_a_client_that_reads_nothing(self) -> None:
        """That, too, as over HTTP/1.1; what waits for it is bounded. Once its service has ended it is an answer."""
        client = Http2Client(takes_all=False, window=0)
        stream = client.websocket()
        client.respond(SWITCH, True)
        while not client.call.receiver.paused:
            client.respond(bytes(10_000), True)
        client.pass_time(3 * PROXY_KEYS["idle_timeout"])
        assert not client.resets(stream) and client.call.reset_code is None
        client.send(stream, b"still there")
        assert client.call.sent.endswith(b"still there")
        client.send(stream, b"", True)
        client.respond(b"")
        client.pass_time(2.5 * PROXY_KEYS["idle_timeout"])
        assert client.resets(stream) == [ErrorCodes.CANCEL] and client.parts.proxy.serving() == 0


class TestLimits:
    """Work that is begun for a connection stays within its streams."""

    def test_streams(self) -> None:
        """A client is told how many it may have, and one that keeps to it is served."""
        client = Http2Client(http2=Http2Config(streams=3))
        assert client.h2.remote_settings.max_concurrent_streams == 3
        streams = [client.request() for _ in range(3)]
        client.respond(OK2 + b"ok", False, client.tunnel.opened[0])
        client.request()
        assert client.answer(streams[0])[2] == b"ok" and len(client.tunnel.opened) == 4

    def test_a_flood(self) -> None:
        """A client that goes on and on is closed, and told why."""
        client = Http2Client()
        for _ in range(1000):
            if client.goaways():
                break
            client.reset(client.request(flush=False))
        assert client.goaways()[0][0] == ErrorCodes.ENHANCE_YOUR_CALM
        assert len(client.tunnel.opened) <= 128
        assert b'pico_http2_ended_total{reason="resets"} 1' in client.parts.metrics.exposition()

    def test_not_spoken(self) -> None:
        """Where it is switched off its preface is no request."""
        with pytest.raises(AssertionError):
            _ = Http2Client(http2=Http2Config(enabled=False)).channel


class TestTime:
    """Who does nothing is not kept."""

    def test_no_settings(self) -> None:
        """They have to come as soon as a head has."""
        client = Client(PREFACE)
        assert not client.transport.over
        client.pass_time(PROXY_KEYS["head_timeout"] + 0.5)
        assert client.transport.aborted and not client.parts.proxy.connections

    def test_idle(self) -> None:
        """A connection that is idle ends in two steps; one with a request in progress does not."""
        client = Http2Client()
        client.pass_time(PROXY_KEYS["keepalive_timeout"] - 1)
        stream = client.request()
        client.respond(OK2 + b"ok")
        client.pass_time(PROXY_KEYS["keepalive_timeout"] - 0.5)
        assert client.answer(stream)[2] == b"ok" and not client.goaways()
        client.pass_time(1)
        assert client.goaways() == [(0, 2**31 - 1)]
        client.pass_time(LAST_STREAMS_S + 0.2)
        assert client.goaways()[1:] == [(0, stream)] and client.transport.half_closed
        client.pass_time(CLIENT_LINGER_S + 0.5)
        assert client.transport.over
        client.parts.stop()
        assert client.clock.getDelayedCalls() == []

    def test_a_response_that_stands_still(self) -> None:
        """The service has the same limits as over HTTP/1.1."""
        client = Http2Client()
        waits, stands = client.request(), client.request()
        client.respond(OK + b"some", True)
        client.pass_time(PROXY_KEYS["timeout"] + 1.5)
        assert client.answer(waits)[0] == 504
        client.pass_time(PROXY_KEYS["idle_timeout"])
        assert client.resets(stands) == [ErrorCodes.INTERNAL_ERROR] and client.body(stands) == b"some"


class TestDrain:
    """A node that stops loses no request."""

    def test_in_two_steps(self) -> None:
        """Clients are told, those who have not heard are served, and then the connection ends behind what goes on."""
        client = Http2Client()
        first = client.request()
        client.parts.proxy.drain()
        client.flush()
        assert client.goaways() == [(0, 2**31 - 1)]
        stream = first + 2
        client.transport.receive(Request(stream).frames)
        client.flush()
        assert len(client.tunnel.opened) == 2
        client.pass_time(LAST_STREAMS_S + 0.3)
        assert client.goaways()[1:] == [(0, stream)] and not client.transport.half_closed
        client.transport.receive(Request(stream + 2).frames)
        client.flush()
        assert len(client.tunnel.opened) == 2
        for call in client.tunnel.opened:
            call.respond(OK2 + b"ok", False)
        client.flush()
        bodies = {one.stream: one.payload for one in client.frames if one.kind == DATA}
        assert bodies == {first: b"ok", stream: b"ok"} and client.transport.half_closed
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and client.parts.proxy.serving() == 0

    def test_an_idle_connection(self) -> None:
        """It ends soon."""
        client = Http2Client()
        client.parts.proxy.drain()
        client.pass_time(LAST_STREAMS_S + 0.3)
        assert len(client.goaways()) == 2 and client.transport.half_closed


class Request:
    """The frames of a request that hyper-h2 would not send any more."""

    def __init__(self, stream: int) -> None:
        # :method GET, :scheme http and :path / of the static table; :authority as a literal (RFC 7541 6.2.2)
        block = b"\x82\x86\x84\x01\x11my-ep.example.com"
        self.frames = len(block).to_bytes(3, "big") + b"\x01\x05" + stream.to_bytes(4, "big") + block

"""Connections of proxy clients: what is read, what is written, when they end."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock

from pico_twisted.core.rpc import frames
from pico_twisted.net.proxy.channel import (
    DRAIN_IDLE_S,
    LINGER_BYTES,
    LINGER_S,
    READ_AHEAD_BYTES,
)
from pico_twisted.testing.node import NodeParts, pass_time
from pico_twisted.testing.transport import MemoryTransport
from pico_twisted.testing.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import CONTINUE, OK, OK2, SWITCH, register

GET = b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: my-ep.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
BIG_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
HEAD_TIMEOUT_S, KEEPALIVE_S, TIMEOUT_S, IDLE_S = 2.0, 6.0, 5.0, 8.0


class Client:
    """A client's connection to a node with one agent, both played by the test."""

    def __init__(
        self, data: bytes = b"", *, parts: NodeParts | None = None, peer: Any = None, version: int = 2, **limits: Any
    ) -> None:
        self.clock = parts.clock if parts is not None else Clock()
        self.parts = parts or NodeParts(self.clock, **limits)
        if parts is None:
            self.tunnel = register(self.parts, FakeTunnel(version=version))
        self.transport = MemoryTransport(self.clock, peer)
        self.channel = self.transport.connect(self.parts.site.buildProtocol(self.transport.getPeer()))
        if data:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Bytes to the node."""
        self.transport.receive(data)
        self.clock.advance(0)

    @property
    def call(self) -> FakeCall:
        """The newest call that the node made."""
        return self.tunnel.opened[-1]

    def respond(self, payload: bytes, more: bool = False) -> None:
        """The agent sends a frame of the newest call's response."""
        self.call.respond(payload, more)
        self.clock.advance(0)

    def taken(self) -> bytes:
        """What came from the node since the last time."""
        return self.transport.clear()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """What came, as one response: status, fields, and the rest."""
        head, end, body = self.taken().partition(b"\r\n\r\n")
        assert end, head
        status, *lines = head.decode("latin-1").split("\r\n")
        assert status.startswith("HTTP/1.1 ")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status[9:12]), fields, body

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        pass_time(self.clock, seconds)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log."""
        self.parts.access_log.flush()
        return [json.loads(line) for line in "".join(self.parts.access).splitlines()]


class TestRequests:
    """One request after the other."""

    def test_one(self) -> None:
        """A request goes to its agent, and the answer comes back with the framing of ours."""
        client = Client(GET)
        assert client.call.first.startswith(b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\n")
        client.respond(OK2 + b"hi")
        status, fields, body = client.answer()
        assert (status, fields["content-length"], body) == (200, "2", b"hi")
        assert "connection" not in fields and fields["via"] == "1.1 pico-n1"
        (line,) = client.log
        assert (line["method"], line["target"], line["status"], line["bytes_out"]) == ("GET", "/a", 200, 2)
        assert (line["endpoint"], line["upstream"], line["client"]) == ("my-ep", "agent-1", "192.0.2.7")

    def test_keep_alive(self) -> None:
        """A connection serves request after request."""
        client = Client()
        for number in range(5):
            client.send(GET)
            assert len(client.tunnel.opened) == number + 1
            client.respond(OK2 + b"hi")
            assert client.answer()[0] == 200
        assert not client.transport.disconnecting

    def test_byte_by_byte(self) -> None:
        """Requests may come in any pieces; empty lines between them are passed over."""
        client = Client()
        for byte in b"\r\n" + POST + b"hello" + b"\r\n\r\n" + GET:
            client.send(bytes((byte,)))
            if client.tunnel.opened and not client.call.receive_ended and client.call.send_ended:
                client.respond(OK2 + b"hi")
        assert len(client.tunnel.opened) == 2 and client.taken().count(b"200 OK") == 2

    def test_pipelining(self) -> None:
        """Requests that were sent ahead are served in order, one at a time."""
        client = Client(GET + POST + b"hello" + GET.replace(b"/a", b"/last"))
        assert len(client.tunnel.opened) == 1
        client.respond(OK2 + b"11")
        assert len(client.tunnel.opened) == 2 and bytes(client.call.sent).endswith(b"hello")
        client.respond(OK2 + b"22")
        assert client.call.first.startswith(b"GET /last ")
        client.respond(OK2 + b"33")
        data = client.taken()
        assert data.count(b"200 OK") == 3
        assert data.index(b"\r\n\r\n11") < data.index(b"\r\n\r\n22") < data.index(b"\r\n\r\n33")

    def test_thousands_ahead(self) -> None:
        """Any number of requests that are answered at once are, without piling up."""
        client = Client(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000)
        assert client.taken().count(b"400 Bad Request") == 5000
        assert not client.transport.disconnecting

    def test_what_is_held_ahead(self) -> None:
        """Behind a request that is not answered reading stops at a bound, and goes on with the answer."""
        client = Client(GET)
        sent = 0
        while client.transport.reading and sent < 1_000_000:
            client.send(GET * 100)
            sent += 100
        assert sent * len(GET) <= READ_AHEAD_BYTES + 200 * len(GET)
        for _ in range(sent + 1):
            client.respond(OK2 + b"hi")
        assert client.transport.reading and len(client.tunnel.opened) == sent + 1
        assert client.taken().count(b"200 OK") == sent + 1

    def test_close(self) -> None:
        """Who asks for it gets `Connection: close`, and the connection is closed behind the answer."""
        client = Client(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET)
        client.respond(OK2 + b"hi")
        status, fields, body = client.answer()
        assert (status, fields["connection"], body) == (200, "close", b"hi")
        assert len(client.tunnel.opened) == 1
        client.pass_time(LINGER_S + 1)
        assert client.transport.over

    @pytest.mark.parametrize("pieces", [[b"hello"], [b"he", b"llo"], [b"h", b"e", b"l", b"l", b"o"]])
    def test_bodies(self, pieces: list[bytes]) -> None:
        """Bodies are passed on as they come, with a length or in chunks, which end at this hop."""
        client = Client(POST)
        for piece in pieces:
            client.send(piece)
        assert bytes(client.call.sent).endswith(b"\r\n\r\nhello") and client.call.send_ended
        client = Client(CHUNKED)
        for piece in pieces:
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert bytes(client.call.sent).endswith(b"\r\n\r\nhello") and not client.call.send_ended
        client.send(b"0\r\nTrailer: x\r\n\r\n")
        assert client.call.send_ended and b"railer" not in bytes(client.call.sent)
        client = Client(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello" * 100) + b"0\r\n\r\n" + GET)
        assert bytes(client.call.sent).endswith(b"\r\n\r\n" + b"hello" * 100) and client.call.send_ended
        client.respond(OK2 + b"hi")
        assert len(client.tunnel.opened) == 2

    def test_expect(self) -> None:
        """The service's 100 comes to the client, and its body goes to the service."""
        client = Client(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        client.respond(CONTINUE, True)
        assert client.taken().startswith(b"HTTP/1.1 100 Continue\r\n")
        client.send(b"hello")
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        assert bytes(client.call.sent).endswith(b"hello")

    def test_interim_heads(self) -> None:
        """1xx heads are passed on to HTTP/1.1 clients only."""
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
        client = Client(GET)
        client.respond(hints, True)
        assert b"Link: </style.css>\r\n" in client.taken()
        client = Client(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        client.respond(hints, True)
        assert client.taken() == b""

    def test_who_asks(self) -> None:
        """The service is told the client's address and protocol; only trusted proxies may speak for others."""
        spoof = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
        client = Client(spoof)
        assert b"X-Forwarded-For: 192.0.2.7\r\n" in client.call.first
        for peer, trusted in (
            (IPv4Address("TCP", "10.1.2.3", 1), True),
            (IPv6Address("TCP", "::ffff:10.1.2.3", 1), True),
            (IPv6Address("TCP", "fd00::1%eth0", 1), True),
            (IPv4Address("TCP", "192.0.2.7", 1), False),
            (IPv6Address("TCP", "2001:db8::1", 1), False),
        ):
            client = Client(spoof, peer=peer, trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
            assert (b"203.0.113.9" in client.call.first) is trusted, peer
        assert not Client(peer=IPv4Address("TCP", "not an address", 1)).channel.trusted

    def test_request_ids(self) -> None:
        """A sane request ID is kept, another is replaced, and it is in the log."""
        for given, kept in ((b"abc-1", True), (b"a b", False), (b"x" * 129, False)):
            client = Client(GET.replace(b"\r\n\r\n", b"\r\nX-Request-Id: " + given + b"\r\n\r\n"))
            client.respond(OK2 + b"hi")
            (line,) = client.log
            assert b"x-request-id: " + line["request_id"].encode() in client.call.first
            assert (line["request_id"].encode() == given) is kept


class TestResponses:
    """How responses are framed."""

    def test_chunks(self) -> None:
        """A response without a length goes out in chunks, each at once, ended only when it is whole."""
        client = Client(GET)
        client.respond(OK, True)
        assert client.answer()[1]["transfer-encoding"] == "chunked"
        client.respond(b"hello", True)
        assert client.taken() == b"5\r\nhello\r\n"
        client.respond(b"!")
        assert client.taken() == b"1\r\n!\r\n0\r\n\r\n"
        client.send(GET)
        assert len(client.tunnel.opened) == 2

    def test_one_write(self) -> None:
        """A response that comes in one frame leaves in one piece."""
        client = Client(GET)
        client.transport.takes = False
        client.respond(OK2 + b"hi")
        assert client.transport.held > 0
        assert client.transport.take().endswith(b"\r\n\r\nhi")

    @pytest.mark.parametrize("how", ["reset", "lost"])
    @pytest.mark.parametrize("head", [OK, OK2])
    def test_cut(self, how: str, head: bytes) -> None:
        """A response that is cut short is cut: no final chunk, and the connection is dropped."""
        client = Client(GET)
        client.respond(head + b"h", True)
        if how == "reset":
            client.call.refuse(frames.FAILED)
        else:
            client.tunnel.lose()
        client.clock.advance(0)
        assert client.transport.half_closed and not client.taken().endswith(b"0\r\n\r\n")
        client.send(GET)
        client.pass_time(LINGER_S + 0.3)
        assert client.transport.over and len(client.tunnel.opened) == 1
        (line,) = client.log
        assert (line["status"], line["error"]) == (200, "upstream-unreachable")

    def test_cut_of_what_ends_with_its_connection(self) -> None:
        """To an HTTP/1.0 client an end would look like a whole response: its connection is reset."""
        client = Client(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        client.respond(OK + b"some", True)
        client.call.refuse(frames.FAILED)
        client.clock.advance(0)
        assert client.transport.aborted

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    def test_without_body(self, status: bytes) -> None:
        """204 and 304 end with their heads."""
        client = Client(GET + GET)
        client.respond(b"HTTP/1.1 " + status + b"\r\n\r\n")
        data = client.taken()
        assert data.endswith(b"\r\n\r\n") and b"transfer-encoding" not in data.lower()
        assert len(client.tunnel.opened) == 2

    def test_head(self) -> None:
        """The answer to HEAD has the length that GET's would have, and no body; also when Pico makes it."""
        client = Client(GET.replace(b"GET", b"HEAD") + GET)
        client.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        status, fields, body = client.answer()
        assert (status, fields["content-length"], body) == (200, "1000", b"")
        assert len(client.tunnel.opened) == 2
        client = Client(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, fields, body = client.answer()
        assert (status, body) == (400, b"") and int(fields["content-length"]) > 0

    def test_old_clients(self) -> None:
        """HTTP/1.0 clients get no chunks, and their connection is kept only if they asked and the length is known."""
        old = GET.replace(b"HTTP/1.1", b"HTTP/1.0")
        keeping = old.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        client = Client(old)
        client.respond(OK2 + b"hi")
        assert client.answer()[1]["connection"] == "close"
        client.clock.advance(0)
        assert client.transport.over
        client = Client(keeping)
        client.respond(OK2 + b"hi")
        assert client.answer()[1]["connection"] == "keep-alive" and not client.transport.disconnecting
        client.send(keeping)
        client.respond(OK + b"some", True)
        status, fields, body = client.answer()
        assert (status, fields["connection"], body) == (200, "close", b"some")
        assert "transfer-encoding" not in fields and "content-length" not in fields
        client.respond(b"more")
        client.clock.advance(0)
        assert client.taken() == b"more" and client.transport.over and not client.transport.aborted

    def test_old_client_without_host(self) -> None:
        """HTTP/1.0 without a Host is served by its header, and kept when it is refused and asked for it."""
        client = Client(b"GET / HTTP/1.0\r\nx-pico-endpoint: my-ep\r\n\r\n")
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client = Client(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (400, "keep-alive")


class TestErrors:
    """What is refused, and how."""

    @pytest.mark.parametrize(
        ("data", "status", "code"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad-request"),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "bad-request",
            ),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bad-request"),
            (b"nonsense\r\n\r\n", 400, "bad-request"),
            (b"\x16\x03\x01", 400, "bad-request"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-Pico-Endpoint: a\r\nX-Pico-Endpoint: b\r\n\r\n", 400, "bad-request"),
            (UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"), 400, "bad-request"),
            (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri-too-long"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431, "head-too-large"),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not-implemented"),
            (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not-implemented"),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version"),
            (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version"),
        ],
    )
    def test_malformed(self, data: bytes, status: int, code: str) -> None:
        """What is no valid request gets one answer in JSON that says why, and the connection ends."""
        client = Client(data + GET)
        got, fields, body = client.answer()
        assert (got, fields["x-pico-error"]) == (status, f"n1; {code}")
        assert fields["connection"] == "close" and fields["content-type"] == "application/json"
        assert set(json.loads(body)) == {"error"}
        assert client.tunnel.opened == [] and client.transport.half_closed
        client.send(GET)
        client.transport.receive_fin()
        client.pass_time(0.1)
        assert client.transport.over and client.taken() == b""
        (line,) = client.log
        assert (line["status"], line["error"]) == (status, code)

    @pytest.mark.parametrize(
        ("head", "status", "code", "words"),
        [
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "missing-endpoint", "missing endpoint id"),
            (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "missing-endpoint", "missing endpoint id"),
            (b"GET / HTTP/1.1\r\nHost: -a.b.c\r\n\r\n", 400, "invalid-endpoint", "invalid endpoint id"),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nx-pico-endpoint: /\r\n\r\n",
                400,
                "invalid-endpoint",
                "invalid endpoint id",
            ),
            (b"GET / HTTP/1.1\r\nHost: nobody.b.c\r\n\r\n", 502, "no-upstreams", "no available upstreams"),
        ],
    )
    def test_unroutable(self, head: bytes, status: int, code: str, words: str) -> None:
        """A request that goes nowhere is answered in JSON, and its connection goes on."""
        client = Client(head)
        got, fields, body = client.answer()
        assert (got, fields["x-pico-error"], json.loads(body)) == (status, f"n1; {code}", {"error": words})
        assert fields["date"].endswith(" GMT") and not client.transport.disconnecting
        client.send(GET)
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        assert [line["status"] for line in client.log] == [status, 200]

    def test_unroutable_with_a_body_to_come(self) -> None:
        """When the body has not come, the connection ends behind the answer instead of reading it."""
        client = Client(POST.replace(b"my-ep", b"nobody"))
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (502, "close") and client.transport.half_closed

    def test_busy(self) -> None:
        """503 says when to come again."""
        client = Client(max_calls=0)
        client.send(GET)
        status, fields, _ = client.answer()
        assert (status, fields["retry-after"]) == (503, "1")

    @pytest.mark.parametrize("bad", [b"zz\r\n", b"-1\r\n", b"5\r\nhelloX", b"1;" + b"x" * 50_000])
    def test_bad_bodies(self, bad: bytes) -> None:
        """A body that breaks HTTP ends its request with 400, and its call with a reset; nothing of the rest is read."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.send(bad)
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (400, "close")
        assert client.call.reset_code == frames.CANCELLED and client.call.sent.endswith(b"hello")
        client.send(GET)
        assert len(client.tunnel.opened) == 1
        (line,) = client.log
        assert (line["status"], line["error"]) == (400, "bad-request")

    def test_bad_body_with_its_head(self) -> None:
        """The same when the fault comes with the head: no call is made."""
        client = Client(CHUNKED + b"zz\r\n")
        assert client.answer()[0] == 400 and client.tunnel.opened == []
        assert len(client.log) == 1

    def test_bad_body_behind_an_answer(self) -> None:
        """When the answer has begun nothing can be said any more: the connection is dropped."""
        client = Client(CHUNKED)
        client.respond(OK + b"some", True)
        client.taken()
        client.send(b"zz\r\n")
        client.clock.advance(0)
        assert client.transport.over and client.taken() == b""
        assert client.call.reset_code == frames.CANCELLED


class TestTime:
    """How long a client may take."""

    @pytest.mark.parametrize("trickle", [False, True])
    def test_slow_head(self, trickle: bool) -> None:
        """A head has its time in all, however it comes; then 408."""
        client = Client(b"GET / HTTP/1.1\r\n")
        for _ in range(10):
            client.pass_time(HEAD_TIMEOUT_S / 10 - 0.05)
            if trickle:
                client.send(b"X: y\r\n")
        assert client.taken() == b""
        client.pass_time(1.0)
        status, fields, _ = client.answer()
        assert (status, fields["x-pico-error"], fields["connection"]) == (408, "n1; request-timeout", "close")

    def test_silent_from_the_start(self) -> None:
        """A connection on which nothing comes is closed without a word."""
        client = Client()
        client.pass_time(HEAD_TIMEOUT_S + 0.2)
        assert client.transport.over and client.taken() == b"" and client.log == []

    def test_slow_second_head(self) -> None:
        """A later head has the same time, from its first byte."""
        client = Client(GET)
        client.respond(OK2 + b"hi")
        client.taken()
        client.pass_time(KEEPALIVE_S - 1)
        client.send(b"GET ")
        client.pass_time(HEAD_TIMEOUT_S - 0.3)
        assert client.taken() == b""
        client.pass_time(0.6)
        assert client.answer()[0] == 408

    def test_each_head_has_its_own_time(self) -> None:
        """The time that one head took is not taken from the next."""
        client = Client(GET[:10])
        client.pass_time(HEAD_TIMEOUT_S - 0.3)
        client.send(GET[10:])
        client.respond(OK2 + b"hi")
        client.pass_time(1)
        client.send(GET[:10])
        client.pass_time(HEAD_TIMEOUT_S - 0.3)
        client.send(GET[10:])
        client.respond(OK2 + b"hi")
        assert client.taken().count(b"200 OK") == 2

    def test_pipelined_head(self) -> None:
        """A head that came in part behind a request counts from when it can be read."""
        client = Client(GET + b"GET ")
        client.pass_time(TIMEOUT_S - 1)
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client.pass_time(HEAD_TIMEOUT_S + 0.3)
        assert client.answer()[0] == 408

    def test_idle(self) -> None:
        """A connection that is kept alive may be idle for a while; then it is closed without a word."""
        client = Client()
        for _ in range(3):
            client.send(GET)
            client.respond(OK2 + b"hi")
            client.pass_time(KEEPALIVE_S - 0.3)
            assert not client.transport.disconnecting
        client.taken()
        client.pass_time(0.6)
        assert client.transport.over and client.taken() == b""

    def test_long_requests(self) -> None:
        """While a request is served no timer of the connection runs."""
        client = Client(GET)
        for _ in range(10):
            client.pass_time(TIMEOUT_S - 0.5)
            client.respond(b"HTTP/1.1 102 Processing\r\n\r\n", True)
        client.respond(OK2 + b"hi")
        assert client.taken().endswith(b"hi")

    def test_timeouts_of_the_service(self) -> None:
        """A service that does not answer is 504, and the connection goes on."""
        client = Client(GET)
        client.pass_time(TIMEOUT_S + 1.5)
        status, fields, body = client.answer()
        assert (status, json.loads(body)) == (504, {"error": "upstream timeout"}) and "connection" not in fields
        client.send(GET)
        assert len(client.tunnel.opened) == 2

    def test_slow_body(self) -> None:
        """A client that stops in the middle of its body gets 408 after the idle limit."""
        client = Client(POST + b"he")
        client.pass_time(IDLE_S + 0.5)
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (408, "close")


class TestEnds:
    """Clients that end their half, leave, or send what nobody wants."""

    def test_half_close(self) -> None:
        """A client that ends its half behind its request gets its whole answer."""
        for close in (b"", b"Connection: close\r\n"):
            client = Client(GET.replace(b"\r\n\r\n", b"\r\n" + close + b"\r\n"))
            client.transport.receive_fin()
            client.respond(OK + b"some", True)
            client.respond(b"more")
            client.clock.advance(0)
            status, fields, body = client.answer()
            assert (status, fields["connection"]) == (200, "close") and body.endswith(b"4\r\nmore\r\n0\r\n\r\n")
            assert client.transport.over and not client.transport.aborted

    def test_half_close_behind_a_pipeline(self) -> None:
        """All requests before the end are served; the last answer says close."""
        client = Client(GET * 3)
        client.transport.receive_fin()
        for number in range(3):
            client.respond(OK2 + b"hi")
            status, fields, _ = client.answer()
            assert (status, fields.get("connection")) == (200, "close" if number == 2 else None)
        client.clock.advance(0)
        assert client.transport.over and not client.transport.aborted

    def test_half_close_with_a_large_answer(self) -> None:
        """Also an answer that takes its time reaches such a client."""
        client = Client(GET)
        client.transport.receive_fin()
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(100_000), True)
        client.respond(bytes(100_000))
        client.pass_time(KEEPALIVE_S - 1)
        while client.transport.held:
            client.transport.take(1000)
        client.clock.advance(0)
        assert len(client.answer()[2]) == 200_000 and client.transport.over

    def test_half_close_while_the_answer_flows(self) -> None:
        """Also when the end comes behind the answer's head: as long as something flows, somebody may read it."""
        client = Client(GET)
        client.respond(BIG_HEAD + bytes(100_000), True)
        client.transport.receive_fin()
        for number in range(10):
            client.pass_time(0.2)
            client.respond(bytes(10_000), number < 9)
        client.clock.advance(0)
        assert len(client.answer()[2]) == 200_000 and client.transport.over and not client.transport.aborted

    def test_end_while_the_answer_pauses(self) -> None:
        """When nothing flows behind the head, an end means that the client has left: seen within a second."""
        client = Client(GET)
        client.respond(OK + b"event", True)
        client.transport.receive_fin()
        client.pass_time(1.0)
        assert client.transport.over and client.call.reset_code == frames.CANCELLED
        (line,) = client.log
        assert (line["status"], line["error"]) == (200, "client-gone")

    def test_end_before_an_answer_that_pauses(self) -> None:
        """A client that ended before the head came was asked then, and gets its answer however slowly it comes."""
        client = Client(GET)
        client.transport.receive_fin()
        client.pass_time(1)
        client.respond(OK + b"event", True)
        client.pass_time(IDLE_S - 1)
        client.respond(b"event")
        client.clock.advance(0)
        assert client.taken().endswith(b"0\r\n\r\n") and client.transport.over

    def test_half_close_in_the_middle(self) -> None:
        """A client that ends within its head or body has left: its call is cancelled."""
        client = Client(b"GET / HT")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and client.taken() == b""
        client = Client(POST + b"he")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and client.call.reset_code == frames.CANCELLED
        (line,) = client.log
        assert (line["status"], line["error"]) == (499, "client-gone")

    def test_half_close_when_idle(self) -> None:
        """An idle connection is closed with the client's end."""
        client = Client(GET)
        client.respond(OK2 + b"hi")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and not client.transport.aborted

    def test_asked(self) -> None:
        """A client whose end came, and that waits, is asked once with a 100; an HTTP/1.0 client is not."""
        client = Client(GET)
        client.transport.receive_fin()
        client.pass_time(2)
        assert client.taken() == CONTINUE
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client = Client(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        client.transport.receive_fin()
        client.pass_time(2)
        assert client.taken() == b""
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200

    @pytest.mark.parametrize("answered", [False, True])
    def test_client_leaves(self, answered: bool) -> None:
        """A connection that is gone cancels its call and is logged as 499, or with the status that had begun."""
        client = Client(GET)
        if answered:
            client.respond(OK + b"some", True)
        client.transport.receive_reset()
        assert client.call.reset_code == frames.CANCELLED
        (line,) = client.log
        assert (line["status"], line["error"]) == (200 if answered else 499, "client-gone")
        assert not client.parts.site.connections and not client.parts.cluster.pending

    def test_stop(self) -> None:
        """When the service wants no more of a body, the answer is delivered and what still comes is thrown away."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client.call.refuse(frames.STOP)
        assert client.transport.half_closed and not client.transport.over
        for _ in range(10):
            client.send(b"5\r\nhello\r\n")
        assert not client.transport.over and client.transport.reading
        client.transport.receive_fin()
        client.pass_time(0.1)
        assert client.transport.over
        assert len(client.tunnel.opened) == 1

    def test_lingering_ends(self) -> None:
        """What is thrown away is bounded, in time and in bytes."""
        client = Client(b"nonsense\r\n\r\n")
        client.pass_time(LINGER_S - 0.2)
        assert not client.transport.over
        client.pass_time(0.5)
        assert client.transport.over and not client.transport.aborted, "what the kernel still holds may go out"
        client = Client(b"nonsense\r\n\r\n")
        for _ in range(LINGER_BYTES // 65536 + 2):
            client.send(bytes(65536))
        assert client.transport.over

    def test_slow_reader_of_an_early_answer(self) -> None:
        """An answer that ended before its request reaches a slow client whole, if it takes it within a keep-alive."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        client.call.refuse(frames.STOP)
        for _ in range(10):
            client.pass_time(0.5)
            client.transport.take(10_000)
        while client.transport.held:
            client.transport.take(10_000)
        assert len(client.answer()[2]) == 200_000 and client.transport.half_closed
        client.pass_time(LINGER_S + 0.3)
        assert client.transport.over

    def test_half_close_while_lingering(self) -> None:
        """A client that ends its half while it still reads such an answer gets all of it."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        client.call.refuse(frames.STOP)
        client.transport.receive_fin()
        client.pass_time(0.2)
        while client.transport.held:
            client.transport.take(10_000)
        assert len(client.answer()[2]) == 200_000
        client.pass_time(0.2)
        assert client.transport.over and not client.transport.aborted

    def test_slow_reader_of_the_last_answer(self) -> None:
        """A closing connection waits for its client to take the answer, and not for ever."""
        client = Client(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        client.pass_time(KEEPALIVE_S - 1)
        assert not client.transport.over
        client.pass_time(2)
        assert client.transport.over

    def test_early_answer_and_the_rest_of_the_body(self) -> None:
        """A client that goes on sending after an early answer may use its connection again."""
        client = Client(POST + b"he")
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200 and not client.transport.disconnecting
        client.send(b"llo" + GET)
        assert len(client.tunnel.opened) == 2 and client.tunnel.opened[0].send_ended


class TestFlow:
    """Nobody holds more than is needed."""

    def test_slow_client(self) -> None:
        """While the client's transport is full no credit is given; what it holds is counted."""
        client = Client(GET)
        client.transport.takes = False
        client.respond(OK, True)
        for _ in range(3):
            client.respond(bytes(40_000), True)
        consumed = client.call.consumed
        assert consumed < 100_000
        assert client.parts.site.held_bytes() >= 64 * 1024
        client.pass_time(1)
        assert client.parts.budget.held >= 64 * 1024
        client.transport.take()
        assert client.call.consumed > consumed and client.parts.site.held_bytes() == 0
        client.transport.takes = True
        client.respond(b"end")
        assert client.taken().endswith(b"0\r\n\r\n")

    def test_slow_client_that_asks_on(self) -> None:
        """A client that does not take its answers gets no credit for the next one either."""
        client = Client(GET + GET)
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        assert len(client.tunnel.opened) == 2
        client.respond(OK + bytes(50_000), True)
        assert client.call.consumed == 0
        client.transport.take()
        assert client.call.consumed == len(OK) + 50_000

    def test_slow_service(self) -> None:
        """While much of a body waits the client is not read; then it goes on where it was."""
        client = Client(CHUNKED)
        client.tunnel.takes = False
        sent = 0
        while client.transport.reading:
            client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
            sent += 65535
            assert sent < 400_000
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert not client.call.send_ended
        client.call.take()
        client.clock.advance(0)
        assert client.transport.reading and client.call.send_ended
        assert len(client.call.sent) - len(client.call.first) == sent + 5
        client.tunnel.takes = True

    def test_two_reasons(self) -> None:
        """A connection that is paused for two reasons goes on when both are gone."""
        client = Client(CHUNKED)
        client.channel.pause_reading("request")
        client.channel.pause_reading("ahead")
        client.channel.resume_reading("request")
        client.channel.resume_reading("request")
        assert not client.transport.reading
        client.channel.resume_reading("ahead")
        assert client.transport.reading

    def test_paused_and_gone(self) -> None:
        """A client that leaves while it is not read is noticed by its reset."""
        client = Client(CHUNKED)
        client.tunnel.takes = False
        for _ in range(4):
            client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
        assert not client.transport.reading
        client.transport.receive_reset()
        assert client.call.reset_code == frames.CANCELLED

    def test_413_while_reading(self) -> None:
        """A body that gets too large for a v1 agent is refused in its middle."""
        client = Client(CHUNKED, version=1, v1_body_bytes=100_000)
        for _ in range(2):
            client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (413, "close")
        client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
        client.pass_time(LINGER_S + 0.5)
        assert client.transport.over and len(client.log) == 1


class TestUpgrades:
    """Raw bytes both ways."""

    def upgraded(self, early: bytes = b"") -> Client:
        """A connection whose upgrade was granted."""
        client = Client(UPGRADE + early)
        client.respond(SWITCH + b"first", True)
        status, fields, rest = client.answer()
        assert (status, fields["connection"], fields["upgrade"], rest) == (101, "Upgrade", "x", b"first")
        return client

    def test_both_ways(self) -> None:
        """Bytes pass as they are, those sent ahead of the 101 too; HTTP in them is none."""
        client = self.upgraded(b"early")
        client.send(GET)
        assert bytes(client.call.sent).endswith(b"\r\n\r\nearly" + GET)
        client.respond(OK2, True)
        assert client.taken() == OK2
        client.pass_time(60)
        assert not client.transport.over

    def test_client_ends(self) -> None:
        """The client's end goes to the service, whose bytes still come."""
        client = self.upgraded()
        client.transport.receive_fin()
        assert client.call.send_ended
        client.respond(b"last words", True)
        client.respond(b"")
        client.clock.advance(0)
        assert client.taken() == b"last words" and client.transport.over and not client.transport.aborted
        (line,) = client.log
        assert (line["status"], line["error"]) == (101, "")

    def test_service_ends(self) -> None:
        """The service's end goes to the client, whose bytes still go."""
        client = self.upgraded()
        client.respond(b"bye")
        assert client.taken() == b"bye" and client.transport.half_closed and not client.transport.over
        client.send(b"last words")
        assert bytes(client.call.sent).endswith(b"last words")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over

    def test_ended_before_the_101(self) -> None:
        """A client that half-closed behind its offer is upgraded, and its end goes to the service."""
        client = Client(UPGRADE + b"all I have to say")
        client.transport.receive_fin()
        client.respond(SWITCH, True)
        assert bytes(client.call.sent).endswith(b"all I have to say") and client.call.send_ended
        client.respond(b"answer")
        client.clock.advance(0)
        assert client.taken().endswith(b"answer") and client.transport.over

    @pytest.mark.parametrize("how", ["client", "service"])
    def test_gone(self, how: str) -> None:
        """When either end is gone, the other is dropped."""
        client = self.upgraded()
        if how == "client":
            client.transport.receive_reset()
            assert client.call.reset_code == frames.CANCELLED
        else:
            client.call.refuse(frames.FAILED)
            client.clock.advance(0)
            assert client.transport.aborted

    def test_declined(self) -> None:
        """A service that declines answers like any other, and the connection goes on."""
        client = Client(UPGRADE)
        client.respond(OK2 + b"no")
        assert client.answer()[0] == 200
        client.send(GET)
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200

    def test_many_early_bytes(self) -> None:
        """What a client sends ahead of a 101 is bounded."""
        client = Client(UPGRADE)
        while client.transport.reading:
            client.send(bytes(10_000))
        client.respond(SWITCH, True)
        client.clock.advance(0)
        assert client.transport.reading and len(client.call.sent) > READ_AHEAD_BYTES

    def test_slow_service(self) -> None:
        """Backpressure holds for upgraded bytes as well."""
        client = self.upgraded()
        client.tunnel.takes = False
        while client.transport.reading:
            client.send(bytes(60_000))
        client.call.take()
        assert client.transport.reading


class TestDraining:
    """A node that shuts down."""

    def test_idle_connections(self) -> None:
        """Idle connections have a moment left: a request that is on its way still gets its answer, with close."""
        client, late = Client(GET), None
        client.respond(OK2 + b"hi")
        client.taken()
        late = Client(parts=client.parts)
        client.parts.site.drain()
        client.pass_time(DRAIN_IDLE_S - 0.3)
        client.send(GET)
        client.respond(OK2 + b"hi")
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (200, "close")
        client.pass_time(0.7)
        assert client.transport.over and late.transport.over

    def test_in_progress(self) -> None:
        """A request in progress is finished, and its answer closes the connection."""
        client = Client(GET + GET)
        client.parts.site.drain()
        client.pass_time(3)
        client.respond(OK + b"some", True)
        assert client.answer()[1]["connection"] == "close"
        client.pass_time(3)
        client.respond(b"more")
        client.pass_time(LINGER_S + 1)
        assert client.transport.over and len(client.tunnel.opened) == 1

    def test_answer_that_began_before(self) -> None:
        """An answer that had begun when draining began ends, and then the connection does."""
        client = Client(GET)
        client.respond(OK + b"some", True)
        client.parts.site.drain()
        client.respond(b"more")
        assert client.taken().endswith(b"0\r\n\r\n")
        client.pass_time(DRAIN_IDLE_S + 0.3)
        assert client.transport.over

    def test_quiet(self) -> None:
        """The node knows when no request came for a while."""
        client = Client(GET)
        quiet = client.parts.site.quiet_for(1.0, client.clock)
        assert client.parts.site.serving() == 1
        client.pass_time(2)
        assert not quiet()
        client.respond(OK2 + b"hi")
        client.pass_time(0.9)
        assert not quiet()
        client.pass_time(0.2)
        assert quiet() and client.parts.site.serving() == 0
        client.send(GET)
        client.respond(OK2 + b"hi")
        assert not quiet()


def test_too_many_connections() -> None:
    """Connections over the limit are dropped at once, and cost nothing."""
    client = Client(max_connections=2)
    second, third = Client(parts=client.parts), Client(parts=client.parts)
    third.clock.advance(0)
    assert third.transport.over and not second.transport.over
    third.transport.receive(GET)
    second.transport.receive_fin()
    second.clock.advance(0)
    fourth = Client(parts=client.parts)
    assert not fourth.transport.over and len(client.parts.site.connections) == 2


def test_metrics() -> None:
    """Requests are counted by method and status, refused ones too."""
    client = Client(GET + b"nonsense\r\n\r\n")
    client.respond(OK2 + b"hi")
    text = client.parts.metrics.exposition().decode()
    assert 'method="GET",status="200"' in text and 'status="400"' in text


def test_nothing_is_left() -> None:
    """A connection that is over leaves no timer and no trace."""
    client = Client(GET)
    client.respond(OK2 + b"hi")
    client.transport.receive_fin()
    client.pass_time(1)
    client.parts.stop()
    assert client.clock.getDelayedCalls() == []
    assert not client.parts.site.connections and not client.parts.site.paused

"""Clients of the proxy port over HTTP/2: what a request is given, and what it gets."""

from __future__ import annotations

from pathlib import Path

import h2.events as events
import pytest
from h2.errors import ErrorCodes

from pico_twisted.config import AuthConfig, NodeConfig
from pico_twisted.core.access.credentials_file import hash_of
from pico_twisted.core.access.revocations import Meant
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.core.rpc.frames import CANCELLED
from pico_twisted.net.proxy.http2.linger import CLIENT_STOPS_S
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK, OK2
from tests.net.proxy.http2_client import Http2Client
from tests.net.proxy.proxy_client import GET, Client


class TestRequests:
    """Each stream is a request."""

    def test_get(self) -> None:
        """What crosses the tunnel is a head of HTTP/1.1, with the account of the client; the answer is whole."""
        client = Http2Client()
        stream = client.request(b"/a?b=1", (b"accept", b"x"), (b"cookie", b"a=1"), (b"cookie", b"b=2"))
        head, _, rest = bytes(client.call.sent).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[:2] == [b"GET /a?b=1 HTTP/1.1", b"Host: my-ep.example.com"]
        assert {b"accept: x", b"cookie: a=1; b=2", b"X-Forwarded-For: 192.0.2.7"} <= set(lines)
        assert client.call.send_ended and not rest
        client.respond(b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 2\r\nKeep-Alive: 5\r\n\r\nhi")
        status, fields, body = client.answer(stream)
        assert (status, body, client.ended(stream)) == (200, b"hi", True)
        assert fields[b"content-type"] == b"text/x" and fields[b"content-length"] == b"2"
        assert b"keep-alive" not in fields and fields[b"x-request-id"]
        (line,) = client.log
        told = (line["method"], line["target"], line["protocol"], line["status"], line["bytes_out"], line["host"])
        assert told == ("GET", "/a?b=1", "HTTP/2.0", 200, 2, "my-ep.example.com")

    def test_via(self) -> None:
        """Where it is on, Via says what the client spoke (RFC 9110 7.6.3)."""
        client = Http2Client(via=True)
        stream = client.request(b"/a", (b"via", b"1.0 other"))
        assert b"\r\nvia: 1.0 other\r\n" in client.call.sent and b"\r\nVia: 2 pico-n1\r\n" in client.call.sent
        client.respond(OK2 + b"ok")
        assert client.answer(stream)[1][b"via"] == b"1.1 pico-n1"

    def test_many_at_once(self) -> None:
        """Requests go on beside each other, and are answered in any order."""
        client = Http2Client()
        streams = [client.request(b"/%d" % number, flush=False) for number in range(50)]
        client.flush()
        assert len(client.tunnel.opened) == 50 and client.parts.proxy.serving() == 50
        for number, call in reversed(list(enumerate(client.tunnel.opened))):
            call.respond(OK2 + b"%02d" % number, False)
        client.flush()
        assert [client.answer(stream)[2] for stream in streams] == [b"%02d" % number for number in range(50)]
        assert client.parts.proxy.serving() == 0

    def test_a_body_that_came_with_the_head(self) -> None:
        """It is one frame in the tunnel."""
        client = Http2Client()
        stream = client.request(b"/a", (b"content-length", b"5"), method=b"POST", ended=False, flush=False)
        client.send(stream, b"hello", True)
        assert client.call.first.endswith(b"\r\n\r\nhello") and client.call.send_ended

    def test_a_body_in_pieces(self) -> None:
        """Of any length, with or without a content-length."""
        client = Http2Client()
        stream = client.request(b"/a", method=b"POST", ended=False)
        for _ in range(10):
            client.send(stream, bytes(30_000))
        client.send(stream, b"", True)
        assert client.call.send_ended and client.call.sent.endswith(bytes(300_000))
        client.respond(OK2 + b"ok")
        assert client.answer(stream)[2] == b"ok" and client.log[0]["bytes_in"] == 300_000

    def test_head(self) -> None:
        """The answer to a HEAD has a length and no body."""
        client = Http2Client()
        stream = client.request(method=b"HEAD")
        client.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        status, fields, body = client.answer(stream)
        assert (status, fields[b"content-length"], body, client.ended(stream)) == (200, b"100", b"", True)

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    def test_without_a_body(self, status: bytes) -> None:
        """The head ends the stream."""
        client = Http2Client()
        stream = client.request()
        client.respond(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
        (head,) = client.of(stream, events.ResponseReceived)
        assert head.stream_ended is not None and client.answer(stream)[2] == b""

    def test_interim(self) -> None:
        """Early hints and the 100 that a client waits for come before the answer."""
        client = Http2Client()
        stream = client.request(b"/a", (b"expect", b"100-continue"), method=b"POST", ended=False)
        client.respond(b"HTTP/1.1 100 Continue\r\n\r\n", True)
        client.respond(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", True)
        client.send(stream, b"x", True)
        client.respond(OK2 + b"ok")
        interim = [dict(event.headers) for event in client.of(stream, events.InformationalResponseReceived)]
        assert [fields[b":status"] for fields in interim] == [b"100", b"103"] and interim[1][b"link"] == b"</a>"
        assert client.answer(stream)[2] == b"ok"

    def test_trailers_both_ways(self) -> None:
        """What a client sends as trailers the service gets, and the other way round."""
        client = Http2Client()
        client.tunnel.capabilities = frozenset((TRAILERS,))
        stream = client.request(b"/a", (b"te", b"trailers"), method=b"POST", ended=False)
        assert b"\r\nTE: trailers\r\n" in client.call.sent
        client.send(stream, b"body")
        client.h2.send_headers(stream, [(b"x-sum", b"1"), (b"authorization", b"no")], end_stream=True)
        client.flush()
        assert client.call.send_ended and client.call.trailers == b"x-sum: 1\r\n"
        client.respond(OK + b"hi", True)
        client.call.respond_with_trailers(b"grpc-status: 0\r\nset-cookie: no\r\n")
        client.flush()
        (trailers,) = client.of(stream, events.TrailersReceived)
        assert list(trailers.headers) == [(b"grpc-status", b"0")]
        assert client.body(stream) == b"hi" and client.ended(stream) and not client.resets(stream)

    def test_trailers_with_the_head(self) -> None:
        """Those of a request that came whole with one read, too."""
        client = Http2Client()
        client.tunnel.capabilities = frozenset((TRAILERS,))
        stream = client.request(b"/a", method=b"POST", ended=False, flush=False)
        client.h2.send_data(stream, b"body")
        client.h2.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)
        client.flush()
        assert client.call.send_ended and client.call.trailers == b"x-sum: 1\r\n"
        assert client.call.sent.endswith(b"body")

    def test_the_preface_in_pieces(self) -> None:
        """A client whose first bytes come one by one is served like any other."""
        client = Client()
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            client.send(bytes((byte,)))
        assert client.taken()[3] == 4  # SETTINGS
        other = Client(b"PR")
        other.send(b"OPFIND /a HTTP/1.1\r\nHost: my-ep.example.com\r\n\r\n")
        assert other.call.sent.startswith(b"PROPFIND /a HTTP/1.1\r\n")

    def test_only_as_the_first(self) -> None:
        """Behind a request of HTTP/1.1 the preface is no request."""
        client = Client(GET)
        client.respond(OK2 + b"ok")
        client.taken()
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.answer()[0] == 505

    def test_h2c_by_upgrade(self) -> None:
        """Nobody is changed to HTTP/2 in the middle of a connection."""
        fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n"
        client = Client(GET[:-2] + fields)
        assert b"pgrade" not in client.call.sent and b"ettings" not in client.call.sent
        client.respond(OK2 + b"ok")
        assert client.answer()[0] == 200


class TestRefusals:
    """What is not served, and how that looks."""

    def test_no_upstreams(self) -> None:
        """An error of the node is JSON, or a page for a browser; the connection goes on."""
        client = Http2Client()
        for accept, kind in ((b"*/*", b"application/json"), (b"text/html", b"text/html; charset=utf-8")):
            stream = client.request(b"/a", (b"accept", accept), host=b"other.example.com")
            status, fields, body = client.answer(stream)
            assert (status, fields[b"x-pico-error"], fields[b"content-type"]) == (502, b"n1; no-upstreams", kind)
            assert int(fields[b"content-length"]) == len(body) > 0 and client.ended(stream)
            assert b"connection" not in fields
        assert [line["error"] for line in client.log] == ["no-upstreams"] * 2

    def test_an_error_before_the_body_has_come(self) -> None:
        """A client that goes on sending is told to stop, some time behind the answer; what it sends is forgotten."""
        client = Http2Client()
        stream = client.request(b"/a", method=b"POST", host=b"other.example.com", ended=False)
        assert client.answer(stream)[0] == 502 and client.ended(stream)
        assert client.stopped(stream)
        assert client.parts.proxy.serving() == 0

    def test_a_client_that_stops_by_itself(self) -> None:
        """One that ends its stream behind the answer hears no more of it: a reset may overtake the answer within a
        client, which then reports that instead (curl does)."""
        client = Http2Client()
        stream = client.request(b"/a", method=b"POST", host=b"other.example.com", ended=False)
        client.send(stream, b"more", ended=True)
        client.pass_time(CLIENT_STOPS_S + 0.5)
        assert client.answer(stream)[0] == 502 and not client.resets(stream)

    def test_an_answer_before_the_body_has_come(self) -> None:
        """An answer that does not wait for the body is whole, and the rest goes on as long as it is taken."""
        client = Http2Client()
        stream = client.request(b"/a", method=b"POST", ended=False)
        client.respond(OK2 + b"no")
        assert client.answer(stream)[2] == b"no" and client.ended(stream) and not client.resets(stream)
        client.send(stream, b"more")
        assert client.call.sent.endswith(b"more")
        client.call.refuse("stop")
        client.flush()
        assert client.stopped(stream)
        assert client.log[0]["status"] == 200 and client.log[0]["error"] == ""

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ([(b"content-length", b"1"), (b"x", b"a\x01b")], 400),
            ([(b"x", b"y" * 70_000)], 431),
            ([(b"expect", b"something")], 417),
        ],
    )
    def test_a_bad_head(self, fields: list[tuple[bytes, bytes]], status: int) -> None:
        """What is no request in HTTP/1.1 is none here, and those beside it are served."""
        client = Http2Client()
        other = client.request()
        stream = client.request(b"/a", *fields, method=b"POST", ended=False)
        answered = client.of(stream, events.ResponseReceived)
        assert not answered or client.answer(stream)[0] == status
        assert client.resets(stream) or client.stopped(stream)
        assert len(client.tunnel.opened) == 1
        client.respond(OK2 + b"ok")
        assert client.answer(other)[2] == b"ok"

    def test_connect(self) -> None:
        """A CONNECT is not served, and of those for a protocol only that for a WebSocket."""
        client = Http2Client()
        stream = client.websocket(protocol=b"connect-udp")
        assert client.answer(stream)[0] == 501 and not client.tunnel.opened
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, [(b":method", b"CONNECT"), (b":authority", b"my-ep.example.com:443")])
        client.flush()
        assert client.answer(stream)[0] == 501 and not client.tunnel.opened

    def test_what_authenticates_a_connection(self) -> None:
        """A connection of HTTP/2 belongs to nobody: the client is told to come over HTTP/1.1."""
        client = Http2Client()
        stream = client.request(b"/a", (b"authorization", b"NTLM TlRMTVNTUAAB"))
        assert client.resets(stream) == [ErrorCodes.HTTP_1_1_REQUIRED] and not client.tunnel.opened
        assert client.log[0]["error"] == "http-1.1-required"

    def test_a_long_body(self) -> None:
        """A body over the limit of version 1 of the protocol is refused, as over HTTP/1.1."""
        client = Http2Client(tunnel=FakeTunnel(version=1, v1_body_bytes=1000))
        stream = client.request(b"/a", method=b"POST", ended=False)
        client.send(stream, bytes(2000))
        assert client.answer(stream)[0] == 413 and client.stopped(stream)


class TestEnds:
    """Whatever breaks off is seen by the other side."""

    def test_a_client_that_gives_up(self) -> None:
        """Its call is cancelled at once, and others go on."""
        client = Http2Client()
        first = client.request()
        second = client.request()
        client.reset(first)
        assert client.tunnel.opened[0].reset_code == CANCELLED and client.tunnel.opened[1].reset_code is None
        client.respond(OK2 + b"ok")
        assert client.answer(second)[2] == b"ok"
        assert [(line["status"], line["error"]) for line in client.log] == [(499, "client-gone"), (200, "")]

    def test_one_that_gives_up_at_once(self) -> None:
        """A request that came and went with one read is never made."""
        client = Http2Client()
        stream = client.request(flush=False)
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        assert not client.tunnel.opened and client.parts.proxy.serving() == 0

    def test_a_client_that_leaves(self) -> None:
        """All of its calls are cancelled, whether it resets the connection or ends its half."""
        for leave in ("receive_reset", "receive_fin"):
            client = Http2Client()
            client.request()
            client.request()
            getattr(client.transport, leave)()
            client.clock.advance(1)
            assert [call.reset_code for call in client.tunnel.opened] == [CANCELLED] * 2
            assert client.transport.over and not client.parts.proxy.connections
            client.parts.stop()
            assert client.clock.getDelayedCalls() == []

    def test_a_response_that_is_cut(self) -> None:
        """Its stream is reset behind what there was."""
        client = Http2Client()
        stream = client.request()
        client.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome", True)
        client.call.refuse("failed")
        client.flush()
        assert client.body(stream) == b"some" and not client.ended(stream)
        assert client.resets(stream) == [ErrorCodes.INTERNAL_ERROR]
        assert client.log[0]["error"] == "upstream-unreachable"

    def test_a_head_that_is_cut(self) -> None:
        """One of which nothing but the head had come, too: the client gets the head."""
        client = Http2Client()
        stream = client.request()
        client.call.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", True)
        client.call.refuse("failed")
        client.flush()
        assert client.answer(stream)[0] == 200 and client.resets(stream) == [ErrorCodes.INTERNAL_ERROR]

    def test_an_agents_own_error(self) -> None:
        """It is told in the node's words."""
        client = Http2Client()
        stream = client.request()
        client.respond(b'HTTP/1.1 502 x\r\nx-pico-error: a1; service-unreachable\r\n\r\n{"error": "no service"}')
        status, fields, body = client.answer(stream)
        assert (status, fields[b"x-pico-error"]) == (502, b"n1; service-unreachable") and b"no service" in body

    def test_a_broken_client(self) -> None:
        """Who breaks the protocol is told with a GOAWAY, its calls are cancelled, and it is counted."""
        client = Http2Client()
        client.request()
        client.transport.receive(b"\0\0\4\3\0\0\0\0\0\0\0\0\0")  # RST_STREAM of stream 0
        client.flush()
        assert client.goaways()[0][0] == ErrorCodes.PROTOCOL_ERROR and client.transport.half_closed
        assert client.call.reset_code == CANCELLED
        assert b'pico_http2_ended_total{reason="protocol"} 1' in client.parts.metrics.exposition()
        client.pass_time(4)
        assert client.transport.over

    def test_the_node_is_shut(self) -> None:
        """All requests end, and the log says why."""
        client = Http2Client()
        client.request()
        client.channel.shut()
        client.clock.advance(0)
        assert client.transport.over and client.log[0]["error"] == "shutdown"


class TestWho:
    """Who sends a request is found out as over HTTP/1.1, for each stream."""

    @pytest.fixture
    def client(self, tmp_path: Path) -> Http2Client:
        """A client of a node that knows two tokens."""
        lines = [f"{name} sha256:{hash_of(name.encode()).hex()} connect:*\n" for name in ("ci", "app")]
        (tmp_path / "tokens").write_text("".join(lines))
        return Http2Client(auth=AuthConfig(tokens_file=str(tmp_path / "tokens")))

    def test_tokens(self, client: Http2Client) -> None:
        """Streams of one connection may be of different visitors; no service sees what they show."""
        nobody, stranger = client.request(), client.request(b"/a", (b"x-pico-authorization", b"else"))
        assert [client.answer(stream)[0] for stream in (nobody, stranger)] == [401, 401] and not client.tunnel.opened
        assert client.answer(nobody)[1][b"www-authenticate"].startswith(b"Bearer")
        for name in (b"ci", b"app", b"ci"):
            client.request(b"/a", (b"x-pico-authorization", name))
            assert name not in client.call.sent
            client.respond(OK2 + b"ok")
        assert [line.get("subject", "") for line in client.log] == ["", "", "ci", "app", "ci"]

    def test_a_revoked_client(self, client: Http2Client) -> None:
        """What it has in progress is cut after the grace period, and nothing of others on the same connection."""
        streams = {}
        for name in (b"ci", b"app"):
            streams[name] = client.request(b"/a", (b"x-pico-authorization", name))
            client.respond(b"HTTP/1.1 200 OK\r\n\r\n", True)
        shared = client.parts.node.membership.revocations
        shared.revoke(Meant.NAME, "ci", "op")
        assert client.answer(client.request(b"/a", (b"x-pico-authorization", b"ci")))[0] == 401
        for _ in range(int(NodeConfig().grace_period) + 2):
            client.pass_time(1)
            for call in client.tunnel.opened:
                if call.reset_code is None:
                    client.respond(b"x", True, call)
        assert client.resets(streams[b"ci"]) == [ErrorCodes.CANCEL] and not client.resets(streams[b"app"])
        assert [line["error"] for line in client.log] == ["revoked", "revoked"]

"""Connections of proxy clients: what is read, and what is written."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv4Address, IPv6Address

from pico_twisted.core.rpc import frames
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_S
from pico_twisted.net.proxy.http1.channel import READ_AHEAD_BYTES
from tests.net.doubles import CONTINUE, OK, OK2
from tests.net.proxy.proxy_client import CHUNKED, GET, POST, Client


class TestRequests:
    """One request after the other."""

    def test_one(self) -> None:
        """A request goes to its agent, and the answer comes back with the framing of ours."""
        client = Client(GET)
        assert client.call.first.startswith(b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\n")
        client.respond(OK2 + b"hi")
        status, fields, body = client.answer()
        assert (status, fields["content-length"], body) == (200, "2", b"hi")
        assert "connection" not in fields and "via" not in fields
        assert fields["x-request-id"] == client.log[0]["request_id"]
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
        client.pass_time(CLIENT_LINGER_S + 1)
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
        assert not Client(peer=IPv4Address("TCP", "not an address", 1)).channel.peer.trusts

    def test_the_log_has_the_client_that_a_trusted_proxy_tells(self) -> None:
        """The access log has the address that the account of the client has, the proxies, and who asked for what."""
        lines = (b"X-Forwarded-For: 6.6.6.6, 203.0.113.9", b"User-Agent: browser/1", b"Referer: http://a/", b"", b"")
        request = GET[:-2] + b"\r\n".join(lines)
        for trusted, told in (("192.0.2.0/24", ("203.0.113.9", "192.0.2.7")), ("10.0.0.0/8", ("192.0.2.7", ""))):
            peer = IPv4Address("TCP", "192.0.2.7", 1)
            client = Client(request, peer=peer, trusted_proxies=(ip_network(trusted),))
            client.respond(OK)
            (line,) = client.log
            assert (line["client"], line["proxies"]) == told
            assert (line["host"], line["user_agent"], line["referer"]) == (
                "my-ep.example.com",
                "browser/1",
                "http://a/",
            )

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
        client.pass_time(CLIENT_LINGER_S + 0.3)
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
            (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri-too-long"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431, "head-too-large"),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not-implemented"),
            (b"BREW / HTTP/1.1\r\nHost: a.b,c.d\r\n\r\n", 400, "bad-request"),
            (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417, "expectation-failed"),
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
        told = json.loads(body)
        assert (told["code"], told["endpoint"], told["request_id"], told["node"]) == (code, "", "", "n1")
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
        assert (got, fields["x-pico-error"], json.loads(body)["error"]) == (status, f"n1; {code}", words)
        assert json.loads(body)["request_id"] == fields["x-request-id"] == client.log[0]["request_id"]
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
        client = Client(calls=0)
        client.send(GET)
        status, fields, _ = client.answer()
        assert status == 503 and 1 <= int(fields["retry-after"]) <= 3

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


def test_too_many_connections() -> None:
    """Connections over the limit are dropped at once, and cost nothing."""
    client = Client(connections=2)
    second, third = Client(parts=client.parts), Client(parts=client.parts)
    third.clock.advance(0)
    assert third.transport.over and not second.transport.over
    third.transport.receive(GET)
    second.transport.receive_fin()
    second.clock.advance(0)
    fourth = Client(parts=client.parts)
    assert not fourth.transport.over and len(client.parts.proxy.connections) == 2


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
    assert not client.parts.proxy.connections and not client.parts.proxy.holding

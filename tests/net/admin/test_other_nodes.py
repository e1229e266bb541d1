"""`?forward=` on the admin port: another node's answer comes through as it is, and whatever fails is told in JSON."""

from __future__ import annotations

import gzip
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from pico_twisted.config import ServerTlsConfig
from pico_twisted.net.admin import other_nodes
from pico_twisted.net.admin.other_nodes import split_query
from pico_twisted.net.admin.shapes.paths import OPERATOR
from pico_twisted.net.tls import fetch
from pico_twisted.net.tls.fetch import HttpsPolicy
from pico_twisted.net.tls.port_context import ServerContext
from tests.conftest import LoggedFailures
from tests.net.admin.admin_fakes import DETAIL, Serve, Served, Status, node_app
from tests.net.in_reactor import in_reactor, reactor
from tools.stage.certificates import Authority
from tools.stage.ports import free_port

ROUTES = (
    "/",
    "/health",
    "/ready",
    "/metrics",
    "/status/cluster/nodes",
    "/status/cluster/nodes/local",
    "/status/cluster/nodes/n2",
    "/status/cluster/nodes/n%C5%93ud",
    "/status/upstream/endpoints",
    "/status/gossip/nodes",
    "/status/gossip/nodes/local",
    "/status/gossip/nodes/unknown",
    "/nothing",
)


class Pair:
    """Node n1, which knows n2's admin port, and n2, which knows n1's."""

    def __init__(self, serve: Serve) -> None:
        self.near_status, self.far_status = Status("n1"), Status("n2")
        self.near, self.far = serve(node_app(self.near_status)), serve(node_app(self.far_status))
        self.near_status.urls["n2"] = self.far.url
        self.far_status.urls["n1"] = self.near.url


class Scripted(Protocol):
    """A connection of a `Server`."""

    factory: Server

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        before, self.factory.received = self.factory.received, self.factory.received + data
        if b"\r\n\r\n" in before:
            return
        if not self.factory.asked.called:
            self.factory.asked.callback(None)
        assert self.transport is not None
        self.transport.write(self.factory.answer)
        if self.factory.close:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.factory.connections.remove(self)
        if not self.factory.left.called:
            self.factory.left.callback(None)


class Server(Factory):
    """Something at a node's admin port that answers with fixed bytes.

    Attributes:
        received: all that came.
        asked: fires with the first bytes.
        left: fires when the first connection has ended.
    """

    protocol: Any = Scripted
    noisy = False

    def __init__(self, answer: bytes, *, close: bool = True) -> None:
        self.answer = answer
        self.close = close
        self.received = b""
        self.connections: list[Any] = []
        self.asked: Deferred[None] = Deferred()
        self.left: Deferred[None] = Deferred()
        self.listening = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self.listening.getHost().port}"

    async def stop(self) -> None:
        await self.listening.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()


async def forwarded(
    server: Server | str, path: str = "/ready?forward=n2", **more: Any
) -> tuple[int, dict[str, str], bytes]:
    """What node n1 answers when this is the admin port of n2."""
    status = Status("n1")
    status.urls["n2"] = server if isinstance(server, str) else server.url
    near = Served(node_app(status))
    try:
        return await near.ask(path, **more)
    finally:
        await near.close()
        if isinstance(server, Server):
            await server.stop()


@in_reactor
async def test_every_route(serve: Serve) -> None:
    """Status, content type and body are the other node's own, errors included, for every route and also for HEAD."""
    pair = Pair(serve)
    pair.far_status.why_not = "draining"
    for path in ROUTES:
        code, headers, body = await pair.near.ask(f"{path}?forward=n2")
        direct = await pair.far.ask(path)
        assert code == direct[0]
        assert headers["content-type"] == direct[1]["content-type"]
        if path == "/metrics":
            assert {family.name for family in text_string_to_metric_families(body.decode())} >= {"pico_requests"}
        else:
            assert (path, body) == (path, direct[2])
        request = f"HEAD {path}?forward=n2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        head, _, rest = (await pair.near.say(request.encode())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % code)
        assert rest == b""
        if path != "/metrics":
            assert b"\r\ncontent-length: %d\r\n" % len(body) in head.lower() + b"\r\n"


@in_reactor
async def test_here(serve: Serve) -> None:
    """The node's own ID and `local` are answered here, without a connection."""
    near = serve(node_app(Status("n1")))
    for value in ("local", "n1", "%6e1"):
        code, _, body = await near.ask(f"/status/cluster/nodes/local?forward={value}")
        assert (code, json.loads(body)["id"]) == (200, "n1")


@in_reactor
async def test_refused(serve: Serve) -> None:
    """An unknown node is 404, an empty or repeated parameter 400, another method than GET and HEAD 405; all in JSON."""
    pair = Pair(serve)
    for method, query, status in (
        ("GET", "forward=n3", 404),
        ("GET", "forward=N2", 404),
        ("GET", "forward=%FF", 404),
        ("GET", "forward=%0D%0AX:y", 404),
        ("GET", "forward=" + "x" * 5000, 404),
        ("GET", "forward=", 400),
        ("GET", "forward", 400),
        ("GET", "a=b&forward=n2&forward=n2", 400),
        ("GET", "forward=n2&%66orward=local", 400),
        ("PUT", "forward=n2", 405),
        ("DELETE", "forward=n2", 405),
    ):
        says = {OPERATOR: "me"} if status == 405 else {}
        code, headers, body = await pair.near.ask(f"/status/cluster/nodes?{query}", method, headers=says)
        assert (query[:30], code) == (query[:30], status)
        assert headers["content-type"] == "application/json"
        assert list(json.loads(body)) == ["error"]
        assert len(body) < 200
        assert headers.get("allow") == ("GET, HEAD" if status == 405 else None)
    code, _, body = await pair.near.ask("/nothing?forward=n3")
    assert (code, json.loads(body)["error"]) == (404, "no such node to forward to: n3")


@in_reactor
async def test_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same path and query, marked so that nothing loops; no header of the client; through no proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok")
    code, headers, body = await forwarded(
        server,
        "/a%2Fb/n%C5%93ud?x=1&forward=n2&y=a+b%26%23",
        headers={"Cookie": "e=f", "Authorization": "Bearer secret", "Referer": "http://example.com/"},
    )
    assert (code, headers["content-type"], body) == (200, "a/b", b"ok")
    assert "set-cookie" not in headers
    line, _, fields = server.received.partition(b"\r\n")
    assert line == b"GET /a%2Fb/n%C5%93ud?x=1&y=a+b%26%23&forward=n2&forwarded=1 HTTP/1.1"
    for word in (b"forward", b"cookie", b"secret", b"example.com"):
        assert word not in fields.lower()


@in_reactor
async def test_faults_of_ours(serve: Serve, logged_failures: LoggedFailures) -> None:
    """A fault in finding the other node, or in asking it, is a 500 in JSON and stands in the log."""
    status = Status("n1")
    status.urls["n2"] = "http://n\u0153ud:8001"
    near = serve(node_app(status))
    for node_id, error in (("broken", RuntimeError), ("n2", UnicodeEncodeError)):
        code, headers, body = await near.ask(f"/ready?forward={node_id}")
        assert (code, headers["content-type"]) == (500, "application/json")
        assert json.loads(body) == {"error": "internal error; the log says more"}
        assert len(logged_failures.flush(error)) == 1


def test_split_query() -> None:
    """`forward` is found as the other node would find it, and what is left is a query, whatever bytes came."""
    assert split_query(b"") == ([], "")
    assert split_query(b"a=1&&b") == ([], "a=1&&b")
    assert split_query(b"forward=n1") == (["n1"], "")
    assert split_query(b"a=1&forw%61rd=n%31&b=2") == (["n1"], "a=1&b=2")
    assert split_query(b"forward+=n1") == ([], "forward+=n1")
    assert split_query(b"forward=a&forward=b") == (["a", "b"], "")
    assert split_query(b"a=\xff#\x01&x=%zz") == ([], "a=%FF%23%01&x=%zz")


@in_reactor
async def test_redirects() -> None:
    """A redirect is an answer like any other: the operator sees it, and nobody follows it."""
    elsewhere = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    answer = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/\r\nContent-Length: 5\r\n\r\nmoved"
    code, headers, body = await forwarded(Server(answer.encode()), allow_redirects=False)
    assert (code, body) == (302, b"moved")
    assert headers["content-type"] == "application/octet-stream"
    assert elsewhere.received == b""
    await elsewhere.stop()


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % length


@in_reactor
async def test_unreachable() -> None:
    """A node that is not there, hangs up, speaks something else or ends half-way is 502 with the reason, in JSON."""
    servers: list[Server | str] = [
        f"http://127.0.0.1:{free_port()}",
        "http://no-such-host.invalid:8001",
        Server(b""),
        Server(b"SSH-2.0-OpenSSH_9.2\r\n"),
        Server(b"HTTP/1.1 200 OK\r\nContent-Le"),
        Server(head(10) + b"half"),
        Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n"),
    ]
    for server in servers:
        code, headers, body = await forwarded(server)
        assert (code, headers["content-type"]) == (502, "application/json"), (server, body)
        error = json.loads(body)["error"]
        assert error.startswith("node n2 cannot be reached: "), error
        assert "Failure" not in error and "<" not in error, error


@in_reactor
async def test_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does not answer in time, or stops half-way, is 504, and its connection is closed."""
    monkeypatch.setattr(other_nodes, "TIMEOUT_S", 0.5)
    for answer in (b"", b"HTTP/1.1 200 OK\r\n", head(10) + b"half"):
        server = Server(answer, close=False)
        code, headers, body = await forwarded(server)
        await server.left
        assert (code, headers["content-type"]) == (504, "application/json")
        assert json.loads(body) == {"error": "node n2 did not answer within 0.5 s"}


@in_reactor
async def test_too_large(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers hold together is bounded, unpacked size included; over it the answer is 502, and room comes back."""
    monkeypatch.setattr(fetch, "MAX_HELD_BYTES", 50_000)
    packed = gzip.compress(bytes(1_000_000))
    status = Status("n1")
    near = serve(node_app(status))
    for answer, expected in (
        (head(50_000) + bytes(50_000), 200),
        (head(50_001) + bytes(50_001), 502),
        (head(10**12) + bytes(60_000), 502),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(60_000), 502),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed, 502),
        (head(50_000) + bytes(50_000), 200),
    ):
        server = Server(answer, close=False)
        status.urls["n2"] = server.url
        code, _, body = await near.ask("/ready?forward=n2")
        assert code == expected
        assert expected == 200 or "too large" in json.loads(body)["error"]
        await server.left
        await server.stop()


@in_reactor
async def test_a_client_that_leaves() -> None:
    """When the client hangs up nobody waits any longer: the connection to the other node is closed."""
    server = Server(head(10) + b"half", close=False)
    status = Status("n1")
    status.urls["n2"] = server.url
    near = Served(node_app(status))
    try:
        with socket.create_connection(("127.0.0.1", near.number)) as client:
            client.sendall(b"GET /ready?forward=n2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await server.asked
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        await server.left
    finally:
        await near.close()
        await server.stop()


@in_reactor
async def test_tls(serve: Serve, tmp_path: Path) -> None:
    """Over https the other node's certificate is checked, and what is wrong with it is said."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair = authority.issue("admin")
    number = serve(
        node_app(Status("n2")), tls=ServerContext(ServerTlsConfig(cert=str(pair.cert), key=str(pair.key)))
    ).number
    plain = Server(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    status = Status("n1")
    for url, root_cas, code, words in (
        (f"https://127.0.0.1:{number}", authority.ca, 200, ""),
        (f"https://localhost:{number}", authority.ca, 200, ""),
        (f"https://127.0.0.1:{number}", stranger.ca, 502, "authority that is not known here"),
        (f"https://127.0.0.1:{number}", None, 502, "authority that is not known here"),
        (f"https://127.0.0.1:{number}", tmp_path / "missing.pem", 502, "cannot be read"),
        (plain.url.replace("http:", "https:"), authority.ca, 502, "does not speak TLS"),
        (f"http://127.0.0.1:{number}", authority.ca, 400, "this port speaks TLS"),
    ):
        status.urls["n2"] = url
        tls = None if root_cas is None else HttpsPolicy(str(root_cas))
        near = serve(node_app(status, tls=tls))
        got, headers, body = await near.ask("/status/cluster/nodes/local?forward=n2")
        assert (url, got, headers["content-type"]) == (url, code, "application/json"), body
        if code == 200:
            assert json.loads(body)["endpoints"] == DETAIL.endpoints
        else:
            assert words in json.loads(body)["error"]
    await plain.stop()


@in_reactor
async def test_ipv6(serve: Serve) -> None:
    """An admin port on an IPv6 address is reached like any other."""
    far = serve(node_app(Status("n2")), interface="::1")
    code, _, body = await forwarded(far.url, "/status/cluster/nodes/local?forward=n2")
    assert (code, json.loads(body)["id"]) == (200, "n2")

"""The handshakes of a tunnel, in memory: both roles, and peers that misbehave."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pico_twisted.core.http1.refusal import MAX_REFUSAL_BODY_BYTES
from pico_twisted.core.rpc import frames as rpc
from pico_twisted.core.rpc.frames import HEARTBEAT, RESPONSE
from pico_twisted.net.tunnel import (
    CLOSE_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    HandshakeRefused,
    NobodyThere,
)
from pico_twisted.net.tunnel.interfaces import ITunnel
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.service import Acceptor
from tests.doubles.transport import MemoryTransport
from tests.net.tunnel.websockets import KEY, LISTENER, RawPeer, TunnelPair, agent_factory, frames_in
from tests.peers.websocket import BINARY, frame_bytes, handshake_request


class TestServerHandshake:
    """Our own handshake in front of Autobahn."""

    def ask(self, data: bytes, *, parts: MemoryNode | None = None) -> tuple[int, dict[str, str], Any, RawPeer]:
        """Send a head; the answer's status, fields and body, and the peer."""
        peer = RawPeer(parts or MemoryNode(Clock()), shake=False)
        peer.send_raw(data)
        head, _, body = peer.transport.clear().partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        answered = int(status.split(" ")[1])
        return answered, fields, json.loads(body) if answered != 101 and body else None, peer

    def shake(self, path: str = LISTENER, **headers: str) -> bytes:
        """A good handshake with other fields."""
        data = handshake_request(path, "node", KEY, [rpc.SUBPROTOCOL_V2], ())
        lines = data.decode().split("\r\n")
        for name, value in headers.items():
            field = name.replace("_", "-")
            lines = [line for line in lines if not line.lower().startswith(field + ":")]
            if value:
                lines.insert(1, f"{field}: {value}")
        return "\r\n".join(lines).encode("latin-1")

    def test_accepted(self) -> None:
        """A v2 agent is told the node's ID and the subprotocol, and no extension."""
        headers = [
            ("x-pico-agent-id", "agent-1"),
            ("x-pico-slot", "0.1"),
            ("x-pico-agent-version", "1.2.3"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("Origin", "http://elsewhere.example"),
        ]
        peer = RawPeer(MemoryNode(Clock()), headers=headers)
        answer = peer.answer.lower()
        assert b"sec-websocket-protocol: pico.v2\r\n" in answer and b"x-pico-node-id: n1\r\n" in answer
        assert b"extensions" not in answer
        tunnel = peer.tunnel
        assert (tunnel.version, tunnel.endpoint, tunnel.agent_id, tunnel.slot) == (2, "my-ep", "agent-1", "0.1")
        assert tunnel.peer == "192.0.2.7:50007"
        assert peer.parts.cluster.tunnels() == [tunnel]

    def test_version_1(self) -> None:
        """Without an offer, and with unknown offers alone, it is v1; an unnamed agent is told apart by its address."""
        peer = RawPeer(MemoryNode(Clock()), 1)
        assert peer.tunnel.version == 1 and peer.tunnel.agent_id == "v1-192.0.2.7:50007"
        assert b"sec-websocket-protocol" not in peer.answer.lower()
        peer = RawPeer(MemoryNode(Clock()), shake=False)
        peer.send_raw(handshake_request(LISTENER, "node", KEY, ["pico.v3", "chat"], ()))
        assert peer.tunnel.version == 1
        peer = RawPeer(MemoryNode(Clock()), shake=False)
        peer.send_raw(handshake_request(LISTENER, "node", KEY, ["pico.v3", "pico.v2"], ()))
        assert peer.tunnel.version == 2

    def test_endpoint_in_any_case(self) -> None:
        """Endpoint IDs compare without case; a query is not part of it."""
        _, _, _, peer = self.ask(self.shake("/pico/v1/listener/My-EP?token=x"))
        assert peer.tunnel.endpoint == "my-ep"

    def test_byte_by_byte(self) -> None:
        """A head may come in any pieces, and frames right behind it are taken."""
        peer = RawPeer(MemoryNode(Clock()), shake=False)
        for byte in self.shake() + frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0, b"?"), mask=True):
            peer.send_raw(bytes((byte,)))
        _, _, rest = peer.transport.clear().partition(b"\r\n\r\n")
        assert (BINARY, rpc.encode(HEARTBEAT, 1, RESPONSE, b"?")) in frames_in(rest)
        peer = RawPeer(MemoryNode(Clock()), shake=False)
        peer.send_raw(self.shake() + frame_bytes(BINARY, rpc.encode(HEARTBEAT, 1, 0, b"?"), mask=True))
        _, _, rest = peer.transport.clear().partition(b"\r\n\r\n")
        assert (BINARY, rpc.encode(HEARTBEAT, 1, RESPONSE, b"?")) in frames_in(rest)

    @pytest.mark.parametrize(
        ("data", "status", "code"),
        [
            (b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", 426, "upgrade-required"),
            (b"GET /pico/v1/listener/x HTTP/1.1\r\nHost: node\r\n\r\n", 426, "upgrade-required"),
            (b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\n\r\nx", 400, "bad-request"),
            (b"HEAD / HTTP/1.1\r\nHost: node\r\n\r\n", 400, "bad-request"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
            (b"nonsense\r\n\r\n", 400, "bad-request"),
            (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad-request"),  # without waiting for the end of a head
            (b"GET / HTTP/2.0\r\nHost: node\r\n\r\n", 505, "version"),
            (b"CONNECT node:1 HTTP/1.1\r\nHost: node\r\n\r\n", 501, "not-implemented"),
            (b"GET / HTTP/1.1\r\nHost: node\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, "head-too-large"),
            (b"GET /" + b"y" * 40_000, 431, "head-too-large"),
            (b"GET / HTTP/1.1\r\nHost: node\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "head-too-large"),
        ],
    )
    def test_no_handshakes(self, data: bytes, status: int, code: str) -> None:
        """What is no WebSocket handshake gets an answer in JSON that says so, from this node, and a close."""
        got, fields, body, peer = self.ask(data)
        assert (got, fields["x-pico-error"]) == (status, f"n1; {code}")
        assert fields["content-type"] == "application/json" and set(body) == {"error"} and body["error"]
        assert peer.transport.half_closed
        peer.send_raw(b"more of it" * 1000 + b"GET / HTTP/1.1\r\n\r\n")
        pass_time(peer.parts.clock, CLOSE_TIMEOUT_S + 1)
        assert peer.transport.over and not peer.transport.taken
        assert peer.parts.upstream.connections == set()

    @pytest.mark.parametrize(
        ("changes", "status", "code"),
        [
            ({"path": "/"}, 404, "not-found"),
            ({"path": "/pico/v1/listener"}, 404, "not-found"),
            ({"path": "/pico/v1/node"}, 404, "not-found"),
            ({"path": "/pico/v1/listener/"}, 400, "invalid-endpoint"),
            ({"path": "/pico/v1/listener/a/b"}, 400, "invalid-endpoint"),
            ({"path": "/pico/v1/listener/-a"}, 400, "invalid-endpoint"),
            ({"path": "/pico/v1/listener/" + "a" * 129}, 400, "invalid-endpoint"),
            ({"x_pico_agent_id": "a b"}, 400, "bad-request"),
            ({"x_pico_slot": "s" * 65}, 400, "bad-request"),
            ({"x_pico_agent_version": "{}"}, 400, "bad-request"),
            ({"sec_websocket_version": "12"}, 426, "upgrade-required"),
            ({"sec_websocket_version": ""}, 426, "upgrade-required"),
            ({"sec_websocket_key": ""}, 400, "bad-request"),
            ({"sec_websocket_key": "short"}, 400, "bad-request"),
            ({"upgrade": "h2c"}, 426, "upgrade-required"),
            ({"upgrade": "notwebsocket"}, 426, "upgrade-required"),
            ({"connection": "close"}, 426, "upgrade-required"),
            ({"host": "a:b:c"}, 400, "bad-request"),
        ],
    )
    def test_refused(self, changes: dict[str, str], status: int, code: str) -> None:
        """A handshake that cannot be accepted is refused in JSON, with a reason."""
        got, fields, body, peer = self.ask(self.shake(**changes))
        assert (got, fields["x-pico-error"]) == (status, f"n1; {code}"), body
        assert body["error"] and peer.transport.half_closed
        assert not peer.parts.cluster.registry.counts()

    def test_upgrade_is_told(self) -> None:
        """426 says what to upgrade to."""
        _, fields, _, _ = self.ask(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        assert fields["upgrade"] == "websocket"
        _, fields, _, _ = self.ask(self.shake(sec_websocket_version="8"))
        assert fields["sec-websocket-version"] == "13"

    def test_draining_and_full(self) -> None:
        """A node that shuts down, or has as many sessions as it may, says 503 and when to come again."""
        parts = MemoryNode(Clock(), sessions=1)
        first = RawPeer(parts)
        status, fields, body, _ = self.ask(self.shake(), parts=parts)
        assert (status, fields["x-pico-error"], body["error"]) == (503, "n1; busy", "too many sessions")
        assert int(fields["retry-after"]) > 0
        first.transport.receive_fin()
        pass_time(parts.clock, CLOSE_TIMEOUT_S + 1)
        assert RawPeer(parts).tunnel.version == 2
        parts = MemoryNode(Clock())
        parts.cluster.start_draining()
        status, fields, _, _ = self.ask(self.shake(), parts=parts)
        assert (status, fields["x-pico-error"]) == (503, "n1; draining") and fields["retry-after"]

    @pytest.mark.parametrize("trickle", [False, True])
    def test_timeout(self, trickle: bool) -> None:
        """A handshake has 10 s in all; bytes do not extend it."""
        peer = RawPeer(MemoryNode(Clock()), shake=False)
        for number in range(int(HANDSHAKE_TIMEOUT_S) - 1):
            pass_time(peer.parts.clock, 1.0)
            if trickle:
                peer.send_raw(self.shake()[number : number + 1])
        assert not peer.transport.over
        pass_time(peer.parts.clock, 2.0)
        assert peer.transport.over and peer.parts.upstream.connections == set()

    def test_gone_before_its_end(self) -> None:
        """A peer that leaves within its handshake leaves nothing behind."""
        for data in (b"", b"GET", self.shake()[:-1]):
            peer = RawPeer(MemoryNode(Clock()), shake=False)
            peer.send_raw(data)
            peer.transport.receive_fin()
            assert peer.parts.upstream.connections == set()
            peer.parts.stop()
            assert peer.parts.clock.getDelayedCalls() == []


class Attempt:
    """An agent's handshake with a server that the test plays."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.parts = MemoryNode(self.clock)
        headers = {"x-pico-agent-id": "agent-1", "Authorization": "Bearer secret"}
        self.factory = agent_factory(self.parts.agent_parts(), headers, Acceptor())
        self.result: list[Any] = []
        self.factory.ready.addBoth(self.result.append)
        self.transport = MemoryTransport(self.clock)
        self.tunnel: Any = self.transport.connect(self.factory.buildProtocol(self.transport.getPeer()))
        self.asked = bytes(self.transport.clear())

    def error(self) -> Exception:
        """What the attempt failed with."""
        (failure,) = self.result
        assert isinstance(failure, Failure)
        self.clock.advance(0)
        value: Any = failure.value
        assert isinstance(value, Exception)
        return value


class TestClientHandshake:
    """The agent's side."""

    def test_request(self) -> None:
        """It offers v2 alone, no extension, and says who it is."""
        asked = Attempt().asked.decode().lower()
        assert asked.startswith(f"get {LISTENER} http/1.1\r\n") and asked.endswith("\r\n\r\n")
        assert "sec-websocket-protocol: pico.v2\r\n" in asked and "extensions" not in asked
        assert "x-pico-agent-id: agent-1\r\n" in asked and "authorization: bearer secret\r\n" in asked

    @pytest.mark.parametrize(
        ("answer", "status", "words"),
        [
            (b"HTTP/1.1 403 No\r\nContent-Length: 28\r\n\r\n" + b'{"error": "wrong token, you"}'[:28], 403, None),
            (b'HTTP/1.1 401 No\r\nContent-Length: 24\r\n\r\n{"error": "wrong token"}', 401, "wrong token"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "Not Found"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n<html>\n  hi </html>", 200, "OK"),
            (b'HTTP/1.1 500 No\r\nContent-Length: 17\r\n\r\n{"error": [1, 2]}', 500, '{"error": [1, 2]}'),
            (b"HTTP/1.1 503 No\r\nx-pico-error: n1; busy\r\nContent-Length: 2\r\n\r\nNo", 503, "No"),
            (b"HTTP/1.1 502 No\r\nx-pico-node-id: n1\r\nContent-Length: 2\r\n\r\nNo", 502, "No"),
            (b"HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\n\x00\xff\x1b", 400, None),
            (b"HTTP/1.1 599 " + b"x" * 40_000, 502, None),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, None),
            (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", 502, None),
        ],
    )
    def test_refusals(self, answer: bytes, status: int, words: str | None) -> None:
        """A refusal is told by its status and the server's own words, made printable and short."""
        attempt = Attempt()
        for at in range(0, len(answer), 1000):
            attempt.transport.receive(answer[at : at + 1000])
        error = attempt.error()
        assert isinstance(error, HandshakeRefused) and error.status == status
        assert error.message.isprintable() and 0 < len(error.message) <= 200
        if words is not None:
            assert error.message == words
        assert attempt.transport.over

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 13\r\n\r\n<h1>502 </h1>",
            b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 504 Gateway Time-out\r\nContent-Length: 0\r\n\r\n",
            b"",
        ],
    )
    def test_somebody_in_between(self, answer: bytes) -> None:
        """A proxy's answer for a node that is away is no node's refusal: it is as if nothing listened there.

        So is a connection that is closed without an answer, as a balancer of connections does it.
        """
        attempt = Attempt()
        attempt.transport.receive(answer)
        if not answer:
            attempt.transport.receive_fin()
        error = attempt.error()
        assert isinstance(error, NobodyThere) and isinstance(error, ConnectionRefusedError)
        assert error.message.isprintable() and (answer[9:12].decode() or "without an answer") in error.message

    def test_refusal_that_ends_with_the_connection(self) -> None:
        """A body without a length, or cut short, is told as far as it came."""
        for head in (b"HTTP/1.1 403 No\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\n"):
            attempt = Attempt()
            attempt.transport.receive(head + b"not ")
            assert attempt.result == []
            attempt.transport.receive(b"you")
            attempt.transport.receive_fin()
            error = attempt.error()
            assert isinstance(error, HandshakeRefused) and (error.status, error.message) == (403, "not you")

    def test_endless_refusal(self) -> None:
        """No more than 8 KiB of a refusal are read."""
        attempt = Attempt()
        attempt.transport.receive(b"HTTP/1.1 403 No\r\n\r\n")
        for _ in range(MAX_REFUSAL_BODY_BYTES // 1024 + 1):
            attempt.transport.receive(b"no " * 400)
        assert isinstance(attempt.error(), HandshakeRefused)
        assert attempt.transport.over

    @pytest.mark.parametrize(
        "change",
        [
            (b"Accept: ", b"Accept: x"),
            (b"Upgrade: WebSocket", b"Upgrade: other"),
            (b"Connection: Upgrade", b"Connection: close"),
            (b"Protocol: pico.v2", b"Protocol: pico.v9"),
            (b"Protocol: pico.v2", b"Extensions: permessage-deflate\r\nX: y"),
        ],
    )
    def test_bad_101(self, change: tuple[bytes, bytes]) -> None:
        """A 101 that does not fit what was asked is refused."""
        attempt = Attempt()
        peer = RawPeer(attempt.parts, shake=False)
        peer.send_raw(attempt.asked)
        answer = bytes(peer.transport.clear())
        assert change[0] in answer
        attempt.transport.receive(answer.replace(*change))
        error = attempt.error()
        assert isinstance(error, HandshakeRefused) and error.message
        assert attempt.transport.over

    def test_version_1_server(self) -> None:
        """A server that selects nothing is a v1 node."""
        attempt = Attempt()
        peer = RawPeer(attempt.parts, shake=False)
        peer.send_raw(attempt.asked.replace(b"pico.v2", b"other"))
        attempt.transport.receive(bytes(peer.transport.clear()))
        assert attempt.result == [attempt.tunnel] and attempt.tunnel.version == 1

    @pytest.mark.parametrize("how", ["fin", "reset"])
    @pytest.mark.parametrize("data", [b"", b"HTTP/1.1 1"])
    def test_closed_within(self, how: str, data: bytes) -> None:
        """A connection that ends within the handshake fails the attempt, once."""
        attempt = Attempt()
        attempt.transport.receive(data)
        if how == "fin":
            attempt.transport.receive_fin()
        else:
            attempt.transport.receive_reset()
        assert not isinstance(attempt.error(), HandshakeRefused)
        attempt.parts.stop()
        assert attempt.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(
        ("told", "proxy"), [(b"https:9010", "https:9010"), (b"", ""), (b"ftp:1", ""), (b"http:1 x", "")]
    )
    def test_proxy_port(self, told: bytes, proxy: str) -> None:
        """The agent knows where clients reach the node, if the node said so in words that make sense."""
        attempt = Attempt()
        peer = RawPeer(attempt.parts, shake=False)
        peer.send_raw(attempt.asked)
        answer = bytes(peer.transport.clear())
        attempt.transport.receive(answer.replace(b"x-pico-nodes", b"x-pico-proxy: %b\r\nx-pico-nodes" % told))
        assert attempt.tunnel.proxy == proxy

    @pytest.mark.parametrize(
        ("told", "url"),
        [
            (b"https://*.tunnel.example.com:8443", "https://*.tunnel.example.com:8443"),
            (b"https://[2001:db8::1]", "https://[2001:db8::1]"),
            (b"https://*.a/path", ""),
            (b"javascript:alert(1)", ""),
            (b"https://*.\xe9.example", ""),
            (b"https://*.a.example x", ""),
        ],
    )
    def test_public_url(self, told: bytes, url: str) -> None:
        """The agent knows where clients reach its endpoints, if the node said so in the form that such a URL has."""
        attempt = Attempt()
        peer = RawPeer(attempt.parts, shake=False)
        peer.send_raw(attempt.asked)
        answer = bytes(peer.transport.clear())
        attempt.transport.receive(answer.replace(b"x-pico-nodes", b"x-pico-public-url: %b\r\nx-pico-nodes" % told))
        assert attempt.tunnel.public_url == url

    def test_node_id(self) -> None:
        """The agent knows which node it is connected to."""
        pair = TunnelPair()
        assert pair.agent.node_id == "n1" and pair.node.node_id is None
        assert ITunnel.providedBy(pair.agent)

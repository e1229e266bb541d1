"""The TCP side of the gossip port: who is no node of this cluster is refused, and who is one may err."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.peers import frames, v1, websocket
from tests.peers.frames import HEARTBEAT, HTTP, MORE, NOT_SUPPORTED, RESPONSE, SYNC, TCP
from tests.peers.link import PATH, Node, sync
from tests.peers.pipe import Ended
from tests.system.cluster import SECRET
from tests.system.hostile import OTHER_SECRET, UPGRADE, WITH_SECRET, Target
from tests.system.names import short
from tests.system.service import answer


def upgrade(path: str = PATH, *fields: str, drop: str = "") -> bytes:
    """A handshake's head."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *UPGRADE, *fields, "", ""]
    return "\r\n".join(line for line in lines if not drop or not line.startswith(drop)).encode("latin-1")


class TestLinkPort:
    """Whoever reaches the TCP side of the gossip port, before it has proven anything."""

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
            (b"GET /status/cluster/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
            (b"GET /pico/v1/node HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
            (b"POST /pico/v1/node HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 400),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\nx-pico-endpoint: web\r\n\r\n", 426),
            (b"CONNECT n1:8003 HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET /pico/v1/node HTTP/1.1\r\n\r\n", 400),
            (upgrade("/pico/v1/listener/web"), 404),
            (upgrade("/pico/v1/listener/web", "x-pico-agent-id: agent-1"), 404),
            (upgrade("/pico/v1/node/"), 404),
            (upgrade("/pico/v1/node/../node"), 404),
            (upgrade(drop="Sec-WebSocket-Protocol"), 400),
            (upgrade().replace(b"pico.v2", b"pico.v1"), 400),
            (upgrade(), 400),
            (upgrade(PATH, "X: " + "a" * 9000), 431),
            (b"garbage\r\n\r\n", 400),
        ],
        ids=short,
    )
    def test_no_node(self, target: Target, head: bytes, status: int) -> None:
        """Ordinary requests, agents and peers of version 1 are refused in JSON, and the connection is closed."""
        client = target.client(target.gossip)
        client.send(head)
        response = client.read_response()
        assert response.status == status, response
        assert isinstance(json.loads(response.body)["error"], str)
        assert client.ended()

    def test_a_v1_peer(self, target: Target) -> None:
        """An agent of the first generation is no node either."""
        with pytest.raises(websocket.Refused) as refused:
            v1.Agent(target.gossip, "web", lambda request: answer(b"mine"))
        assert refused.value.status == 404

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"cluster": "other"}, 403),
            ({"cluster": "PICO"}, 403),
            ({"to": "n2"}, 403),
            ({"node_id": "n1"}, 403),
            ({"node_id": "a b"}, 400),
            ({"node_id": "n" * 65}, 400),
            ({"generation": "-1"}, 400),
            ({"generation": "1" * 30}, 400),
            ({"secret": OTHER_SECRET.encode()}, 401),
            ({"secret": b"x"}, 401),
        ],
        ids=str,
    )
    def test_wrong_claims(self, target: Target, change: dict[str, Any], status: int) -> None:
        """Another cluster, another node, another secret, and names that are none."""
        with pytest.raises(websocket.Refused) as refused:
            target.link(target.claim(**change))
        assert refused.value.status == status
        assert SECRET.encode() not in refused.value.body

    @WITH_SECRET
    def test_no_secret(self, target: Target) -> None:
        """Who mentions none is refused before the WebSocket is open."""
        with pytest.raises(websocket.Refused) as refused:
            target.link(target.claim(secret=None))
        assert refused.value.status == 401

    def test_the_honest_one(self, target: Target) -> None:
        """Who knows the secret, or where there is none, is served: but never listed as a node for that alone."""
        node = target.proven()
        assert node.answer.get("x-pico-node-id") == "n1"
        if target.secret is not None:
            assert node.server_proof == node.claim.proof("server", node.server_nonce)
        response = node.wait_stream(node.get("web"), response=True)
        assert response.startswith(b"HTTP/1.1 200 OK\r\n") and b"hello from the service" in response
        assert node.wait_reset(node.get("nobodys")) == "refused not-here"
        node.alive()

    @WITH_SECRET
    @pytest.mark.parametrize(
        "forge",
        [
            lambda node: bytes(32),
            lambda node: os.urandom(32),
            lambda node: node.server_proof,
            lambda node: node.claim.proof("server", node.server_nonce),
            lambda node: node.claim.proof("client", bytes(16)),
            lambda node: node.claim.but(node_id="n2").proof("client", node.server_nonce),
            lambda node: node.claim.but(to="n2").proof("client", node.server_nonce),
            lambda node: node.claim.but(cluster="other").proof("client", node.server_nonce),
            lambda node: node.claim.but(generation="0").proof("client", node.server_nonce),
            lambda node: node.claim.but(secret=OTHER_SECRET.encode()).proof("client", node.server_nonce),
            lambda node: node.claim.proof("client", node.server_nonce)[:-1],
            lambda node: b"",
        ],
        ids=[
            "zeros",
            "random",
            "the server's own",
            "of the other role",
            "of other nonces",
            "of another node",
            "for another node",
            "of another cluster",
            "of another generation",
            "of another secret",
            "cut",
            "empty",
        ],
    )
    def test_wrong_proofs(self, target: Target, forge: Callable[[Node], bytes]) -> None:
        """They end the session with 1008 and nothing else."""
        node = target.link()
        node.prove(forge(node))
        unserved(node)

    @WITH_SECRET
    def test_a_recorded_proof(self, target: Target) -> None:
        """Who repeats a handshake to the byte, with the proof that was right then, is not believed now."""
        claim = target.claim()
        first = target.link(claim)
        proof = claim.proof("client", first.server_nonce)
        assert first.wait_response(first.prove(proof)).payload == b""
        again = target.link(claim)
        assert again.server_nonce != first.server_nonce
        again.prove(proof)
        unserved(again)
        first.alive()

    @WITH_SECRET
    @pytest.mark.parametrize(
        "message",
        [
            frames.packed(HTTP, 1, 0, b"GET / HTTP/1.1\r\nx-pico-endpoint: web\r\nHost: a.b\r\n\r\n"),
            frames.packed(HTTP, 1, MORE, b"POST / HTTP/1.1\r\nx-pico-endpoint: web\r\nHost: a.b\r\n\r\n"),
            frames.packed(HEARTBEAT, 1, 0, b"hello"),
            frames.packed(frames.DRAIN, 1, 0),
            frames.packed(TCP, 1, MORE, b"web"),
            frames.packed(SYNC, 1, 0, sync("maps", b"\x90")),
            frames.packed(SYNC, 1, MORE, sync("proof", bytes(32))),
            frames.packed(SYNC, 1, RESPONSE, sync("proof", bytes(32))),
            frames.packed(SYNC, 0, 0, sync("proof", bytes(32))),
            frames.packed(SYNC, 1, 0, b"\x92\xa5proof\xc6\xff\xff\xff\xff"),
            frames.packed(99, 1, 0, bytes(32)),
            b"",
            b"short",
        ],
        ids=[
            "request",
            "upload",
            "heartbeat",
            "drain",
            "tcp",
            "maps",
            "half a proof",
            "answer",
            "no ID",
            "gigabytes",
            "unknown type",
            "empty",
            "short",
        ],
    )
    def test_frames_before_the_proof(self, target: Target, message: bytes) -> None:
        """Whatever comes before the proof is not served: the session ends, though the proof follows at once."""
        node = target.link()
        node.socket.send(message)
        try:
            node.prove()
            node.get("web")
        except Ended:
            pass
        unserved(node)
        assert target.service.requests == []

    @WITH_SECRET
    def test_a_long_message_before_the_proof(self, target: Target) -> None:
        """Who has proven nothing cannot make us hold a message, however slowly it comes."""
        for size in (200, 60_000, 1 << 40):
            node = target.link()
            node.socket.send_bytes(websocket.frame_bytes(websocket.BINARY, bytes(size % 70_000), mask=True)[:150])
            if size == 1 << 40:
                continue
            node.wait_ended()
        node = target.link()
        node.socket.send_bytes(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4) + b"some")
        node.wait_ended()

    @WITH_SECRET
    def test_nothing_is_said_to_who_proves_nothing(self, target: Target) -> None:
        """A silent peer is told nothing of the cluster; others are served meanwhile, and it is no link."""
        before = target.links_inbound()
        silent = [target.link() for _ in range(20)]
        target.proven().alive()
        assert target.links_inbound() == before + 1
        assert {frame.kind for node in silent for frame in node.seen} <= {HEARTBEAT}


def unserved(node: Node) -> None:
    """The session was ended for want of a proof; nothing but heartbeats was ever said on it."""
    ended = node.wait_ended()
    assert ended.code in (1008, 1009, 1002, None), ended
    assert {frame.kind for frame in node.seen} <= {HEARTBEAT}
    assert not any(frame.response for frame in node.seen)


class TestProvenPeer:
    """A peer that is let in, and then talks nonsense: each call costs itself alone."""

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"nonsense",
            sync("proof", bytes(32)),
            sync("maps", b""),
            sync("maps", b"nonsense"),
            sync("maps", b"\xc1"),
            sync("maps", b"\x90"),
            sync("maps", b"\x91" * 200),
            sync("maps", b"\xdd\xff\xff\xff\xff"),
            sync("maps", b"\x92\x01\x02"),
            b"\x92\xa4maps\xc6\xff\xff\xff\xff",
            bytes(1000),
        ],
        ids=short,
    )
    def test_questions_that_are_none(self, target: Target, payload: bytes) -> None:
        """The call is reset, and the link goes on."""
        node = target.proven()
        call = node.take_id()
        node.send(SYNC, call, 0, payload)
        assert node.wait_response(call).flags & ~RESPONSE, "a reset, or not supported"
        node.alive()
        assert node.wait_stream(node.get("web"), response=True).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize(
        "head",
        [
            b"nonsense",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
            b"GET / HTTP/1.1\r\nx-pico-endpoint: -\r\nHost: a.b\r\n\r\n",
            b"GET / HTTP/1.1\r\nx-pico-endpoint: web\r\nHost: a.b",
            b"GET / HTTP/1.1\r\nx-pico-endpoint: web\r\nConnection: x\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n",
            b"\x00" * 40_000,
        ],
        ids=short,
    )
    def test_requests_that_are_none(self, target: Target, head: bytes) -> None:
        """A request that no node would send is reset, or gets an error; the link goes on."""
        node = target.proven()
        call = node.open_call(head)
        first = node.wait_response(call)
        assert first.reset or first.payload.startswith(b"HTTP/1.1 4"), first
        node.alive()

    def test_kinds_that_nodes_do_not_speak(self, target: Target) -> None:
        """Types of agents and of the future are not supported; the link goes on."""
        node = target.proven()
        for kind in (7, 99, 0xFFFF):
            call = node.take_id()
            node.send(kind, call, 0, b"web")
            assert node.wait_response(call).flags == RESPONSE | NOT_SUPPORTED
        node.alive()

    def test_a_request_does_not_hop_on(self, target: Target) -> None:
        """n2 does not hold the endpoint: what comes to it over a link is refused, though n1 holds it."""
        gossip = ("127.0.0.1", target.n2.ports.gossip)
        node = target.keep(Node(gossip, target.claim(to="n2")))
        if target.secret is not None:
            node.wait_response(node.prove())
        assert node.wait_reset(node.get("web")) == "refused not-here"
        assert target.service.requests == []

"""What only nodes may is out of reach for proxy clients, for agents, and for whoever can send packets."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from functools import partial

import pytest

from pico_twisted.core.gossip.packets import SYN, pack_body, pack_item
from pico_twisted.core.gossip.sealing import Sealer
from tests.peers import frames, v2, websocket
from tests.peers.frames import HTTP, NOT_SUPPORTED, RESPONSE, SYNC, TCP
from tests.peers.link import PATH, Node, sync
from tests.system.hostile import OTHER_SECRET, UPGRADE, Target
from tests.system.names import short
from tools.stage.waiting import wait_until

FOREVER = 1_999_999_999_999
"""A generation that none of the tests' nodes reaches."""

NODE_FIELDS = (
    "x-pico-to: n1",
    "x-pico-cluster: pico",
    "x-pico-node-id: n2",
    "x-pico-generation: 1750000000000",
    "x-pico-nonce: 00000000000000000000000000000000",
    "x-pico-key: 00000000",
    "x-pico-proof: 00",
    "x-pico-from: n2",
    "x-pico-hops: 1",
    "x-pico-forwarded: n2",
)
"""What a node says to a node, and what somebody could think that it says."""


class TestProxyPort:
    """Clients of the proxy port."""

    @pytest.mark.parametrize("asked", ["n1", "n2"])
    def test_a_client_that_speaks_like_a_node(self, target: Target, asked: str) -> None:
        """Its request is an ordinary one: it is routed on, gets its fields, and loses what only nodes say."""
        response = target.ask(
            target.cluster[asked],
            "x-pico-endpoint: web",
            "X-Forwarded-For: 9.9.9.9",
            "X-Request-Id: own-1",
            *NODE_FIELDS,
            line=f"GET {PATH} HTTP/1.1",
        )
        assert (response.status, response.body) == (200, b"hello from the service\n")
        assert not any(name.startswith(b"x-pico") for name in response.names)
        request = target.service.wait_request()
        assert request.target == PATH.encode()
        assert request.get("x-forwarded-for") == b"127.0.0.1"
        assert request.get("x-request-id") == b"own-1"
        assert request.all("via") == [] and request.all("cdn-loop") == [b"pico"]
        assert not any(name.startswith(b"x-pico") for name in request.names)

    @pytest.mark.parametrize("asked", ["n1", "n2"])
    def test_a_links_handshake(self, target: Target, asked: str) -> None:
        """At the proxy port it is an upgrade like any other, for the service to decide: here it is declined."""
        before = target.links_inbound()
        fields = [f"{name}: {value}" for name, value in target.claim(to=asked).headers()]
        node = target.cluster[asked]
        response = target.ask(node, "x-pico-endpoint: web", *UPGRADE, *fields, line=f"GET {PATH} HTTP/1.1")
        assert (response.status, response.body) == (200, b"hello from the service\n")
        request = target.service.wait_request()
        assert request.get("upgrade") == b"websocket"
        assert not any(name.startswith(b"x-pico") for name in request.names)
        response = target.ask(node, *UPGRADE, *fields, line=f"GET {PATH} HTTP/1.1")
        assert (response.status, json.loads(response.body)["error"]) == (400, "missing endpoint id")
        assert target.links_inbound() == before

    @pytest.mark.parametrize(
        "endpoint", ["n1", "n2", "local", "node", "pico", "_node", "web,web", "web/../n2", "WEB "], ids=short
    )
    def test_names_that_could_mean_something(self, target: Target, endpoint: str) -> None:
        """An endpoint ID is no more than that: the names of nodes and other words lead nowhere."""
        for node in (target.n1, target.n2):
            response = target.ask(node, f"x-pico-endpoint: {endpoint}", *NODE_FIELDS)
            if endpoint == "WEB ":
                assert response.status == 200
            else:
                assert response.status in (400, 502), response
                assert json.loads(response.body)["error"] in ("invalid endpoint id", "no available upstreams")
                assert response.get("x-pico-error") is not None

    def test_an_endpoint_said_twice(self, target: Target) -> None:
        """As by any client: 400, at the node that was asked, whatever else is said."""
        for node in (target.n1, target.n2):
            response = target.ask(node, "x-pico-endpoint: web", "X-Pico-Endpoint: n1", *NODE_FIELDS)
            assert response.status == 400

    def test_bodies_that_look_like_frames(self, target: Target) -> None:
        """What a node would say to a node is a body like any other, and reaches the service as it is."""
        proof = frames.packed(SYNC, 1, 0, sync("proof", bytes(32)))
        maps = frames.packed(SYNC, 2, 0, sync("maps", b"\x90"))
        body = websocket.frame_bytes(websocket.BINARY, proof, mask=True) + maps
        for node in (target.n1, target.n2):
            response = target.ask(node, "x-pico-endpoint: web", *NODE_FIELDS, line=f"POST {PATH} HTTP/1.1", body=body)
            assert response.status == 200
        assert [request.body for request in target.service.requests] == [body, body]


class TestUpstreamPort:
    """Peers of the upstream port."""

    def test_no_links_there(self, target: Target) -> None:
        """An honest node that came to the upstream port by mistake is refused, and so is one that lies."""
        for claim in (target.claim(), target.claim(to="n2"), target.claim(secret=OTHER_SECRET.encode())):
            with pytest.raises(websocket.Refused) as refused:
                Node(target.n1.upstream, claim)
            assert refused.value.status == 404

    def test_an_agent_that_speaks_like_a_node(self, target: Target) -> None:
        """What it says of itself as a node is ignored, and its sync calls are not served."""
        headers = [*target.claim().headers(), ("x-pico-agent-id", "liar")]
        path = "/pico/v1/listener/liar"
        opened, _ = websocket.connect(target.n1.upstream, path, subprotocols=["pico.v2"], headers=headers)
        agent = target.keep(v2.Peer(opened))
        for payload in (sync("proof", bytes(32)), sync("maps", b"\x90"), b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n"):
            for kind in (SYNC, HTTP, TCP):
                call = agent.take_id()
                agent.send(kind, call, 0, payload)
                assert agent.wait_response(call).flags == RESPONSE | NOT_SUPPORTED
        agent.alive()
        agent.vanish()
        target.cluster.wait_endpoint("n1", "liar", 0)

    def test_an_endpoint_with_the_name_of_a_node(self, target: Target) -> None:
        """Agents may call their endpoints as they like: one that is called like a node takes nothing from it."""
        agent = target.keep(v2.Agent(target.n1.upstream, "n2", agent_id="n2"))
        target.cluster.wait_endpoint("n1", "n2")
        assert target.n1.admin.json("/status/cluster/nodes/n2")["id"] == "n2"
        assert target.ask(target.n2, "x-pico-endpoint: web").status == 200
        agent.vanish()
        target.cluster.wait_endpoint("n1", "n2", 0)


def packet(*secrets: str, cluster: str = "pico", node_id: str = "n3") -> bytes:
    """The first packet of a node, as another one would believe it."""
    sealer = Sealer(cluster, secrets, node_id, FOREVER, os.urandom(8))
    own = pack_item((node_id, FOREVER, 1, 0, 0, 0))
    return sealer.seal(pack_body(SYN, bytes(8), b"", (0, 0), 0, [own], [], []))


class TestPackets:
    """Whoever can send packets to the gossip port."""

    @pytest.mark.parametrize(
        ("made", "reason"),
        [
            (lambda secrets: b"\x01", "garbage"),
            (lambda secrets: b"\x01\xff" + os.urandom(1200), "garbage"),
            (lambda secrets: b"\x01" + bytes(20), "garbage"),
            (lambda secrets: os.urandom(1300).replace(b"\x01", b"\x02") or b"\x02", "format"),
            (lambda secrets: b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n", "format"),
            (lambda secrets: bytes(65_000), "format"),
            (lambda secrets: packet(*secrets, cluster="other"), "cluster"),
            (lambda secrets: packet(OTHER_SECRET), "secret"),
            (lambda secrets: packet(*secrets)[:30], "garbage"),
            (lambda secrets: packet(*secrets, node_id="n\n3"), "garbage"),
        ],
        ids=["one byte", "random", "zeros", "format", "HTTP", "long", "cluster", "secret", "cut", "name"],
    )
    def test_dropped(self, target: Target, made: Callable[[tuple[str, ...]], bytes], reason: str) -> None:
        """Garbage, other clusters, other secrets: counted, answered with nothing, and nothing comes of it."""
        sender = target.udp()
        secrets = (target.secret,) if target.secret else ()
        for _ in range(5):  # one after the other: the kernel holds only a few of the long ones
            count = target.dropped(reason) + 1
            sender.send(made(secrets))
            wait_until(partial(self._is, target, reason, count), "the packet to be counted")
        assert silent(sender)
        target.n1.wait_output("Gossip packet dropped")

    def test_by_reason(self, target: Target) -> None:
        """The counter says why."""
        sender = target.udp()
        ours = (target.secret,) if target.secret else ()
        cases = {
            "format": b"\x09" + bytes(100),
            "cluster": packet(*ours, cluster="other"),
            "secret": packet(OTHER_SECRET),
        }
        if target.secret is not None:
            broken = bytearray(packet(target.secret))
            broken[-1] ^= 1
            cases["seal"] = bytes(broken)
        for reason, made in cases.items():
            before = target.dropped(reason)
            sender.send(made)
            wait_until(partial(self._is, target, reason, before + 1), f"a packet dropped for {reason}")
        if target.secret is not None:
            before = target.dropped("secret")
            sender.send(packet())
            wait_until(partial(self._is, target, "secret", before + 1), "a packet without a seal to be dropped")
        assert silent(sender)

    @staticmethod
    def _is(target: Target, reason: str, count: float) -> bool:
        return target.dropped(reason) == count

    def test_a_recorded_packet(self, target: Target) -> None:
        """A packet counts once: it is dropped when it comes again, from wherever it comes."""
        ours = (target.secret,) if target.secret else ()
        made = packet(*ours)
        first, second = target.udp(), target.udp()
        first.send(made)
        before = target.dropped("replay")
        for sender in (first, second, second):
            sender.send(made)
        wait_until(partial(self._is, target, "replay", before + 3), "the repeated packets to be dropped")
        assert silent(second)

    def test_a_stranger_with_the_secret(self, target: Target) -> None:
        """Who does not prove its address gets one small packet for its own, and is not listed as a node."""
        ours = (target.secret,) if target.secret else ()
        made = packet(*ours)
        sender = target.udp()
        sender.send(made)
        drawn = wait_until(partial(received, sender), "a challenge")
        assert len(drawn) <= len(made) + 16
        assert silent(sender)
        assert target.n1.admin.get("/status/cluster/nodes/n3")[0] == 404


def received(sender: socket.socket) -> bytes:
    """What came for a socket; nothing while nothing came."""
    try:
        return sender.recv(65_536)
    except BlockingIOError:
        return b""


def silent(sender: socket.socket) -> bool:
    """Whether nothing was sent back."""
    return received(sender) == b""

"""The handshake of the upstream port, whole, bad and half; and junk on every port."""

from __future__ import annotations

import json
import os

import pytest

from tests.peers import frames, websocket
from tests.peers.frames import RESPONSE
from tests.peers.pipe import Ended, dial
from tests.system import wire
from tests.system.raw import serves
from tests.system.shapes import ENDS, whole_in_plain
from tests.system.stack import Stack
from tests.system.wire import Malformed


def raw(stack: Stack) -> wire.Stream:
    """A raw connection to the upstream port."""
    return stack.keep(wire.connect(stack.agents_node.upstream, tls=stack.tls.context if stack.tls else None))


def handshake(path: str = "/pico/v1/listener/x", *fields: str, drop: tuple[str, ...] = ()) -> bytes:
    """A handshake's head, some of its fields left out."""
    lines = {
        "host": "Host: localhost",
        "upgrade": "Upgrade: websocket",
        "connection": "Connection: Upgrade",
        "key": "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "version": "Sec-WebSocket-Version: 13",
    }
    kept = [line for name, line in lines.items() if name not in drop]
    return "\r\n".join([f"GET {path} HTTP/1.1", *kept, *fields, "", ""]).encode()


@whole_in_plain(
    "name, head, statuses",
    [
        ("the root", handshake("/"), {404}),
        ("no endpoint", handshake("/pico/v1/listener"), {404}),
        ("an empty endpoint", handshake("/pico/v1/listener/"), {400, 404}),
        ("two endpoints", handshake("/pico/v1/listener/a/b"), {400, 404}),
        ("a bad endpoint", handshake("/pico/v1/listener/-bad"), {400}),
        ("a long endpoint", handshake("/pico/v1/listener/" + "a" * 129), {400}),
        ("the path of a link", handshake("/pico/v1/node"), {400, 403, 404}),
        ("no upgrade", handshake(drop=("upgrade", "connection")), {426}),
        ("an old version", handshake("/pico/v1/listener/x", "Sec-WebSocket-Version: 8", drop=("version",)), {400, 426}),
        ("no version", handshake(drop=("version",)), {400, 426}),
        ("no key", handshake(drop=("key",)), {400}),
        ("a short key", handshake("/pico/v1/listener/x", "Sec-WebSocket-Key: short", drop=("key",)), {400}),
        ("no host", handshake(drop=("host",)), {400}),
        ("two hosts", handshake("/pico/v1/listener/x", "Host: again"), {400}),
        ("a control byte", handshake("/pico/v1/listener/x", "X-Pico-Slot: a\x01b"), {400}),
        ("beyond the limit", handshake("/pico/v1/listener/x", "X: " + "a" * 33_000), {431}),
        ("a long path", handshake("/pico/v1/listener/" + "a" * 9000), {400, 404, 414}),
        ("101 fields", handshake("/pico/v1/listener/x", *["X: y"] * 101), {431}),
        ("POST", handshake().replace(b"GET ", b"POST "), {400, 404, 405, 426}),
        ("garbage", b"garbage\r\n\r\n", {400}),
        ("http/2.0", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", {400, 505}),
    ],
    in_all=["the root", "an old version", "beyond the limit", "garbage"],
)
def test_bad_handshakes(stack: Stack, name: str, head: bytes, statuses: set[int]) -> None:
    """A handshake that is none is refused with a status and JSON, and the connection is closed."""
    client = raw(stack)
    client.send(head)
    response = client.read_response()
    assert response.status in statuses, response
    assert response.get("content-type") == b"application/json"
    assert isinstance(json.loads(response.body)["error"], str)
    assert client.ended()
    stack.still_serves()


def test_half_a_handshake(stack: Stack) -> None:
    """Connections that end or stop in their handshake cost nothing; an agent registers beside fifty of them."""
    head = handshake()
    for size in range(0, len(head), max(1, len(head) // 50)):
        client = raw(stack)
        client.send(head[:size] or b"G")
        if size % 2:
            client.close()
    peer, endpoint = stack.v2_agent()
    serves(stack, peer, endpoint)
    stack.still_serves()


def test_frames_right_behind_the_handshake(stack: Stack) -> None:
    """A client that does not wait for the 101 has its frames read all the same."""
    client = raw(stack)
    frame = websocket.frame_bytes(websocket.BINARY, frames.packed(frames.HEARTBEAT, 1, 0, b"early"), mask=True)
    client.send(handshake("/pico/v1/listener/x", "Sec-WebSocket-Protocol: pico.v2") + frame)
    assert client.response_head().status == 101
    wanted = frames.packed(frames.HEARTBEAT, 1, RESPONSE, b"early")
    data = b""
    while wanted not in data:
        data += client.read(1)


def test_a_body_in_the_handshake(stack: Stack) -> None:
    """A handshake with a body is refused, and the body is not taken for frames."""
    client = raw(stack)
    frame = websocket.frame_bytes(websocket.BINARY, frames.packed(frames.HEARTBEAT, 1, 0, b"body"), mask=True)
    client.send(handshake("/pico/v1/listener/x", f"Content-Length: {len(frame)}") + frame)
    assert client.read_response().status == 400
    assert client.ended()
    assert b"\x82" not in client.received


@ENDS
@pytest.mark.parametrize(
    "junk",
    [b"\x00" * 100, b"\xff" * 70_000, b"\x16\x03\x01\x00\x05hello", os.urandom(5000)],
    ids=["zeros", "ones", "half a TLS handshake", "random"],
)
@pytest.mark.parametrize("port", ["proxy", "upstream", "admin", "gossip"])
def test_junk_on_every_port(stack: Stack, port: str, junk: bytes) -> None:
    """Bytes that are nothing at all end their own connection and nobody else's."""
    # The TLS of the gossip port is the cluster's own: a node alone has none.
    context = stack.tls.context if stack.tls and (stack.two_nodes or port != "gossip") else None
    for node in {stack.node, stack.agents_node}:
        for tls in {None, context}:
            try:
                client = wire.Stream(dial(("127.0.0.1", getattr(node.ports, port)), tls=tls))
                client.send(junk)
                client.send(b"\r\n\r\n")
                client.wait_gone()
            except (Ended, Malformed):
                pass
    stack.still_serves()

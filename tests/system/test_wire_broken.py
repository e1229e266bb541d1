"""The upstream port against a raw peer that breaks the protocol, in every way that we know.

After each attack the node must go on serving others; where the protocol says so, the same session too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.peers import frames, v2, websocket
from tests.peers.frames import CREDIT, HTTP, MORE, RESET, RESPONSE
from tests.peers.pipe import Ended
from tests.system.names import short
from tests.system.raw import OK, ask, gone, serves
from tests.system.shapes import NODES, whole_in_plain
from tests.system.stack import Stack
from tests.system.wire import Broken

# -- frames that are no frames


@pytest.mark.parametrize("in_call", [False, True], ids=["idle", "in a call"])
@whole_in_plain(
    "name, attack, code",
    [
        ("text", lambda peer: peer.socket.send(b"hello", opcode=websocket.TEXT), 1002),
        ("empty", lambda peer: peer.socket.send(b""), 1002),
        ("11 bytes", lambda peer: peer.socket.send(bytes(11)), 1002),
        ("too large", lambda peer: peer.send(HTTP, 1, RESPONSE | MORE, bytes(64 * 1024 + 1)), 1009),
        ("much too large", lambda peer: peer.send(HTTP, 1, RESPONSE | MORE, bytes(5 << 20)), 1009),
        (
            "too large in fragments",
            lambda peer: peer.socket.send(frames.packed(HTTP, 1, RESPONSE | MORE, bytes(80_000)), fragment=1000),
            1009,
        ),
        (
            "a fragment without end",
            lambda peer: [
                peer.socket.send_frame(websocket.BINARY if n == 0 else websocket.CONTINUATION, bytes(60_000), fin=False)
                for n in range(4)
            ],
            1009,
        ),
        ("unmasked", lambda peer: peer.socket.send_frame(websocket.BINARY, bytes(12), mask=False), 1002),
        ("reserved bits", lambda peer: peer.socket.send_frame(websocket.BINARY, bytes(12), reserved=0x40), 1002),
        ("unknown opcode", lambda peer: peer.socket.send_frame(0x3, bytes(12)), 1002),
        ("stray continuation", lambda peer: peer.socket.send_frame(websocket.CONTINUATION, bytes(12)), 1002),
        ("a long ping", lambda peer: peer.socket.send_frame(websocket.PING, bytes(126)), 1002),
        ("no WebSocket at all", lambda peer: peer.socket.send_bytes(b"GET / HTTP/1.1\r\n\r\n"), 1002),
        ("response to an ID never used", lambda peer: peer.send(HTTP, 1 << 40, RESPONSE, b"x"), 1002),
        ("credit as response to an ID never used", lambda peer: peer.send(HTTP, 999, RESPONSE, b"HTTP/1.1 200"), 1002),
    ],
    in_all=["text", "much too large", "a fragment without end", "no WebSocket at all"],
)
def test_broken_frames_end_the_session(
    stack: Stack, name: str, attack: Callable[[v2.Agent], object], code: int, in_call: bool
) -> None:
    """Each breach of the framing closes this session with its code; a call in flight is a 502; others are served."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0") if in_call else None
    if client is not None:
        peer.next_call()
    try:
        attack(peer)
    except Ended:
        pass
    ended = peer.wait_ended()
    # When the node drops TCP with bytes unread, the kernel's reset may swallow its close frame.
    assert ended.code == code or not ended.clean, (name, ended)
    if client is not None:
        assert client.read_response().status == 502
    gone(stack, endpoint)
    stack.still_serves()


def test_a_close_frame_is_answered(stack: Stack) -> None:
    """An orderly close is echoed, and the endpoint is gone at once."""
    peer, endpoint = stack.v2_agent()
    peer.socket.close(1001, "going away")
    ended = peer.wait_ended()
    assert ended.clean and ended.code in (1000, 1001)
    gone(stack, endpoint)


# -- frames that mean nothing


@whole_in_plain("kind", [0, 3, 5, 6, 99, 65535], in_all=["99"])
def test_unknown_types(stack: Stack, kind: int) -> None:
    """A call of a type that is not served here gets 0xC000, its further frames are dropped, the session goes on."""
    peer, endpoint = stack.v2_agent()
    call = peer.take_id()
    peer.send(kind, call, MORE, b"something")
    reply = peer.wait_frame(lambda frame: frame.call == call and frame.response)
    assert (reply.kind, reply.flags, reply.payload) == (kind, 0xC000, b"")
    peer.send(kind, call, MORE, b"more")
    peer.send(kind, call, 0, b"end")
    peer.alive()
    assert len([frame for frame in peer.seen if frame.call == call and frame.kind == kind and frame.response]) == 1
    serves(stack, peer, endpoint)


def test_an_agent_may_not_call_http(stack: Stack) -> None:
    """A request that comes from an agent is served nowhere: it is refused, and the session goes on."""
    peer, endpoint = stack.v2_agent()
    call = peer.open_call(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    reply = peer.wait_frame(lambda frame: frame.call == call and frame.response)
    assert reply.flags & 0x4000 or reply.reset
    serves(stack, peer, endpoint)
    stack.still_serves()


def test_reserved_bits_are_ignored(stack: Stack) -> None:
    """The flags that v2 does not define change nothing."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    peer.send(HTTP, peer.next_call().call, RESPONSE | 0x03FF, OK)
    assert client.read_response().body == b"ok"
    call = peer.take_id()
    peer.send(frames.HEARTBEAT, call, 0x03FF, b"x")
    assert peer.wait_frame(lambda frame: frame.call == call and frame.response).payload == b"x"


def test_late_frames_are_dropped(stack: Stack) -> None:
    """What comes for a call that is over, credit and reset included, changes nothing."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    peer.answer_call(call, OK)
    assert client.read_response().body == b"ok"
    for flags, payload in (
        (RESPONSE, OK),
        (RESPONSE | MORE, b"x" * 1000),
        (RESPONSE | CREDIT, struct.pack("!I", 1)),
        (RESPONSE | RESET, b"failed too late"),
        (RESPONSE | 0x4000, b""),
    ):
        peer.send(HTTP, call, flags, payload)
    peer.alive()
    serves(stack, peer, endpoint)


def test_ids_that_fall_are_dropped(stack: Stack) -> None:
    """A call whose ID is not above the highest seen is late: dropped without an answer."""
    peer, endpoint = stack.v2_agent()
    peer.send(frames.HEARTBEAT, 100, 0, b"hundred")
    assert peer.wait_frame(lambda frame: frame.call == 100 and frame.response).payload == b"hundred"
    peer.send(frames.HEARTBEAT, 100, 0, b"again")
    peer.send(frames.HEARTBEAT, 50, 0, b"fifty")
    peer.send(7, 60, 0, b"sixty")
    peer.skip_ids(100)
    peer.alive()
    assert [frame.payload for frame in peer.seen if frame.response and frame.call in (50, 60, 100)] == [b"hundred"]
    serves(stack, peer, endpoint)


def test_a_changed_type_is_a_protocol_error(stack: Stack) -> None:
    """A frame of an open call with another type ends the session with 1002."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    peer.send(frames.TCP, peer.next_call().call, RESPONSE | MORE, b"x")
    assert peer.wait_ended().code == 1002
    assert client.read_response().status == 502


def test_http_that_is_not_supported(stack: Stack) -> None:
    """An agent that answers 0xC000 to a request serves no HTTP: its client is told, and the session goes on."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    peer.send(HTTP, peer.next_call().call, 0xC000)
    response = client.read_response()
    assert response.status == 421 and response.get("x-pico-error") == f"{stack.node.name}; not-http".encode()
    serves(stack, peer, endpoint)


@NODES
@pytest.mark.parametrize("code", ["failed", "protocol", "timeout", "cancelled", "nonsense", "", "failed " + "x" * 240])
def test_resets_of_a_call(stack: Stack, code: str) -> None:
    """A reset before the head is an error for the client, and after it a broken transfer; any code will do."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    peer.reset(peer.next_call().call, code, response=True)
    assert client.read_response().status in (502, 504)
    client = ask(stack, endpoint)
    call = peer.next_call().call
    peer.answer_call(call, b"HTTP/1.1 200 OK\r\n\r\nhalf", end=False)
    assert client.response_head().status == 200
    assert client.body_bytes(4) == b"half"
    peer.reset(call, code, response=True)
    with pytest.raises(Broken):
        client.body_piece()
    serves(stack, peer, endpoint)


def test_a_long_reset_is_survived(stack: Stack) -> None:
    """A reset of more than 256 bytes costs at most the session."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    peer.reset(peer.next_call().call, "failed " + "x" * 60_000, response=True)
    response = client.read_response()
    assert response.status == 502
    assert all(len(value) < 1000 for _, value in response.fields) and len(response.body) < 1000
    stack.still_serves()


# -- http calls that break HTTP

UNASKED_UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nsurprise"
MANY_FIELDS = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1300 + b"\r\n"


@whole_in_plain(
    "payload",
    [
        b"",
        b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 1000 What\r\n\r\n",
        b"HTTP/1.1 099 What\r\n\r\n",
        b"HTTP/0.0 502 Bad Gateway\r\n\r\nv1 only",
        b"HTTP/2.0 200 OK\r\n\r\n",
        UNASKED_UPGRADE,
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil=1\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        # A head has some room above 100 fields between hops, for what the last one has added.
        MANY_FIELDS,
        b"HTTP/1.1 103 Hint\r\n\r\n" * 1 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    in_all=[short(payload) for payload in (b"", b"garbage\r\n\r\n", UNASKED_UPGRADE, MANY_FIELDS)],
)
def test_malformed_responses_of_a_peer(stack: Stack, payload: bytes) -> None:
    """A response that breaks HTTP or v2's rules is a 502 and costs its call; the session serves on."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    call = peer.next_call().call
    peer.send(HTTP, call, RESPONSE, payload)
    response = client.read_response()
    assert response.status == 502
    assert response.get("x-pico-error") is not None
    assert b"surprise" not in client.received and b"evil" not in client.received
    serves(stack, peer, endpoint)


@pytest.mark.parametrize("count", [17, 1000])
def test_many_interim_heads(stack: Stack, count: int) -> None:
    """Any number of 1xx heads may come, each in its frame: the final answer goes its way."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    call = peer.next_call().call
    for number in range(count):
        peer.send(HTTP, call, RESPONSE | MORE, b"HTTP/1.1 103 Early Hints\r\nX-N: %d\r\n\r\n" % number)
    peer.answer_call(call, OK)
    assert 17 <= len(client.read_response().interim) <= count
    serves(stack, peer, endpoint)


@NODES
@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("GET / HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345"),
        ("HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\n\r\n12345"),
        ("GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n12345"),
        ("GET / HTTP/1.1", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n12345"),
    ],
    ids=short,
)
def test_bytes_that_may_not_follow(stack: Stack, line: str, head: bytes) -> None:
    """Bytes beyond Content-Length, or behind a head that ends its message, never reach a client; not as a response."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, line)
    call = peer.next_call().call
    peer.send(HTTP, call, RESPONSE | MORE, head)
    peer.send(HTTP, call, RESPONSE | MORE, b"12345"[: 5 if line.startswith("GET") and b"200" in head else 0] + evil)
    assert peer.wait_reset(call) == "protocol"
    try:
        client.read_response(line.partition(" ")[0])
        client.send(stack.head("GET /next HTTP/1.1", endpoint=endpoint))
        peer.answer_call(peer.next_call(5.0).call, OK)
        assert client.read_response().body == b"ok"
    except (Ended, Broken, TimeoutError):
        pass  # cutting the client's connection is right too
    assert b"evil" not in client.received
    serves(stack, peer, endpoint)


def test_fewer_bytes_than_promised(stack: Stack) -> None:
    """A stream that ends before its Content-Length is a broken transfer for the client, and a reset for the peer."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    # Where all of it comes in one frame, nothing was passed on yet.
    peer.answer_call(call, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    assert client.read_response().status == 502
    client = ask(stack, endpoint)
    call = peer.next_call().call
    peer.answer_call(call, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", end=False)
    assert client.response_head().status == 200
    peer.answer_call(call, b"half")
    with pytest.raises(Broken):
        client.body()
    serves(stack, peer, endpoint)


def test_empty_frames_are_survived(stack: Stack) -> None:
    """An empty frame that does not end its stream is not allowed: it costs the call or the session, no more."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    try:
        peer.answer_call(call, b"HTTP/1.1 200 OK\r\n\r\n", end=False)
        for _ in range(100):
            peer.send(HTTP, call, RESPONSE | MORE)
    except Ended:
        pass
    client.response_head()
    with pytest.raises(Broken):
        client.body()
    stack.still_serves()


def test_a_head_in_many_frames(stack: Stack) -> None:
    """A head that is cut over several frames is against the rules: 502 or served, but never a hang."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    call = peer.next_call().call
    for byte in OK[:-1]:
        peer.send(HTTP, call, RESPONSE | MORE, bytes([byte]))
    peer.send(HTTP, call, RESPONSE, OK[-1:])
    assert client.read_response().status in (200, 502)
    serves(stack, peer, endpoint)

"""The upstream port against a raw peer: what DESIGN's protocol asks of a v2 session, and every way to break it.

After each attack the node must go on serving others; where the protocol says so, the same session too.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable

import pytest

from tests.peers import frames, v2, websocket
from tests.peers.frames import CREDIT, HTTP, MORE, RESET, RESPONSE, WINDOW_BYTES
from tests.peers.pipe import PATIENCE_S, Ended, dial
from tests.system import wire
from tests.system.harness import short, wait_until
from tests.system.service import answer
from tests.system.stack import Stack
from tests.system.wire import Broken, Malformed, Stream, parse_head

OK = answer(b"ok")


def ask(stack: Stack, endpoint: str, line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Stream:
    """Send a request for a peer's endpoint; the client."""
    client = stack.connect()
    client.send(stack.head(line, *fields, endpoint=endpoint) + body)
    return client


def serves(stack: Stack, peer: v2.Agent, endpoint: str) -> None:
    """Prove that the peer's own session still carries calls."""
    client = ask(stack, endpoint, "GET /serves HTTP/1.1")
    peer.answer_call(peer.next_call().call, OK)
    assert client.read_response().body == b"ok"


def peer_calls(one: v2.Peer, other: v2.Peer, count: int) -> None:
    """Wait until two peers together got so many calls."""
    wait_until(lambda: len(one.opened()) + len(other.opened()) == count, f"{count} calls")


def gone(stack: Stack, endpoint: str) -> None:
    """Wait until nobody holds the endpoint."""
    wait_until(lambda: endpoint not in stack.node.admin.endpoints(), f"{endpoint} to go")


# -- the protocol as it should be


def test_v2_is_negotiated(stack: Stack) -> None:
    """An offer of pico.v2 is taken, beside offers that nobody knows; without it there is v1. No extensions."""
    peer, endpoint = stack.v2_agent(offers=("pico.v9", "pico.v2", "other"))
    assert peer.answer.get("sec-websocket-protocol") == "pico.v2"
    assert peer.answer.get("sec-websocket-extensions") is None
    assert peer.answer.get("x-pico-node-id") == "node-1"
    serves(stack, peer, endpoint)
    peer, _ = stack.v2_agent(offers=("pico.v9",))
    assert peer.answer.get("sec-websocket-protocol") is None


def test_compression_is_never_negotiated(stack: Stack) -> None:
    """An offer of permessage-deflate is not taken."""
    context = stack.tls.context if stack.tls else None
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
    socket, reply = websocket.connect(
        stack.node.upstream, "/pico/v1/listener/x", subprotocols=["pico.v2"], headers=offer, tls=context
    )
    assert reply.get("sec-websocket-extensions") is None
    socket.drop()


def test_a_request_as_the_agent_sees_it(stack: Stack) -> None:
    """The first frame holds the whole head; without a body it ends the stream; a body follows raw, not chunked."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "GET /path?q HTTP/1.1", "X-Some: thing")
    first = peer.next_call()
    assert first.flags == 0
    assert first.payload.endswith(b"\r\n\r\n")
    line, fields = parse_head(first.payload)
    names = [name.lower() for name, _ in fields]
    assert line == b"GET /path?q HTTP/1.1"
    assert names.count(b"host") == 1 and b"x-some" in names
    assert b"transfer-encoding" not in names and b"connection" not in names
    peer.answer_call(first.call, OK)
    assert client.read_response().body == b"ok"

    client = ask(stack, endpoint, "POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n")
    second = peer.next_call()
    assert second.call > first.call and second.more
    client.send(b"2\r\nde\r\n0\r\n\r\n")
    stream = peer.wait_stream(second.call, response=False)
    head, _, body = stream.partition(b"\r\n\r\n")
    assert body == b"abcde"
    assert b"transfer-encoding" not in head.lower() and b"content-length" not in head.lower()
    peer.answer_call(second.call, OK)
    assert client.read_response().body == b"ok"


def test_the_node_heartbeats_at_once(stack: Stack) -> None:
    """The first frame of a session is the node's heartbeat; an agent's own are echoed with their payload."""
    peer, _ = stack.v2_agent()
    first = peer.wait_frame(lambda frame: True)
    assert (first.kind, first.flags) == (frames.HEARTBEAT, 0) and len(first.payload) <= 125
    for size in (0, 1, 125):
        call = peer.take_id()
        payload = os.urandom(size)
        peer.send(frames.HEARTBEAT, call, 0, payload)
        echo = peer.wait_response(call)
        assert (echo.kind, echo.flags, echo.payload) == (frames.HEARTBEAT, RESPONSE, payload)


def test_a_drain_of_the_agent(stack: Stack) -> None:
    """A drain is answered empty; after it no call starts while another registration exists; those in flight finish."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    other, _ = stack.v2_agent(endpoint)
    drain = peer.take_id()
    peer.send(frames.DRAIN, drain, 0)
    reply = peer.wait_frame(lambda frame: frame.kind == frames.DRAIN and frame.response)
    assert (reply.call, reply.flags, reply.payload) == (drain, RESPONSE, b"")
    for _ in range(4):
        serves(stack, other, endpoint)
    peer.answer_call(call, OK)
    assert client.read_response().body == b"ok"
    peer.close()
    serves(stack, other, endpoint)


def test_replacement_by_agent_id_and_slot(stack: Stack) -> None:
    """The same agent ID, endpoint and slot replace the session; another slot stands beside it."""
    old, endpoint = stack.v2_agent(agent_id="a1", slot="0")
    second, _ = stack.v2_agent(endpoint, agent_id="a1", slot="1")
    stack.node.wait_endpoint(endpoint, 2)
    new, _ = stack.v2_agent(endpoint, agent_id="a1", slot="0")
    old.wait_ended()
    stack.node.wait_endpoint(endpoint, 2)
    second.close()
    stack.node.wait_endpoint(endpoint, 1)
    serves(stack, new, endpoint)


def test_fewest_calls_in_flight_go_first(stack: Stack) -> None:
    """A registration with a call in flight is passed over for an idle one; ties go in turn."""
    busy, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = busy.next_call().call
    idle, _ = stack.v2_agent(endpoint)
    stack.node.wait_endpoint(endpoint, 2)
    for _ in range(3):
        serves(stack, idle, endpoint)
    busy.answer_call(call, OK)
    assert client.read_response().body == b"ok"
    turns: list[v2.Agent] = []
    for _ in range(4):
        before = len(busy.opened())
        client = ask(stack, endpoint)
        peer_calls(busy, idle, 5 + len(turns))
        chosen = busy if len(busy.opened()) > before else idle
        turns.append(chosen)
        chosen.answer_call(chosen.next_call().call, OK)
        assert client.read_response().body == b"ok"
    assert turns.count(busy) == turns.count(idle) == 2


@pytest.mark.parametrize("code", ["refused not-here", "refused draining", "refused busy"])
def test_a_refusal_is_tried_elsewhere(stack: Stack, code: str) -> None:
    """A refused call goes to another registration, whatever its method; with none left it is an error."""
    first, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 4", body=b"body")
    call = first.next_call().call
    second, _ = stack.v2_agent(endpoint)
    stack.node.wait_endpoint(endpoint, 2)
    first.reset(call, code, response=True)
    retried = second.next_call()
    assert second.wait_stream(retried.call, response=False).endswith(b"\r\n\r\nbody")
    second.answer_call(retried.call, OK)
    assert client.read_response().body == b"ok"
    second.close()
    stack.node.wait_endpoint(endpoint, 1)
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    for _ in range(3):
        try:
            first.reset(first.next_call(2.0).call, code, response=True)
        except TimeoutError:
            break
    response = client.read_response()
    assert response.status in (502, 503)
    assert response.get("x-pico-error") is not None


def test_an_idempotent_call_is_tried_elsewhere(stack: Stack) -> None:
    """A session that dies before a response byte: GET goes to another registration, POST does not."""
    for line, retried in (("GET / HTTP/1.1", True), ("POST / HTTP/1.1", False)):
        first, endpoint = stack.v2_agent()
        client = ask(stack, endpoint, line, "Content-Length: 0")
        first.next_call()
        second, _ = stack.v2_agent(endpoint)
        stack.node.wait_endpoint(endpoint, 2)
        first.vanish()
        if retried:
            second.answer_call(second.next_call().call, OK)
            assert client.read_response().body == b"ok"
        else:
            assert client.read_response().status == 502


def test_a_client_that_leaves_resets_its_call(stack: Stack) -> None:
    """The agent is told by a reset `cancelled`, before and in the response."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    client.close()
    assert peer.wait_reset(call) == "cancelled"
    client = ask(stack, endpoint)
    call = peer.next_call().call
    peer.answer_call(call, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", end=False)
    client.response_head()
    client.pipe.reset()
    assert peer.wait_reset(call) == "cancelled"
    serves(stack, peer, endpoint)


def test_stop(stack: Stack) -> None:
    """After a whole response, `stop`: the client has the response, no more of its upload comes, others are served."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 10000000", body=b"begin")
    call = peer.next_call().call
    peer.answer_call(call, answer(b"enough", status=413, reason="Enough"))
    peer.reset(call, "stop", response=True)
    response = client.read_response()
    assert (response.status, response.body) == (413, b"enough")
    try:
        client.send(bytes(1_000_000))
    except (Ended, TimeoutError):
        pass
    client.close()
    serves(stack, peer, endpoint)


# -- credit


def test_the_node_keeps_to_the_credit(stack: Stack) -> None:
    """Without credit no more than 64 KiB of a request comes; each credit brings as much as it says, not more."""
    peer, endpoint = stack.v2_agent(grant=False)
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 1000000")
    sender = threading.Thread(target=client.send, args=(bytes(1_000_000),))
    sender.start()
    call = peer.next_call().call

    def received() -> int:
        return len(peer.stream(call, response=False)[0])

    peer.wait_for(lambda _: received() >= WINDOW_BYTES)
    peer.alive()
    assert received() == WINDOW_BYTES
    peer.credit(call, 1000, response=True)
    peer.wait_for(lambda _: received() >= WINDOW_BYTES + 1000)
    peer.alive()
    assert received() == WINDOW_BYTES + 1000
    peer.credit(call, 2**31 - 1, response=True)
    assert peer.wait_stream(call, response=False).partition(b"\r\n\r\n")[2] == bytes(1_000_000)
    sender.join(PATIENCE_S)
    peer.answer_call(call, OK)
    assert client.read_response().body == b"ok"


def test_too_much_credit_is_survived(stack: Stack) -> None:
    """Credits that add up beyond any window, credit of 0, and of a wrong size, cost at most this session."""
    for payload in (b"", b"\x01", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"12345678"):
        peer, endpoint = stack.v2_agent()
        ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 100")
        call = peer.next_call().call
        try:
            for _ in range(5):
                peer.send(HTTP, call, CREDIT | RESPONSE, payload)
            peer.send(HTTP, call, CREDIT | RESPONSE, struct.pack("!I", 2**31 - 1))
        except Ended:
            pass
        stack.still_serves()


def test_more_than_the_credit_resets_the_call(stack: Stack) -> None:
    """A peer that sends beyond its window has its call reset and its client cut; the session goes on."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    piece = bytes(32 * 1024)
    peer.send(HTTP, call, RESPONSE | MORE, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    # Nobody reads at the client, and the window is at most 256 KiB: 40 MiB cannot have been allowed.
    for _ in range(1280):
        peer.send(HTTP, call, RESPONSE | MORE, piece)
        if peer.reset_of(call) is not None:
            break
    assert peer.wait_reset(call)
    assert client.response_head().status == 200
    with pytest.raises(Broken):
        while client.body_piece():
            pass
    serves(stack, peer, endpoint)


def test_a_download_flows_within_the_credit(stack: Stack) -> None:
    """A peer that keeps to its credit gets as much as it needs: 8 MiB pass, and no window is over 256 KiB."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = peer.next_call().call
    size = 8 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    sender = threading.Thread(target=peer.answer_call, args=(call, head + bytes(size)))
    sender.start()
    assert len(client.read_response().body) == size
    sender.join(PATIENCE_S)
    granted = [struct.unpack("!I", frame.payload)[0] for frame in peer.seen if frame.call == call and frame.credit]
    assert granted and max(granted) <= 4 * WINDOW_BYTES
    assert WINDOW_BYTES + sum(granted) >= size
    assert len(granted) <= size // (WINDOW_BYTES // 2) + 8, "credit is batched at half a window"


def test_a_client_that_does_not_read_gets_no_credit(stack: Stack) -> None:
    """Credit follows the client's reading: a peer cannot fill the node's memory through one slow client."""
    peer, endpoint = stack.v2_agent()
    client = stack.connect(receive_buffer=8192)
    client.send(stack.head(endpoint=endpoint))
    call = peer.next_call().call
    with pytest.raises(TimeoutError):
        peer.send_stream(
            call,
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(64 << 20),
            response=True,
            end=False,
            timeout=1.0,
        )
    granted = sum(struct.unpack("!I", frame.payload)[0] for frame in peer.seen if frame.call == call and frame.credit)
    # What the kernel's buffers and the window hold, but nowhere near what was offered.
    assert granted < 16 << 20
    serves(stack, peer, endpoint)


# -- frames that are no frames


@pytest.mark.parametrize("in_call", [False, True], ids=["idle", "in a call"])
@pytest.mark.parametrize(
    ("name", "attack", "code"),
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
    ids=short,
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


@pytest.mark.parametrize("kind", [0, 3, 5, 6, 99, 65535])
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
    peer.send(HTTP, peer.next_call().call, RESPONSE | 0x07FF, OK)
    assert client.read_response().body == b"ok"
    call = peer.take_id()
    peer.send(frames.HEARTBEAT, call, 0x07FF, b"x")
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
    peer._next_call = 100
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
    """An agent that answers 0xC000 to a request: an error for its client, and the session goes on."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    peer.send(HTTP, peer.next_call().call, 0xC000)
    assert client.read_response().status == 502
    serves(stack, peer, endpoint)


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


@pytest.mark.parametrize(
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
        b"HTTP/1.1 999 What\r\n\r\n",
        b"HTTP/1.1 099 What\r\n\r\n",
        b"HTTP/0.0 502 Bad Gateway\r\n\r\nv1 only",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nsurprise",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil=1\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        # A head has some room above 32 KiB and 100 fields between hops, for what the last one has added.
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 50_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1300 + b"\r\n",
        b"HTTP/1.1 103 Hint\r\n\r\n" * 1 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=short,
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


def test_seventeen_interim_heads(stack: Stack) -> None:
    """Sixteen 1xx heads pass, each in its frame; the seventeenth is too many."""
    peer, endpoint = stack.v2_agent()
    for count in (16, 17):
        client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
        call = peer.next_call().call
        for number in range(count):
            peer.send(HTTP, call, RESPONSE | MORE, b"HTTP/1.1 103 Early Hints\r\nX-N: %d\r\n\r\n" % number)
        if count == 16:
            peer.answer_call(call, OK)
            assert len(client.read_response().interim) == 16
        else:
            assert peer.wait_reset(call)
            with pytest.raises((Broken, Ended, AssertionError)):
                response = client.read_response()
                assert response.status != 502
    serves(stack, peer, endpoint)


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


# -- endings


ENDINGS: dict[str, list[tuple[int, bytes]]] = {
    "before anything": [],
    "after 1xx": [(MORE, b"HTTP/1.1 103 Early Hints\r\n\r\n")],
    "in the head": [(MORE, b"HTTP/1.1 200 OK\r\nContent-Le")],
    "after the head": [(MORE, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")],
    "in a body with a length": [(MORE, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")],
    "in a body without a length": [(MORE, b"HTTP/1.1 200 OK\r\n\r\n12345")],
    "after the response": [(0, OK)],
}


@pytest.mark.parametrize("how", ["close", "fin", "rst", "half a frame"])
@pytest.mark.parametrize("point", ENDINGS)
def test_a_sudden_end_at_every_point(stack: Stack, point: str, how: str) -> None:
    """Wherever in a call its session ends, and however: an error or a broken transfer, never a short success."""
    peer, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 0")
    call = peer.next_call().call
    for flags, payload in ENDINGS[point]:
        peer.send(HTTP, call, RESPONSE | flags, payload)
    peer.alive()
    if how == "close":
        peer.socket.close(1001)
    elif how == "half a frame":
        peer.socket.send_bytes(b"\x82\xfe\x40")
        peer.vanish()
    else:
        peer.vanish(reset=how == "rst")
    if point == "after the response":
        assert client.read_response().body == b"ok"
    elif point in ("before anything", "after 1xx", "in the head"):
        assert client.read_response().status == 502
    else:
        assert client.response_head().status == 200
        with pytest.raises(Broken):
            client.body()
    gone(stack, endpoint)
    stack.still_serves()


def test_a_peer_that_never_reads(stack: Stack) -> None:
    """Echoes that nobody takes do not pile up without bound: ten thousand heartbeats later the node serves on."""
    peer, _ = stack.v2_agent(echo=False)
    message = frames.packed(frames.HEARTBEAT, 0, 0, bytes(125))
    before = stack.node.memory_mib()
    try:
        for number in range(1, 10_001):
            peer.socket.send(message[:2] + struct.pack("!Q", number) + message[10:])
    except (Ended, TimeoutError):
        pass
    stack.still_serves()
    assert stack.node.memory_mib() - before < 40


def test_a_flood_of_calls_from_an_agent(stack: Stack) -> None:
    """Thousands of calls of an unknown type cost nothing that stays."""
    peer, endpoint = stack.v2_agent()
    for _ in range(5000):
        peer.send(9, peer.take_id(), MORE, b"x" * 100)
    peer.alive()
    serves(stack, peer, endpoint)
    stack.still_serves()


# -- the handshake


def raw(stack: Stack) -> wire.Stream:
    """A raw connection to the upstream port."""
    client = wire.Stream(dial(stack.node.upstream, tls=stack.tls.context if stack.tls else None))
    stack._clients.append(client)
    return client


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


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (handshake("/"), {404}),
        (handshake("/pico/v1/listener"), {404}),
        (handshake("/pico/v1/listener/"), {400, 404}),
        (handshake("/pico/v1/listener/a/b"), {400, 404}),
        (handshake("/pico/v1/listener/-bad"), {400}),
        (handshake("/pico/v1/listener/" + "a" * 129), {400}),
        (handshake("/pico/v1/node"), {400, 403, 404}),
        (handshake(drop=("upgrade", "connection")), {426}),
        (handshake("/pico/v1/listener/x", "Sec-WebSocket-Version: 8", drop=("version",)), {400, 426}),
        (handshake(drop=("version",)), {400, 426}),
        (handshake(drop=("key",)), {400}),
        (handshake("/pico/v1/listener/x", "Sec-WebSocket-Key: short", drop=("key",)), {400}),
        (handshake(drop=("host",)), {400}),
        (handshake("/pico/v1/listener/x", "Host: again"), {400}),
        (handshake("/pico/v1/listener/x", "X-Pico-Slot: a\x01b"), {400}),
        (handshake("/pico/v1/listener/x", "X: " + "a" * 33_000), {431}),
        (handshake("/pico/v1/listener/" + "a" * 9000), {400, 404, 414}),
        (handshake("/pico/v1/listener/x", *["X: y"] * 101), {431}),
        (handshake().replace(b"GET ", b"POST "), {400, 404, 405, 426}),
        (b"garbage\r\n\r\n", {400}),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", {400, 505}),
    ],
    ids=short,
)
def test_bad_handshakes(stack: Stack, head: bytes, statuses: set[int]) -> None:
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


@pytest.mark.parametrize(
    "junk",
    [b"\x00" * 100, b"\xff" * 70_000, b"\x16\x03\x01\x00\x05hello", os.urandom(5000)],
    ids=["zeros", "ones", "half a TLS handshake", "random"],
)
@pytest.mark.parametrize("port", ["proxy", "upstream", "admin"])
def test_junk_on_every_port(stack: Stack, port: str, junk: bytes) -> None:
    """Bytes that are nothing at all end their own connection and nobody else's."""
    address = ("127.0.0.1", getattr(stack.node.ports, port))
    for tls in {None, stack.tls.context if stack.tls else None}:
        try:
            client = wire.Stream(dial(address, tls=tls))
            client.send(junk)
            client.send(b"\r\n\r\n")
            client.wait_gone()
        except (Ended, Malformed):
            pass
    stack.still_serves()

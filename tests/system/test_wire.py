"""The upstream port against a raw peer: what the protocol asks of a v2 session, and sessions that end suddenly.

After each attack the node must go on serving others; where the protocol says so, the same session too.
"""

from __future__ import annotations

import os
import struct
import threading

import pytest

from tests.peers import frames, v2, websocket
from tests.peers.frames import CREDIT, HTTP, MAX_WINDOW_BYTES, MORE, RESPONSE, WINDOW_BYTES
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.raw import OK, ask, calls_of, gone, serves
from tests.system.service import answer
from tests.system.stack import Stack
from tests.system.wire import Broken, parse_head

# -- the protocol as it should be


def test_v2_is_negotiated(stack: Stack) -> None:
    """An offer of pico.v2 is taken, beside offers that nobody knows; without it there is v1. No extensions."""
    peer, endpoint = stack.v2_agent(offers=("pico.v9", "pico.v2", "other"))
    assert peer.answer.get("sec-websocket-protocol") == "pico.v2"
    assert peer.answer.get("sec-websocket-extensions") is None
    assert peer.answer.get("x-pico-node-id") == stack.agents_node.name
    serves(stack, peer, endpoint)
    peer, _ = stack.v2_agent(offers=("pico.v9",))
    assert peer.answer.get("sec-websocket-protocol") is None


def test_compression_is_never_negotiated(stack: Stack) -> None:
    """An offer of permessage-deflate is not taken."""
    context = stack.tls.context if stack.tls else None
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
    socket, reply = websocket.connect(
        stack.agents_node.upstream, "/pico/v1/listener/x", subprotocols=["pico.v2"], headers=offer, tls=context
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
    stack.wait_endpoint(endpoint, 2)
    new, _ = stack.v2_agent(endpoint, agent_id="a1", slot="0")
    old.wait_ended()
    stack.wait_endpoint(endpoint, 2)
    second.close()
    stack.wait_endpoint(endpoint, 1)
    serves(stack, new, endpoint)


def test_fewest_calls_in_flight_go_first(stack: Stack) -> None:
    """A registration with a call in flight is passed over for an idle one."""
    busy, endpoint = stack.v2_agent()
    client = ask(stack, endpoint)
    call = busy.next_call().call
    idle, _ = stack.v2_agent(endpoint)
    stack.wait_endpoint(endpoint, 2)
    for _ in range(3):
        serves(stack, idle, endpoint)
    busy.answer_call(call, OK)
    assert client.read_response().body == b"ok"


def test_idle_registrations_take_turns(stack: Stack) -> None:
    """Two that were never slow get a request each."""
    one, endpoint = stack.v2_agent()
    two, _ = stack.v2_agent(endpoint)
    stack.wait_endpoint(endpoint, 2)
    asked: list[v2.Agent] = []
    for number in (1, 2):
        client = ask(stack, endpoint)
        calls_of(one, two, number)
        asked.append(next(agent for agent in (one, two) if len(agent.opened()) > asked.count(agent)))
        asked[-1].answer_call(asked[-1].next_call().call, OK)
        assert client.read_response().body == b"ok"
    assert set(asked) == {one, two}


@pytest.mark.parametrize("code", ["refused not-here", "refused draining", "refused busy"])
def test_a_refusal_is_tried_elsewhere(stack: Stack, code: str) -> None:
    """A refused call goes to another registration, whatever its method; with none left it is an error."""
    first, endpoint = stack.v2_agent()
    client = ask(stack, endpoint, "POST / HTTP/1.1", "Content-Length: 4", body=b"body")
    call = first.next_call().call
    second, _ = stack.v2_agent(endpoint)
    stack.wait_endpoint(endpoint, 2)
    first.reset(call, code, response=True)
    retried = second.next_call()
    assert second.wait_stream(retried.call, response=False).endswith(b"\r\n\r\nbody")
    second.answer_call(retried.call, OK)
    assert client.read_response().body == b"ok"
    second.close()
    stack.wait_endpoint(endpoint, 1)
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
        stack.wait_endpoint(endpoint, 2)
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
    """A peer that keeps to its credit gets as much as it needs: 8 MiB pass, and nothing is granted beyond a window."""
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
    # How large the window gets depends on the round trip, and so on who else uses the machine.
    assert granted and size <= WINDOW_BYTES + sum(granted) <= size + MAX_WINDOW_BYTES
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
    before = stack.agents_node.memory_mib()
    try:
        for number in range(1, 10_001):
            peer.socket.send(message[:2] + struct.pack("!Q", number) + message[10:])
    except (Ended, TimeoutError):
        pass
    stack.still_serves()
    assert stack.agents_node.memory_mib() - before < 40


def test_a_flood_of_calls_from_an_agent(stack: Stack) -> None:
    """Thousands of calls of an unknown type cost nothing that stays."""
    peer, endpoint = stack.v2_agent()
    for _ in range(5000):
        peer.send(9, peer.take_id(), MORE, b"x" * 100)
    peer.alive()
    serves(stack, peer, endpoint)
    stack.still_serves()

"""TCP endpoints: any protocol, end to end, over a WebSocket at the proxy port."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from tests.peers import websocket
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.service import Connection
from tests.system.shapes import ENDS, NODES, whole_in_plain
from tests.system.stack import Stack
from tests.system.tcp import PATH, SUBPROTOCOL, Session, open_session, tcp_agent, tcp_endpoint
from tools.stage.waiting import wait_until

BIG = os.urandom(3 << 20)


def has(things: Sequence[object], count: int) -> bool:
    """Whether there are so many."""
    return len(things) == count


def say_hello(connection: Connection) -> Ended:
    """Greet, and wait for the end."""
    connection.send(b"hello")
    return wait_for_end(connection)


def wait_for_end(connection: Connection, timeout: float = PATIENCE_S) -> Ended:
    """How the other side ends a connection; what it sends before is thrown away."""
    try:
        while True:
            connection.pipe.recv(timeout)
    except Ended as ended:
        return ended


def test_bytes_both_ways(stack: Stack) -> None:
    """What either side sends arrives whole and in order, whoever begins; both ends have been said at the end."""

    def script(connection: Connection) -> None:
        connection.send(b"220 ready\r\n")
        assert connection.read(6) == b"HELO\r\n"
        connection.send(BIG)
        digest = hashlib.sha256(connection.read_rest()).digest()
        connection.send(digest)

    stack.service.script = script
    session = open_session(stack)
    assert session.read(11) == b"220 ready\r\n"
    session.send(b"HELO\r\n")

    def say_all() -> None:
        session.send(BIG)
        session.end()

    sender = threading.Thread(target=say_all)
    sender.start()
    assert session.read(len(BIG)) == BIG
    assert session.read_rest() == hashlib.sha256(BIG).digest()
    sender.join(PATIENCE_S)
    assert session.closed() == (1000, "")


def test_the_service_ends_first(stack: Stack) -> None:
    """A service that has ended its half still gets what the client says, and its end; then the session closes."""
    heard: list[bytes] = []

    def script(connection: Connection) -> None:
        connection.send(b"all that I say")
        connection.pipe.half_close()
        heard.append(connection.read_rest())

    stack.service.script = script
    session = open_session(stack)
    assert session.read_rest() == b"all that I say"
    session.send(b"I go on, ")
    time.sleep(0.05)
    session.send(b"and on")
    session.end()
    assert session.closed() == (1000, "")
    wait_until(lambda: heard == [b"I go on, and on"], "the end of what the client says")


def test_both_end_at_once(stack: Stack) -> None:
    """Ends that cross on their way are both told."""
    heard: list[bytes] = []

    def script(connection: Connection) -> None:
        connection.send(b"service")
        connection.pipe.half_close()
        heard.append(connection.read_rest())

    stack.service.script = script
    for _ in range(5):
        session = open_session(stack)
        session.send(b"client")
        session.end()
        assert session.read_rest() == b"service"
        assert session.closed() == (1000, "")
    wait_until(lambda: heard == [b"client"] * 5, "what the clients said")


def test_messages_are_bytes(stack: Stack) -> None:
    """Where messages, fragments and pings begin and end means nothing to the service; an empty fragment ends none."""

    def script(connection: Connection) -> None:
        connection.send(connection.read(11))
        connection.send(connection.read_rest()[::-1])

    stack.service.script = script
    session = open_session(stack)
    ws = session.socket
    ws.send_frame(websocket.BINARY, b"", fin=False)
    ws.send_frame(websocket.PING, b"are you there?")
    ws.send_frame(websocket.CONTINUATION, b"in pie", fin=False)
    ws.send_frame(websocket.CONTINUATION, b"", fin=False)
    ws.send_frame(websocket.PONG, b"nobody asked")
    ws.send_frame(websocket.CONTINUATION, b"ces")
    ws.send(b" an")
    assert session.read(11) == b"in pieces a"
    ws.send(b"d whole")
    ws.send_frame(websocket.BINARY, b"", fin=False)
    ws.send_frame(websocket.CONTINUATION, b"")
    assert session.read_rest() == b"elohw dn"
    assert session.closed() == (1000, "")


def test_a_ping_is_answered(stack: Stack) -> None:
    """A ping gets a pong with its payload; of several in one write the last one does."""
    stack.service.script = lambda connection: connection.linger()
    ws = open_session(stack).socket
    ws.send_bytes(b"".join(websocket.frame_bytes(websocket.PING, b"%d" % at, mask=True) for at in range(9)))
    answers: list[bytes] = []
    while not answers or answers[-1] != b"8":
        fin, kind, payload = ws.receive_frame()
        assert (fin, kind) == (True, websocket.PONG)
        answers.append(payload)
    ws.close()


HOSTILE = [
    (b"\x81\x82\0\0\0\0hi", 1003, "text"),
    (b"\x82\x02hi", 1002, "mask"),
    (b"\xc2\x82\0\0\0\0hi", 1002, "reserved"),
    (b"\x80\x82\0\0\0\0hi", 1002, "begin"),
    (b"\x02\x82\0\0\0\0hi\x82\x82\0\0\0\0hi", 1002, "within"),
    (b"\x83\x82\0\0\0\0hi", 1002, "known"),
    (b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126), 1002, "control"),
    (b"\x09\x80\0\0\0\0", 1002, "control"),
    (b"\x82\xfe\0\x05\0\0\0\0hello", 1002, "fewer"),
    (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1002, "none"),
    (b"\x88\x81\0\0\0\0x", 1002, "half"),
    (b"\x88\x82\0\0\0\0\x03\xed", 1002, "code"),
    (b"\x88\x83\0\0\0\0\x03\xe8\xff", 1007, "text"),
    (b"\x82\x80\0\0\0\0\x82\x81\0\0\0\0x", 1002, "behind"),
    (b"\x82\x80\0\0\0\0\x82\x80\0\0\0\0", 1002, "behind"),
]


@whole_in_plain("frames, code, word", HOSTILE, [], lambda row: f"{row[1]}-{row[2]}-{row[0][:3].hex()}")
def test_hostile_frames(stack: Stack, frames: bytes, code: int, word: str) -> None:
    """What breaks the rules of WebSocket ends the session with a code and a reason, and the service sees a reset."""
    ends: list[Ended] = []
    stack.service.script = lambda connection: ends.append(say_hello(connection))
    session = open_session(stack)
    assert session.read(5) == b"hello"
    session.socket.send_bytes(frames)
    got, reason = session.closed()
    assert got == code and word in reason
    wait_until(lambda: bool(ends), "the end at the service")
    assert ends[0].broken or b"\x82\x80\0\0\0\0" in frames


def test_a_client_that_breaks_off(stack: Stack) -> None:
    """A client that is gone without a word, or says that it failed, is a reset for the service."""
    ends: list[Ended] = []
    stack.service.script = lambda connection: ends.append(say_hello(connection))
    ways: list[Callable[[Session], object]] = [Session.reset, Session.drop, lambda one: one.socket.close(1011)]
    for count, leave in enumerate(ways, 1):
        session = open_session(stack)
        assert session.read(5) == b"hello"
        session.send(b"half of a file")
        leave(session)
        wait_until(partial(has, ends, count), "the end at the service")
        assert ends[-1].broken


def test_a_client_that_closes(stack: Stack) -> None:
    """A client that closes in order, without an empty message before, has said all: the service gets every byte and
    the end, and what it still says goes nowhere."""
    heard: list[bytes] = []

    def script(connection: Connection) -> None:
        connection.send(b"welcome")
        heard.append(connection.read_rest())
        connection.send(bytes(1 << 20))

    stack.service.script = script
    session = open_session(stack)
    assert session.read(7) == b"welcome"
    session.send(BIG)
    session.socket.close(1000)
    assert session.closed() == (1000, "")
    wait_until(lambda: heard == [BIG], "all bytes and the end at the service")


def test_a_service_that_breaks_off(stack: Stack) -> None:
    """A service that resets its connection ends the session with 1011, not in order, whatever it sent before."""

    def script(connection: Connection) -> None:
        connection.send(b"half of a fi")
        assert connection.read(2) == b"go"
        connection.pipe.reset()

    stack.service.script = script
    session = open_session(stack)
    assert session.read(12) == b"half of a fi"
    session.send(b"go")
    assert session.closed() == (1011, "the service broke the connection")
    assert not session.ended


def test_a_service_that_takes_no_more(stack: Stack) -> None:
    """A service that has ended its half and then resets what comes has not taken it: the client is told with 1011."""

    def script(connection: Connection) -> None:
        connection.send(b"bye")
        connection.pipe.half_close()
        assert connection.read(2) == b"go"
        connection.pipe.reset()

    stack.service.script = script
    session = open_session(stack)
    assert session.read_rest() == b"bye"
    session.send(b"go")
    assert session.closed() == (1011, "the service closed the connection")


@ENDS
def test_slow_readers(stack: Stack) -> None:
    """Who does not read slows down its own session alone, in each direction, with little held on the way."""
    wait = threading.Event()
    sizes: list[int] = []

    def script(connection: Connection) -> None:
        first = connection.read(1)
        if first == b"d":
            for _ in range(64):
                connection.send(bytes(1 << 20), 60)
        else:
            wait.wait(60)
            sizes.append(len(connection.read_rest(60)))

    stack.service.script = script
    down, up, other = (open_session(stack) for _ in range(3))
    down.send(b"d")
    up.send(b"u")
    sent = 0
    stalled = 0
    while stalled < 20:
        size = up.socket.pipe.send_some(MASKED)
        stalled = 0 if size else stalled + 1
        sent += size
        time.sleep(0.005)
    assert sent < 32 << 20, "nobody slows the client down"
    for node in {stack.node, stack.agents_node}:
        assert node.admin.metric("pico_buffered_bytes") < 8 << 20
    other.send(b"d")
    other.read(1 << 20)
    other.reset()
    assert len(down.read(64 << 20, 60)) == 64 << 20
    up.reset()
    wait.set()


MASKED = websocket.frame_bytes(websocket.BINARY, bytes(61440), mask=True)


def refusal(stack: Stack, path: str, headers: websocket.Headers = ()) -> tuple[int, str, str]:
    """Status, code and words of the answer to a WebSocket's handshake."""
    with pytest.raises(websocket.Refused) as refused:
        websocket.connect(
            stack.node.proxy,
            path,
            subprotocols=(SUBPROTOCOL,),
            headers=headers,
            tls=stack.tls.context if stack.tls else None,
        )
    answer = refused.value.answer
    _, _, code = (answer.get("x-pico-error") or "").partition("; ")
    return answer.status, code, json.loads(answer.body)["error"]


def test_a_service_that_is_not_there(stack: Stack) -> None:
    """A connection that is refused is told before the handshake, with a status and a reason."""
    tcp_endpoint(stack)
    status, code, words = refusal(stack, PATH + "tcp-nowhere")
    assert (status, code, words) == (502, "service-unreachable", "the service cannot be reached")


def test_the_wrong_kind(stack: Stack) -> None:
    """HTTP for a TCP endpoint, and TCP for one of HTTP, are told as that, and no service hears of it."""
    endpoint = tcp_endpoint(stack)
    status, code, words = refusal(stack, PATH + stack.endpoint)
    assert (status, code) == (421, "not-tcp") and "HTTP" in words
    for line in ("GET / HTTP/1.1", "POST / HTTP/1.1"):
        response = stack.request(line, endpoint=endpoint)
        assert response.status == 421 and (response.get("x-pico-error") or b"").endswith(b"; not-http")
    status, code, words = refusal(stack, "/", headers=[("x-pico-endpoint", endpoint)])
    assert (status, code) == (421, "not-http") and "picoctl forward" in words
    assert not stack.service.connections


REFUSED = [
    ("nobody", [], 502, "no-upstreams"),
    ("no%20id", [], 400, "invalid-endpoint"),
    ("", [], 400, "invalid-endpoint"),
    ("{}/more", [], 400, "invalid-endpoint"),
    ("{}", [("x-pico-endpoint", "another")], 400, "invalid-endpoint"),
    ("{}", [("Origin", "https://evil.example")], 403, "origin-refused"),
    ("{}", [("Origin", "null")], 403, "origin-refused"),
    ("{}", [("Content-Length", "1")], 400, "bad-request"),
    ("{}", [("Sec-WebSocket-Key", "c2Vjb25k")], 400, "bad-request"),
]


@whole_in_plain(
    "name, fields, status, code", REFUSED, [], lambda row: f"{row[3]}-{row[0].strip('{}/') or 'it'}-{len(row[1])}"
)
def test_refused_handshakes(stack: Stack, name: str, fields: list[tuple[str, str]], status: int, code: str) -> None:
    """What cannot become a session is answered as every other request is, with a code."""
    path = PATH + name.format(tcp_endpoint(stack))
    assert refusal(stack, path, headers=fields)[:2] == (status, code)


@ENDS
def test_no_websocket(stack: Stack) -> None:
    """A request that is no WebSocket is told what is spoken here."""
    client = stack.connect()
    client.send(f"GET {PATH}{tcp_endpoint(stack)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    response = client.read_response()
    assert response.status == 426 and response.get("upgrade") == b"websocket"
    assert response.get("sec-websocket-version") == b"13" and b"picoctl forward" in response.body
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nx-pico-endpoint: %b\r\n\r\n" % stack.endpoint.encode())
    assert client.read_response().status == 200


@NODES
def test_many_sessions(stack: Stack) -> None:
    """Hundreds of sessions at once are each their own."""
    stack.service.script = lambda connection: connection.send(connection.read_rest()[::-1])
    sessions = [open_session(stack) for _ in range(120)]
    for number, session in enumerate(sessions):
        session.send(b"%06d" % number)
    for session in sessions:
        session.end()
    for number, session in enumerate(sessions):
        assert session.read_rest() == (b"%06d" % number)[::-1]
        assert session.closed() == (1000, "")


@ENDS
def test_what_is_logged(stack: Stack) -> None:
    """A session is one access line at the node and at the agent, with the bytes of both streams, and one request of the
    metrics; while it lasts it counts as in flight."""
    stack.service.script = lambda connection: connection.send(connection.read_rest() * 2)
    session = open_session(stack)
    session.send(bytes(1000))
    wait_until(lambda: stack.node.admin.metric("pico_calls_pending") == 1, "the session among the calls")
    session.end()
    assert len(session.read_rest()) == 2000
    assert session.closed() == (1000, "")
    request_id = session.answer.get("x-request-id")

    def lines() -> list[dict[str, Any]]:
        return [
            record
            for process in (stack.node, tcp_agent(stack))
            for record in process.records
            if record.get("request_id") == request_id
        ]

    wait_until(lambda: len(lines()) == 2, "the access lines of node and agent")
    for line in lines():
        assert (line["status"], line["bytes_in"], line["bytes_out"]) == (101, 1000, 2000)
        assert line["endpoint"] == f"tcp-{stack.endpoint}" and line["error"] == ""
    assert [line["method"] for line in lines()] == ["GET", "TCP"]

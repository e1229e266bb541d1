"""The three attacks of the fuzz run. Each takes a `Random` and does one thing from beginning to end."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from random import Random

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc import frames as rpc
from pico_twisted.core.rpc import session_base as core
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.core.rpc.frames import CREDIT, HTTP, MAX_BODY_V1, MORE, RESET, RESPONSE, TCP
from pico_twisted.core.rpc.http import CallProtocolError, RequestReader, ResponseReader
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.v1 import SessionV1, dialect_v1
from tests.doubles.pump import End, Pump
from tests.fuzz import mutations
from tests.peers.websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload, frame_bytes, handshake_request

MAX_CALLS = 50
GET = b"GET /x HTTP/1.1\r\nHost: a.b\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
STEP_S = 0.05
PATIENCE_S = 60.0
"""A connection that the node neither answers nor closes for this long is a hang: its own limits are 5 s and less."""


class Finding(Exception):
    """Something that must not happen."""


# The cores


def attack_core(rng: Random) -> None:
    """A conversation of two sessions, cut off anywhere, and one of them fed something else from there."""
    version = rng.choice((1, 2, 2))
    node, agent = make_session(version, True), make_session(version, False)
    pump = Pump(node, agent)
    calls: list[Call] = []
    served: list[Call] = []
    for _ in range(rng.randrange(40)):
        _one_step(rng, version, pump, calls, served)
    victim = pump.left if rng.random() < 0.5 else pump.right
    other = pump.right if victim is pump.left else pump.left
    said = [bytes(message) for message in other.session.frames_to_send()]
    while (message := other.link.take(1 << 60)) is not None:
        said.append(bytes(message))
    ids = [call.id for call in [*calls, *served] if call.id] or [1]
    attack = mutations.mutated_sequence(rng, said)
    attack += [mutations.random_frame(rng, (*ids, *mutations.IDS)) for _ in range(rng.randrange(60))]
    reads = rng.random() < 0.7
    for message in attack:
        victim.receive(message, pump.now)
        _judge_session(victim)
        if victim.error is not None:
            break
        if reads:
            for frame in victim.session.frames_to_send():
                if len(frame) < 12 or (version == 2 and len(frame) > rpc.MAX_MESSAGE_V2):
                    raise Finding(f"a frame of {len(frame)} bytes was sent")
        if rng.random() < 0.1:
            victim.session.tick(pump.now)
    for call in list(victim.session.calls()):
        victim.session.reset(call, rpc.FAILED)
    victim.session.frames_to_send()
    left = [call for call in victim.session.calls() if call.kind != rpc.DRAIN]
    if left:
        raise Finding(f"calls that were reset are still open: {left}")


def make_session(version: int, asks: bool) -> SessionV1 | SessionV2:
    """A session with limits that are soon reached."""
    cls = SessionV2 if version == 2 else SessionV1
    return cls(asks_always=asks, serves=(HTTP, TCP), max_calls=MAX_CALLS, budget=Budget(1 << 30), now=0.0)


def _one_step(rng: Random, version: int, pump: Pump, calls: list[Call], served: list[Call]) -> None:
    choice = rng.randrange(8)
    node, agent = pump.left, pump.right
    if choice == 0 or not calls:
        calls.append(node.call(HTTP, GET + bytes(rng.choice((0, 10, 70_000))), version == 2 and rng.random() < 0.5))
    elif choice == 1 and version == 2:
        node.session.send(rng.choice(calls), bytes(rng.choice((1, 1000, 100_000))), rng.random() < 0.7)
    elif choice == 2:
        node.session.reset(rng.choice(calls), rpc.CANCELLED)
    elif choice == 3 and agent.accepted:
        agent.session.send(rng.choice(agent.accepted), OK + bytes(rng.choice((0, 100_000))), version == 2)
    elif choice == 4 and agent.accepted:
        agent.session.reset(rng.choice(agent.accepted), rpc.FAILED, "so it is")
    elif choice == 5:
        rng.choice((node, agent)).session.drain()
    else:
        pump.turn()
    served[:] = agent.accepted


def _judge_session(end: End) -> None:
    end.session._check_invariants()
    if end.error is not None and end.error.code not in (1002, 1008):
        raise Finding(f"an odd close code: {end.error.code}")
    if end.session.call_count() > 4 * MAX_CALLS + core.MAX_OWED_FRAMES:
        raise Finding(f"{end.session.call_count()} calls are held")


def attack_streams(rng: Random) -> None:
    """What is in the frames of an http call, with something wrong with it."""
    limits = HeadLimits()
    version = rng.choice((1, 2))
    request = rng.random() < 0.5
    good = GET if request else rng.choice((OK, b"HTTP/1.1 200 OK\r\n\r\n", *mutations.HEADS[2:]))
    dialect = V2 if version == 2 else dialect_v1(MAX_BODY_V1)
    stream: RequestReader | ResponseReader
    if request:
        stream = dialect.read_request(limits)
    else:
        stream = dialect.read_response(limits, rng.choice((b"GET", b"HEAD")), rng.random() < 0.5)
    payload = mutations.mutated_http(rng, good)
    cut = rng.randrange(len(payload) + 1)
    with contextlib.suppress(Http1Error, CallProtocolError):
        stream.feed(payload[:cut], True)
        for _ in range(rng.randrange(4)):
            stream.feed(mutations.flipped(rng, payload[cut:]), rng.random() < 0.7)


# The upstream port


class EvilAgent:
    """An agent that registers and then does whatever it wants.

    Args:
        address: of the upstream port.
        endpoint: what it registers; somebody else sends requests there.
    """

    def __init__(self, rng: Random, address: tuple[str, int], endpoint: str) -> None:
        self._rng = rng
        self._address = address
        self._endpoint = endpoint
        self._received = bytearray()
        self._calls: list[int] = []

    def run(self, seconds: float, provoke: Callable[[], None]) -> None:
        """Register, misbehave for a while, leave in some way. `provoke` makes a request come."""
        rng = self._rng
        with socket.create_connection(self._address, timeout=PATIENCE_S) as sock:
            version = rng.choice((1, 2, 2, 2))
            key = base64.b64encode(rng.randbytes(16))
            protocols = [rpc.SUBPROTOCOL_V2] if version == 2 else []
            shake = handshake_request(f"/pico/v1/listener/{self._endpoint}", "node", key, protocols, ())
            if rng.random() < 0.15:
                sock.sendall(mutations.mutated_http(rng, shake))
                self._hear_out(sock)
                return
            sock.sendall(shake)
            while b"\r\n\r\n" not in self._received:
                if not self._read(sock, PATIENCE_S):
                    raise Finding("no answer to a good handshake")
            del self._received[: self._received.index(b"\r\n\r\n") + 4]
            provoke()
            until = time.monotonic() + seconds
            try:
                self._misbehave(sock, until)
                self._leave(sock)
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                return

    def _misbehave(self, sock: socket.socket, until: float) -> None:
        rng = self._rng
        polite = rng.random() < 0.3
        for _ in range(rng.choice((1, 3, 10, 50))):
            if time.monotonic() > until:
                return
            if self._read(sock, rng.choice((0.0, 0.0, 0.01, 0.05))) is None:
                return
            sock.settimeout(1.0)
            if polite and self._calls:
                for piece in self._answer(self._calls.pop()):
                    sock.sendall(piece)
            else:
                sock.sendall(self._something())

    def _something(self) -> bytes:
        rng = self._rng
        choice = rng.randrange(14)
        ids = tuple(self._calls[-5:]) or (1,)
        if choice < 5:
            message = mutations.random_frame(rng, (*ids, *ids, *mutations.IDS))
            return self._ws(BINARY, message)
        if choice < 8:
            pieces = self._answer(rng.choice(ids))
            pieces[rng.randrange(len(pieces))] = self._ws(
                BINARY, mutations.mutated_frame(rng, rpc.encode(HTTP, rng.choice(ids), RESPONSE | MORE, OK))
            )
            return b"".join(pieces)
        if choice == 8:
            return self._ws(rng.choice((TEXT, 3, 7, 11, 15, PING, CLOSE)), rng.randbytes(rng.choice((0, 1, 2, 126))))
        if choice == 9:
            return bytes((0x82, 0xFF)) + struct.pack(">Q", rng.choice((0, 65_549, 1 << 24, 1 << 40, 2**63))) + bytes(4)
        if choice == 10:
            message = rpc.encode(HTTP, rng.choice(ids), RESPONSE | MORE, OK)
            cut = rng.randrange(len(message))
            first = frame_bytes(BINARY, message[:cut], fin=False, mask=True)
            between = frame_bytes(rng.choice((PING, BINARY, TEXT)), b"between", mask=True)
            last = frame_bytes(CONTINUATION, message[cut:], fin=rng.random() < 0.8, mask=True)
            return first + between + last if rng.random() < 0.5 else first + last
        if choice == 11:
            return b"".join(
                self._ws(BINARY, rpc.encode(rng.choice((1, 4, 9)), number, 0, b"")) for number in range(1, 2000)
            )
        if choice == 12:
            return self._ws(BINARY, rpc.encode(HTTP, rng.choice(ids), RESPONSE | MORE, bytes(60_000))) * rng.choice(
                (1, 8)
            )
        return rng.randbytes(rng.choice((1, 10, 1000)))

    def _answer(self, call_id: int) -> list[bytes]:
        """A good answer, of several frames."""
        rng = self._rng
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
        frames = [
            rpc.encode(HTTP, call_id, RESPONSE | MORE, b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            rpc.encode(HTTP, call_id, RESPONSE | MORE, head),
            rpc.encode(HTTP, call_id, RESPONSE | CREDIT, struct.pack(">I", 1000)),
            rpc.encode(HTTP, call_id, RESPONSE | MORE, b"abc"),
            rpc.encode(HTTP, call_id, RESPONSE, b"def"),
        ]
        if rng.random() < 0.2:
            frames.append(rpc.encode(HTTP, call_id, RESPONSE | RESET, b"stop"))
        return [self._ws(BINARY, message) for message in frames]

    def _ws(self, opcode: int, payload: bytes) -> bytes:
        rng = self._rng
        return frame_bytes(
            opcode,
            payload,
            mask=rng.random() < 0.98,
            fin=rng.random() < 0.98,
            reserved=rng.choice((0x40, 0x10)) if rng.random() < 0.02 else 0,
        )

    def _leave(self, sock: socket.socket) -> None:
        choice = self._rng.randrange(5)
        if choice == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif choice == 1:
            sock.sendall(frame_bytes(CLOSE, close_payload(1000, "bye"), mask=True))
            sock.shutdown(socket.SHUT_WR)  # the close frame may have become part of a frame that was not whole
            self._hear_out(sock)
        elif choice == 2:
            sock.shutdown(socket.SHUT_WR)
            self._hear_out(sock)

    def _hear_out(self, sock: socket.socket) -> None:
        """Read until the node closes, which it has to."""
        until = time.monotonic() + PATIENCE_S
        with contextlib.suppress(ConnectionResetError):
            while self._read(sock, max(0.0, until - time.monotonic())) is not None:
                if self._received.startswith(b"HTTP/1.1 101 "):
                    return  # the handshake was good in spite of what was done to it
                if time.monotonic() >= until:
                    raise Finding("the upstream port does not close a connection that is over")

    def _read(self, sock: socket.socket, seconds: float) -> bool | None:
        """Read what is there. Returns whether anything came; None at the end."""
        readable, _, _ = select.select([sock], [], [], seconds)
        if not readable:
            return False
        data = sock.recv(1 << 18)
        if not data:
            return None
        self._received += data
        self._find_calls()
        return True

    def _find_calls(self) -> None:
        data = self._received
        if data[:5] == b"HTTP/":
            return
        while len(data) >= 2:
            size, start = data[1] & 0x7F, 2
            if size == 126 and len(data) >= 4:
                (size,) = struct.unpack_from(">H", data, 2)
                start = 4
            elif size == 127 and len(data) >= 10:
                (size,) = struct.unpack_from(">Q", data, 2)
                start = 10
            if len(data) < start + size or (size > 125 and start == 2):
                return
            if data[0] == 0x82 and size >= 12:
                kind, call_id, flags = rpc.HEADER.unpack_from(data, start)
                if kind == HTTP and not flags & (RESPONSE | CREDIT | RESET):
                    self._calls.append(call_id)
            del data[: start + size]


# The proxy port

REQUESTS = (
    b"GET /x?y=1 HTTP/1.1\r\nHost: {}.example\r\nUser-Agent: fuzz\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: {}.example\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /x HTTP/1.1\r\nHost: {}.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET http://{}.example/x HTTP/1.1\r\nHost: {}.example\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: {}.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nx-pico-endpoint: {}\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: {}.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
)


def provoke(rng: Random, address: tuple[str, int], endpoint: str) -> None:
    """One good request to an endpoint, answered by whoever is there; an answer or an end has to come."""
    with socket.create_connection(address, timeout=PATIENCE_S) as sock:
        sock.sendall(rng.choice(REQUESTS).replace(b"{}", endpoint.encode()))
        _hear_answers(sock, "a request to an evil agent")


def attack_proxy(rng: Random, address: tuple[str, int], endpoint: str) -> None:
    """Requests with something wrong with them, in pieces, and a client that leaves in some way."""
    good = b"".join(rng.choice(REQUESTS) for _ in range(rng.choice((1, 1, 2, 5)))).replace(b"{}", endpoint.encode())
    data = mutations.mutated_http(rng, good)
    with socket.create_connection(address, timeout=PATIENCE_S) as sock:
        try:
            at = 0
            while at < len(data):
                size = rng.choice((1, 3, 20, 1000, 1 << 16, 1 << 16))
                sock.sendall(data[at : at + size])
                at += size
                if size < 20 and rng.random() < 0.5:
                    break
            sock.sendall(data[at:])
            leaves = rng.randrange(4)
            if leaves == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if leaves == 1:
                return
            if leaves == 2:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            return
        _hear_answers(sock, "a client that sent nonsense")


def _hear_answers(sock: socket.socket, what: str) -> None:
    """Read until the node closes. What comes begins as a response does."""
    until = time.monotonic() + PATIENCE_S
    head = b""
    while True:
        readable, _, _ = select.select([sock], [], [], max(0.0, until - time.monotonic()))
        if not readable:
            raise Finding(f"{what} was neither answered nor closed; so far came {head!r}")
        try:
            data = sock.recv(1 << 18)
        except ConnectionResetError:
            return
        if not data:
            return
        head = (head + data)[:100]
        if not b"HTTP/1.1 ".startswith(head[:9]):
            raise Finding(f"{what} got what is no response: {head!r}")

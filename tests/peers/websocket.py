"""WebSocket (RFC 6455) over a blocking socket, both roles, with nothing hidden.

A test needs what good libraries prevent: a message in fragments of 4 KiB, a frame without its mask, reserved bits, a
message that never ends, a connection dropped without a close frame. So the framing is spelt out here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.peers.pipe import PATIENCE_S, Ended, Pipe, dial

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_HEAD_BYTES = 64 * 1024

Headers = Sequence[tuple[str, str]]


class Refused(Exception):
    """The server answered the handshake with something other than 101."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"refused with {answer.status}: {answer.body!r}")
        self.answer = answer
        self.status = answer.status
        self.body = answer.body


class Nonsense(Exception):
    """The other side broke RFC 6455 or HTTP; always a finding."""


@dataclass
class Answer:
    """The head, and for a refusal the body, of a handshake's answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def get(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header, by its lower-case name."""
        return [value for key, value in self.headers if key == name]


@dataclass
class Offer:
    """What a client asked for in its handshake, as a server of this module sees it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    subprotocols: list[str] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


def masked(data: bytes, key: bytes) -> bytes:
    """Mask or unmask; the same operation (RFC 6455 5.3)."""
    if not data:
        return b""
    stream = (key * (len(data) // 4 + 1))[: len(data)]
    number = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return number.to_bytes(len(data), "big")


def frame_bytes(opcode: int, payload: bytes, *, fin: bool = True, mask: bool, reserved: int = 0) -> bytes:
    """One frame as it goes over the wire. `reserved` are the three bits behind FIN, as 0x40, 0x20 and 0x10."""
    first = (0x80 if fin else 0) | reserved | opcode
    bit = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a close frame."""
    return struct.pack("!H", code) + reason.encode()


def _read_head(pipe: Pipe, deadline: float) -> tuple[bytes, bytes]:
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > _MAX_HEAD_BYTES:
            raise Nonsense("a head of more than 64 KiB")
        data += pipe.recv(deadline - time.monotonic())
    return bytes(data[: end + 4]), bytes(data[end + 4 :])


def _head_fields(lines: list[str]) -> list[tuple[str, str]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Nonsense(f"a bad header line: {line!r}")
        fields.append((name.lower(), value.strip()))
    return fields


def handshake_request(path: str, host: str, key: bytes, subprotocols: Sequence[str], headers: Headers) -> bytes:
    """The head a client sends."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocols:
        lines.append("Sec-WebSocket-Protocol: " + ", ".join(subprotocols))
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def accept_value(key: bytes) -> str:
    """Sec-WebSocket-Accept for a key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX).digest()).decode()


def connect(
    address: tuple[str, int],
    path: str,
    *,
    subprotocols: Sequence[str] = (),
    headers: Headers = (),
    tls: ssl.SSLContext | None = None,
    name: str = "localhost",
    timeout: float = PATIENCE_S,
) -> tuple[WebSocket, Answer]:
    """Open a WebSocket as a client.

    Raises:
        Refused: the server answered something else than 101; its status and body are kept.
        Nonsense: the 101 was not a valid one.
    """
    deadline = time.monotonic() + timeout
    pipe = dial(address, tls=tls, name=name, timeout=timeout)
    try:
        key = base64.b64encode(os.urandom(16))
        pipe.send(handshake_request(path, f"{name}:{address[1]}", key, subprotocols, headers))
        head, rest = _read_head(pipe, deadline)
        lines = head.decode("latin-1").split("\r\n")[:-2]
        version, _, tail = lines[0].partition(" ")
        if version != "HTTP/1.1":
            raise Nonsense(f"a bad status line: {lines[0]!r}")
        answer = Answer(int(tail[:3]), _head_fields(lines[1:]))
        if answer.status != 101:
            size = int(answer.get("content-length") or 0)
            while len(rest) < size:
                rest += pipe.recv(deadline - time.monotonic())
            answer.body = rest
            raise Refused(answer)
        if answer.get("sec-websocket-accept") != accept_value(key):
            raise Nonsense("a wrong Sec-WebSocket-Accept")
        if (answer.get("upgrade") or "").lower() != "websocket" or "upgrade" not in (
            answer.get("connection") or ""
        ).lower():
            raise Nonsense("a 101 without Upgrade and Connection")
        if answer.get("sec-websocket-extensions"):
            raise Nonsense("an extension that was not offered")
        chosen = answer.get("sec-websocket-protocol")
        if chosen is not None and chosen not in subprotocols:
            raise Nonsense(f"a subprotocol that was not offered: {chosen}")
    except BaseException:
        pipe.close()
        raise
    return WebSocket(pipe, client=True, received=rest), answer


def accept(
    pipe: Pipe,
    *,
    select: Callable[[Offer], str | None] = lambda offer: None,
    headers: Headers = (),
    refuse: Callable[[Offer], tuple[int, bytes] | None] = lambda offer: None,
    timeout: float = PATIENCE_S,
) -> tuple[WebSocket, Offer] | None:
    """Answer a handshake as a server. None when it was refused, as `refuse` asked by status and JSON body."""
    head, rest = _read_head(pipe, time.monotonic() + timeout)
    lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, version = lines[0].split(" ")
    if version != "HTTP/1.1":
        raise Nonsense(f"a bad request line: {lines[0]!r}")
    offer = Offer(method, path, _head_fields(lines[1:]))
    protocols = offer.get("sec-websocket-protocol")
    offer.subprotocols = [item.strip() for item in protocols.split(",")] if protocols else []
    if (verdict := refuse(offer)) is not None:
        status, body = verdict
        pipe.send(
            f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        pipe.close()
        return None
    key = offer.get("sec-websocket-key")
    if key is None or (offer.get("upgrade") or "").lower() != "websocket":
        raise Nonsense("no WebSocket handshake")
    chosen = select(offer)
    answer = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_value(key.encode())}",
    ]
    if chosen is not None:
        answer.append(f"Sec-WebSocket-Protocol: {chosen}")
    answer += [f"{name}: {value}" for name, value in headers]
    pipe.send(("\r\n".join(answer) + "\r\n\r\n").encode("latin-1"))
    return WebSocket(pipe, client=False, received=rest), offer


class WebSocket:
    """One open WebSocket. Sending is safe from several threads, receiving belongs to one.

    Args:
        pipe: the connection behind its handshake.
        client: a client masks what it sends and expects no mask; a server the other way round.
        received: bytes that came right behind the handshake's head.
    """

    def __init__(self, pipe: Pipe, *, client: bool, received: bytes = b"") -> None:
        self.pipe = pipe
        self._client = client
        self._buffer = bytearray(received)
        self._sending = threading.Lock()
        self._close_sent = False
        self.answer_pings = True

    def send_bytes(self, data: bytes) -> None:
        """Raw bytes, for what is no frame at all."""
        with self._sending:
            self.pipe.send(data)

    def send_frame(
        self, opcode: int, payload: bytes, *, fin: bool = True, mask: bool | None = None, reserved: int = 0
    ) -> None:
        """One WebSocket frame; `mask` None is what the role asks for."""
        wanted = self._client if mask is None else mask
        self.send_bytes(frame_bytes(opcode, payload, fin=fin, mask=wanted, reserved=reserved))

    def send(self, payload: bytes, *, opcode: int = BINARY, fragment: int | None = None) -> None:
        """One message, cut into fragments of at most `fragment` bytes when given."""
        if fragment is None or len(payload) <= fragment:
            self.send_frame(opcode, payload)
            return
        pieces = [payload[start : start + fragment] for start in range(0, len(payload), fragment)]
        frames = [
            frame_bytes(opcode if index == 0 else CONTINUATION, piece, fin=index == len(pieces) - 1, mask=self._client)
            for index, piece in enumerate(pieces)
        ]
        # Each piece in its own write, under one lock: fragments of two messages must not mix (RFC 6455 5.4).
        with self._sending:
            for frame in frames:
                self.pipe.send(frame)

    def _need(self, size: int, deadline: float) -> None:
        while len(self._buffer) < size:
            self._buffer += self.pipe.recv(deadline - time.monotonic())

    def receive_frame(self, timeout: float = PATIENCE_S) -> tuple[bool, int, bytes]:
        """The next frame as (fin, opcode, payload). Raises Ended, Nonsense, TimeoutError (nothing is lost by that)."""
        deadline = time.monotonic() + timeout
        self._need(2, deadline)
        first, second = self._buffer[0], self._buffer[1]
        if first & 0x70:
            raise Nonsense("reserved bits are set")
        if bool(second & 0x80) is self._client:
            raise Nonsense("a masked frame from a server" if self._client else "an unmasked frame from a client")
        size, offset = second & 0x7F, 2
        if size == 126:
            self._need(4, deadline)
            (size,) = struct.unpack_from("!H", self._buffer, 2)
            offset = 4
        elif size == 127:
            self._need(10, deadline)
            (size,) = struct.unpack_from("!Q", self._buffer, 2)
            offset = 10
        key = b""
        if not self._client:
            self._need(offset + 4, deadline)
            key = bytes(self._buffer[offset : offset + 4])
            offset += 4
        self._need(offset + size, deadline)
        payload = bytes(self._buffer[offset : offset + size])
        del self._buffer[: offset + size]
        return bool(first & 0x80), first & 0x0F, masked(payload, key) if key else payload

    def receive(self, timeout: float = PATIENCE_S) -> tuple[int, bytes]:
        """The next data message as (opcode, payload); pings are answered, a close frame is echoed and raises Ended."""
        kind, pieces = None, []
        while True:
            fin, opcode, payload = self.receive_frame(timeout)
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None
                if not self._close_sent:
                    self._close_sent = True
                    try:
                        self.send_frame(CLOSE, payload[:2])
                    except Ended:
                        pass
                raise Ended(code, payload[2:].decode("utf-8", "replace"), clean=True)
            if opcode == PING:
                if self.answer_pings:
                    self.send_frame(PONG, payload)
                continue
            if opcode == PONG:
                continue
            if (opcode == CONTINUATION) is (kind is None):
                raise Nonsense("a continuation of nothing, or a message inside a message")
            kind = opcode if kind is None else kind
            pieces.append(payload)
            if fin:
                return kind, b"".join(pieces)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame; the connection is dropped by whoever reads its echo, or by `drop`."""
        self._close_sent = True
        self.send_frame(CLOSE, close_payload(code, reason))

    def drop(self) -> None:
        """End TCP with a FIN and no close frame, as the first Pico's agents do."""
        self.pipe.close()

    def reset(self) -> None:
        """End TCP with a RST."""
        self.pipe.reset()

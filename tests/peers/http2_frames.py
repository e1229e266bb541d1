"""Frames of HTTP/2 made and read by hand (RFC 9113 4 and 6, RFC 7541): whatever a hostile peer may send.

Nothing here knows what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
KINDS: Final = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
    "CONTINUATION",
)  # fmt: skip

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = range(1, 7)

Field = tuple[bytes, bytes]


class Frame(NamedTuple):
    """One frame, as it was read."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def name(self) -> str:
        return KINDS[self.kind] if self.kind < len(KINDS) else f"0x{self.kind:x}"

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame; a length of its own if it is to lie."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def read_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames in these bytes, and what is left over."""
    frames: list[Frame] = []
    while len(data) >= 9:
        end = 9 + int.from_bytes(data[:3], "big")
        if len(data) < end:
            break
        stream = int.from_bytes(data[5:9], "big") & 0x7FFFFFFF
        frames.append(Frame(data[3], data[4], stream, data[9:end]))
        data = data[end:]
    return frames, data


def integer(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541 5.1), in a first byte that has bits of its own."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes, first: int = 0x00) -> bytes:
    """A literal field with a name of its own (RFC 7541 6.2): 0x40 indexes it, 0x10 forbids that."""
    return bytes((first,)) + integer(len(name), 7) + name + integer(len(value), 7) + value


def indexed(index: int) -> bytes:
    """A field that stands in a table (RFC 7541 6.1): 62 is the newest of those that were indexed."""
    return integer(index, 7, 0x80)


def block(fields: Iterable[Field]) -> bytes:
    """A field section without any compression."""
    return b"".join(literal(name, value) for name, value in fields)


def request(*more: Field, method: bytes = b"GET", path: bytes = b"/", authority: bytes = b"a.example") -> list[Field]:
    """The fields of a request."""
    return [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority), *more]


def headers(stream: int, fields: Iterable[Field] | bytes, *, end: bool = True, flags: int = END_HEADERS) -> bytes:
    """HEADERS with these fields, or this block."""
    payload = fields if isinstance(fields, bytes) else block(fields)
    return frame(HEADERS, flags | (END_STREAM if end else 0), stream, payload)


def data(stream: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def rst(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def settings(*values: tuple[int, int], ack: bool = False) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values)
    return frame(SETTINGS, ACK if ack else 0, 0, payload)


def ping(payload: bytes = bytes(8), *, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, payload)


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def goaway(last: int = 0, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def priority(stream: int, on: int = 0, weight: int = 15, *, exclusive: bool = False) -> bytes:
    return frame(PRIORITY, 0, stream, (on | exclusive << 31).to_bytes(4, "big") + bytes((weight,)))


def continuation(stream: int, payload: bytes, *, end: bool = True) -> bytes:
    return frame(CONTINUATION, END_HEADERS if end else 0, stream, payload)


def described(frames: Sequence[Frame]) -> str:
    """For a message: what came."""
    return ", ".join(f"{one.name}({one.stream}, flags {one.flags:x}, {len(one.payload)} bytes)" for one in frames)

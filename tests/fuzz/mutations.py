"""How good traffic is made bad: frames, sequences of frames, HTTP messages.

Everything takes a `random.Random`, so that a run is made again from its seed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

_HEADER = struct.Struct(">HQH")

KINDS = (0, 1, 2, 3, 4, 5, 6, 255, 0xFFFF)
FLAGS = (
    0,
    0x8000,
    0x4000,
    0xC000,
    0x2000,
    0xA000,
    0x1000,
    0x9000,
    0x0800,
    0x8800,
    0x07FF,
    0xFFFF,
    0x1800,
    0x0400,
    0x8400,
    0xA400,
)
IDS = (0, 1, 2, 3, 4, 5, 7, 100, 2**31, 2**32, 2**63, 2**64 - 1)
SIZES = (0, 1, 2, 3, 4, 5, 125, 126, 256, 4096, 60 * 1024, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1)

HEADS = (
    b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/0.0 502 Bad Gateway\r\n\r\nan error of the first Pico",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
)

BLOCKS = (
    b"x-t: 1\r\n",
    b"x-t: 1\r\nhost: b\r\ncontent-length: 7\r\n",
    b"X-T: 1\r\n",
    b"x-t: 1\n",
    b"x-t: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"x-t: 1\r\n" * 101,
    b"x-t: " + b"y" * 9000 + b"\r\n",
)
"""Trailers, good ones and others."""


def frame(kind: int, call_id: int, flags: int, payload: bytes) -> bytes:
    """One frame."""
    return _HEADER.pack(kind, call_id, flags) + payload


def random_frame(rng: Random, ids: Sequence[int] = IDS) -> bytes:
    """A frame that nobody would send, or that somebody might, at the wrong moment."""
    choice = rng.random()
    if choice < 0.05:
        return rng.randbytes(rng.randrange(30))
    kind = rng.choice(KINDS) if rng.random() < 0.4 else 2
    call_id = rng.choice(ids) if rng.random() < 0.8 else rng.getrandbits(rng.choice((3, 8, 64)))
    flags = rng.choice(FLAGS) if rng.random() < 0.9 else rng.getrandbits(16)
    if rng.random() < 0.4:
        payload = rng.choice(HEADS)
    elif flags & 0x0800 and rng.random() < 0.7:
        payload = struct.pack(">I", rng.choice((0, 1, 1000, 2**16, 2**31 - 1, 2**31, 2**32 - 1)))
    elif flags & 0x0400 and rng.random() < 0.7:
        payload = rng.choice(BLOCKS)
    elif flags & 0x1000 and rng.random() < 0.7:
        payload = rng.choice((b"stop", b"cancelled", b"refused not-here", b"\xff" * 300, b"", b"failed " + b"x" * 999))
    else:
        payload = bytes(rng.choice(SIZES))
    return frame(kind, call_id, flags, payload)


def mutated_frame(rng: Random, message: bytes) -> bytes:
    """A good frame with one thing wrong with it."""
    if len(message) < 12:
        return message
    kind, call_id, flags = _HEADER.unpack_from(message)
    payload = message[12:]
    choice = rng.randrange(9)
    if choice == 0:
        return message[: rng.randrange(len(message))]
    if choice == 1:
        return frame(rng.choice(KINDS), call_id, flags, payload)
    if choice == 2:
        return frame(kind, rng.choice((*IDS, (call_id + 1) % 2**64, max(0, call_id - 1))), flags, payload)
    if choice == 3:
        return frame(kind, call_id, flags ^ (1 << rng.randrange(16)), payload)
    if choice == 4:
        return frame(kind, call_id, rng.choice(FLAGS), payload)
    if choice == 5:
        return frame(kind, call_id, flags, flipped(rng, payload))
    if choice == 6:
        return frame(kind, call_id, flags, payload + bytes(rng.choice(SIZES)))
    if choice == 7:
        return frame(kind, call_id, flags, b"")
    return frame(kind, call_id, flags, rng.choice(HEADS))


def mutated_sequence(rng: Random, messages: Sequence[bytes]) -> list[bytes]:
    """A conversation with something wrong at a place of it: a frame lost, said twice, moved, broken or put in."""
    out = list(messages)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        choice = rng.randrange(6)
        if choice == 0 or at == len(out):
            out.insert(at, random_frame(rng))
        elif choice == 1:
            del out[at]
        elif choice == 2:
            out.insert(rng.randrange(len(out) + 1), out[at])
        elif choice == 3:
            out.insert(rng.randrange(len(out)), out.pop(at))
        else:
            out[at] = mutated_frame(rng, out[at])
    return out


def flipped(rng: Random, data: bytes) -> bytes:
    """The bytes with some of them changed."""
    if not data:
        return rng.randbytes(3)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 10))):
        changed[rng.randrange(len(changed))] = rng.getrandbits(8)
    return bytes(changed)


_HTTP_PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"HTTP/1.1",
    b"HTTP/9.9",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: other.example\r\n",
    b"x-pico-endpoint: nobody\r\n",
    b"x-pico-endpoint: \xff\r\n",
    b"Via: 1.1 pico-a, 1.1 pico-b\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;" + b"e" * 5000 + b"\r\nhello\r\n",
    b"X" * 40_000,
)


def mutated_http(rng: Random, message: bytes) -> bytes:
    """An HTTP message with something wrong with it: cut, flipped, with pieces put in or lines moved."""
    data = message
    for _ in range(rng.choice((1, 1, 2, 4))):
        choice = rng.randrange(7)
        at = rng.randrange(len(data) + 1)
        if choice == 0:
            data = data[:at]
        elif choice == 1:
            data = flipped(rng, data)
        elif choice == 2:
            data = data[:at] + rng.choice(_HTTP_PIECES) + data[at:]
        elif choice == 3:
            lines = data.split(b"\r\n")
            lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_HTTP_PIECES).rstrip(b"\r\n"))
            data = b"\r\n".join(lines)
        elif choice == 4:
            lines = data.split(b"\r\n")
            rng.shuffle(lines)
            data = b"\r\n".join(lines)
        elif choice == 5:
            data = data[:at] + data[at + rng.randrange(1, 20) :]
        else:
            data = data + data
    return data

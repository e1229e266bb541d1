"""The tunnel's frames: 12 bytes of header in front of a payload, one frame in one binary WebSocket message."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEARTBEAT, HTTP, TCP, DRAIN, SYNC = 1, 2, 3, 4, 5

RESPONSE, NOT_SUPPORTED = 0x8000, 0x4000
MORE, RESET, CREDIT, TRAILERS = 0x2000, 0x1000, 0x0800, 0x0400

HEADER_BYTES = 12
WINDOW_BYTES = 64 * 1024
MAX_WINDOW_BYTES = 32 * 1024 * 1024
MAX_V2_MESSAGE_BYTES = 64 * 1024 + HEADER_BYTES
MAX_V1_MESSAGE_BYTES = 16 * 1024 * 1024 + 64 * 1024

_HEADER = struct.Struct("!HQH")


@dataclass(frozen=True)
class Frame:
    """One frame as it was read."""

    kind: int
    call: int
    flags: int
    payload: bytes

    @property
    def response(self) -> bool:
        """From the callee?"""
        return bool(self.flags & RESPONSE)

    @property
    def more(self) -> bool:
        """Does the stream go on?"""
        return bool(self.flags & MORE)

    @property
    def reset(self) -> bool:
        """Is the call reset by it?"""
        return bool(self.flags & RESET)

    @property
    def credit(self) -> bool:
        """Is it a credit, no payload of the stream?"""
        return bool(self.flags & CREDIT)

    @property
    def trailers(self) -> bool:
        """Does it end its stream with trailers?"""
        return bool(self.flags & TRAILERS) and self.kind == HTTP and not self.reset and not self.credit

    @property
    def code(self) -> str:
        """The code of a reset, `refused` with its second word."""
        words = self.payload.decode("utf-8", "replace").split(" ")
        return " ".join(words[:2]) if words[0] == "refused" else words[0]


def packed(kind: int, call: int, flags: int, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    return _HEADER.pack(kind, call, flags) + payload


def parsed(message: bytes) -> Frame:
    """A frame from a message. Raises ValueError when it is too short to be one."""
    if len(message) < HEADER_BYTES:
        raise ValueError(f"a frame of {len(message)} bytes")
    kind, call, flags = _HEADER.unpack_from(message)
    return Frame(kind, call, flags, message[HEADER_BYTES:])

"""As much of WebSocket (RFC 6455) as a measurement needs: whole binary messages to a service of our own and back.

A WebSocket library would cost more than the path that is measured. A client's payload has to be masked; with a key of
zeros it is masked and stays as it is, which is allowed to a client that no web page can make speak.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Final

BINARY: Final = 0x2
CLOSE: Final = 0x8

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN: Final = 0x80
_MASKED: Final = 0x80
_KEY: Final = b"\0\0\0\0"
_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")


class FrameError(Exception):
    """What came is none of the frames that we exchange."""


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def frame_header(opcode: int, length: int, *, masked: bool) -> bytes:
    """What stands before the payload of a frame that is a message."""
    mask = _MASKED if masked else 0
    if length < 126:
        head = bytes((_FIN | opcode, mask | length))
    elif length < 1 << 16:
        head = bytes((_FIN | opcode, mask | 126)) + _U16.pack(length)
    else:
        head = bytes((_FIN | opcode, mask | 127)) + _U64.pack(length)
    return head + _KEY if masked else head


class FrameReader:
    """Reads frames as their bytes come.

    Args:
        masked: they are a client's.
    """

    __slots__ = ("_held", "_left", "_masked", "_opcode")

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._held = b""
        self._opcode = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes, bool]]:
        """Take bytes.

        Yields:
            The opcode; the payload's length at the begin of a frame, else -1; a piece of payload; whether it ends the
            frame.

        Raises:
            FrameError: no such frame.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        at = 0
        size = len(data)
        while at < size:
            length = -1
            if not self._left:
                start = self._header(data, at)
                if not start:
                    self._held = data[at:]
                    return
                at = start
                length = self._left
            piece = data[at : at + self._left] if at or self._left < size else data
            at += len(piece)
            self._left -= len(piece)
            yield self._opcode, length, piece, not self._left

    def _header(self, data: bytes, at: int) -> int:
        """Read a header; where the payload begins, or 0 when the header is not whole."""
        size = len(data)
        if size < at + 2:
            return 0
        first, second = data[at], data[at + 1]
        if first not in (_FIN | BINARY, _FIN | CLOSE) or bool(second & _MASKED) is not self._masked:
            raise FrameError("no frame that a bench exchanges")
        length = second & 0x7F
        at += 2
        wide = _U16 if length == 126 else _U64 if length == 127 else None
        if wide is not None:
            if size < at + wide.size:
                return 0
            (length,) = wide.unpack_from(data, at)
            at += wide.size
        if self._masked:
            if size < at + len(_KEY):
                return 0
            if data[at : at + len(_KEY)] != _KEY:
                raise FrameError("a frame that another client made")
            at += len(_KEY)
        self._opcode = first & 0xF
        self._left = length
        return at

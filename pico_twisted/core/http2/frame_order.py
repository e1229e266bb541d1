"""Frames that come when they must not, and that libnghttp2 lets through, or takes for a worse fault than they are.

It forgets a stream once it is over, and from then on takes no notice of frames for it: a peer that goes on sending
what nobody expects is not told, and costs us its bytes for ever. RFC 9113 5.1 wants that to be an error if it was the
peer who had ended the stream; what comes for a stream that we gave up was on its way, and is no error. And it ends the
whole connection where one stream's window becomes too large, for which RFC 9113 6.9.1 has that stream reset. So the
heads of frames, and little else of them, are read here as well. That also tells whether a frame is half in.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pico_twisted.core.http2.events import PREFACE, PROTOCOL_ERROR, STREAM_CLOSED

_DATA: Final = 0x0
_HEADERS: Final = 0x1
_PRIORITY: Final = 0x2
_RST_STREAM: Final = 0x3
_WINDOW_UPDATE: Final = 0x8
_END_STREAM: Final = 0x1

_HEAD: Final = struct.Struct(">HBBBI")
_PRIORITY_BYTES: Final = 5
_INCREMENT_BYTES: Final = 4
_JUDGED_BYTES: Final = 13  # of a frame of which more is read than its head

LARGE_INCREMENT: Final = 1 << 30
"""An increment that nobody needs. A window that becomes too large by smaller ones was widened by a large one before."""

_REMEMBERED: Final = 64
"""Streams that the peer ended, the last ones: a peer that is only mistaken is so soon."""


class Fault(NamedTuple):
    """What is wrong, or may be.

    Attributes:
        code: with which the connection is to end; 0 for a WINDOW_UPDATE that is to be looked at.
        frame: that WINDOW_UPDATE, as it came.
        stream, increment: of it.
        rest: what came behind it, which nobody has looked at.
    """

    code: int
    frame: bytes = b""
    stream: int = 0
    increment: int = 0
    rest: bytes = b""


class FrameOrder:
    """What one peer sends, frame by frame.

    Args:
        client: our role; else we are the server, and the preface comes first.
    """

    __slots__ = ("_client", "_ended", "_frame", "_gap", "_last", "_left", "_part")

    def __init__(self, *, client: bool) -> None:
        self._client = client
        self._left = 0 if client else len(PREFACE)  # bytes of what has begun that are still to come
        self._part = b""  # the beginning of a frame, too short to be judged
        self._frame = (-1, 0)  # kind and stream of what has begun
        self._last = 0  # the highest stream of the peer
        self._gap = (0, 0)  # streams that were left out when the last one was begun: from, to
        self._ended: dict[int, None] = {}  # by the peer, oldest first

    def look(self, data: bytes) -> tuple[bytes, Fault | None]:
        """Look at bytes before the engine gets them.

        Returns:
            What it is to get now: all but the beginning of a frame that cannot be judged yet, which comes with the
            next bytes. With a fault, what comes before it.
        """
        left, size = self._left, len(data)
        if left >= size:
            self._left = left - size
            return data, None
        if self._part:
            data = self._part + data
            size = len(data)
            self._part = b""
        while size - left >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, left)
            length = high << 8 | low
            if kind <= _RST_STREAM:
                stream &= 0x7FFFFFFF
                if kind == _PRIORITY and length == _PRIORITY_BYTES and size - left < _JUDGED_BYTES:
                    break
                code = self._judge(kind, flags, stream, data, left, length)
                if code:
                    return data[:left], Fault(code)
            elif kind == _WINDOW_UPDATE and stream & 0x7FFFFFFF and length == _INCREMENT_BYTES:
                end = left + _JUDGED_BYTES
                if size < end:
                    break
                increment = _number(data, left + 9)
                if increment >= LARGE_INCREMENT:
                    self._left = 0
                    return data[:left], Fault(0, data[left:end], stream & 0x7FFFFFFF, increment, data[end:])
            self._frame = kind, stream
            left += 9 + length
        if left < size:
            self._part = data[left:]
            self._left = 0
            return data[:left], None
        self._left = left - size
        return data, None

    def _judge(self, kind: int, flags: int, stream: int, data: bytes, at: int, length: int) -> int:
        if kind == _PRIORITY:
            if not stream or (length == _PRIORITY_BYTES and _number(data, at + 9) == stream):
                return PROTOCOL_ERROR  # RFC 9113 6.3, RFC 7540 5.3.1
            return 0
        if kind == _RST_STREAM:
            self._has_ended(stream)
            return 0
        if stream in self._ended:
            return STREAM_CLOSED
        if kind == _HEADERS and not self._client:
            if stream > self._last:
                self._gap = self._last + 1, stream
                self._last = stream
            elif self._gap[0] <= stream < self._gap[1]:
                return PROTOCOL_ERROR  # RFC 9113 5.1.1: what was left out is closed
        if flags & _END_STREAM:
            self._has_ended(stream)
        return 0

    def _has_ended(self, stream: int) -> None:
        ended = self._ended
        ended[stream] = None
        if len(ended) > _REMEMBERED:
            del ended[next(iter(ended))]

    def within_data(self, stream: int) -> bool:
        """Whether a DATA frame of a stream has begun, and its end is still to come."""
        kind, whose = self._frame
        return bool(kind == _DATA and whose == stream and self._left)


def _number(data: bytes, at: int) -> int:
    """Thirty-one bits: what a stream depends on, or an increment."""
    return int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF


def goaway_frame(last_stream: int, code: int) -> bytes:
    """What ends a connection (RFC 9113 6.8)."""
    return b"\0\0\x08\x07\0\0\0\0\0" + last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")

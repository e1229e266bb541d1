"""WebSocket frames (RFC 6455 5), of either role, for a stream of bytes in binary messages.

What is needed. Bytes of a TCP connection travel as binary messages whose boundaries mean nothing. So no message is put
together: what has come of one is given out at once, a message may have any size, and at most the header of a frame is
kept between two reads.

What can go wrong. The peer does not speak WebSocket, or as the wrong role; its frames overlap, are too long for what
they are, or need more bytes for a length than it takes. Each of these ends the connection with a code. A peer that
sends nothing but pings, or frames of one byte, must not make us say or keep more than it sent itself: of the pings of a
read the last one is answered (5.5.3), and the pieces of a read are one event.

The mask is laid by a function from outside: what is fast enough for that is written in C.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from pico_twisted.core.protocol_limits import CLOSE_PROTOCOL

BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_CONTROL: Final = 0x8  # a bit that all control frames have
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80

NO_MASK: Final = bytes(4)
"""A mask that changes nothing, as clients choose it where TLS hides what they send."""

MAX_CONTROL_BYTES: Final = 125
"""Most payload of a control frame (RFC 6455 5.5)."""

NO_STATUS: Final = 1005
"""What stands for the code of a close frame without one (RFC 6455 7.4.1). It is never sent."""

_U16: Final = struct.Struct(">H")
_U64: Final = struct.Struct(">Q")

LayMask = Callable[[bytes, bytes], bytes]
"""Lays four bytes on some others, again and again; or takes them off."""


class WebSocketError(Exception):
    """The peer broke the rules: the connection is closed with this code and reason.

    Attributes:
        code: of the close frame (RFC 6455 7.4.1).
        reason: likewise.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Ended(enum.Enum):
    """The type of `EMPTY`."""

    EMPTY = "empty"


EMPTY: Final = Ended.EMPTY
"""A binary message without a byte came."""


class Ping(NamedTuple):
    """The peer wants an answer."""

    payload: bytes


class Closed(NamedTuple):
    """The peer's close frame; nothing follows it."""

    code: int
    reason: str


Event = bytes | Ended | Ping | Closed
"""What came: bytes of binary messages, all that lie between two other events; the end of an empty message; a ping; the
end of the connection."""


def frame_header(opcode: int, size: int, mask: bytes = b"") -> bytes:
    """The header of a frame that is a whole message.

    Args:
        opcode: one of this module's.
        size: of the payload.
        mask: the four bytes that lie on the payload, if a client sends it.
    """
    bit = _MASKED if mask else 0
    if size < 126:
        return bytes((_FINAL | opcode, bit | size)) + mask
    if size < 65536:
        return bytes((_FINAL | opcode, bit | 126, size >> 8, size & 255)) + mask
    return bytes((_FINAL | opcode, bit | 127)) + _U64.pack(size) + mask


def close_payload(code: int, reason: str) -> bytes:
    """What a close frame carries. The reason is cut where it is too long."""
    text = reason.encode("utf-8", "replace")[: MAX_CONTROL_BYTES - 2]
    return _U16.pack(code) + text.decode("utf-8", "ignore").encode("utf-8")


class _Message(enum.Enum):
    """How much of a message has come."""

    NONE = enum.auto()  # the next one has not begun
    EMPTY = enum.auto()  # it has begun, and no byte came
    BYTES = enum.auto()


class _Payload(enum.Enum):
    """What the bytes behind a header are."""

    NONE = enum.auto()  # a header comes next
    MESSAGE = enum.auto()
    CONTROL = enum.auto()


_NONE = _Payload.NONE


class FrameReader:
    """Reads the frames of one connection.

    Args:
        lay_mask: takes the mask off.
        from_client: frames must be masked, as a server gets them; else they must not be.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_final",
        "_lay_mask",
        "_left",
        "_mask",
        "_masked",
        "_message",
        "_opcode",
        "_payload",
    )

    def __init__(self, lay_mask: LayMask, *, from_client: bool) -> None:
        self._lay_mask = lay_mask
        self._masked = _MASKED if from_client else 0
        self._buffer = b""  # of a header, or of a control frame
        self._payload = _NONE
        self._opcode = BINARY
        self._final = False  # the frame that comes is the last one of its message
        self._message = _Message.NONE
        self._left = 0  # bytes of the frame's payload
        self._mask = NO_MASK
        self._closed = False

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the peer, and return what they say.

        Raises:
            WebSocketError: the peer broke the rules. What the same bytes said before that is lost.
        """
        events: list[Event] = []
        if self._closed:
            return events
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        ping: bytes | None = None
        at, size = 0, len(data)
        while True:
            if self._payload is _NONE:
                start = self._header(data, at)
                if start == 0:
                    self._buffer = data[at:]
                    break
                at = start
            if self._payload is _Payload.MESSAGE:
                left = self._left
                if left:
                    end = min(at + left, size)
                    if end > at:
                        pieces.append(self._unmasked(data[at:end] if at or end < size else data))
                        self._left = left - (end - at)
                        self._message = _Message.BYTES
                        at = end
                    if self._left:
                        break
                self._payload = _NONE
                if self._final:
                    if self._message is _Message.EMPTY:
                        _give(events, pieces)
                        events.append(EMPTY)
                    self._message = _Message.NONE
            else:
                end = at + self._left
                if end > size:
                    self._buffer = data[at:]
                    break
                payload = self._unmasked(data[at:end])
                at = end
                self._payload = _NONE
                if self._opcode == PING:
                    ping = payload
                elif self._opcode == CLOSE:
                    _give(events, pieces)
                    events.append(_closed_by(payload))
                    self._closed = True
                    return events
        _give(events, pieces)
        if ping is not None:
            events.append(Ping(ping))
        return events

    def _header(self, data: bytes, at: int) -> int:
        """Read a header. Returns where its payload begins; 0 if it is not whole yet."""
        size = len(data) - at
        if size < 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode = first & 0x0F
        length = second & 0x7F
        if first & _RESERVED:
            raise WebSocketError(CLOSE_PROTOCOL, "a reserved bit is set, and no extension was agreed upon")
        if second & _MASKED != self._masked:
            raise WebSocketError(CLOSE_PROTOCOL, "a frame without a mask" if self._masked else "a frame with a mask")
        if opcode & _CONTROL:
            self._judge_control(opcode, first & _FINAL, length)
        else:
            self._judge_data(opcode)
        start = at + 2
        if length == 126:
            start += 2
        elif length == 127:
            start += 8
        if self._masked:
            start += 4
        if len(data) < start:
            return 0
        if length == 126:
            (length,) = _U16.unpack_from(data, at + 2)
            if length < 126:
                raise WebSocketError(CLOSE_PROTOCOL, "a length that takes fewer bytes")
        elif length == 127:
            (length,) = _U64.unpack_from(data, at + 2)
            if length < 65536 or length >> 63:
                raise WebSocketError(CLOSE_PROTOCOL, "a length that takes fewer bytes, or is none")
        if self._masked:
            self._mask = data[start - 4 : start]
        self._left = length
        if opcode & _CONTROL:
            self._opcode = opcode
            self._payload = _Payload.CONTROL
        else:
            self._final = first & _FINAL != 0
            if self._message is _Message.NONE:
                self._message = _Message.EMPTY
            self._payload = _Payload.MESSAGE
        return start

    def _judge_control(self, opcode: int, final: int, length: int) -> None:
        if opcode not in (CLOSE, PING, PONG):
            raise WebSocketError(CLOSE_PROTOCOL, "a frame of a kind that is not known")
        if not final or length > MAX_CONTROL_BYTES:
            raise WebSocketError(CLOSE_PROTOCOL, "a control frame that is not one of at most 125 bytes")

    def _judge_data(self, opcode: int) -> None:
        inside = self._message is not _Message.NONE
        if opcode == _TEXT and not inside:
            raise WebSocketError(1003, "a text message, where bytes come in binary ones")
        if opcode not in (BINARY, _CONTINUATION, _TEXT):
            raise WebSocketError(CLOSE_PROTOCOL, "a frame of a kind that is not known")
        if (opcode == _CONTINUATION) is not inside:
            raise WebSocketError(
                CLOSE_PROTOCOL, "a message within another one" if inside else "a message without a begin"
            )

    def _unmasked(self, payload: bytes) -> bytes:
        """Take the mask off, and turn it to where the next bytes of the frame are."""
        mask = self._mask
        if mask == NO_MASK or not payload:
            return payload
        turn = len(payload) & 3
        if turn:
            self._mask = mask[turn:] + mask[:turn]
        return self._lay_mask(mask, payload)


def _give(events: list[Event], pieces: list[bytes]) -> None:
    if pieces:
        events.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        pieces.clear()


def _closed_by(payload: bytes) -> Closed:
    """What a close frame says."""
    if not payload:
        return Closed(NO_STATUS, "")
    if len(payload) == 1:
        raise WebSocketError(CLOSE_PROTOCOL, "a close frame with half a code")
    (code,) = _U16.unpack_from(payload)
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise WebSocketError(CLOSE_PROTOCOL, "a close frame with a code that may not be sent")
    try:
        return Closed(code, payload[2:].decode("utf-8"))
    except UnicodeDecodeError:
        raise WebSocketError(1007, "a close frame whose reason is no text") from None

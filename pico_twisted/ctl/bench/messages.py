"""The messages that a bench sends over WebSockets (RFC 6455): all of them are the same one, there and back.

Both ends know the message, so neither reads frames: each compares what came with the frame that it expects. A WebSocket
library would cost more than the path that is measured. A client's payload has to be masked; with a key of zeros it is
masked and stays as it is, which is allowed to a client that no web page can make speak.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import attrs

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL_BINARY: Final = 0x82
_MASKED: Final = 0x80
_KEY: Final = b"\0\0\0\0"


class OtherMessage(Exception):
    """What came is not the message of the bench."""


@attrs.frozen
class Message:
    """One message in the two frames that carry it.

    Attributes:
        sent: the frame that a client sends.
        returned: the frame that the service sends back.
    """

    sent: bytes
    returned: bytes


def message_of(body: bytes) -> Message:
    """The message with this payload."""
    return Message(_header(len(body), _MASKED) + _KEY + body, _header(len(body), 0) + body)


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


class FrameCount:
    """Counts frames of one kind as their bytes come.

    Args:
        frame: the only one that may come.
    """

    __slots__ = ("_came", "_frame")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._came = bytearray()

    def feed(self, data: bytes) -> int:
        """Take bytes; how many frames they complete.

        Raises:
            OtherMessage: other bytes came.
        """
        came, frame = self._came, self._frame
        came += data
        count = len(came) // len(frame)
        whole = count * len(frame)
        if came[:whole] != frame * count or not frame.startswith(bytes(came[whole : whole + 2])):
            raise OtherMessage("other bytes than those of the message that was sent")
        del came[:whole]
        return count


def _header(length: int, mask: int) -> bytes:
    if length < 126:
        return bytes((_FINAL_BINARY, mask | length))
    if length < 1 << 16:
        return bytes((_FINAL_BINARY, mask | 126)) + length.to_bytes(2)
    return bytes((_FINAL_BINARY, mask | 127)) + length.to_bytes(8)

"""What a bench sends, there and back: bodies, and messages over WebSockets (RFC 6455), all of which are the same one.

Both ends know the message, so neither reads frames: each compares what came with the frame that it expects. A WebSocket
library would cost more than the path that is measured. A client's payload has to be masked; with a key of zeros it is
masked and stays as it is, which is allowed to a client that no web page can make speak.
"""

from __future__ import annotations

from typing import Final

import attrs

_FINAL_BINARY: Final = 0x82
_MASKED: Final = 0x80
_KEY: Final = b"\0\0\0\0"


class OtherMessage(Exception):
    """What came is not the message of the bench."""


@attrs.frozen(kw_only=True)
class Content:
    """What goes there and back, made once for a bench.

    Attributes:
        request: the body of each request.
        response: the body of each answer; None for the request's own.
        sent: the frame with the message that a client sends.
        returned: the frame in which the service sends it back.
    """

    request: bytes
    response: bytes | None
    sent: bytes
    returned: bytes


def content_of(request_bytes: int, response_bytes: int | None) -> Content:
    """Bodies and messages of these sizes."""
    body = _body(request_bytes)
    return Content(
        request=body,
        response=None if response_bytes is None else _body(response_bytes),
        sent=_header(len(body), _MASKED) + _KEY + body,
        returned=_header(len(body), 0) + body,
    )


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


def _body(size: int) -> bytes:
    """A body that is not all the same, so that nothing on the way can make it small."""
    pattern = bytes(range(256))
    return (pattern * (size // 256 + 1))[:size]


def _header(length: int, mask: int) -> bytes:
    if length < 126:
        return bytes((_FINAL_BINARY, mask | length))
    if length < 1 << 16:
        return bytes((_FINAL_BINARY, mask | 126)) + length.to_bytes(2)
    return bytes((_FINAL_BINARY, mask | 127)) + length.to_bytes(8)

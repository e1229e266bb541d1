"""A request on its way from its caller to the service: frames of a call in, bytes of HTTP/1.1 out."""

from __future__ import annotations

import enum
from typing import Final

from pico_twisted.core.http1.chunked import LAST_CHUNK, encode_chunk
from pico_twisted.core.http1.forwarding import request_to_service
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.http1.target import IDEMPOTENT
from pico_twisted.core.rpc.http import RequestReader

KEPT_BYTES: Final = 64 * 1024
"""Most bytes of a request's body that are kept, to be sent again on a fresh connection."""


class Body(enum.Enum):
    """Who has the next say about the request's body.

    A request begins in any of these states. EXPECTING and UPGRADING lead to COMING, all lead to ENDED.
    """

    COMING = enum.auto()  # the caller: more of it comes when it likes
    EXPECTING = enum.auto()  # the service: the caller waits for a 100 before it sends any
    UPGRADING = enum.auto()  # the service: the caller waits for a 101
    ENDED = enum.auto()  # the service: it has the whole request


COMING = Body.COMING
EXPECTING = Body.EXPECTING
UPGRADING = Body.UPGRADING
ENDED = Body.ENDED


class ServiceRequest:
    """One request.

    Args:
        reader: reads the frames of the call.

    Attributes:
        method: empty before the head.
        upgrade_asked: the caller offers to change the protocol.
        body: who has the next say about it.
        body_bytes: how much of it came.
        replay: all that was written for the service, when that may be sent again; else None.
    """

    __slots__ = ("_chunked", "_reader", "body", "body_bytes", "method", "replay", "upgrade_asked")

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._chunked = False
        self.method = b""
        self.upgrade_asked = False
        self.body = COMING
        self.body_bytes = 0
        self.replay: bytes | None = None

    def begin(self, payload: bytes, more: bool, *, host: bytes | None, via: bytes) -> bytes:
        """Take the first frame.

        Args:
            payload: of the frame: a head, and what of the body came with it.
            more: further frames follow.
            host: the Host that the service gets; None for the caller's.
            via: our pseudonym.

        Returns:
            What to write to the service.

        Raises:
            Http1Error: the head is not valid HTTP.
            CallProtocolError: the stream is not a valid request stream.
        """
        events = self._reader.feed(payload, more)
        head = events[0]
        assert isinstance(head, RequestHead)
        body = events[1] if len(events) > 1 and isinstance(events[1], bytes) else b""
        self.method = head.method
        self.upgrade_asked = head.upgrade is not None
        self.body_bytes = len(body)
        if not more:
            self.body = ENDED
        elif self.upgrade_asked:
            self.body = UPGRADING
        elif head.expect_continue:
            self.body = EXPECTING
        self._chunked = head.length is None and not self.upgrade_asked and bool(body or more)
        data = request_to_service(head, host=host, via=via, chunked=self._chunked)
        if body or self._chunked:
            data += _chunks(body, more) if self._chunked else body
        if head.method in IDEMPOTENT and len(body) <= KEPT_BYTES:
            self.replay = data
        return data

    def feed(self, payload: bytes, more: bool) -> bytes:
        """Take a further frame.

        Args:
            payload: of the frame.
            more: further frames follow.

        Returns:
            What to write to the service.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self._reader.feed(payload, more)
        self.body_bytes += len(payload)
        if not more:
            self.body = ENDED
        elif self.body is EXPECTING:
            self.body = COMING
        data = _chunks(payload, more) if self._chunked else payload
        if self.replay is not None:
            self.replay = self.replay + data if self.body_bytes <= KEPT_BYTES else None
        return data

    def continued(self) -> None:
        """The service answered with a 100."""
        if self.body is EXPECTING:
            self.body = COMING


def _chunks(data: bytes, more: bool) -> bytes:
    return encode_chunk(data) if more else encode_chunk(data) + LAST_CHUNK

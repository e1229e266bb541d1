"""What the frames of an http call mean: heads, interim heads, bodies and their lengths.

A stream begins with a head, a request's whole in its first frame, and goes on with the raw body. The readers here turn
it into events: a head, pieces of body, `END`. They check what one end of a call may not believe of the other: a body of
another length than its head says, a second final head, an upgrade that was not asked for. Version 1 has readers of its
own.
"""

from __future__ import annotations

from typing import Final, Protocol

from pico_twisted.core.http1.head import (
    BY_LENGTH,
    END,
    NO_BODY,
    RAW,
    End,
    HeadLimits,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
    response_framing,
)
from pico_twisted.core.http1.plain import PLAIN_FOR_AGENT

_VERSION: Final = b"HTTP/1."

RequestEvent = RequestHead | bytes | End
ResponseEvent = ResponseHead | bytes | End


class CallProtocolError(Exception):
    """A peer's stream breaks the rules of http calls: reset the call with `protocol`."""


class ResponseTooLargeError(CallProtocolError):
    """A response has a larger body than its version of the protocol may carry."""


class RequestReader(Protocol):
    """Reads the request of one call; see `RequestStream`."""

    def upgraded(self) -> None: ...
    def feed(self, payload: bytes, more: bool) -> list[RequestEvent]: ...
    def trailers(self) -> None: ...


class ResponseReader(Protocol):
    """Reads the response of one call; see `ResponseStream`."""

    def feed(self, payload: bytes, more: bool) -> list[ResponseEvent]: ...
    def trailers(self) -> None: ...


def split_head(payload: bytes, limits: HeadLimits) -> tuple[bytes, bytes]:
    """Return the head that a payload begins with, and what is behind it.

    Raises:
        CallProtocolError: there is no whole head, of at most so many bytes.
    """
    end = payload.find(b"\r\n\r\n", 0, limits.head_bytes)
    if end < 0:
        raise CallProtocolError("no whole head")
    end += 4
    if end == len(payload):
        return payload, b""
    return payload[:end], payload[end:]


def _count_off(left: int, size: int, more: bool) -> int:
    """Return how much of a body with a length is left after `size` bytes of it."""
    left -= size
    if left < 0:
        raise CallProtocolError("more bytes than Content-Length")
    if left and not more:
        raise CallProtocolError("fewer bytes than Content-Length")
    return left


class RequestStream:
    """The request of one http call, as its callee reads it."""

    __slots__ = ("_head", "_left", "_limits", "_upgraded")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._head: RequestHead | None = None
        self._left: int | None = None
        self._upgraded = False

    def upgraded(self) -> None:
        """The callee answered 101: bytes of the upgraded protocol may come."""
        self._upgraded = True

    def feed(self, payload: bytes, more: bool) -> list[RequestEvent]:
        """Take the payload of one frame.

        Args:
            payload: of the frame.
            more: the stream goes on after it.

        Raises:
            Http1Error: the head is not valid HTTP.
            CallProtocolError: the stream is not a valid request stream.
        """
        events: list[RequestEvent] = []
        head = self._head
        if head is None:
            first, payload = split_head(payload, self._limits)
            head = self._head = parse_request_head(first, self._limits, PLAIN_FOR_AGENT)
            if head.chunked:
                raise CallProtocolError("a Transfer-Encoding in a v2 head")
            self._left = head.length
            if head.upgrade is not None:
                if not more:
                    raise CallProtocolError("an upgrade whose stream does not stay open")
                self._left = head.length or 0
            events = [head]
        if self._upgraded:
            pass  # of the body and of what follows it nobody needs to know any more
        elif self._left is not None:
            if head.upgrade is not None and len(payload) > self._left:
                raise CallProtocolError("bytes of an upgraded protocol before the 101")
            self._left = _count_off(self._left, len(payload), more)
        if payload:
            events.append(payload)
        if not more:
            events.append(END)
        return events

    def trailers(self) -> None:
        """The stream has ended with trailers.

        Raises:
            CallProtocolError: they have no place in it.
        """
        if self._head is None or self._head.upgrade is not None:
            raise CallProtocolError("trailers where there are none")
        if self._left:
            raise CallProtocolError("fewer bytes than Content-Length")


class ResponseStream:
    """The response of one http call, as its caller reads it.

    Args:
        limits: what each head is held to.
        method: of the request; it decides whether there is a body.
        upgrade_asked: the request offered an upgrade.
    """

    __slots__ = ("_begun", "_final", "_left", "_limits", "_method", "_raw", "_upgrade_asked")

    def __init__(self, limits: HeadLimits, method: bytes, upgrade_asked: bool) -> None:
        self._left: int | None = None
        self._limits = limits
        self._method = method
        self._upgrade_asked = upgrade_asked
        self._final = False
        self._raw = False  # behind a 101
        self._begun = b""  # of a head that goes on in the next frame

    def feed(self, payload: bytes, more: bool) -> list[ResponseEvent]:
        """Take the payload of one frame. What it returns ends with `END` when the response is complete.

        Args:
            payload: of the frame.
            more: the stream goes on after it.

        Raises:
            Http1Error: a head is not valid HTTP (status 502).
            CallProtocolError: the stream is not a valid response stream.
        """
        events: list[ResponseEvent] = []
        if not self._final:
            if self._begun:
                payload = self._begun + payload
                self._begun = b""
            try:
                first, payload = split_head(payload, self._limits)
            except CallProtocolError:
                if not more or len(payload) >= self._limits.head_bytes or not payload.startswith(_VERSION):
                    raise
                self._begun = payload
                return events
            head = parse_response_head(first, self._limits)
            if head.chunked:
                raise CallProtocolError("a Transfer-Encoding in a v2 head")
            framing = response_framing(head, self._method)
            if framing is RAW:
                if not self._upgrade_asked or head.upgrade is None:
                    raise CallProtocolError("an upgrade that was not asked for")
                self._raw = True
            elif head.status < 200:
                if payload or not more:
                    raise CallProtocolError("an interim head that is not alone in its frame")
                return [head]
            elif framing is NO_BODY:
                self._left = 0
            elif framing is BY_LENGTH:
                self._left = head.length
            elif not more:
                head = head.replace(length=len(payload))
            self._final = True
            events = [head]
        if self._left is not None:
            self._left = _count_off(self._left, len(payload), more)
        if payload:
            events.append(payload)
        if not more:
            events.append(END)
        return events

    def trailers(self) -> None:
        """The stream has ended with trailers.

        Raises:
            CallProtocolError: they have no place in it.
        """
        if not self._final or self._raw:
            raise CallProtocolError("trailers where there are none")
        if self._left:
            raise CallProtocolError("fewer bytes than Content-Length")

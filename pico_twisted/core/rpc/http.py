"""What the frames of an http call mean: heads, interim heads, bodies and their lengths, for v1 and v2.

A v2 stream begins with a whole head in its first frame and goes on with the raw body; a v1 stream is one whole HTTP/1.1
message. The readers here turn either into the same events: a head, pieces of body, `END`. They check what one end of a
call may not believe of the other: a body of another length than its head says, a second final head, an upgrade that
nobody asked for.
"""

from __future__ import annotations

from typing import Final, Literal

from pico_twisted.core.http1.body import response_body
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import (
    END,
    End,
    HeadLimits,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from pico_twisted.core.http1.server import ServerConnection
from pico_twisted.core.protocol_limits import MAX_INTERIM_HEADS
from pico_twisted.core.rpc.frames import MAX_BODY_V1

INTERIM_BYTES: Final = 16 * 1024
"""Of 1xx heads that a callee passes on. Further ones are dropped: they must leave room for the final head in the
window."""

_V1_ERROR = b"HTTP/0.0 "


class CallProtocolError(Exception):
    """A peer's stream breaks the rules of http calls: reset the call with `protocol`."""


def _split(payload: bytes, limits: HeadLimits) -> tuple[bytes, bytes]:
    end = payload.find(b"\r\n\r\n", 0, limits.head_bytes)
    if end < 0:
        raise CallProtocolError("the first frame does not hold a whole head")
    end += 4
    if end == len(payload):
        return payload, b""
    return payload[:end], payload[end:]


class _BodyCount:
    """Counts a stream's body against what its head promised."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: int | None = None

    def _take(self, data: bytes, more: bool) -> None:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise CallProtocolError("more bytes than Content-Length")
            if not more and self._left:
                raise CallProtocolError("fewer bytes than Content-Length")


def _drop_ours(head: ResponseHead) -> None:
    """Take `x-pico-*` out of a v1 response: a first-generation agent passes on what its service made up."""
    ours = [lower for lower in head.index if lower.startswith(b"x-pico-")]
    if ours:
        head.fields = [field for field in head.fields if field[0] not in ours]
        for lower in ours:
            del head.index[lower]


class RequestStream(_BodyCount):
    """The request of one http call, as its callee reads it."""

    __slots__ = ("_head", "_limits", "_upgraded", "_version")

    def __init__(self, version: int, limits: HeadLimits) -> None:
        super().__init__()
        self._version = version
        self._limits = limits
        self._head: RequestHead | None = None
        self._upgraded = False

    def upgraded(self) -> None:
        """The callee answered 101: bytes of the upgraded protocol may come."""
        self._upgraded = True

    def feed(self, payload: bytes, more: bool) -> list[RequestHead | bytes | End]:
        """Take the payload of one frame.

        Raises:
            Http1Error: the head is not valid HTTP.
            CallProtocolError: the stream is not a valid request stream.
        """
        if self._version == 1:
            return self._feed_v1(payload)
        events: list[RequestHead | bytes | End] = []
        head = self._head
        if head is None:
            first, payload = _split(payload, self._limits)
            head = self._head = parse_request_head(first, self._limits)
            if head.chunked:
                raise CallProtocolError("a Transfer-Encoding in a v2 head")
            if head.upgrade is not None:
                if payload or not more:
                    raise CallProtocolError("an upgrade whose stream does not stay open")
            elif not more and head.length is None:
                self._left = len(payload)
            else:
                self._left = head.length
            events.append(head)
        if payload and head.upgrade is not None and not self._upgraded:
            raise CallProtocolError("bytes of an upgraded protocol before the 101")
        self._take(payload, more)
        if payload:
            events.append(payload)
        if not more:
            events.append(END)
        return events

    def _feed_v1(self, payload: bytes) -> list[RequestHead | bytes | End]:
        connection = ServerConnection(self._limits)
        connection.receive(payload)
        head = connection.next_event()
        if not isinstance(head, RequestHead):
            raise CallProtocolError("a message without a whole head")
        if head.upgrade is not None:
            head.upgrade = None  # v1 has no upgrades: it goes on as a plain request
            return [head, END]
        pieces: list[bytes] = []
        while (event := connection.next_event()) is not END:
            if not isinstance(event, bytes):
                raise CallProtocolError("a message that was cut short")
            pieces.append(event)
        body = b"".join(pieces)
        return [head, body, END] if body else [head, END]


class ResponseStream(_BodyCount):
    """The response of one http call, as its caller reads it.

    Args:
        version: 1 or 2, of the session.
        method: of the request; it decides whether there is a body.
        upgrade_asked: the request offered an upgrade.
        v1_body_bytes: what the body of a v1 response may hold.
    """

    __slots__ = ("_final", "_interim", "_limits", "_method", "_upgrade_asked", "_v1_body_bytes", "_version")

    def __init__(
        self,
        version: int,
        limits: HeadLimits,
        method: bytes,
        upgrade_asked: bool,
        v1_body_bytes: int = MAX_BODY_V1,
    ) -> None:
        self._left = None
        self._v1_body_bytes = v1_body_bytes
        self._version = version
        self._limits = limits
        self._method = method
        self._upgrade_asked = upgrade_asked
        self._final = False
        self._interim = 0

    def feed(self, payload: bytes, more: bool) -> list[ResponseHead | bytes | End]:
        """Take the payload of one frame. What it returns ends with `END` when the response is complete.

        Raises:
            Http1Error: a head is not valid HTTP (status 502).
            CallProtocolError: the stream is not a valid response stream.
        """
        if self._version == 1:
            return self._feed_v1(payload)
        events: list[ResponseHead | bytes | End] = []
        if not self._final:
            first, payload = _split(payload, self._limits)
            head = parse_response_head(first, self._limits)
            events.append(head)
            if head.chunked:
                raise CallProtocolError("a Transfer-Encoding in a v2 head")
            head.raw = first
            if head.status < 200 and head.status != 101:
                self._interim += 1
                if payload or not more or self._interim > MAX_INTERIM_HEADS:
                    raise CallProtocolError("an interim head that is not alone in its frame, or one too many")
                return events
            self._final = True
            self._expect(head, payload, more)
        self._take(payload, more)
        if payload:
            events.append(payload)
        if not more:
            events.append(END)
        return events

    def _expect(self, head: ResponseHead, payload: bytes, more: bool) -> None:
        if head.status == 101:
            if not self._upgrade_asked or head.upgrade is None:
                raise CallProtocolError("an upgrade that was not asked for")
            return
        kind: Literal["none", "length", "chunked", "until-close"] = response_body(head, self._method)
        if kind == "none":
            self._left = 0
        elif kind == "length":
            self._left = head.length
        elif not more:
            head.length = self._left = len(payload)

    def _check_v1_body(self, body: bytes) -> None:
        if len(body) > self._v1_body_bytes:
            raise CallProtocolError("a v1 response with a body over its limit")

    def _feed_v1(self, payload: bytes) -> list[ResponseHead | bytes | End]:
        own_error = payload.startswith(_V1_ERROR)
        if own_error:
            first, body = _split(b"HTTP/1.1 " + payload[len(_V1_ERROR) :], self._limits)
            head = parse_response_head(first, self._limits)
            if head.status < 200:
                raise CallProtocolError("an interim head as the answer of a v1 agent")
            self._check_v1_body(body)
            _drop_ours(head)
            head.chunked = False
            head.length = len(body)
            if response_body(head, self._method) == "none":
                body = b""
            return [head, body, END] if body else [head, END]
        connection = ClientConnection(self._limits)
        connection.expect(self._method)
        connection.receive(payload)
        connection.receive_eof()
        final: ResponseHead | None = None
        pieces: list[bytes] = []
        while (event := connection.next_event()) is not END:
            if event is None:
                raise CallProtocolError("a message that was cut short")
            if isinstance(event, bytes):
                pieces.append(event)
            elif isinstance(event, ResponseHead):
                if event.status == 101:
                    raise CallProtocolError("an upgrade over v1")
                if event.status >= 200:
                    final = event
        if final is None:
            raise CallProtocolError("a message without a final head")
        body = b"".join(pieces)
        self._check_v1_body(body)
        _drop_ours(final)
        if response_body(final, self._method) != "none":
            final.length = len(body)
        final.chunked = False
        return [final, body, END] if body else [final, END]


__all__ = ["END", "CallProtocolError", "Http1Error", "RequestStream", "ResponseStream"]

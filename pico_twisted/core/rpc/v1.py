"""Version 1 of the protocol, all of it but the frame header: every stream is one frame with one whole HTTP/1.1 message,
no credit, no resets, lenient about what it does not know.

It is spoken with every peer that did not negotiate `pico.v2`. What its session shares with that of version 2 is the
turn of calls and the heartbeats.
"""

from __future__ import annotations

import functools
from typing import Final

from pico_twisted.core.field_names import BETWEEN_HOPS
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.http1.head import (
    END,
    NO_BODY,
    HeadLimits,
    RequestHead,
    ResponseHead,
    parse_response_head,
    response_framing,
)
from pico_twisted.core.http1.server import ServerConnection
from pico_twisted.core.protocol_limits import CLOSE_POLICY, CLOSE_PROTOCOL
from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.call import Call, Stream
from pico_twisted.core.rpc.dialect import Dialect
from pico_twisted.core.rpc.frames import HEADER, HEADER_BYTES, HEARTBEAT, HTTP, MAX_MESSAGE_V1, NOT_SUPPORTED, RESPONSE
from pico_twisted.core.rpc.http import CallProtocolError, RequestEvent, ResponseEvent, ResponseTooLargeError, split_head
from pico_twisted.core.rpc.session_base import (
    FRAME,
    MAX_OWED_FRAMES,
    OPENED,
    WAS_RESET,
    Event,
    SessionBase,
    SessionError,
)

_ENDLESS: Final = 2**62
_OWN_ERROR: Final = b"HTTP/0.0 "
"""What the answer begins with that an agent of version 1 gives in its service's place."""


class SessionV1(SessionBase):
    """The session of version 1."""

    first_credit = _ENDLESS
    max_data_bytes = _ENDLESS
    more_flag = 0
    messages_are_calls = True

    def receive(self, message: bytes) -> Event | None:
        """See `SessionBase.receive`."""
        if len(message) < HEADER_BYTES:
            raise SessionError(CLOSE_PROTOCOL, "frame shorter than its header")
        kind, call_id, flags = HEADER.unpack_from(message)
        if flags & RESPONSE:
            if call_id == self.asked_id and call_id:
                return self._answered()
            call = self._ours.get(call_id)
            if call is None:
                return None  # late
            self._close(call)
            if flags & NOT_SUPPORTED:
                return (WAS_RESET, call, frames.UNSUPPORTED, "")
            call.unconsumed = len(message) - HEADER_BYTES
            return (FRAME, call, message[HEADER_BYTES:], False)
        if kind == HEARTBEAT:
            payload = message[HEADER_BYTES : HEADER_BYTES + frames.MAX_HEARTBEAT_BYTES]
            self._echo = frames.encode(HEARTBEAT, call_id, RESPONSE, payload)
            return None
        if len(self._control) >= MAX_OWED_FRAMES:
            raise SessionError(CLOSE_POLICY, "too many answers owed to a peer that does not read")
        served = kind == HTTP and HTTP in self._serves
        if served and call_id in self._theirs:
            return None  # two answers under one ID could not be told apart
        if not served or len(self._theirs) >= self._max_calls:
            self._control.append(HEADER.pack(kind, call_id, RESPONSE | NOT_SUPPORTED))
            return None
        call = Call(call_id, kind, False, _ENDLESS)
        call.receiving = Stream.ENDED
        call.unconsumed = len(message) - HEADER_BYTES
        self._theirs[call_id] = call
        return (OPENED, call, message[HEADER_BYTES:], False)

    def skipped(self, header: bytes, answer: bytes) -> Event | None:
        """A message was dropped that is too large: the call that it belongs to fails alone.

        Args:
            header: of its frame.
            answer: to a request, in its service's place.

        Returns:
            What `receive` would, about a call of ours.
        """
        kind, call_id, flags = HEADER.unpack(header)
        if flags & RESPONSE:
            call = self._ours.get(call_id)
            if call is None:
                return None
            self._close(call)
            return (WAS_RESET, call, frames.TOO_LARGE, "the response is too large for version 1 of the protocol")
        if len(self._control) >= MAX_OWED_FRAMES:
            raise SessionError(CLOSE_POLICY, "too many answers owed to a peer that does not read")
        if kind != HTTP or HTTP not in self._serves:
            self._control.append(HEADER.pack(kind, call_id, RESPONSE | NOT_SUPPORTED))
        elif call_id not in self._theirs:
            self._control.append(frames.encode(HTTP, call_id, RESPONSE, answer))
        return None

    def consumed(self, call: Call, count: int, now: float) -> bool:
        """See `SessionBase.consumed`. There is no credit in v1: only the count of held bytes changes."""
        call.unconsumed -= count
        return False

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """See `SessionBase.reset`. The call is only forgotten, but for `UNSUPPORTED`: v1 cannot tell the peer."""
        if not call.closed:
            self._close(call)
            if code == frames.UNSUPPORTED:
                self._control.append(frames.encode(call.kind, call.id, RESPONSE | NOT_SUPPORTED))

    def drain(self) -> bool:
        """A v1 peer cannot be told: its further calls are answered as if there were too many of them."""
        self._max_calls = 0
        return False


class RequestMessage:
    """The request of one http call, as its callee reads it: used like a `RequestStream`."""

    __slots__ = ("_limits",)

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits

    def upgraded(self) -> None:
        """Do nothing: there are no upgrades in v1."""

    def trailers(self) -> None:
        """Do nothing: version 1 has no trailers."""

    def feed(self, payload: bytes, more: bool) -> list[RequestEvent]:
        """See `RequestStream.feed`. The one frame gives all events."""
        connection = ServerConnection(self._limits)
        connection.receive(payload)
        head = connection.next_event()
        if not isinstance(head, RequestHead):
            raise CallProtocolError("a message without a whole head")
        if CLIENT_CONNECTION in head.by_name:  # a first-generation node passes on what its client made up
            head = head.replace(by_name={**head.by_name, CLIENT_CONNECTION: b""})
        if head.upgrade is not None:
            head = head.replace(upgrade=None)  # it goes on as a plain request
        pieces: list[bytes] = []
        while (event := connection.next_event()) is not END:
            if not isinstance(event, bytes):
                raise CallProtocolError("a message that was cut short")
            pieces.append(event)
        body = b"".join(pieces)
        return [head, body, END] if body else [head, END]


class ResponseMessage:
    """The response of one http call, as its caller reads it: used like a `ResponseStream`.

    Args:
        limits, method, upgrade_asked: as of `ResponseStream`.
        body_bytes: what the body may hold.
    """

    __slots__ = ("_body_bytes", "_limits", "_method")

    def __init__(self, limits: HeadLimits, method: bytes, upgrade_asked: bool, *, body_bytes: int) -> None:
        self._limits = limits
        self._method = method
        self._body_bytes = body_bytes

    def trailers(self) -> None:
        """Do nothing: version 1 has no trailers."""

    def feed(self, payload: bytes, more: bool) -> list[ResponseEvent]:
        """See `ResponseStream.feed`. The one frame gives all events."""
        own_error = payload.startswith(_OWN_ERROR)
        if own_error:
            first, body = split_head(b"HTTP/1.1 " + payload[len(_OWN_ERROR) :], self._limits)
            head = parse_response_head(first, self._limits)
            if head.status < 200:
                raise CallProtocolError("an interim head as the answer of a v1 agent")
        else:
            head, body = self._read(payload)
        if len(body) > self._body_bytes:
            raise ResponseTooLargeError("the response is too large for version 1 of the protocol")
        # A first-generation agent passes on what its service made up as `x-pico-*`.
        fields = [field for field in head.fields if not field[0].startswith(BETWEEN_HOPS)]
        has_body = response_framing(head, self._method) is not NO_BODY
        own_error = payload.startswith(_OWN_ERROR)
        head = head.replace(
            fields=fields,
            by_name={lower: value for lower, value in head.by_name.items() if not lower.startswith(BETWEEN_HOPS)},
            length=len(body) if has_body or own_error else head.length,
            chunked=False,
            raw=b"",
        )
        return [head, body, END] if body and has_body else [head, END]

    def _read(self, payload: bytes) -> tuple[ResponseHead, bytes]:
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
        return final, b"".join(pieces)


def dialect_v1(body_bytes: int) -> Dialect:
    """Return version 1.

    Args:
        body_bytes: what a body may hold, either way.
    """
    return Dialect(
        version=1,
        session=SessionV1,
        max_message_bytes=MAX_MESSAGE_V1,
        whole_body_bytes=body_bytes,
        read_request=RequestMessage,
        read_response=functools.partial(ResponseMessage, body_bytes=body_bytes),
    )

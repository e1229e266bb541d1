"""One http call as its service sees it: frames of the caller in and a request out, a response in and frames out.

`CallRequest` and `CallResponse` are the same whatever a service speaks. What is behind them here writes HTTP/1.1.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final, TypeVar

from pico_twisted.core.header_edits import HeaderEdits
from pico_twisted.core.http1.chunked import LAST_CHUNK, encode_chunk, last_chunk
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION, authenticates_connection, name_of
from pico_twisted.core.http1.fields import NO_TOKENS
from pico_twisted.core.http1.forwarding import request_to_service, response_to_tunnel
from pico_twisted.core.http1.head import END, RequestHead, ResponseHead
from pico_twisted.core.http1.target import IDEMPOTENT
from pico_twisted.core.http1.trailers import cleaned, takes_trailers
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.core.rpc.http import RequestReader

KEPT_BYTES: Final = 64 * 1024
"""Most bytes of a request's body that are kept, to be sent again on a fresh connection."""

H = TypeVar("H", RequestHead, ResponseHead)


def edited(head: H, edits: HeaderEdits) -> H:
    """A head as an operator wants it."""
    return head.replace(fields=edits.edited(head.fields), connection=edits.unnamed(head.connection))


class Body(enum.Enum):
    """Who has the next say about a request's body.

    A request begins in any of these states. EXPECTING leads to COMING, COMING to UPGRADING once the body of an offer to
    upgrade is whole, and all lead to ENDED.
    """

    COMING = enum.auto()  # the caller: more of it comes when it likes
    EXPECTING = enum.auto()  # the service: the caller waits for a 100 before it sends any
    UPGRADING = enum.auto()  # the service: the caller waits for a 101
    ENDED = enum.auto()  # the service: it has the whole request


COMING = Body.COMING
EXPECTING = Body.EXPECTING
UPGRADING = Body.UPGRADING
ENDED = Body.ENDED


class CallRequest:
    """The request of one call, as its caller sends it.

    Args:
        reader: reads the frames of the call.
        capabilities: of the caller.

    Attributes:
        head: None before it came.
        method: empty before the head.
        upgrade_asked: the caller offers to change the protocol.
        body: who has the next say about it.
        body_bytes: how much of it came.
        client_connection: the name of its client's connection; empty when the node gives none.
        authenticates: it authenticates the connection that it is sent on.
    """

    __slots__ = (
        "_capabilities",
        "_reader",
        "authenticates",
        "body",
        "body_bytes",
        "client_connection",
        "head",
        "method",
        "upgrade_asked",
    )

    def __init__(self, reader: RequestReader, capabilities: Collection[bytes] = ()) -> None:
        self._reader = reader
        self._capabilities = capabilities
        self.method = b""
        self.upgrade_asked = False
        self.body = COMING
        self.body_bytes = 0
        self.head: RequestHead | None = None
        self.client_connection = b""
        self.authenticates = False

    @property
    def request_id(self) -> str:
        """The ID that the node gave it, for logs; empty when it gave none."""
        return self._told(b"x-request-id")

    @property
    def client(self) -> str:
        """The address of its client, for logs, as the node tells it; empty when it does not."""
        return self._told(b"x-forwarded-for").partition(",")[0].strip()

    @property
    def asked_port(self) -> int:
        """The port that its client asked for, as the node tells it; 0 when it does not."""
        told = self._told(b"x-forwarded-port")
        return int(told) if len(told) <= 5 and told.isdecimal() and int(told) <= 0xFFFF else 0

    @property
    def secure(self) -> bool:
        """Whether its client came over TLS, as the node tells it."""
        return self._told(b"x-forwarded-proto") == "https"

    @property
    def takes_trailers(self) -> bool:
        """Whether trailers of the response get to its client: it says so, and the caller takes them."""
        head = self.head
        return head is not None and TRAILERS in self._capabilities and takes_trailers(head)

    def _told(self, name: bytes) -> str:
        value = self.head.by_name.get(name, b"") if self.head is not None else b""
        return value.decode("ascii", "replace")

    def take_first(self, payload: bytes, more: bool) -> tuple[RequestHead, bytes]:
        """Take the first frame, and return its head and what of the body came with it.

        Args:
            payload: of the frame.
            more: further frames follow.

        Raises:
            Http1Error: the head is not valid HTTP.
            CallProtocolError: the stream is not a valid request stream.
        """
        events = self._reader.feed(payload, more)
        head = events[0]
        assert isinstance(head, RequestHead)
        body = events[1] if len(events) > 1 and isinstance(events[1], bytes) else b""
        self.head = head
        self.method = head.method
        self.upgrade_asked = head.upgrade is not None
        self.body_bytes = len(body)
        special = head.special
        if CLIENT_CONNECTION in special:
            self.client_connection = name_of(special[CLIENT_CONNECTION])
        if b"authorization" in special:
            self.authenticates = authenticates_connection(head)
        if not more:
            self.body = ENDED
        elif self.upgrade_asked and len(body) == (head.length or 0):
            self.body = UPGRADING
        elif head.expect_continue and not body:
            self.body = EXPECTING
        return head, body

    def take_further(self, payload: bytes, more: bool) -> None:
        """Take a further frame.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self._reader.feed(payload, more)
        self.body_bytes += len(payload)
        if not more:
            self.body = ENDED
        elif self.upgrade_asked and self.head is not None and self.body_bytes == (self.head.length or 0):
            self.body = UPGRADING
        elif self.body is EXPECTING:
            self.body = COMING

    def take_trailers(self) -> None:
        """The stream has ended with trailers.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self._reader.trailers()
        self.body = ENDED


class CallResponse:
    """The response of one call, as its caller gets it.

    Args:
        request: that it answers, which a 100 sets going.
        edits: of the fields of its final head, unless that is a 101; None for none.

    Attributes:
        head: the final one, or that of an upgrade; None before it.
        early: it began before the request had come.
        ended: it is complete.
        trailers: the block of those that it ended with; empty for none.
        body_bytes: how much of its body came.
    """

    __slots__ = ("_edits", "_request", "body_bytes", "early", "ended", "head", "trailers")

    def __init__(self, request: CallRequest, edits: HeaderEdits | None = None) -> None:
        self._request = request
        self._edits = edits
        self.head: ResponseHead | None = None
        self.early = False
        self.ended = False
        self.trailers = b""
        self.body_bytes = 0

    def edited(self, head: ResponseHead) -> ResponseHead:
        """The final head as the caller gets it."""
        return head if self._edits is None else edited(head, self._edits)

    def _interim(self, head: ResponseHead) -> bytes:
        if head.status == 100 and self._request.body is EXPECTING:
            self._request.body = COMING
        return response_to_tunnel(head)


BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"))
"""Methods whose requests have no body as a rule (RFC 9110 9.3). Services have been found that do not look for one, and
take it for the next request: its answer would then be the next client's."""


class ServiceRequest(CallRequest):
    """The request of one call, as it is written to the service.

    Args:
        reader, capabilities: as of `CallRequest`.

    Attributes:
        chunked: it goes to the service in chunks.
        replay: all that was written for the service, when that may be sent again; else None.
    """

    __slots__ = ("_named", "chunked", "replay")

    def __init__(self, reader: RequestReader, capabilities: Collection[bytes] = ()) -> None:
        super().__init__(reader, capabilities)
        self._named = NO_TOKENS  # fields that the operator decides about
        self.chunked = False
        self.replay: bytes | None = None

    @property
    def may_be_two(self) -> bool:
        """Whether the service may take part of it for another request."""
        return (self.chunked or self.body_bytes > 0) and self.method in BODILESS

    def begin(self, payload: bytes, more: bool, *, host: bytes | None, edits: HeaderEdits | None = None) -> bytes:
        """Take the first frame, and return what to write to the service.

        Args:
            payload: a head, and what of the body came with it.
            more: further frames follow.
            host: the Host that the service gets; None for the caller's.
            edits: of the fields that the service gets; None for none.

        Raises:
            Http1Error: the head is not valid HTTP.
            CallProtocolError: the stream is not a valid request stream.
        """
        head, body = self.take_first(payload, more)
        self.chunked = head.length is None and not self.upgrade_asked and bool(body or more)
        sent = head
        if edits is not None:
            sent = edited(head, edits)
            self._named = edits.names
        takes = b"te" in head.special and self.takes_trailers
        data = request_to_service(sent, host=host, chunked=self.chunked, trailers=takes)
        if self.chunked:
            data += encode_chunk(body) if more else encode_chunk(body) + LAST_CHUNK
        elif body:
            data += body
        if head.method in IDEMPOTENT and len(body) <= KEPT_BYTES:
            self.replay = data
        return data

    def feed(self, payload: bytes, more: bool) -> bytes:
        """Take a further frame, and return what to write to the service.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self.take_further(payload, more)
        if self.chunked:
            payload = encode_chunk(payload) if more else encode_chunk(payload) + LAST_CHUNK
        if self.replay is not None:
            self.replay = self.replay + payload if self.body_bytes <= KEPT_BYTES else None
        return payload

    def end(self, trailers: bytes) -> bytes:
        """Take the trailers that the stream ends with, and return what to write to the service: it gets them behind
        chunks only.

        Args:
            trailers: the block, as it came.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self.take_trailers()
        data = last_chunk(cleaned(trailers, self._named)) if self.chunked else b""
        if self.replay is not None:
            self.replay += data
        return data


class ServiceResponse(CallResponse):
    """The response of one call, as the service writes it. A head goes on together with what was read behind it, so that
    a small one is one frame."""

    __slots__ = ()

    def read(self, http: ClientConnection) -> bytes | None:
        """Take what the service has sent: one interim head, or all that is there of the final response.

        Returns:
            The payload of the next frame to the caller, which is the last one if the response has `ended`; None when
            there is nothing. While there is no `head` this was an interim one, or is empty where those do not go on:
            then read on.

        Raises:
            Http1Error: the service broke HTTP, or its response was cut short.
        """
        pieces: list[bytes] = []
        while (event := http.next_event()) is not None and event is not END:
            if type(event) is ResponseHead:
                if event.status < 200 and event.status != 101:
                    return self._interim(event)
                self.early = self._request.body is COMING or self._request.body is EXPECTING
                self.head = event
                plain = self._edits is None or event.status == 101
                pieces.append(response_to_tunnel(event if plain else self.edited(event)))
                if event.status != 101:
                    continue
                event = http.take_rest()
            assert isinstance(event, bytes)
            self.body_bytes += len(event)
            pieces.append(event)
        if event is END:
            self.ended = True
            if http.trailers:
                self.trailers = http.trailers if self._edits is None else cleaned(http.trailers, self._edits.names)
        elif not pieces:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

"""One http call as a service of HTTP/2 sees it: a field section, and the body as it is.

All of the request is kept until its response begins, for it may be sent again: a service says of a stream that nothing
was done with it (RFC 9113 8.7), whatever the method, and a connection may die under an idempotent one.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from pico_twisted.core.agent.service_call import COMING, KEPT_BYTES, UPGRADING, CallRequest, CallResponse, edited
from pico_twisted.core.header_edits import HeaderEdits
from pico_twisted.core.http1.fields import NO_TOKENS
from pico_twisted.core.http1.forwarding import NO_HOST, goes_to_service, response_to_tunnel
from pico_twisted.core.http1.head import HeadLimits, RequestHead, ResponseHead
from pico_twisted.core.http1.target import IDEMPOTENT
from pico_twisted.core.http1.trailers import read_block, write_block
from pico_twisted.core.http2.events import WireFields
from pico_twisted.core.http2.heads import request_fields, response_head
from pico_twisted.core.rpc.http import RequestReader
from pico_twisted.core.websocket.accept import accept_of

_GRPC: Final = b"application/grpc"
_GRPC_STATUS: Final = frozenset((b"grpc-status", b"grpc-message"))
"""What stays of trailers that are too large to go on: without a status a call of gRPC has no outcome."""
_MOST_GRPC_MESSAGE: Final = 4 * 1024
_WEBSOCKET: Final = b"websocket"
_CODES: Final = tuple(
    b"""
    NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR
    REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED
    """.decode("ascii").split()
)
_REASONS: Final = {b"%d" % status: status.phrase.encode("ascii") for status in HTTPStatus}
"""What HTTP/1.1 says behind a status, and HTTP/2 does not."""


class Http2Request(CallRequest):
    """The request of one call, as it is sent to the service.

    Args:
        reader, capabilities: as of `CallRequest`.

    Attributes:
        first_body: what of the body came with the head.
        kept: the frames so far, as (payload, more), while the request may be sent again; else None.
        websocket: it opens a WebSocket (RFC 6455 4.1): HTTP/2 knows no other upgrades, and they are not offered.
        trailers: the block of those that it ended with; empty for none.
    """

    __slots__ = ("_named", "_sent", "first_body", "kept", "trailers", "websocket")

    def __init__(self, reader: RequestReader, capabilities: Collection[bytes]) -> None:
        super().__init__(reader, capabilities)
        self._named = NO_TOKENS  # fields that the operator decides about
        self._sent = RequestHead(b"", b"")
        self.trailers = b""
        self.first_body = b""
        self.websocket = False
        self.kept: list[tuple[bytes, bool]] | None = []

    @property
    def idempotent(self) -> bool:
        """Whether it may be sent again though the service may have seen it."""
        return self.method in IDEMPOTENT

    @property
    def grpc(self) -> bool:
        """Whether it is one of gRPC, whose services want to hear that trailers are taken."""
        return self.head is not None and self.head.by_name.get(b"content-type", b"").lower().startswith(_GRPC)

    def begin(self, payload: bytes, more: bool, edits: HeaderEdits | None = None) -> None:
        """Take the first frame.

        Args:
            payload: a head, and what of the body came with it.
            more: further frames follow.
            edits: of the fields that the service gets; None for none.

        Raises:
            Http1Error: the head is not valid HTTP.
            CallProtocolError: the stream is not a valid request stream.
        """
        head, self.first_body = self.take_first(payload, more)
        self._sent = head
        if head.upgrade is not None and head.upgrade.lower() == _WEBSOCKET:
            self.websocket = b"sec-websocket-key" in head.by_name and not head.length
        if edits is not None:
            self._sent = edited(head, edits)
            self._named = edits.names
        self.kept = [(payload, more)]

    def feed(self, payload: bytes, more: bool, *, waits: bool) -> None:
        """Take a further frame.

        Args:
            payload: of the frame.
            more: further frames follow.
            waits: nothing of the request was sent yet, so that all of it is kept, however much it is.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self.take_further(payload, more)
        if self.kept is None:
            return
        if waits or self.body_bytes <= KEPT_BYTES:
            self.kept.append((payload, more))
        else:
            self.kept = None

    def switched(self) -> None:
        """Its WebSocket is open: bytes may come."""
        self._reader.upgraded()
        if self.body is UPGRADING:
            self.body = COMING

    def end(self, trailers: bytes) -> None:
        """Take the trailers that the stream ends with.

        Args:
            trailers: the block, as it came.

        Raises:
            CallProtocolError: the stream is not a valid request stream.
        """
        self.take_trailers()
        self.trailers = trailers

    @property
    def last_fields(self) -> WireFields:
        """The field section that ends its stream, if there are trailers."""
        return read_block(self.trailers, self._named)

    def body_so_far(self) -> bytes:
        """What of the body came, of a request that is kept."""
        kept = self.kept or ()
        return b"".join((self.first_body, *(payload for payload, _ in kept[1:])))

    def fields(self, scheme: bytes, host: bytes | None, trailers: bool) -> WireFields:
        """The field section that opens its stream.

        Args:
            scheme: `http` or `https`, of the service.
            host: the Host that the service gets; None for the caller's.
            trailers: the service has to hear that trailers are taken, whether or not the caller said so.
        """
        head = self._sent
        if head.upgrade is not None and not self.websocket:
            head = head.replace(upgrade=None)
        wants = trailers or self.grpc or self.takes_trailers
        return request_fields(
            head, scheme=scheme, authority=host or head.host or NO_HOST, goes_on=goes_to_service, trailers=wants
        )


class Http2Response(CallResponse):
    """The response of one call, as the service sends it."""

    __slots__ = ()

    def interim(self, fields: WireFields, limits: HeadLimits) -> bytes:
        """An interim head, as the caller gets it. Raises `Http1Error`, 502."""
        return self._interim(response_head(fields, limits))

    def continued(self) -> bytes:
        """The 100 that the caller gets in the service's place."""
        self._request.body = COMING
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def end(self, fields: WireFields) -> None:
        """Take the trailers that the response ends with.

        Raises:
            TrailersError: they are not valid.
        """
        self.ended = True
        dropped = NO_TOKENS if self._edits is None else self._edits.names
        self.trailers = write_block(fields, dropped)
        if not self.trailers:
            status = [field for field in fields if field[0] in _GRPC_STATUS and len(field[1]) <= _MOST_GRPC_MESSAGE]
            self.trailers = write_block(status, dropped)

    def begin(self, fields: WireFields, limits: HeadLimits) -> bytes:
        """The final head, as the caller gets it.

        Raises:
            Http1Error: 502.
        """
        head = response_head(fields, limits, _REASONS)
        if 200 <= head.status < 300 and isinstance(self._request, Http2Request) and self._request.websocket:
            head = _switching(head, self._request.head)
            self._request.switched()
        self.head = head
        return response_to_tunnel(head if head.status == 101 else self.edited(head))


def _switching(head: ResponseHead, request: RequestHead | None) -> ResponseHead:
    """What a WebSocket over HTTP/2 is opened with, as HTTP/1.1 says it (RFC 8441 5, RFC 6455 4.2.2)."""
    key = b"" if request is None else request.by_name.get(b"sec-websocket-key", b"")
    kept = [field for field in head.fields if field[0] not in (b"sec-websocket-accept", b"content-length")]
    kept.append((b"sec-websocket-accept", b"Sec-WebSocket-Accept", accept_of(key)))
    return head.replace(
        status=101, reason=_REASONS[b"101"], fields=kept, upgrade=_WEBSOCKET, length=None, connection=frozenset()
    )


def code_name(code: int) -> str:
    """The name of the code that a stream ended with (RFC 9113 7)."""
    return _CODES[code] if code < len(_CODES) else f"code {code}"

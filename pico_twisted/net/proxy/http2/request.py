"""One request that came over HTTP/2: a stream of its connection.

Its window is the credit of its call: what the service did not take is not consumed, so the client may not send more.
What came in excess while the service was found is held here, one window at most.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from time import perf_counter
from typing import ClassVar, Final

from pico_twisted.core.http1.account import Account
from pico_twisted.core.http1.credentials import choose_ours
from pico_twisted.core.http1.errors import Http1Error, bad_request
from pico_twisted.core.http1.grpc_errors import UNAVAILABLE, grpc_fields, reads_trailers
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.http1.trailers import TrailersError, read_block, write_block
from pico_twisted.core.http2.events import CANCEL, HTTP_1_1_REQUIRED, INTERNAL_ERROR, WireFields
from pico_twisted.core.http2.forwarding import interim_to_client, response_to_client
from pico_twisted.net.proxy.error_answer import date_now
from pico_twisted.net.proxy.http2.linger import StreamLinger
from pico_twisted.net.proxy.http2.output import Http2Output
from pico_twisted.net.proxy.port import ClientConnection
from pico_twisted.net.proxy.request import HTTP_2, ProxyRequest

WINDOW_BYTES: Final = 64 * 1024
"""What a request may bring before its service took some, at first."""

MOST_WINDOW_BYTES: Final = 1024 * 1024
"""What its window grows to while its service takes it as fast as it comes: 20 MB/s over a round trip of 50 ms."""

PIECE_BYTES: Final = 4 * 1024
"""Smaller pieces that are held are put together: a client may send each byte in a frame of its own."""

HTTP_1_1_NEEDED = "http-1.1-required"
"""The code of a request that has to come over HTTP/1.1, in the access log."""


class Response(enum.Enum):
    """How far the response is."""

    AWAITED = enum.auto()
    BEGUN = enum.auto()
    RAW = enum.auto()  # both directions are those of an upgraded protocol
    ENDED = enum.auto()
    OVER = enum.auto()  # so is the request


_OVER = Response.OVER


class Http2Request(ProxyRequest):
    """A request of HTTP/2.

    Attributes:
        stream: its number.
        output: writes to its client.
        client_ended: the client's stream has ended.
    """

    protocol: ClassVar[str] = HTTP_2

    _window = WINDOW_BYTES
    _took = 0  # since the window grew, or the service did not take it at once
    _pauses: frozenset[str] = frozenset()  # why nothing is given on of what comes
    _response = Response.AWAITED
    _response_fields: WireFields | None = None  # of the response, until something follows them
    _lingers: StreamLinger | None = None  # once it is over, and its client still sends
    _response_trailers: WireFields = ()  # of the response

    def __init__(
        self,
        connection: ClientConnection,
        head: RequestHead,
        account: Account,
        *,
        stream: int,
        output: Http2Output,
        client_ended: bool,
    ) -> None:
        super().__init__(connection, head, account, b"", client_ended or head.upgrade is not None)
        self.stream = stream
        self.output = output
        self.client_ended = client_ended
        self._held: list[bytes] = []

    @property
    def is_over(self) -> bool:
        """Whether it is done; its stream may still be open."""
        return self._response is _OVER

    @property
    def is_upgraded(self) -> bool:
        """Whether both directions are those of an upgraded protocol, and its service has not ended it."""
        return self._response is Response.RAW

    @property
    def is_read(self) -> bool:
        """See `ProxyRequest.is_read`."""
        return not self._pauses

    @property
    def response_waits(self) -> bool:
        """See `ProxyRequest.response_waits`."""
        return self.output.is_stalled(self)

    @property
    def held_bytes(self) -> int:
        """Bytes that came and were not given on."""
        return sum(map(len, self._held))

    def takes_connection(self) -> bool:
        """See `ProxyRequest.takes_connection`: others may use this one, too (RFC 9113 9.1)."""
        self.error = HTTP_1_1_NEEDED
        self._give_up(HTTP_1_1_REQUIRED)
        self.done()
        return False

    # What comes of the client

    def await_answer(self) -> None:
        """What follows the head of an offer to upgrade is of the upgraded protocol: it waits for the answer."""
        self._pauses |= {"answer"}

    def await_place(self) -> None:
        """What follows the head is held until there is a place for the request."""
        self._pauses |= {"place"}
        if self.body:
            self._hold(self.body)
            self.body, self.body_complete = b"", False

    def took_place(self) -> None:
        """There is one: what has come meanwhile has come with the head, unless it waits for the answer."""
        self._pauses -= {"place"}
        if not self._pauses:
            self.body = b"".join(self._held)
            self._held = []
            self.body_complete = self.client_ended

    def _hold(self, data: bytes) -> None:
        held = self._held
        if held and len(held[-1]) < PIECE_BYTES:
            held[-1] += data
        else:
            held.append(data)
        self.output.holds()

    def came(self, data: bytes, ended: bool) -> None:
        """A piece of the request's body, or of the upgraded protocol, perhaps the last."""
        if ended:
            self.client_ended = True
        if self._response is _OVER:
            return
        self.bytes_in += len(data)
        if self._pauses:
            self._hold(data)
        elif self.forward is None:  # it was not given to the resource yet
            self.body += data
            self.body_complete = ended
        else:
            self._give(data)

    def trailers_came(self, fields: WireFields) -> None:
        """The request ends with trailers."""
        try:
            self.trailers = write_block(fields)
        except TrailersError as error:
            self.break_off(bad_request(str(error)))
            return
        self.came(b"", True)

    def _give(self, data: bytes) -> None:
        """Give a piece on, and the end if that has come and nothing is held."""
        forward = self.forward
        if forward is None:
            return
        if data:
            if self.bytes_in > self.most_bytes and self._response is not Response.RAW:
                self.output.consumed(self.stream, len(data))
                self.break_off(self.connection.port.body_too_long())
                return
            forward.body(data)
            self.output.consumed(self.stream, len(data))
            self._took += len(data)
            if self._took >= 2 * self._window and not self._pauses and self._window < MOST_WINDOW_BYTES:
                self._grow()
        if self.client_ended and not self._held and not self._pauses:
            self.body_complete = True
            if self.forward is not None:
                self.forward.trailers(self.trailers) if self.trailers else self.forward.body_ended()

    def _grow(self) -> None:
        """Two windows went on without a pause: the client may have more on its way."""
        self._took = 0
        if self.output.widen(self.stream, self._window):
            self._window *= 2

    def _go_on(self, why: str) -> None:
        """Take back a reason not to give on what comes."""
        if why not in self._pauses:
            return
        self._pauses -= {why}
        while self._held and not self._pauses:
            self._give(self._held.pop(0))
        if self.client_ended and not self._pauses and not self.body_complete:
            self._give(b"")

    def _drop(self) -> None:
        """What is held goes nowhere."""
        held, self._held = self._held, []
        for data in held:
            self.output.consumed(self.stream, len(data))

    def closed(self) -> bool:
        """The stream is over. What has come whole goes on to its service in any case.

        Returns:
            Whether the client gave the request up.
        """
        self.output.closed(self)
        if self._lingers is not None:
            self._lingers.end()
        self.output.spare_bytes += self._window - WINDOW_BYTES
        self._window = WINDOW_BYTES
        if self._response is _OVER or (self._response is Response.ENDED and self.client_ended):
            return False
        self._response, self.client_ended = Response.ENDED, True
        if self.forward is not None:
            self.forward.gone()
        else:
            self.error = self.error or "client-gone"
            self.done()
        return True

    # IDownstream

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on."""
        self.awaits_continue = False
        self.output.interim(self.stream, interim_to_client(head, self.connection.port.via))

    def begin(self, head: ResponseHead) -> None:
        """Send the final head; an agent's own error is told in our words instead."""
        if b"x-pico-error" in head.special and self._is_agent_error(head):
            return
        if self.visitor is not None and self.visitor.offers_ours:
            head = choose_ours(head)
        self._first_byte_at = perf_counter()
        self.status = head.status
        self._response = Response.BEGUN
        self._response_fields = response_to_client(head, self.request_id, self.connection.port.via)
        if head.status == 101:
            self._response = Response.RAW
            self._send(b"", False)
            self._go_on("answer")
        elif self._pauses:
            self._drop_offer()

    def _drop_offer(self) -> None:
        """An offer to upgrade was declined: what follows it is of nothing."""
        if "answer" in self._pauses:
            self._drop()

    def write(self, data: bytes) -> None:
        """Send body bytes, with the head if that waits."""
        if self._agent_error is not None:
            self._agent_error.body(data)
            return
        self.bytes_out += len(data)
        self._send(data, False)

    def write_trailers(self, block: bytes) -> None:
        """Keep the trailers that the response ends with."""
        self._response_trailers = read_block(block)

    def finish(self, data: bytes) -> None:
        """Send the last body bytes: the response is complete."""
        if (error := self._agent_error) is not None:
            error.body(data)
            self._fail_as(error)
            return
        self.bytes_out += len(data)
        self._response = Response.ENDED
        if self._response_trailers:
            self._send(data, False)
            self.output.trailers(self.stream, self._response_trailers)
        else:
            self._send(data, True)

    def _send(self, data: bytes, ended: bool) -> None:
        fields = self._response_fields
        if fields is not None:
            self._response_fields = None
            self.output.respond(self.stream, fields, ended and not data)
            if not data:
                return
        if data or ended:
            self.output.send(self, data, ended)

    def cut(self) -> None:
        """Let the client see that the response is not whole: reset the stream behind what there is.

        A client of gRPC would read another fault of ours in that; it is told that the service is not available.
        """
        if (error := self._agent_error) is not None:
            self._fail_as(error)
            return
        self._send(b"", False)
        if self._response is Response.BEGUN and not self.output.is_stalled(self) and reads_trailers(self.head):
            self.output.trailers(self.stream, grpc_fields(UNAVAILABLE, "the response was cut short"))
            self._response = Response.ENDED
            return
        code = CANCEL if self._response is Response.RAW else INTERNAL_ERROR
        if self.output.is_stalled(self):
            self._give_up(code)
        else:
            self.output.reset_behind(self.stream, code)

    def _answer(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._response = Response.ENDED
        length = b"%d" % len(body)
        if self.head.method == b"HEAD":
            body = b""
        wire = [(b":status", b"%d" % status), *fields, (b"content-length", length), (b"date", date_now())]
        self.output.respond(self.stream, wire, not body)
        if body:
            self.output.send(self, body, True)

    def pause_request(self) -> None:
        """Give on no more of the body."""
        self._took = 0
        self._pauses |= {"request"}

    def resume_request(self) -> None:
        """Go on giving it on."""
        self._go_on("request")

    def stop_request(self) -> None:
        """The rest of the body is not wanted: see `leave`."""

    # Of the output

    def pause_response(self) -> None:
        """As much waits for the client as may wait."""
        if self.forward is not None:
            self.forward.pause()

    def resume_response(self) -> None:
        """There is room again."""
        if self.forward is not None:
            self.forward.resume()

    # The end

    def _give_up(self, code: int) -> None:
        """Reset the stream: nothing more is read of it or written to it."""
        self._response, self.client_ended = Response.ENDED, True
        self.output.reset(self.stream, code)

    def leave(self) -> None:
        """It is over. A client that still sends is told to stop, in a moment (RFC 9113 8.1)."""
        before, self._response = self._response, _OVER
        if self._held:
            self._drop()
        if before is Response.ENDED and not self.client_ended:
            self._lingers = StreamLinger(self.connection.port.settings.sweep, self.output, self.stream)
        elif before is Response.AWAITED:
            self.output.reset(self.stream, CANCEL)

    def break_off(self, error: Http1Error) -> None:
        """See `ProxyRequest.break_off`."""
        if self.status:
            self._give_up(CANCEL)
        else:
            self.fail(error.status, error.message, error.code)
        if self.forward is not None:
            self.forward.gone()
        else:
            self.done()

    def _shut(self, error: str) -> None:
        """See `ProxyRequest.shut`."""
        self.error = error
        self._give_up(CANCEL)
        if self.forward is not None:
            self.forward.gone()
        else:
            self.done()

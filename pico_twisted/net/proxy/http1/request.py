"""One request that came over HTTP/1.1: how its response is framed and written, and whether the connection goes on."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from time import perf_counter
from typing import ClassVar

from pico_twisted.core.http1.answers import whole_answer
from pico_twisted.core.http1.chunked import LAST_CHUNK, encode_chunk, last_chunk
from pico_twisted.core.http1.client_connection import NAME_BYTES
from pico_twisted.core.http1.credentials import choose_ours
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import response_to_client
from pico_twisted.core.http1.head import (
    BY_CLOSE,
    BY_LENGTH,
    IN_CHUNKS,
    NO_BODY,
    RAW,
    Framing,
    RequestHead,
    ResponseHead,
    response_framing,
)
from pico_twisted.core.http1.trailers import cleaned, takes_trailers
from pico_twisted.net.proxy.error_answer import date_now
from pico_twisted.net.proxy.port import Http1Connection
from pico_twisted.net.proxy.request import ProxyRequest, nobody
from pico_twisted.net.socket.end_of_turn import TurnPieces


class Http1Request(ProxyRequest):
    """A request of HTTP/1.1 or 1.0: one after the other on its connection.

    Attributes:
        keep_alive: the connection goes on behind the response.
        pieces: of a response in chunks, that go together at the end of the turn.
    """

    protocol: ClassVar[str] = "HTTP/1.1"

    connection: Http1Connection
    keep_alive = True
    pieces: TurnPieces | None = None
    _framing: Framing = NO_BODY
    _response_head = b""  # of the response, until something follows it
    _last_chunk = LAST_CHUNK

    @property
    def is_read(self) -> bool:
        """See `ProxyRequest.is_read`."""
        return not self.connection.reading_stopped

    @property
    def response_waits(self) -> bool:
        """See `ProxyRequest.response_waits`."""
        return self.connection.held_bytes > 0

    def takes_connection(self) -> bool:
        """See `ProxyRequest.takes_connection`."""
        connection = self.connection
        name = token_hex(NAME_BYTES // 2).encode("ascii")
        connection.peer = connection.peer._replace(connection=name)
        return True

    # IDownstream

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on; HTTP/1.0 clients get none."""
        self.awaits_continue = False
        if self.head.version_11:
            self.connection.send(response_to_client(head, NO_BODY, close=False, via=self.connection.port.via))

    def begin(self, head: ResponseHead) -> None:
        """Send the final head, framed for this client; an agent's own error is told in our words instead."""
        if b"x-pico-error" in head.special and self._is_agent_error(head):
            return
        if self.visitor is not None and self.visitor.offers_ours:
            head = choose_ours(head)
        connection = self.connection
        version_11 = self.head.version_11
        self._first_byte_at = perf_counter()
        self.status = head.status
        framing = BY_LENGTH if head.length is not None else response_framing(head, self.head.method)
        if framing is BY_CLOSE and version_11:
            framing = IN_CHUNKS
        self._framing = framing
        end_of_turn = connection.port.settings.end_of_turn
        if framing is IN_CHUNKS and end_of_turn is not None:
            self.pieces = TurnPieces(end_of_turn, self._send_chunk)
        ends = framing is BY_CLOSE or framing is RAW
        self.keep_alive = self.keep_alive and not ends and self.connection.goes_on()
        self._response_head = response_to_client(
            head,
            framing,
            close=not self.keep_alive,
            request_id=self.request_id,
            via=connection.port.via,
            version_11_client=version_11,
            trailers=b"te" in self.head.special and self._takes_trailers,
        )
        if framing is RAW:
            self._send(b"")  # what was read ahead goes on now, and that may be the end of the request
            self.connection.upgraded()

    def write(self, data: bytes) -> None:
        """Send body bytes, with the head if that waits."""
        if self._agent_error is not None:
            self._agent_error.body(data)
            return
        self.bytes_out += len(data)
        if self._framing is not IN_CHUNKS:
            self._send(data)
        elif self.pieces is not None:
            self.pieces.add(data)
        else:
            self._send_chunk(data)

    def _send_chunk(self, data: bytes) -> None:
        self._send(encode_chunk(data))

    @property
    def _takes_trailers(self) -> bool:
        """Whether the client gets those of the response: it says so, and they have a place."""
        head = self.head
        return self._framing is IN_CHUNKS and takes_trailers(head)

    def write_trailers(self, block: bytes) -> None:
        """Keep the trailers that the response ends with, for a client that takes them."""
        if self._takes_trailers:
            self._last_chunk = last_chunk(cleaned(block))

    def finish(self, data: bytes) -> None:
        """Send the last body bytes: the response is complete."""
        if (error := self._agent_error) is not None:
            error.body(data)
            self._fail_as(error)
            return
        self.bytes_out += len(data)
        if self._framing is IN_CHUNKS:
            if self.pieces is not None:
                data = self.pieces.take() + data
            data = encode_chunk(data) + self._last_chunk
        self._send(data)
        if self._framing is RAW:
            self.connection.end_raw()

    def _send(self, data: bytes) -> None:
        if self._response_head:
            data = self._response_head + data
            self._response_head = b""
        if data:
            self.connection.send(data)

    def cut(self) -> None:
        """Break the connection, so that the client sees that the response is not whole.

        A response that ends with its connection would look whole after a FIN: the client of one gets a reset.
        """
        self.keep_alive = False
        if (error := self._agent_error) is not None:
            self._fail_as(error)
            return
        if self.pieces is not None:
            self.pieces.flush()
        if self._framing in (BY_CLOSE, RAW):
            self.connection.abort()
        else:
            self._send(b"")
            self.connection.linger()

    def _answer(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.keep_alive = self.keep_alive and status != 408 and self.body_complete and self.connection.goes_on()
        head = self.head
        if self.keep_alive and not head.version_11:
            fields = [*fields, (b"connection", b"keep-alive")]
        self.connection.send(
            whole_answer(
                status,
                fields,
                body,
                close=not self.keep_alive,
                head_only=head.method == b"HEAD",
                date=date_now(),
            )
        )

    def pause_request(self) -> None:
        """Read no more of the body."""
        self.connection.pause_reading("request")

    def resume_request(self) -> None:
        """Go on reading the body."""
        self.connection.resume_reading("request")

    def stop_request(self) -> None:
        """The rest of the body is not wanted."""
        self.keep_alive = False

    # The end

    def break_off(self, error: Http1Error) -> None:
        """See `ProxyRequest.break_off`: the connection is closed."""
        self.keep_alive = False
        if self.status:
            self.connection.abort()
            return
        self.fail(error.status, error.message, error.code)
        if self.forward is not None:
            self.forward.gone()
        else:
            self.done()

    def _shut(self, error: str) -> None:
        """See `ProxyRequest.shut`."""
        self.connection.shut(error)


def refuse(connection: Http1Connection, error: Http1Error) -> None:
    """What came is no request: answer, log it, and close."""
    head = RequestHead(b"", b"")
    request = Http1Request(connection, head, nobody(connection), b"", True)
    request.keep_alive = False
    request.fail(error.status, error.message, error.code)
    request.log(None, 0.0)
    connection.linger()

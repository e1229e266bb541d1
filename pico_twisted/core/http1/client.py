"""Responses as they come in on a connection to a service."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.chunked import ChunkedDecoder
from pico_twisted.core.http1.errors import bad_response
from pico_twisted.core.http1.fields import BARE_LINE_ENDS
from pico_twisted.core.http1.head import (
    BY_CLOSE,
    BY_LENGTH,
    END,
    IN_CHUNKS,
    NO_BODY,
    RAW,
    End,
    HeadLimits,
    ResponseHead,
    parse_response_head,
    response_framing,
)
from pico_twisted.core.http1.messages import CHUNKED, DONE, LENGTH, UNTIL_CLOSE, Messages, Step

_STATUS_START: Final = b"HTTP/1."


class ClientConnection(Messages[ResponseHead]):
    """Reads the response to one request after the other.

    Call `expect` when a request is sent, feed it with `receive`, then call `next_event` until it gives None. When the
    service closes its side call `receive_eof`, then `next_event` as before: only then is a body whole that ends with
    the connection, and one that was cut short is an error. A 1xx head is an event, too, and there may be
    any number. Behind the head of a 101 comes
    nothing: the owner calls `take_rest`. Bytes behind a complete response are no error: they only make the connection
    not reusable.

    Attributes:
        most_status: the highest status that is one.
    """

    most_status = 599

    __slots__ = ("_method", "_reusable", "_upgrade")

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits, DONE)
        self._method = b""
        self._upgrade = False
        self._reusable = True

    def expect(self, method: bytes, *, upgrade: bool = True) -> None:
        """A request was sent, and its response comes next.

        Args:
            method: of the request; it decides whether the response has a body.
            upgrade: the request offered an upgrade. When it did not, a 101 is an error.

        Raises:
            RuntimeError: the response before it has not ended.
        """
        self._go(Step.RESPONSE_WANTED)
        self._method = method
        self._upgrade = upgrade

    def receive_eof(self) -> None:
        """The service closed its side: nothing more will be received."""
        self._ended = True
        self._reusable = False

    @property
    def reusable(self) -> bool:
        """Whether the next request may be sent here: the response has ended, the service keeps the connection, and
        not a byte more has come than the response had."""
        return self._reusable and self._state is DONE and len(self._data) == self._at

    def _next_head(self) -> ResponseHead | None:
        scan = self._scan
        raw = self._take_head()
        if raw is None:
            self._judge_partial_head(scan)
            if self._ended:
                raise bad_response("the connection ended before the response")
            return None
        head = parse_response_head(raw, self._limits)
        self.trailers = b""
        status = head.status
        if status > self.most_status:
            raise bad_response(f"status is over {self.most_status}")
        if status < 200 or status == 204:
            self._judge_bodiless(head)
        framing = response_framing(head, self._method)
        if framing is RAW:
            if not self._upgrade:
                raise bad_response("an upgrade that was not asked for")
        elif status < 200:
            return head
        elif framing is BY_LENGTH:
            self._left = head.length or 0
            if not self._left:
                framing = NO_BODY
        elif framing is IN_CHUNKS:
            self._chunks = ChunkedDecoder(self._limits, request=False, connection=head.connection)
        self._reusable = self._reusable and head.keep_alive and framing is not BY_CLOSE
        self._go(framing)
        return head

    def _judge_bodiless(self, head: ResponseHead) -> None:
        """A 1xx or 204 that announces a body may be followed by one: its connection is not to be trusted again."""
        if b"transfer-encoding" in head.by_name or head.by_name.get(b"content-length", b"0") != b"0":
            self._reusable = False

    def _judge_partial_head(self, scan: int) -> None:
        at = self._at
        start = bytes(self._data[at : at + len(_STATUS_START)])
        if start != _STATUS_START[: len(start)]:
            raise bad_response("not an HTTP response")
        if self._ends_bare(scan):
            raise bad_response(BARE_LINE_ENDS)
        if len(self._data) - at > self._limits.head_bytes:
            raise bad_response("head is too large")

    def _judge_eof(self) -> End | None:
        if self._state is UNTIL_CLOSE:
            self._go(Step.EOF)
            return END
        if self._state is LENGTH or self._state is CHUNKED:
            raise bad_response("the connection ended in the middle of the response")
        return None

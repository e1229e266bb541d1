"""Responses as they come in on a connection to a service."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.body import response_body
from pico_twisted.core.http1.chunked import ChunkedDecoder
from pico_twisted.core.http1.errors import Http1Error, bad_response
from pico_twisted.core.http1.head import END, End, HeadLimits, ResponseHead, parse_response_head
from pico_twisted.core.http1.messages import (
    CHUNKED,
    DEAD,
    DONE,
    ENDING,
    HEAD,
    LENGTH,
    UNTIL_CLOSE,
    UPGRADED,
    Messages,
)
from pico_twisted.core.protocol_limits import MAX_INTERIM_HEADS

_STATUS_START: Final = b"HTTP/1."


class ClientConnection(Messages):
    """Reads the response to one request after the other.

    Call `expect` when a request is sent, feed it with `receive`, then call `next_event` until it gives None. When the
    service closes its side call `receive_eof`, then `next_event` as before: only then is a body whole that ends with
    the connection, and one that was cut short is an error.
    """

    __slots__ = ("_ended", "_interim", "_method", "_reusable", "_upgrade")

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits, DONE)
        self._method = b""
        self._upgrade = False
        self._interim = 0
        self._ended = False
        self._reusable = True

    def expect(self, method: bytes, *, upgrade: bool = True) -> None:
        """A request was sent, and its response comes next.

        Args:
            method: of the request; it decides whether the response has a body.
            upgrade: the request offered an upgrade. When it did not, a 101 is an error.

        Raises:
            RuntimeError: the response before it has not ended.
        """
        if self._state is not DONE:
            raise RuntimeError("the response before it has not ended")
        self._method = method
        self._upgrade = upgrade
        self._interim = 0
        self._state = HEAD

    def receive_eof(self) -> None:
        """The service closed its side: nothing more will be received."""
        self._ended = True
        self._reusable = False

    @property
    def reusable(self) -> bool:
        """Whether the next request may be sent here: the response has ended, the service keeps the connection, and
        not a byte more has come than the response had."""
        return self._reusable and self._state is DONE and len(self._data) == self._at

    def next_event(self) -> ResponseHead | bytes | End | None:
        """What came next.

        Returns:
            A head, of an interim response (status under 200) too; a piece of the body, as large as is there; `END` when
            the response is complete; None when more bytes are needed, after `END` until `expect`, and always behind
            the head of a 101, where the owner calls `take_rest`.

        Raises:
            Http1Error: the service broke HTTP, or closed before its response was complete. Raised again by each further
                call. Bytes behind a complete response are no error: they only make the connection not reusable.
        """
        try:
            if self._state is HEAD:
                return self._next_head()
            event = self._next_of_body()
            if event is None and self._ended:
                return self._judge_eof()
            return event
        except Http1Error as fault:
            if self._state is not DEAD:
                self._fail(fault)
            raise

    def _next_head(self) -> ResponseHead | None:
        raw = self._take_head()
        if raw is None:
            self._judge_partial_head()
            if self._ended:
                raise bad_response("the connection ended before the response")
            return None
        head = parse_response_head(raw, self._limits)
        status = head.status
        if status < 200:
            if status == 101:
                if not self._upgrade:
                    raise bad_response("an upgrade that was not asked for")
                self._state = UPGRADED
            else:
                self._interim += 1
                if self._interim > MAX_INTERIM_HEADS:
                    raise bad_response("too many interim responses")
            self._judge_bodiless(head)
            return head
        kind = response_body(head, self._method)
        self._reusable = self._reusable and head.keep_alive
        if kind == "length":
            self._left = head.length or 0
            self._state = LENGTH if head.length else ENDING
        elif kind == "chunked":
            self._chunks = ChunkedDecoder(self._limits, request=False)
            self._state = CHUNKED
        elif kind == "none":
            self._state = ENDING
            self._judge_bodiless(head)
        else:
            self._reusable = False
            self._state = UNTIL_CLOSE
        return head

    def _judge_bodiless(self, head: ResponseHead) -> None:
        """A 1xx or 204 that announces a body may be followed by one: its connection is not to be trusted again."""
        if (head.status < 200 or head.status == 204) and (
            b"transfer-encoding" in head.index or head.index.get(b"content-length", b"0") != b"0"
        ):
            self._reusable = False

    def _judge_partial_head(self) -> None:
        at = self._at
        start = bytes(self._data[at : at + len(_STATUS_START)])
        if start != _STATUS_START[: len(start)]:
            raise bad_response("not an HTTP response")
        if len(self._data) - at > self._limits.head_bytes:
            raise bad_response("head is too large")

    def _judge_eof(self) -> End | None:
        if self._state is UNTIL_CLOSE:
            self._state = DONE
            return END
        if self._state is LENGTH or self._state is CHUNKED:
            raise bad_response("the connection ended in the middle of the response")
        return None


__all__ = ["END", "ClientConnection", "End", "Http1Error", "ResponseHead"]

"""Requests as they come in on a connection: a proxy client's, or the whole message of a v1 call."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.chunked import ChunkedDecoder
from pico_twisted.core.http1.errors import Http1Error, bad_request
from pico_twisted.core.http1.fields import BARE_LINE_ENDS
from pico_twisted.core.http1.head import BY_LENGTH, IN_CHUNKS, NO_BODY, HeadLimits, RequestHead, parse_request_head
from pico_twisted.core.http1.messages import HEAD, Messages, Step
from pico_twisted.core.http1.plain import PLAIN_FOR_NODE
from pico_twisted.core.http1.target import longest_line, read_request_line, refuse_line_start

MAX_EMPTY_LINES: Final = 8
"""Most empty lines passed over before a request line (RFC 9112 2.2): some old clients send one after a body."""

HTTP_2_LINE: Final = b"PRI * HTTP/2.0\r\n"
"""The first line of what a client of HTTP/2 begins with, if it knows that it is spoken here (RFC 9113 3.3)."""


class ServerConnection(Messages[RequestHead]):
    """Reads requests one after the other.

    Feed it with `receive`, then call `next_event` until it gives None. Pipelined requests wait until the one before is
    answered and `next_request` was called. Behind an upgrade and its body the owner either calls `take_rest`, in the
    middle of a body with a length too, or, when the upgrade was not granted, `next_request`. What keeps it bounded
    while a head is incomplete are the limits of a head; for the rest, stop receiving while events are not taken.

    Args:
        limits: of each head.
        http2: the connection may turn out to be one of HTTP/2: see `is_http2`.
    """

    __slots__ = ("_empty_lines", "_http2_line", "_line_read")

    def __init__(self, limits: HeadLimits, http2: bool = False) -> None:
        super().__init__(limits, HEAD)
        self._empty_lines = 0
        self._line_read = False
        self._http2_line = HTTP_2_LINE if http2 else None

    @property
    def is_http2(self) -> bool:
        """Whether the connection began as one of HTTP/2, which is not read here: `take_rest` gives all of it."""
        return self._http2_line is not None and self._data.startswith(self._http2_line)

    def _next_head(self) -> RequestHead | None:
        if len(self._data) == self._at:
            return None
        first = self._data[self._at]
        if first == 0x0D:
            self._pass_empty_lines()
        elif first == 0x50 and self.is_http2:
            return None
        scan = self._scan
        raw = self._take_head()
        if raw is None:
            self._judge_partial_head(scan)
            return None
        head = parse_request_head(raw, self._limits, PLAIN_FOR_NODE)
        self.trailers = b""
        if head.chunked:
            self._chunks = ChunkedDecoder(self._limits, request=True, connection=head.connection)
            self._go(IN_CHUNKS)
        elif head.length:
            self._left = head.length
            self._go(BY_LENGTH)
        else:
            self._go(NO_BODY)
        return head

    def next_request(self) -> None:
        """Read the next request, which may be here already. To be called after `END`, or in its place.

        Raises:
            RuntimeError: a request is still being read.
        """
        self._go(Step.REQUEST_WANTED)
        self._http2_line = None
        self._empty_lines = 0
        self._line_read = False

    def _pass_empty_lines(self) -> None:
        at = self._at
        while self._data.startswith(b"\r\n", at):
            at += 2
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise bad_request("too many empty lines before the request line")
        self._pass(at)

    def _judge_partial_head(self, scan: int) -> None:
        """Refuse at once what more bytes cannot mend."""
        at = self._at
        size = len(self._data) - at
        if not size:
            return
        if not self._line_read:
            longest = longest_line(self._limits.target_bytes)
            start = bytes(self._data[at : at + longest])
            end = start.find(b"\n")
            if end < 0:
                refuse_line_start(start.removesuffix(b"\r"), self._limits.target_bytes)
            else:
                read_request_line(start[:end], self._limits.target_bytes)
                self._line_read = True
        if self._ends_bare(scan):
            raise bad_request(BARE_LINE_ENDS)
        if size > self._limits.head_bytes:
            raise Http1Error(431, "head-too-large", "head is too large")

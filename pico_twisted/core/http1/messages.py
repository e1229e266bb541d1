"""The messages of one connection, in either direction: what `server` and `client` share.

Bytes are held once and given out in order. A message that arrives whole in one piece is not copied; bytes that arrive
one by one, or a hundred megabytes at once, cost time in proportion to their number: the end of a head is looked for
only where the last search stopped, and the bytes in front of the buffer are passed over, not moved.
"""

from __future__ import annotations

import enum
from typing import Final

from pico_twisted.core.http1.chunked import ChunkedDecoder
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, End, HeadLimits

_HEAD_END: Final = b"\r\n\r\n"


class State(enum.Enum):
    """Where in a message the connection is.

    HEAD -> HEAD (1xx of a response), LENGTH, CHUNKED, UNTIL_CLOSE, ENDING (no body) or UPGRADED (101)
    LENGTH, CHUNKED, UNTIL_CLOSE -> ENDING; ENDING -> DONE; DONE -> HEAD (the next message); any -> DEAD
    """

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    ENDING = enum.auto()  # the next event is END
    DONE = enum.auto()  # END was given; nothing more is read until the owner asks for the next message
    UPGRADED = enum.auto()  # what comes is no HTTP
    DEAD = enum.auto()  # the peer broke HTTP, or the bytes were taken away


HEAD = State.HEAD
LENGTH = State.LENGTH
CHUNKED = State.CHUNKED
UNTIL_CLOSE = State.UNTIL_CLOSE
ENDING = State.ENDING
DONE = State.DONE
UPGRADED = State.UPGRADED
DEAD = State.DEAD


class Messages:
    """The bytes received, and how far into a message they have been read."""

    __slots__ = ("_at", "_chunks", "_data", "_fault", "_left", "_limits", "_scan", "_state")

    def __init__(self, limits: HeadLimits, state: State) -> None:
        self._limits = limits
        self._state = state
        self._data: bytes | bytearray = b""
        self._at = 0  # what lies before it was given out
        self._scan = 0  # no head ends before it
        self._left = 0  # of a body with a length
        self._chunks: ChunkedDecoder | None = None
        self._fault: Http1Error | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. Nothing is read of them before `next_event`."""
        held = self._data
        if not held:
            if self._state is not DEAD:
                self._data = data
            return
        at = self._at
        if isinstance(held, bytes):
            held = self._data = bytearray(memoryview(held)[at:])
        elif at:
            del held[:at]
        if at:
            self._at = 0
            self._scan -= at
        held += data

    @property
    def buffered(self) -> int:
        """Bytes received and not given out yet."""
        return len(self._data) - self._at

    @property
    def head_begun(self) -> bool:
        """Whether some bytes of a head are here and the head is not. Empty lines before it do not count."""
        return self._state is HEAD and len(self._data) > self._at and self._data[self._at] != 0x0D

    def take_rest(self) -> bytes:
        """The bytes behind the head of an upgrade, or all that was not given out. Nothing is read after it."""
        rest = bytes(self._data[self._at :])
        self._clear()
        self._state = DEAD
        return rest

    def _clear(self) -> None:
        self._data = b""
        self._at = 0
        self._scan = 0

    def _take_head(self) -> bytes | None:
        """The whole head that begins at `_at`, once it is here and if it is no longer than it may be."""
        data = self._data
        at = self._at
        stop = data.find(_HEAD_END, self._scan, at + self._limits.head_bytes)
        if stop < 0:
            self._scan = max(at, len(data) - 3)
            return None
        stop += 4
        if stop == len(data):
            self._clear()
            return bytes(data) if at == 0 else bytes(data[at:])
        self._at = self._scan = stop
        return bytes(data[at:stop])

    def _take(self, most: int) -> bytes:
        """What is here, up to `most` bytes. Something must be."""
        data = self._data
        at = self._at
        if len(data) - at <= most:
            self._clear()
            return bytes(data) if at == 0 else bytes(data[at:])
        self._at = self._scan = at + most
        return bytes(data[at : at + most])

    def _next_of_body(self) -> bytes | End | None:
        """The next event behind a head; None when there is nothing to say before more arrives."""
        state = self._state
        if state is ENDING:
            self._state = DONE
            return END
        if len(self._data) == self._at:
            if state is DEAD and self._fault is not None:
                raise self._fault
            return None
        if state is LENGTH:
            piece = self._take(self._left)
            self._left -= len(piece)
            if not self._left:
                self._state = ENDING
            return piece
        if state is CHUNKED:
            chunks = self._chunks
            assert chunks is not None
            piece, at = chunks.decode(self._data, self._at)
            if at == len(self._data):
                self._clear()
            else:
                self._at = self._scan = at
            if chunks.done:
                self._chunks = None
                self._state = ENDING
                return piece or self._next_of_body()
            return piece or None
        if state is UNTIL_CLOSE:
            return self._take(len(self._data))
        return None

    def _fail(self, fault: Http1Error) -> None:
        self._clear()
        self._chunks = None
        self._fault = fault
        self._state = DEAD

"""The messages of one connection, in either direction: what `server` and `client` share.

Bytes are held once and given out in order. A message that arrives whole in one piece is not copied; bytes that arrive
one by one, or a hundred megabytes at once, cost time in proportion to their number: the end of a head is looked for
only where the last search stopped, and the bytes in front of the buffer are passed over, not moved.
"""

from __future__ import annotations

import abc
import enum
import re
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from pico_twisted.core.http1.chunked import ChunkedDecoder
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import (
    BY_CLOSE,
    BY_LENGTH,
    END,
    IN_CHUNKS,
    NO_BODY,
    RAW,
    End,
    Framing,
    HeadLimits,
    RequestHead,
    ResponseHead,
)

_HEAD_END: Final = b"\r\n\r\n"
_BARE_END: Final = re.compile(rb"\n\r?\n")

Head = TypeVar("Head", RequestHead, ResponseHead)


class State(enum.Enum):
    """Where in a message the connection is."""

    __hash__ = object.__hash__

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    ENDING = enum.auto()  # the next event is END
    DONE = enum.auto()  # END was given; nothing more is read until the owner asks for the next message
    UPGRADED = enum.auto()  # what comes is no HTTP
    DEAD = enum.auto()  # the peer broke HTTP, or the bytes were taken away


class Step(enum.Enum):
    """What moves a connection on, beside a final head, which does so by the `Framing` of what follows it."""

    __hash__ = object.__hash__

    BODY_READ = enum.auto()  # its last byte was given out
    END_GIVEN = enum.auto()
    REQUEST_WANTED = enum.auto()
    RESPONSE_WANTED = enum.auto()
    EOF = enum.auto()
    BROKEN = enum.auto()  # by the peer
    TAKEN = enum.auto()  # the bytes, by the owner


HEAD = State.HEAD
LENGTH = State.LENGTH
CHUNKED = State.CHUNKED
UNTIL_CLOSE = State.UNTIL_CLOSE
ENDING = State.ENDING
DONE = State.DONE
DEAD = State.DEAD

_ALWAYS: Final[Mapping[Framing | Step, State]] = {Step.BROKEN: DEAD, Step.TAKEN: DEAD}

TRANSITIONS: Final[Mapping[State, Mapping[Framing | Step, State]]] = {
    HEAD: {
        NO_BODY: ENDING,
        BY_LENGTH: LENGTH,
        IN_CHUNKS: CHUNKED,
        BY_CLOSE: UNTIL_CLOSE,
        RAW: State.UPGRADED,
        **_ALWAYS,
    },
    LENGTH: {Step.BODY_READ: ENDING, **_ALWAYS},
    CHUNKED: {Step.BODY_READ: ENDING, **_ALWAYS},
    UNTIL_CLOSE: {Step.EOF: DONE, **_ALWAYS},
    ENDING: {Step.END_GIVEN: DONE, Step.REQUEST_WANTED: HEAD, **_ALWAYS},
    DONE: {Step.REQUEST_WANTED: HEAD, Step.RESPONSE_WANTED: HEAD, **_ALWAYS},
    State.UPGRADED: _ALWAYS,
    DEAD: _ALWAYS,
}
"""Where a connection goes, by where it is and what happens. What is not here does not happen; an owner who asks for it
makes a mistake. An interim head changes nothing."""

_BODY_READ = Step.BODY_READ
_END_GIVEN = Step.END_GIVEN


class Messages(abc.ABC, Generic[Head]):
    """The bytes received, and how far into a message they have been read.

    Attributes:
        trailers: the block of those that the last message ended with, and that go on; empty for none.
    """

    __slots__ = ("_at", "_chunks", "_data", "_ended", "_fault", "_left", "_limits", "_scan", "_state", "trailers")

    def __init__(self, limits: HeadLimits, state: State) -> None:
        self._limits = limits
        self._state = state
        self._data: bytes | bytearray = b""
        self._at = 0  # what lies before it was given out
        self._scan = 0  # no head ends before it
        self._left = 0  # of a body with a length
        self._chunks: ChunkedDecoder | None = None
        self.trailers = b""
        self._ended = False
        self._fault: Http1Error | None = None

    def _go(self, event: Framing | Step) -> None:
        try:
            self._state = TRANSITIONS[self._state][event]
        except KeyError:
            raise RuntimeError(f"{event.name} while the state is {self._state.name}") from None

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
        rest = self._take(len(self._data))
        self._go(Step.TAKEN)
        return rest

    def next_event(self) -> Head | bytes | End | None:
        """What came next.

        Returns:
            A head; a piece of the body, as large as is there; `END` when the message is complete; None when more bytes
            are needed, and after `END` until the owner asks for the next message.

        Raises:
            Http1Error: the peer broke HTTP. Raised again by each further call.
        """
        try:
            if self._state is HEAD:
                return self._next_head()
            event = self._next_of_body()
            if event is None and self._ended:
                return self._judge_eof()
            return event
        except Http1Error as fault:
            self._pass(len(self._data))
            self._chunks = None
            self._fault = fault
            self._go(Step.BROKEN)
            raise

    @abc.abstractmethod
    def _next_head(self) -> Head | None:
        """The head of the next message, once it is here; each role reads its own."""

    def _judge_eof(self) -> End | None:
        """What the end of the peer's bytes means where it comes; nothing, unless a role says otherwise."""
        return None

    def _take_head(self) -> bytes | None:
        """The whole head that begins at `_at`, once it is here and if it is no longer than it may be."""
        stop = self._data.find(_HEAD_END, self._scan, self._at + self._limits.head_bytes)
        if stop < 0:
            self._scan = max(self._at, len(self._data) - 3)
            return None
        return self._take(stop + 4)

    def _ends_bare(self, scan: int) -> bool:
        """Whether the head that has not ended would have, if LF alone ended its lines: its sender waits for us.

        Args:
            scan: where `_take_head` began to look.
        """
        return _BARE_END.search(self._data, scan, self._at + self._limits.head_bytes) is not None

    def _take(self, stop: int) -> bytes:
        """The bytes up to `stop`, or as many of them as are here, which are given out with that."""
        data = self._data
        at = self._at
        if stop >= len(data):
            self._data = b""
            self._at = self._scan = 0
            return bytes(data if at == 0 else data[at:])
        self._at = self._scan = stop
        return bytes(data[at:stop])

    def _pass(self, stop: int) -> None:
        """Nothing of the bytes up to `stop` is given out."""
        if stop == len(self._data):
            self._data = b""
            stop = 0
        self._at = self._scan = stop

    def _next_of_body(self) -> bytes | End | None:
        """The next event behind a head; None when there is nothing to say before more arrives."""
        state = self._state
        if state is ENDING:
            self._go(_END_GIVEN)
            return END
        if len(self._data) == self._at:
            if state is DEAD and self._fault is not None:
                raise self._fault
            return None
        if state is LENGTH:
            piece = self._take(self._at + self._left)
            self._left -= len(piece)
            if not self._left:
                self._go(_BODY_READ)
            return piece
        if state is CHUNKED:
            chunks = self._chunks
            assert chunks is not None
            piece, at = chunks.decode(self._data, self._at)
            self._pass(at)
            if chunks.done:
                self._chunks = None
                self.trailers = chunks.trailers
                self._go(_BODY_READ)
                return piece or self._next_of_body()
            return piece or None
        if state is UNTIL_CLOSE:
            return self._take(len(self._data))
        return None

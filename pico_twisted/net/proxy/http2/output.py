"""What goes to the client of one HTTP/2 connection: gathered in a turn, and held back where the client takes no more.

What can go wrong. A stream whose window is shut holds what its service sent. Its call is paused then, and the others go
on: the engine sends what windows allow. When the transport itself is full nothing is taken from the engine, and all
calls that bring more are paused one after the other; earlier, the more the connection holds already. So a connection
holds a bounded number of bytes, whatever its client does not read.

A stream is to be reset behind what was written to it, and the engine drops what waits when it resets. So such a reset
waits until all has left, the end of the stream included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pico_twisted.core.http2.connection import Http2Connection, StreamGone
from pico_twisted.core.http2.events import Event, WireFields
from pico_twisted.net.socket.end_of_turn import EndOfTurn

WRITE_BYTES: Final = 64 * 1024
"""Most bytes that are taken from the engine for one write: more would only wait in the transport."""

STREAM_HIGH_BYTES: Final = 64 * 1024
"""Bytes of a stream that wait for its window, with which its call is paused: as many as a transport holds."""

STREAM_LOW_BYTES: Final = 16 * 1024
"""Bytes below which it goes on."""

CONNECTION_HIGH_BYTES: Final = 1024 * 1024
"""Bytes that wait on a connection, from which on a call is paused that has `STREAM_LOW_BYTES` waiting."""


SPARE_BYTES: Final = 4 * 1024 * 1024
"""Bytes by which the windows of all requests of a connection may grow together."""


class Writer(Protocol):
    """A stream that is written to.

    Attributes:
        stream: its number.
    """

    stream: int

    def pause_response(self) -> None:
        """As much waits for the client as may wait."""

    def resume_response(self) -> None:
        """There is room again."""


class Http2Output:
    """Writes to one client.

    Args:
        engine: of the connection.
        write: to the transport.
        end_of_turn: of the process; None to write at once.
        happened: is given what sending led to.
        holds: is told when something waits.

    Attributes:
        spare_bytes: by which windows of requests may still grow.
    """

    def __init__(
        self,
        engine: Http2Connection,
        write: Callable[[bytes], None],
        end_of_turn: EndOfTurn | None,
        happened: Callable[[Sequence[Event]], None],
        holds: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._write = write
        self._end_of_turn = end_of_turn
        self._happened = happened
        self.holds = holds
        self.spare_bytes = SPARE_BYTES
        self._due = False  # a flush, at the end of this turn, or we are in one
        self._full = False  # the transport is
        self._wrote: set[Writer] = set()  # since the last flush
        self._stalled: set[Writer] = set()  # they were told to pause
        self._behind: dict[int, int] = {}  # streams to be reset once all has left, with the codes

    # What requests write. A stream that is gone takes nothing: its CLOSED comes, or has come.

    def respond(self, stream: int, fields: WireFields, ended: bool) -> None:
        """Send the final head of a response."""
        try:
            self._engine.respond(stream, fields, ended)
        except StreamGone:
            return
        self.soon()

    def interim(self, stream: int, fields: WireFields) -> None:
        """Send the head of an interim response."""
        try:
            self._engine.interim(stream, fields)
        except StreamGone:
            return
        self.soon()

    def send(self, writer: Writer, data: bytes, ended: bool) -> None:
        """Send a piece of a body."""
        try:
            self._engine.send(writer.stream, data, ended)
        except StreamGone:
            return
        if not ended:
            self._wrote.add(writer)
        self.soon()

    def trailers(self, stream: int, fields: WireFields) -> None:
        """End a stream with trailers."""
        try:
            self._engine.trailers(stream, fields)
        except StreamGone:
            return
        self.soon()

    def reset(self, stream: int, code: int) -> None:
        """Give a stream up, and what waits of it."""
        self._behind.pop(stream, None)
        self._engine.reset(stream, code)
        self.soon()

    def reset_behind(self, stream: int, code: int) -> None:
        """Give a stream up behind what was written to it."""
        self._behind[stream] = code
        self.soon()

    def consumed(self, stream: int, count: int) -> None:
        """A service took bytes of a request."""
        self._engine.consumed(stream, count)
        self.soon()

    def widen(self, stream: int, window: int) -> bool:
        """Have the window of a request grow, whose service takes it as fast as it comes.

        Args:
            stream: of the request.
            window: that it has.

        Returns:
            Whether it has twice that now: that depends on what others have.
        """
        if window > self.spare_bytes:
            return False
        try:
            self._engine.widen(stream, 2 * window)
        except StreamGone:
            return False
        self.spare_bytes -= window
        return True

    # What is known

    def is_stalled(self, writer: Writer) -> bool:
        """Whether a stream was told to pause."""
        return writer in self._stalled

    @property
    def queued_in_all(self) -> int:
        """Bytes of all streams that wait."""
        return self._engine.queued_in_all

    def closed(self, writer: Writer) -> None:
        """A stream is over."""
        self._wrote.discard(writer)
        self._stalled.discard(writer)
        self._behind.pop(writer.stream, None)

    # When it leaves

    def soon(self) -> None:
        """See that what waits leaves with this turn."""
        if self._due:
            return
        self._due = True
        if self._end_of_turn is None:
            self.flush()
        else:
            self._end_of_turn.add(self.flush)

    def received(self) -> None:
        """The client sent something, which may have opened windows or be answered by the engine."""
        if self._engine.wants_to_send or self._stalled or self._behind:
            self.soon()

    def flush(self) -> None:
        """Write what may leave, and pause who wrote too much."""
        self._due = True
        try:
            self._flush()
        finally:
            self._due = False  # else nothing would ever leave again
        if self._engine.queued_in_all:
            self.holds()
        events = self._engine.events_of_sending()
        if events:
            self._happened(events)

    def _flush(self) -> None:
        while True:
            self._move()
            while self._behind and self._reset_those_sent():
                self._move()
            if not (self._wrote or self._stalled) or not self._look_at_writers():
                return  # else those who went on may have written more

    def _move(self) -> None:
        while not self._full:
            data = self._engine.to_send(WRITE_BYTES)
            if data:
                self._write(data)
            if len(data) < WRITE_BYTES:
                return

    def _reset_those_sent(self) -> bool:
        if self._full:
            return False
        sent = [stream for stream in self._behind if self._engine.has_sent(stream)]
        for stream in sent:
            self._engine.reset(stream, self._behind.pop(stream))
        return bool(sent)

    def _look_at_writers(self) -> bool:
        """Pause those that wrote too much, and have others go on. Returns whether there were any of these."""
        wrote, self._wrote = self._wrote, set()
        queued = self._engine.queued
        if wrote:
            high = STREAM_HIGH_BYTES if self.queued_in_all < CONNECTION_HIGH_BYTES else STREAM_LOW_BYTES
            for writer in wrote:
                if writer not in self._stalled and queued(writer.stream) > high:
                    self._stalled.add(writer)
                    writer.pause_response()
        resumed = [one for one in self._stalled if queued(one.stream) <= STREAM_LOW_BYTES]
        for writer in resumed:
            self._stalled.discard(writer)
            writer.resume_response()
        return bool(resumed)

    def hold(self) -> None:
        """The transport is full."""
        self._full = True

    def go_on(self) -> None:
        """The transport has room."""
        self._full = False
        self.flush()

    def flush_all(self) -> None:
        """Write what is left of a connection that ends, whether the transport is full or not."""
        self._full = False
        self._move()
        self._full = True

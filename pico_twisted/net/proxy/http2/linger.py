"""The last moments of a stream that was answered before its client had sent all: that is told to stop.

RFC 9113 8.1 lets a server reset such a stream at once. But the reset may overtake the answer within the client: curl
writes on, finds its stream closed, and reports that instead of the 413 that it was sent. A client that knows the answer
stops by itself, so it gets a moment. What it sends meanwhile is not taken, so it fills the stream's window at most.
"""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http2.events import NO_ERROR
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.proxy.http2.output import Http2Output

CLIENT_STOPS_S: Final = 1.0
"""Seconds that a client gets to stop by itself, once its answer has been written."""


class StreamLinger:
    """Resets a stream, unless its client ends it before.

    Args:
        sweep: the process's coarse timer.
        output: of the connection.
        stream: of which all has been written.

    Attributes:
        deadline: when it is reset.
    """

    __slots__ = ("_output", "_stream", "_sweep", "deadline")

    def __init__(self, sweep: Sweep, output: Http2Output, stream: int) -> None:
        self._sweep = sweep
        self._output = output
        self._stream = stream
        self.deadline = sweep.now + CLIENT_STOPS_S
        sweep.add(self)

    def deadline_passed(self, now: float) -> None:
        """The client had its moment."""
        self.end()
        self._output.reset_behind(self._stream, NO_ERROR)

    def end(self) -> None:
        """The stream is over. Idempotent."""
        self._sweep.discard(self)

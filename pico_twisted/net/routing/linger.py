"""The last moments of a call that was answered before its request had ended: its caller is told to stop.

That must wait until the response has left, for a reset would overtake it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import STOP
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.tunnel.interfaces import ICallee

CALLER_LINGER_S: Final = 10.0
"""Seconds that a caller gets to end a stream by itself that is of no use any more, which it may not know."""


class Linger:
    """Stops the caller of one call, unless it ends its stream by itself.

    Args:
        sweep: the process's coarse timer.
        tunnel, call: we are the callee, and all of the response is queued.
        patience_s: how long the caller may take.
        over: called when nothing more comes of the call; it calls `end`.
    """

    __slots__ = ("_call", "_over", "_sweep", "_tunnel", "_until", "deadline")

    def __init__(self, sweep: Sweep, tunnel: ICallee, call: Call, patience_s: float, over: Callable[[], None]) -> None:
        self._sweep = sweep
        self._tunnel = tunnel
        self._call = call
        self._until = sweep.now + patience_s
        self._over = over
        self.deadline = sweep.now

    def begin(self) -> None:
        """Stop the caller now if that can be, else watch."""
        if self._until <= self._sweep.now and self._call.send_closed:
            self._stop()
        else:
            self._sweep.add(self)

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep while we linger."""
        if self._call.closed:
            self._over()
        elif self._call.send_closed and now >= self._until:
            self._stop()

    def end(self) -> None:
        """Watch no longer. Idempotent."""
        self._sweep.discard(self)

    def _stop(self) -> None:
        self._tunnel.reset(self._call, STOP)
        self._over()

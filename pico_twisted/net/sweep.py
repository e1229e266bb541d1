"""The one coarse timer of a process, for all of its deadlines."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pico_twisted.core.sweep import INTERVAL_S, Sweep

log = Logger()


class ReactorSweep(Sweep):
    """A sweep whose turns the reactor brings.

    Args:
        clock: the reactor, or a `Clock` in tests. One that knows how long what is ready has to wait (`wait_s`) is
            asked.
        interval_s: seconds between two turns.

    Attributes:
        lines: each tells how long what stands in it has to wait. They are asked in each turn.
    """

    def __init__(self, clock: IReactorTime, interval_s: float = INTERVAL_S) -> None:
        super().__init__(clock.seconds(), interval_s)
        self._clock = clock
        self.lines: list[Callable[[], float]] = [getattr(clock, "wait_s", float)]
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._call is None:
            self.begins(self._clock.seconds())
            self._call = self._clock.callLater(self._interval_s, self._turn)

    def stop(self) -> None:
        """End. Idempotent."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _turn(self) -> None:
        self._call = self._clock.callLater(self._interval_s, self._turn)
        self.turn(self._clock.seconds(), max(wait_s() for wait_s in self.lines))
        for task in self.tasks:
            try:
                task(self.now)
            except Exception:
                log.failure("A periodic task failed")
        for item in self.due():
            try:
                item.deadline_passed(self.now)
            except Exception:
                self.discard(item)
                log.failure("A deadline failed")

"""Work that must not be done in one turn of the reactor, for nothing else would go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

log = Logger()


class TurnLine:
    """Work of many kinds that came at once: each piece of it gets a turn of the reactor, one after the other.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._line: dict[Callable[[], object], float] = {}  # with when each joined
        self._waits = False  # for the next turn

    def join(self, work: Callable[[], object]) -> None:
        """Go to the end of the line; what stands in it keeps its place."""
        self._line.setdefault(work, self._clock.seconds())
        self._go_on()

    def wait_s(self) -> float:
        """How long the first has stood in the line, in seconds; 0.0 when there is none."""
        return max(0.0, self._clock.seconds() - next(iter(self._line.values()))) if self._line else 0.0

    def _go_on(self) -> None:
        if self._line and not self._waits:
            self._waits = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._waits = False
        work = next(iter(self._line))
        del self._line[work]
        try:
            work()
        except Exception:
            log.failure("Work in line failed")
        self._go_on()

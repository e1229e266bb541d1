"""Work that must not be done in one turn of the reactor, for nothing else would go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from pico_twisted.net.turn import Sweep

log = Logger()


class TurnLine:
    """Work of many kinds that came at once: each piece of it gets a turn of the reactor, one after the other.

    Args:
        sweep: of the process.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._line: dict[Callable[[], object], None] = {}
        self._waits = False  # for the next turn

    def join(self, work: Callable[[], object]) -> None:
        """Go to the end of the line; what stands in it keeps its place."""
        self._line[work] = None
        self._go_on()

    def _go_on(self) -> None:
        if self._line and not self._waits:
            self._waits = True
            self._sweep.next_turn(self._turn)

    def _turn(self) -> None:
        self._waits = False
        work = next(iter(self._line))
        del self._line[work]
        try:
            work()
        except Exception:
            log.failure("Work in line failed")
        self._go_on()

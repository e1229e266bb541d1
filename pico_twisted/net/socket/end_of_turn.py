"""What one turn of the reactor brings goes on together, at its end: with one write where there would be many."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

log = Logger()


class EndOfTurn:
    """Does what is to be done once the reactor has dispatched the events of a turn.

    Args:
        clock: the reactor. One that knows when it has dispatched them (`at_end_of_turn`) is given the work; for another
            one it is gathered here, behind a timer of no delay. One that knows how long its turn takes
            (`turn_is_long`) is asked.

    Attributes:
        add: calls what it is given once, before the reactor waits again.
        turn_is_long: whether the turn has taken its time: what one read brought that is much work goes on in the next
            one.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []
        self.add: Callable[[Callable[[], None]], object] = getattr(clock, "at_end_of_turn", self._gather)
        self.turn_is_long: Callable[[], bool] = getattr(clock, "turn_is_long", bool)

    def next_turn(self, work: Callable[[], None]) -> None:
        """Have something done when the next turn begins."""
        self._clock.callLater(0, work)

    def _gather(self, work: Callable[[], None]) -> None:
        if not self._waiting:
            self._clock.callLater(0, self._run)
        self._waiting.append(work)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            try:
                work()
            except Exception:
                log.failure("Work at the end of a turn failed")


class TurnPieces:
    """The pieces of a body that one turn of the reactor brings, to go on together: as one chunk where there were few.

    Args:
        end_of_turn: of the process.
        send: takes them, joined, at the end of the turn.
    """

    def __init__(self, end_of_turn: EndOfTurn, send: Callable[[bytes], object]) -> None:
        self._end_of_turn = end_of_turn
        self._send = send
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Keep a piece, perhaps an empty one, until the end of the turn."""
        if not self._pieces:
            self._end_of_turn.add(self.flush)
        self._pieces.append(piece)

    def take(self) -> bytes:
        """What is kept, which will not be sent."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def flush(self) -> None:
        """Send what is kept, now."""
        if self._pieces:
            self._send(self.take())

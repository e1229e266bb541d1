"""How long news take in the gossip simulator: from what happens until each of the others shows it.

A *spread* is one thing that happened to one process, and who is still to show it. Only those count who could: whoever
stops, ends or is cut off meanwhile is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from tests.simulator.node import Process

GIVEN_UP_S: Final = 60.0
"""Who has not shown it by then is counted as missing."""


@attrs.define(eq=False)
class Spread:
    """News that are on their way.

    Attributes:
        kind: for the figures.
        about: whose news.
        status: that is to be shown of it, or None.
        version: of its map that is to be known, or 0.
        began_at: when it happened.
        waiting: who does not show it yet, by number.
        worst_s: how long it took whoever shows it last so far.
    """

    kind: str
    about: Process
    status: str | None
    version: int
    began_at: float
    waiting: dict[int, Process]
    worst_s: float = 0.0


class Spreads:
    """All that is on its way, and how long it took.

    Args:
        calm: says whether two processes could talk since a time.

    Attributes:
        each_s: for each kind, how long it took each of the others.
        last_s: for each kind, how long it took the last of them.
        missing: for each kind, how many never showed it.
    """

    def __init__(self, calm: Callable[[Process, Process, float], bool]) -> None:
        self._calm = calm
        self._about: dict[int, list[Spread]] = {}
        self.each_s: dict[str, list[float]] = {}
        self.last_s: dict[str, list[float]] = {}
        self.missing: dict[str, int] = {}

    def begin(
        self,
        kind: str,
        about: Process,
        others: Iterable[Process],
        now: float,
        *,
        status: str | None = None,
        version: int = 0,
    ) -> None:
        """Something happened to a process, and others are to show it."""
        waiting = {other.number: other for other in others if other is not about}
        if waiting:
            self._about.setdefault(about.number, []).append(Spread(kind, about, status, version, now, waiting))

    def shown(self, about: Process, by: Process, status: str | None, version: int, now: float) -> None:
        """A process shows another with this status, or has its map up to this version."""
        for spread in self._about.get(about.number, ()):
            if spread.status == status if spread.status is not None else version >= spread.version:
                if spread.waiting.pop(by.number, None) is not None and self._could(spread, by):
                    took_s = now - spread.began_at
                    self.each_s.setdefault(spread.kind, []).append(took_s)
                    spread.worst_s = max(spread.worst_s, took_s)
        self._finish(about.number, now)

    def superseded(self, node_id: str, now: float) -> None:
        """A process with an ID started, so nobody will show any more how an earlier one of it ended."""
        for number, spreads in list(self._about.items()):
            if spreads[0].about.node_id == node_id and spreads[0].about.ended_at is not None:
                for spread in spreads:
                    spread.waiting.clear()
                    spread.worst_s = math.inf
                self._finish(number, now)

    def look(self, now: float) -> None:
        """Leave out who cannot show it any more, and give up what takes for ever. To be called now and then."""
        for number in list(self._about):
            for spread in self._about[number]:
                ended = spread.about.ended_at is not None and spread.status not in ("unreachable", "left")
                for other in list(spread.waiting.values()):
                    if ended or not self._could(spread, other):
                        del spread.waiting[other.number]
                if now - spread.began_at > GIVEN_UP_S and spread.waiting:
                    self.missing[spread.kind] = self.missing.get(spread.kind, 0) + len(spread.waiting)
                    spread.waiting.clear()
                    spread.worst_s = math.inf
            self._finish(number, now)

    def _could(self, spread: Spread, other: Process) -> bool:
        return self._calm(other, spread.about, spread.began_at)

    def _finish(self, number: int, now: float) -> None:
        spreads = self._about.get(number)
        if not spreads or all(spread.waiting for spread in spreads):
            return
        for spread in spreads:
            if not spread.waiting and 0 < spread.worst_s < math.inf:
                self.last_s.setdefault(spread.kind, []).append(spread.worst_s)
        self._about[number] = [spread for spread in spreads if spread.waiting]
        if not self._about[number]:
            del self._about[number]

"""What a process refuses that has more work than time: new requests, before anything was done for them.

What is needed. A node that gets too little CPU, or of which clients ask more than it can do, comes late: to its timers,
or to what was sent to it. What is new has cost nothing yet, and may be better served elsewhere or later. So a share of
it is refused, as much as it takes for the rest to be in time.

What can go wrong. One long pause (a suspended machine, a slow disk) is no overload: only turns that are late one after
the other count. All or nothing would swing: everybody is refused, the node is idle, everybody is let in. What is
refused now shows only when those have been answered who stood in line before, a second later: a share that grows for as
long as the node is late grows far too much, and the swing is there again, with periods of ten seconds. So the share
goes by how late the process is, and more by whether that becomes better or worse; a little is always let in, to show
how it goes.
"""

from __future__ import annotations

from typing import Final

LATE_S: Final = 0.5
"""Seconds by which the process is late that count: a hundred times what a busy node needs, and still within what
heartbeats and gossip bear."""
TURNS: Final = 4
"""Late turns in a row from which on something is refused."""
MORE: Final = 0.03
"""By how much the share of what is refused grows with a turn that is late by twice `LATE_S`, or more; if it is late by
less, accordingly less."""
LESS: Final = 0.05
"""By how much it becomes less with a turn that is not late at all."""
CHANGE: Final = 0.3
"""By how much it grows when a turn is later than the one before by `LATE_S`, or becomes less when it is so much less
late: ten times what it grows by itself, so that it stops growing when it is enough."""
MOST: Final = 0.95
"""The largest share."""


class Overload:
    """Judges by how late the process is at the turns of a coarse timer.

    Attributes:
        share: of what is new that is to be refused, from 0 to `MOST`.
    """

    __slots__ = ("_lag_s", "_late_turns", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self._lag_s = 0.0
        self._late_turns = 0

    def turn(self, lag_s: float) -> None:
        """A turn has come, and the process is so many seconds late."""
        late, worse = _at_most_1(lag_s - LATE_S), _at_most_1(lag_s - self._lag_s)
        self._lag_s = lag_s
        self._late_turns = self._late_turns + 1 if late >= 0 else 0
        step = late * (MORE if late > 0 else LESS) + worse * CHANGE
        if step < 0 or self._late_turns >= TURNS:
            self.share = min(MOST, max(0.0, self.share + step))

    def refuses(self, chance: float) -> bool:
        """Whether something new is refused; `chance` is from 0 up to 1."""
        return chance < self.share


def _at_most_1(seconds: float) -> float:
    """Seconds as a part of `LATE_S`, from -1 to 1."""
    return max(-1.0, min(1.0, seconds / LATE_S))

"""What a process refuses that has more work than time: new requests, before anything was done for them.

What is needed. A node that gets too little CPU, or of which clients ask more than it can do, comes late: to its timers,
or to what was sent to it. What is new has cost nothing yet, and may be better served elsewhere or later. So a share of
it is refused, as much as it takes for the rest to be in time.

What can go wrong. One long pause (a suspended machine, a slow disk) is no overload: only turns that are late one after
the other count. All or nothing would swing: everybody is refused, the node is idle, everybody is let in. So the share
grows by steps while turns are late, and becomes less when they are not; a little is always let in, to show how it
goes.
"""

from __future__ import annotations

from typing import Final

LATE_S: Final = 0.5
"""Seconds by which the process is late that count: a hundred times what a busy node needs, and still within what
heartbeats and gossip bear."""
TURNS: Final = 4
"""Late turns in a row from which on something is refused."""
MORE: Final = 0.05
"""By how much the share of what is refused grows with each late turn: by a quarter a second. What is refused now shows
only when those have been answered who stood in line before."""
LESS: Final = 0.05
"""By how much it becomes less with each turn that is not late."""
MOST: Final = 0.95
"""The largest share."""


class Overload:
    """Judges by how late the process is at the turns of a coarse timer.

    Attributes:
        share: of what is new that is to be refused, from 0 to `MOST`.
    """

    __slots__ = ("_late_turns", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self._late_turns = 0

    def turn(self, lag_s: float) -> None:
        """A turn has come, and the process is so many seconds late."""
        if lag_s < LATE_S:
            self._late_turns = 0
            self.share = max(0.0, self.share - LESS)
            return
        self._late_turns += 1
        if self._late_turns >= TURNS:
            self.share = min(MOST, self.share + MORE)

    def refuses(self, chance: float) -> bool:
        """Whether something new is refused; `chance` is from 0 up to 1."""
        return chance < self.share

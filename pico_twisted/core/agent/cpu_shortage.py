"""Whether a process lacks CPU: it has something to do, and does not come to it.

What is needed. A node that gets slow answers from one agent asks it for the cause, before it tells anybody that the
agent is slow: some pages take long, and an agent far away takes long for all. What the agent says has to be true of
the seconds in which those answers were made: from then on it gets little to do, and then it lacks nothing.

What was chosen. Two signs, in the last `KEPT_S` to twice that. One is the time for which the limit of a control group
has stopped the process (that of a container, `CPUQuota=` of a unit): a few milliseconds count, since nothing but a lack
of CPU makes them grow. The other is how late the turns of the coarse timer come, which shows what nobody counts: a
machine that gives its time to others, or that stands still. It counts when it goes on for a tenth of the time.

What was rejected. The time in the run queue (`/proc/self/schedstat`): on a busy machine an agent waits there for
fifteen times as long as it runs, and answers within a few milliseconds all the same. The round trip of heartbeats: with
1 % of a core, and nothing else to do, it is a millisecond.
"""

from __future__ import annotations

from collections import deque
from typing import Final

KEPT_S: Final = 3.0
"""Seconds between two readings that are kept: what is told is of the last one or two spans."""
STOPPED_S: Final = 0.02
"""Seconds for which the limit has to have stopped the process: two and a half times `FLOOR_S` of
`core.routing.latency`, from which on an answer counts as slow."""
LATE_S: Final = 0.025
"""Seconds by which a turn is late that counts: a machine at work is late by less."""
MOST_LATE_S: Final = 0.2
"""Seconds for which one turn counts at most: a process that starts, or was suspended, is late once."""
LATE_SHARE: Final = 0.1
"""What share of the time turns have to be late by, in all."""


class CpuShortage:
    """Judges one process.

    Args:
        now: monotonic seconds.
        stopped_s: for which a limit has stopped the process up to now; what it was before counts for nothing.
    """

    def __init__(self, now: float, stopped_s: float) -> None:
        self._late_s = 0.0
        self._kept = deque([(now, stopped_s, 0.0)], maxlen=2)

    def turn(self, lag_s: float) -> None:
        """A turn of the coarse timer has come, so many seconds later than asked for."""
        if lag_s >= LATE_S:
            self._late_s += min(lag_s, MOST_LATE_S)

    def is_due(self, now: float) -> bool:
        """Whether `keep` is to be called."""
        return now - self._kept[-1][0] >= KEPT_S

    def keep(self, now: float, stopped_s: float) -> None:
        """Keep a reading, from which a span begins."""
        self._kept.append((now, stopped_s, self._late_s))

    def lacked_s(self, now: float, stopped_s: float) -> float:
        """Seconds for which the process lately had something to do and no CPU; 0.0 when it is too little to
        tell of."""
        since, stopped_before_s, late_before_s = self._kept[0]
        stopped_s -= stopped_before_s  # it is less than before where the process has come under another limit
        late_s = self._late_s - late_before_s
        late_s = late_s if late_s >= LATE_SHARE * max(KEPT_S, now - since) else 0.0
        return max(stopped_s if stopped_s >= STOPPED_S else 0.0, late_s)

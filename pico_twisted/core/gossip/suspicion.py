"""How much silence of a node is too much: an accrual failure detector.

After Hayashibara et al., "The phi accrual failure detector" (2004): not a fixed timeout, but how unusual the present
silence is beside the silences that were seen before. A link that loses packets teaches its own patience, and a
quiet one is judged quickly.

What is measured is how old the newest news of a node was whenever newer news came. The mean and the deviation of that
are kept as moving averages: they follow a change of the network within a few dozen rounds and cost two numbers. The
deviation has a lower limit, so that a very regular network does not make one lost packet a death. The paper's phi, a
probability under a normal distribution, rises with the same quantity; the number of deviations is what people can read.
"""

from __future__ import annotations

import math
from typing import Final

UNREACHABLE: Final = 8.0
"""Deviations beyond the mean from which on a node counts as unreachable: 2.1 s at the default interval, when calm."""
SUSPECT: Final = 3.0
"""Deviations beyond the mean from which on a node is asked directly, before it is judged."""
DOUBTFUL: Final = 5.0
"""Deviations beyond the mean from which on more of the others are asked too: perhaps only the way to us is bad."""
MOST_PATIENT: Final = 16.0
"""Longest silence that is suffered whatever was seen before, in intervals. So a dead node is found in bounded time."""
LEAST_DEVIATION: Final = 0.4
"""Smallest deviation, in intervals: how late a process is that waits for its turn on a busy machine."""
WEIGHT: Final = 1 / 16
"""Weight of the newest silence in the averages."""
LONGEST: Final = 10.0
"""Longest silence that is learnt, in intervals; a longer one says nothing of the network, and counts as this long."""


class Accrual:
    """The silences of one node.

    Args:
        interval_s: the expected time between two heartbeats.

    Attributes:
        suspect_s: a silence that long makes the node suspect.
        doubtful_s: and that long, doubtful.
        unreachable_s: and that long, unreachable.
    """

    __slots__ = (
        "_deviation_s",
        "_least_s",
        "_longest_s",
        "_mean_s",
        "_most_s",
        "_variance",
        "doubtful_s",
        "suspect_s",
        "unreachable_s",
    )

    def __init__(self, interval_s: float) -> None:
        self._least_s = LEAST_DEVIATION * interval_s
        self._longest_s = LONGEST * interval_s
        self._most_s = MOST_PATIENT * interval_s
        self._mean_s = interval_s
        self._variance = self._least_s**2
        self._set_limits()

    def observe(self, silence_s: float) -> None:
        """Newer news came, that much later than the news before."""
        silence_s = min(silence_s, self._longest_s)
        off = silence_s - self._mean_s
        self._mean_s += WEIGHT * off
        self._variance = (1 - WEIGHT) * (self._variance + WEIGHT * off * off)
        self._set_limits()

    def value(self, silence_s: float) -> float:
        """The suspicion at a silence that goes on: deviations beyond the mean, 0.0 when there is nothing odd."""
        return max(0.0, (silence_s - self._mean_s) / self._deviation_s)

    def _set_limits(self) -> None:
        # kept, since they are compared with far more often than they change
        deviation_s = self._deviation_s = max(math.sqrt(self._variance), self._least_s)
        self.unreachable_s = min(self._mean_s + UNREACHABLE * deviation_s, self._most_s)
        self.doubtful_s = min(self._mean_s + DOUBTFUL * deviation_s, self.unreachable_s)
        self.suspect_s = min(self._mean_s + SUSPECT * deviation_s, self.unreachable_s)

"""What became of requests at a constant rate: how many were lost, how long they took, when all was as before.

A request has a time at which it is due, whatever the earlier ones do, and its latency counts from then: a client that
waits for an answer before it asks again would hide exactly the seconds in which nothing was answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

REPLAYABLE: Final = ("GET",)
"""The methods that a node may send twice; the load has no bodies."""
RETRY_AFTER: Final = "retry-after "
"""What stands in front of the seconds in the problem of a request that was refused for now."""
NEAR_TIMES: Final = 2.0
"""A p99 is near the baseline's up to so many times of it."""
NEAR_MORE_S: Final = 0.1
"""Or up to so much beyond it: a machine that does something else for a moment is no fault of ours."""


@dataclass(frozen=True)
class Outcome:
    """How one request went.

    Attributes:
        due, ended: monotonic seconds, the same for all processes of a machine.
        method: of the request.
        status: of the answer; 0 when there was none.
        server: who answered, by the body of a 200.
        problem: why there was no answer.
    """

    due: float
    ended: float
    method: str
    status: int
    server: str = ""
    problem: str = ""

    @property
    def lost(self) -> bool:
        """Whether its client got no whole answer of the service."""
        return self.status not in (101, 200) or bool(self.problem)

    @property
    def shed(self) -> bool:
        """Whether a node refused it for now, and said when to come again."""
        return self.status == 503 and RETRY_AFTER in self.problem

    @property
    def replayable(self) -> bool:
        """Whether it could have been sent to another agent or node."""
        return self.method in REPLAYABLE

    @property
    def latency_s(self) -> float:
        """How long its client waited, from when it was due."""
        return self.ended - self.due

    def line(self) -> str:
        """It as a line of a file."""
        fields = (f"{self.due:.6f}", f"{self.ended:.6f}", self.method, str(self.status), self.server, self.problem)
        return "\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields)

    @classmethod
    def read(cls, line: str) -> Outcome:
        """It from such a line."""
        due, ended, method, status, server, problem = line.rstrip("\n").split("\t")
        return cls(float(due), float(ended), method, int(status), server, problem)


def percentile(values: Iterable[float], percent: float) -> float:
    """The least value that at least so many percent are not above (nearest rank); 0.0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def p99_s(outcomes: Iterable[Outcome]) -> float:
    """The 99th percentile of the latencies. What was lost has waited, too."""
    return percentile((one.latency_s for one in outcomes), 99)


def near(baseline_s: float) -> float:
    """Up to which latency a p99 is as it was."""
    return max(baseline_s * NEAR_TIMES, baseline_s + NEAR_MORE_S)


def between(outcomes: Iterable[Outcome], since: float, until: float = math.inf) -> list[Outcome]:
    """Those that were due in a span of time."""
    return [one for one in outcomes if since <= one.due < until]


def back_s(outcomes: Sequence[Outcome], since: float, until: float, baseline_s: float) -> float | None:
    """After how many seconds all is as before.

    Args:
        outcomes: of the run.
        since: from when on requests are looked at, second by second of when they were due.
        until: when that ends.
        baseline_s: the p99 of before.

    Returns:
        The first second from which on, up to the end of the span, no request is lost and the p99 of each second is
        near the baseline; None when the last second is not so.
    """
    good_from: int | None = None
    for second in range(math.ceil(until - since)):
        some = between(outcomes, since + second, min(since + second + 1, until))
        if any(one.lost for one in some) or p99_s(some) > near(baseline_s):
            good_from = None
        elif good_from is None:
            good_from = second
    return None if good_from is None else float(good_from)


@dataclass(frozen=True)
class Seen:
    """What clients saw of one fault.

    Attributes:
        outcomes: of all requests of the run.
        since: when the fault began.
        healed: when it ended; None for one that is over at once, such as a reset.
        ended: when the last request was due.
        begun: when the load had warmed up: what was due from then until the fault is the baseline.
    """

    outcomes: Sequence[Outcome]
    begun: float
    since: float
    healed: float | None
    ended: float

    @property
    def asked(self) -> list[Outcome]:
        """The requests that were due from the fault on."""
        return between(self.outcomes, self.since)

    @property
    def lost(self) -> list[Outcome]:
        """Those of them that were lost."""
        return [one for one in self.asked if one.lost]

    @property
    def lost_replayable(self) -> list[Outcome]:
        """Those that were lost though they could have been sent to another."""
        return [one for one in self.lost if one.replayable]

    @property
    def baseline_p99_s(self) -> float:
        """The p99 of before."""
        return p99_s(between(self.outcomes, self.begun, self.since))

    @property
    def p99_s(self) -> float:
        """The p99 from the fault on."""
        return p99_s(self.asked)

    def p99_after_s(self, seconds: float) -> float:
        """The p99 of what was due so many seconds after the begin of the fault, until its end."""
        return p99_s(between(self.outcomes, self.since + seconds, self.healed or self.ended))

    def worst_s(self, *, replayable: bool = False) -> float:
        """The longest latency, of all or only of those that could have been sent to another."""
        return max((one.latency_s for one in self.asked if one.replayable or not replayable), default=0.0)

    @property
    def back_s(self) -> float | None:
        """From which second of the fault on all is as before, while it lasts."""
        return back_s(self.outcomes, self.since, self.healed or self.ended, self.baseline_p99_s)

    @property
    def healed_s(self) -> float | None:
        """From which second after its end on all is as before."""
        return None if self.healed is None else back_s(self.outcomes, self.healed, self.ended, self.baseline_p99_s)

    def share(self, server: str, after_s: float) -> float:
        """Which part of the requests a server had, 0 to 1, from so many seconds after the begin of the fault to its
        end. One that answered nobody while others did had those that were lost or that took more than a second."""
        some = between(self.outcomes, self.since + after_s, self.healed or self.ended)
        had = [one for one in some if one.server == server or one.lost or one.latency_s > 1.0]
        return len(had) / len(some) if some else 0.0

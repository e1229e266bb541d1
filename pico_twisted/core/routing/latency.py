"""What is seen of one way to an endpoint: how long its calls take to their first byte, and so what a call costs there.

What is needed. Of several ways to an endpoint one may be slow: an agent starved of CPU, a service that hangs, a link
that loses packets. It should get little, from the first slow answer on, and its share when it is well again. Nobody
tells that it is: so it has to be asked again, in small numbers.

What was chosen. The peak of what was seen, which decays (as Finagle and Linkerd balance, "peak EWMA"): a worse answer
counts at once, a better one pulls with a time constant of `DECAY_S`, and so does silence. It is read in *levels*,
powers of two above `FLOOR_S`: whether an answer took two milliseconds or four says nothing, and those that are equally
good are to take turns. A call costs `calls in flight + 1`, doubled for each level. Silence makes only one call cheaper:
while that is on its way, the next ones cost what was last measured (`held`). Where calls wait for longer than they
usually do, and none gets its first byte, the wait counts as if it were an answer (*stalled*): a service that hangs
answers nothing that could be measured.

What can go wrong. Some pages of a service are slow, and whoever served one is given less for half a minute. That is
harmless, since then another one gets them. But nobody should read of it in a log: so what is *named* slow goes by the
mean, and by comparison with the others (`net.routing.standings`).

What was rejected. The mean alone: it needs many slow answers to move. Times of the whole response: a large one is not a
slow one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sized
from typing import Final

DECAY_S: Final = 10.0
"""Seconds in which what was measured fades to a third (1/e), when better answers come, or none."""
FLOOR_S: Final = 0.008
"""Seconds below which all answers are equally good: differences are those of the machine, not of a service."""
MAX_S: Final = 8.0
"""Most seconds that count: what is slower is not used anyway, and should not take minutes to be asked again."""
STALLED_S: Final = 1.0
"""Seconds for which calls have to wait without any first byte, before the wait counts as an answer; and
`STALLED_TIMES` of what is usual."""
SUSPECT_S: Final = 0.25
"""The same where many calls wait, and the next one is about to join them: so a session that was stopped keeps few."""
MANY_CALLS: Final = 8
"""How many that is: fewer are not worth a look."""
STALLED_TIMES: Final = 8.0
"""How many times as long as usual that has to be: some answers take longer than others."""
MAX_LEVEL: Final = int(MAX_S / FLOOR_S).bit_length()
"""The level of `MAX_S`."""
SILENT_LEVEL: Final = MAX_LEVEL + 2
"""The level of a session without a sign of life: nothing is slower."""
SLOW_LEVEL: Final = 5
"""The level, 128 ms, from which on other nodes are considered although an agent of this node serves the endpoint."""
TRIED_LEVEL: Final = 3
"""The level, 32 ms, that it has to fall below, before it is tried again in place of another node."""
FAR_LEVELS: Final = 3
"""How many levels, 8 times, another node has to be better for that."""
REFUSED_S: Final = 0.5
"""What a refusal for want of room counts as, in seconds: others that take milliseconds get all calls for a while."""
FORGET_S: Final = 60.0
"""Seconds without a call, after which nothing is held against a way any more."""


_LEVELS_S: Final = [FLOOR_S * 2**level for level in range(MAX_LEVEL)]
"""From which time to the first byte on each level begins that is not 0."""


def level_of(seconds: float) -> int:
    """The level of a time to the first byte: 0 below `FLOOR_S`, and one more for each doubling."""
    return bisect_right(_LEVELS_S, seconds)


class Latency:
    """What is seen of one way to an endpoint. All times are monotonic seconds.

    Who reads a first byte may leave `answered` out for one below `FLOOR_S` while `held` is 0, and only set
    `answered_at`: that is so for nearly all answers.

    Args:
        endpoint: its ID.
        name: of the agent or node.
        node_id: of the node; empty for an agent of this one.
        calls: those in flight on this way; kept by who makes them.
        unwell: this is in it from its first slow answer on, until it is well. `rest` is to be called about once a
            second for all that are.

    Attributes:
        endpoint, name, node_id, calls: the same.
        level: what the first call costs.
        held: the level that was last measured, which the next ones cost.
        usual_s: the mean time to the first byte, as far as it was measured.
        answered_at: when the last first byte came.
        stalled: calls wait for longer than usual, and none gets its first byte.
    """

    __slots__ = (
        "_peak_s",
        "_rested_at",
        "_unwell",
        "answered_at",
        "calls",
        "endpoint",
        "held",
        "level",
        "name",
        "node_id",
        "stalled",
        "usual_s",
    )

    def __init__(
        self, endpoint: str, name: str, node_id: str, calls: Sized, unwell: dict[Latency, None] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self.node_id = node_id
        self.calls = calls
        self.level = self.held = 0
        self.usual_s = 0.0
        self.answered_at = -math.inf
        self.stalled = False
        self._peak_s = 0.0
        self._rested_at = -math.inf
        self._unwell = unwell

    @property
    def silent(self) -> bool:
        """Its session gives no sign of life."""
        return self.held == SILENT_LEVEL

    @property
    def told_s(self) -> float:
        """What people are told of it: the mean, or the peak where that is more."""
        return max(self.usual_s, self._peak_s)

    @property
    def next_level(self) -> int:
        """The level of the next call, given those in flight."""
        return self.held if self.calls else self.level

    def answered(self, seconds: float, now: float) -> None:
        """A call got its first byte.

        Args:
            seconds: after its request was complete; negative when that is not known.
            now: the time.
        """
        before, self.answered_at = self.answered_at, now
        if seconds < 0.0:
            return
        if seconds > MAX_S:
            seconds = MAX_S
        self.stalled = False
        fading = _fading(now - before)
        self.usual_s = seconds + (self.usual_s - seconds) * fading
        if seconds >= self._peak_s:
            fading = 0.0
        elif before < self._rested_at:
            fading = _fading(now - self._rested_at)
        self._measured(seconds + (self._peak_s - seconds) * fading, now)

    def waits(self, seconds: float, now: float, least_s: float = STALLED_S) -> None:
        """A call has waited that long, since its request was complete and since the last first byte of any call.

        Args:
            seconds: that it has waited.
            now: the time.
            least_s: what does not count yet.
        """
        if self.stalled or seconds > max(least_s, STALLED_TIMES * self.usual_s):
            self.stalled = True
            self._measured(max(self._peak_s, min(seconds, MAX_S)), now)

    def refused(self, now: float) -> None:
        """It had no room for a call, and said so at once: that is no fast answer, and the next calls are better made
        elsewhere."""
        self._measured(max(self._peak_s, REFUSED_S), now)

    def doubt(self, level: int) -> None:
        """Hold a level against a way that nothing is known of, so that one call alone tries it."""
        if self.answered_at == -math.inf:
            self.held = max(self.held, level)

    def silence(self, *, silent: bool) -> None:
        """Its session gives no sign of life, or does so again."""
        if silent:
            self.level = self.held = SILENT_LEVEL
            if self._unwell is not None:
                self._unwell[self] = None
        elif self.silent:
            self.level = self.held = level_of(self._peak_s)

    def rest(self, now: float) -> None:
        """Let silence decay what was measured."""
        since = max(self.answered_at, self._rested_at)
        if self.silent or now <= since:
            return
        if self.stalled and self.calls:
            self._rested_at = now
            return
        self.stalled = False
        self._peak_s *= _fading(now - since)
        self._rested_at = now
        self.level = min(self.level, level_of(self._peak_s))
        if now - self.answered_at > FORGET_S and not self.level and not self.calls:
            self.held = 0
        if not self.held and self._unwell is not None:
            self._unwell.pop(self, None)

    def _measured(self, peak_s: float, now: float) -> None:
        self._peak_s = peak_s
        self._rested_at = now
        if self.held != SILENT_LEVEL:
            self.level = self.held = level_of(peak_s)
            if self.held and self._unwell is not None:
                self._unwell[self] = None


def _fading(seconds: float) -> float:
    """What is left of something measured after so many seconds; all of it when the clock went back."""
    return math.exp(-seconds / DECAY_S) if seconds > 0.0 else 1.0

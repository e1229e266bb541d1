"""Many deadlines, which are looked at together a few times a second.

What is needed: tens of thousands of things, each with a deadline that moves with every byte. A reactor timer for each
would cost more than the bytes do. So a thing keeps its deadline as a plain attribute, and one timer looks at all
of them a few times a second. A deadline is met up to one interval late, which is nothing beside seconds of waiting.

A process that was stopped (SIGSTOP, a suspended machine) must not judge its peers by the time it slept: `Sweep.now`
advances by at most `MAX_STEP_S` a turn, whatever the clock says, so after a pause all deadlines are as far away as
before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, Protocol

INTERVAL_S: Final = 0.2
"""Seconds between two turns: deadlines are met up to that late."""
MAX_STEP_S: Final = 1.0
"""Most seconds by which `Sweep.now` advances in one turn."""
NEVER: Final = math.inf
"""The deadline of an item that has none."""


class Timed(Protocol):
    """Something with a deadline, in seconds of `Sweep.now`; `NEVER` when there is none."""

    deadline: float

    def deadline_passed(self, now: float) -> None:
        """Called each turn for as long as the deadline is in the past: move it, or be discarded."""


class Sweep:
    """Looks at the deadlines of everything that was added to it. It is told the time, and says whom to call;
    `ReactorSweep` of `net/sweep.py` does that.

    Args:
        seconds: what the clock shows.
        interval_s: seconds between two turns.

    Attributes:
        now: in seconds.
        lag_s: by how much the process is late: this turn came so much later than asked for, or what somebody had sent
            was looked at so late.
        tasks: to be called with `now` in each turn, before the deadlines.
    """

    def __init__(self, seconds: float, interval_s: float = INTERVAL_S) -> None:
        self.now = seconds
        self.lag_s = 0.0
        self.tasks: list[Callable[[float], None]] = []
        self._interval_s = interval_s
        self._items: dict[Timed, None] = {}
        self._last = seconds

    def add(self, item: Timed) -> None:
        """Watch the item's deadline. Adding twice is adding once."""
        self._items[item] = None

    def discard(self, item: Timed) -> None:
        """Watch it no longer. Does nothing for an item that is not here."""
        self._items.pop(item, None)

    def each(self, callback: Callable[[float], None]) -> None:
        """Have `callback(now)` called in every turn, before the deadlines."""
        self.tasks.append(callback)

    def begins(self, seconds: float) -> None:
        """Turns come from now on. What was before them is not time that passed.

        Args:
            seconds: what the clock shows.
        """
        self._last = seconds

    def turn(self, seconds: float, waited_s: float) -> None:
        """It is time for a turn: `tasks` are to be called, then those that are `due`.

        Args:
            seconds: what the clock shows.
            waited_s: how long what was sent to the process has to wait until it is looked at.
        """
        step = seconds - self._last
        self._last = seconds
        self.lag_s = max(0.0, step - self._interval_s, waited_s)
        self.now += min(step, MAX_STEP_S)

    def due(self) -> Iterator[Timed]:
        """The items whose deadline has passed, of those that were here when the turn began. Ask for the next one when
        the one before has been called, which may discard others or move their deadlines."""
        now = self.now
        for item in list(self._items):
            if item.deadline <= now and item in self._items:
                yield item

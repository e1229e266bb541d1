"""One coarse timer for many deadlines.

What is needed: tens of thousands of things, each with a deadline that moves with every byte. A reactor timer for each
would cost more than the bytes do. So a thing keeps its deadline as a plain attribute, and one timer looks at all
of them a few times a second. A deadline is met up to one interval late, which is nothing beside seconds of waiting.

A process that was stopped (SIGSTOP, a suspended machine) must not judge its peers by the time it slept: `Sweep.now`
advances by at most `MAX_STEP_S` a turn, whatever the clock says, so after a pause all deadlines are as far away as
before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

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
    """Looks at the deadlines of everything that was added to it.

    Args:
        clock: the reactor, or a `Clock` in tests. One that knows how long what is ready has to wait (`wait_s`) is
            asked.
        interval_s: seconds between two turns.

    Attributes:
        now: in seconds.
        lag_s: by how much the process is late: this turn came so much later than asked for, or what somebody had sent
            was looked at so late.
    """

    def __init__(self, clock: IReactorTime, interval_s: float = INTERVAL_S) -> None:
        self.now: float = clock.seconds()
        self.lag_s = 0.0
        self._clock = clock
        self._wait_s: Callable[[], float] = getattr(clock, "wait_s", float)
        self._interval_s = interval_s
        self._items: dict[Timed, None] = {}
        self._each: list[Callable[[float], None]] = []
        self._call: IDelayedCall | None = None
        self._last = self.now

    def add(self, item: Timed) -> None:
        """Watch the item's deadline. Adding twice is adding once."""
        self._items[item] = None

    def discard(self, item: Timed) -> None:
        """Watch it no longer. Does nothing for an item that is not here."""
        self._items.pop(item, None)

    def each(self, callback: Callable[[float], None]) -> None:
        """Call `callback(now)` in every turn, before the deadlines."""
        self._each.append(callback)

    def next_turn(self, call: Callable[[], object]) -> None:
        """Call something in the next turn of the reactor, behind what is ready now."""
        self._clock.callLater(0, call)

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._call is None:
            self._last = self._clock.seconds()
            self._call = self._clock.callLater(self._interval_s, self._turn)

    def stop(self) -> None:
        """End. Idempotent."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _turn(self) -> None:
        real = self._clock.seconds()
        step = real - self._last
        self._last = real
        self._call = self._clock.callLater(self._interval_s, self._turn)
        self.lag_s = max(0.0, step - self._interval_s, self._wait_s())
        now = self.now = self.now + min(step, MAX_STEP_S)
        for callback in self._each:
            try:
                callback(now)
            except Exception:
                log.failure("A periodic task failed")
        for item in list(self._items):
            if item.deadline <= now and item in self._items:  # an item before it may have discarded it
                try:
                    item.deadline_passed(now)
                except Exception:
                    self._items.pop(item, None)
                    log.failure("A deadline failed")

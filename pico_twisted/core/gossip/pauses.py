"""When this process did not run for a while, which is no other node's fault."""

from __future__ import annotations

from typing import Final

PAUSED: Final = 2.0
"""Intervals by which a tick has to be late to show that the process did not run."""


class Pauses:
    """Whether we slept, and how old what we read may be for that reason.

    Args:
        interval_s: seconds between two rounds.
        now: monotonic seconds.
    """

    def __init__(self, interval_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._slept_s = 0.0
        self._awake_at = now

    def woke(self, late_s: float, now: float) -> bool:
        """A tick came, so many seconds late. Returns whether we slept until then."""
        if late_s <= PAUSED * self._interval_s:
            return False
        self._slept_s = late_s
        self._awake_at = now + self._interval_s
        return True

    def said_at(self, overdue_s: float, now: float) -> float:
        """When a packet that is read now was sent, at the earliest.

        While we are paused packets wait in the socket's buffer, and what they say gets no younger. They are read before
        the timer goes off that is overdue, or soon after it.

        Args:
            overdue_s: by how much the next tick is late.
            now: monotonic seconds.
        """
        if overdue_s > PAUSED * self._interval_s:
            return now - overdue_s
        return now - self._slept_s if now < self._awake_at else now

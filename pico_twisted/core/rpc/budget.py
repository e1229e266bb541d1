"""How many bytes the process may hold for slow peers before it stops promising more."""

from __future__ import annotations

from weakref import WeakSet

from pico_twisted.core.rpc.call import NEAR_WINDOW_BYTES, Call, Stream

SHARE_OF_LARGE = 0.5
"""Largest fraction of the limit that large windows may promise together. Consumers that stop leave here all that their
streams were promised, but they alone, however many, never cause a new call to be refused."""


class Budget:
    """One process's limit on buffered bytes, shared by all its sessions.

    `held` is a sum over what is open, computed a few times a second by its owner, and never kept by adding and
    taking away. While it is at the limit, windows do not grow and new calls are refused.
    """

    __slots__ = ("_large", "full", "held", "limit")

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.held = 0
        self.full = False
        self._large: WeakSet[Call] = WeakSet()

    def measure(self, held_bytes: int) -> None:
        """Take the newest sum."""
        self.held = held_bytes
        self.full = held_bytes >= self.limit

    def allows_growth(self, call: Call) -> bool:
        """Whether this call's window may be doubled; if so, it is taken to be."""
        if self.full:
            return False
        grown = 2 * call.window
        if grown > NEAR_WINDOW_BYTES:
            others = (other for other in self._large if other is not call)
            promised = sum(other.window for other in others if other.receiving is Stream.OPEN)
            if promised + grown > self.limit * SHARE_OF_LARGE:
                return False
            self._large.add(call)
        return True

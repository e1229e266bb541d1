"""How many bytes the process may hold for slow peers before it stops promising more."""

from __future__ import annotations


class Budget:
    """One process's limit on buffered bytes, shared by all its sessions.

    `held` is a sum over what is open, made anew a few times a second by its owner, and never kept by adding and
    taking away. While it is at the limit, windows do not grow and new calls are refused.
    """

    __slots__ = ("full", "held", "limit")

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.held = 0
        self.full = False

    def measure(self, held_bytes: int) -> None:
        """Take the newest sum."""
        self.held = held_bytes
        self.full = held_bytes >= self.limit

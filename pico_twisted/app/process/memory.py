"""What a burst took goes back to the system.

glibc keeps freed memory that lies below anything still in use: after a burst of slow clients a process of 75 MiB stays
at 400 for good, which is memory that nobody else on the machine has. `malloc_trim` returns whole pages from anywhere.
It takes about 10 ms for each 100 MiB, so it is called when the held bytes have fallen by much, and not often.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

LEAST_BYTES: Final = 8 * 1024 * 1024
"""Bytes by which what is held has to have fallen: less than this the next burst needs again."""
AGAIN_S: Final = 5.0
"""Fewest seconds between two returns."""


class Ebb:
    """Notices that the held bytes have fallen.

    Args:
        held: tells how many they are now.
        trim: gives memory back.
    """

    def __init__(self, held: Callable[[], int], trim: Callable[[], object]) -> None:
        self._held = held
        self._trim = trim
        self._highest = 0
        self._at = 0.0

    def look(self, now: float) -> None:
        """Called by the sweep."""
        held = self._held()
        if held >= self._highest:
            self._highest = held
        elif now >= self._at and self._highest - held >= LEAST_BYTES:
            self._highest = held
            self._at = now + AGAIN_S
            self._trim()


def give_memory_back(held: Callable[[], int]) -> Callable[[float], None]:
    """What the sweep is to call in each of its turns; it does nothing where the C library cannot give memory back."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return lambda now: None
    return Ebb(held, lambda: trim(0)).look

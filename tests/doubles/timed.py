"""What a sweep looks at."""

from __future__ import annotations

from collections.abc import Callable

from pico_twisted.core.sweep import NEVER


class Item:
    """Something with a deadline."""

    def __init__(self, deadline: float, then: Callable[[float], None] | None = None) -> None:
        self.deadline = deadline
        self.passed: list[float] = []
        self._then = then

    def deadline_passed(self, now: float) -> None:
        self.passed.append(now)
        if self._then is not None:
            self._then(now)
        else:
            self.deadline = NEVER

"""How long to wait after a failure: longer after each, up to a limit."""

from __future__ import annotations

from typing import Protocol


class Random(Protocol):
    """The source of chance that a back-off draws from; `random.Random` is one."""

    def uniform(self, a: float, b: float, /) -> float: ...


class Backoff:
    """Waits whose ceiling doubles from one failure to the next.

    Args:
        first_s: ceiling of the first wait.
        most_s: ceiling of the longest wait.
        rng: draws each wait from the upper part of what its ceiling allows; None for the ceiling itself.
        jitter: how large that part is: 1.0 draws from nothing to the ceiling, 0.5 from half of it.
    """

    __slots__ = ("_ceiling_s", "_first_s", "_jitter", "_most_s", "_rng")

    def __init__(self, first_s: float, most_s: float, rng: Random | None = None, *, jitter: float = 1.0) -> None:
        self._first_s = self._ceiling_s = first_s
        self._most_s = most_s
        self._rng = rng
        self._jitter = jitter

    def next_s(self) -> float:
        """Return the wait after one more failure."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._most_s)
        return ceiling_s if self._rng is None else self._rng.uniform(ceiling_s * (1.0 - self._jitter), ceiling_s)

    def hold(self, most_s: float) -> None:
        """Lower the ceiling of the next wait, unless it is lower already."""
        self._ceiling_s = min(self._ceiling_s, most_s)

    def reset(self) -> None:
        """Begin again with the first wait."""
        self._ceiling_s = self._first_s

"""Another process with our node ID: is it alive, or what others remember of our last life?

A node that restarts while the others still speak of its last generation hears of itself. When its clock was set back,
that generation is even higher than its own, and no node would believe the new one. But the other may also be a second
process that was started with the same ID by mistake, and then two nodes would take turns at being one.

What tells them apart is whether the other lives on. So it is watched for a while. A heartbeat that was made a second
after the watch began, and a second later than the first that we heard of, can only come from a living process. Hearsay
about a dead one never gets newer than its death, by whichever way and in whatever order it comes. What was silent for
that long before we first heard of it need not be watched.
"""

from __future__ import annotations

from typing import Final

WATCH_S: Final = 3.0
"""Seconds for which the other process is watched before it counts as gone."""
PROOF_S: Final = 1.0
"""Seconds of the other's life that have to be seen before it counts as alive."""


class OwnIdentity:
    """Watches over our own node ID.

    Attributes:
        generation: the one of the other that is watched; None when there is none.
    """

    __slots__ = ("_first_heartbeat", "_since", "_until", "generation")

    def __init__(self) -> None:
        self.generation: int | None = None
        self._first_heartbeat = 0
        self._since = 0.0
        self._until = 0.0

    def heard(self, generation: int, heartbeat: int, alive_at: float, now: float) -> bool:
        """A node spoke of a process with our ID, and a generation that is not lower than ours.

        Args:
            generation: of that process.
            heartbeat: its milliseconds.
            alive_at: when they were that.
            now: monotonic seconds.

        Returns:
            Whether it is certainly alive.
        """
        if self.generation is None or generation > self.generation:
            self.generation = generation
            self._first_heartbeat = heartbeat
            self._since = now
            self._until = now if now - alive_at >= WATCH_S else now + WATCH_S
            return False
        if generation < self.generation:
            return False
        return heartbeat - self._first_heartbeat >= PROOF_S * 1000 and alive_at >= self._since + PROOF_S

    def successor(self, now: float) -> int | None:
        """The generation to take, once the other was silent for long enough."""
        if self.generation is None or now < self._until:
            return None
        taken, self.generation = self.generation + 1, None
        return taken

    def due(self) -> float | None:
        """When to ask for the successor."""
        return None if self.generation is None else self._until

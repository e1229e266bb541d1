"""Another process with our node ID: is it alive, or what others remember of our last life?

A node that restarts while the others still speak of its last generation hears of itself. When its clock was set back,
that generation is even higher than its own, and no node would believe the new one. But the other may also be a second
process with the same ID: one that serves while ours was started by mistake, with a copied configuration, or one that
is about to end while ours takes its place.

What tells them apart is whether the other lives on. So it is watched for a while. A heartbeat that was made a second
after the watch began, and a second later than the first that we heard of, can only come from a living process, and so
does a packet of its own that answers ours. Hearsay about a dead one never gets newer than its death, by whichever way
and in whatever order it comes. What was silent for that long before we first heard of it need not be watched, nor what
said that it left. And what was at our own address cannot be there while our packets to that address come to us.

A node that has its ID hears only of later generations, and gives way to one that lives. A visitor (see `own`) waits
until the other is gone.
"""

from __future__ import annotations

import math
from typing import Final

from pico_twisted.core.gossip.events import Value
from pico_twisted.core.gossip.members import GOSSIP_ADDR, LEFT, STATUS
from pico_twisted.core.gossip.state import Entry

WATCH_S: Final = 3.0
"""Seconds of silence after which the other process counts as gone."""
PROOF_S: Final = 1.0
"""Seconds of the other's life that have to be seen before it counts as alive."""


class OwnIdentity:
    """Watches over our own node ID.

    Attributes:
        generation: the one of the other that is watched; None when there is none.
        alive: whether it is certainly alive.
        uptime_s: how long it had been up when it was heard of last.
    """

    __slots__ = (
        "_alive_at",
        "_first_heartbeat",
        "_said",
        "_since",
        "_until",
        "alive",
        "asked",
        "generation",
        "uptime_s",
    )

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.generation: int | None = None
        self.alive = False
        self.uptime_s = 0.0
        self._first_heartbeat = 0
        self._alive_at = -math.inf
        self._since = 0.0
        self._until = 0.0
        self._said: dict[str, tuple[Value | None, int]] = {}

    def heard(
        self, generation: int, heartbeat: int, age_s: float, said_at: float, now: float, *, from_itself: bool = False
    ) -> None:
        """A node spoke of a process with our ID, and a generation that is not lower than ours.

        Args:
            generation: of that process.
            heartbeat: its milliseconds.
            age_s: seconds since they were that when it was said.
            said_at: when it was said, at the earliest: before now if we did not run for a while.
            now: monotonic seconds.
            from_itself: it was that process, which has proven to be there.
        """
        if self.generation is None or generation > self.generation:
            self._forget()
            self.generation = generation
            self._first_heartbeat = heartbeat
            self._since = now
            self._until = now if age_s >= WATCH_S else now + WATCH_S
        elif generation < self.generation:
            return
        alive_at = said_at - age_s
        if alive_at <= self._alive_at:
            return
        self._alive_at = alive_at
        self.uptime_s = heartbeat / 1000
        shown = heartbeat - self._first_heartbeat >= PROOF_S * 1000 and alive_at >= self._since + PROOF_S
        if shown or from_itself:
            self.alive = True
        if self.alive:
            self._until = max(self._until, alive_at + WATCH_S)

    def heard_entries(self, generation: int, entries: list[Entry]) -> None:
        """A node told entries of the other's map."""
        if generation == self.generation:
            for key, value, version in entries:
                if key in (GOSSIP_ADDR, STATUS) and version >= self._said.get(key, (None, 0))[1]:
                    self._said[key] = value, version

    @property
    def address(self) -> str:
        """Where the other gossips, `host:port`; "" when that is not known."""
        value, _ = self._said.get(GOSSIP_ADDR, ("", 0))
        return value if isinstance(value, str) else ""

    @property
    def left(self) -> bool:
        """Whether the other said that it ends."""
        return self._said.get(STATUS, ("", 0))[0] == LEFT

    def was_here(self) -> None:
        """The other was at our own address, and packets that are sent there come to us: it is gone."""
        self._until = -math.inf

    def is_free(self, now: float) -> bool:
        """Whether there is no other process, or none any more, as far as we heard."""
        return self.generation is None or self.left or now >= self._until

    def successor(self, now: float) -> int | None:
        """The generation to take, once the other was silent for long enough."""
        if self.generation is None or not self.is_free(now):
            return None
        taken = self.generation + 1
        self._forget()
        return taken

    def due(self) -> float:
        """When to look again whether the other is gone; infinite when there is none."""
        return math.inf if self.generation is None else self._until

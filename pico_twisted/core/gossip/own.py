"""This node as the others are told of it: its ID, its generation, its heartbeat and its map.

A process that starts does not know whether its ID is free. Until it does it is a *visitor*: it gossips as generation 0,
below every real one, and says nothing of itself. Where its ID is known, nodes answer a visitor as they answer one whose
life is over: with what they know better, which is that other life. Nobody routes to a visitor, and the process that has
the ID notices nothing. Once the ID turns out to be free the visitor claims it: it takes its generation, and says who it
is. See `identity` for how it finds out, and `Gossip.may_claim` for when it has looked enough.
"""

from __future__ import annotations

from typing import Final

from pico_twisted.core.gossip.events import Conflict, Event, IdInUse, Value
from pico_twisted.core.gossip.identity import OwnIdentity
from pico_twisted.core.gossip.members import LEFT, STATUS
from pico_twisted.core.gossip.packets import Digest
from pico_twisted.core.gossip.state import Entry, VersionedMap
from pico_twisted.core.protocol_limits import MAX_GENERATION

VISITOR: Final = 0
"""The generation of a process that has not claimed its ID. No node is told of it."""

_NOTHING: Final = VersionedMap()


class OwnNode:
    """What we are to the others.

    Args:
        node_id: our ID.
        generation: our generation; `VISITOR` until the ID is claimed.
        began: monotonic seconds of our start.

    Attributes:
        node_id: our ID.
        generation: our generation.
        map: what we say of ourselves once the ID is ours.
        heartbeat: in milliseconds.
        identity: watches for other processes with our ID.
    """

    def __init__(self, node_id: str, generation: int, began: float) -> None:
        self.node_id = node_id
        self.generation = generation
        self.map = VersionedMap()
        self.heartbeat = 1
        self.identity = OwnIdentity()
        self._began = began

    @property
    def claimed(self) -> bool:
        """Whether the ID is ours, and the others may be told of us."""
        return self.generation != VISITOR

    @property
    def told(self) -> VersionedMap:
        """What the others are told: our map, or nothing as long as we are a visitor."""
        return self.map if self.claimed else _NOTHING

    def uptime_ms(self, now: float) -> int:
        """Milliseconds since our start, from 1 on."""
        return int((now - self._began) * 1000) + 1

    def time_of(self, uptime_ms: int) -> float:
        """When we had been up for so long."""
        return self._began + uptime_ms / 1000

    def next_version(self, now: float) -> int:
        """The version of a write that is made now."""
        return max(self.map.version + 1, self.uptime_ms(now))

    def write(self, key: str, value: Value | None, now: float) -> None:
        """Say something of ourselves; None takes it back."""
        self.map.write(key, value, self.next_version(now))

    def tell_alive(self, now: float) -> None:
        """Move our heartbeat: it rises with each round, and shows how long we have been up."""
        self.heartbeat = max(self.heartbeat + 1, self.uptime_ms(now))

    def digest(self) -> Digest:
        """What we say of ourselves in a digest."""
        return (self.node_id, self.generation, self.heartbeat, self.told.version, self.told.floor, 0)

    # Another process with our ID

    def heard(
        self, generation: int, heartbeat: int, age_s: float, said_at: float, now: float, *, from_itself: bool = False
    ) -> Event | None:
        """A process with our ID was heard of that is not us. Returns what our owner has to know.

        The parameters are those of `OwnIdentity.heard`.
        """
        if not max(self.generation, 1) <= generation < MAX_GENERATION or self.map.get(STATUS) == LEFT:
            return None  # an older life, nonsense, or the successor of one that has given the ID away
        identity = self.identity
        was_alive = identity.alive
        identity.heard(generation, heartbeat, age_s, said_at, now, from_itself=from_itself)
        if not identity.alive or was_alive:
            return None
        if self.claimed:
            where = f" at {identity.address}" if identity.address else ""
            return Conflict(
                f"another process{where} has taken the node ID {self.node_id}: set another cluster.node_id on one of "
                "the two"
            )
        return IdInUse(identity.address, identity.uptime_s)

    def heard_entries(self, generation: int, entries: list[Entry]) -> None:
        """Such a process says something of itself."""
        self.identity.heard_entries(generation, entries)

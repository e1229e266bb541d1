"""What one node says of itself: a map whose every write has a version, and that remembers what was deleted.

Only the owner writes; every other node holds a replica that is some prefix, by version, of the owner's writes. That is
what makes a single number enough to say how much of a map a node has: all entries up to that version that still
stand.

A version is the owner's milliseconds since its generation began, or one more than the last when that is higher. So it
rises with each write, and says when the write was made without another field.

Deletes are remembered as tombstones, since a peer that has the key must hear of it. They are dropped in the end, and
the *floor* is the highest version that was dropped so: a replica below the floor may have missed a delete, and must
take the whole map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pico_twisted.core.gossip.events import Value

Entry = tuple[str, Value | None, int]
"""Key, value (None: a tombstone), version."""


class VersionedMap:
    """The writes of one node, as far as they are known here.

    Attributes:
        version: everything up to here is known.
        floor: tombstones up to here are gone.
    """

    __slots__ = ("_dead", "_live", "floor", "version")

    def __init__(self) -> None:
        self.version = 0
        self.floor = 0
        # both in the order of their versions, which is the order of insertion
        self._live: dict[str, tuple[Value, int]] = {}
        self._dead: dict[str, int] = {}

    def get(self, key: str) -> Value | None:
        """The value of a key, or None."""
        found = self._live.get(key)
        return None if found is None else found[0]

    def values(self) -> dict[str, Value]:
        """All keys with their values."""
        return {key: value for key, (value, _) in self._live.items()}

    def versions(self) -> Mapping[str, tuple[Value, int]]:
        """All keys with their values and versions."""
        return self._live

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return len(self._live)

    @property
    def tombstones(self) -> int:
        """How many deletes are remembered."""
        return len(self._dead)

    def write(self, key: str, value: Value | None, version: int) -> None:
        """Make a write: of the owner, or one that was received.

        Args:
            key: what is written.
            value: its new value; None deletes it.
            version: of the write; higher than those before.
        """
        self._live.pop(key, None)
        self._dead.pop(key, None)
        if value is None:
            self._dead[key] = version
        else:
            self._live[key] = (value, version)
        self.version = version

    def since(self, version: int) -> list[Entry]:
        """The entries above a version, in the order of their versions."""
        found: list[Entry] = []
        for key, (value, at) in reversed(self._live.items()):
            if at <= version:
                break
            found.append((key, value, at))
        alive = len(found)
        for key, at in reversed(self._dead.items()):
            if at <= version:
                break
            found.append((key, None, at))
        if 0 < alive < len(found):
            found.sort(key=_version)
        else:
            found.reverse()
        return found

    def before(self, version: int) -> int:
        """The highest version, not above the given one, at which an entry stands; else 0."""
        best = 0
        for _, at in reversed(self._live.values()):
            if at <= version:
                best = at
                break
        for at in reversed(self._dead.values()):
            if at <= version:
                return max(best, at)
        return best

    def raise_floor(self, floor: int) -> None:
        """Forget the tombstones up to a version. For a replica only once it has everything up to there."""
        if floor <= self.floor:
            return
        self.floor = floor
        gone: list[str] = []
        for key, at in self._dead.items():
            if at > floor:
                break
            gone.append(key)
        for key in gone:
            del self._dead[key]

    def old_tombstones(self, before: int, most: int) -> int:
        """The floor at which no tombstone from before a version is left, nor more than `most` in all."""
        floor = self.floor
        excess = len(self._dead) - most
        for position, at in enumerate(self._dead.values()):
            if at >= before and position >= excess:
                break
            floor = at
        return floor

    @classmethod
    def whole(cls, entries: Iterable[Entry], version: int, floor: int) -> VersionedMap:
        """A map as it was received whole.

        Args:
            entries: all of it, in the order of their versions.
            version: up to which it is known.
            floor: up to which deletes are forgotten.

        Raises:
            ValueError: the entries are not in the order of their versions, or above the map's own.
        """
        made = cls()
        for key, value, at in entries:
            if at <= made.version or at > version:
                raise ValueError("entries out of order")
            made.write(key, value, at)
        made.version = version
        made.floor = floor
        return made

    def changes_to(self, later: VersionedMap) -> dict[str, Value | None]:
        """What is different in a later map of the same node, deletes included."""
        changed: dict[str, Value | None] = {}
        for key, (value, at) in later._live.items():
            before = self._live.get(key)
            if before is None or before[1] != at:
                changed[key] = value
        for key in self._live:
            if key not in later._live:
                changed[key] = None
        return changed

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.since(0))

    def _check_invariants(self) -> None:
        """For tests."""
        live = [at for _, at in self._live.values()]
        dead = list(self._dead.values())
        assert live == sorted(live) and dead == sorted(dead)
        assert len({*live, *dead}) == len(live) + len(dead), "one write a version"
        assert not self._live.keys() & self._dead.keys()
        assert all(0 < at <= self.version for at in live + dead)
        assert all(at > self.floor for at in dead)
        assert self.floor <= self.version


def _version(entry: Entry) -> int:
    return entry[2]

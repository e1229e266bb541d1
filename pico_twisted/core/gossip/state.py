"""What one node says of itself: a map whose every write has a version, and that remembers what was deleted.

Only the owner writes; every other node holds a replica that is some prefix, by version, of the owner's writes. That is
what makes a single number enough to say how much of a map a node has: all entries up to that version that still
stand.

A version is the owner's milliseconds since its generation began, or one more than the last when that is higher. So it
rises with each write, and says when the write was made without another field.

Deletes are remembered as tombstones, since a peer that has the key must hear of it. They are dropped in the end, and
the *floor* is the highest version that was dropped so: a replica below the floor may have missed a delete, and must
take the whole map.

A cluster may hold a million endpoints, of which every node knows all. So those are kept by themselves: under their ID
alone, with version and registrations as one number, which is the only place where they are kept (`routing.table` asks
here). The newest are in a dictionary, which is quick, and is most of what is asked for: what is new is told to others.
Where there are many the others are packed, see `packed`: an endpoint in the dictionary takes some 130 bytes, a packed
one 16 and its ID. A node's endpoints are kept apart from those of others, since a whole map then replaces another in
one step, and what is counted of a node is counted of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice, takewhile
from typing import Final, TypeVar

from pico_twisted.core.gossip.events import ENDPOINT, Value
from pico_twisted.core.gossip.packed import MOST_NUMBER, PackedEndpoints

Entry = tuple[str, Value | None, int]
"""Key, value (None: a tombstone), version."""

_ID_AT: Final = len(ENDPOINT)
_VALUE_BITS: Final = 20
"""Bits of a number that say how many registrations there are; those above are the version."""
_VALUE: Final = (1 << _VALUE_BITS) - 1
PACKED_FROM: Final = 1024
"""Endpoints of a node that are not packed yet: in a small cluster none are."""
NEWEST: Final = 128
"""Endpoints that stay in the dictionary when others are packed: rather more than what is told in a second."""
MOST_PACKED: Final = 8192
"""Most endpoints that are packed in one step: some 20 ms on a slow machine. Where there are packed ones, no more than
these are in the dictionary."""
V = TypeVar("V")


class VersionedMap:
    """The writes of one node, as far as they are known here.

    Attributes:
        version: everything up to here is known.
        floor: tombstones up to here are gone.
    """

    __slots__ = ("_dead", "_endpoints", "_live", "_most_new", "_packed", "floor", "version")

    def __init__(self) -> None:
        self.version = 0
        self.floor = 0
        # all in the order of their versions, which is the order of insertion
        self._live: dict[str, tuple[Value, int]] = {}
        self._endpoints: dict[str, int] = {}  # by ID: the newest of them
        self._packed: PackedEndpoints | None = None  # those that are older
        self._most_new = PACKED_FROM
        self._dead: dict[str, int] = {}

    def get(self, key: str) -> Value | None:
        """The value of a key, or None."""
        found = self._live.get(key)
        if found is not None:
            return found[0]
        return self.registrations(key[_ID_AT:]) or None if key.startswith(ENDPOINT) else None

    def registrations(self, endpoint: str) -> int:
        """The registrations of an endpoint; 0 where nothing, or nothing that is a number of some, is said of it."""
        number = self._endpoints.get(endpoint)
        if number is None:
            number = self._packed.get(endpoint) if self._packed is not None else 0
        return number & _VALUE

    def endpoints(self) -> list[str]:
        """The IDs of the endpoints that have registrations."""
        return [endpoint for endpoint, _ in self._all_endpoints()]

    def count_endpoints(self) -> tuple[int, int]:
        """How many endpoints have registrations, and how many those are."""
        packed = () if self._packed is None else self._packed.numbers()
        return self._count_endpoints(), sum([number & _VALUE for number in chain(packed, self._endpoints.values())])

    def _count_endpoints(self) -> int:
        return len(self._endpoints) + (0 if self._packed is None else len(self._packed))

    def _all_endpoints(self) -> Iterable[tuple[str, int]]:
        newest = self._endpoints.items()
        return newest if self._packed is None else chain(self._packed.items(), newest)

    def others(self) -> list[str]:
        """The keys of all but the endpoints."""
        return list(self._live)

    def forgot(self, key: str) -> bool:
        """Whether a key was deleted, as far as that is remembered."""
        return key in self._dead

    def values(self) -> dict[str, Value]:
        """All keys with their values."""
        return {key: value for key, (value, _) in self.versions().items()}

    def versions(self) -> dict[str, tuple[Value, int]]:
        """All keys with their values and versions."""
        held = {ENDPOINT + id: (number & _VALUE, number >> _VALUE_BITS) for id, number in self._all_endpoints()}
        return {**self._live, **held}

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return len(self._live) + self._count_endpoints()

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
        self._put(key, value, version)
        if len(self._endpoints) > self._most_new and self._is_packable:
            self._pack()

    def load(self, entries: Iterable[Entry]) -> None:
        """Make very many writes, of a map that is received whole. `complete` is called behind the last of them."""
        for entry in entries:
            self._put(*entry)

    def complete(self, version: int, floor: int) -> Iterator[None]:
        """All of a map that is received whole is there, up to a version and above a floor: pack it, in steps."""
        self.version, self.floor = version, floor
        while len(self._endpoints) > self._most_new and self._is_packable:
            yield
            self._pack()

    def _put(self, key: str, value: Value | None, version: int) -> None:
        self._dead.pop(key, None)
        endpoint = key[_ID_AT:] if key.startswith(ENDPOINT) else None
        if endpoint is not None and self._endpoints.pop(endpoint, None) is None and self._packed is not None:
            self._packed.discard(endpoint)
        self._live.pop(key, None)
        if value is None:
            self._dead[key] = version
        elif endpoint is not None and type(value) is int and 0 < value <= _VALUE:
            self._endpoints[endpoint] = version << _VALUE_BITS | value
        else:
            self._live[key] = (value, version)
        self.version = version

    @property
    def _is_packable(self) -> bool:
        """Whether no version is too high, as of a clock that is ahead by centuries."""
        return self.version << _VALUE_BITS <= MOST_NUMBER

    def _pack(self, newest: int = NEWEST) -> None:
        """Pack the oldest endpoints: all but the newest, so many, or the most that one step may."""
        most = min(len(self._endpoints) - newest, MOST_PACKED)
        older = dict(islice(self._endpoints.items(), max(0, most)))
        packed = self._packed = PackedEndpoints() if self._packed is None else self._packed
        packed.add(older)
        for endpoint in older:
            del self._endpoints[endpoint]
        if len(self._endpoints) <= newest:
            self._endpoints = dict(self._endpoints)  # which takes no more room than it has to
        self._most_new = min(2 * NEWEST + len(packed) // 32, MOST_PACKED)

    def since(self, version: int) -> Iterator[Entry]:
        """The entries above a version, in the order of their versions, whatever is written meanwhile."""
        newest: list[Entry] = []
        reached = False
        for endpoint, number in reversed(self._endpoints.items()):
            at = number >> _VALUE_BITS
            if at <= version:
                reached = True
                break
            newest.append((ENDPOINT + endpoint, number & _VALUE, at))
        newest.reverse()
        others: list[Entry] = []
        for key, (value, at) in reversed(self._live.items()):
            if at <= version:
                break
            others.append((key, value, at))
        for key, at in reversed(self._dead.items()):
            if at <= version:
                break
            others.append((key, None, at))
        if self._packed is None or reached:
            return iter(sorted(newest + others, key=_version) if others else newest)
        older = map(_entry, self._packed.above(version << _VALUE_BITS | _VALUE))
        return _merged(chain(older, newest), sorted(others, key=_version, reverse=True))

    def count_since(self, version: int) -> int:
        """How many entries stand above a version."""
        if not version:
            return self.keys + self.tombstones
        least = version << _VALUE_BITS | _VALUE
        newest = _count(reversed(self._endpoints.values()), least)
        others = _count((at for _, at in reversed(self._live.values())), version)
        if self._packed is not None and newest == len(self._endpoints):
            newest += self._packed.count_above(least)
        return newest + others + _count(reversed(self._dead.values()), version)

    def before(self, version: int) -> int:
        """The highest version, not above the given one, at which an entry stands; else 0."""
        found = (
            (number >> _VALUE_BITS for number in reversed(self._endpoints.values())),
            (at for _, at in reversed(self._live.values())),
            reversed(self._dead.values()),
        )
        newest, *others = (next((at for at in versions if at <= version), 0) for versions in found)
        if not newest and self._packed is not None:
            newest = self._packed.below(version + 1 << _VALUE_BITS) >> _VALUE_BITS
        return max(newest, *others)

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

    def copy(self) -> VersionedMap:
        """The same map, to be written to without this one."""
        made = VersionedMap()
        made.version, made.floor = self.version, self.floor
        made._live, made._endpoints, made._dead = self._live.copy(), self._endpoints.copy(), self._dead.copy()
        made._packed = None if self._packed is None else self._packed.copy()
        made._most_new = self._most_new
        return made

    def changed_keys(self, later: VersionedMap) -> tuple[list[str], list[str]]:
        """What is different in a later map of the same node, deletes included.

        Returns:
            The keys, without those of endpoints; and the IDs of endpoints.
        """
        endpoints = _changed(dict(self._all_endpoints()), dict(later._all_endpoints()))
        return _changed(self._live, later._live), endpoints

    def __iter__(self) -> Iterator[Entry]:
        return self.since(0)

    def _check_invariants(self) -> None:
        """For tests."""
        live, dead = list(self.versions().values()), list(self._dead.values())
        versions = [at for _, at in live]
        for part in (self._live.values(), [(0, number >> _VALUE_BITS) for number in self._endpoints.values()]):
            assert [at for _, at in part] == sorted(at for _, at in part)
        assert dead == sorted(dead)
        assert len({*versions, *dead}) == len(versions) + len(dead), "one write a version"
        assert not self.versions().keys() & self._dead.keys()
        assert len(live) == self.keys, "a key is held once"
        assert all(0 < at <= self.version for at in versions + dead)
        assert all(at > self.floor for at in dead)
        assert self.floor <= self.version
        if self._packed is not None:
            self._packed._check_invariants()
            older = list(self._packed.above(0))
            assert older == sorted((number, endpoint) for endpoint, number in self._packed.items())
            assert not self._endpoints or not older or older[-1][0] < next(iter(self._endpoints.values()))


def _count(falling: Iterable[int], above: int) -> int:
    """How many numbers are above one; behind the first that is not, there are none."""
    return sum(1 for _ in takewhile(above.__lt__, falling))


def _version(entry: Entry) -> int:
    return entry[2]


def _merged(entries: Iterable[Entry], others: list[Entry]) -> Iterator[Entry]:
    """Entries with some others between them, which are given from the last one on."""
    for entry in entries:
        while others and others[-1][2] < entry[2]:
            yield others.pop()
        yield entry
    yield from reversed(others)


def _entry(packed: tuple[int, str]) -> Entry:
    number, endpoint = packed
    return ENDPOINT + endpoint, number & _VALUE, number >> _VALUE_BITS


def _changed(before: dict[str, V], later: dict[str, V]) -> list[str]:
    if not before:
        return list(later)
    changed = [key for key, held in later.items() if before.get(key) != held]
    return changed + [key for key in before if key not in later]

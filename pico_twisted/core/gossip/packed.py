"""Very many endpoints of one node in few bytes: each as its ID and a number, which rise with the time of the writes.

What is needed. A cluster may hold a million endpoints, and each process of each node knows all of them. Python's own
objects for an ID and a number take some 130 bytes, in a dictionary; here it is 16, and those of the ID. Requests look
endpoints up, so that has to be quick. Changes come all the time, and nothing may hold the process up for long: not when
it grows, nor when the whole of it is asked for in the order of its numbers.

What was chosen. Endpoints lie by the hash of their ID in parts of some `MEAN`, see `linear_hashing`. A part is a text
with all of its IDs and bytes with their numbers, both in the order of the numbers. Finding one is a search in a text
of a few hundred characters, which takes half a microsecond. A part is never changed but replaced, so that a copy of all
is a list, and whoever goes through them sees them as they were when that began. All of them in order is a merge of the
parts. Nothing in them is of those objects that Python's garbage collector looks at, as arrays are.

What was rejected. Columns in the order of the numbers, with a table of positions by hash: half as much again, with
entries that are gone and positions that move. Libraries for tries: they do not change. One table for the maps of all
nodes: a map that is replaced by another would have to be cleared away.

Hashes are those of Python, which nobody outside can foresee (`PYTHONHASHSEED`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import chain
from struct import Struct, pack
from typing import Final

from pico_twisted.core.linear_hashing import LinearHashing

MEAN: Final = 32
"""Endpoints of a part, in the mean. With more of them they take a little less, and to find one a little longer."""
MOST_NUMBER: Final = (1 << 64) - 1
"""The highest number that can be held."""
_END: Final = "\n"
"""Stands around each ID of a part. No ID has one: they are printable."""

Part = tuple[str, bytes]
_unpack_from: Final = Struct("Q").unpack_from


class PackedEndpoints:
    """A map of endpoints to numbers above 0, each higher than those that were added before."""

    __slots__ = ("_count", "_table")

    def __init__(self) -> None:
        self._table: LinearHashing[Part] = LinearHashing(_part([]), _divided)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, endpoint: str) -> int:
        """The number of an endpoint; 0 when it is not here."""
        table = self._table
        ids, numbers = table.parts[table.place(hash(endpoint))]
        at = ids.find(f"{_END}{endpoint}{_END}")
        if at < 0:
            return 0
        number: int = _unpack_from(numbers, 8 * ids.count(_END, 0, at))[0]
        return number

    def add(self, entries: dict[str, int]) -> None:
        """Add endpoints that are not here, in the order of their numbers."""
        table = self._table
        self._count += len(entries)
        while len(table.parts) * MEAN < self._count:
            table.split()
        added: dict[int, list[str]] = {}
        for endpoint in entries:
            added.setdefault(table.place(hash(endpoint)), []).append(endpoint)
        for at, new in added.items():
            ids, numbers = table.parts[at]
            more = pack(f"{len(new)}Q", *[entries[endpoint] for endpoint in new])
            table.parts[at] = f"{ids}{_END.join(new)}{_END}", numbers + more

    def discard(self, endpoint: str) -> None:
        """Take an endpoint away, if it is here."""
        table = self._table
        place = table.place(hash(endpoint))
        ids, numbers = table.parts[place]
        at = ids.find(f"{_END}{endpoint}{_END}")
        if at >= 0:
            position = 8 * ids.count(_END, 0, at)
            table.parts[place] = (
                ids[:at] + ids[at + 1 + len(endpoint) :],
                numbers[:position] + numbers[position + 8 :],
            )
            self._count -= 1

    def copy(self) -> PackedEndpoints:
        """The same, to be changed without this one."""
        made = PackedEndpoints()
        made._table, made._count = self._table.copy(), self._count
        return made

    def items(self) -> Iterator[tuple[str, int]]:
        """All endpoints with their numbers, in no order."""
        return chain.from_iterable(map(_entries, self._table.parts))

    def numbers(self) -> Iterator[int]:
        """All numbers, in no order."""
        return chain.from_iterable(map(_numbers, self._table.parts))

    def above(self, number: int) -> Iterator[tuple[int, str]]:
        """All numbers above one with their endpoints, in their order, whatever is changed meanwhile."""
        return merge(*[_above(part, number) for part in self._table.parts if part[1] and _numbers(part)[-1] > number])

    def count_above(self, number: int) -> int:
        """How many numbers are above one."""
        found = [numbers for numbers in map(_numbers, self._table.parts) if numbers and numbers[-1] > number]
        return sum([len(numbers) - bisect_left(numbers, number + 1) for numbers in found])

    def below(self, number: int) -> int:
        """The highest number below one; 0 when there is none."""
        all_numbers = map(_numbers, self._table.parts)
        return max((numbers[at - 1] for numbers in all_numbers if (at := bisect_left(numbers, number))), default=0)

    def _check_invariants(self) -> None:
        """For tests."""
        assert self._count == len(list(self.items()))
        for at, part in enumerate(self._table.parts):
            entries = list(_entries(part))
            assert part == _part(entries)
            assert list(_numbers(part)) == sorted(number for _, number in entries)
            assert all(self._table.place(hash(endpoint)) == at for endpoint, _ in entries)


def _part(entries: Sequence[tuple[str, int]]) -> Part:
    ids = [entry[0] for entry in entries]
    return _END.join(["", *ids, ""]) if ids else _END, pack(f"{len(ids)}Q", *[entry[1] for entry in entries])


def _ids(part: Part) -> list[str]:
    return part[0][1:-1].split(_END) if part[1] else []


def _numbers(part: Part) -> memoryview:
    return memoryview(part[1]).cast("Q")


def _entries(part: Part) -> Iterator[tuple[str, int]]:
    return zip(_ids(part), _numbers(part), strict=True)


def _above(part: Part, number: int) -> Iterator[tuple[int, str]]:
    numbers = _numbers(part)
    first = bisect_left(numbers, number + 1)
    return zip(numbers[first:], _ids(part)[first:], strict=True)


def _divided(part: Part, bit: int) -> tuple[Part, Part]:
    stays: list[tuple[str, int]] = []
    goes: list[tuple[str, int]] = []
    for entry in _entries(part):
        (goes if hash(entry[0]) & bit else stays).append(entry)
    return _part(stays), _part(goes)

"""Which nodes hold an endpoint, for a million endpoints, in some ten bytes each.

For each endpoint and each node that holds it there is one number of 64 bits: a hash of the endpoint's ID, and below it
the number that the table has given the node. They lie in sorted arrays, by their hash, see `linear_hashing`; so those
of one endpoint stand next to each other. No ID is kept: that is done by the nodes' own maps, which say what is so.

Two IDs with one hash share what is found of them. Then a node is asked whose map does not have the endpoint, which is
all; only where one node holds both and one of them goes, the other is not found there any more. Of a million endpoints
on a hundred nodes that is to be feared once in a million such clusters. Nobody can bring it about: hashes are those of
Python, which nobody outside can foresee (`PYTHONHASHSEED`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

from pico_twisted.core.linear_hashing import LinearHashing

_NODE_BITS: Final = 12
MOST_NODES: Final = 1 << _NODE_BITS
"""Nodes that have numbers at a time: more than twice those that a node takes for members of its cluster."""
_NODE_MASK: Final = MOST_NODES - 1  # the bits of an entry that are the node's number
_HASH_MASK: Final = (1 << 64) - MOST_NODES  # and those that are of the hash
_MOST_IN_PART: Final = 256
"""Most entries of a part: when one has more, the next part in turn is split. What is done to one takes a microsecond,
however full it is."""


class HolderIndex:
    """Numbers of nodes by endpoint."""

    __slots__ = ("_count", "_table")

    def __init__(self) -> None:
        self._table: LinearHashing[array[int]] = LinearHashing(array("Q"), _divided)
        self._count = 0

    def __len__(self) -> int:
        """How many endpoints have holders."""
        return self._count

    def find(self, endpoint: str) -> list[int]:
        """The nodes that hold an endpoint."""
        hashed = hash(endpoint)
        table = self._table
        part = table.parts[table.place(hashed >> _NODE_BITS)]
        at = bisect_left(part, hashed & _HASH_MASK)
        highest = hashed & _HASH_MASK | _NODE_MASK
        found = []
        while at < len(part) and (entry := part[at]) <= highest:
            found.append(entry & _NODE_MASK)
            at += 1
        return found

    def add(self, endpoint: str, node: int) -> None:
        """A node holds an endpoint, which it may have held."""
        part, at, entry = self._look_up(endpoint, node)
        if at == len(part) or part[at] != entry:
            self._count += not _has_another(part, at, entry)
            part.insert(at, entry)
            if len(part) > _MOST_IN_PART:
                self._table.split()

    def discard(self, endpoint: str, node: int) -> None:
        """A node does not hold an endpoint, and may not have held it."""
        part, at, entry = self._look_up(endpoint, node)
        if at < len(part) and part[at] == entry:
            del part[at]
            self._count -= not _has_another(part, at, entry)

    def _look_up(self, endpoint: str, node: int) -> tuple[array[int], int, int]:
        hashed = hash(endpoint)
        part = self._table.parts[self._table.place(hashed >> _NODE_BITS)]
        entry = hashed & _HASH_MASK | node
        return part, bisect_left(part, entry), entry

    def _check_invariants(self) -> None:
        """For tests."""
        entries: set[int] = set()
        for at, part in enumerate(self._table.parts):
            assert list(part) == sorted(set(part))
            assert all(self._table.place(entry >> _NODE_BITS) == at for entry in part)
            entries.update(part)
        assert len({entry & _HASH_MASK for entry in entries}) == self._count


def _has_another(part: array[int], at: int, entry: int) -> bool:
    """Whether the endpoint of an entry has others: they would stand right before or at a position."""
    return (at > 0 and part[at - 1] ^ entry < MOST_NODES) or (at < len(part) and part[at] ^ entry < MOST_NODES)


def _divided(part: array[int], bit: int) -> tuple[array[int], array[int]]:
    bit <<= _NODE_BITS
    return array("Q", [one for one in part if not one & bit]), array("Q", [one for one in part if one & bit])

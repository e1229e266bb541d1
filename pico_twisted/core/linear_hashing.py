"""A hash table that grows by one part at a time, so that nobody ever waits for all of it to be made anew.

Linear hashing (Litwin, 1980): what belongs to a part is told by as many low bits of its hash as it takes to number the
parts, or one bit less where that part is not there yet. When a part is too full, the next one in turn is split in two
by one further bit; each has its turn before the bits are one more. So parts differ in size by about two, besides
chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

P = TypeVar("P")


class LinearHashing(Generic[P]):
    """The parts of such a table.

    Args:
        empty: the first part, with nothing in it.
        divided: given a part and a bit of hashes, what of it has that bit not set, and what has.

    Attributes:
        parts: all of them; whoever changes one puts it in its place.
    """

    __slots__ = ("_divided", "_mask", "parts")

    def __init__(self, empty: P, divided: Callable[[P, int], tuple[P, P]]) -> None:
        self.parts = [empty]
        self._divided = divided
        self._mask = 0

    def place(self, hashed: int) -> int:
        """The position of the part for a hash."""
        at = hashed & self._mask
        return at if at < len(self.parts) else at & (self._mask >> 1)

    def split(self) -> None:
        """Have one more part."""
        parts = self.parts
        if len(parts) > self._mask:
            self._mask = 2 * self._mask + 1
        bit = (self._mask + 1) >> 1
        at = len(parts) - bit
        parts[at], new = self._divided(parts[at], bit)
        parts.append(new)

    def copy(self) -> LinearHashing[P]:
        """Another one with the same parts."""
        made = LinearHashing(self.parts[0], self._divided)
        made.parts = self.parts.copy()
        made._mask = self._mask
        return made

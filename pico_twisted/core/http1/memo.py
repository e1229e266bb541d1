"""What was made of bytes that peers send again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

V = TypeVar("V")


class Memo(dict[bytes, V], Generic[V]):
    """The results of a function of bytes, kept by those bytes: looking one up that is known costs no call.

    Once it is full it keeps what it has. A peer that invents bytes makes new ones slower, never the common ones.

    Args:
        function: what is remembered; when it raises, nothing is.
        most: results kept.
        longest_bytes: longer bytes are rare and are not kept.
        common: kept from the start, whatever comes first.
    """

    def __init__(
        self, function: Callable[[bytes], V], most: int, longest_bytes: int = 64, common: Iterable[bytes] = ()
    ) -> None:
        super().__init__((key, function(key)) for key in common)
        self._function = function
        self._most = most
        self._longest_bytes = longest_bytes

    def __missing__(self, key: bytes) -> V:
        value = self._function(key)
        if len(self) < self._most and len(key) <= self._longest_bytes:
            self[key] = value
        return value

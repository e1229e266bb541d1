"""Which interim heads of a response go on to the caller. RFC 9110 15.2 sets no bound: a service may send any number.

A broken service could send them for ever and as fast as it can. What goes on is therefore bounded by bytes and rate,
what is beyond that is dropped, and the final head goes its way all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pico_twisted.core.rpc.capabilities import INTERIM_HEADS

INTERIM_BYTES: Final = 16 * 1024
"""Most bytes of interim heads that go on at once, or wait for the caller: they must leave room for the final head in
the window."""

BYTES_PER_S: Final = 1024
"""How many bytes of interim heads may follow each second: a progress report of any size, again and again."""

OLD_MOST_HEADS: Final = 16
"""Most interim heads that a caller takes which does not say that it takes any number. It also wants the final head in
one frame, so their bytes are bounded for good."""

_CONTINUE: Final = b"HTTP/1.1 100 "


class InterimHeads:
    """The interim heads of one response.

    Args:
        capabilities: of the caller.
    """

    __slots__ = ("_any_number", "_bytes", "_count", "_continued", "_since")

    def __init__(self, capabilities: Collection[bytes]) -> None:
        self._any_number = INTERIM_HEADS in capabilities
        self._continued = False
        self._count = 0
        self._bytes = 0.0
        self._since = 0.0

    def passes(self, head: bytes, queued: int, now: float) -> bool:
        """Whether a head goes on. The first 100 always does: a client may wait for it with its body.

        Args:
            head: as it would go on.
            queued: bytes of the response that wait for the caller.
            now: in seconds, of any clock.
        """
        if not self._continued and head.startswith(_CONTINUE):
            self._continued = True
            return True
        size = len(head)
        taken = self._bytes
        if self._any_number:
            taken = max(0.0, taken - (now - self._since) * BYTES_PER_S)
        elif self._count >= OLD_MOST_HEADS - 1:
            return False
        if taken + size > INTERIM_BYTES or queued + size > INTERIM_BYTES:
            return False
        self._count += 1
        self._bytes = taken + size
        self._since = now
        return True

"""Challenges: how a sender proves that its address is its own, and that its packet is not an old one.

Each packet carries a challenge, which the receiver gives back in its next packet. It is a keyed hash over the address
and the time, so nothing has to be remembered of who was challenged (the idea of TCP's SYN cookies, RFC 4987 3.6).
The key is drawn at each start, and a challenge is good for one to two minutes.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from pico_twisted.core.gossip.packets import CHALLENGE_BYTES

EPOCH_S: Final = 60.0
"""Seconds of an epoch. A challenge is good in the epoch in which it was given and in the next one."""


class Challenger:
    """Makes and checks challenges.

    Args:
        key: random bytes of this start.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def give(self, address: str, now: float) -> bytes:
        """The challenge for the node at an address."""
        return self._make(int(now // EPOCH_S), address)

    def check(self, echo: bytes, address: str, now: float) -> bool:
        """Whether the node at an address was lately given what is echoed.

        Args:
            echo: what came back.
            address: where it came from.
            now: monotonic seconds.
        """
        if len(echo) != CHALLENGE_BYTES:
            return False
        epoch = int(now // EPOCH_S)
        return hmac.compare_digest(echo, self._make(epoch, address)) or hmac.compare_digest(
            echo, self._make(epoch - 1, address)
        )

    def _make(self, epoch: int, address: str) -> bytes:
        return hashlib.blake2s(b"%d " % epoch + address.encode(), key=self._key, digest_size=CHALLENGE_BYTES).digest()

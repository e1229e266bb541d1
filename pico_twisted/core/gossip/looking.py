"""What a visitor does to find out whether its node ID is free, and when it has looked enough.

It has when a node that has an ID of its own gave it all that it knows, as every node of a running cluster does at once.
Where a whole cluster starts together there is no such node: all are visitors, and wait for one another. So a visitor
that met others, and nobody else, goes on when each seed has turned out to be a visitor or ourselves, or when it has
waited for long enough that each of them was asked again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pico_twisted.core.gossip.members import GOSSIP_ADDR
from pico_twisted.core.gossip.own import OwnNode

AMONG_VISITORS: Final = 1.5
"""Intervals after which a visitor that met only visitors need not wait for any other node."""
MAX_VISITORS: Final = 256
"""Most addresses of other visitors that are kept; further ones are of no interest."""


class Looking:
    """What we see of others while we are a visitor.

    Args:
        own: what we are.
        interval_s: seconds between two rounds.
    """

    def __init__(self, own: OwnNode, interval_s: float) -> None:
        self._own = own
        self._interval_s = interval_s
        self._seeds: frozenset[str] = frozenset()
        self._settled: set[str] = set()
        self._enough_at = math.inf
        self._asked = ""

    def set_seeds(self, seeds: Sequence[str]) -> None:
        """The addresses at which nodes are said to be."""
        self._seeds = frozenset(seeds)

    def met_visitor(self, address: str, now: float) -> None:
        """Another visitor has proven to be at an address."""
        if len(self._settled) < MAX_VISITORS:
            self._settled.add(address)
        self._enough_at = min(self._enough_at, now + AMONG_VISITORS * self._interval_s)

    def met_ourselves(self, address: str) -> None:
        """What we sent to an address came to us, so nobody else is there."""
        if address in self._seeds:
            self._settled.add(address)
        if address == self._own.identity.address == self._own.map.get(GOSSIP_ADDR):
            self._own.identity.was_here()

    def whom_to_ask(self, *, again: bool) -> str:
        """Where the process with our ID is, which knows best whether it is there; "" when it need not be asked now.

        Args:
            again: whether it is asked though it was before.
        """
        address = "" if self._own.claimed else self._own.identity.address
        if address == self._asked and not again:
            return ""
        self._asked = address
        return address

    def is_over(self, now: float, *, knows_the_cluster: bool, alone: bool) -> bool:
        """Whether our ID is free, as far as those know whom we found.

        Args:
            now: monotonic seconds.
            knows_the_cluster: whether a node told us all that it knows.
            alone: whether we know of no node that lives.
        """
        if self._own.claimed or not self._own.identity.is_free(now):
            return False
        met_all = self._enough_at < math.inf and (now >= self._enough_at or self._seeds <= self._settled)
        return knows_the_cluster or (alone and met_all)

    def due(self, now: float) -> float:
        """When it may be over though nothing happens until then; infinite when that cannot be."""
        if self._own.claimed:
            return math.inf
        return min((at for at in (self._enough_at, self._own.identity.due()) if at > now), default=math.inf)

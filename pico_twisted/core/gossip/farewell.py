"""Leaving: every live node is told, and again until it says that it heard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from pico_twisted.core.gossip.members import Member
from pico_twisted.core.gossip.telling import Telling
from pico_twisted.core.gossip.view import View

AGAIN_S: Final = 0.1
"""Seconds after which a node that did not answer is told again that we leave."""


class Farewell:
    """Whether we left, and who knows.

    Args:
        view: what we know.
        telling: packs what is said.
    """

    def __init__(self, view: View, telling: Telling) -> None:
        self._view = view
        self._telling = telling
        self._version = 0
        self._due = math.inf

    @property
    def begun(self) -> bool:
        """Whether we leave."""
        return self._version > 0

    def begin(self, now: float) -> None:
        """We leave: that is written in our map. Of a visitor nobody has to know."""
        self._version = self._view.own.map.version
        self._due = now if self._view.own.claimed else math.inf

    @property
    def told(self) -> bool:
        """Whether we left and every live node knows that."""
        return self.begun and not (self._view.own.claimed and any(True for _ in self._waiting()))

    def due(self) -> float:
        """When to tell those who did not say that they heard; infinite when never."""
        return self._due

    def _waiting(self) -> Iterator[Member]:
        return (member for member in self._view.live() if self._knows(member) < self._version)

    def _knows(self, member: Member) -> int:
        return member.knows[1] if member.knows[0] == self._view.own.generation else 0

    def say(self, room: int, now: float) -> list[tuple[Member, list[bytes]]]:
        """The nodes that have to be told, each with what it lacks of our map and the end of it.

        Args:
            room: bytes of a packet that this may take.
            now: monotonic seconds.
        """
        self._due = now + AGAIN_S
        own = self._view.own
        after = own.map.before(self._version - 1)
        return [
            (member, self._telling.deltas([(own.node_id, self._knows(member)), (own.node_id, after)], room))
            for member in self._waiting()
            if member.address
        ]

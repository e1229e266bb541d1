"""News: changes that are sent at once, beside the rounds, and passed on by those who hear of them first.

A single change is sent after `GATHER_S`, so that others that come with it share its packets. In a cluster that is too
large to tell all of it at once, changes that come all the time are sent `APART_S` apart, and what is passed on of
several nodes shares packets, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pico_twisted.core.gossip import packets
from pico_twisted.core.gossip.channel import PacketChannel
from pico_twisted.core.gossip.members import Member
from pico_twisted.core.gossip.packets import DELTA
from pico_twisted.core.gossip.partners import PUSH_TO, Partners
from pico_twisted.core.gossip.telling import OWN_ITEM_BYTES, Telling
from pico_twisted.core.gossip.view import View

GATHER_S: Final = 0.02
"""Seconds that changes wait for further ones before they are sent."""
APART_S: Final = 0.08
"""Fewest seconds between two times at which news are sent, in a cluster where they are passed on."""


class News:
    """Sends what is new of ourselves, and once what others sent to us.

    Args:
        view: what we know.
        telling: packs it.
        partners: chooses who is told.
        channel: takes the packets.
    """

    def __init__(self, view: View, telling: Telling, partners: Partners, channel: PacketChannel) -> None:
        self._view = view
        self._telling = telling
        self._partners = partners
        self._channel = channel
        self._pushed = 0
        self._at = math.inf
        self._not_before = -math.inf
        self._relays: dict[str, int] = {}  # node ID -> the version from which on its news are passed on

    def due(self) -> float:
        """When `push` is to be called; infinite while there are no news."""
        return self._at

    def wanted(self, at: float) -> None:
        """Have news sent then, or as soon after as they may be."""
        self._at = min(self._at, max(at, self._not_before))

    def taken_up(self) -> None:
        """What was due is seen to: nothing is, until it is wanted again."""
        self._at = math.inf

    def pass_on(self, node_id: str, after: int) -> None:
        """Send the entries of a node above a version to others, with the next news."""
        self._relays.setdefault(node_id, after)

    def begin_again(self, now: float) -> None:
        """Send all of our own map: we go on as another generation."""
        self._pushed = 0
        self._at = now

    def push(self, now: float) -> None:
        """Send what is new."""
        view, partners, room = self._view, self._partners, self._channel.room - 2 * OWN_ITEM_BYTES
        own, live = view.own, partners.reachable()
        if len(live) > PUSH_TO and (own.told.version > self._pushed or self._relays):
            self._not_before = now + APART_S
        if own.told.version > self._pushed and live:
            targets = partners.of_news(live)
            for packed in self._telling.news(own.node_id, own.generation, own.told, self._pushed, room):
                self._send(targets, [packed], [], now, hops=1 if targets is live else 0)
        self._pushed = own.told.version
        if self._relays and live:
            self._pass_on(live, now)
        self._relays = {}

    def _pass_on(self, live: list[Member], now: float) -> None:
        """Send what is new of others, as much of it in each packet as fits."""
        targets = self._partners.of_news(live)
        digest: list[bytes] = []
        deltas: list[bytes] = []
        room = self._channel.room - OWN_ITEM_BYTES
        left = room
        for node_id, after in self._relays.items():
            member = self._view.members.get(node_id)
            if member is None or targets == [member]:
                continue
            item = packets.pack_item(member.digest(now))
            most = room - len(item)
            for packed in self._telling.fresh(node_id, member.generation, member.map, after, most):
                if len(item) + len(packed) > left:
                    self._send(targets, deltas, digest, now, hops=1)
                    digest, deltas, left = [], [], room
                digest.append(item)
                deltas.append(packed)
                left -= len(item) + len(packed)
        if deltas:
            self._send(targets, deltas, digest, now, hops=1)

    def _send(
        self, targets: Sequence[Member], deltas: list[bytes], others: list[bytes], now: float, *, hops: int
    ) -> None:
        digest = self._telling.own_digest() + others
        for target in targets:
            self._channel.send(DELTA, target.address, target, now, hops=hops, digest=digest, deltas=deltas)

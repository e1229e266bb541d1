"""News: changes that are sent at once, beside the rounds, and passed on by those who hear of them first.

A single change is sent after `GATHER_S`, so that others that come with it share its packets. In a cluster that is too
large to tell all of it at once, changes that come all the time are sent `APART_S` apart, and what is passed on of
several nodes shares packets, too.

Several nodes may be workers of one host. News cross the network to one of them, who tells the others over loopback, so
that they cost the network and whoever sends them as much as a cluster with one node a host. All choose the same worker
of a host: what that one has to pass on, to its siblings and to other hosts, comes from many nodes and shares packets;
spread over four workers it would be four times as many packets. What can go wrong: that worker is dead, or lies about
its host, and passes nothing on. Then the others hear of news by the rounds, which know no hosts and bring everything;
and one that is silent is not chosen for longer than its usual silences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
        # node ID -> the version from which on its news are passed on, and whether to other hosts, too
        self._relays: dict[str, tuple[int, bool]] = {}

    def due(self) -> float:
        """When `push` is to be called; infinite while there are no news."""
        return self._at

    def wanted(self, at: float) -> None:
        """Have news sent then, or as soon after as they may be."""
        self._at = min(self._at, max(at, self._not_before))

    def taken_up(self) -> None:
        """What was due is seen to: nothing is, until it is wanted again."""
        self._at = math.inf

    def pass_on(self, node_id: str, after: int, now: float, *, first_hand: bool) -> None:
        """Send entries to others, with the next news.

        Args:
            node_id: of the node that they are of.
            after: the version above which they are new.
            now: monotonic seconds.
            first_hand: they came from that node itself: other hosts are to be told, not only workers of ours.
        """
        if first_hand or self._partners.has_siblings:
            known, to_hosts = self._relays.get(node_id, (after, False))
            self._relays[node_id] = min(after, known), first_hand or to_hosts
            self.wanted(now + GATHER_S)

    def begin_again(self, now: float) -> None:
        """Send all of our own map: we go on as another generation."""
        self._pushed = 0
        self._at = now

    def push(self, now: float) -> None:
        """Send what is new."""
        view, partners, room = self._view, self._partners, self._channel.room - 2 * OWN_ITEM_BYTES
        own, live = view.own, partners.reachable()
        hosts, siblings = live, list[Member]()
        if len(live) > PUSH_TO:
            hosts, siblings = partners.hosts(live, now), partners.siblings(live)
            if own.told.version > self._pushed or self._relays:
                self._not_before = now + APART_S
        if own.told.version > self._pushed and live:
            targets = partners.some(hosts)
            for packed in self._telling.news(own.node_id, own.generation, own.told, self._pushed, room):
                self._send(targets, [packed], [], now, hops=1 if targets is live else 0)
                self._send(siblings, [packed], [], now, hops=1)
        self._pushed = own.told.version
        if self._relays:
            relays = list(self._packed_relays(now))
            if len(hosts) > 1:
                self._pass(partners.some(hosts), [one for to_hosts, *one in relays if to_hosts], now, hops=0)
            self._pass(siblings, [one for _, *one in relays], now, hops=1)
        self._relays = {}

    def _packed_relays(self, now: float) -> Iterator[tuple[bool, bytes, bytes]]:
        """What is new of others: whether to tell other hosts, too, the item of a digest, and a delta."""
        for node_id, (after, to_hosts) in self._relays.items():
            member = self._view.members.get(node_id)
            if member is not None:
                item = packets.pack_item(member.digest(now))
                most = self._channel.room - OWN_ITEM_BYTES - len(item)
                for packed in self._telling.fresh(node_id, member.generation, member.map, after, most):
                    yield to_hosts, item, packed

    def _pass(self, targets: Sequence[Member], relays: Sequence[Sequence[bytes]], now: float, *, hops: int) -> None:
        """Send what is new of others, as much of it in each packet as fits."""
        room = self._channel.room - OWN_ITEM_BYTES
        digest: list[bytes] = []
        deltas: list[bytes] = []
        left = room
        for item, packed in relays:
            if len(item) + len(packed) > left:
                self._send(targets, deltas, digest, now, hops=hops)
                digest, deltas, left = [], [], room
            digest.append(item)
            deltas.append(packed)
            left -= len(item) + len(packed)
        if deltas:
            self._send(targets, deltas, digest, now, hops=hops)

    def _send(
        self, targets: Sequence[Member], deltas: list[bytes], others: list[bytes], now: float, *, hops: int
    ) -> None:
        digest = self._telling.own_digest() + others
        for target in targets:
            self._channel.send(DELTA, target.address, target, now, hops=hops, digest=digest, deltas=deltas)

"""News: changes that are sent at once, beside the rounds, and passed on by those who hear of them first."""

from __future__ import annotations

from collections.abc import Sequence

from pico_twisted.core.gossip import packets
from pico_twisted.core.gossip.channel import PacketChannel
from pico_twisted.core.gossip.members import Member
from pico_twisted.core.gossip.packets import DELTA
from pico_twisted.core.gossip.partners import Partners
from pico_twisted.core.gossip.telling import OWN_ITEM_BYTES, Telling
from pico_twisted.core.gossip.view import View


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
        self._relays: dict[str, int] = {}  # node ID -> the version from which on its news are passed on

    def pass_on(self, node_id: str, after: int) -> None:
        """Send the entries of a node above a version to others, with the next news."""
        self._relays.setdefault(node_id, after)

    def begin_again(self) -> None:
        """Send all of our own map: we go on as another generation."""
        self._pushed = 0

    def push(self, now: float) -> None:
        """Send what is new."""
        view, partners, room = self._view, self._partners, self._channel.room - 2 * OWN_ITEM_BYTES
        own, live = view.own, partners.reachable()
        if own.told.version > self._pushed and live:
            targets = partners.of_news(live)
            news = self._telling.news(own.node_id, own.generation, own.told, self._pushed, room)
            self._send(targets, news, now, hops=1 if targets is live else 0)
        self._pushed = own.told.version
        relays, self._relays = self._relays, {}
        for node_id, after in relays.items():
            member = view.members.get(node_id)
            others = [one for one in live if one is not member]
            if member is not None and others:
                news = self._telling.news(node_id, member.generation, member.map, after, room)
                self._send(partners.of_news(others), news, now, hops=1, about=member)

    def _send(
        self, targets: Sequence[Member], news: list[bytes], now: float, *, hops: int, about: Member | None = None
    ) -> None:
        digest = self._telling.own_digest()
        if about is not None:
            digest.append(packets.pack_item(about.digest(now)))
        for target in targets:
            for packed in news:
                self._channel.send(DELTA, target.address, target, now, hops=hops, digest=digest, deltas=[packed])

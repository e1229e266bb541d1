"""What one node tells another, cut to the room that a packet has: digests, deltas, wants and news.

Packets are cut at whole entries, in the order of their versions, so that a receiver always has a whole prefix of each
map. What does not fit comes later: digests take turns, and who lacks entries asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from pico_twisted.core.gossip import packets
from pico_twisted.core.gossip.members import Member
from pico_twisted.core.gossip.packets import Body, Digest
from pico_twisted.core.gossip.state import VersionedMap
from pico_twisted.core.gossip.view import View

OWN_ITEM_BYTES: Final = 128
"""Most bytes of our own item in a digest, with the longest ID."""
LEAST_DELTA_BYTES: Final = 64
"""Fewest bytes of room in which a delta is tried."""
PUSH_PACKETS: Final = 4
"""Most packets of news sent to one node at once; a node that needs more asks for it."""
PUSH_AGAIN_MS: Final = 1000
"""Milliseconds for which news are sent again with newer ones, for nodes that missed them."""


class Telling:
    """Packs what a node knows.

    Args:
        view: what it knows.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        # where the next digest of each kind goes on, so that no node is left out for long
        self._begun = 0
        self._answered = 0

    def own_digest(self) -> list[bytes]:
        """A digest of our own item alone."""
        return [packets.pack_item(self._view.own.digest())]

    def digest(self, room: int, now: float) -> list[bytes]:
        """Our own item, and of the others as many as fit, in turn."""
        digest = self.own_digest()
        spoken_of = ((at, other) for at, other in self._in_turn(self._begun) if self._view.spoken_of(other, now))
        self._begun = _add(digest, spoken_of, room - len(digest[0]), now, self._begun)
        return digest

    def _in_turn(self, start: int) -> Iterator[tuple[int, Member]]:
        """All others with their positions, from one position on."""
        others = list(enumerate(self._view.members.values()))
        start %= len(others) or 1
        return chain(others[start:], others[:start])

    def answer(self, member: Member, body: Body, room: int, now: float) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """The answer to a digest: what we know better, as much of it as fits, and what we want.

        Args:
            member: who asks.
            body: the packet with the digest.
            room: bytes that the answer may take.
            now: monotonic seconds.

        Returns:
            A digest, deltas and wants.
        """
        wants = self.wants(body.digest, room // 4)
        digest = self.own_digest()
        room -= sum(map(len, wants)) + len(digest[0])
        newer, fresher = self._better_known(member, body, now)
        deltas = self.deltas(newer, room // 2 if fresher else room)
        self._answered = _add(digest, fresher, room - sum(map(len, deltas)), now, self._answered)
        return digest, deltas, wants

    def _better_known(
        self, member: Member, body: Body, now: float
    ) -> tuple[list[tuple[str, int]], list[tuple[int, Member]]]:
        """What we know better than a digest: nodes with the versions above which entries are lacking, and nodes with
        newer heartbeats, with their positions."""
        view = self._view
        theirs = {item[0]: item for item in body.digest}
        own = view.own
        newer: list[tuple[str, int]] = [(own.node_id, body.have[1] if body.have[0] == own.generation else 0)]
        fresher: list[tuple[int, Member]] = []
        for position, other in self._in_turn(self._answered):
            said = theirs.get(other.node_id)
            if said is None:
                pass
            elif said[1] == other.generation:
                if other.map.version > said[3]:
                    newer.append((other.node_id, said[3]))
                elif other.heartbeat <= said[2]:
                    continue
            elif said[1] > other.generation or view.outlived(other, now):
                continue
            else:  # it may be that node itself, which must hear of the later generation to take one above it
                newer.append((other.node_id, 0))
            if other is not member and view.spoken_of(other, now):
                fresher.append((position, other))
        return newer, fresher

    def wants(self, digest: list[Digest], room: int) -> list[bytes]:
        """The nodes that others know better, and whose entries we want."""
        wants: list[bytes] = []
        members = self._view.members
        for node_id, generation, _, version, _, _ in digest:
            member = members.get(node_id)
            if member is None or member.generation != generation:
                member = self._view.of(node_id, generation)
            if member is not None and version > member.map.version and not member.below_floor:
                item = packets.pack_item((node_id, generation, member.map.version))
                room -= len(item)
                if room < 0:
                    break
                wants.append(item)
        return wants

    def wanted(self, body: Body) -> list[tuple[str, int]]:
        """Return what a node wants of us, and what we know better than it; for `deltas`."""
        view = self._view
        newer = {node_id: version for node_id, generation, version in body.wants if view.holds(node_id, generation)}
        for node_id, generation, _, version, _, _ in body.digest:
            if node_id != view.own.node_id and view.holds(node_id, generation):
                newer.setdefault(node_id, version)
        return list(newer.items())

    def deltas(self, newer: Sequence[tuple[str, int]], room: int) -> list[bytes]:
        """Entries of these nodes above these versions, as many as fit."""
        view = self._view
        deltas: list[bytes] = []
        for node_id, after in newer:
            if room < LEAST_DELTA_BYTES:
                break
            own = node_id == view.own.node_id
            known = view.own.told if own else view.members[node_id].map
            if after < known.floor or after >= known.version:
                continue
            generation = view.own.generation if own else view.members[node_id].generation
            packed, _ = packets.pack_delta(node_id, generation, after, known.floor, known.since(after), room)
            if packed:
                room -= len(packed)
                deltas.append(packed)
        return deltas

    def news(self, node_id: str, generation: int, known: VersionedMap, pushed: int, room: int) -> list[bytes]:
        """The packets' worth of entries that were not pushed yet; with those of the last second if all fit into one.

        Args:
            node_id: of the node that the entries are of.
            generation: of that node.
            known: its map.
            pushed: the version up to which its entries were pushed already.
            room: bytes of a packet that they may take.
        """
        after = known.before(min(pushed, known.version - PUSH_AGAIN_MS))
        if after >= known.floor:
            packed, version = packets.pack_delta(node_id, generation, after, known.floor, known.since(after), room)
            if packed and version == known.version:
                return [packed]
        return self.fresh(node_id, generation, known, pushed, room)

    def fresh(self, node_id: str, generation: int, known: VersionedMap, pushed: int, room: int) -> list[bytes]:
        """The packets' worth of entries that were not pushed yet. The parameters are those of `news`."""
        after = known.before(pushed)
        news: list[bytes] = []
        while after < known.version and len(news) < PUSH_PACKETS and after >= known.floor:
            packed, version = packets.pack_delta(node_id, generation, after, known.floor, known.since(after), room)
            if not packed:
                break
            news.append(packed)
            after = version
        return news


def _add(digest: list[bytes], others: Iterable[tuple[int, Member]], room: int, now: float, begun: int) -> int:
    """Add the items of other nodes to a digest, as many as fit. Returns the position at which the next one begins."""
    for position, other in others:
        item = packets.pack_item(other.digest(now))
        room -= len(item)
        if room < 0:
            return position
        digest.append(item)
    return begun

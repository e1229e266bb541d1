"""Maps over node links: which node is asked for them and when, what it is asked, and what others are given.

Packets carry what fits. A node that is further behind than that, or below a floor, asks another one. One answer brings
all that its giver knows better, or as much of it as an answer may have, and then says of what it has more. So one
question a round is enough for any trouble.
"""

from __future__ import annotations

from typing import Final

import attrs

from pico_twisted.core.gossip.members import GOSSIP_ADDR, Member, Standing
from pico_twisted.core.gossip.packets import Want
from pico_twisted.core.gossip.sync import MAX_ENTRIES, Given
from pico_twisted.core.gossip.view import View

SYNC_AGAIN_S: Final = 2.0
"""Seconds after a sync was wanted until it is wanted again, if it still is."""


class SyncSource:
    """Decides which node is asked for whole maps.

    Args:
        view: what we know.
        interval_s: seconds between two rounds.

    Attributes:
        answered: whether whole maps were taken once.
    """

    def __init__(self, view: View, interval_s: float) -> None:
        self._view = view
        self._interval_s = interval_s
        self._first_at = 0.0
        self.answered = False

    def maps_taken(self) -> None:
        """An answer came: from now on only what packets do not bring is asked for."""
        self.answered = True

    def asked(self, now: float) -> None:
        """A node is asked that has more: nobody else needs to be for a while."""
        self._first_at = now + SYNC_AGAIN_S

    def wanted(self, now: float) -> str | None:
        """The node to be asked now, since packets do not suffice; None: no node. To be called once a round."""
        first = self.first_wanted(now)
        if first is not None or not self.answered:
            return first  # the first answer brings all that its giver knows: nobody else is asked while it may come
        waiting: dict[str, list[Member]] = {}
        for member in self._all():
            if now >= member.sync_at and self._needs(member, now):
                source = self._source_of(member)
                if source is not None:
                    waiting.setdefault(source, []).append(member)
        if not waiting:
            return None
        # the one last asked longest ago, so that some who cannot be reached do not keep us from one who can
        members = self._view.members
        chosen = min(waiting, key=lambda source: (members[source].asked_at, -len(waiting[source])))
        members[chosen].asked_at = now
        for member in waiting[chosen]:
            member.sync_at = now + SYNC_AGAIN_S
            member.syncs += 1
        return chosen

    def first_wanted(self, now: float) -> str | None:
        """The node to be asked while we have taken no whole maps yet; None: no node. To be called at any time: a node
        that has just started waits for this."""
        if self.answered or now < self._first_at:
            return None
        known = (member for member in self._view.live() if member.get(GOSSIP_ADDR) is not None)
        first = min(known, key=lambda member: member.asked_at, default=None)
        if first is None:
            return None
        self._first_at = now + SYNC_AGAIN_S
        first.asked_at = now
        return first.node_id

    def _all(self) -> list[Member]:
        return [*self._view.members.values(), *self._view.unconfirmed.values()]

    def _needs(self, member: Member, now: float) -> bool:
        if member.behind_since is None or member.standing is Standing.LEFT:
            return False
        behind_s = now - member.behind_since
        return member.below_floor or behind_s > (0.2 if member.cut else 1.5) * self._interval_s

    def _source_of(self, member: Member) -> str | None:
        """Who has what we lack of a node: who spoke of it last, and itself, in turn, since one may be out of reach."""
        sources = [member.reporter, member.node_id]
        if member.syncs % 2:
            sources.reverse()
        for node_id in sources:
            source = self._view.members.get(node_id)
            if source is not None and source.standing is Standing.LIVE:
                return node_id
        return None

    def behind(self) -> tuple[list[Want], list[tuple[str, int]]]:
        """What to ask for: the nodes whose maps others know further, and the nodes that we know besides, ourselves
        included."""
        view, members = self._view, self._all()
        less = [(one.node_id, one.generation, one.map.version) for one in members if one.lacks_entries]
        known = [(one.node_id, one.generation) for one in members if not one.lacks_entries]
        return less, [*known, (view.own.node_id, view.own.generation)]

    def given(
        self, behind: dict[str, tuple[int, int]], known: dict[str, int], now: float, *, takes_parts: bool
    ) -> list[Given]:
        """The maps that we know further than a node that asks; beyond `MAX_ENTRIES` only that there are more.

        Args:
            behind: generation and version of what it is behind with, by node ID.
            known: the generations of the other nodes that it knows.
            now: monotonic seconds.
            takes_parts: whether it takes what it lacks of a map alone.
        """
        view = self._view
        ours = [(view.own.digest(), view.own.told)] if view.own.claimed else []
        ours += [(one.digest(now), one.map) for one in view.members.values() if view.spoken_of(one, now)]
        found: list[Given] = []
        room = MAX_ENTRIES
        for digest, held in ours:
            node_id, generation, _, version, _, _ = digest
            has = behind.get(node_id)
            if has is not None and has[0] == generation:
                is_wanted, had = version > has[1], has[1] if takes_parts else 0
            else:
                is_wanted, had = known.get(node_id, -1) < generation, 0
            if is_wanted:
                one = Given(digest, held, had)
                room -= held.count_since(one.after)
                found.append(one if room >= 0 or not found else attrs.evolve(one, map=None))
        return found

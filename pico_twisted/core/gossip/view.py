"""What one node believes of the others, and why: the deciding half of the gossip. It says nothing to anybody.

Hearsay is worth what it is worth. A digest says how old a heartbeat is, so what is heard only moves the time at which a
node was last known alive, and never makes an old heartbeat young, however many hands it went through. A node that is
known by hearsay alone is *unconfirmed*, and nobody is told of it, until it echoed a challenge of ours or a heartbeat of
it came that was made after we first heard of it. What is dead is not spoken of any more half-way to being forgotten, so
the last who speaks of it has stopped long before the first forgets it: nothing dead comes back.

A generation is a wall clock's time, and clocks are set back: a node may come back with a lower one than its last life
had. While that is remembered by all, the node hears of it and takes a higher one. Since not all forget at the same
moment, a life that is over for long (`outlived`) stands in nobody's way already while it is remembered; and by the time
that some have forgotten it, a node gives nothing on it any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pico_twisted.core.gossip.events import Conflict, Event, KeysChanged, StatusChanged, Value
from pico_twisted.core.gossip.identity import OwnName
from pico_twisted.core.gossip.members import GOSSIP_ADDR, LEFT, STATUS, Member, Standing
from pico_twisted.core.gossip.packets import Body, Delta, Digest, Want
from pico_twisted.core.gossip.sealing import Header
from pico_twisted.core.gossip.state import VersionedMap
from pico_twisted.core.gossip.suspicion import MOST_PATIENT
from pico_twisted.core.gossip.sync import Whole
from pico_twisted.core.protocol_limits import MAX_GENERATION

PREVIOUS_S: Final = 1.0
"""How long keys of a node's last life stand while it tells those of the new one."""
FRESH: Final = 10.0
"""In intervals: older hearsay does not make a node known."""
UNCONFIRMED_S: Final = 30.0
"""Hearsay that did not come true in this time is forgotten."""
LEARNING_S: Final = 20.0
"""How long after we met a node its silences are still being learnt."""
COMMOTION_NODES: Final = 8
"""With more live nodes a quarter of them may be suspect before it changes anything."""
COMMOTION_PATIENCE: Final = 1.5
SYNC_AGAIN_S: Final = 2.0
"""After a sync was wanted it is wanted again, if it still is."""
OUTLIVED: Final = 1 / 4
"""Of the time until a dead life is forgotten: after that a lower generation of its node may take its place."""
UNHEEDED: Final = 3 / 8
"""Of the same: a node that hears of an own life so long ago takes no higher generation: all have outlived it."""
MAX_MEMBERS: Final = 2048
"""Nodes that are known or heard of."""
MAX_KEYS: Final = 500_000
"""Of one node: more can only be a fault or an attack."""

MAX_DELAYS: Final = 10_000
"""That are kept until somebody takes them."""


class View:
    """The other nodes as one node sees them.

    Args:
        node_id: ours.
        generation: ours.
        interval_s: between two rounds.
        forget_s: after this long a dead node is forgotten.

    Attributes:
        generation: ours.
        own: what we say of ourselves.
        heartbeat: ours: milliseconds.
        members: the nodes that are confirmed, by ID.
        unconfirmed: nodes, or new generations of nodes, that we only heard of.
        own_name: watches for others with our ID.
        events: what happened since they were taken.
        delays: seconds that entries took from their owner to us, since they were taken.
        entries: how many were taken from others so far.
        to_probe: somebody was heard of who can be asked directly.
        synced: whole maps were taken once.
    """

    def __init__(self, node_id: str, generation: int, interval_s: float, forget_s: float) -> None:
        self.node_id = node_id
        self.generation = generation
        self.own = VersionedMap()
        self.heartbeat = 1
        self.members: dict[str, Member] = {}
        self.unconfirmed: dict[str, Member] = {}
        self.own_name = OwnName()
        self.events: list[Event] = []
        self.delays: list[float] = []
        self.entries = 0
        self.to_probe = False
        self.synced = False
        self._spoken_of_s = forget_s / 2
        self._first_sync_at = 0.0
        self._interval_s = interval_s
        self._forget_s = forget_s

    def live(self) -> Iterator[Member]:
        """The nodes that are there."""
        return (member for member in self.members.values() if member.standing is Standing.LIVE)

    def spoken_of(self, member: Member, now: float) -> bool:
        """Whether a node is in digests: a dead one is until half-way to being forgotten."""
        return member.standing is Standing.LIVE or now - member.alive_at < self._spoken_of_s

    def outlived(self, member: Member, now: float) -> bool:
        """Whether a dead life is over for so long that a lower generation of its node is believed."""
        return member.standing is not Standing.LIVE and now - member.alive_at >= OUTLIVED * self._forget_s

    def own_digest(self) -> Digest:
        """What we say of ourselves in a digest."""
        return (self.node_id, self.generation, self.heartbeat, self.own.version, self.own.floor, 0)

    def holds(self, node_id: str, generation: int) -> bool:
        """Whether we can give entries of that generation of a node."""
        if node_id == self.node_id:
            return generation == self.generation
        member = self.members.get(node_id)
        return member is not None and member.generation == generation

    def of(self, node_id: str, generation: int) -> Member | None:
        """What is known of that generation of a node, confirmed or not."""
        member = self.members.get(node_id)
        if member is None or member.generation != generation:
            member = self.unconfirmed.get(node_id)
        return member if member is not None and member.generation == generation else None

    # Time

    def woke(self, now: float) -> None:
        """We did not run for a while: nobody is judged by the silence that we slept through."""
        for member in self.members.values():
            member.watched_from = now

    def judge(self, now: float) -> None:
        """Who is silent for too long is unreachable, and who was that for long is forgotten.

        Of a node that we have only just met we do not know yet how old its news usually are. In a large cluster they
        are older, since news take turns in packets, so we wait longer then. And so we do when many fall silent at once:
        those of us who are left on this side of a cut have asked the others for a while, and not each other.
        """
        patience = 1.0 + len(self.members) / 100
        commotion = COMMOTION_PATIENCE if self._commotion(now) else 1.0
        most_s = MOST_PATIENT * self._interval_s
        for member in list(self.members.values()):
            if member.previous and now >= member.previous_until:
                self._drop_previous(member)
            if member.standing is Standing.LIVE:
                learning = patience if now - member.first_heard_at < LEARNING_S else 1.0
                limit_s = min(member.accrual.unreachable_s * commotion * learning, most_s)
                if now - member.alive_at >= limit_s and member.silence_s(now) >= limit_s:
                    self._stand(member, Standing.UNREACHABLE)
            elif member.silence_s(now) > self._forget_s:
                del self.members[member.node_id]
                self.events.append(StatusChanged(member.node_id, None))

    def _commotion(self, now: float) -> bool:
        """Whether many are suspect at once, in a cluster that is too large for everybody to be asked in each round."""
        live = list(self.live())
        return len(live) > COMMOTION_NODES and 4 * sum(member.suspect(now) for member in live) > len(live)

    def drop_rumours(self, now: float) -> None:
        """Forget hearsay that did not come true."""
        for member in [one for one in self.unconfirmed.values() if now - one.first_heard_at > UNCONFIRMED_S]:
            del self.unconfirmed[member.node_id]

    def sync_wanted(self, now: float) -> str | None:
        """The node to be asked for whole maps now, since packets do not suffice; None: nobody. To be called once a
        round: one answer brings all that its giver knows better, so one question a round is enough for any trouble."""
        first = self.first_sync_wanted(now)
        if first is not None:
            return first
        waiting: dict[str, list[Member]] = {}
        for member in [*self.members.values(), *self.unconfirmed.values()]:
            if now >= member.sync_at and self._needs_sync(member, now):
                source = self._sync_source(member)
                if source is not None:
                    waiting.setdefault(source, []).append(member)
        if not waiting:
            return None
        # who was not asked for longest, so that some who cannot be reached do not keep us from one who can
        chosen = min(waiting, key=lambda source: (self.members[source].asked_at, -len(waiting[source])))
        self.members[chosen].asked_at = now
        for member in waiting[chosen]:
            member.sync_at = now + SYNC_AGAIN_S
            member.syncs += 1
        return chosen

    def first_sync_wanted(self, now: float) -> str | None:
        """The node to be asked, as long as we know nobody's whole maps; None: nobody. To be called at any time: who has
        just come waits for this."""
        if self.synced or now < self._first_sync_at:
            return None
        known = (member for member in self.live() if member.get(GOSSIP_ADDR) is not None)
        first = min(known, key=lambda member: member.asked_at, default=None)
        if first is None:
            return None
        self._first_sync_at = now + SYNC_AGAIN_S
        first.asked_at = now
        return first.node_id

    def _needs_sync(self, member: Member, now: float) -> bool:
        if member.behind_since is None or member.standing is Standing.LEFT:
            return False
        behind_s = now - member.behind_since
        return (
            member.below_floor
            or behind_s > 1.5 * self._interval_s
            or (member.cut and behind_s > 0.2 * self._interval_s)
        )

    def _sync_source(self, member: Member) -> str | None:
        """Who has what we lack of a node: who spoke of it last, and itself, in turn, since one may be out of reach."""
        sources = [member.reporter, member.node_id]
        if member.syncs % 2:
            sources.reverse()
        for node_id in sources:
            source = self.members.get(node_id)
            if source is not None and source.standing is Standing.LIVE:
                return node_id
        return None

    def _stand(self, member: Member, standing: Standing) -> None:
        member.standing = standing
        self._tell(member)

    def _tell(self, member: Member) -> None:
        member.told = member.status
        self.events.append(StatusChanged(member.node_id, member.told))

    # Who sent a packet

    def sender(
        self, header: Header, body: Body, proven: bool, source: str, said_at: float, now: float
    ) -> Member | None:
        """Who sent a packet; None: a life that is over, or nobody whom we know and who proved its address.

        Args:
            proven: it echoed a challenge of ours.
            source: the address that it came from.
            said_at: when it was sent, at the earliest: before now if it may have waited for us.
        """
        known = self.members.get(header.node_id)
        if known is not None and known.generation > header.generation and not self.outlived(known, now):
            return None
        member = self.of(header.node_id, header.generation)
        fresh = proven and self._is_fresh(said_at, now)
        if member is None and fresh:
            member = self._meet(header.node_id, header.generation, now)
        if member is None:
            return None
        member.challenge = body.challenge
        member.knows = body.have
        heartbeat = 0
        if body.digest:
            _, _, heartbeat, version, floor, _ = body.digest[0]
            member.hear_version(version, floor, header.node_id, now)
        if proven:
            if member.source != source:
                member.source = source
                member.find_address()
            if member.standing is not Standing.UNCONFIRMED:
                self._alive(member, heartbeat, said_at, said_at, now)
            elif fresh:
                member.heartbeat = max(member.heartbeat, heartbeat)
                member.alive_at = max(member.alive_at, said_at)
                self._confirm(member, now)
        return member

    def _meet(self, node_id: str, generation: int, now: float) -> Member | None:
        """Make a note of a node that we heard of."""
        other = self.unconfirmed.pop(node_id, None)
        if other is not None and other.generation >= generation:
            self.unconfirmed[node_id] = other
            return None
        if len(self.unconfirmed) + len(self.members) >= MAX_MEMBERS:
            if not self.unconfirmed:
                return None
            del self.unconfirmed[next(iter(self.unconfirmed))]  # who waits for longest
        member = self.unconfirmed[node_id] = Member(node_id, generation, self._interval_s, now)
        return member

    def _confirm(self, member: Member, now: float) -> None:
        """A node is certainly there: others may be told, and its last life is over."""
        self.unconfirmed.pop(member.node_id, None)
        before = self.members.get(member.node_id)
        left = member.map.get(STATUS) == LEFT
        member.standing = Standing.LEFT if left else Standing.LIVE
        member.watched_from = now
        if before is not None:
            if before.standing is Standing.LEFT or before.generation > member.generation:
                self.events.append(StatusChanged(member.node_id, None))
            else:
                member.previous = dict(before.keys())
                member.previous_until = now + PREVIOUS_S
        self.members[member.node_id] = member
        member.find_address()
        self._tell(member)
        self.events.append(KeysChanged(member.node_id, dict(member.keys())))
        self._whole_so_far(member)

    # What is heard

    def _is_fresh(self, at: float, now: float) -> bool:
        """Whether news of that time are young enough to make a node known."""
        return now - at < FRESH * self._interval_s

    def hear(self, item: Digest, reporter: str, said_at: float, now: float) -> None:
        """Somebody speaks of a node: how far it is, and when it was alive.

        Args:
            said_at: when that was said, at the earliest.
        """
        node_id, generation, heartbeat, version, floor, age_ms = item
        known = self.members.get(node_id)
        if known is not None and known.knows_already(item):
            return
        alive_at = said_at - age_ms / 1000
        if node_id == self.node_id:
            other = generation > self.generation or (generation == self.generation and heartbeat > self.heartbeat)
            if other and now - alive_at < UNHEEDED * self._forget_s:
                self.hear_of_ourselves(generation, heartbeat, alive_at, now)
            return
        if known is not None and generation < known.generation and not self.outlived(known, now):
            return
        member = self.of(node_id, generation)
        if member is None:
            if not self._is_fresh(alive_at, now):
                return
            member = self._meet(node_id, generation, now)
            if member is None:
                return
            member.first_heartbeat = member.heartbeat = heartbeat
            member.alive_at = alive_at
        if version > member.reported or floor > member.floor_reported:
            member.hear_version(version, floor, reporter, now)
        if heartbeat <= member.heartbeat:
            return
        if member.standing is not Standing.UNCONFIRMED:
            self._alive(member, heartbeat, alive_at, said_at, now)
            return
        member.heartbeat = heartbeat
        member.alive_at = max(member.alive_at, alive_at)
        lived_on = heartbeat > member.first_heartbeat and alive_at > member.first_heard_at
        if lived_on and self._is_fresh(alive_at, now):
            self._confirm(member, now)

    def hear_all(self, digest: list[Digest], reporter: str, said_at: float, now: float) -> None:
        """Somebody speaks of nodes: see `hear`."""
        members = self.members
        for item in digest:
            known = members.get(item[0])
            if known is None or not known.knows_already(item):
                self.hear(item, reporter, said_at, now)

    def hear_versions(self, digest: list[Digest], reporter: str, now: float) -> None:
        """Somebody speaks of nodes who did not prove to be speaking now. It may be an old packet that is sent again, so
        it says nothing of who is alive; how far maps go can only ever have become more."""
        for node_id, generation, _, version, floor, _ in digest:
            member = self.of(node_id, generation)
            if member is not None:
                member.hear_version(version, floor, reporter, now)

    def hear_of_ourselves(self, generation: int, heartbeat: int, alive_at: float, now: float) -> None:
        """Somebody speaks of a process with our ID that is not us."""
        if self.generation <= generation < MAX_GENERATION and self.own_name.heard(generation, heartbeat, alive_at, now):
            self.events.append(
                Conflict(f"another live process has the node ID {self.node_id}: give each node an ID of its own")
            )

    def _alive(self, member: Member, heartbeat: int, alive_at: float, said_at: float, now: float) -> None:
        """Of a confirmed node a newer heartbeat is known, which was made at that time, at the earliest.

        Whoever was paused knows of what he reads afterwards only that it was not said before the pause, and tells us no
        better. Where that is nothing new, the heartbeat counts as not heard of: somebody else will say how young it is.
        """
        if heartbeat <= member.heartbeat or alive_at <= member.alive_at:
            return
        member.heartbeat = heartbeat
        if member.standing is Standing.LEFT:
            return
        silence_s = max(0.0, member.silence_s(now))
        waited = said_at < now  # while we were paused: then the silence was ours
        if member.standing is Standing.LIVE and not waited:
            member.accrual.observe(silence_s)
        member.alive_at = alive_at
        member.offset_s = min(alive_at - heartbeat / 1000, member.offset_s + silence_s / 1000)
        if member.standing is Standing.UNREACHABLE:
            # The age of the news decides, not our patience, which begins anew when we were paused.
            if now - alive_at < member.accrual.suspect_s:
                self._stand(member, Standing.LIVE)
            elif not waited:
                member.accrual.observe(silence_s)  # on a long way round news may always be that old: get used to it

    # Entries

    def apply(self, delta: Delta, reporter: str, now: float) -> tuple[bool, int | None]:
        """Take entries.

        Returns:
            Whether some before them are missing, so that they are of no use; and the version from which on the node's
            map is new to us, or None when nothing was.
        """
        member = self.of(delta.node_id, delta.generation)
        if member is None or delta.node_id == self.node_id or not delta.entries:
            return False, None
        version = member.map.version
        member.hear_version(delta.entries[-1][2], delta.floor, reporter, now)
        if version < delta.after:
            return True, None
        if member.below_floor or member.map.keys + len(delta.entries) > MAX_KEYS:
            return False, None
        changes: dict[str, Value | None] = {}
        for key, value, at in delta.entries:
            if at > version:
                member.map.write(key, value, at)
                changes[key] = value
                written_at = at / 1000 + member.offset_s
                if member.first_heard_at < written_at < now + 1 and len(self.delays) < MAX_DELAYS:
                    self.delays.append(max(0.0, now - written_at))
        member.map.raise_floor(min(delta.floor, member.map.version))
        member.note_progress(now)
        member.cut = member.behind_since is not None
        if not changes:
            return False, None
        self.entries += len(changes)
        self._changed(member, changes)
        return False, version

    def take_whole(self, whole: Whole, reporter: str, said_at: float, now: float) -> bool:
        """Take a node's whole map, as one change. Returns whether anything of it was new."""
        node_id, generation, _, version, floor, _ = whole.digest
        self.hear(whole.digest, reporter, said_at, now)
        member = self.of(node_id, generation)
        if member is None or version <= member.map.version or len(whole.entries) > MAX_KEYS:
            return False
        later = VersionedMap.whole(whole.entries, version, floor)
        changes = member.map.changes_to(later)
        member.map = later
        member.note_progress(now)
        self.entries += len(changes)
        self._changed(member, changes)
        return True

    def behind(self) -> tuple[list[Want], list[tuple[str, int]]]:
        """The nodes whose maps we know less of than somebody, and the others that we know, ourselves included."""
        members = [*self.members.values(), *self.unconfirmed.values()]
        less = [(one.node_id, one.generation, one.map.version) for one in members if one.behind_since is not None]
        known = [(one.node_id, one.generation) for one in members if one.behind_since is None]
        return less, [*known, (self.node_id, self.generation)]

    def wholes(self, behind: dict[str, tuple[int, int]], known: dict[str, int], now: float) -> list[Whole]:
        """The maps that we know better than somebody who is behind with some and knows others."""
        ours = [(self.own_digest(), self.own)]
        ours += [(one.digest(now), one.map) for one in self.members.values() if self.spoken_of(one, now)]
        found: list[Whole] = []
        for digest, held in ours:
            node_id, generation, _, version, _, _ = digest
            has = behind.get(node_id)
            if (version > has[1]) if has is not None and has[0] == generation else known.get(node_id, -1) < generation:
                found.append(Whole(digest, held.since(0)))
        return found

    def _changed(self, member: Member, changes: dict[str, Value | None]) -> None:
        if GOSSIP_ADDR in changes:
            member.find_address()
        if member.standing is Standing.UNCONFIRMED:
            if member.probed_at < 0 and member.address:
                self.to_probe = True
            return
        for key in changes:
            member.previous.pop(key, None)
        self.events.append(KeysChanged(member.node_id, changes))
        if changes.get(STATUS) == LEFT:
            member.standing = Standing.LEFT
        if member.status != member.told:
            self._tell(member)
        self._whole_so_far(member)

    def _whole_so_far(self, member: Member) -> None:
        if member.previous and member.reported and member.behind_since is None:
            self._drop_previous(member)

    def _drop_previous(self, member: Member) -> None:
        """The keys of its last life that the new one does not have are gone."""
        gone = {key: None for key in member.previous if member.map.get(key) is None}
        member.previous = {}
        member.find_address()
        if gone:
            self.events.append(KeysChanged(member.node_id, gone))

    def _check_invariants(self) -> None:
        """For tests."""
        self.own._check_invariants()
        for node_id, member in self.members.items():
            assert member.node_id == node_id != self.node_id
            assert member.standing is not Standing.UNCONFIRMED
            member.map._check_invariants()
        for node_id, member in self.unconfirmed.items():
            assert member.node_id == node_id and member.standing is Standing.UNCONFIRMED
            known = self.members.get(node_id)
            assert known is None or known.generation != member.generation
        assert len(self.members) + len(self.unconfirmed) <= MAX_MEMBERS

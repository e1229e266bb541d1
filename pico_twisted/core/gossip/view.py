"""What one node believes of the others, and why: the deciding half of the gossip. It says nothing to anybody.

Hearsay is worth what it is worth. A digest says how old a heartbeat is, so what is heard only moves the time at which a
node was last known alive, and never makes an old heartbeat young, however many hands it went through. A node that is
known by hearsay alone is *unconfirmed*, and no node is told of it, until it echoed a challenge of ours or a heartbeat
came that it made after we first heard of it. What is dead is not spoken of any more half-way to being forgotten, so
the last who speaks of it has stopped long before the first forgets it: nothing dead comes back.

A generation is a wall clock's time, and clocks are set back: a node may come back with a lower one than its last life
had. While that is remembered by all, the node hears of it and takes a higher one. Since not all forget at the same
moment, a life that has long been over (`outlived`) is in no node's way while it is still remembered; and once
some have forgotten it, a node ignores what it hears of that life.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pico_twisted.core.gossip.events import ENDPOINT, Event, KeysChanged, StatusChanged
from pico_twisted.core.gossip.members import GOSSIP_ADDR, HOST, LEFT, STATUS, Member, Standing
from pico_twisted.core.gossip.own import VISITOR, OwnNode
from pico_twisted.core.gossip.packets import Delta, Digest, Received
from pico_twisted.core.gossip.sync import Part, Whole

PREVIOUS_S: Final = 1.0
"""Seconds for which the keys of a node's previous life still count while it tells those of the new one."""
FRESH: Final = 10.0
"""Hearsay that is older than this many intervals does not make a node known."""
UNCONFIRMED_S: Final = 30.0
"""Seconds after which a node that is still known by hearsay alone is forgotten."""
LOWER_GENERATION_AFTER: Final = 1 / 4
"""Fraction of `forget_s` after which a dead life may be replaced by one with a lower generation."""
OWN_LIFE_IGNORED_AFTER: Final = 3 / 8
"""Fraction of `forget_s`. A node that hears of a previous life of its own keeps its generation if that life is older
than this: by then no peer insists on it."""
MAX_MEMBERS: Final = 2048
"""Most nodes that are known or heard of at a time; the oldest hearsay makes room."""
MAX_KEYS: Final = 500_000
"""Most keys that are taken of one node: more can only be a fault or an attack."""
MAX_DELAYS: Final = 10_000
"""Most measured delays kept for the metrics between two scrapes; further ones are dropped."""


class View:
    """The other nodes as one node sees them.

    Args:
        own: what we are to the others.
        interval_s: seconds between two rounds.
        forget_s: seconds after which a dead node is forgotten.

    Attributes:
        own: what we are to the others.
        members: the nodes that are confirmed, by ID.
        unconfirmed: nodes, or new generations of nodes, that we only heard of.
        entries: how many entries were taken from others so far.
    """

    def __init__(self, own: OwnNode, interval_s: float, forget_s: float) -> None:
        self.own = own
        self.members: dict[str, Member] = {}
        self.unconfirmed: dict[str, Member] = {}
        self.entries = 0
        self.interval_s = interval_s
        self.forget_s = forget_s
        self._events: list[Event] = []
        self._delays: list[float] = []
        self._can_probe = False

    def live(self) -> Iterator[Member]:
        """The nodes that are there."""
        return (member for member in self.members.values() if member.standing is Standing.LIVE)

    def spoken_of(self, member: Member, now: float) -> bool:
        """Whether a node is in digests: a dead one is until half-way to being forgotten."""
        return member.standing is Standing.LIVE or now - member.alive_at < self.forget_s / 2

    def outlived(self, member: Member, now: float) -> bool:
        """Whether a dead life is over for so long that a lower generation of its node is believed."""
        return member.standing is not Standing.LIVE and now - member.alive_at >= LOWER_GENERATION_AFTER * self.forget_s

    def tell(self, event: Event) -> None:
        """Add an event to those that are given out next."""
        self._events.append(event)

    def take_events(self) -> list[Event]:
        """Take what has happened."""
        events, self._events = self._events, []
        return events

    def take_delays(self) -> list[float]:
        """Take the seconds that entries took from their owners to us."""
        delays, self._delays = self._delays, []
        return delays

    def holds(self, node_id: str, generation: int) -> bool:
        """Whether we can give entries of that generation of a node."""
        if node_id == self.own.node_id:
            return generation == self.own.generation
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
        """We did not run for a while: no node is judged by the silence that we slept through."""
        for member in self.members.values():
            member.watched_from = now

    def take_can_probe(self) -> bool:
        """Whether, since this was last asked, a node was heard of that can be probed directly."""
        can_probe, self._can_probe = self._can_probe, False
        return can_probe

    def drop_rumours(self, now: float) -> None:
        """Forget hearsay that did not come true."""
        for member in [one for one in self.unconfirmed.values() if now - one.first_heard_at > UNCONFIRMED_S]:
            del self.unconfirmed[member.node_id]

    def stand(self, member: Member, standing: Standing) -> None:
        """A node stands differently with us."""
        member.standing = standing
        self._tell(member)

    def forget(self, member: Member) -> None:
        """A node is not remembered any longer."""
        del self.members[member.node_id]
        self.tell(StatusChanged(member.node_id, None))

    def _tell(self, member: Member) -> None:
        member.told = member.status
        self.tell(StatusChanged(member.node_id, member.told))

    # Who sent a packet

    def sender(self, received: Received, now: float) -> Member | None:
        """Return the sender of a packet, or None: for a node that is unknown and did not prove its address; for a life
        that is over, which may have to hear of that; for a visitor; and for another process with our ID, which has to
        hear of us."""
        if received.node_id == self.own.node_id:
            if received.proven and received.body.digest:
                self._hear_of_ourselves(received.body.digest[0], received.said_at, now, from_itself=True)
                for delta in received.body.deltas:
                    self.apply(delta, received.node_id, now)
            return None
        if received.generation == VISITOR or self._is_over(received.node_id, received.generation, now):
            return None
        member = self.of(received.node_id, received.generation)
        fresh = received.proven and self._is_fresh(received.said_at, now)
        if member is None and fresh:
            member = self._meet(received.node_id, received.generation, now, 0, now)
        if member is None:
            return None
        member.speaks(received.body)
        heartbeat = 0
        if received.body.digest:
            _, _, heartbeat, version, floor, _ = received.body.digest[0]
            member.hear_version(version, floor, received.node_id, now)
        if received.proven:
            member.heard_from(received.source)
            if member.standing is not Standing.UNCONFIRMED:
                self._alive(member, heartbeat, received.said_at, received.said_at, now)
            elif fresh:
                member.note_alive(heartbeat, received.said_at)
                self._confirm(member, now)
        return member

    def _is_over(self, node_id: str, generation: int, now: float) -> bool:
        """Whether a generation belongs to a life of a node that is over, and is not to be believed."""
        known = self.members.get(node_id)
        return known is not None and generation < known.generation and not self.outlived(known, now)

    def _meet(self, node_id: str, generation: int, now: float, heartbeat: int, alive_at: float) -> Member | None:
        """Make a note of a node that we did not know, with the first that we heard of it."""
        other = self.unconfirmed.pop(node_id, None)
        if other is not None and other.generation >= generation:
            self.unconfirmed[node_id] = other
            return None
        if len(self.unconfirmed) + len(self.members) >= MAX_MEMBERS:
            if not self.unconfirmed:
                return None
            del self.unconfirmed[next(iter(self.unconfirmed))]  # who waits for longest
        member = self.unconfirmed[node_id] = Member(node_id, generation, self.interval_s, now)
        member.first_heartbeat = member.heartbeat = heartbeat
        member.alive_at = alive_at
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
                self.tell(StatusChanged(member.node_id, None))
            else:
                member.previous = before.all_said()
                member.previous_until = now + PREVIOUS_S
        self.members[member.node_id] = member
        member.find_place()
        self._tell(member)
        self._tell_keys(member, member.others(), member.endpoints())
        self._whole_so_far(member)

    # What is heard

    def _is_fresh(self, at: float, now: float) -> bool:
        """Whether news of that time are young enough to make a node known."""
        return now - at < FRESH * self.interval_s

    def hear(self, item: Digest, reporter: str, said_at: float, now: float) -> None:
        """A node speaks of a node: how far its map goes, and when it was alive.

        Args:
            item: what is said of the node.
            reporter: the ID of the node that said it.
            said_at: when that was said, at the earliest.
            now: monotonic seconds.
        """
        node_id, generation, heartbeat, version, floor, age_ms = item
        if node_id == self.own.node_id:
            self._hear_of_ourselves(item, said_at, now)
            return
        alive_at = said_at - age_ms / 1000
        if generation == VISITOR or self._is_over(node_id, generation, now):
            return
        member = self.of(node_id, generation)
        if member is None and self._is_fresh(alive_at, now):
            member = self._meet(node_id, generation, now, heartbeat, alive_at)
        if member is None:
            return
        if version > member.reported or floor > member.floor_reported:
            member.hear_version(version, floor, reporter, now)
        if heartbeat > member.heartbeat:
            if member.standing is Standing.UNCONFIRMED:
                self._hear_again(member, heartbeat, alive_at, now)
            else:
                self._alive(member, heartbeat, alive_at, said_at, now)

    def _hear_again(self, member: Member, heartbeat: int, alive_at: float, now: float) -> None:
        """Confirm a node of which a newer heartbeat is known, if it made that after we first heard of it."""
        member.note_alive(heartbeat, alive_at)
        lived_on = heartbeat > member.first_heartbeat and alive_at > member.first_heard_at
        if lived_on and self._is_fresh(alive_at, now):
            self._confirm(member, now)

    def hear_all(self, digest: list[Digest], reporter: str, said_at: float, now: float) -> None:
        """A node speaks of all nodes, nearly always without news. The parameters are those of `hear`."""
        members = self.members
        for item in digest:
            known = members.get(item[0])
            if known is None or not known.knows_already(item):
                self.hear(item, reporter, said_at, now)

    def hear_versions(self, digest: list[Digest], reporter: str, now: float) -> None:
        """A node that did not prove to be speaking now speaks of all nodes. The parameters are those of `hear`.

        It may be an old packet that is sent again, so it does not show which nodes are alive. But maps only ever grow.
        """
        for node_id, generation, _, version, floor, _ in digest:
            member = self.of(node_id, generation)
            if member is not None:
                member.hear_version(version, floor, reporter, now)

    def _hear_of_ourselves(self, item: Digest, said_at: float, now: float, *, from_itself: bool = False) -> None:
        """A node speaks of a process with our ID, which may be us."""
        _, generation, heartbeat, _, _, age_ms = item
        age_s = age_ms / 1000
        newer = (generation, heartbeat) > (self.own.generation, self.own.heartbeat)
        if newer and now - said_at + age_s < OWN_LIFE_IGNORED_AFTER * self.forget_s:
            event = self.own.heard(generation, heartbeat, age_s, said_at, now, from_itself=from_itself)
            if event is not None:
                self.tell(event)

    def _alive(self, member: Member, heartbeat: int, alive_at: float, said_at: float, now: float) -> None:
        if member.advance(heartbeat, alive_at, said_at, now):
            self.stand(member, Standing.LIVE)

    # Entries

    def apply(self, delta: Delta, reporter: str, now: float) -> tuple[bool, int | None]:
        """Take entries.

        Args:
            delta: the entries.
            reporter: the ID of the node that sent them.
            now: monotonic seconds.

        Returns:
            Whether some before them are missing, so that they are of no use; and the version from which on the node's
            map is new to us, or will be once we have what is missing; None when nothing is new.
        """
        if delta.node_id == self.own.node_id:
            self.own.heard_entries(delta.generation, delta.entries)
            return False, None
        member = self.of(delta.node_id, delta.generation)
        if member is None or not delta.entries:
            return False, None
        version = member.map.version
        member.hear_version(delta.entries[-1][2], delta.floor, reporter, now)
        if version < delta.after:
            return True, version
        if version >= delta.entries[-1][2]:
            return False, None
        if member.below_floor or member.map.keys + len(delta.entries) > MAX_KEYS:
            return False, None
        written, delays = member.take(delta, now)
        self._delays += delays[: MAX_DELAYS - len(self._delays)]
        if not written:
            return False, None
        endpoints = [key[len(ENDPOINT) :] for key in written if key.startswith(ENDPOINT)]
        self._changed(member, [key for key in written if not key.startswith(ENDPOINT)], endpoints)
        return False, version

    def take_whole(self, whole: Whole, reporter: str, said_at: float, now: float) -> bool:
        """Take a node's whole map, as one change.

        Args:
            whole: the map.
            reporter: the ID of the node that gave it.
            said_at: when it was given, at the earliest.
            now: monotonic seconds.

        Returns:
            Whether anything of it was new.
        """
        node_id, generation, _, version, _, _ = whole.digest
        self.hear(whole.digest, reporter, said_at, now)
        if whole.map is None:
            return False
        if node_id == self.own.node_id:
            self.own.heard_entries(generation, list(whole.map.since(0)))
            return False
        member = self.of(node_id, generation)
        if member is None or version <= member.map.version or whole.map.keys > MAX_KEYS:
            return False
        self._changed(member, *member.take_whole(whole.map, now))
        return True

    def take_part(self, part: Part, reporter: str, said_at: float, now: float) -> bool:
        """Take what a node's map has above a version. The rest is as of `take_whole`."""
        self.hear(part.digest, reporter, said_at, now)
        missing, after = self.apply(part.delta, reporter, now)
        return not missing and after is not None

    def _changed(self, member: Member, keys: list[str], endpoints: list[str]) -> None:
        self.entries += len(keys) + len(endpoints)
        if GOSSIP_ADDR in keys or HOST in keys:
            member.find_place()
        if member.standing is Standing.UNCONFIRMED:
            if member.probed_at < 0 and member.address:
                self._can_probe = True
            return
        self._tell_keys(member, keys, endpoints)
        if STATUS in keys and member.get(STATUS) == LEFT:
            member.standing = Standing.LEFT
        if member.status != member.told:
            self._tell(member)
        self._whole_so_far(member)

    def _whole_so_far(self, member: Member) -> None:
        if member.previous is not None and member.reported and member.behind_since is None:
            self.drop_previous(member)

    def drop_previous(self, member: Member) -> None:
        """The keys of a node's previous life do not count any longer."""
        keys, endpoints = member.drop_previous()
        if keys or endpoints:
            self._tell_keys(member, keys, endpoints)

    def _tell_keys(self, member: Member, keys: list[str], endpoints: list[str]) -> None:
        self.tell(KeysChanged(member.node_id, member, keys, endpoints))

    def _check_invariants(self) -> None:
        """For tests."""
        self.own.map._check_invariants()
        for node_id, member in self.members.items():
            assert member.node_id == node_id != self.own.node_id
            assert member.standing is not Standing.UNCONFIRMED
            member.map._check_invariants()
        for node_id, member in self.unconfirmed.items():
            assert member.node_id == node_id and member.standing is Standing.UNCONFIRMED
            known = self.members.get(node_id)
            assert known is None or known.generation != member.generation
        assert len(self.members) + len(self.unconfirmed) <= MAX_MEMBERS

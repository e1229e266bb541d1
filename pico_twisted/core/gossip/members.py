"""What is known of one other node, and how it stands.

Two clocks matter, both monotonic and both ours. `alive_at` is when the node's newest heartbeat was made, as far as we
know: news say how old they are, so it is honest however many hands they went through. `watched_from` is where our own
patience begins: it is moved when we were paused, since silence that we slept through is no fault of others.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from pico_twisted.core.gossip.events import ENDPOINT, Value
from pico_twisted.core.gossip.packets import Body, Delta, Digest
from pico_twisted.core.gossip.state import VersionedMap
from pico_twisted.core.gossip.suspicion import Accrual

STATUS: Final = "status"
"""Key of a node's status: `active`, `draining` or `left`."""
GOSSIP_ADDR: Final = "gossip_addr"
"""Key of a node's gossip address, `host:port`."""
HOST: Final = "host"
"""Key of a node that is one of several workers of a host: the ID of that host, which all of them say."""
LEFT: Final = "left"
"""Status of a node that has ended."""


class Standing(enum.Enum):
    """How a node stands with us."""

    UNCONFIRMED = "unconfirmed"  # known by hearsay only: it may be long dead
    LIVE = "live"
    UNREACHABLE = "unreachable"  # silent for too long; may come back
    LEFT = "left"  # said so; final


class Member:
    """One generation of another node.

    Attributes:
        map: the replica of what it says of itself.
        previous: the map of its last generation, which stands for what it has not told us of the new one; or None.
        heartbeat: the newest: its own milliseconds.
        reported: the highest version of its map that anybody spoke of.
        reporter: who did.
        floor_reported: the highest floor that anybody spoke of.
        behind_since: since when we lack something that was reported; None when we do not.
        behind_until: the version that was reported then.
        syncs: how often a sync was wanted meanwhile.
        address: where to send packets; "" when that is not known yet.
        host: the host that it says to be a worker of; "" when it is on its own.
        asked_at: when it was asked for whole maps last.
        source: where its last proven packet came from.
        challenge: the last that it gave us, to be echoed.
        told: the status that was told last.
        knows: generation and version of what it has of our own map.
        offset_s: our clock minus its heartbeat, on the fastest way that its news took.
    """

    __slots__ = (
        "accrual",
        "address",
        "alive_at",
        "asked_at",
        "behind_since",
        "behind_until",
        "challenge",
        "cut",
        "first_heard_at",
        "first_heartbeat",
        "floor_reported",
        "generation",
        "heartbeat",
        "host",
        "knows",
        "map",
        "node_id",
        "offset_s",
        "previous",
        "previous_until",
        "probed_at",
        "reported",
        "reporter",
        "source",
        "standing",
        "sync_at",
        "syncs",
        "told",
        "watched_from",
    )

    def __init__(self, node_id: str, generation: int, interval_s: float, now: float) -> None:
        self.node_id = node_id
        self.generation = generation
        self.standing = Standing.UNCONFIRMED
        self.map = VersionedMap()
        self.previous: VersionedMap | None = None
        self.previous_until = now
        self.heartbeat = 0
        self.alive_at = now
        self.watched_from = now
        self.first_heard_at = now
        self.first_heartbeat = 0
        self.accrual = Accrual(interval_s)
        self.reported = 0
        self.reporter = ""
        self.floor_reported = 0
        self.behind_since: float | None = None
        self.behind_until = 0
        self.cut = False
        self.sync_at = 0.0
        self.syncs = 0
        self.asked_at = -1.0
        self.source = ""
        self.address = ""
        self.host = ""
        self.challenge = b""
        self.told = ""
        self.probed_at = -1.0
        self.knows = (0, 0)
        self.offset_s = math.inf

    def __repr__(self) -> str:
        return f"<Member {self.node_id} {self.generation} {self.standing.value}>"

    def find_place(self) -> None:
        """Decide where it is reached, which is where it says, else where its packets come from; and find its host."""
        value, host = self.get(GOSSIP_ADDR), self.get(HOST)
        self.address = value if isinstance(value, str) and value else self.source
        self.host = host if isinstance(host, str) else ""

    def heard_from(self, source: str) -> None:
        """The node proved to be at an address."""
        if self.source != source:
            self.source = source
            self.find_place()

    def speaks(self, body: Body) -> None:
        """The node sent a packet: note the challenge to be echoed, and what it has of our own map."""
        self.challenge = body.challenge
        self.knows = body.have

    @property
    def status(self) -> str:
        """The status as operators see it."""
        if self.standing is Standing.LIVE:
            return "draining" if self.get(STATUS) == "draining" else "active"
        return str(self.standing.value)

    # What it says of itself (Said): of the last generation what this one did not say yet, but for its status.

    def get(self, key: str) -> Value | None:
        """The value of a key."""
        value = self.map.get(key)
        if value is None and self.previous is not None and key != STATUS and not self.map.forgot(key):
            return self.previous.get(key)
        return value

    def registrations(self, endpoint: str) -> int:
        """How many registrations of an endpoint it has."""
        found = self.map.registrations(endpoint)
        if found or self.previous is None or self.map.forgot(ENDPOINT + endpoint):
            return found
        return self.previous.registrations(endpoint)

    def endpoints(self) -> list[str]:
        """The IDs of the endpoints of which it has registrations."""
        if self.previous is None:
            return self.map.endpoints()
        both = dict.fromkeys(self.map.endpoints() + self.previous.endpoints())
        return [endpoint for endpoint in both if self.registrations(endpoint)]

    def count_endpoints(self) -> tuple[int, int]:
        """How many endpoints those are, and how many registrations."""
        if self.previous is None:
            return self.map.count_endpoints()
        counts = [self.registrations(endpoint) for endpoint in self.endpoints()]
        return len(counts), sum(counts)

    def others(self) -> list[str]:
        """The keys of all but the endpoints."""
        if self.previous is None:
            return self.map.others()
        both = dict.fromkeys(self.map.others() + self.previous.others())
        return [key for key in both if self.get(key) is not None]

    def silence_s(self, now: float) -> float:
        """Seconds that we have waited for news."""
        alive_at, watched_from = self.alive_at, self.watched_from
        return now - (max(watched_from, alive_at))

    def suspicion(self, now: float) -> float:
        """See `suspicion`."""
        return self.accrual.value(self.silence_s(now)) if self.standing is Standing.LIVE else 0.0

    def suspect(self, now: float) -> bool:
        """Whether it is to be asked directly."""
        return self.silence_s(now) >= self.accrual.suspect_s

    def doubtful(self, now: float) -> bool:
        """Whether others are to be asked for it."""
        return self.silence_s(now) >= self.accrual.doubtful_s

    def note_alive(self, heartbeat: int, alive_at: float) -> None:
        """While it is unconfirmed: a heartbeat of it is known, which was made at that time."""
        self.heartbeat = max(self.heartbeat, heartbeat)
        self.alive_at = max(self.alive_at, alive_at)

    def advance(self, heartbeat: int, alive_at: float, said_at: float, now: float) -> bool:
        """Once it is confirmed: a heartbeat of it is known, which was made at that time, at the earliest.

        A node that was paused knows of what it reads afterwards only that it was not said before the pause, and tells
        us no better. Where that is nothing new, the heartbeat counts as not heard of: another node will say how young
        it is.

        Args:
            heartbeat: its milliseconds.
            alive_at: when it was made, at the earliest.
            said_at: when we were told, at the earliest: before now if the news waited while we were paused.
            now: monotonic seconds.

        Returns:
            Whether it was unreachable and is live again.
        """
        if heartbeat <= self.heartbeat or alive_at <= self.alive_at:
            return False
        self.heartbeat = heartbeat
        if self.standing is Standing.LEFT:
            return False
        silence_s = max(0.0, self.silence_s(now))
        waited = said_at < now  # then the silence was ours
        self.alive_at = alive_at
        self.offset_s = min(alive_at - heartbeat / 1000, self.offset_s + silence_s / 1000)
        # The age of the news decides, not our patience, which begins again when we were paused.
        if self.standing is Standing.UNREACHABLE and now - alive_at < self.accrual.suspect_s:
            return True
        if not waited:
            self.accrual.observe(silence_s)  # on a long way round news may always be that old: get used to it
        return False

    def take(self, delta: Delta, now: float) -> tuple[list[str], list[float]]:
        """Take entries of it. All that come before them are known.

        Returns:
            The keys that were written, and the seconds that the entries took from it to us.
        """
        keys: list[str] = []
        delays: list[float] = []
        for key, value, at in delta.entries:
            if at > self.map.version:
                self.map.write(key, value, at)
                keys.append(key)
                written_at = at / 1000 + self.offset_s
                if self.first_heard_at < written_at < now + 1:
                    delays.append(max(0.0, now - written_at))
        self.map.raise_floor(min(delta.floor, self.map.version))
        self.note_progress(now)
        self.cut = self.behind_since is not None
        return keys, delays

    def take_whole(self, later: VersionedMap, now: float) -> tuple[list[str], list[str]]:
        """Take its whole map. Returns the keys that are different in it, and the IDs of such endpoints."""
        changed = self.map.changed_keys(later)
        self.map = later
        self.note_progress(now)
        return changed

    def all_said(self) -> VersionedMap:
        """All that counts of what it says, as the next generation's `previous`."""
        if self.previous is None:
            return self.map
        both = self.previous.copy()
        for key, value, _ in self.map.since(0):
            both.write(key, value, both.version + 1)
        return both

    def drop_previous(self) -> tuple[list[str], list[str]]:
        """Drop the keys of its previous life. Returns those that the new one does not have, and the IDs of such
        endpoints."""
        previous, self.previous = self.previous, None
        if previous is None:
            return [], []
        self.find_place()
        keys = [key for key in previous.others() if self.map.get(key) is None]
        return keys, [endpoint for endpoint in previous.endpoints() if not self.map.registrations(endpoint)]

    def digest(self, now: float) -> Digest:
        """What we say of it in a digest."""
        age_ms = max(0, int((now - self.alive_at) * 1000))
        return (self.node_id, self.generation, self.heartbeat, self.map.version, self.map.floor, age_ms)

    def knows_already(self, item: Digest) -> bool:
        """Whether an item of a digest about this generation says nothing new: nearly all of them do not."""
        return (
            item[2] <= self.heartbeat
            and item[1] == self.generation
            and item[3] <= self.reported
            and item[4] <= self.floor_reported
        )

    def hear_version(self, version: int, floor: int, reporter: str, now: float) -> None:
        """Some node said how far this one's map goes.

        Args:
            version: of the newest entry.
            floor: up to which deletes are forgotten.
            reporter: the ID of the node that said it.
            now: monotonic seconds.
        """
        if version > self.reported:
            self.reported = version
            self.reporter = reporter
        if floor > self.floor_reported:
            self.floor_reported = floor
        if self.map.version >= floor:
            self.map.raise_floor(floor)
        self.note_progress(now)

    def note_progress(self, now: float) -> None:
        """Keep account of whether we lack anything."""
        if self.map.version >= self.reported and self.map.version >= self.floor_reported:
            self.behind_since = None
            self.cut = False
            self.syncs = 0
        elif self.behind_since is None or (self.map.version >= self.behind_until and not self.below_floor):
            # behind with what was reported since, not any more with what was at first
            self.behind_since = now
            self.behind_until = self.reported

    @property
    def lacks_entries(self) -> bool:
        """Whether somebody has more of its map than we; what only is spoken of has one that we do not have."""
        return self.behind_since is not None or not self.map.version

    @property
    def below_floor(self) -> bool:
        """We may have missed deletes: entries are of no use, only the whole map is."""
        return self.map.version < self.floor_reported

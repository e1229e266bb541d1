"""A few gossip cores on one clock, joined by a wire that does to packets what a test says."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection
from typing import Any

from pico_twisted.core.gossip import (
    Conflict,
    Event,
    Gossip,
    GossipSettings,
    IdInUse,
    StatusChanged,
    SyncWanted,
)
from pico_twisted.core.gossip.events import Value
from tests.doubles.said import Changed, all_said, as_of_now

WALL_MS = 1_700_000_000_000
DELAY_S = 0.001

Fate = Callable[[bytes, str, str], list[tuple[float, bytes]]]
"""What becomes of a packet, its source and its address: after how long arrives what."""


def arrives(packet: bytes, source: str, address: str) -> list[tuple[float, bytes]]:
    """Each packet arrives once, soon."""
    return [(DELAY_S, packet)]


class Core:
    """One gossip core, what it told, and what it sent."""

    def __init__(self, gossip: Gossip, address: str) -> None:
        self.gossip = gossip
        self.address = address
        self.events: list[Event | Changed] = []
        self.sent: list[tuple[float, bytes, str]] = []
        self.paused = False

    @property
    def node_id(self) -> str:
        """Its ID."""
        return self.gossip.node_id

    def status(self, node_id: str) -> str | None:
        """What it shows of a node."""
        member = self.gossip.view.members.get(node_id)
        return None if member is None else member.status

    def keys(self, node_id: str) -> dict[str, Value]:
        """What it holds of a node."""
        return all_said(self.gossip.view.members[node_id])

    def statuses(self, node_id: str) -> list[str | None]:
        """All that it told of how a node stands."""
        return [one.status for one in self.events if isinstance(one, StatusChanged) and one.node_id == node_id]

    def changes(self, node_id: str) -> list[dict[str, Value | None]]:
        """All that it told of the keys of a node."""
        return [dict(one.changes) for one in self.events if isinstance(one, Changed) and one.node_id == node_id]

    def told(self, node_id: str) -> dict[str, Value]:
        """The keys of a node, by what it told of them."""
        held: dict[str, Value] = {}
        for one in self.events:
            if isinstance(one, StatusChanged) and one.node_id == node_id and one.status is None:
                held = {}
            elif isinstance(one, Changed) and one.node_id == node_id:
                held.update({key: value for key, value in one.changes.items() if value is not None})
                for key in [key for key, value in one.changes.items() if value is None]:
                    held.pop(key, None)
        return held

    def conflicts(self) -> list[str]:
        """The conflicts that it told of."""
        return [one.message for one in self.events if isinstance(one, Conflict)]

    def in_use(self) -> list[tuple[str, float]]:
        """Address and uptime of who has its ID, as often as it told."""
        return [(one.address, one.uptime_s) for one in self.events if isinstance(one, IdInUse)]

    def syncs(self) -> list[str]:
        """The nodes that it wanted to ask for whole maps."""
        return [one.node_id for one in self.events if isinstance(one, SyncWanted)]


class Wire:
    """Cores on one clock.

    Args:
        links: whether wanted syncs are made.
        seed: of all chance.
        earlier: the IDs of nodes that give and take whole maps alone, as earlier versions do.
    """

    def __init__(self, *, links: bool = True, seed: int = 1, earlier: Collection[str] = ()) -> None:
        self.now = 1000.0
        self.cores: dict[str, Core] = {}
        self.fate: Fate = arrives
        self.links = links
        self._earlier = earlier
        self._rng = random.Random(seed)
        self._flying: list[tuple[float, int, bytes, str, str]] = []
        self._count = 0

    def add(
        self,
        node_id: str,
        *,
        wall_ms: int = WALL_MS,
        seeds: tuple[str, ...] = (),
        address: str = "",
        say: bool = True,
        **settings: Any,
    ) -> Core:
        """Start a core, which says its address and that it is active."""
        address = address or f"{node_id}:1"
        rng = random.Random(self._rng.getrandbits(64))
        gossip = Gossip(GossipSettings(node_id=node_id, **settings), rng=rng, now=self.now, wall_ms=wall_ms)
        core = self.cores[address] = Core(gossip, address)
        gossip.seed(seeds)
        if say:
            gossip.set("gossip_addr", address, self.now)
            gossip.set("status", "active", self.now)
        if set(seeds) <= {address}:
            gossip.claim(self.now)
        return core

    def some(self, count: int, **settings: Any) -> list[Core]:
        """Start cores that know each other; all of them show all."""
        cores = [self.add(f"n{number}", seeds=("n0:1",), **settings) for number in range(count)]
        self.until(lambda: all(one.status(two.node_id) == "active" for one in cores for two in cores if one is not two))
        self.run(1.0)
        return cores

    def end(self, core: Core) -> None:
        """A core ends without a word."""
        del self.cores[core.address]

    def inject(self, packet: bytes, source: str, address: str) -> None:
        """A packet arrives now."""
        self.deliver(self.cores[address], packet, source)

    def deliver(self, core: Core, packet: bytes, source: str) -> None:
        """Give a packet to a core."""
        core.gossip.receive(packet, source, self.now)
        self.take(core)

    def take(self, core: Core) -> None:
        """Take what a core has to send and to tell, and let it claim its ID when it may."""
        if core.gossip.may_claim(self.now):
            core.gossip.claim(self.now)
        for packet, address in core.gossip.packets():
            core.sent.append((self.now, packet, address))
            for delay_s, arriving in self.fate(packet, core.address, address):
                self._count += 1
                heapq.heappush(self._flying, (self.now + delay_s, self._count, arriving, core.address, address))
        events = core.gossip.events()
        core.events += map(as_of_now, events)
        for event in events:
            if isinstance(event, SyncWanted) and self.links:
                self.sync(core, event.node_id)

    def sync(self, core: Core, node_id: str) -> None:
        """A core asks a node for whole maps."""
        other = next((one for one in self.cores.values() if one.node_id == node_id), None)
        if other is not None and not other.paused:
            core.gossip.sync_apply(self.answer(other, core), node_id, self.now)
            self.take(core)

    def answer(self, giver: Core, asker: Core) -> bytes:
        """What one answers when the other asks for maps."""
        takes_parts = not {giver.node_id, asker.node_id}.intersection(self._earlier)
        return b"".join(giver.gossip.sync_answer(asker.gossip.sync_request(), self.now, takes_parts=takes_parts))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.until(lambda: False, seconds, fail=False)

    def until(self, is_so: Callable[[], bool], seconds: float = 30.0, *, fail: bool = True) -> float:
        """Let time pass until something is so. Returns how long that took."""
        began, end = self.now, self.now + seconds
        for core in list(self.cores.values()):
            self.take(core)
        while not is_so():
            awake = [core for core in self.cores.values() if not core.paused]
            next_one = min(awake, key=lambda core: core.gossip.next_tick(), default=None)
            tick_at = end if next_one is None else next_one.gossip.next_tick()
            at = min(tick_at, self._flying[0][0] if self._flying else end)
            if at >= end:
                assert not fail, f"not so within {seconds} s"
                self.now = end
                break
            self.now = max(self.now, at)
            if self._flying and self._flying[0][0] <= self.now:
                _, _, packet, source, address = heapq.heappop(self._flying)
                receiver = self.cores.get(address)
                if receiver is not None and not receiver.paused:
                    self.deliver(receiver, packet, source)
            elif next_one is not None:
                next_one.gossip.tick(self.now)
                self.take(next_one)
        return self.now - began


def views_are_equal(cores: list[Core]) -> bool:
    """Whether all of them hold what each says of itself, and told of it."""
    return all(
        one.status(two.node_id) is not None
        and one.keys(two.node_id) == two.gossip.view.own.map.values() == one.told(two.node_id)
        for one in cores
        for two in cores
        if one is not two
    )

"""One start of a node in the gossip simulator: a gossip core on virtual time, driven as the UDP port drives a real one.

A process can crash, leave in order, and be stopped for a while, as SIGSTOP does it. While it is stopped, what comes for
it waits in a socket's buffer, and when it goes on it reads all of that at once, either before or after its overdue
timer.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from pico_twisted.core.gossip import Conflict, Event, Gossip, GossipSettings, IdInUse, SyncWanted
from pico_twisted.core.gossip.events import Value
from pico_twisted.core.gossip.own import VISITOR
from pico_twisted.core.gossip.state import VersionedMap
from tests.simulator.network import Reach, VirtualNetwork, VirtualTime

SOCKET_PACKETS: Final = 150
"""What waits in the buffer of a stopped process; further packets are lost."""
LINK_S: Final = 0.05
"""A question or an answer takes up to this long over a node link."""
LINK_GIVES_UP_S: Final = 10.0
"""So long a running process waits for an answer."""
LINK_FAILS: Final = 0.05
"""Share of the questions that fail for no reason that anybody knows."""
TOLD_S: Final = 2.0
"""A process that leaves ends after this long at the latest."""


class IWatch(Protocol):
    """Is told what happens to processes."""

    def happened(self, process: Process, event: Event) -> None:
        """A core told of an event."""

    def wrote(self, process: Process, key: str, value: Value | None) -> None:
        """A process says something new of itself."""

    def changed(self, process: Process, what: str) -> None:
        """A process started, ended, stops, goes on, leaves, or took another generation."""


@attrs.frozen(kw_only=True)
class Surroundings:
    """What all processes of a simulation share.

    Attributes:
        find: gives the running process of a machine's address, or None.
        make: makes the gossip core.
        earlier: on so many of the machines, the first ones, nodes give and take whole maps alone, as earlier versions.
    """

    time: VirtualTime
    network: VirtualNetwork
    reach: Reach
    rng: random.Random
    find: Callable[[str], Process | None]
    watch: IWatch
    make: Callable[..., Gossip] = Gossip
    earlier: int = 0


class Process:
    """One start of a node.

    Args:
        around: what all share.
        settings: of its gossip.
        machine: the number of the machine.
        address: of the machine.
        seeds: addresses to join.
        wall_ms: what the machine's wall clock says.
        number: counts the processes.

    Attributes:
        gossip: its core.
        generations: all that it had, from that of a visitor on; more than two when its clock was set back.
        started_at: when it started.
        claimed_at: when it claimed its ID, or soon after that took a generation which others believe.
        ended_at: when it ended; None while it has not.
        left_at: when it said that it leaves.
        stopped: it is stopped, by SIGSTOP.
        calm_since: since when it ran without a stop, and as one generation if that changed late; infinite while it is
        stopped or has ended.
        in_use: it was told that another process has its ID, which it has not claimed.
        found_since: since when it knows somebody, or could find a seed; infinite while it does not and cannot.
        resumed_at: when it went on after its last stop.
        settled: the version of its map at the time that `settle` was called with.
        synced_at: when the last syncs were wanted.
        most_keys, most_tombstones: of its own map, ever.
        conflict: it was told that another process has its ID.
    """

    def __init__(
        self,
        around: Surroundings,
        settings: GossipSettings,
        *,
        machine: int,
        address: str,
        seeds: tuple[str, ...],
        wall_ms: int,
        number: int,
    ) -> None:
        time = around.time
        self._around = around
        self.node_id = settings.node_id
        self.machine = machine
        self.address = address
        self.number = number
        self.gossip = around.make(
            settings, rng=random.Random(around.rng.getrandbits(64)), now=time.now, wall_ms=wall_ms
        )
        self.generations = [VISITOR]
        self.started_at = self.claimed_at = self.calm_since = self.found_since = time.now
        self.resumed_at = -math.inf
        self.ended_at: float | None = None
        self.left_at: float | None = None
        self.stopped = False
        self.synced_at: deque[float] = deque()
        self.most_keys = 0
        self.most_tombstones = 0
        self.conflict = False
        self.in_use = False
        self._written: deque[tuple[float, int]] = deque()  # when each version was written
        self.settled = 0
        self._tick_at = math.inf
        self._inbox: list[Callable[[], None]] = []
        around.network.listen(address, machine, self._receive)
        self.gossip.seed(seeds)
        self._alone = set(seeds) <= {address}
        around.watch.changed(self, "started")
        self.write("gossip_addr", address)
        self.write("status", "active")

    def __repr__(self) -> str:
        return f"{self.node_id}/{self.generations[-1]} (process {self.number} on machine {self.machine})"

    @property
    def running(self) -> bool:
        """It is there and not stopped."""
        return self.ended_at is None and not self.stopped

    @property
    def visits(self) -> bool:
        """It has not claimed its ID: nobody is to know of it."""
        return self.generations[-1] == VISITOR

    @property
    def own(self) -> VersionedMap:
        """What it says of itself."""
        return self.gossip.view.own.map

    def settle(self, before: float) -> None:
        """Find out the version of its map at a time. Times must not go back."""
        written = self._written
        while written and written[0][0] <= before:
            self.settled = written.popleft()[1]

    # What it does

    def write(self, key: str, value: Value | None) -> None:
        """Say something of itself, or say it no longer."""
        now, own = self._around.time.now, self.own
        before = own.version
        if value is None:
            self.gossip.delete(key, now)
        else:
            self.gossip.set(key, value, now)
        if own.version == before:
            return
        self._written.append((now, own.version))
        self.most_keys = max(self.most_keys, own.keys)
        self.most_tombstones = max(self.most_tombstones, own.tombstones)
        self._around.watch.wrote(self, key, value)
        self._step()

    def hold(self, keys: Sequence[str]) -> None:
        """Say very much at once, without telling anybody: the others are taken to know it."""
        for key in keys:
            self.own.write(key, 1, self.own.version + 1)
        self._written.append((self._around.time.now, self.own.version))

    def leave(self) -> None:
        """Say that it leaves, and end when all have heard."""
        if self.running and self.left_at is None:
            now = self._around.time.now
            self.left_at = now
            self.gossip.leave(now)
            self._around.watch.changed(self, "leaves")
            self._step()
            self._go_when_told(now + TOLD_S)

    def _go_when_told(self, at_the_latest: float) -> None:
        time = self._around.time
        if self.ended_at is not None:
            return
        if not self.stopped and (self.gossip.told or time.now >= at_the_latest):
            self.end()
        else:
            time.after(0.02, self._go_when_told, at_the_latest)

    def end(self) -> None:
        """End at once, as a crash does."""
        if self.ended_at is None:
            self.ended_at = self._around.time.now
            self.calm_since = math.inf
            self._around.network.close(self.address)
            self._inbox.clear()
            self._around.watch.changed(self, "ended")
            self.gossip.view.members.clear()  # which is most of what it holds; the process is remembered for long
            self.gossip.view.unconfirmed.clear()

    def stop(self, seconds: float) -> None:
        """Do nothing for a while."""
        if self.running:
            self.stopped = True
            self.calm_since = math.inf
            self._around.time.after(seconds, self._go_on)
            self._around.watch.changed(self, "stops")

    def _go_on(self) -> None:
        if self.ended_at is not None:
            return
        now = self._around.time.now
        self.stopped = False
        self.calm_since = self.resumed_at = now
        self._around.watch.changed(self, "goes on")
        timer_first = self._around.rng.random() < 0.5
        if timer_first:
            self._tick(self._tick_at)
        inbox, self._inbox = self._inbox, []
        for take in inbox:
            take()
        if not timer_first:
            self._tick(self._tick_at)

    # Its core

    def _step(self) -> None:
        gossip, around = self.gossip, self._around
        for packet, address in gossip.packets():
            around.network.send(packet, self.machine, self.address, address)
        for event in gossip.events():
            around.watch.happened(self, event)
            if isinstance(event, SyncWanted):
                self._ask(event.node_id)
            elif isinstance(event, Conflict):
                self.conflict = True
            elif isinstance(event, IdInUse):
                self.in_use = True
        if gossip.may_claim(around.time.now) or (self._alone and self.visits):
            gossip.claim(around.time.now)
        if gossip.generation != self.generations[-1]:
            self.generations.append(gossip.generation)
            around.watch.changed(self, "took another generation")
        if self.conflict:
            self.end()
        at = gossip.next_tick()
        if at < self._tick_at:
            self._tick_at = at
            around.time.at(at, self._tick, at)

    def _tick(self, at: float) -> None:
        if at == self._tick_at and self.running:
            self._tick_at = math.inf
            self.gossip.tick(self._around.time.now)
            self.gossip.delays()  # nobody counts them here
            self._step()

    def _receive(self, packet: bytes, source: str) -> None:
        if not self.stopped:
            self.gossip.receive(packet, source, self._around.time.now)
            self._step()
        elif len(self._inbox) < SOCKET_PACKETS:
            self._inbox.append(lambda: self._receive(packet, source))

    # Links

    def _ask(self, node_id: str) -> None:
        """Ask a node for whole maps, as it would be done over a link."""
        time, rng = self._around.time, self._around.rng
        member = self.gossip.view.members.get(node_id)
        other = self._around.find(member.address) if member is not None else None
        request = self.gossip.sync_request()
        if other is not None and other.node_id == node_id and rng.random() >= LINK_FAILS:
            time.after(LINK_S * rng.random(), other._asked, request, self, time.now)

    def _asked(self, request: bytes, asker: Process, asked_at: float) -> None:
        around = self._around
        if self.stopped:
            self._inbox.append(lambda: self._asked(request, asker, asked_at))
        elif self.ended_at is None and self._linked(asker):
            takes_parts = min(self.machine, asker.machine) >= around.earlier
            answer = b"".join(self.gossip.sync_answer(request, around.time.now, takes_parts=takes_parts))
            around.time.after(LINK_S * around.rng.random(), asker._answered, answer, self, asked_at)

    def _answered(self, answer: bytes, other: Process, asked_at: float) -> None:
        now = self._around.time.now
        if self.stopped:
            self._inbox.append(lambda: self._answered(answer, other, asked_at))
        elif self.ended_at is None and self._linked(other):
            # who was stopped meanwhile may read the answer before he finds that he waited for too long
            if now - asked_at < LINK_GIVES_UP_S or self.resumed_at > asked_at:
                self.gossip.sync_apply(answer, other.node_id, now)
                self._step()

    def _linked(self, other: Process) -> bool:
        """Whether a link between the two works: packets must go both ways."""
        hears = self._around.reach.hears
        return hears(self.machine, other.machine) and hears(other.machine, self.machine)

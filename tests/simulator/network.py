"""Time and a network that exist only in memory, for the gossip simulator: nothing waits, and chance comes from a seed.

The network loses, delays, repeats and reorders packets, and it can be cut. A *cut* puts each machine into a cell and
says which cells do not hear which; several cuts may stand at once. `Reach` also remembers who could talk to whom
lately, round other machines too, since that is what promises are made for.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

LOOPBACK_S: Final = 0.0002
"""How long a packet takes from one worker of a host to another."""
REMEMBERED_S: Final = 60.0
"""How far `Reach.together_since` looks back."""


class VirtualTime:
    """A clock that jumps to whatever is due next.

    Attributes:
        now: seconds since the simulation began.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, do: Callable[..., object], *args: Any) -> None:
        """Have something done at that time. What is due at the same time is done in the order in which it was asked
        for."""
        self._count += 1
        heapq.heappush(self._due, (max(when, self.now), self._count, do, args))

    def after(self, seconds: float, do: Callable[..., object], *args: Any) -> None:
        """Have something done after that time."""
        self.at(self.now + seconds, do, *args)

    def run_until(self, when: float) -> None:
        """Do all that is due until then."""
        due = self._due
        while due and due[0][0] <= when:
            self.now, _, do, args = heapq.heappop(due)
            do(*args)
        self.now = when


@attrs.frozen(eq=False)
class Cut:
    """Machines that do not hear each other.

    Attributes:
        cells: the cell of each machine, by its number.
        deaf: pairs of cells: what the first sends does not reach the second.
    """

    cells: Sequence[int]
    deaf: frozenset[tuple[int, int]]


class Reach:
    """Who can talk to whom, now and lately.

    Two machines are *together* when packets go both ways between them, or between each of them and others that are
    together with both; and when somebody of them is a seed, since without one a node that starts finds nobody.

    Args:
        time: the clock.
        machines: how many there are.
    """

    def __init__(self, time: VirtualTime, machines: int) -> None:
        self._time = time
        self._machines = machines
        self._cuts: list[Cut] = []
        self._labels: list[int] | None = None  # the same for machines that are together; None: all are
        self._past: deque[tuple[float, list[int]]] = deque()  # labels that held until then

    @property
    def cuts(self) -> Sequence[Cut]:
        """The cuts that stand."""
        return tuple(self._cuts)

    def cut(self, cut: Cut) -> None:
        """Cut the network. Call `look` behind it."""
        self._cuts.append(cut)

    def heal(self, cut: Cut) -> None:
        """Take a cut back. Call `look` behind it."""
        self._cuts.remove(cut)

    def hears(self, sender: int, receiver: int) -> bool:
        """Whether a packet gets through now."""
        return all((cut.cells[sender], cut.cells[receiver]) not in cut.deaf for cut in self._cuts)

    def look(self, running: Iterable[int], seeds: Iterable[int]) -> None:
        """Find out anew who is together: after a cut, after it healed, and when machines stop or start during one.

        Args:
            running: the machines that run now.
            seeds: those of them that are seeds.
        """
        labels = self._find(list(running), set(seeds)) if self._cuts else None
        if labels == self._labels:
            return
        if self._labels is not None:
            self._past.append((self._time.now, self._labels))
        while self._past and self._past[0][0] < self._time.now - REMEMBERED_S:
            self._past.popleft()
        self._labels = labels

    def together_since(self, one: int, other: int) -> float:
        """Since when two machines are together; 0.0: always, as far as that is remembered; infinite: they are not."""
        labels = self._labels
        if labels is not None and labels[one] != labels[other]:
            return math.inf
        for until, labels in reversed(self._past):
            if labels[one] != labels[other]:
                return until
        return 0.0

    def _find(self, running: list[int], seeds: set[int]) -> list[int]:
        places: dict[tuple[int, ...], list[int]] = {}
        for machine in range(self._machines):
            places.setdefault(tuple(cut.cells[machine] for cut in self._cuts), []).append(machine)
        crowds = list(places.values())
        alive = set(running)
        labels = [-1 - machine for machine in range(self._machines)]
        left = set(range(len(crowds)))
        while left:
            group = [left.pop()]
            for crowd in group:
                if not alive.isdisjoint(crowds[crowd]):  # a crowd that does not run passes nothing on
                    near = [
                        other
                        for other in sorted(left)
                        if self.hears(crowds[crowd][0], crowds[other][0])
                        and self.hears(crowds[other][0], crowds[crowd][0])
                    ]
                    group += near
                    left.difference_update(near)
            members = [machine for crowd in group for machine in crowds[crowd]]
            if not seeds.isdisjoint(members):
                for machine in members:
                    labels[machine] = min(members)
        return labels


@attrs.frozen(kw_only=True)
class NetworkSettings:
    """How bad the network is.

    Attributes:
        loss: share of the packets that is lost.
        duplication: share of them that comes twice.
        delay_s: how long most of them take, at most.
        straggling: share of them that takes far longer, and so comes out of order.
        straggling_s: how long those take, at most.
        workers: machines in a row are one host, so many of them; between those nothing is lost, nor takes long.
    """

    loss: float = 0.0
    duplication: float = 0.01
    delay_s: float = 0.02
    straggling: float = 0.01
    straggling_s: float = 0.4
    workers: int = 1


class VirtualNetwork:
    """Carries packets between machines.

    Args:
        time: the clock.
        reach: who hears whom.
        settings: how bad it is.
        rng: the source of chance.

    Attributes:
        packets: how many were sent.
        sent_bytes: how many bytes they had.
        largest_bytes: of one packet.
        near_packets: how many of them did not leave their host.
    """

    def __init__(self, time: VirtualTime, reach: Reach, settings: NetworkSettings, rng: random.Random) -> None:
        self._time = time
        self._reach = reach
        self._settings = settings
        self._random = rng.random
        self._places: dict[str, tuple[int, Callable[[bytes, str], None]]] = {}
        self.packets = 0
        self.sent_bytes = 0
        self.largest_bytes = 0
        self.near_packets = 0

    def listen(self, address: str, machine: int, receive: Callable[[bytes, str], None]) -> None:
        """Have the packets for an address given to somebody, with the address of their sender."""
        self._places[address] = (machine, receive)

    def close(self, address: str) -> None:
        """Drop the packets for an address."""
        self._places.pop(address, None)

    def send(self, packet: bytes, machine: int, source: str, address: str) -> None:
        """Send a packet, which may arrive later, twice, or never."""
        size = len(packet)
        self.packets += 1
        self.sent_bytes += size
        if size > self.largest_bytes:
            self.largest_bytes = size
        place = self._places.get(address)
        settings, chance = self._settings, self._random()
        if place is not None and self._is_sibling(machine, place[0]):
            self.near_packets += 1
            self._time.after(LOOPBACK_S, self._arrive, packet, machine, source, address)
            return
        if chance < settings.loss or place is None or not self._reach.hears(machine, place[0]):
            return
        if chance > 1.0 - settings.duplication:
            self._time.after(self._delay(), self._arrive, packet, machine, source, address)
        self._time.after(self._delay(), self._arrive, packet, machine, source, address)

    def _is_sibling(self, machine: int, other: int) -> bool:
        return machine != other and machine // self._settings.workers == other // self._settings.workers

    def _delay(self) -> float:
        settings, chance = self._settings, self._random()
        if chance < settings.straggling:
            return settings.straggling_s * chance / settings.straggling
        return settings.delay_s * chance

    def _arrive(self, packet: bytes, machine: int, source: str, address: str) -> None:
        place = self._places.get(address)
        if place is not None and self._reach.hears(machine, place[0]):
            place[1](packet, source)

"""Runs the gossip of a very large cluster on a virtual clock, and checks what is promised of its size.

    python -m tests.simulator.size --hosts 25 --workers 4 --endpoints 1000000 --largest 40000

`run` shows what happens when everything goes wrong, in a cluster of a hundred nodes. Here nothing goes wrong but one
thing, and everything is large: changes all the time, a node that joins, and the death of the node that has the most
endpoints, whose agents then register at the others.

What is real and what is not. The cores are those of nodes, each with all of the maps, and so are the tables of some of
them. Time and the network are virtual: a delay is one of packets, rounds and gathering, as if no core had to wait for
its turn on a processor. What a turn takes is the processor time of this process, without the collection of garbage,
sockets and the reactor. The maps of all are copied to all before it begins, since a hundred nodes that join a million
endpoints are a thing of its own; one node joins as nodes do. A map crosses a link in no time, so the time of a joiner
is given with the processor time that both ends need, which adds up to the most that it can be on a fast network.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from pico_twisted.core.gossip import Event, Gossip, KeysChanged, StatusChanged
from pico_twisted.core.gossip.judging import LEARNING_S
from pico_twisted.core.routing.table import ClusterTable
from tests.simulator.cluster import ClusterSettings, SimulatedCluster
from tests.simulator.network import NetworkSettings
from tests.simulator.node import Process

T = TypeVar("T")

MEET_S: Final = 30.0
"""Within this long all nodes know each other."""
WITNESSES: Final = 3
"""So many nodes keep a table as well."""
TIMED: Final = 8
"""Each so manyth packet is timed, for all of them: on a machine that others use, too, the clock of a processor costs
more than a packet does."""
BACK_S: Final = 5.0
"""Within this long the agents of a node that died have registered elsewhere: they notice at once, dial the next node,
and wait where many do so at the same time."""
SMALLER: Final = 100_000
"""Endpoints of a cluster whose hosts are to take no more than `SMALLER_MB` for them."""
SMALLER_MB: Final = 60.0
LARGER_MB: Final = 250.0
"""Megabytes that a host may take for up to ten times as many."""
NAME: Final = "endpoint:customer-{:07d}"


class TimedGossip(Gossip):
    """A core whose turns are timed, with the table that a node keeps.

    Attributes:
        table: of its node; fed only while `keeps_table`.
        keeps_table: see there.
        longest_s: the longest turn of each kind.
        busy_s: all of them together.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        self.table = ClusterTable(random.Random(1).random)
        self.keeps_table = False
        self.longest_s: dict[str, float] = {}
        self.busy_s = 0.0
        self._received = 0
        super().__init__(*given, **named)

    def forget_times(self) -> None:
        """Begin to time again."""
        self.longest_s, self.busy_s = {}, 0.0

    def _timed(self, kind: str, do: Callable[[], T], of: int = 1) -> T:
        began = time.thread_time()
        result = do()
        took = time.thread_time() - began
        self.busy_s += of * took
        if took > self.longest_s.get(kind, 0.0):
            self.longest_s[kind] = took
        return result

    def receive(self, packet: bytes, source: str, now: float) -> str | None:
        """See `Gossip`, as the others."""
        self._received += 1
        if self._received % TIMED:
            return super().receive(packet, source, now)
        return self._timed("a packet", lambda: Gossip.receive(self, packet, source, now), of=TIMED)

    def tick(self, now: float) -> None:
        """A tick, and a slice of the table's work."""
        kind = "a slice of a map" if super().next_tick() < 0 else "a round"
        self._timed(kind, lambda: Gossip.tick(self, now))
        if self.table.behind:
            self._timed("a slice of the table", self.table.work)

    def next_tick(self) -> float:
        """At once while the table has work."""
        return -1.0 if self.table.behind else super().next_tick()

    def set(self, key: str, value: str | int, now: float) -> None:
        """A change of its own."""
        self._timed("a change", lambda: Gossip.set(self, key, value, now))

    def delete(self, key: str, now: float) -> None:
        """The same."""
        self._timed("a change", lambda: Gossip.delete(self, key, now))

    def sync_answer(self, request: bytes, now: float, *, takes_parts: bool) -> Iterator[bytes]:
        """An answer, piece by piece."""
        pieces = self._timed("an answer begun", lambda: Gossip.sync_answer(self, request, now, takes_parts=takes_parts))
        while (piece := self._timed("a piece of an answer", lambda: next(pieces, None))) is not None:
            yield piece

    def sync_apply(self, answer: bytes, reporter: str, now: float) -> None:
        """The first slice of an answer."""
        self._timed("an answer taken", lambda: Gossip.sync_apply(self, answer, reporter, now))

    def events(self) -> list[Event]:
        """What happened, which the table is told."""
        events = super().events()
        if self.keeps_table:
            for event in events:
                if isinstance(event, StatusChanged):
                    self._timed("a status told", lambda event=event: self.table.status_changed(event))  # type: ignore[misc]
                elif isinstance(event, KeysChanged):
                    self._timed("keys told", lambda event=event: self.table.keys_changed(event))  # type: ignore[misc]
        return events


@attrs.frozen(kw_only=True)
class SizeSettings:
    """What is simulated.

    Attributes:
        hosts: machines.
        workers: nodes on each.
        endpoints: of the whole cluster.
        largest: of the node that dies; the others share the rest.
        changes_per_s: registrations and deregistrations.
        seconds: of changes.
        seed: of all chance.
    """

    hosts: int = 25
    workers: int = 1
    endpoints: int = 100_000
    largest: int = 40_000
    changes_per_s: float = 500.0
    seconds: float = 20.0
    seed: int = 1


@attrs.frozen(kw_only=True)
class Figure:
    """Something that was measured.

    Attributes:
        what: it is.
        value: of it.
        unit: of that.
        most: that it may be; None where nothing is promised.
    """

    what: str
    value: float
    unit: str
    most: float | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is as promised."""
        return self.most is None or self.value <= self.most

    def __str__(self) -> str:
        promise = "" if self.most is None else f"   at most {self.most:g}" + ("" if self.is_kept else "   BROKEN")
        return f"{self.what:<66}{self.value:>10.3f} {self.unit:<5}{promise}"


class LargeCluster:
    """The cluster, and what is done to it.

    Args:
        settings: see there.
        say: is told what goes on.
    """

    def __init__(self, settings: SizeSettings, say: Callable[[str], object]) -> None:
        self._settings = settings
        self._say = say
        self._rng = random.Random(settings.seed)
        self._made = 0
        self._held: dict[Process, list[str]] = {}
        self._changing = False
        self.cluster = SimulatedCluster(
            ClusterSettings(
                nodes=settings.hosts * settings.workers,
                seed=settings.seed,
                network=NetworkSettings(
                    loss=0.001, delay_s=0.002, straggling=0.001, straggling_s=0.05, workers=settings.workers
                ),
                make=TimedGossip,
                looks_closely=False,
            )
        )

    @property
    def _nodes(self) -> list[Process]:
        return self.cluster.running()

    # What is done

    def begin(self) -> None:
        """Start all nodes, and let all of them know all endpoints."""
        cluster, settings = self.cluster, self._settings
        others = (settings.endpoints - settings.largest) // (settings.hosts * settings.workers - 1)
        # a version is a time: each endpoint is to have had one of its own, and a node that is alone takes little
        largest = cluster.start(settings.hosts * settings.workers - 1)
        cluster.run(max(0.0, settings.largest - others) / 1000)
        cluster.start_all(within_s=2.0)
        cluster.until(cluster.is_one, MEET_S)
        for process in self._nodes[:: max(1, len(self._nodes) // WITNESSES)][:WITNESSES]:
            self._keep_table(process)
        self._say("all nodes have met")
        cluster.run(1.0 + others / 1000)
        for process in self._nodes:
            names = self._names(settings.largest if process is largest else others)
            process.hold(names)
            self._held[process] = names
        cluster.run(0.1)
        for process in self._nodes:
            for other in self._nodes:
                if other is not process:
                    member = process.gossip.view.members[other.node_id]
                    member.take_whole(other.own.copy(), cluster.time.now)
                    member.hear_version(other.own.version, other.own.floor, other.node_id, cluster.time.now)
        for process in self._nodes:
            if _core(process).keeps_table:
                self._keep_table(process)
        for process in self._nodes:
            process.write("version", "1.0")
        cluster.run(2.0)
        self._say("all nodes know all endpoints")

    def _keep_table(self, process: Process) -> None:
        core = _core(process)
        core.keeps_table = True
        for member in core.view.members.values():
            core.table.status_changed(StatusChanged(member.node_id, member.status))
            core.table.keys_changed(KeysChanged(member.node_id, member, member.others(), member.endpoints()))
        while core.table.behind:
            core.table.work()

    def _names(self, count: int) -> list[str]:
        self._made += count
        return [NAME.format(number) for number in range(self._made - count, self._made)]

    def changes(self, seconds: float) -> None:
        """Let agents register and deregister for a while, as they do all the time."""
        self._forget_times()
        self._changing = True
        self._change()
        self.cluster.run(seconds)
        self._changing = False
        self.cluster.run(1.0)

    def _change(self) -> None:
        if not self._changing:
            return
        process = self._rng.choice(self._nodes)
        held = self._held[process]
        if self._rng.random() < 0.5 and held:
            place = self._rng.randrange(len(held))
            held[place], held[-1] = held[-1], held[place]
            process.write(held.pop(), None)
        else:
            held += self._names(1)
            process.write(held[-1], 1)
        self.cluster.time.after(self._rng.expovariate(self._settings.changes_per_s), self._change)

    def join(self) -> tuple[float, float, float]:
        """Have a node join.

        Returns:
            The seconds until it knew all that there was, the processor time of that at both ends, and the bytes that it
            takes for each endpoint.
        """
        self._forget_times()
        before, wanted = resident_bytes(), {process: process.own.version for process in self._nodes}
        joiner = self.cluster.start(self._settings.hosts * self._settings.workers)
        _core(joiner).keeps_table = True
        view = joiner.gossip.view

        def is_full() -> bool:
            found = (view.members.get(process.node_id) for process in wanted)
            all_known = all(
                member is not None and member.map.version >= version
                for member, version in zip(found, wanted.values(), strict=True)
            )
            return all_known and not _core(joiner).table.behind and not joiner.visits

        took_s = self.cluster.until(is_full, MEET_S)
        gives = max(_core(process).longest_s.get("a piece of an answer", 0.0) for process in self._nodes)
        busy_s = _core(joiner).busy_s + (sum(_core(one).busy_s for one in self._nodes) if gives else 0.0)
        held = _core(joiner).table.count_endpoints()
        bytes_each = (resident_bytes() - before) / max(1, held)
        self._say(f"a node has joined, and holds {held} endpoints")
        self._held[joiner] = []
        return took_s, busy_s, bytes_each

    def die(self) -> tuple[float, float]:
        """Have the largest node die.

        Returns:
            The seconds until nobody chose it any more, and those until all nodes knew all of its endpoints elsewhere.
        """
        cluster = self.cluster
        cluster.run(LEARNING_S)  # for so long a node that has just joined is more patient
        self._forget_times()
        largest = max(self._nodes, key=lambda process: len(self._held[process]))
        names, others = self._held.pop(largest), [one for one in self._nodes if one is not largest]
        began = cluster.time.now
        largest.end()
        for name in names:
            cluster.time.after(self._rng.uniform(0.2, BACK_S), self._register, self._rng.choice(others), name)

        def is_chosen() -> bool:
            return any(one.gossip.view.members[largest.node_id].status == "active" for one in others)

        not_chosen_s = cluster.until(lambda: not is_chosen(), MEET_S)
        self._say(f"nobody chooses it {not_chosen_s:.2f} s after its death")
        cluster.run(max(0.0, began + BACK_S - cluster.time.now))
        self._say("its agents have registered elsewhere")

        def is_told() -> bool:
            return all(
                one.gossip.view.members[other.node_id].map.version == other.own.version
                for one in others
                for other in others
                if one is not other
            )

        cluster.until(is_told, MEET_S)
        for process in others:
            core = _core(process)
            if core.keeps_table:
                own = set(self._held[process])
                elsewhere = [name.removeprefix("endpoint:") for name in names if name not in own]
                assert all(map(core.table.holders, elsewhere))
        return not_chosen_s, cluster.time.now - began

    def _register(self, process: Process, name: str) -> None:
        self._held[process].append(name)
        process.write(name, 1)

    # What is measured

    def _forget_times(self) -> None:
        for process in self._nodes:
            _core(process).forget_times()

    def longest_turn(self) -> tuple[str, float]:
        """The longest turn since the times were forgotten, and what it was."""
        turns = [turn for process in self._nodes for turn in _core(process).longest_s.items()]
        return max(turns, key=lambda turn: turn[1])

    def busy(self, seconds: float) -> float:
        """The share of a processor that the cores of a host take, in percent."""
        total_s = sum(_core(process).busy_s for process in self._nodes)
        return 100 * total_s / seconds / self._settings.hosts

    def p99_s(self) -> float:
        """Seconds until a change was known, of each other node."""
        each = sorted(self.cluster.spreads.each_s.get("endpoint", [0.0]))
        return each[int(0.99 * len(each))]

    def missing(self) -> int:
        """How often a change was not known after a minute."""
        return self.cluster.spreads.missing.get("endpoint", 0)


def _core(process: Process) -> TimedGossip:
    assert isinstance(process.gossip, TimedGossip)
    return process.gossip


def resident_bytes() -> int:
    """The memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def simulate_size(
    settings: SizeSettings, say: Callable[[str], object] = lambda text: None
) -> tuple[list[Figure], list[str]]:
    """Run it. Returns what was measured, and the other promises that were broken."""
    gc.disable()
    try:
        return _simulate(settings, say)
    finally:
        gc.enable()


def _simulate(settings: SizeSettings, say: Callable[[str], object]) -> tuple[list[Figure], list[str]]:
    large = LargeCluster(settings, say)
    large.begin()
    network = large.cluster.network
    packets, near, sent = network.packets, network.near_packets, network.sent_bytes
    large.changes(settings.seconds)
    host_s = settings.hosts * (settings.seconds + 1.0)
    packets, near = network.packets - packets, network.near_packets - near
    sent = network.sent_bytes - sent
    figures = [
        Figure(what="a change, until every other node knows it, p99", value=large.p99_s(), unit="s", most=0.3),
        Figure(what="changes that a node did not hear of", value=large.missing(), unit="", most=0),
        Figure(what="gossip of a host", value=packets / host_s, unit="packets/s"),
        Figure(what="of that between its workers", value=near / host_s, unit="packets/s"),
        Figure(what="all of it", value=sent / host_s / 1000, unit="kB/s"),
        Figure(what="cores of a host, of a processor", value=large.busy(settings.seconds + 1), unit="%", most=3.0),
    ]
    say(f"{settings.seconds:.0f} s of changes")
    turns = [("changes", *large.longest_turn())]
    joined_s, busy_s, bytes_each = large.join()
    turns.append(("a joiner", *large.longest_turn()))
    not_chosen_s, elsewhere_s = large.die()
    turns.append(("a death", *large.longest_turn()))
    held = bytes_each * settings.endpoints / 1e6
    most_mb = SMALLER_MB if settings.endpoints <= SMALLER else LARGER_MB
    figures += [
        Figure(what="memory of one endpoint in one process", value=bytes_each, unit="bytes"),
        Figure(what="all endpoints in one process", value=held, unit="MB"),
        Figure(what="the same in all processes of a host", value=held * settings.workers, unit="MB", most=most_mb),
        Figure(what="a joiner, until it knows all: packets, rounds and links", value=joined_s, unit="s", most=2.0),
        Figure(what="the same: processor time, its own and of who answers", value=busy_s, unit="s"),
        Figure(what="the largest node dies: not chosen any more", value=not_chosen_s, unit="s", most=3.0),
        Figure(what="the same: all that it had is elsewhere", value=elsewhere_s, unit="s", most=15.0),
    ]
    for when, what, took_s in turns:
        figures.append(Figure(what=f"longest turn, {when}: {what}", value=1000 * took_s, unit="ms", most=50.0))
    return figures, large.cluster.promises.broken


def main(arguments: Sequence[str]) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator.size", description="Simulate the gossip of a very large cluster."
    )
    default = SizeSettings()
    parser.add_argument("--hosts", type=int, default=default.hosts, help="how many (%(default)s)")
    parser.add_argument("--workers", type=int, default=default.workers, help="nodes on each (%(default)s)")
    parser.add_argument("--endpoints", type=int, default=default.endpoints, help="of the whole cluster (%(default)s)")
    parser.add_argument("--largest", type=int, default=default.largest, help="of the node that dies (%(default)s)")
    parser.add_argument("--changes", type=float, default=default.changes_per_s, help="a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of changes (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of all chance (%(default)s)")
    given = parser.parse_args(arguments)
    settings = SizeSettings(
        hosts=given.hosts,
        workers=given.workers,
        endpoints=given.endpoints,
        largest=given.largest,
        changes_per_s=given.changes,
        seconds=given.seconds,
        seed=given.seed,
    )
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {text}\n")

    figures, broken = simulate_size(settings, say)
    sys.stdout.write("\n".join(map(str, figures)) + "\n")
    broken = [*(figure.what for figure in figures if not figure.is_kept), *broken]
    sys.stdout.write(f"\n{len(broken)} promises broken\n" + "".join(f"{one}\n" for one in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

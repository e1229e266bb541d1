"""A cluster of gossip cores on virtual time, and everything that can be done to it.

`SimulatedCluster` starts, crashes, stops and cuts off what it is told to; `weather` tells it. Whatever happens,
`Promises` watches, and a digest over all that was told shows whether two runs were the same.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

import attrs

from pico_twisted.core.gossip import Event, Gossip, GossipSettings, KeysChanged
from pico_twisted.core.gossip.events import Value
from tests.simulator.network import Cut, NetworkSettings, Reach, VirtualNetwork, VirtualTime
from tests.simulator.node import Process, Surroundings
from tests.simulator.promises import CALM_S, Promises, ghost_bound_s
from tests.simulator.spreads import Spreads

LOOK_S = 0.25
"""Between two looks at what everybody shows."""
LOOK_CLOSELY = 40
"""Each so manyth look is a close one."""
EPOCH_MS = 1_700_000_000_000
"""What wall clocks say at the beginning."""
SPARE = 2
"""Machines without a node, for second processes with an ID that is taken."""
SAMPLED = 20
"""Each so manyth write of an endpoint is followed to everybody, beyond the first ones."""


@attrs.frozen(kw_only=True)
class ClusterSettings:
    """What is simulated.

    Attributes:
        nodes: machines that should run a node.
        seeds: so many of them are what the others join.
        seed: of all chance.
        network: how bad it is.
        interval_s: see `GossipSettings`, and so the next three.
        max_packet_bytes: see there.
        forget_s: see there.
        secrets: see there; without, packets are not sealed, which is quicker.
        liars: so many of the last nodes say to be workers of the second host, which they are not.
        make: makes a core.
        earlier: so many of them run an earlier version, as far as maps over links go, see `Surroundings`, and say
        nothing of their host.
        looks_closely: whether whole maps are compared every few seconds: not where there are a million entries.
    """

    nodes: int
    seeds: int = 3
    seed: int = 1
    network: NetworkSettings = attrs.field(factory=NetworkSettings)
    interval_s: float = 0.5
    max_packet_bytes: int = 1400
    forget_s: float = 300.0
    secrets: tuple[str, ...] = ()
    liars: int = 0
    make: Callable[..., Gossip] = Gossip
    earlier: int = 0
    looks_closely: bool = True


@attrs.define(eq=False)
class Machine:
    """Where a process can run.

    Attributes:
        number: from 0.
        address: of the gossip.
        node_id: of the process that runs there, or ran last.
        wall_ahead_s: how far its wall clock is ahead.
        process: what runs there, or ran last.
    """

    number: int
    address: str
    node_id: str
    wall_ahead_s: float = 0.0
    process: Process | None = None

    @property
    def running(self) -> Process | None:
        """The process, if it runs and was not stopped and did not say that it leaves."""
        process = self.process
        return process if process is not None and process.running and process.left_at is None else None


class SimulatedCluster:
    """All of it.

    Args:
        settings: what is simulated.

    Attributes:
        time: the clock.
        machines: all of them; the spare ones are the last.
        processes: all that ever were and may still matter.
        promises: what was broken.
        spreads: how long news took.
        network: counts packets.
        ghost_s: how long a process may be shown after its end.
        counts: what happened, by name.
        started: processes so far.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self.time = VirtualTime()
        self.rng = random.Random(settings.seed)
        machines = settings.nodes + SPARE
        self.machines = [
            Machine(number, f"10.0.{number // 250}.{number % 250 + 1}:8003", f"n{number}") for number in range(machines)
        ]
        self.processes: list[Process] = []
        self.reach = Reach(self.time, machines)
        self.network = VirtualNetwork(self.time, self.reach, settings.network, random.Random(self.rng.getrandbits(64)))
        self.ghost_s = ghost_bound_s(settings.interval_s)
        self.promises = Promises(
            self.time, self.reach, self.ghost_s, lambda: self.processes, self._shows, self._finds_a_seed
        )
        self.spreads = Spreads(self.promises.calm)
        self.counts: dict[str, int] = {}
        self.started = 0
        self._seeds = tuple(machine.address for machine in self.machines[: settings.seeds])
        self._around = Surroundings(
            time=self.time,
            network=self.network,
            reach=self.reach,
            rng=random.Random(self.rng.getrandbits(64)),
            find=self._find,
            watch=self,
            make=settings.make,
            earlier=settings.earlier,
        )
        self._by_address = {machine.address: machine for machine in self.machines}
        self._log = hashlib.blake2b(digest_size=16)
        self._writes = 0
        self._looks = 0
        self.time.after(LOOK_S, self._look)

    # What can be done

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run_until(self.time.now + seconds)

    def start(self, machine: int, *, node_id: str | None = None) -> Process:
        """Start a node on a machine, with the ID that it had last or another one."""
        place = self.machines[machine]
        assert place.process is None or place.process.ended_at is not None, "there is one already"
        if node_id is not None:
            place.node_id = node_id
        if any(one.running and one.node_id == place.node_id for one in self.processes):
            self.promises.twins(place.node_id)
            self.count("twins")
        settings = self.settings
        self.started += 1
        place.process = Process(
            self._around,
            GossipSettings(
                node_id=place.node_id,
                secrets=settings.secrets,
                interval_s=settings.interval_s,
                max_packet_bytes=settings.max_packet_bytes,
                host=self._host(machine),
                forget_s=settings.forget_s,
            ),
            machine=machine,
            address=place.address,
            seeds=self._seeds,
            wall_ms=EPOCH_MS + int((self.time.now + place.wall_ahead_s) * 1000),
            number=self.started,
        )
        return place.process

    def _host(self, machine: int) -> str:
        """What the node of a machine says to be a worker of."""
        settings = self.settings
        workers = settings.network.workers
        if workers == 1 or machine < settings.earlier:
            return ""
        return f"h{machine // workers}" if machine < settings.nodes - settings.liars else "h1"

    def start_all(self, within_s: float = 2.0, keys: Callable[[int], dict[str, Value]] = lambda _: {}) -> None:
        """Start all nodes that were not started yet, one after the other, each with these keys."""
        for machine in [one.number for one in self.machines[: self.settings.nodes] if one.process is None]:
            process = self.start(machine)
            for key, value in keys(machine).items():
                process.write(key, value)
            self.run(within_s / self.settings.nodes)

    def running(self) -> list[Process]:
        """The processes that are there, not stopped, and stay."""
        return [process for process in self.processes if process.running and process.left_at is None]

    def _nodes(self) -> list[Process]:
        """Those of them that are nodes: who only visits is told no news."""
        return [process for process in self.running() if not process.visits]

    def cut(self, cells: Sequence[int], deaf: frozenset[tuple[int, int]]) -> Cut:
        """Cut the network; a cell for each machine, the spare ones too."""
        cut = Cut(tuple(cells), deaf)
        self.reach.cut(cut)
        self._reach_changed()
        self._tell("cut", deaf and sorted(deaf))
        return cut

    def split(self, one_side: Sequence[int]) -> Cut:
        """Cut these machines off from the others, both ways."""
        side = set(one_side)
        cells = [int(machine.number in side) for machine in self.machines]
        return self.cut(cells, frozenset({(0, 1), (1, 0)}))

    def heal(self, cut: Cut) -> None:
        """Take a cut back."""
        self.reach.heal(cut)
        self._reach_changed()
        self._tell("heal")
        if not self.reach.cuts:
            running = self._nodes()
            for process in running:
                others = [other for other in running if not self._shows_live(other, process)]
                self.spreads.begin("heal", process, others, self.time.now, status="active")

    def is_one(self) -> bool:
        """Whether all show each other, with all that each says of itself."""
        running = self.running()
        return all(
            self._shows_live(one, other) and one.gossip.view.members[other.node_id].map.version == other.own.version
            for one in running
            for other in running
            if one is not other
        )

    def until(self, true: Callable[[], bool], within_s: float) -> float:
        """Let time pass until something is so; returns how long that took.

        Raises:
            AssertionError: it took longer than allowed.
        """
        began = self.time.now
        while not true():
            assert self.time.now - began < within_s, f"not so within {within_s} s: {self.promises.broken}"
            self.run(0.05)
        return self.time.now - began

    def digest(self) -> str:
        """Of all that happened: the same for two runs that were the same."""
        log = self._log.copy()
        log.update(f"{self.network.packets} {self.network.sent_bytes} {self.rng.random()}".encode())
        return log.hexdigest()

    def count(self, name: str, by: int = 1) -> None:
        """Count something for the figures."""
        self.counts[name] = self.counts.get(name, 0) + by

    # What processes tell (IWatch)

    def happened(self, process: Process, event: Event) -> None:
        """A core told of an event."""
        self.count(type(event).__name__)
        if isinstance(event, KeysChanged):
            self._tell(process.number, event.node_id, len(event.keys) + len(event.endpoints))
        else:
            self._tell(process.number, event)
        self.promises.happened(process, event)

    def wrote(self, process: Process, key: str, value: Value | None) -> None:
        """A process says something new of itself."""
        self._tell(process.number, key, value)
        self._writes += 1
        kind = "endpoint" if key.startswith("endpoint:") else "draining" if value == "draining" else ""
        if kind == "draining":
            self.spreads.begin(kind, process, self._nodes(), self.time.now, status="draining")
        elif kind and not self._writes % SAMPLED:
            self.spreads.begin(kind, process, self._nodes(), self.time.now, version=process.own.version)

    def changed(self, process: Process, what: str) -> None:
        """A process started, ended, stops, goes on, leaves, or took another generation."""
        self.count(what)
        self._tell(process.number, process.node_id, what, process.generations[-1])
        now = self.time.now
        if what == "started":
            self.processes.append(process)
            if self.settings.looks_closely and process.machine % max(1, self.settings.nodes // 10) == 0:
                self.promises.witness(process)
        elif what == "took another generation":
            self.promises.owns(process)
            if len(process.generations) == 2:
                self.promises.claimed(process)
                self.spreads.superseded(process.node_id, now)
                self.spreads.begin("start", process, self._nodes(), now, status="active")
            process.claimed_at = process.calm_since = now  # others learn of it as of a start
        elif what == "leaves" and not process.visits:
            self.spreads.begin("left", process, self._showing(process), now, status="left")
        elif what == "ended":
            if process.conflict:
                self.promises.twins(process.node_id)
            elif process.left_at is None and not process.visits:
                self.spreads.begin("crash", process, self._showing(process), now, status="unreachable")
        self._reach_changed()

    # Inside

    def _tell(self, *what: object) -> None:
        self._log.update(repr((self.time.now, what)).encode())

    def _find(self, address: str) -> Process | None:
        machine = self._by_address.get(address)
        process = machine.process if machine is not None else None
        return process if process is not None and process.ended_at is None else None

    def _finds_a_seed(self, process: Process) -> bool:
        hears, own = self.reach.hears, process.machine
        is_seed = own < self.settings.seeds
        return any(
            one.machine != own and hears(own, one.machine) and hears(one.machine, own)
            for one in self.running()
            if is_seed or one.machine < self.settings.seeds
        )

    def _shows(self, observer: Process, process: Process, status: str | None, version: int) -> None:
        self.spreads.shown(process, observer, status, version, self.time.now)

    def _shows_live(self, observer: Process, process: Process) -> bool:
        member = observer.gossip.view.members.get(process.node_id)
        return member is not None and member.generation == process.gossip.generation and member.status == "active"

    def _showing(self, process: Process) -> list[Process]:
        return [other for other in self._nodes() if self._shows_live(other, process)]

    def _reach_changed(self) -> None:
        running = [process.machine for process in self.running()]
        self.reach.look(running, [machine for machine in running if machine < self.settings.seeds])

    def _look(self) -> None:
        self._looks += 1
        now = self.time.now
        self.promises.packet(self.network.largest_bytes, self.settings.max_packet_bytes)
        self.promises.look()
        if self._looks % 4 == 0:
            self.spreads.look(now)
        if self._looks % LOOK_CLOSELY == 0:
            if self.settings.looks_closely:
                self.promises.look_closely()
            old = now - self.settings.forget_s - 10 * CALM_S
            self.processes = [one for one in self.processes if one.ended_at is None or one.ended_at > old]
        self.time.after(LOOK_S, self._look)

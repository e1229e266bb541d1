"""What befalls a simulated cluster: crashes, restarts, stops, partitions, leaves, clocks that jump, endpoints that
move.

Each kind of event comes by chance, on average once in so many seconds. Not everything at once: at most a fifth of the
machines is down or stopped at a time, and one seed, since a cluster that lost all of its seeds is not promised to take
anybody in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import attrs

from pico_twisted.core.gossip.events import Value
from tests.simulator.cluster import Machine, SimulatedCluster
from tests.simulator.network import Cut
from tests.simulator.node import Process

CLOCK_JUMPS_S: Final = (-3600.0, -5.0, 0.0, 5.0, 3600.0)
"""How far a wall clock may be ahead after it jumped."""
AGENTS_BACK_S: Final = 2.0
"""Within this long the agents of a node that restarted are there again."""
HOST_CRASHES: Final = 0.3
"""Share of the crashes of a worker with which all of its host crash."""
SEED_BACK_S: Final = 20.0
"""A seed comes back within this long."""


@attrs.frozen(kw_only=True)
class WeatherSettings:
    """How often what happens: on average once in so many seconds; 0: never.

    Attributes:
        crash_s: a process crashes, and mostly starts again with the same ID; sometimes all workers of its host do.
        leave_s: a process drains and leaves, and starts again.
        stop_s: a process is stopped for 0.3 s to `longest_stop_s`.
        cut_s: the network is cut for 1 s to `longest_cut_s`: in two, in three with one between, one way, or one machine
        off.
        long_cut_s: it is cut in two for longer than dead nodes are remembered.
        twin_s: a second process is started with an ID that is taken.
        longest_stop_s, longest_cut_s: see above.
        endpoints: of the whole cluster.
        changes_per_s: registrations and deregistrations.
    """

    crash_s: float = 20.0
    leave_s: float = 40.0
    stop_s: float = 20.0
    cut_s: float = 90.0
    long_cut_s: float = 1500.0
    twin_s: float = 200.0
    longest_stop_s: float = 150.0
    longest_cut_s: float = 60.0
    endpoints: int = 1000
    changes_per_s: float = 5.0


class Weather:
    """Makes it happen.

    Args:
        cluster: to whom.
        settings: how often.
    """

    def __init__(self, cluster: SimulatedCluster, settings: WeatherSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._rng = random.Random(cluster.rng.getrandbits(64))
        self._nodes = cluster.settings.nodes
        self._next_id = 0
        self._cutting = False
        self._over = False
        self._endpoints: list[dict[str, int]] = [{} for _ in cluster.machines]
        for number in range(settings.endpoints):
            self._endpoints[number % self._nodes][f"endpoint:service-{number}"] = self._rng.randrange(1, 4)
        self._made = settings.endpoints

    def keys(self, machine: int) -> dict[str, Value]:
        """What the node of a machine says at its start."""
        return {"version": "1.0", "proxy_addr": f"10.1.0.{machine}:8000", **self._endpoints[machine]}

    def begin(self) -> None:
        """Let it happen from now on."""
        settings = self._settings
        for mean_s, do in (
            (settings.crash_s, self._crash),
            (settings.leave_s, self._leave),
            (settings.stop_s, self._stop),
            (settings.cut_s, self._cut),
            (settings.long_cut_s, self._cut_long),
            (settings.twin_s, self._twin),
            (1.0 / settings.changes_per_s if settings.changes_per_s else 0.0, self._change),
        ):
            if mean_s > 0:
                self._again(mean_s, do)

    def end(self) -> None:
        """Let nothing further begin. What has begun goes on: a cut heals, who is stopped goes on."""
        self._over = True

    def _again(self, mean_s: float, do: Callable[[], None]) -> None:
        self._cluster.time.after(self._rng.expovariate(1.0 / mean_s), self._do, mean_s, do)

    def _do(self, mean_s: float, do: Callable[[], None]) -> None:
        if not self._over:
            do()
            self._again(mean_s, do)

    def _between(self, low: float, high: float) -> float:
        """A number, as likely between 1 and 2 as between 10 and 20."""
        return math.exp(self._rng.uniform(math.log(low), math.log(max(low, high))))

    def _victim(self) -> Machine | None:
        """A machine to which something may happen now."""
        machines = self._cluster.machines[: self._nodes]
        well = [machine for machine in machines if machine.running is not None]
        if self._nodes - len(well) >= max(1, self._nodes // 5):
            return None
        seeds = self._cluster.settings.seeds
        if sum(machine.number < seeds for machine in well) < seeds:
            well = [machine for machine in well if machine.number >= seeds]
        return self._rng.choice(well) if well else None

    def _is_seed(self, machine: Machine) -> bool:
        return machine.number < self._cluster.settings.seeds

    # Processes

    def _crash(self) -> None:
        machine = self._victim()
        if machine is not None and machine.running is not None:
            for one in self._who_crash(machine):
                if one.running is not None:
                    one.running.end()
                    self._start_later(one)

    def _who_crash(self, machine: Machine) -> list[Machine]:
        """A machine, or all of its host: as when the host dies, or the parent of its workers."""
        machines, number = self._cluster.machines[: self._nodes], self._host(machine.number)
        host = [one for one in machines if self._host(one.number) == number]
        together = len(host) > 1 and not any(map(self._is_seed, host)) and self._rng.random() < HOST_CRASHES
        return host if together else [machine]

    def _host(self, machine: int) -> int:
        return machine // self._cluster.settings.network.workers

    def _leave(self) -> None:
        machine = self._victim()
        if machine is not None and machine.running is not None:
            process = machine.running
            process.write("status", "draining")
            self._cluster.time.after(self._rng.uniform(0.5, 5.0), self._leave_now, machine, process)

    def _leave_now(self, machine: Machine, process: Process) -> None:
        if process.running:
            process.leave()
        if process.ended_at is None:
            self._cluster.time.after(0.5, self._leave_now, machine, process)
        elif machine.process is process:
            self._start_later(machine)

    def _start_later(self, machine: Machine) -> None:
        rng, forget_s = self._rng, self._cluster.settings.forget_s
        low, high = rng.choices(
            [(0.2, 3.0), (3.0, 30.0), (30.0, forget_s), (1.1 * forget_s, 1.4 * forget_s)], [0.4, 0.35, 0.15, 0.1]
        )[0]
        down_s = self._between(low, high)
        if self._is_seed(machine):
            down_s = min(down_s, SEED_BACK_S)
        node_id = None
        if rng.random() < 0.2:
            self._next_id += 1
            node_id = f"m{self._next_id}"
        if rng.random() < 0.4:
            machine.wall_ahead_s = rng.choice(CLOCK_JUMPS_S)
        self._cluster.time.after(down_s, self._start, machine, node_id)

    def _start(self, machine: Machine, node_id: str | None) -> None:
        if machine.process is not None and machine.process.ended_at is None:
            return  # one that left while it was told of a twin would be started twice
        process = self._cluster.start(machine.number, node_id=node_id)
        keys = self.keys(machine.number)
        for key in [key for key in keys if not key.startswith("endpoint:")]:
            process.write(key, keys.pop(key))
        waves = 4
        wave = list(keys.items())
        for number in range(waves):
            self._cluster.time.after(
                self._rng.uniform(0.05, AGENTS_BACK_S), self._register, process, wave[number::waves], machine
            )

    def _register(self, process: Process, keys: list[tuple[str, Value]], machine: Machine) -> None:
        for key, value in keys:
            if process.running and process.left_at is None and key in self._endpoints[machine.number]:
                process.write(key, value)

    def _stop(self) -> None:
        machine = self._victim()
        if machine is not None and machine.running is not None:
            longest_s = self._settings.longest_stop_s
            machine.running.stop(
                self._between(0.3, min(longest_s, SEED_BACK_S) if self._is_seed(machine) else longest_s)
            )

    def _twin(self) -> None:
        cluster = self._cluster
        machine, spare = self._victim(), cluster.machines[self._nodes]
        if machine is None or machine.running is None or (spare.process is not None and spare.process.ended_at is None):
            return
        spare.wall_ahead_s = self._rng.choice((-60.0, 0.0, 60.0))
        twin = cluster.start(spare.number, node_id=machine.node_id)
        cluster.time.after(30.0, self._end_twin, machine, machine.running, twin)

    def _end_twin(self, machine: Machine, process: Process, twin: Process) -> None:
        twin.end()
        if machine.process is process and process.conflict:
            self._next_id += 1
            self._cluster.time.after(1.0, self._start, machine, f"m{self._next_id}")

    # The network

    def _cut(self) -> None:
        if not self._cutting:
            self._cut_for(
                self._between(1.0, self._settings.longest_cut_s), self._rng.choice(("two", "three", "one way", "one"))
            )

    def _cut_long(self) -> None:
        if not self._cutting:
            self._cut_for(self._cluster.settings.forget_s * self._rng.uniform(0.6, 1.3), "two")

    def _cut_for(self, seconds: float, how: str) -> None:
        rng, machines = self._rng, len(self._cluster.machines)
        hosts = self._host(machines - 1) + 1
        self._cutting = True
        if how == "one":
            lonely = rng.randrange(self._nodes)
            cells = [int(host == self._host(lonely)) for host in range(hosts)]
        elif how == "three":  # those in the middle talk with both sides
            cells = [rng.choices((0, 1, 2), (0.3, 0.3, 0.4))[0] for _ in range(hosts)]
        else:
            share = rng.uniform(0.1, 0.9)
            cells = [int(rng.random() < share) for _ in range(hosts)]
        deaf = frozenset({(0, 1)} if how == "one way" else {(0, 1), (1, 0)})
        cut = self._cluster.cut([cells[self._host(number)] for number in range(machines)], deaf)
        self._cluster.count(f"cut: {how}")
        self._cluster.time.after(seconds, self._heal, cut)

    def _heal(self, cut: Cut) -> None:
        self._cutting = False
        self._cluster.heal(cut)

    # Endpoints

    def _change(self) -> None:
        """An agent registers, leaves, or comes a second time."""
        rng = self._rng
        number = rng.randrange(self._nodes)
        process = self._cluster.machines[number].running
        if process is None:
            return
        endpoints = self._endpoints[number]
        chance = rng.random()
        if chance < 0.4 and endpoints:
            key = rng.choice(list(endpoints))
            del endpoints[key]
            process.write(key, None)
        elif chance < 0.8:
            self._made += 1
            key = f"endpoint:service-{rng.randrange(self._made) if rng.random() < 0.3 else self._made}"
            endpoints[key] = 1
            process.write(key, 1)
        elif endpoints:
            key = rng.choice(list(endpoints))
            endpoints[key] = rng.randrange(1, 5)
            process.write(key, endpoints[key])

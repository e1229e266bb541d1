"""Whole clusters on virtual time: what the gossip promises holds, whatever happens; and the simulator would see it if
it did not.

A run with more nodes, for longer: `make simulate`.
"""

from __future__ import annotations

from typing import Any

import pytest

from pico_twisted.core.gossip import Gossip
from pico_twisted.core.gossip.packets import Digest
from pico_twisted.core.gossip.view import View
from tests.examples import examples
from tests.simulator import run
from tests.simulator.chaos import Weather, WeatherSettings
from tests.simulator.cluster import ClusterSettings, SimulatedCluster
from tests.simulator.network import NetworkSettings
from tests.simulator.run import main, report, simulate

pytestmark = pytest.mark.slow
LOSSY = NetworkSettings(loss=0.1)
BUSY = WeatherSettings(crash_s=8, leave_s=15, stop_s=10, cut_s=30, long_cut_s=200, twin_s=40, endpoints=400)
"""Everything befalls a small cluster, often."""
QUIET = WeatherSettings(crash_s=0, leave_s=0, stop_s=0, cut_s=0, long_cut_s=0, twin_s=0, endpoints=100, changes_per_s=5)


def broken(simulated: SimulatedCluster, kind: str = "") -> list[str]:
    """The promises that were broken, or those of one kind."""
    return [line for line in simulated.promises.broken if f"  {kind}" in line]


def settled(nodes: int, **settings: Any) -> SimulatedCluster:
    """A cluster without weather, all of whose nodes have found each other."""
    simulated = SimulatedCluster(ClusterSettings(nodes=nodes, **settings))
    befalls = Weather(simulated, QUIET)
    simulated.start_all(1.0, befalls.keys)
    simulated.until(simulated.is_one, 10.0)
    return simulated


def test_the_same_seed_is_the_same_run() -> None:
    """A run can be repeated to the last packet; another seed is another run."""
    digests = [simulate(ClusterSettings(nodes=8, seed=seed, network=LOSSY), BUSY, 0.7).digest() for seed in (4, 4, 5)]
    assert digests[0] == digests[1] != digests[2]


def test_small_and_busy() -> None:
    """A cluster of ten to which everything happens all the time, for three minutes, keeps every promise; in
    `make check` the simulations are shorter."""
    simulated = simulate(ClusterSettings(nodes=10, network=LOSSY, forget_s=60.0), BUSY, examples(180) / 60)
    assert broken(simulated) == []


@pytest.mark.parametrize("earlier", [1, 5])
def test_mixed_versions(earlier: int) -> None:
    """The same where some nodes give and take whole maps alone, and others what is lacking of them."""
    settings = ClusterSettings(nodes=6, network=LOSSY, forget_s=60.0, earlier=earlier)
    assert broken(simulate(settings, BUSY, examples(60) / 60)) == []


@pytest.mark.parametrize("earlier", [0, 4])
def test_hosts_with_workers(earlier: int) -> None:
    """Four hosts of three, to which everything happens: their workers die together, too, and one node lies about its
    host, and workers of an earlier version say none. Every promise is kept."""
    network = NetworkSettings(loss=0.1, workers=3)
    settings = ClusterSettings(nodes=12, network=network, liars=1, earlier=earlier, forget_s=60.0)
    simulated = simulate(settings, BUSY, examples(90) / 60)
    assert broken(simulated) == [], "\n".join(report(simulated))


def test_sealed() -> None:
    """The same with a secret."""
    simulated = simulate(ClusterSettings(nodes=6, network=LOSSY, secrets=("s",)), BUSY, examples(60) / 60)
    assert broken(simulated) == []


def test_a_minute_of_twenty_nodes() -> None:
    """Twenty nodes with two thousand endpoints, every tenth packet lost, through crashes, restarts, stops, partitions,
    leaves and clocks that jump: every promise is kept for a minute. A hundred nodes, for an hour: `make simulate`."""
    weather = WeatherSettings(
        crash_s=6,
        leave_s=12,
        stop_s=5,
        longest_stop_s=10,
        cut_s=15,
        longest_cut_s=20,
        long_cut_s=40,
        twin_s=40,
        endpoints=2000,
    )
    seconds = examples(60)
    simulated = simulate(ClusterSettings(nodes=20, network=LOSSY), weather, seconds / 60)
    assert broken(simulated) == [], "\n".join(report(simulated))
    for what in ("ended", "leaves", "stops", "goes on"):
        assert simulated.counts[what] > seconds // 20
    assert any(name.startswith("cut") for name in simulated.counts)


@pytest.mark.parametrize("length_s", [5.0, 50.0, 100.0])
def test_partition_of_any_length(length_s: float) -> None:
    """A cluster that was cut in two, also for longer than anybody is remembered, is one again within 10 s, with what
    was said and taken back on both sides."""
    simulated = settled(12, forget_s=60.0, network=LOSSY)
    cut = simulated.split(range(5))
    simulated.run(length_s)
    running = [machine.running for machine in simulated.machines[::3] if machine.running is not None]
    for key, value in (("endpoint:new", 1), ("endpoint:gone", 1), ("endpoint:gone", None)):
        for node in running:
            node.write(key, value)
        simulated.run(0.5)
    assert not simulated.is_one()
    simulated.heal(cut)
    simulated.until(simulated.is_one, 10.0)
    assert broken(simulated) == []


def test_five_hundred_registrations_a_second() -> None:
    """Five hundred registrations and deregistrations a second are carried, with every tenth packet lost: nobody is ever
    10 s behind, and all views are equal within 10 s of the last one."""
    simulated = SimulatedCluster(ClusterSettings(nodes=5, network=LOSSY))
    befalls = Weather(
        simulated,
        WeatherSettings(
            endpoints=1000, changes_per_s=500, crash_s=0, leave_s=0, stop_s=0, cut_s=0, long_cut_s=0, twin_s=0
        ),
    )
    simulated.start_all(1.0, befalls.keys)
    befalls.begin()
    simulated.run(15.0)
    assert broken(simulated) == []
    befalls.end()
    simulated.until(simulated.is_one, 10.0)
    assert simulated.counts["KeysChanged"] > 1000


def test_a_burst_of_one_node_makes_nobody_impatient() -> None:
    """A node that says much for a while, and then nothing, is never missed for that."""
    simulated = settled(10, network=LOSSY)
    speaker = simulated.machines[7].running
    assert speaker is not None
    for number in range(400):
        speaker.write(f"endpoint:burst-{number}", 1)
        simulated.run(0.05)
    simulated.run(15.0)
    assert broken(simulated) == []


# The checks can fail


class Rejuvenating(View):
    """Takes each mention of a node for a sign of life."""

    def hear_all(self, digest: list[Digest], reporter: str, said_at: float, now: float) -> None:
        """Hear it as if it were said of this moment."""
        for node_id, generation, heartbeat, version, floor, _ in digest:
            known = self.members.get(node_id)
            if known is not None and known.generation == generation:
                heartbeat = max(heartbeat, known.heartbeat + 1)
            self.hear((node_id, generation, heartbeat, version, floor, 0), reporter, said_at, now)

    def _hear_of_ourselves(self, item: Digest, said_at: float, now: float, *, from_itself: bool = False) -> None:
        """Our own heartbeat, made young by others, is no other process."""


class Credulous(View):
    """Takes whatever is spoken of for a node that is there, and never stops to speak of it."""

    def hear(self, item: Digest, reporter: str, said_at: float, now: float) -> None:
        """Confirm on hearsay."""
        super().hear(item, reporter, said_at, now)
        member = self.unconfirmed.get(item[0])
        if member is not None:
            self._confirm(member, now)

    def _is_fresh(self, at: float, now: float) -> bool:
        return True

    def spoken_of(self, member: Any, now: float) -> bool:
        """Everybody is."""
        return True


class Sleepy(View):
    """Takes its own pause for the silence of others."""

    def woke(self, now: float) -> None:
        """Judge as ever."""


class Forgetful(View):
    """Takes entries, whatever is missing before them."""

    def apply(self, delta: Any, reporter: str, now: float) -> tuple[bool, int | None]:
        """As if nothing were missing."""
        member = self.of(delta.node_id, delta.generation)
        if member is not None and member.map.version < delta.after:
            member.map.version = delta.after
        return super().apply(delta, reporter, now)


@pytest.mark.parametrize(
    ("view", "kind"),
    [(Rejuvenating, "ghost"), (Credulous, "ghost"), (Sleepy, "false unreachable"), (Forgetful, "views")],
)
def test_faults_are_seen(view: type[View], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core with a fault of a kind that gossip is known for breaks the promise of that kind; the report says so, and
    the command ends with status 1."""

    def faulty(*args: Any, **kwargs: Any) -> Gossip:
        gossip = Gossip(*args, **kwargs)
        gossip.view.__class__ = view
        return gossip

    weather = WeatherSettings(crash_s=5, leave_s=20, stop_s=10, cut_s=20, long_cut_s=0, twin_s=0, endpoints=200)
    settings = ClusterSettings(nodes=12, network=LOSSY, forget_s=40.0, make=faulty)
    simulated = simulate(settings, weather, 4.0, enough=lambda simulated: broken(simulated, kind) != [])
    assert broken(simulated, kind), "\n".join(report(simulated))
    assert any(kind in line for line in report(simulated))
    monkeypatch.setattr(run, "simulate", lambda *arguments: simulated)
    assert run.main([]) == 1


# By hand


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Run by hand it prints how long what took and what it cost, and succeeds when no promise was broken."""
    assert main(["--nodes", "6", "--endpoints", "50", "--minutes", "0.3", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "start, until shown as active",
        "a node a second:",
        "largest packet:",
        "digest of all",
        "0 promises broken",
    ):
        assert text in printed

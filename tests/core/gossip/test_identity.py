"""Another process with our ID: alive, or what is remembered of our last life."""

from __future__ import annotations

import math
import random

import pytest

from pico_twisted.core.gossip import Gossip, GossipSettings
from pico_twisted.core.gossip.gossip import GENERATIONS
from pico_twisted.core.gossip.identity import PROOF_S, WATCH_S, OwnIdentity
from pico_twisted.core.gossip.own import VISITOR
from pico_twisted.core.protocol_limits import MAX_GENERATION
from tests.core.gossip.gossips import WALL_MS, Core, Wire


def is_shown(by: Core, other: Core) -> bool:
    """Whether a core shows another as it is now."""
    member = by.gossip.view.members.get(other.node_id)
    return member is not None and member.status == "active" and member.generation == other.gossip.generation


# Whether the other is alive


def hear(
    own: OwnIdentity, generation: int, heartbeat: int, alive_at: float, now: float, *, from_itself: bool = False
) -> None:
    """A node says now what another process with our ID was at a time."""
    own.heard(generation, heartbeat, now - alive_at, now, now, from_itself=from_itself)


def test_silent_for_long() -> None:
    """What was silent for the whole watch before we heard of it need not be watched: its successor is taken at once."""
    own = OwnIdentity()
    hear(own, 7, 1000, 90.0, 100.0)
    assert not own.alive and own.due() == 100.0 and own.is_free(100.0) and own.successor(100.0) == 8
    assert own.due() == math.inf and own.is_free(200.0) and own.successor(200.0) is None


def test_hearsay_of_the_dead_in_any_order() -> None:
    """News of a dead one may come late, young and out of order: it never counts as alive, and its successor is taken
    when the watch is over."""
    own, rng = OwnIdentity(), random.Random(3)
    died_at = 99.9
    now = 100.0
    while now < 100.0 + WATCH_S:
        age_s = rng.uniform(0, 2)
        heartbeat = int((died_at - age_s) * 1000)
        hear(own, 7, heartbeat, died_at - age_s, now)
        assert not own.alive
        now += 0.05
        if now < 100.0 + WATCH_S:
            assert own.successor(now) is None
    assert own.successor(now) == 8


def test_lives_on() -> None:
    """A heartbeat from a second after the watch began, and a second later than the first, comes from the living; then
    the ID is free when that has been silent for the whole watch."""
    own = OwnIdentity()
    hear(own, 7, 5000, 100.0, 100.0)
    hear(own, 7, 5000 + int(PROOF_S * 1000) - 1, 100.0 + PROOF_S, 100.0 + PROOF_S)
    assert not own.alive
    hear(own, 7, 5000 + int(PROOF_S * 1000), 102.0, 102.5)
    assert own.alive and own.uptime_s == 6.0
    assert not own.is_free(102.0 + WATCH_S - 0.01) and own.is_free(102.0 + WATCH_S)


def test_its_own_word() -> None:
    """A packet of the other itself, which answers ours, shows at once that it lives; its last word, that it is gone."""
    own = OwnIdentity()
    hear(own, 7, 5000, 100.0, 100.0, from_itself=True)
    assert own.alive and not own.is_free(101.0)
    own.heard_entries(7, [("gossip_addr", "10.0.0.3:8003", 1), ("status", "draining", 9)])
    assert own.address == "10.0.0.3:8003" and not own.is_free(101.0)
    own.heard_entries(7, [("status", "left", 12)])
    own.heard_entries(7, [("status", "draining", 9)])
    own.heard_entries(6, [("status", "active", 99)])
    assert own.is_free(101.0) and own.successor(101.0) == 8


def test_the_highest_is_watched() -> None:
    """Of several others the one with the highest generation is watched, from when it was heard of."""
    own = OwnIdentity()
    hear(own, 7, 1000, 100.0, 100.0)
    hear(own, 9, 50, 101.0, 101.0)
    hear(own, 7, 9999, 103.0, 103.0)
    assert not own.alive
    assert own.generation == 9 and own.successor(103.5) is None and own.successor(104.0) == 10


# In a cluster


def test_restart_with_a_clock_set_back(wire: Wire) -> None:
    """A node that comes back with its clock an hour back is shown as active within 5 s, as one node."""
    cores = wire.some(4)
    wire.end(cores[3])
    wire.run(0.5)
    back = wire.add("n3", seeds=("n0:1",), wall_ms=WALL_MS - 3_600_000)
    took_s = wire.until(lambda: all(is_shown(one, back) for one in cores[:3]))
    assert took_s < 5.0 and WALL_MS < back.gossip.generation <= WALL_MS + 2 * GENERATIONS
    assert not back.conflicts() and back.gossip.counts["generations"] == 1


@pytest.mark.parametrize("down_s", [4.0, 12.0, 19.0, 25.0])
@pytest.mark.parametrize("leaves", [False, True])
def test_restart_with_a_clock_set_back_whenever(wire: Wire, down_s: float, leaves: bool) -> None:
    """The same, however long the node was away: remembered and spoken of, remembered only, or forgotten."""
    cores = wire.some(4, forget_s=20.0)
    if leaves:
        cores[3].gossip.leave(wire.now)
        wire.run(0.2)
    wire.end(cores[3])
    wire.run(down_s)
    back = wire.add("n3", seeds=("n0:1",), wall_ms=WALL_MS - 3_600_000, forget_s=20.0)
    wire.until(lambda: all(is_shown(one, back) for one in cores[:3]), 5.0)
    assert all("left" not in one.statuses("n3")[-2:] for one in cores[:3])


def test_restart_with_the_clock_at_the_same_millisecond(wire: Wire) -> None:
    """A node that comes back with the very same generation takes another one."""
    cores = wire.some(3)
    wire.end(cores[2])
    wire.run(0.3)
    back = wire.add("n2", seeds=("n0:1",))
    wire.until(lambda: WALL_MS < back.gossip.generation <= WALL_MS + 2 * GENERATIONS, 5.0)
    members = [one.gossip.view.members for one in cores[:2]]
    wire.until(lambda: all(held["n2"].generation == back.gossip.generation for held in members), 2.0)
    assert all(one.status("n2") == "active" for one in cores[:2])


def test_restart_with_a_clock_ahead(wire: Wire) -> None:
    """A node that comes back later supersedes its last life at once: nobody waits for anything."""
    cores = wire.some(4)
    wire.end(cores[3])
    back = wire.add("n3", seeds=("n0:1",), wall_ms=WALL_MS + 1000)
    wire.until(lambda: all(is_shown(one, back) for one in cores[:3]), 1.0)
    assert all(one.statuses("n3") == ["active", "active"] for one in cores[:3])


def test_two_that_take_a_generation_at_the_same_time() -> None:
    """Two processes of one ID that come back in two halves of a parted cluster, both with clocks set back, do not take
    the same generation: their writes could never be told apart."""
    wires = [Wire(seed=seed) for seed in (1, 2)]
    taken = set()
    for wire in wires:
        cores = wire.some(3)
        wire.end(cores[2])
        back = wire.add("n2", seeds=("n0:1",), wall_ms=WALL_MS - 9)
        wire.until(lambda one=back: one.gossip.generation > WALL_MS, 5.0)  # type: ignore[misc]
        taken.add(back.gossip.generation)
    assert len(taken) == 2


def test_a_newcomer_with_an_id_that_is_taken(wire: Wire) -> None:
    """A process that starts with the ID of a living one stays out, whatever its clock says: nobody is told of it, the
    other goes on as it was, and the newcomer says whose ID it is and for how long that has been up."""
    cores = wire.some(3)
    wire.run(20.0)
    before = [len(one.events) for one in cores]
    twin = wire.add("n2", address="twin:1", seeds=("n0:1",), wall_ms=WALL_MS + 99_000)
    wire.until(lambda: bool(twin.in_use()), 5.0)
    ((address, uptime_s),) = twin.in_use()
    assert address == "n2:1" and 20.0 < uptime_s < 40.0
    wire.run(60.0)
    assert twin.gossip.generation == VISITOR and not twin.gossip.joined
    assert not any(one.conflicts() for one in (*cores, twin))
    assert [len(one.events) for one in cores] == before
    assert all(is_shown(one, cores[2]) for one in cores[:2])


@pytest.mark.parametrize("leaves", [True, False])
def test_a_hand_over(wire: Wire, leaves: bool) -> None:
    """When the process goes that has the ID, the one that waits has it: at once when the other says that it leaves, and
    a few seconds after its last sign of life when it crashes."""
    cores = wire.some(3)
    twin = wire.add("n2", address="twin:1", seeds=("n0:1",), wall_ms=WALL_MS + 5)
    wire.until(lambda: bool(twin.in_use()), 5.0)
    if leaves:
        cores[2].gossip.leave(wire.now)
        wire.run(0.05)
    wire.end(cores[2])
    took_s = wire.until(lambda: all(is_shown(one, twin) for one in cores[:2]), 10.0)
    assert took_s < (1.0 if leaves else WATCH_S + 1.0)
    wire.until(lambda: all(one.gossip.view.members["n2"].address == "twin:1" for one in cores[:2]), 1.0)
    assert not twin.conflicts()


def test_a_hand_over_before_the_end(wire: Wire) -> None:
    """A process that has said that it leaves, and still finishes requests, is not ended by its successor."""
    cores = wire.some(3)
    twin = wire.add("n2", address="twin:1", seeds=("n0:1",), wall_ms=WALL_MS + 5)
    wire.until(lambda: bool(twin.in_use()), 5.0)
    cores[2].gossip.leave(wire.now)
    wire.until(lambda: all(is_shown(one, twin) for one in cores[:2]), 10.0)
    wire.run(10.0)
    assert not cores[2].conflicts() and not twin.conflicts()
    assert all(is_shown(one, twin) for one in cores[:2])


def test_a_restart_at_another_address(wire: Wire) -> None:
    """A node that crashed and starts at another address has its ID when its last life has been silent for the watch."""
    cores = wire.some(4)
    wire.end(cores[3])
    back = wire.add("n3", address="elsewhere:1", seeds=("n0:1",), wall_ms=WALL_MS + 1000)
    took_s = wire.until(lambda: all(is_shown(one, back) for one in cores[:3]))
    assert took_s < WATCH_S + 1.0 and not back.in_use()


def test_a_copied_address(wire: Wire) -> None:
    """Neither does a newcomer take the ID that was copied with the advertised address and all: its packets to that
    address are answered by another process, and do not come to itself."""
    cores = wire.some(3)
    twin = wire.add("n2", address="twin:1", say=False, seeds=("n0:1",), wall_ms=WALL_MS + 5)
    twin.gossip.set("gossip_addr", "n2:1", wire.now)
    wire.run(20.0)
    assert twin.in_use() and twin.gossip.generation == VISITOR
    assert all(is_shown(one, cores[2]) for one in cores[:2])


def test_a_newcomer_that_only_knows_the_other(wire: Wire) -> None:
    """A second process that joins at the very node whose ID it has stays out too, with nobody else there."""
    first = wire.add("a")
    second = wire.add("a", address="b:1", seeds=("a:1",), wall_ms=WALL_MS + 1)
    wire.until(lambda: bool(second.in_use()), 5.0)
    wire.run(10.0)
    assert second.gossip.generation == VISITOR and not first.conflicts()
    wire.end(first)
    wire.run(WATCH_S + 1.0)
    assert second.gossip.view.own.identity.is_free(wire.now)


@pytest.mark.parametrize("apart_ms", [0, 1, 700])
def test_two_that_start_together(wire: Wire, apart_ms: int) -> None:
    """Of two processes with one ID that start at the same moment exactly one stays, and all show it."""
    cores = wire.some(2)
    twins = [
        wire.add("x", address=f"x{number}:1", seeds=("n0:1",), wall_ms=WALL_MS + number * apart_ms) for number in (1, 2)
    ]

    def ended() -> list[Core]:
        return [one for one in twins if one.conflicts()]

    wire.until(lambda: bool(ended()), 10.0)
    wire.end(ended()[0])
    wire.run(10.0)
    (stays,) = (one for one in twins if not one.conflicts())
    assert stays.gossip.generation != VISITOR
    assert all(is_shown(one, stays) for one in cores)


def test_an_id_that_was_taken_over(wire: Wire) -> None:
    """A process that was stopped for so long that another one has its ID ends when it goes on, and names the other."""
    cores = wire.some(3)
    cores[2].paused = True
    wire.run(10.0)
    other = wire.add("n2", address="other:1", seeds=("n0:1",), wall_ms=WALL_MS + 5)
    wire.until(lambda: all(is_shown(one, other) for one in cores[:2]), 10.0)
    cores[2].paused = False
    wire.until(lambda: bool(cores[2].conflicts()), 10.0)
    wire.end(cores[2])
    wire.run(5.0)
    assert "other:1 has taken the node ID n2" in cores[2].conflicts()[0]
    assert not other.conflicts() and all(is_shown(one, other) for one in cores[:2])


def test_a_whole_cluster_starts(wire: Wire) -> None:
    """Where all are new there is nobody to ask: each has its ID soon, also when one of the seeds is not there."""
    seeds = ("n0:1", "n1:1", "gone:1")
    cores = [wire.add(f"n{number}", seeds=seeds) for number in range(4)]
    wire.until(lambda: all(is_shown(one, two) for one in cores for two in cores if one is not two), 2.5)
    assert all(one.gossip.joined and WALL_MS <= one.gossip.generation < WALL_MS + GENERATIONS for one in cores)


def test_nobody_is_told_of_a_visitor(wire: Wire) -> None:
    """Hearsay of a visitor, as an earlier version passes it on, is not believed by anybody."""
    cores = wire.some(2)
    cores[0].gossip.view.hear_all([("x", VISITOR, 100, 0, 0, 0)], "n1", wire.now, wire.now)
    cores[0].gossip.view.hear_all([("n0", VISITOR, 1 << 40, 0, 0, 0)], "n1", wire.now, wire.now)
    assert "x" not in cores[0].gossip.view.unconfirmed
    assert cores[0].gossip.view.own.identity.generation is None


def test_clocks_that_are_absurd() -> None:
    """A wall clock before 1970, or far in the future, does not keep a node from starting."""
    for wall_ms in (-5, 1 << 70):
        gossip = Gossip(GossipSettings(node_id="a"), rng=random.Random(1), now=0.0, wall_ms=wall_ms)
        gossip.claim(0.0)
        assert VISITOR < gossip.generation <= MAX_GENERATION

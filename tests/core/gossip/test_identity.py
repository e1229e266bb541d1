"""Another process with our ID: alive, or what is remembered of our last life."""

from __future__ import annotations

import random

import pytest

from pico_twisted.core.gossip import Gossip, GossipSettings
from pico_twisted.core.gossip.gossip import GENERATIONS
from pico_twisted.core.gossip.identity import PROOF_S, WATCH_S, OwnIdentity
from pico_twisted.core.protocol_limits import MAX_GENERATION
from tests.core.gossip.gossips import WALL_MS, Core, Wire


def is_shown(by: Core, other: Core) -> bool:
    """Whether a core shows another as it is now."""
    member = by.gossip.view.members.get(other.node_id)
    return member is not None and member.status == "active" and member.generation == other.gossip.generation


# Whether the other is alive


def test_silent_for_long() -> None:
    """What was silent for the whole watch before we heard of it need not be watched: its successor is taken at once."""
    own = OwnIdentity()
    assert not own.heard(7, 1000, 90.0, 100.0)
    assert own.due() == 100.0 and own.successor(100.0) == 8
    assert own.due() is None and own.successor(200.0) is None


def test_hearsay_of_the_dead_in_any_order() -> None:
    """News of a dead one may come late, young and out of order: it never counts as alive, and its successor is taken
    when the watch is over."""
    own, rng = OwnIdentity(), random.Random(3)
    died_at = 99.9
    now = 100.0
    while now < 100.0 + WATCH_S:
        age_s = rng.uniform(0, 2)
        heartbeat = int((died_at - age_s) * 1000)
        assert not own.heard(7, heartbeat, died_at - age_s, now)
        now += 0.05
        if now < 100.0 + WATCH_S:
            assert own.successor(now) is None
    assert own.successor(now) == 8


def test_lives_on() -> None:
    """A heartbeat from a second after the watch began, and a second later than the first, comes from the living."""
    own = OwnIdentity()
    assert not own.heard(7, 5000, 100.0, 100.0)
    assert not own.heard(7, 5000 + int(PROOF_S * 1000) - 1, 100.0 + PROOF_S, 100.0 + PROOF_S)
    assert not own.heard(7, 9000, 100.5, 102.0)
    assert own.heard(7, 5000 + int(PROOF_S * 1000), 100.0 + PROOF_S, 102.0)


def test_the_highest_is_watched() -> None:
    """Of several others the one with the highest generation is watched, from when it was heard of."""
    own = OwnIdentity()
    own.heard(7, 1000, 100.0, 100.0)
    own.heard(9, 50, 101.0, 101.0)
    assert not own.heard(7, 9999, 103.0, 103.0)
    assert own.generation == 9 and own.successor(103.5) is None and own.successor(104.0) == 10


# In a cluster


def test_restart_with_a_clock_set_back(wire: Wire) -> None:
    """A node that comes back with its clock an hour back is shown as active within 5 s, as one node."""
    cores = wire.some(4)
    wire.end(cores[3])
    wire.run(0.5)
    back = wire.add("n3", seeds=("n0:1",), wall_ms=WALL_MS - 3_600_000)
    took_s = wire.until(lambda: all(is_shown(one, back) for one in cores[:3]))
    assert took_s < 5.0 and WALL_MS < back.gossip.generation <= WALL_MS + GENERATIONS
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
    wire.until(lambda: WALL_MS < back.gossip.generation <= WALL_MS + GENERATIONS, 5.0)
    members = [one.gossip.view.members for one in cores[:2]]
    wire.until(lambda: all(held["n2"].generation == back.gossip.generation for held in members), 2.0)
    assert all(one.status("n2") == "active" for one in cores[:2])


def test_restart_with_a_clock_ahead(wire: Wire) -> None:
    """A node that comes back later supersedes its last life at once: nobody waits for anything."""
    cores = wire.some(4)
    wire.end(cores[3])
    wire.add("n3", seeds=("n0:1",), wall_ms=WALL_MS + 1000)
    wire.until(lambda: all(one.gossip.view.members["n3"].generation == WALL_MS + 1000 for one in cores[:3]), 1.5)
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


def test_two_living_processes_with_one_id(wire: Wire) -> None:
    """Of two live processes with one ID exactly one is told to end; the other stays, and all show it."""
    cores = wire.some(3)
    twin = wire.add("n2", address="twin:1", seeds=("n0:1",), wall_ms=WALL_MS + 5)
    wire.until(lambda: bool(cores[2].conflicts()), 10.0)
    wire.end(cores[2])
    wire.run(5.0)
    assert not twin.conflicts()
    assert "n2" in cores[2].conflicts()[0]
    assert {one.gossip.view.members["n2"].generation for one in cores[:2]} == {WALL_MS + 5}


def test_a_twin_that_only_knows_us(wire: Wire) -> None:
    """A second process that joins at the very node whose ID it has is found out too, with nobody else there."""
    first = wire.add("a")
    second = wire.add("a", address="b:1", seeds=("a:1",), wall_ms=WALL_MS + 1)
    wire.until(lambda: bool(first.conflicts() or second.conflicts()), 10.0)


def test_clocks_that_are_absurd() -> None:
    """A wall clock before 1970, or far in the future, does not keep a node from starting."""
    for wall_ms, generation in ((-5, 0), (1 << 70, MAX_GENERATION)):
        gossip = Gossip(GossipSettings(node_id="a"), rng=random.Random(1), now=0.0, wall_ms=wall_ms)
        assert gossip.generation == generation

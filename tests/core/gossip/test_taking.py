"""Whole maps that are taken in slices, while everything else goes on."""

from __future__ import annotations

import pytest

from pico_twisted.core.gossip import SyncFailed
from pico_twisted.core.gossip import sync_source as sources
from pico_twisted.core.gossip.sync import SLICE
from tests.core.gossip.gossips import Core, Wire
from tests.doubles.said import all_said

MANY = 4 * SLICE


@pytest.fixture
def wire() -> Wire:
    """A wire without cores, on which whole maps come when a test says so."""
    return Wire(links=False)


def version_of(core: Core, other: Core) -> int:
    """How far a core knows what the other says, which may be itself."""
    view = core.gossip.view
    return (view.own if core is other else view.members[other.node_id]).map.version


def large(wire: Wire, count: int = 1) -> list[Core]:
    """Nodes that hold very many endpoints, and a last one that knows them, but not what they hold."""
    cores = [wire.add(f"n{number}", seeds=("n0:1",)) for number in range(count)]
    wire.links = True
    wire.until(lambda: all(len(one.gossip.view.members) == count - 1 for one in cores))
    for number, core in enumerate(cores):
        for endpoint in range(MANY):
            core.gossip.set(f"endpoint:{number}-{endpoint}", 1, wire.now)
    wire.until(lambda: all(version_of(one, two) == version_of(two, two) for one in cores for two in cores))
    wire.links = False
    joiner = wire.add("joiner", seeds=("n0:1",))
    wire.until(lambda: all(joiner.status(core.node_id) == "active" for core in cores))
    return [*cores, joiner]


def knows(core: Core, other: Core) -> bool:
    """Whether a core holds and told all that the other says of itself."""
    said = other.gossip.view.own.map.values()
    return core.keys(other.node_id) == said == core.told(other.node_id)


def slices(wire: Wire, core: Core) -> int:
    """Let a core take all that it was given, and return how many ticks that took."""
    ticks = 0
    while core.gossip.next_tick() < 0:
        core.gossip.tick(wire.now)
        ticks += 1
    wire.take(core)
    return ticks


def test_a_large_map_is_taken_in_many_turns_and_counts_at_once(wire: Wire) -> None:
    """No turn has more than a slice, and the map is there whole or not at all."""
    giver, joiner = large(wire)
    held = joiner.gossip.view.members["n0"].map
    before = held.count_endpoints()
    joiner.gossip.sync_apply(wire.answer(giver, joiner), "n0", wire.now)
    assert joiner.gossip.next_tick() < wire.now
    joiner.gossip.tick(wire.now)
    assert joiner.gossip.view.members["n0"].map is held and held.count_endpoints() == before
    assert slices(wire, joiner) > 1
    assert knows(joiner, giver)


def test_what_comes_between_two_slices_is_not_undone(wire: Wire) -> None:
    """A node goes on to write while its map is taken: what is newer stays, whichever way it came."""
    giver, joiner = large(wire)
    early = wire.answer(giver, joiner)
    joiner.gossip.sync_apply(wire.answer(giver, joiner), "n0", wire.now)
    slices(wire, joiner)
    joiner.gossip.sync_apply(early, "n0", wire.now)
    giver.gossip.delete("endpoint:0-0", wire.now)
    giver.gossip.set("endpoint:new", 1, wire.now)
    wire.until(lambda: knows(joiner, giver), 5.0)
    assert slices(wire, joiner) == 0 and knows(joiner, giver)


def test_nobody_is_asked_while_an_answer_is_taken(wire: Wire) -> None:
    """What a node lacks may be in what it has not read yet: it asks nobody for that, however long it takes."""
    giver, joiner = large(wire)
    joiner.gossip.sync_apply(wire.answer(giver, joiner), "n0", wire.now)
    asked, late = len(joiner.syncs()), wire.now
    while joiner.gossip.next_tick() < 0:
        late += 3.0
        joiner.gossip.tick(late)
        wire.take(joiner)
    assert len(joiner.syncs()) == asked and knows(joiner, giver)


def test_a_pause_is_not_seen_in_slices(wire: Wire) -> None:
    """To be asked for another tick at once is no sign that the process did not run."""
    giver, joiner = large(wire)
    joiner.gossip.sync_apply(wire.answer(giver, joiner), "n0", wire.now)
    wire.run(3.0)
    assert "pauses" not in joiner.gossip.counts and knows(joiner, giver)


def test_an_answer_that_breaks_off(wire: Wire) -> None:
    """What turns out to be no answer in the middle is told; the maps before it count, the one in which it is does not,
    and another answer is taken as if nothing had been."""
    giver, joiner = large(wire)
    whole = wire.answer(giver, joiner)
    before = all_said(joiner.gossip.view.members["n0"])
    for count, data in enumerate((whole[: len(whole) // 2], b"nonsense", whole + b"\x00"), start=1):
        joiner.gossip.sync_apply(data, "n0", wire.now)
        slices(wire, joiner)
        failed = [event for event in joiner.events if isinstance(event, SyncFailed)]
        assert [event.node_id for event in failed] == ["n0"] * count and "not an answer" in failed[-1].reason
        if len(data) < len(whole):
            assert all_said(joiner.gossip.view.members["n0"]) == before
    joiner.gossip.sync_apply(whole, "n0", wire.now)
    slices(wire, joiner)
    assert knows(joiner, giver)


def test_more_than_one_answer_may_have(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A joiner that gets some of the maps asks for the others at once, and has not joined before it knows all that
    the first node knew."""
    monkeypatch.setattr(sources, "MAX_ENTRIES", 2 * MANY + 100)
    *givers, joiner = large(wire, 5)
    asked = 0
    asked_before = len(joiner.syncs())
    assert not joiner.gossip.knows_the_cluster
    while not joiner.gossip.knows_the_cluster:
        data = wire.answer(givers[0], joiner)
        assert len(data) < 3 * MANY * 40
        joiner.gossip.sync_apply(data, "n0", wire.now)
        slices(wire, joiner)
        asked += 1
        assert joiner.gossip.knows_the_cluster or len(joiner.syncs()) == asked_before + asked
    assert asked == 3
    assert all(knows(joiner, giver) for giver in givers)

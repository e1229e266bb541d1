"""What a node lacks of maps that it has up to a version: given and taken alone, where both nodes know of that."""

from __future__ import annotations

import random
from collections.abc import Collection

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip import SyncFailed, sync_source
from pico_twisted.core.gossip.packets import Delta, Digest
from pico_twisted.core.gossip.state import Entry
from pico_twisted.core.gossip.sync import SLICE, Given, Part, pack_answer, read_answer
from pico_twisted.core.gossip.sync_source import SyncSource
from pico_twisted.core.gossip.taking import PART, MapTaking
from tests.core.gossip.gossips import Core, Wire, views_are_equal
from tests.core.gossip.views import INTERVAL_S, T, told, view_of
from tests.doubles.said import Changed, all_said, said_of
from tests.examples import examples

FEW, MANY = 50, 3 * SLICE + 50


def behind(wire: Wire, count: int) -> tuple[Core, Core]:
    """Two nodes, of which the second has heard that the first has so many more endpoints, and has not got them. From
    then on nothing passes between them."""
    giver, asker = wire.some(2)
    giver.gossip.set("endpoint:old", 1, wire.now)
    giver.gossip.set("endpoint:gone", 1, wire.now)
    wire.until(lambda: views_are_equal([giver, asker]))
    wire.links, wire.fate = False, lambda packet, source, address: []
    giver.gossip.delete("endpoint:gone", wire.now)
    for number in range(count):
        giver.gossip.set(f"endpoint:{number}", 1, wire.now)
    member = asker.gossip.view.members["n0"]
    member.hear_version(giver.gossip.view.own.map.version, 0, "n0", wire.now)
    wire.take(asker)
    asker.events.clear()
    return giver, asker


def take(wire: Wire, asker: Core, answer: bytes) -> int:
    """Let a node take an answer, and return how many ticks that took."""
    asker.gossip.sync_apply(answer, "n0", wire.now)
    ticks = 0
    while asker.gossip.next_tick() < 0:
        asker.gossip.tick(wire.now)
        ticks += 1
    wire.take(asker)
    asker.gossip.view._check_invariants()
    return ticks


def fields(answer: bytes) -> list[int]:
    """How many fields each map of an answer has."""
    return [len(one) for one in msgpack.unpackb(answer)[1]]


def failures(core: Core) -> list[str]:
    """Why answers were none."""
    return [event.reason for event in core.events if isinstance(event, SyncFailed)]


@pytest.mark.parametrize("count", [FEW, MANY])
def test_only_what_is_lacking_is_given_and_told(count: int) -> None:
    """A node that has a map up to a version gets what stands above it, deletes too, and the table is told of nothing
    else. Many entries come in slices."""
    wire = Wire()
    giver, asker = behind(wire, count)
    answer = wire.answer(giver, asker)
    assert fields(answer) == [8] and len(answer) < 40 * count
    ticks = take(wire, asker, answer)
    assert asker.keys("n0") == giver.gossip.view.own.map.values()
    changed = {key for event in asker.events if isinstance(event, Changed) for key in event.changes}
    assert changed == {"endpoint:gone", *(f"endpoint:{number}" for number in range(count))}
    assert ticks >= count // SLICE


@pytest.mark.parametrize("earlier", ["n0", "n1"])
def test_nodes_of_an_earlier_version_get_and_give_whole_maps(earlier: str) -> None:
    """Where one of the two does not know of parts, the whole map crosses the link, as it always did."""
    wire = Wire(earlier=(earlier,))
    giver, asker = behind(wire, FEW)
    answer = wire.answer(giver, asker)
    assert fields(answer) == [7]
    take(wire, asker, answer)
    assert asker.keys("n0") == giver.gossip.view.own.map.values()


def test_who_may_have_missed_a_delete_gets_the_whole_map() -> None:
    """Below the floor nothing but the whole map is of use; so too where the floor has risen since the question."""
    wire = Wire()
    giver, asker = behind(wire, FEW)
    own = giver.gossip.view.own
    pieces = giver.gossip.sync_answer(asker.gossip.sync_request(), wire.now, takes_parts=True)
    own.map.raise_floor(own.map.version)
    for answer in (b"".join(pieces), wire.answer(giver, asker)):
        assert fields(answer) == [7]
    take(wire, asker, wire.answer(giver, asker))
    assert asker.keys("n0") == own.map.values() and "endpoint:gone" not in asker.keys("n0")


def test_a_node_of_which_nothing_is_known_is_given_whole() -> None:
    """Who has nothing of a map gets all of it, as one change."""
    wire = Wire(links=False)
    giver = wire.add("n0", seeds=("n0:1",))
    giver.gossip.set("endpoint:a", 1, wire.now)
    joiner = wire.add("n1", seeds=("n0:1",))
    assert fields(wire.answer(giver, joiner)) == [7]


def test_a_part_that_breaks_off() -> None:
    """What was read before an answer turns out to be none counts, since nothing is missing before it; then it goes on
    from there."""
    wire = Wire()
    giver, asker = behind(wire, MANY)
    whole = wire.answer(giver, asker)
    before = asker.gossip.view.members["n0"].map.version
    take(wire, asker, whole[: len(whole) // 2])
    held = asker.gossip.view.members["n0"].map
    assert before < held.version < giver.gossip.view.own.map.version
    assert len(failures(asker)) == 1 and "it ends too soon" in failures(asker)[0]
    rest = wire.answer(giver, asker)
    assert len(rest) < 0.8 * len(whole)
    take(wire, asker, rest)
    assert asker.keys("n0") == giver.gossip.view.own.map.values()


DIGEST: Digest = ("x", 5, 100, 90, 0, 0)


def test_a_part_with_something_missing_before_it_is_dropped() -> None:
    """An answer that begins above what we have is of no use, and one that begins below is: what we have is not taken
    once more."""
    view = view_of("x")
    view.apply(Delta("x", 5, 0, 0, [("a", 1, 1), ("b", 1, 20)]), "x", T)
    told(view)
    assert not view.take_part(Part(DIGEST, Delta("x", 5, 21, 0, [("c", 1, 90)])), "x", T, T)
    assert told(view) == [] and view.members["x"].map.version == 20
    assert view.take_part(Part(DIGEST, Delta("x", 5, 10, 0, [("b", 1, 20), ("c", 1, 90)])), "x", T, T)
    assert told(view) == [Changed("x", {"c": 1})]
    assert not view.take_part(Part(DIGEST, Delta("x", 5, 10, 0, [("b", 1, 20), ("c", 1, 90)])), "x", T, T)
    assert told(view) == []


@pytest.mark.parametrize(
    "delta",
    [
        Delta("stranger", 5, 0, 0, [("c", 1, 90)]),
        Delta("x", 4, 0, 0, [("c", 1, 90)]),
        Delta("me", 5, 0, 0, [("c", 1, 90)]),
    ],
)
def test_a_part_of_whom_we_do_not_know(delta: Delta) -> None:
    """A part of a node, or of a life of it, of which we know nothing or better is not taken."""
    view = view_of("x")
    digest = (delta.node_id, delta.generation, 1, 90, 0, 999_999)
    assert not view.take_part(Part(digest, delta), "x", T, T)
    assert all_said(view.members["x"]) == {} and told(view) == []


def test_a_part_of_a_map_whose_floor_we_are_below() -> None:
    """Who heard of a floor above what he has takes no part: deletes may be missing in it."""
    view = view_of("x")
    view.apply(Delta("x", 5, 0, 0, [("a", 1, 1)]), "x", T)
    view.members["x"].hear_version(90, 50, "x", T)
    assert not view.take_part(Part(DIGEST, Delta("x", 5, 1, 0, [("c", 1, 90)])), "x", T, T)
    assert view.members["x"].map.version == 1


def test_how_much_one_answer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts towards the most that an answer may have is what is given, not how large the maps are."""
    monkeypatch.setattr(sync_source, "MAX_ENTRIES", 2 * FEW)
    names = ["x0", "x1", "x2"]
    view = view_of(*names)
    for name in names:
        entries: list[Entry] = [(f"endpoint:{version}", 1, version) for version in range(1, 2 * FEW + 1)]
        view.apply(Delta(name, 5, 0, 0, entries), name, T)
    syncs = SyncSource(view, INTERVAL_S)
    for had, count in ((2 * FEW - 1, 3), (FEW, 2), (0, 1)):
        found = syncs.given(dict.fromkeys(names, (5, had)), {"me": 7}, T, takes_parts=True)
        assert [one.map is not None for one in found] == [place < count for place in range(3)]


def test_a_large_part_is_made_and_read_in_slices() -> None:
    """No piece of it has more than a slice, and what is written meanwhile does not mix with it."""
    held = said_of({f"endpoint:{number}": 1 for number in range(5 * SLICE)})
    version, pieces = held.version, []
    for piece in pack_answer(1, [Given(("n", 1, 7, 0, 0, 4), held, SLICE)]):
        pieces.append(piece)
        if len(pieces) > 1:
            held.write(f"endpoint:{version - len(pieces)}", 2, held.version + 1)
    assert len(pieces) > 4 and max(map(len, pieces)) < SLICE * 40
    parts = [one for one in read_answer(b"".join(pieces))[1] if isinstance(one, Part)]
    assert len(parts) == 4 and {len(one.delta.entries) for one in parts} == {SLICE}
    entries = [entry for one in parts for entry in one.delta.entries]
    assert [at for _, _, at in entries] == list(range(SLICE + 1, version + 1))


def test_many_parts_are_taken_in_several_turns() -> None:
    """Where very many nodes have changed a little, no turn takes more than some of them: each is a change of its own,
    and may have its map packed."""
    names = [f"x{number}" for number in range(3 * SLICE // PART)]
    view = view_of(*names)
    held = said_of({f"endpoint:{number}": 1 for number in range(3)})
    for name in names:
        view.apply(Delta(name, 5, 0, 0, list(held.since(0))[:1]), name, T)
    told(view)
    taking = MapTaking(view, SyncSource(view, INTERVAL_S), lambda name: None)
    taking.begin(b"".join(pack_answer(0, [Given((name, 5, 100, 3, 0, 0), held, 1) for name in names])), "x0")
    changes = []
    while taking.busy:
        taking.step(T)
        changes.append(len(told(view)))
    assert sum(changes) == len(names) and max(changes) <= SLICE // PART
    assert all(view.members[name].map.versions() == held.versions() for name in names)


@given(seed=st.integers(0, 1 << 32), earlier=st.sampled_from([(), ("n0",), ("n1",), ("n2",)]))
@settings(max_examples=examples(30))
def test_answers_late_repeated_and_broken(seed: int, earlier: Collection[str]) -> None:
    """Cores that write and delete, and forget deletes early, take answers that are late, out of order, repeated, cut
    and changed, of nodes of either version: nothing is raised, and each holds a prefix of what the others say, by
    version; in the end all hold all of it, and have told of it."""
    rng = random.Random(seed)
    wire = Wire(seed=seed, earlier=earlier)
    cores = wire.some(3)
    wire.links = False
    wire.fate = lambda packet, source, address: [(rng.random() * 0.1, packet)] if rng.random() < 0.3 else []
    answers: list[tuple[Core, bytes, str]] = []
    for _ in range(40):
        core = rng.choice(cores)
        for _ in range(rng.randrange(20)):
            key = f"endpoint:{rng.randrange(30)}"
            if rng.random() < 0.4:
                core.gossip.delete(key, wire.now)
            else:
                core.gossip.set(key, rng.randrange(1, 5), wire.now)
        own = core.gossip.view.own.map
        own.raise_floor(own.old_tombstones(0, rng.randrange(1, 20)))
        giver, asker = rng.sample(cores, 2)
        answers.append((asker, wire.answer(giver, asker), giver.node_id))
        wire.run(rng.random() * 0.2)
        for asker, answer, reporter in rng.sample(answers, min(2, len(answers))):
            data = bytearray(answer)
            if rng.random() < 0.2:
                del data[rng.randrange(len(data)) :]
            asker.gossip.sync_apply(bytes(data), reporter, wire.now)
            wire.take(asker)
        for one in cores:
            one.gossip.view._check_invariants()
            for other in cores:
                if one is not other:
                    is_prefix(one, other)
    wire.links, wire.fate = True, lambda packet, source, address: [(0.001, packet)]
    wire.until(lambda: views_are_equal(cores), 15.0)


def is_prefix(one: Core, other: Core) -> None:
    """Check that one has all of the other's map that stands, up to the version that it has."""
    held, own = one.gossip.view.members[other.node_id].map, other.gossip.view.own.map
    versions = held.versions()
    for key, (value, at) in own.versions().items():
        assert at > held.version or versions[key] == (value, at)
    assert all(at <= own.version for _, at in versions.values())


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=examples(30))
def test_changed_answers(seed: int) -> None:
    """An answer any byte of which was changed raises nothing, and leaves a view that is sound."""
    rng = random.Random(seed)
    wire = Wire(seed=seed)
    giver, asker = behind(wire, FEW)
    data = bytearray(wire.answer(giver, asker))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    take(wire, asker, bytes(data))

"""Very many endpoints in few bytes: the same as a dictionary of them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip.events import ENDPOINT
from pico_twisted.core.gossip.packed import MEAN, MOST_NUMBER, PackedEndpoints
from pico_twisted.core.gossip.state import MOST_PACKED, PACKED_FROM, VersionedMap
from tests.doubles.said import whole_map
from tests.examples import examples

IDS = st.sampled_from(["", "a", "aa", "a a", "b", "ab", "ba", "c" * 150, "é", *(f"id-{at}" for at in range(200))])
STEPS = st.lists(st.tuples(IDS, st.booleans(), st.integers(1, 1 << 50)), max_size=200)


@given(st.lists(STEPS, max_size=4))
@settings(max_examples=examples(100))
def test_as_a_dictionary(batches: list[list[tuple[str, bool, int]]]) -> None:
    """Whatever is added and taken away, each ID has the number that a dictionary would have, and no other ID has one;
    in order they are what sorting gives, from any number on."""
    packed, model, number = PackedEndpoints(), dict[str, int](), 0
    for steps in batches:
        for endpoint, _, _ in steps:
            packed.discard(endpoint)
            model.pop(endpoint, None)
        before = packed.copy()
        had = dict(model)
        new: dict[str, int] = {}
        for endpoint, is_added, step in steps:
            if is_added and endpoint not in new:
                number += step
                new[endpoint] = number
        packed.add(new)
        model.update(new)
        packed._check_invariants()
        assert dict(packed.items()) == model and len(packed) == len(model)
        assert sorted(packed.numbers()) == sorted(model.values())
        assert all(packed.get(endpoint) == model.get(endpoint, 0) for endpoint in ["", "a", "aaa", "id-7", "id-", *new])
        in_order = sorted((held, endpoint) for endpoint, held in model.items())
        for above in [0, *new.values()][::20]:
            assert list(packed.above(above)) == [one for one in in_order if one[0] > above]
            assert packed.count_above(above) == len([one for one in in_order if one[0] > above])
            assert packed.below(above) == max([held for held, _ in in_order if held < above], default=0)
        before._check_invariants()
        assert dict(before.items()) == had, "a copy is what it was"


def test_in_order_while_it_is_changed() -> None:
    """Who goes through all of it in order gets what there was when that began."""
    packed = PackedEndpoints()
    packed.add({f"id-{at}": at + 1 for at in range(10 * MEAN)})
    all_of_it = packed.above(0)
    packed.discard("id-7")
    packed.add({f"later-{at}": 10_000 + at for at in range(10 * MEAN)})
    assert list(all_of_it) == [(at + 1, f"id-{at}") for at in range(10 * MEAN)]
    assert packed.get("id-7") == 0 and packed.get("later-7") == 10_007


def test_a_large_map_is_that_of_its_writes() -> None:
    """A map of very many endpoints, which come, come again and go, has what was written last, in order, and so has a
    copy; what is above a version is told from the newest and from what is packed alike."""
    rng = random.Random(5)
    owner, model = VersionedMap(), dict[str, tuple[int, int]]()
    for at in range(6 * PACKED_FROM):
        endpoint, value = f"customer-{rng.randrange(4 * PACKED_FROM)}", rng.choice([None, 1, 2, 3])
        owner.write(ENDPOINT + endpoint, value, 3 * at + 1)
        model.pop(endpoint, None)
        if value is not None:
            model[endpoint] = value, 3 * at + 1
    owner._check_invariants()
    assert owner._packed is not None and len(owner._packed) > PACKED_FROM
    held = {ENDPOINT + endpoint: held for endpoint, held in model.items()}
    assert owner.versions() == held == owner.copy().versions()
    assert owner.count_endpoints() == (len(model), sum(value for value, _ in model.values()))
    assert sorted(owner.endpoints()) == sorted(model) and owner.keys == len(model)
    assert all(owner.registrations(endpoint) == model[endpoint][0] for endpoint in model)
    owner.raise_floor(owner.version)
    in_order = [(key, value, version) for key, (value, version) in held.items()]
    for version in (0, 1, owner.version // 2, owner.version - 1000, owner.version):
        assert list(owner.since(version)) == [entry for entry in in_order if entry[2] > version]
        assert owner.before(version) == max([at for _, _, at in in_order if at <= version], default=0)
    replica = whole_map(owner.since(0), owner.version, owner.floor)
    assert replica.versions() == owner.versions() and replica.changed_keys(owner) == ([], [])


def test_a_clock_that_is_ahead_by_centuries() -> None:
    """Versions that no number for packing can hold are kept all the same, however many they are."""
    owner = VersionedMap()
    first = MOST_NUMBER >> 20
    for at in range(PACKED_FROM + 3):
        owner.write(f"{ENDPOINT}{at}", 1, first + at)
    assert owner.keys == PACKED_FROM + 3
    assert owner.registrations("7") == 1
    assert [version for _, _, version in owner.since(first + PACKED_FROM + 1)] == [owner.version]


def test_most_of_it_is_packed() -> None:
    """Of very many endpoints few are not packed, at every moment."""
    owner = VersionedMap()
    for at in range(3 * MOST_PACKED):
        owner.write(f"{ENDPOINT}{at}", 1, at + 1)
        assert len(owner._endpoints) <= max(PACKED_FROM, owner.keys // 8)

"""The map that a node writes, and its replicas."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip.events import ENDPOINT, Value
from pico_twisted.core.gossip.state import VersionedMap
from tests.doubles.said import whole_map
from tests.examples import examples

KEYS = st.sampled_from(["a", "b", "endpoint:c", "endpoint:d", "endpoint:"])
VALUES = st.none() | st.integers(0, 9) | st.sampled_from([1 << 20, 1 << 60, "text"])
WRITES = st.lists(st.tuples(KEYS, VALUES, st.integers(1, 5)), max_size=40)
NEWEST = st.integers(0, 3)
"""So many endpoints are left unpacked now and then, where usually it would be hundreds."""


def write_all(owner: VersionedMap, writes: list[tuple[str, Value | None, int]], newest: int) -> None:
    """Make writes, each some versions above the last."""
    for key, value, step in writes:
        owner.write(key, value, owner.version + step)
        if step == 1:
            owner._pack(newest)
        owner._check_invariants()


def test_last_write_counts() -> None:
    """A key has the value of its last write; a deleted one has none."""
    owner = VersionedMap()
    owner.write("a", 1, 3)
    owner.write("b", "x", 4)
    owner.write("a", 2, 7)
    owner.write("b", None, 9)
    assert owner.get("a") == 2 and owner.get("b") is None and owner.get("c") is None
    assert owner.values() == {"a": 2} and owner.versions() == {"a": (2, 7)}
    assert (owner.version, owner.keys, owner.tombstones) == (9, 1, 1)
    assert list(owner.since(0)) == [("a", 2, 7), ("b", None, 9)]
    assert list(owner.since(7)) == [("b", None, 9)] and list(owner.since(9)) == []


def test_written_again_after_its_delete() -> None:
    """A key that comes back is no tombstone any more."""
    owner = VersionedMap()
    owner.write("a", 1, 1)
    owner.write("a", None, 2)
    owner.write("a", 1, 3)
    assert list(owner.since(0)) == [("a", 1, 3)] and owner.tombstones == 0


@given(WRITES, st.data())
@settings(max_examples=examples(200))
def test_any_prefix_and_the_rest_make_the_whole(
    writes: list[tuple[str, Value | None, int]], data: st.DataObject
) -> None:
    """Whoever takes what stands above its version, at whatever moments, in pieces, ends with the owner's map, and has
    at each moment all that stands up to its version."""
    owner, replica = VersionedMap(), VersionedMap()
    for key, value, step in writes:
        owner.write(key, value, owner.version + step)
        if data.draw(st.booleans()):
            data.draw(st.sampled_from([owner, replica]))._pack(data.draw(NEWEST))
            entries = list(owner.since(replica.version))
            for entry in entries[: data.draw(st.integers(0, len(entries)))]:
                replica.write(*entry)
            replica._check_invariants()
            standing = [entry for entry in owner.since(0) if entry[2] <= replica.version]
            held = {key: (value, at) for key, value, at in replica.since(0)}
            assert all(held[key] == (value, at) for key, value, at in standing)
    for entry in owner.since(replica.version):
        replica.write(*entry)
    assert replica.versions() == owner.versions() and replica.version == owner.version


@given(WRITES, NEWEST, st.integers(0, 200))
@settings(max_examples=examples(100))
def test_before(writes: list[tuple[str, Value | None, int]], newest: int, version: int) -> None:
    """`before` is the version of the last entry that stands at a version or below it, and `count_since` how many stand
    above that."""
    owner = VersionedMap()
    write_all(owner, writes, newest)
    assert owner.count_since(version) == len(list(owner.since(version)))
    assert owner.before(version) == max([at for _, _, at in owner.since(0) if at <= version], default=0)


def test_floor() -> None:
    """A floor takes the tombstones up to it away, no key, and never falls."""
    owner = VersionedMap()
    for version, key in enumerate("abcd", 1):
        owner.write(key, version, version)
    for version, key in enumerate("abc", 5):
        owner.write(key, None, version)
    owner.raise_floor(6)
    assert (owner.floor, owner.tombstones, owner.keys) == (6, 1, 1)
    owner.raise_floor(2)
    assert owner.floor == 6 and list(owner.since(0)) == [("d", 4, 4), ("c", None, 7)]
    owner._check_invariants()


def test_old_tombstones() -> None:
    """The floor to take follows the age of tombstones, and their number where that is too high."""
    owner = VersionedMap()
    for number in range(10):
        owner.write(f"k{number}", 1, 2 * number + 1)
        owner.write(f"k{number}", None, 2 * number + 2)
    assert owner.old_tombstones(before=1, most=100) == 0
    assert owner.old_tombstones(before=9, most=100) == 8
    assert owner.old_tombstones(before=1, most=3) == 14
    owner.raise_floor(14)
    assert owner.tombstones == 3 and owner.old_tombstones(before=1, most=3) == 14


@given(WRITES, WRITES, NEWEST)
@settings(max_examples=examples(200))
def test_a_later_map_as_one_change(
    before: list[tuple[str, Value | None, int]], after: list[tuple[str, Value | None, int]], newest: int
) -> None:
    """The difference between a replica and a later map of the node turns the one into the other: what stayed is not
    in it, and what is gone is, even where no tombstone tells of it."""
    owner = VersionedMap()
    write_all(owner, before, newest)
    replica = whole_map(owner.since(0), owner.version, 0)
    had = replica.versions()
    write_all(owner, after, newest)
    owner.raise_floor(owner.version)
    later = whole_map(owner.since(0), owner.version, owner.floor)
    later._check_invariants()
    count, entries = owner.count_since(0), owner.since(0)
    owner.write("meanwhile", 1, owner.version + 1)
    assert (count, list(entries)) == (len(list(later)), list(later.since(0)))
    owner = later
    keys, endpoints = replica.changed_keys(later)
    changed = {*keys, *(ENDPOINT + endpoint for endpoint in endpoints)}
    has = owner.versions()
    assert changed == {key for key in {*had, *has} if had.get(key) != has.get(key)}

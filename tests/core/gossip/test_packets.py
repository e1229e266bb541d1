"""Bodies of packets, requests and answers of a sync: there and back, and any bytes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip import packets, sync
from pico_twisted.core.gossip.packets import CHALLENGE, DELTA, FIXED_BYTES, KINDS, REPLY, SYN, Body, Delta, read_body
from pico_twisted.core.gossip.sealing import PacketError
from pico_twisted.core.gossip.state import Entry
from pico_twisted.core.gossip.sync import SLICE, Given, Part, SyncError, Whole
from pico_twisted.core.protocol_limits import MAX_GENERATION
from tests.doubles.said import said_of, whole_map
from tests.examples import examples

TOP = (1 << 63) - 1
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=160)
VALUES = st.none() | st.integers(0, TOP) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
NUMBERS = st.integers(0, TOP)
GENERATIONS = st.integers(0, MAX_GENERATION)
DIGESTS = st.tuples(NAMES, GENERATIONS, NUMBERS, NUMBERS, NUMBERS, NUMBERS).map(
    lambda item: (*item[:3], max(item[3], item[4]), min(item[3], item[4]), item[5])
)
WANTS = st.tuples(NAMES, GENERATIONS, NUMBERS)


@st.composite
def entries(draw: st.DrawFn, after: int = 0) -> list[Entry]:
    """Entries in the order of their versions."""
    found: list[Entry] = []
    for _ in range(draw(st.integers(1, 8))):
        after += draw(st.integers(1, 1 << 40))
        found.append((draw(KEYS), draw(VALUES), after))
    return found


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    """A delta."""
    after = draw(st.integers(0, 1 << 50))
    return Delta(draw(NAMES), draw(GENERATIONS), after, draw(NUMBERS), draw(entries(after)))


CHALLENGES = st.binary(min_size=8, max_size=8)
BODIES = st.builds(
    Body,
    kind=st.sampled_from(sorted(KINDS)),
    challenge=CHALLENGES,
    echo=CHALLENGES | st.just(b""),
    have=st.tuples(NUMBERS, NUMBERS),
    hops=st.integers(0, 1),
    digest=st.lists(DIGESTS, max_size=5),
    deltas=st.lists(deltas(), max_size=3),
    wants=st.lists(WANTS, max_size=5),
)


def pack(body: Body) -> bytes:
    """A body packed as a node packs it."""
    packed = []
    for delta in body.deltas:
        head, version = packets.pack_delta(
            delta.node_id, delta.generation, delta.after, delta.floor, delta.entries, 100_000
        )
        assert version == delta.entries[-1][2]
        packed.append(head)
    return packets.pack_body(
        body.kind,
        body.challenge,
        body.echo,
        body.have,
        body.hops,
        [packets.pack_item(item) for item in body.digest],
        packed,
        [packets.pack_item(item) for item in body.wants],
    )


@given(BODIES)
@settings(max_examples=examples(200))
def test_there_and_back(body: Body) -> None:
    """What is packed is read again, and takes no more room than was counted on."""
    data = pack(body)
    assert read_body(data) == body
    parts = sum(len(packets.pack_item(one)) for one in body.digest) + sum(
        len(packets.pack_item(one)) for one in body.wants
    )
    for delta in body.deltas:
        parts += len(
            packets.pack_delta(*(delta.node_id, delta.generation, delta.after, delta.floor), delta.entries, 1 << 20)[0]
        )
    assert len(data) <= FIXED_BYTES + parts


@given(deltas(), st.integers(0, 2000))
@settings(max_examples=examples(300))
def test_whole_entries_in_the_room(delta: Delta, room: int) -> None:
    """A delta never takes more than its room, and holds whole entries from the first on."""
    packed, version = packets.pack_delta(delta.node_id, delta.generation, delta.after, delta.floor, delta.entries, room)
    assert len(packed) <= room
    if not packed:
        assert version == delta.after
        return
    body = Body(kind=DELTA, challenge=b"8" * 8, echo=b"", have=(0, 0), hops=0, digest=[], deltas=[delta], wants=[])
    read = read_body(packets.pack_body(DELTA, body.challenge, b"", (0, 0), 0, [], [packed], [])).deltas[0]
    assert read.entries == delta.entries[: len(read.entries)] and read.entries[-1][2] == version


@given(st.binary(max_size=1400))
@settings(max_examples=examples(500))
def test_any_bytes(data: bytes) -> None:
    """Any bytes are a body, or garbage; nothing else is raised."""
    try:
        assert isinstance(read_body(data), Body)
    except PacketError as error:
        assert error.reason == "garbage"


@given(BODIES, st.data())
@settings(max_examples=examples(300))
def test_any_mutation(body: Body, data: st.DataObject) -> None:
    """A body with bytes changed, cut out or put in is a body, or garbage."""
    packed = bytearray(pack(body))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(packed)))
        packed[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        assert isinstance(read_body(bytes(packed)), Body)
    except PacketError as error:
        assert error.reason == "garbage"


NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 1 << 64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


@given(st.lists(NESTED, min_size=8, max_size=8), st.integers(0, 255))
@settings(max_examples=examples(500))
def test_any_shape(parts: list[Any], ours: int) -> None:
    """Arrays of eight with anything in them, beside parts that are as they should be, are a body, or garbage."""
    well = [SYN, b"c" * 8, b"", [0, 0], 0, [["n", 1, 1, 1, 0, 0]], [["n", 1, 0, 0, ["k", "v", 1]]], [["n", 1, 0]]]
    mixed = [good if ours >> place & 1 else part for place, (good, part) in enumerate(zip(well, parts, strict=True))]
    try:
        read_body(msgpack.packb(mixed, use_bin_type=True))
    except PacketError as error:
        assert error.reason == "garbage"


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
        b"\xdd\x00\x00\x40\x00" * 250,
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 1400,  # arrays in arrays
        b"\xdc\x05\x00" * 450,
        b"\x98" + b"\xdc\xff\xff" * 400,
    ],
)
def test_decoding_is_bounded(data: bytes) -> None:
    """Lengths that are not there and nests without end are garbage, and cost little memory."""
    tracemalloc.start()
    with pytest.raises(PacketError):
        read_body(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("item", [b"\xdd\x00\x0f\x00\x00", b"\xdc\xff\xff", b"\x91"])
def test_decoding_what_came_over_a_link_is_bounded(item: bytes) -> None:
    """The same for what comes over a link, which may be large: it costs memory in proportion to its size."""
    data = item * (1_000_000 // len(item))
    for read in (sync.read_request, read_whole_answer):
        tracemalloc.start()
        with pytest.raises(SyncError):
            read(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000


GOOD_ITEM = ["n", 1, 1, 1, 0, 0]
GOOD_DELTA = ["n", 1, 0, 0, ["k", "v", 1]]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 0),
        (0, 5),
        (1, b"7 bytes"),
        (1, "8 letter"),
        (2, b"1"),
        (3, [1]),
        (3, [-1, 0]),
        (4, 2),
        (4, -1),
        (5, [["n", 1, 1, 1, 0]]),
        (5, [["", 1, 1, 1, 0, 0]]),
        (5, [["n" * 65, 1, 1, 1, 0, 0]]),
        (5, [["ü", 1, 1, 1, 0, 0]]),
        (5, [["n\n", 1, 1, 1, 0, 0]]),
        (5, [["n", MAX_GENERATION + 1, 1, 1, 0, 0]]),
        (5, [["n", 1, 1 << 63, 1, 0, 0]]),
        (5, [["n", 1, 1, 1, 2, 0]]),  # floor above version
        (5, [["n", 1, 1.0, 1, 0, 0]]),
        (5, [["n", True, 1, 1, 0, 0]]),
        (5, [["n", 1, 1, 1, 0, -1]]),
        (6, [["n", 1, 0, 0, ["k", "v"]]]),
        (6, [["n", 1, 5, 0, ["k", "v", 5]]]),
        (6, [["n", 1, 0, 0, ["k", "v", 2, "l", "v", 1]]]),
        (6, [["n", 1, 0, 0, ["", "v", 1]]]),
        (6, [["n", 1, 0, 0, ["k" * 161, "v", 1]]]),
        (6, [["n", 1, 0, 0, ["k", "v" * 301, 1]]]),
        (6, [["n", 1, 0, 0, ["k", "\x07", 1]]]),
        (6, [["n", 1, 0, 0, ["k", b"v", 1]]]),
        (6, [["n", 1, 0, 0, ["k", True, 1]]]),
        (6, [["n", 1, 0, 0, ["k", -1, 1]]]),
        (6, [["n", 1, 0, 0, [b"k", "v", 1]]]),
        (7, [["n", 1]]),
        (7, ["n"]),
    ],
)
def test_strict(place: int, value: Any) -> None:
    """Whatever is odd in one part makes the whole packet garbage."""
    body = [SYN, b"c" * 8, b"", [0, 0], 0, [GOOD_ITEM], [GOOD_DELTA], [["n", 1, 0]]]
    assert read_body(msgpack.packb(body)).kind == SYN
    body[place] = value
    with pytest.raises(PacketError, match="garbage"):
        read_body(msgpack.packb(body))


def test_kinds() -> None:
    """The four kinds have their numbers, which other versions rely on."""
    assert (SYN, REPLY, DELTA, CHALLENGE) == (1, 2, 3, 4)


# Syncs


def read_whole_answer(data: bytes) -> tuple[int, list[Whole | Part]]:
    """An answer, with all slices of it taken."""
    asked_ms, maps = sync.read_answer(data)
    return asked_ms, [one for one in maps if one is not None]


@st.composite
def maps_given(draw: st.DrawFn) -> Given:
    """A map that is given, whole or from a version on."""
    found = draw(entries())
    name, generation, heartbeat, _, _, age_ms = draw(DIGESTS)
    floor = draw(st.integers(0, found[-1][2]))
    kept = [entry for entry in found if entry[1] is not None or entry[2] > floor]
    version = found[-1][2] + draw(st.integers(0, 9))
    had = draw(st.just(0) | st.integers(0, version))
    return Given((name, generation, heartbeat, version, floor, age_ms), whole_map(kept, version, floor), had)


@given(NUMBERS, st.lists(WANTS, max_size=5), st.lists(st.tuples(NAMES, NUMBERS), max_size=5))
@settings(max_examples=examples(100))
def test_request_there_and_back(asked_ms: int, behind: list[Any], known: list[Any]) -> None:
    """A request for maps is read as it was asked."""
    read = sync.read_request(sync.pack_request(asked_ms, behind, known))
    assert read == (asked_ms, {name: (g, v) for name, g, v in behind}, dict(known))


@given(NUMBERS, st.lists(maps_given(), max_size=4))
@settings(max_examples=examples(100))
def test_answer_there_and_back(asked_ms: int, maps: list[Given]) -> None:
    """An answer with maps is read as it was given: a whole map, or what stands above the version that the asker had,
    unless it may have missed deletes."""
    read_ms, read = read_whole_answer(b"".join(sync.pack_answer(asked_ms, maps)))
    assert read_ms == asked_ms
    for one in maps:
        assert one.map is not None
        entries = list(one.map.since(one.after))
        assert one.after == (one.had if one.had >= one.map.floor else 0)
        if one.after and not entries:
            continue
        found = read.pop(0)
        assert found.digest == one.digest
        if isinstance(found, Part):
            node_id, generation, _, _, floor, _ = one.digest
            assert found.delta == Delta(node_id, generation, one.after, floor, entries) and one.after
        else:
            assert found.map is not None and not one.after
            assert list(found.map) == entries and (found.map.version, found.map.floor) == found.digest[3:5]
            found.map._check_invariants()
    assert read == []


def test_maps_that_an_answer_leaves_out() -> None:
    """A map that is left out is named, in a way that an earlier version takes for hearsay: nothing of it is lost."""
    left_out = Given(("n", 1, 7, 90, 50, 4), None)
    ((only,), (read,)) = (
        msgpack.unpackb(b"".join(sync.pack_answer(1, [left_out])))[1],
        read_whole_answer(b"".join(sync.pack_answer(1, [left_out])))[1],
    )
    assert only == ["n", 1, 7, 0, 0, 4, []]
    assert read == Whole(("n", 1, 7, 0, 0, 4), None)


def test_a_large_answer_is_made_and_read_in_slices() -> None:
    """No piece of an answer has more than a slice, and what is written meanwhile does not mix with it."""
    held = said_of({f"endpoint:{number}": 1 for number in range(5 * SLICE)})
    held.write("status", "active", held.version + 1)
    pieces = []
    for piece in sync.pack_answer(1, [Given(("n", 1, 7, 0, 0, 4), held)]):
        held.write("endpoint:1", 2, held.version + 1)
        pieces.append(piece)
    assert len(pieces) > 5 and max(map(len, pieces)) < SLICE * 40
    _, maps = sync.read_answer(b"".join(pieces))
    steps = list(maps)
    assert len(steps) > 5 and steps[:-1] == [None] * (len(steps) - 1)
    whole = steps[-1]
    assert isinstance(whole, Whole) and whole.map is not None and whole.map.count_endpoints()[0] == 5 * SLICE


@given(st.binary(max_size=2000) | NESTED.map(msgpack.packb))
@settings(max_examples=examples(500))
def test_any_bytes_over_a_link(data: bytes) -> None:
    """Any bytes are a request, or `SyncError`; the same for an answer."""
    for read in (sync.read_request, read_whole_answer):
        try:
            read(data)
        except SyncError:
            pass


@given(st.lists(maps_given(), min_size=1, max_size=3), st.data())
@settings(max_examples=examples(200))
def test_any_mutation_of_an_answer(maps: list[Given], data: st.DataObject) -> None:
    """An answer with bytes changed is one, or `SyncError`."""
    packed = bytearray(b"".join(sync.pack_answer(5, maps)))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_whole_answer(bytes(packed))
    except SyncError:
        pass


@pytest.mark.parametrize(
    "one",
    [
        ["n", 1, 1, 5, 0, 0, ["k", 1, 6]],  # above the version
        ["n", 1, 1, 5, 3, 0, ["k", None, 2]],  # a tombstone below the floor
        ["n", 1, 1, 5, 0, 0, ["k", 1, 2, "l", 1, 2]],
        ["n", 1, 1, 5, 0, 0],
        ["n", 1, 1, 5, 0, 0, 2, ["k", 1, 2]],  # not above the version that the asker had
        ["n", 1, 1, 5, 0, 0, 2, ["k", 1, 4, "l", 1, 3]],
        ["n", 1, 1, 5, 0, 0, 2, ["k", 1, 3, "l", 1]],
        ["n", 1, 1, 5, 0, 0, 2, ["k", 1, 6]],  # above the version
        ["n", 1, 1, 5, 3, 0, 2, ["k", 1, 4]],  # deletes before it may be missing
        ["n", 1, 1, 5, 3, 0, 2, []],
        ["n", 1, 1, 5, 0, 0, -1, ["k", 1, 4]],
        ["n", 1, 1, 5, 0, 0, None, ["k", 1, 4]],
        ["n", 1, 1, 5, 0, 0, [], ["k", 1, 4]],
        ["n", 1, 1, 5, 0, 0, 2, ["", 1, 4]],
        ["n", 1, 1, 5, 0, 0, 2, ["k", True, 4]],
        ["n", 1, 1, 5, 0, 0, 2, "k"],
        ["n", 1, 1, 5, 0, 0, 2, ["k", 1, 4], 0],
    ],
)
def test_maps_that_cannot_be(one: list[Any]) -> None:
    """A map that no node has is no answer."""
    with pytest.raises(SyncError):
        read_whole_answer(msgpack.packb([1, [one]]))

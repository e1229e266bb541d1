"""Maps as they cross a node link: what a node asks for when packets do not suffice, and the answer.

A request is an array of three: the asker's milliseconds, what the asker is behind with (`[ID, generation, version]`
each), and which nodes it knows otherwise (`[ID, generation]`). The answer is an array of two: those milliseconds again,
by which the asker knows how long all that may have waited somewhere, and an array of maps, each an item of a digest and
all entries of that node, in a flat array as in a packet. The node that answers gives the maps that it knows better, and
those of nodes that the asker does not know.

Where the asker has a map up to a version, only what stands above that is given, behind that version as a seventh field:
when very many endpoints move at once, each node lacks a little of each other, and whole maps of all of them would keep
everybody from ever getting further. A node of an earlier version takes whole maps alone. It says so by its
capabilities, not in what it asks, since questions are read strictly.

A map may have 100,000 entries, and nobody is to wait for all of them: an answer is made and read in slices. Each map is
as it was at the moment at which its first slice was made. What is too much for one answer is left out: such a node is
named with an item of version 0 and no entries. A node of an earlier version takes that for hearsay, and asks for the
map when it hears its version; a newer one asks for it at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final

import attrs
import msgpack

from pico_twisted.core.gossip.packets import Delta, Digest, Want, name, number, read_digest, read_entries, unpack
from pico_twisted.core.gossip.state import Entry, VersionedMap

MAX_ITEMS: Final = 4 * 1024 * 1024
"""Most items of one array in a request or an answer."""
MAX_ENTRIES: Final = 200_000
"""Most entries of an answer that has more than one map: some 8 MB."""
SLICE: Final = 2000
"""Entries that are made, or read, in one step: a few milliseconds."""


_NONSENSE: Final = (ValueError, TypeError, msgpack.UnpackException)
_packer: Final = msgpack.Packer(use_bin_type=True, autoreset=True)
_packb: Final = _packer.pack
_array: Final = _packer.pack_array_header


class SyncError(ValueError):
    """A request or an answer that is none."""


@attrs.frozen
class Given:
    """One node's map, as it is given.

    Attributes:
        digest: what is said of the node.
        map: what it says itself; None when that is left out.
        had: the version up to which the asker has it; 0 where it has nothing, or takes whole maps alone.
    """

    digest: Digest
    map: VersionedMap | None
    had: int = 0

    @property
    def after(self) -> int:
        """The version above which entries are given now: 0, for all, when deletes above `had` may be forgotten."""
        return self.had if self.map is not None and self.had >= self.map.floor else 0


@attrs.frozen
class Whole:
    """All of one node's map, as it was read.

    Attributes:
        digest: what is said of the node.
        map: what it says itself; None when that is left out.
    """

    digest: Digest
    map: VersionedMap | None


@attrs.frozen
class Part:
    """Some of one node's map, as it was read: what stands above a version, or a slice of that.

    Attributes:
        digest: what is said of the node.
        delta: the entries.
    """

    digest: Digest
    delta: Delta


def pack_request(asked_ms: int, behind: list[Want], known: list[tuple[str, int]]) -> bytes:
    """A request.

    Args:
        asked_ms: the asker's time.
        behind: what it is behind with.
        known: the other nodes that it knows, with their generations.
    """
    packed: bytes = msgpack.packb([asked_ms, behind, known], use_bin_type=True)
    return packed


def read_request(data: bytes) -> tuple[int, dict[str, tuple[int, int]], dict[str, int]]:
    """The asker's time; generation and version of what it is behind with, and the generations of what it knows, by node
    ID.

    Raises:
        SyncError: it is no request.
    """
    try:
        asked_ms, behind, known = unpack(data, MAX_ITEMS)
        return (
            number(asked_ms),
            {name(node_id): (number(generation), number(version)) for node_id, generation, version in behind},
            {name(node_id): number(generation) for node_id, generation in known},
        )
    except (ValueError, TypeError) as error:
        raise SyncError(f"not a request for maps: {error}") from None


def pack_answer(asked_ms: int, maps: list[Given]) -> Iterator[bytes]:
    """An answer to a question of that time, in pieces."""
    yield _array(2) + _packb(asked_ms) + _array(len(maps))
    for given in maps:
        node_id, generation, heartbeat, _, _, age_ms = given.digest
        held, after = given.map, given.after
        if held is None:
            yield _array(7) + b"".join(map(_packb, (node_id, generation, heartbeat, 0, 0, age_ms, [])))
            continue
        item = [node_id, generation, heartbeat, held.version, held.floor, age_ms, *([after] if after else [])]
        count, entries = held.count_since(after), held.since(after)
        yield _array(len(item) + 1) + b"".join(map(_packb, item)) + _array(3 * count)
        while piece := list(chain.from_iterable(islice(entries, SLICE))):
            yield b"".join(map(_packb, piece))


def read_answer(data: bytes) -> tuple[int, Iterator[Whole | Part | None]]:
    """Read an answer in slices.

    Returns:
        The time of the question; and its maps. Each whole one comes once it is read, with None behind each other slice
        of it; each slice of another one at once. Taking them raises `SyncError` where it turns out to be no answer.

    Raises:
        SyncError: it is no answer.
    """
    size = len(data)
    unpacker = msgpack.Unpacker(
        max_buffer_size=max(size, 1),
        raw=False,
        max_str_len=min(size, 512),
        max_bin_len=0,
        max_array_len=0,
        max_map_len=0,
        max_ext_len=0,
    )
    unpacker.feed(data)
    try:
        if unpacker.read_array_header() != 2:
            raise ValueError("not an array of two")
        return number(unpacker.unpack()), _read_maps(unpacker, unpacker.read_array_header(), size)
    except _NONSENSE as error:
        raise _no_answer(error) from None


def _no_answer(error: Exception) -> SyncError:
    return SyncError(f"not an answer with maps: {error}" if str(error) else "not an answer with maps: it ends too soon")


def _read_maps(unpacker: Any, count: int, size: int) -> Iterator[Whole | Part | None]:
    try:
        for _ in range(count):
            yield from _read_map(unpacker)
        if unpacker.tell() != size:
            raise ValueError("there is something behind it")
    except _NONSENSE as error:
        raise _no_answer(error) from None


def _read_map(unpacker: Any) -> Iterator[Whole | Part | None]:  # msgpack tells mypy nothing of what it unpacks
    fields = unpacker.read_array_header()
    if fields not in (7, 8):
        raise ValueError("not a map")
    unpack = unpacker.unpack
    digest = read_digest([unpack() for _ in range(6)])
    after = number(unpack()) if fields == 8 else None
    count = unpacker.read_array_header()
    if count % 3 or count > MAX_ITEMS:
        raise ValueError("half an entry, or too many")
    if after is not None:
        yield from _read_part(unpacker, digest, after, count)
    elif not count and not digest[3]:
        yield Whole(digest, None)
    else:
        yield from _read_whole(unpacker, digest, count)


def _read_whole(unpacker: Any, digest: Digest, count: int) -> Iterator[Whole | None]:
    held = VersionedMap()
    while count:
        entries = _read_slice(unpacker, digest, held.version, count)
        count -= 3 * len(entries)
        held.load(entries)
        if count:
            yield None
    yield from held.complete(digest[3], digest[4])
    yield Whole(digest, held)


def _read_part(unpacker: Any, digest: Digest, after: int, count: int) -> Iterator[Part]:
    node_id, generation, _, _, floor, _ = digest
    if after < floor:
        raise ValueError("a part from below the floor")
    while count:
        entries = _read_slice(unpacker, digest, after, count)
        count -= 3 * len(entries)
        yield Part(digest, Delta(node_id, generation, after, floor, entries))
        after = entries[-1][2]


def _read_slice(unpacker: Any, digest: Digest, after: int, count: int) -> list[Entry]:
    """The next entries of a map, of which that many items are left, above a version."""
    flat = list(islice(unpacker, min(count, 3 * SLICE)))
    if not flat:
        raise ValueError("it ends too soon")
    entries = read_entries(flat, after)
    version, floor = digest[3], digest[4]
    if entries[-1][2] > version:
        raise ValueError("entries above the version")
    if any(value is None and written <= floor for _, value, written in entries):
        raise ValueError("tombstones below the floor")
    return entries

"""Whole maps as they cross a node link: what a node asks for when packets do not suffice, and the answer.

A request is an array of three: the asker's milliseconds, what the asker is behind with (`[ID, generation, version]`
each), and which nodes it knows otherwise (`[ID, generation]`). The answer is an array of two: those milliseconds again,
by which the asker knows how long all that may have waited somewhere, and an array of maps, each an item of a digest and
all entries of that node, in a flat array as in a packet. The node that answers gives the maps that it knows better, and
those of nodes that the asker does not know.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgpack

from pico_twisted.core.gossip.packets import Digest, Want, name, number, read_digest, read_entries, unpack
from pico_twisted.core.gossip.state import Entry

MAX_ITEMS: Final = 4 * 1024 * 1024
"""Most items of one array in a request or an answer."""


class SyncError(ValueError):
    """A request or an answer that is none."""


@attrs.frozen
class Whole:
    """All of one node's map."""

    digest: Digest
    entries: list[Entry]


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


def pack_answer(asked_ms: int, maps: list[Whole]) -> bytes:
    """An answer to a question of that time."""
    flat = [[*whole.digest, [part for entry in whole.entries for part in entry]] for whole in maps]
    packed: bytes = msgpack.packb([asked_ms, flat], use_bin_type=True)
    return packed


def read_answer(data: bytes) -> tuple[int, list[Whole]]:
    """The time of the question, and the maps of the answer.

    Raises:
        SyncError: it is no answer.
    """
    try:
        maps: list[Whole] = []
        asked_ms, flats = unpack(data, MAX_ITEMS)
        for *item, flat in flats:
            digest = read_digest(item)
            entries = read_entries(flat, 0)
            if entries and entries[-1][2] > digest[3]:
                raise ValueError("entries above the version")
            if any(value is None and at <= digest[4] for _, value, at in entries):
                raise ValueError("tombstones below the floor")
            maps.append(Whole(digest, entries))
        return number(asked_ms), maps
    except (ValueError, TypeError) as error:
        raise SyncError(f"not an answer with maps: {error}") from None

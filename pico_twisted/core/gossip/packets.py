"""The bodies of gossip packets: what they say, written with msgpack and read strictly.

A body is an array of eight: kind, challenge, echo, have, hops, digest, deltas, wants. docs/protocol.md has the
format. Reading is bounded before it allocates, by msgpack's own limits for what fits a packet, and every item is
checked; whatever is odd makes the whole packet `garbage`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import attrs
import msgpack

from pico_twisted.core.gossip.sealing import MAX_ID_BYTES, PacketError
from pico_twisted.core.gossip.state import Entry
from pico_twisted.core.protocol_limits import MAX_GENERATION

SYN: Final = 1
"""The kind of a packet with a digest, which draws a `REPLY`."""
REPLY: Final = 2
"""The kind of a packet with deltas, a digest of what the sender knows better, and what it wants, if it wants anything:
that draws a `DELTA`."""
DELTA: Final = 3
"""The kind of a packet with deltas alone: what was wanted, or news."""
CHALLENGE: Final = 4
"""The kind of a packet with only a challenge, for a sender that did not prove its address. It draws the `SYN` again."""

KINDS: Final = {SYN: "syn", REPLY: "reply", DELTA: "delta", CHALLENGE: "challenge"}
"""The names of the kinds, as counters have them."""

MAX_KEY_BYTES: Final = 160
"""Most bytes of a key in a node's map."""
MAX_VALUE_BYTES: Final = 300
"""Most bytes of a value in a node's map."""
CHALLENGE_BYTES: Final = 8
"""Bytes of a challenge."""
_TOP: Final = 1 << 63
_MAX_ITEMS: Final = 16 * 1024

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
_pack = _packer.pack
_array = _packer.pack_array_header

Digest = tuple[str, int, int, int, int, int]
"""Node ID, generation, heartbeat, version, floor, and how many milliseconds ago the heartbeat was made."""
Want = tuple[str, int, int]
"""Node ID, generation, and the version that the sender has."""


@attrs.frozen(slots=True)
class Delta:
    """Entries of one node: all that stand with versions above `after` up to that of the last one."""

    node_id: str
    generation: int
    after: int
    floor: int
    entries: list[Entry]


@attrs.frozen(slots=True, kw_only=True)
class Body:
    """What a packet says.

    Attributes:
        kind: SYN, REPLY, DELTA or CHALLENGE.
        challenge: to be echoed by the receiver.
        echo: the receiver's last challenge; empty when there is none.
        have: generation and version of what the sender has of the receiver's own map.
        hops: of a `DELTA`: 0 when the receiver passes its news on, see `news`.
        digest: the sender's own first.
        deltas, wants: see there.
    """

    kind: int
    challenge: bytes
    echo: bytes
    have: tuple[int, int]
    hops: int
    digest: list[Digest]
    deltas: list[Delta]
    wants: list[Want]


@attrs.frozen(slots=True)
class Received:
    """A packet that was opened and read.

    Attributes:
        node_id: of its sender.
        generation: of its sender.
        body: what it says.
        source: the address that it came from.
        proven: whether it echoes a challenge that we lately gave to that address.
        said_at: when it was sent, at the earliest: before now if it may have waited for us.
    """

    node_id: str
    generation: int
    body: Body
    source: str
    proven: bool
    said_at: float


def pack_item(item: Digest | Want) -> bytes:
    """One item of a digest, or of the wants."""
    packed: bytes = _pack(item)
    return packed


def pack_delta(
    node_id: str, generation: int, after: int, floor: int, entries: Iterable[Entry], room: int
) -> tuple[bytes, int]:
    """Pack a delta, see `Delta`, with as many of its entries as fit into `room` bytes.

    Returns:
        The delta, or b"" when not one entry fits; and the version up to which it goes.
    """
    head: bytes = _array(5) + _pack(node_id) + _pack(generation) + _pack(after) + _pack(floor)
    left = room - len(head) - 3
    pieces: list[bytes] = []
    version = after
    for key, value, at in entries:
        piece: bytes = _pack(key) + _pack(value) + _pack(at)
        left -= len(piece)
        if left < 0:
            break
        pieces.append(piece)
        version = at
    if not pieces:
        return b"", after
    return b"".join((head, _array(3 * len(pieces)), *pieces)), version


def pack_body(
    kind: int,
    challenge: bytes,
    echo: bytes,
    have: tuple[int, int],
    hops: int,
    digest: Sequence[bytes],
    deltas: Sequence[bytes],
    wants: Sequence[bytes],
) -> bytes:
    """Pack a body, see `Body`, whose lists hold parts that are packed already: by `pack_item` and `pack_delta`."""
    return b"".join(
        (
            _array(8),
            _pack(kind),
            _pack(challenge),
            _pack(echo),
            _pack(have),
            _pack(hops),
            _array(len(digest)),
            *digest,
            _array(len(deltas)),
            *deltas,
            _array(len(wants)),
            *wants,
        )
    )


FIXED_BYTES: Final = 1 + 1 + 10 + 10 + 19 + 1 + 3 + 3 + 3
"""Most bytes that a body takes without its digest, deltas and wants."""


def read_body(data: bytes) -> Body:
    """Read a body.

    Raises:
        PacketError: `garbage`.
    """
    try:
        kind, challenge, echo, have, hops, digest, deltas, wants = unpack(data, _MAX_ITEMS)
        if kind not in KINDS or not 0 <= hops <= 1:
            raise ValueError
        return Body(
            kind=kind,
            challenge=_bytes(challenge),
            echo=_bytes(echo) if echo != b"" else b"",
            have=(number(have[0]), number(have[1])),
            hops=hops,
            digest=[read_digest(item) for item in digest],
            deltas=[_read_delta(item) for item in deltas],
            wants=[(name(node), number(generation), number(version)) for node, generation, version in wants],
        )
    except (ValueError, TypeError, LookupError):
        raise PacketError("garbage") from None


def unpack(data: bytes, most_items: int) -> Any:
    """Decode msgpack with nothing in it but numbers, texts, bytes, None and arrays, each of bounded size.

    Raises:
        ValueError: it is something else, or more.
    """
    size = len(data)
    try:
        # Once through without making anything: an array whose items are not there would be made all the same, and
        # arrays in arrays would make far more than there is data.
        all_there = msgpack.Unpacker(max_buffer_size=max(size, 1))
        all_there.feed(data)
        all_there.skip()
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            max_str_len=min(size, 512),
            max_bin_len=min(size, 512),
            max_array_len=min(size, most_items),
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError(str(error)) from None


@lru_cache(maxsize=4096)
def name(value: Any) -> str:
    """Return a node ID, or raise `ValueError`. Each ID is checked once, and kept once."""
    if type(value) is not str or not 0 < len(value) <= MAX_ID_BYTES or not (value.isascii() and value.isprintable()):
        raise ValueError("not a node ID")
    return value


def number(value: Any) -> int:
    """Return a number of 63 bits, or raise `ValueError`."""
    if type(value) is not int or not 0 <= value < _TOP:
        raise ValueError("not a number")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != CHALLENGE_BYTES:
        raise ValueError("not a challenge")
    return value


def read_digest(item: Any) -> Digest:
    """Return one item of a digest, or raise `ValueError`."""
    node_id, generation, heartbeat, version, floor, age_ms = item
    if not (
        type(generation) is type(heartbeat) is type(version) is type(floor) is type(age_ms) is int
        and 0 <= generation <= MAX_GENERATION
        and 0 <= heartbeat < _TOP
        and 0 <= floor <= version < _TOP
        and 0 <= age_ms < _TOP
    ):
        raise ValueError("not an item of a digest")
    return name(node_id), generation, heartbeat, version, floor, age_ms


def read_entries(flat: list[Any], after: int) -> list[Entry]:
    """Return the entries of a flat array, whose versions rise from above `after`, or raise `ValueError`."""
    if len(flat) % 3:
        raise ValueError("half an entry")
    keys, values, versions = flat[::3], flat[1::3], flat[2::3]
    _check_keys(keys)
    for value in values:
        if value is not None:
            _check_value(value)
    for version in versions:
        if type(version) is not int or not after < version < _TOP:
            raise ValueError("versions out of order")
        after = version
    return list(zip(keys, values, versions, strict=True))


def _check_keys(keys: list[Any]) -> None:
    """Check all at once, which is quicker than one by one: this is much of the work of a packet."""
    if not keys:
        return
    if set(map(type, keys)) != {str}:
        raise ValueError("not a key")
    together, sizes = "".join(keys), set(map(len, keys))
    if 0 in sizes or max(sizes) > MAX_KEY_BYTES or not (together.isascii() and together.isprintable()):
        raise ValueError("not a key")


def _check_value(value: Any) -> None:
    if type(value) is not str:
        number(value)
    elif len(value.encode()) > MAX_VALUE_BYTES or not value.isprintable():
        raise ValueError("not a value")


def _read_delta(item: Any) -> Delta:
    node_id, generation, after, floor, flat = item
    return Delta(name(node_id), number(generation), number(after), number(floor), read_entries(flat, after))

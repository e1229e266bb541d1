"""Messages in pieces and with changes, for the tests of both sides of a connection."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

from pico_twisted.core.http1.head import End, RequestHead, ResponseHead

Event = TypeVar("Event", RequestHead | bytes | End, ResponseHead | bytes | End)

BAD_LINES = [
    b"A: a\r\n b",
    b"A: a\r\n\tb: c",
    b" A: a",
    b"\tA: a",
    b"A : a",
    b"A\t: a",
    b"A",
    b": a",
    b"A a: b",
    b"A: a\rB: b",
    b"A: a\nB: b",
    b"A: a\n\nB: b",
    b"A: a\r",
    b"\rA: a",
    b"A: a\r\r",
    b"A: \x00",
    b"A\x00: a",
    b"A(: a",
    b"A\xe4: a",
    b"A: a\x00",
    b"A\x7f: a",
    b"A\xa0: a",
]
"""Lines of a head that are refused in either direction: folded ones, bare CR and LF, names that are no tokens."""

EDITS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 3),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b"\t", b"\x00", b","]) | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=4,
)
"""Changes of a message: where, how many bytes go, and what comes."""


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """A message after these changes."""
    changed = bytearray(data)
    for at, removed, added in edits:
        changed[at : at + removed] = added
    return bytes(changed)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """A message in pieces, cut at these places and none of them beyond its end."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def joined(events: list[Event]) -> list[Event]:
    """Events with adjacent pieces of a body as one."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, bytes):
            assert event, "an empty piece"
            if out and isinstance(out[-1], bytes):
                out[-1] += event
                continue
        out.append(event)
    return out

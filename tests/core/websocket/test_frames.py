"""Frames of WebSocket as a stream of bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.websocket.frames import (
    BINARY,
    CLOSE,
    EMPTY,
    NO_STATUS,
    PING,
    PONG,
    Closed,
    Event,
    FrameReader,
    Ping,
    WebSocketError,
    close_payload,
    frame_header,
)
from tests.peers.websocket import CONTINUATION, TEXT, frame_bytes, masked


def lay(mask: bytes, data: bytes) -> bytes:
    """The tests' own mask."""
    return masked(data, mask)


def server() -> FrameReader:
    """Reads what a client sends."""
    return FrameReader(lay, from_client=True)


def merged(events: list[Event]) -> list[Event]:
    """Events with bytes that follow each other as one."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += event
        else:
            found.append(event)
    return found


MESSAGES = st.lists(
    st.one_of(
        st.lists(st.binary(max_size=300), min_size=1, max_size=4),  # fragments of a message
        st.sampled_from([bytes(125), bytes(126), bytes(65535), bytes(65536)]).map(lambda data: [data]),
    ),
    max_size=6,
)


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 400_000), max_size=8), from_client=st.booleans())
def test_any_cut_gives_the_same(messages: list[list[bytes]], cuts: list[int], from_client: bool) -> None:
    """However messages are cut into fragments, and the bytes into reads: the bytes come out once, in order, and an
    event for each empty message where it was."""
    wire = b""
    expected: list[Event] = []
    for pieces in messages:
        for number, piece in enumerate(pieces):
            kind = CONTINUATION if number else BINARY
            wire += frame_bytes(kind, piece, fin=number == len(pieces) - 1, mask=from_client)
        data = b"".join(pieces)
        expected.append(data or EMPTY)
    reader = FrameReader(lay, from_client=from_client)
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    events = [event for start, end in pairwise(places) for event in reader.receive(wire[start:end])]
    assert merged(events) == merged(expected)


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5), from_client=st.booleans())
def test_garbage(data: bytes, cuts: list[int], from_client: bool) -> None:
    """Whatever a peer sends: events, or one error with a code, and nothing kept but what a header may have."""
    reader = FrameReader(lay, from_client=from_client)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    given_out = 0
    try:
        for start, end in pairwise(places):
            for event in reader.receive(data[start:end]):
                given_out += len(event) if isinstance(event, bytes) else 0
    except WebSocketError as error:
        assert error.code in (1002, 1003, 1007) and error.reason
    assert given_out <= len(data)


def test_one_ping_of_a_read_is_answered() -> None:
    """Of the pings of one read the last one is told, behind the bytes around them; pongs are nothing."""
    wire = b"".join(
        frame_bytes(kind, payload, mask=True)
        for kind, payload in ((PING, b"1"), (BINARY, b"a"), (PONG, b"?"), (PING, b"2"), (BINARY, b"b"))
    )
    assert server().receive(wire) == [b"ab", Ping(b"2")]


def test_nothing_behind_a_close() -> None:
    """What comes behind a close frame is of no interest, whatever it is; the code and the reason are told."""
    reader = server()
    wire = frame_bytes(BINARY, b"x", mask=True) + frame_bytes(CLOSE, close_payload(1001, "bye"), mask=True)
    assert reader.receive(wire + b"\xff\xff") == [b"x", Closed(1001, "bye")]
    assert reader.receive(b"\xff") == []
    assert server().receive(frame_bytes(CLOSE, b"", mask=True)) == [Closed(NO_STATUS, "")]


def test_pieces_come_at_once() -> None:
    """A message of any size is given out as it comes: nothing waits for its end."""
    reader = server()
    wire = frame_header(BINARY, 1 << 40, b"\x01\x02\x03\x04")
    assert reader.receive(wire) == []
    for _ in range(5):
        assert reader.receive(masked(b"abc", b"\x01\x02\x03\x04")) == [b"abc"]
        reader.receive(masked(b"d", b"\x04\x01\x02\x03"))


BROKEN = {
    "text": (frame_bytes(TEXT, b"x", mask=True), 1003),
    "no-mask": (frame_bytes(BINARY, b"x", mask=False), 1002),
    "reserved": (frame_bytes(BINARY, b"x", mask=True, reserved=0x40), 1002),
    "continuation": (frame_bytes(CONTINUATION, b"x", mask=True), 1002),
    "within": (frame_bytes(BINARY, b"x", fin=False, mask=True) + frame_bytes(TEXT, b"x", mask=True), 1002),
    "opcode-3": (frame_bytes(0x3, b"x", mask=True), 1002),
    "opcode-b": (frame_bytes(0xB, b"x", mask=True), 1002),
    "long-ping": (frame_bytes(PING, bytes(126), mask=True), 1002),
    "ping-fragment": (frame_bytes(PING, b"", fin=False, mask=True), 1002),
    "half-code": (frame_bytes(CLOSE, b"\x03", mask=True), 1002),
    "code-1005": (frame_bytes(CLOSE, close_payload(1005, ""), mask=True), 1002),
    "code-999": (frame_bytes(CLOSE, close_payload(999, ""), mask=True), 1002),
    "no-text": (frame_bytes(CLOSE, close_payload(1000, "") + b"\xff", mask=True), 1007),
    "long-16": (b"\x82\xfe\x00\x7d\0\0\0\0", 1002),
    "long-64": (b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 1002),
    "negative-64": (b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1002),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rules(name: str) -> None:
    """What breaks the rules is an error with the code of RFC 6455, as soon as it is seen, byte by byte too."""
    wire, code = BROKEN[name]
    with pytest.raises(WebSocketError) as whole:
        server().receive(wire)
    assert whole.value.code == code
    reader = server()
    with pytest.raises(WebSocketError):
        for at in range(len(wire)):
            reader.receive(wire[at : at + 1])


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 1 << 20])
@pytest.mark.parametrize("mask", [b"", b"\x00\x00\x00\x00", b"mask"])
def test_headers(size: int, mask: bytes) -> None:
    """A header is as short as it can be, and reads as what it was written for."""
    header = frame_header(BINARY, size, mask)
    assert len(header) == (2 if size < 126 else 4 if size < 65536 else 10) + len(mask)
    reader = FrameReader(lay, from_client=bool(mask))
    data = b"".join(event for event in reader.receive(header + bytes(size)) if isinstance(event, bytes))
    assert data == (masked(bytes(size), mask) if mask else bytes(size))


def test_long_reasons() -> None:
    """A reason that is too long for a close frame is cut between two characters."""
    payload = close_payload(1011, "ü" * 200)
    assert len(payload) <= 125
    assert payload[2:].decode() == "ü" * 61

"""Requests on a connection: heads, bodies and pipelines, however their bytes arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.chunked import encode_chunk
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, End, HeadLimits, RequestHead
from pico_twisted.core.http1.server import MAX_EMPTY_LINES, ServerConnection
from tests.core.http1.pieces import cut, joined

LIMITS = HeadLimits()
SMALL = HeadLimits(head_bytes=200, fields=5, target_bytes=40)

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /c HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n"

Event = RequestHead | bytes | End


def each(connection: ServerConnection, *, follow: bool = True) -> Iterator[Event]:
    """The events that are there; goes on to pipelined requests when `follow`."""
    while (event := connection.next_event()) is not None:
        yield event
        if event is END and follow:
            connection.next_request()


def drain(connection: ServerConnection, *, follow: bool = True) -> list[Event]:
    return list(each(connection, follow=follow))


def run(pieces: list[bytes], limits: HeadLimits = LIMITS) -> tuple[list[Event], tuple[int, str, str] | None, int]:
    """(events, the error, bytes left over) of a connection that receives these pieces one after the other."""
    connection = ServerConnection(limits)
    events: list[Event] = []
    for piece in pieces:
        connection.receive(piece)
        try:
            events.extend(each(connection))
        except Http1Error as error:
            return joined(events), (error.status, error.code, error.message), 0
    return joined(events), None, connection.buffered


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def head_of(event: Event | None) -> RequestHead:
    assert isinstance(event, RequestHead)
    return event


@pytest.fixture
def connection() -> ServerConnection:
    """A connection on which nothing has come."""
    return ServerConnection(LIMITS)


def test_a_request_in_one_piece(connection: ServerConnection) -> None:
    """A whole request comes out in three events, and its body is the bytes that came."""
    assert connection.next_event() is None
    connection.receive(POST)
    assert connection.buffered == len(POST)
    assert head_of(connection.next_event()).target == b"/b"
    assert connection.next_event() == b"hello"
    assert connection.next_event() is END
    assert connection.next_event() is None
    assert connection.buffered == 0


def test_a_request_without_a_body() -> None:
    """Neither length nor chunks: the request ends with its head. A length of nothing is the same."""
    events, error, left = run([GET + GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")])
    assert [type(event) for event in events] == [RequestHead, End, RequestHead, End]
    assert (error, left) == (None, 0)


def test_pieces_of_a_body_come_out_at_once(connection: ServerConnection) -> None:
    """A byte of a body is given out when it is there, with a length and in chunks."""
    connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    head_of(connection.next_event())
    for byte in (b"a", b"b", b"c"):
        assert connection.next_event() is None
        connection.receive(byte)
        assert connection.next_event() == byte
    assert connection.next_event() is END
    connection.next_request()
    connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n")
    head_of(connection.next_event())
    for byte in (b"a", b"b", b"c"):
        assert connection.next_event() is None
        connection.receive(byte)
        assert connection.next_event() == byte
    assert connection.next_event() is None
    connection.receive(b"\r\n0\r\n\r\n")
    assert connection.next_event() is END


def test_many_chunks_come_out_as_one_piece() -> None:
    """Chunks that are there together cost one event."""
    events, _, _ = run([CHUNKED])
    assert events[1:] == [b"hello", END]
    connection = ServerConnection(LIMITS)
    connection.receive(CHUNKED)
    assert len(drain(connection)) == 3


def test_pipelined_requests_wait(connection: ServerConnection) -> None:
    """The next request is not read before the one in front of it is answered."""
    connection.receive(POST + GET + b"BAD")
    assert len(drain(connection, follow=False)) == 3
    assert connection.next_event() is None
    assert connection.buffered == len(GET) + 3
    assert not connection.head_begun
    connection.next_request()
    assert connection.head_begun
    assert head_of(connection.next_event()).target == b"/a"
    assert connection.next_event() is END
    connection.next_request()
    assert connection.next_event() is None
    assert connection.head_begun


def test_next_request_before_the_end(connection: ServerConnection) -> None:
    """Asking for the next request in the middle of one is a mistake of ours."""
    with pytest.raises(RuntimeError):
        connection.next_request()
    connection.receive(POST[:-1])
    connection.next_event()
    connection.next_event()
    with pytest.raises(RuntimeError):
        connection.next_request()
    connection.receive(POST[-1:])
    connection.next_event()
    connection.next_request()  # all of it was read: END says nothing new
    connection.receive(GET)
    assert isinstance(connection.next_event(), RequestHead)


@given(
    st.lists(st.sampled_from([GET, POST, CHUNKED, b"\r\n"]), max_size=6), st.lists(st.integers(0, 2000), max_size=20)
)
def test_any_split_gives_the_same_events(messages: list[bytes], cuts: list[int]) -> None:
    """However good bytes are cut, the same events come out."""
    data = b"".join(messages)
    whole = run([data])
    assert whole[1] is None
    assert run(cut(data, cuts)) == whole
    assert run(one_by_one(data)) == whole


EDITS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 4),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b"\x00", b"a" * 50, b"a" * 250, b"0\r\n\r\n"])
        | st.binary(max_size=4),
    ),
    max_size=4,
)


@given(
    st.lists(st.sampled_from([GET, POST, CHUNKED]), min_size=1, max_size=4),
    EDITS,
    st.lists(st.integers(0, 2000), max_size=20),
)
def test_any_split_gives_the_same_error(
    messages: list[bytes], edits: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    """However bad bytes are cut, the same events and the same error come out, and no other exception. Only how much of
    a broken chunked body came before the error may differ."""
    changed = bytearray(b"".join(messages))
    for at, removed, added in edits:
        changed[at : at + removed] = added
    data = bytes(changed)
    events, error, left = run([data], SMALL)
    for pieces in (cut(data, cuts), one_by_one(data)):
        events_cut, error_cut, left_cut = run(pieces, SMALL)
        assert (error_cut, left_cut) == (error, left)
        if error is not None and events_cut and isinstance(events_cut[-1], bytes) and events_cut != events:
            body = events_cut.pop()
            assert isinstance(body, bytes)
            if events and isinstance(events[-1], bytes):
                assert body.startswith(events[-1])
                assert events_cut == events[:-1]
                continue
        assert events_cut == events


@given(st.sampled_from([GET, POST, CHUNKED]), st.integers(0, 200))
def test_truncation_is_no_error(message: bytes, size: int) -> None:
    """A beginning of a good request gives a beginning of its events and asks for more."""
    whole, _, _ = run([message])
    events, error, _ = run([message[:size]])
    assert error is None
    for got, full in zip(events, whole, strict=False):
        assert got == full or (isinstance(got, bytes) and isinstance(full, bytes) and full.startswith(got))
    if size < len(message):
        assert END not in events


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_random_bytes(pieces: list[bytes]) -> None:
    """Random bytes are an Http1Error or wait for more."""
    run(pieces, SMALL)
    run([b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces], SMALL)


# Empty lines


def test_empty_lines_before_a_request(connection: ServerConnection) -> None:
    """Empty lines before a request line are passed over and begin no head, however they arrive (RFC 9112 2.2)."""
    for byte in one_by_one(b"\r\n" * MAX_EMPTY_LINES):
        connection.receive(byte)
        assert connection.next_event() is None
        assert not connection.head_begun
    connection.receive(b"G")
    assert connection.head_begun
    connection.receive(GET[1:])
    assert connection.head_begun
    assert head_of(connection.next_event()).method == b"GET"
    assert not connection.head_begun


def test_an_endless_row_of_empty_lines() -> None:
    """Empty lines are bounded, and counted anew for each request."""
    assert run([b"\r\n" * (MAX_EMPTY_LINES + 1)])[1] is not None
    assert run(one_by_one(b"\r\n" * (MAX_EMPTY_LINES + 1)))[1] is not None
    assert run([(b"\r\n" * MAX_EMPTY_LINES + GET) * 3])[1] is None


# Refused before the head has ended


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b" GET", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"head / HTTP/1.1\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\n", 501),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET / HTTP/3.0\r\n", 505),
        (b"GET /#a HTTP/1.1\r\nHost", 400),
        (b"M" * 65, 400),
        (b"GET / HTTP/1.1" + b"1" * 20, 400),
        (b"\n", 400),  # only CRLF is an empty line
        (b"\r\r\n", 400),
        (b"\rG", 400),
        (b"\n\n" + GET, 400),
        (b"\r\n\n" + GET, 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ],
)
def test_what_cannot_become_a_request(start: bytes, status: int) -> None:
    """A client whose line is wrong is told at once: it may wait for an answer before it sends more."""
    for pieces in ([start], one_by_one(start)):
        error = run(pieces)[1]
        assert error is not None
        assert error[0] == status


def test_a_target_that_does_not_end() -> None:
    """A target over its limit is 414 though its line has not ended, and at the very byte that is too much."""
    limits = HeadLimits(target_bytes=100)
    start = b"GET /" + b"a" * 99
    assert run([start], limits)[1] is None
    for pieces in ([start + b"a"], one_by_one(start + b"a"), [start + b"a" * 1_000_000]):
        assert run(pieces, limits)[1] == (414, "uri-too-long", "target is too long")
    assert run([start + b" HTTP/1.1\r\nHost: a\r\n\r\n"], limits)[1] is None
    assert run([start + b"\r"], limits)[1] is None


def test_a_head_that_does_not_end() -> None:
    """A head over its limit is 431 at the very byte that is too much; what is behind its end does not count."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nA: "
    good = head + b"a" * (1000 - len(head) - 4) + b"\r\n\r\n"
    limits = HeadLimits(head_bytes=1000)
    assert run([good + b"\r\n"], limits)[1] is None
    assert run(one_by_one(good), limits)[1] is None
    endless = head + b"a" * 2000
    assert run([endless[:1000]], limits)[1] is None
    for pieces in ([endless[:1001]], one_by_one(endless[:1001]), [endless * 1000], [good[:-4] + b"a\r\n\r\n"]):
        assert run(pieces, limits)[1] == (431, "head-too-large", "head is too large")


# After an error, and the rest of a connection


def test_after_an_error_the_connection_is_dead(connection: ServerConnection) -> None:
    """The same error is raised for ever, and nothing is kept of what still arrives."""
    connection.receive(b"GET / HTTP/1.1\r\n\r\n" + GET)
    for _ in range(3):
        with pytest.raises(Http1Error, match="missing Host"):
            connection.next_event()
        connection.receive(GET * 1000)
        assert connection.buffered == 0
    assert not connection.head_begun
    assert connection.take_rest() == b""


def test_an_error_in_a_body(connection: ServerConnection) -> None:
    """A body that breaks its framing kills the connection too, so what is behind it is never a request."""
    connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n" + GET)
    head_of(connection.next_event())
    for _ in range(2):
        with pytest.raises(Http1Error, match="bad chunk line"):
            connection.next_event()


def test_the_rest_behind_an_upgrade() -> None:
    """What follows an upgrade's head is handed over raw; it is never parsed before the upgrade is refused."""
    upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    connection = ServerConnection(LIMITS)
    connection.receive(upgrade + b"\x81\x05hel")
    assert head_of(connection.next_event()).upgrade == b"websocket"
    assert connection.next_event() is END
    assert connection.next_event() is None
    connection.receive(b"lo")
    assert connection.next_event() is None
    assert connection.take_rest() == b"\x81\x05hello"
    connection.receive(b"more")
    assert connection.next_event() is None
    assert connection.buffered == 0


def test_an_upgrade_that_is_not_granted() -> None:
    """When the upgrade is refused the connection goes on with the next request."""
    upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    events, error, left = run([upgrade + POST])
    assert [type(event) for event in events] == [RequestHead, End, RequestHead, bytes, End]
    assert (error, left) == (None, 0)


def test_a_body_behind_h2c_is_a_body() -> None:
    """llhttp gives the body of an h2c offer back as bytes behind the upgrade, where it would be parsed as a request."""
    smuggled = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
    data = (
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    )
    events, error, _ = run([data + smuggled])
    assert error is None
    assert events[1:] == [smuggled, END]


def test_requests_after_connection_close(connection: ServerConnection) -> None:
    """Bytes behind a request that closes are no error of that request; whether they are read is the owner's choice."""
    connection.receive(GET.replace(b"Host", b"Connection: close\r\nHost") + b"garbage\r\n\r\n")
    assert not head_of(connection.next_event()).keep_alive
    assert connection.next_event() is END
    assert connection.next_event() is None
    assert connection.buffered == len(b"garbage\r\n\r\n")


# Cost


def test_a_head_byte_by_byte() -> None:
    """A head of 32 KiB that comes in single bytes costs time in proportion to its size."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: %b\r\n" % (b"a" * 300) * 90
    start = time.process_time()
    events, error, _ = run([*one_by_one(data), b"\r\n"])
    assert (len(events), error) == (2, None)
    assert time.process_time() - start < 5


def test_a_hundred_megabytes_at_once() -> None:
    """A large body that is there at once is one piece, and what comes behind it is not moved about."""
    size = 100_000_000
    connection = ServerConnection(LIMITS)
    start = time.process_time()
    connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) + GET * 1000)
    head_of(connection.next_event())
    piece = connection.next_event()
    assert isinstance(piece, bytes)
    assert len(piece) == size
    assert connection.next_event() is END
    connection.next_request()
    assert len(drain(connection)) == 2000
    assert time.process_time() - start < 10


def test_a_long_pipeline_that_keeps_growing(connection: ServerConnection) -> None:
    """Requests that arrive faster than they are answered cost time in proportion to their number."""
    connection.receive(GET * 50_000)
    start = time.process_time()
    for _ in range(50_000):
        head_of(connection.next_event())
        assert connection.next_event() is END
        connection.next_request()
        connection.receive(b"\r\n")
    assert connection.buffered == 100_000
    assert time.process_time() - start < 20


def test_small_chunks_in_small_reads() -> None:
    """A body of one-byte chunks, a few bytes a read, comes out whole."""
    chunks = b"".join(encode_chunk(bytes([at % 256])) for at in range(20_000))
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    events, error, left = run([data[at : at + 7] for at in range(0, len(data), 7)])
    assert events[1] == bytes(at % 256 for at in range(20_000))
    assert (len(events), error, left) == (3, None, 0)

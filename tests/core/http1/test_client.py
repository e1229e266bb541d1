"""Responses on a connection to a service: where each ends, and whether the connection can be used again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, End, HeadLimits, ResponseHead
from tests.core.http1.pieces import cut, edited, joined

LIMITS = HeadLimits()
SMALL = HeadLimits(head_bytes=200, fields=5)

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"

Event = ResponseHead | bytes | End


def connected(method: bytes = b"GET", limits: HeadLimits = LIMITS) -> ClientConnection:
    connection = ClientConnection(limits)
    connection.expect(method)
    return connection


def each(connection: ClientConnection) -> Iterator[Event]:
    while (event := connection.next_event()) is not None:
        yield event


def drain(connection: ClientConnection) -> list[Event]:
    return joined(list(each(connection)))


def run(pieces: list[bytes], *, method: bytes = b"GET", eof: bool = False) -> tuple[list[Event], str, bool]:
    """(events, the error's words, whether the connection is reusable) of one response."""
    connection = connected(method, SMALL)
    events: list[Event] = []
    try:
        for piece in pieces:
            connection.receive(piece)
            events.extend(each(connection))
        if eof:
            connection.receive_eof()
            events.extend(each(connection))
    except Http1Error as error:
        assert (error.status, error.code) == (502, "bad-response")
        return joined(events), error.message, connection.reusable
    return joined(events), "", connection.reusable


def bodies(events: list[Event]) -> list[object]:
    """The statuses of heads, and the rest as it is."""
    return [event.status if isinstance(event, ResponseHead) else event for event in events]


def test_a_response_with_a_length() -> None:
    """A response with a length ends there, and the connection serves the next request."""
    connection = connected()
    connection.receive(LENGTH)
    assert not connection.reusable
    assert bodies(drain(connection)) == [200, b"hello", END]
    assert connection.reusable
    connection.expect(b"GET")
    assert not connection.reusable
    connection.receive(CHUNKED)
    assert bodies(drain(connection)) == [200, b"hello", END]
    assert connection.reusable


@pytest.mark.parametrize(
    "response",
    [LENGTH, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
)
def test_the_answer_to_head(response: bytes) -> None:
    """The answer to HEAD ends with its head whatever its fields say."""
    head = response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    events, error, reusable = run([head], method=b"HEAD")
    assert (bodies(events), error, reusable) == ([200, END], "", True)


def test_a_body_behind_the_answer_to_head() -> None:
    """A service that sends a body to HEAD nevertheless does not have it taken for the next response."""
    events, error, reusable = run([LENGTH], method=b"HEAD")
    assert (bodies(events), error, reusable) == ([200, END], "", False)


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body(status: int) -> None:
    """204 and 304 end with their head."""
    events, _, reusable = run([b"HTTP/1.1 %d X\r\n\r\n" % status])
    assert (bodies(events), reusable) == ([status, END], True)


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_a_204_that_announces_a_body(framing: bytes) -> None:
    """A 204 has no body, but a service that announces one may send it: the connection is not used again."""
    events, _, reusable = run([b"HTTP/1.1 204 No Content\r\n" + framing + b"\r\n\r\n"])
    assert (bodies(events), reusable) == ([204, END], False)
    assert run([b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"])[2]
    assert run([b"HTTP/1.1 304 Not Modified\r\n" + framing + b"\r\n\r\n"])[2]
    assert not run([b"HTTP/1.1 100 Continue\r\n" + framing + b"\r\n\r\n" + LENGTH])[2]


def test_a_body_until_the_end_of_the_connection() -> None:
    """Neither length nor chunks: the body ends with the connection, and is whole only then."""
    connection = connected()
    connection.receive(UNTIL_CLOSE)
    assert bodies(drain(connection)) == [200, b"hello"]
    connection.receive(b" world")
    assert drain(connection) == [b" world"]
    connection.receive(b"!")
    connection.receive_eof()
    assert drain(connection) == [b"!", END]
    assert connection.next_event() is None
    assert not connection.reusable


@pytest.mark.parametrize("line", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK\r\nConnection: close"])
def test_a_connection_that_is_not_kept(line: bytes) -> None:
    """A service that does not keep the connection is believed, even with bytes to come."""
    assert not run([line + b"\r\nContent-Length: 0\r\n\r\n"])[2]
    assert run([b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"])[2]


@pytest.mark.parametrize("rest", [b"x", b"\r\n", LENGTH])
def test_bytes_behind_a_response(rest: bytes) -> None:
    """What a service sends beyond its response is never taken for an answer to the next request."""
    connection = connected()
    connection.receive(LENGTH + rest)
    assert bodies(drain(connection)) == [200, b"hello", END]
    assert not connection.reusable
    assert connection.next_event() is None
    assert connection.buffered == len(rest)


@pytest.mark.parametrize("data", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b""], ids=["bytes", "end"])
def test_what_comes_on_an_idle_connection(data: bytes) -> None:
    """Bytes that no request asked for make a connection unusable, and one that the service closed is not used again."""
    connection = ClientConnection(LIMITS)
    assert connection.reusable
    if data:
        connection.receive(data)
    else:
        connection.receive_eof()
    assert not connection.reusable
    assert connection.next_event() is None


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n"])
def test_a_head_that_ends_in_bare_line_ends(end: bytes) -> None:
    """The service waits for us behind it: it is refused at once, however it came, and not when our patience ends."""
    data = b"HTTP/1.1 200 OK\r\nA: b" + end
    words = "bare line ends or control bytes in the head"
    assert run([data])[1] == run([data[at : at + 1] for at in range(len(data))])[1] == words
    assert run([data.replace(b"\r\n", b"\n", 1), b"x"])[1] == words


def test_statuses_over_599() -> None:
    """A service's status is one of RFC 9110's classes, unless its listener is lenient."""
    assert run([b"HTTP/1.1 599 What\r\nContent-Length: 0\r\n\r\n"])[1] == ""
    assert run([b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n"])[1] == "status is over 599"


def test_interim_responses() -> None:
    """1xx heads come out one by one, in front of the response that they announce."""
    events, error, reusable = run([INTERIM + LENGTH])
    assert (bodies(events), error, reusable) == ([100, 103, 200, b"hello", END], "", True)


def test_many_interim_responses() -> None:
    """A service may say any number of times that it is at work (RFC 9110 15.2)."""
    events, error, reusable = run([b"HTTP/1.1 102 Processing\r\n\r\n" * 1000 + LENGTH])
    assert (len(events), error, reusable) == (1003, "", True)


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_switching_protocols() -> None:
    """Behind a 101 there is no HTTP: what follows it is handed over raw."""
    connection = connected()
    connection.receive(INTERIM + SWITCH + b"HTTP/1.1 200")
    assert bodies(drain(connection)) == [100, 103, 101]
    connection.receive(b" OK")
    assert connection.next_event() is None
    assert not connection.reusable
    assert connection.take_rest() == b"HTTP/1.1 200 OK"
    connection.receive_eof()
    assert connection.next_event() is None


def test_switching_protocols_unasked() -> None:
    """A 101 to a request that offered no upgrade is an error, when the owner says that it offered none."""
    connection = ClientConnection(LIMITS)
    connection.expect(b"GET", upgrade=False)
    connection.receive(SWITCH)
    with pytest.raises(Http1Error, match="not asked for"):
        connection.next_event()


def test_an_upgrade_that_is_not_granted() -> None:
    """Any other answer to an upgrade is an ordinary response."""
    connection = ClientConnection(LIMITS)
    connection.expect(b"GET", upgrade=True)
    connection.receive(LENGTH)
    assert bodies(drain(connection)) == [200, b"hello", END]
    assert connection.reusable


def test_expect_in_the_middle_of_a_response() -> None:
    """A second request before the response has ended is a mistake of ours."""
    connection = connected()
    with pytest.raises(RuntimeError):
        connection.expect(b"GET")


@pytest.mark.parametrize("message", [LENGTH, CHUNKED, INTERIM + LENGTH])
def test_every_truncation_is_an_error(message: bytes) -> None:
    """A response that is cut short by the end of the connection is never taken for whole, wherever it is cut."""
    for size in range(len(message)):
        events, error, reusable = run([message[:size]], eof=True)
        assert error.startswith("the connection ended")
        assert END not in events
        assert not reusable


def test_after_an_error_the_connection_is_dead() -> None:
    """The same error is raised for ever, and nothing is kept of what still arrives."""
    connection = connected()
    connection.receive(b"HTTP/1.1 099 X\r\n\r\n" + LENGTH)
    for _ in range(3):
        with pytest.raises(Http1Error, match="status"):
            connection.next_event()
        connection.receive(LENGTH)
        assert connection.buffered == 0
        assert not connection.reusable
    connection.receive_eof()
    with pytest.raises(Http1Error, match="status"):
        connection.next_event()


@pytest.mark.parametrize("start", [b"\x15", b"SSH-2.0-OpenSSH\r\n", b"HTTP/2", b"\r\n", b"<html>", b"HTTP/0.9"])
def test_what_cannot_become_a_response(start: bytes) -> None:
    """A service that speaks something else is found out at once."""
    for pieces in ([start], [start[at : at + 1] for at in range(len(start))]):
        assert run(pieces)[1] == "not an HTTP response"


def test_a_head_that_does_not_end() -> None:
    """A head over its limit is refused before it ends."""
    assert run([b"HTTP/1.1 200 OK\r\nA: " + b"a" * 170])[1] == ""
    assert run([b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200])[1] == "head is too large"


@given(
    st.sampled_from([LENGTH, CHUNKED, EMPTY, INTERIM + LENGTH, UNTIL_CLOSE, SWITCH, LENGTH + LENGTH]),
    st.lists(st.integers(0, 300), max_size=20),
)
def test_any_split_gives_the_same_events(message: bytes, cuts: list[int]) -> None:
    """However a response is cut, the same events come out, and the connection is reusable or not all the same."""
    pieces = cut(message, cuts)
    singles = [message[at : at + 1] for at in range(len(message))]
    for eof in (False, True):
        assert run(pieces, eof=eof) == run([message], eof=eof) == run(singles, eof=eof)


@given(
    st.sampled_from([LENGTH, CHUNKED, INTERIM + LENGTH, UNTIL_CLOSE]),
    st.lists(
        st.tuples(
            st.integers(0, 300),
            st.integers(0, 4),
            st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\x00", b"a" * 250]) | st.binary(max_size=4),
        ),
        max_size=4,
    ),
    st.sampled_from([b"GET", b"HEAD"]),
    st.booleans(),
)
def test_changed_responses(message: bytes, edits: list[tuple[int, int, bytes]], method: bytes, eof: bool) -> None:
    """A response that was changed anywhere gives events or a 502, and nothing else happens; END comes at most once."""
    data = edited(message, edits)
    events, _, _ = run([data], method=method, eof=eof)
    assert events.count(END) <= 1
    events_cut, _, _ = run([data[at : at + 1] for at in range(len(data))], method=method, eof=eof)
    assert [event for event in events_cut if isinstance(event, ResponseHead)] == [
        event for event in events if isinstance(event, ResponseHead)
    ]


@given(st.lists(st.binary(max_size=80), max_size=10), st.booleans())
def test_random_bytes(pieces: list[bytes], eof: bool) -> None:
    """Random bytes are a 502 or wait for more."""
    run(pieces, eof=eof)
    run([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces], eof=eof)

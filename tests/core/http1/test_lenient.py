"""Responses of services that are not held to every rule."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, HeadLimits, ResponseHead
from pico_twisted.core.http1.lenient import LenientConnection, mend_head
from pico_twisted.core.http1.server import MAX_EMPTY_LINES
from tests.core.http1.pieces import BAD_LINES, cut, joined

LIMITS = HeadLimits(head_bytes=300)

SERVED = [
    (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", 200),
    (b"HTTP/1.0 200 OK\nContent-Length: 2\r\n\nok", 200),
    (b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
    (b"\n\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
    (b"HTTP/1.1 600 What\r\nContent-Length: 2\r\n\r\nok", 600),
    (b"HTTP/1.1 999 What\nContent-Length: 2\n\nok", 999),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\ncontent-length:2\r\n\r\nok", 200),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok", 200),
    (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2  \r\nok\r\n0\r\n\r\n", 200),
]


def read(pieces: list[bytes], kind: type[ClientConnection] = LenientConnection) -> list[object]:
    """The status of the response to a GET, and the rest of its events as they are."""

    def events() -> Iterator[ResponseHead | bytes | object]:
        connection = kind(LIMITS)
        connection.expect(b"GET")
        for piece in pieces:
            connection.receive(piece)
            while (event := connection.next_event()) is not None:
                yield event.status if isinstance(event, ResponseHead) else event

    return joined(list(events()))  # type: ignore[type-var]  # of mixed types, joined where they are bytes


@given(st.sampled_from(SERVED), st.lists(st.integers(0, 90)))
def test_what_is_served(case: tuple[bytes, int], cuts: list[int]) -> None:
    """What devices send is served however it is cut, and refused with a reason where the listener is not lenient."""
    data, status = case
    pieces = cut(data, cuts)
    assert read(pieces) == [status, b"ok", END]
    with pytest.raises(Http1Error) as caught:
        read(pieces, ClientConnection)
    assert caught.value.message


SERVED_LINE = re.compile(rb".*(?:\nB.*|\r)", re.DOTALL).fullmatch  # when LF ends a line

REFUSED = [
    *(b"HTTP/1.1 200 OK\n" + line + b"\nContent-Length: 2\n\nok" for line in BAD_LINES if not SERVED_LINE(line)),
    b"HTTP/1.1 200 OK\nA: b\n c\n\nok",
    b"HTTP/1.1 200 OK\nA: b\r\r\n\nok",
    b"HTTP/1.1 099 What\n\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok",
    b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\nContent-Length: 2, 3\n\nok",
    b"HTTP/1.1 200 OK\nContent-Length: +2\nContent-Length: +2\n\nok",
    b"HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\nok",
    b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\nok",
    b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n",
    b"\r\n" * (MAX_EMPTY_LINES + 1) + b"HTTP/1.1 200 OK\n\n",
    b"\r\rHTTP/1.1 200 OK\n\n",
    b"hello\n\n",
    b"HTTP/1.1 200 OK\nA: " + b"b" * 400 + b"\n\n",
]


@pytest.mark.parametrize("data", REFUSED)
def test_what_stays_refused(data: bytes) -> None:
    """Whatever could be read in two ways is refused from a lenient listener's service too."""
    with pytest.raises(Http1Error):
        read([data])
    with pytest.raises(Http1Error):
        read([data[at : at + 1] for at in range(len(data))])


def test_empty_lines_are_counted_for_each_response() -> None:
    """A kept connection may send them before each response, if no request before was answered by them."""
    connection = LenientConnection(LIMITS)
    for _ in range(3):
        connection.expect(b"GET")
        connection.receive(b"\n" * MAX_EMPTY_LINES + SERVED[0][0])
        assert isinstance(connection.next_event(), ResponseHead)
        assert (connection.next_event(), connection.next_event()) == (b"ok", END)
        assert connection.reusable


@given(st.lists(st.sampled_from([b"A: b", b"B:", b"Content-Length: 5", b"content-length : 5", b"C: \xe9"])))
def test_a_good_head_is_not_changed(lines: list[bytes]) -> None:
    """There is nothing to mend in a head that keeps to the rules, and a mended one stays as it is."""
    data = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    if data.count(b"Content-Length") <= 1:
        assert mend_head(data) == data
    assert mend_head(mend_head(data)) == mend_head(data)
    assert mend_head(data.replace(b"\r\n", b"\n")) == mend_head(data)

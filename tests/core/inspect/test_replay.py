"""A request is sent again as it was, or as somebody has edited it, and never as something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.head import parse_request_head
from pico_twisted.core.inspect.recording import Recordings
from pico_twisted.core.inspect.replay import Edits, ReplayRefused, replayed
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from tests.core.inspect.recorded import HOST, recorded

POST = b"POST /hooks?token=secret HTTP/1.1"


def test_as_it_was() -> None:
    """The same line, fields and body, byte for byte, without what was of its connection alone."""
    fields = b"Cookie: a=secret\r\nX-Name: Jos\xe9\r\nTE: trailers\r\nContent-Length: 5\r\n"
    call = recorded(POST, b"Connection: close, x-odd\r\nExpect: 100-continue\r\n" + fields, b"hello")
    assert replayed(call, Edits()) == POST + b"\r\n" + HOST + fields + b"\r\nhello"


def test_without_a_length() -> None:
    """What had none has none, so that it goes to the service in chunks again; what had no body has none."""
    assert b"Content-Length" not in replayed(recorded(POST, b"", b"chunks"), Edits())
    assert replayed(recorded(), Edits()).endswith(b"\r\n\r\n")


def test_edited() -> None:
    """Each part that is given takes the place of the old one; the length is that of the new body."""
    call = recorded(POST, b"Cookie: a=secret\r\nContent-Length: 5\r\n", b"hello")
    fields = [("Host", "other.example.com"), ("cookie", "a=(hidden)"), ("X-New", "1"), ("Content-Length", "999")]
    sent = replayed(call, Edits(method="PUT", target="/x?token=(hidden)", fields=fields, body=b"new"))
    assert sent == (
        b"PUT /x?token=secret HTTP/1.1\r\nHost: other.example.com\r\nCookie: a=secret\r\nX-New: 1\r\n"
        b"Content-Length: 3\r\n\r\nnew"
    )


@pytest.mark.parametrize(
    "edits",
    [
        Edits(method="A B"),
        Edits(method=""),
        Edits(method="GET /x HTTP/1.1\r\nX: y\r\n\r\n"),
        Edits(target="x"),
        Edits(target="/a b"),
        Edits(target="/\r\nX: y"),
        Edits(target="/é"),
        Edits(target="http://evil.example/"),
        Edits(fields=[("Host", "a"), ("X", "a\r\nY: b")]),
        Edits(fields=[("Host", "a"), ("X\r\nY", "b")]),
        Edits(fields=[("Host", "a"), ("X", "a\0")]),
        Edits(fields=[("Host", "a"), ("", "b")]),
        Edits(fields=[("X", "no host")]),
        Edits(fields=[("Host", "a"), ("Host", "b")]),
        Edits(fields=[("Host", "a"), *[("X", "y" * 1000)] * 100]),
        Edits(target="/" + "x" * 50_000),
    ],
)
def test_nonsense_is_refused(edits: Edits) -> None:
    """What is no valid request is told, and not sent."""
    with pytest.raises(ReplayRefused):
        replayed(recorded(POST), edits)


def test_what_cannot_be_sent_again() -> None:
    """Each says why."""
    recordings = Recordings(most_body_bytes=10)
    cut = recorded(POST, b"Content-Length: 20\r\n", b"x" * 20, into=recordings)
    with pytest.raises(ReplayRefused, match="only the first 10 of 20 bytes"):
        replayed(cut, Edits())
    assert replayed(cut, Edits(body=b"all")).endswith(b"Content-Length: 3\r\n\r\nall")
    going = recorded(POST, b"Content-Length: 20\r\n", b"x")
    going.request_ended = False
    with pytest.raises(ReplayRefused, match="has not come whole"):
        replayed(going, Edits())
    with pytest.raises(ReplayRefused, match="asks for another protocol"):
        replayed(recorded(b"GET /ws HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), Edits())
    with pytest.raises(ReplayRefused, match="TCP"):
        replayed(recordings.begin("db", "localhost:5432", 0.0, tcp=True), Edits())
    with pytest.raises(ReplayRefused, match="its head was not valid"):
        replayed(recordings.begin("web", "localhost:3000", 0.0, tcp=False), Edits())


TEXTS = st.text(max_size=12)


@given(
    st.builds(
        Edits,
        method=st.none() | TEXTS,
        target=st.none() | TEXTS.map("/{}".format),
        fields=st.none() | st.lists(st.tuples(TEXTS, TEXTS), max_size=4).map(lambda some: [("Host", "a"), *some]),
        body=st.none() | st.binary(max_size=30),
    )
)
def test_no_edit_is_two_requests(edits: Edits) -> None:
    """Whatever is edited: there is one head, of the method, the target and the body that were given, and nothing
    behind that."""
    call = recorded(POST, b"Content-Length: 5\r\n", b"hello")
    try:
        sent = replayed(call, edits)
    except ReplayRefused:
        return
    head, _, body = sent.partition(b"\r\n\r\n")
    parsed = parse_request_head(head + b"\r\n\r\n", REQUEST_LIMITS)
    assert parsed.length == len(body) and body == (b"hello" if edits.body is None else edits.body)
    assert parsed.method == (b"POST" if edits.method is None else edits.method.encode())
    assert not parsed.chunked and parsed.upgrade is None

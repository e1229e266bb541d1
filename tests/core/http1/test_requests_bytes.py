"""Heads of requests: lines and bytes, limits, upgrades, and anything at all."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from tests.core.http1.pieces import BAD_LINES, EDITS, edited
from tests.core.http1.request_heads import parse, refused, with_fields

START = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
STATUSES = (400, 414, 417, 431, 501, 505)


# Lines and bytes


@pytest.mark.parametrize("line", BAD_LINES)
def test_lines_that_are_refused(line: bytes) -> None:
    """Folded lines, bare CR and LF, white space around a name, names that are no tokens."""
    refused(with_fields(line))
    refused(with_fields(line, b"B: b"))
    refused(with_fields(b"B: b", line, line=b"GET / HTTP/1.0"))


def test_a_fold_before_the_first_field() -> None:
    """A line behind the request line that begins with white space is no field of anything."""
    refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n")
    refused(b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("byte", [byte for byte in range(256) if not 0x20 <= byte < 0x7F and byte != 0x09])
def test_control_bytes_and_bytes_over_7f(byte: int) -> None:
    """No control byte passes in a request, wherever it stands; llhttp lets many through. Bytes over 0x7F are opaque in
    values (RFC 9110 5.5), and pass nowhere else."""
    odd = bytes([byte])
    for value in (b"a" + odd + b"b", odd, odd + odd):
        if byte < 0x80:
            refused(with_fields(b"A: " + value))
        else:
            assert parse(with_fields(b"A: " + value + b" \t")).get(b"a") == value
    refused(with_fields(b"A" + odd + b": a"))
    refused(with_fields(odd + b"A: a"))
    refused(with_fields(line=b"G" + odd + b"T / HTTP/1.1"))
    refused(with_fields(line=b"GET / HTTP/1.1" + odd))
    if byte < 0x80:
        refused(with_fields(line=b"GET /" + odd + b" HTTP/1.1"))


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"Upgrade"])
@pytest.mark.parametrize("odd", [b"\x85", b"\xa0", b"\xe2\x80\x83", b"\xff"])
def test_bytes_over_7f_where_they_mean_something(name: bytes, odd: bytes) -> None:
    """Bytes that somebody may take for white space or fold into ASCII make no length, coding, host or token."""
    values = {b"Content-Length": b"5", b"Transfer-Encoding": b"chunked", b"Host": b"a", b"Upgrade": b"websocket"}
    for value in (odd + values.get(name, b"close"), values.get(name, b"close") + odd):
        if name == b"Connection":
            head = parse(with_fields(b"Connection: " + value))
            assert head.keep_alive
        elif name == b"Host":
            refused(with_fields(host=value))
        else:
            refused(with_fields(b"Connection: upgrade", name + b": " + value))


@pytest.mark.parametrize("byte", range(0x21, 0x7F))
def test_names_are_tokens(byte: int) -> None:
    """A name is made of the bytes of a token and of nothing else (RFC 9110 5.6.2)."""
    token = bytes([byte]).isalnum() or byte in b"!#$%&'*+-.^_`|~"
    data = with_fields(b"A" + bytes([byte]) + b"A: b")
    if token or byte == ord(":"):
        assert parse(data).fields[1][2].endswith(b"b")
    else:
        refused(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\n",
        START,
        START + b"A: b\r\n",
        START + b"\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        START + b"\r\n\r\n\r\n",
        b"\r\n" + START + b"\r\n",
        START.replace(b"\r\n", b"\n") + b"\n",
        START + b"Content-Length: 4\r\n\r\n\r\n\r\n",
        START + b"Content-Length: 22\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nB: b\r\n\r\n",
    ],
)
def test_what_is_not_exactly_one_head(data: bytes) -> None:
    """A parser of heads takes neither less nor more than one."""
    refused(data)


# Limits


def test_limit_of_the_head() -> None:
    """A head of exactly the limit passes, one byte more is 431."""
    data = with_fields(b"A: " + b"a" * 1000)
    assert parse(data, HeadLimits(head_bytes=len(data)))
    assert refused(data, 431, HeadLimits(head_bytes=len(data) - 1)).code == "head-too-large"
    refused(with_fields(b"A: " + b"a" * 40_000), 431)


def test_limit_of_fields() -> None:
    """A hundred fields pass, one more is 431."""
    assert len(parse(with_fields(*[b"A: a"] * 99)).fields) == 100
    refused(with_fields(*[b"A: a"] * 100), 431)


def test_limit_of_the_target() -> None:
    """A target of exactly the limit passes, one byte more is 414, in absolute-form too."""
    limits = HeadLimits(target_bytes=20)
    assert parse(with_fields(line=b"GET /" + b"a" * 19 + b" HTTP/1.1"), limits)
    assert refused(with_fields(line=b"GET /" + b"a" * 20 + b" HTTP/1.1"), 414, limits).code == "uri-too-long"
    refused(with_fields(line=b"GET http://a/" + b"a" * 20 + b" HTTP/1.1"), 414, limits)
    refused(with_fields(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414)


# Upgrades


def test_an_upgrade() -> None:
    """An upgrade is one when Connection names it, and keeps the case of its protocols."""
    head = parse(with_fields(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"))
    assert head.upgrade == b"WebSocket"
    assert not head.has_body
    assert parse(with_fields(b"Connection: upgrade", b"Upgrade: a/1, b", b"Upgrade: c")).upgrade == b"a/1, b, c"
    assert parse(with_fields(b"Upgrade: websocket")).upgrade is None
    assert parse(with_fields(b"Connection: upgrade")).upgrade is None
    assert parse(with_fields(b"Connection: upgrade", b"Upgrade:")).upgrade is None
    assert parse(with_fields(b"Connection: upgrade", b"Upgrade: a", b"Content-Length: 0")).upgrade == b"a"


def test_an_upgrade_in_http_10() -> None:
    """HTTP/1.0 cannot upgrade: the request is an ordinary one (RFC 9110 7.8)."""
    assert parse(with_fields(b"Connection: upgrade", b"Upgrade: a", line=b"GET / HTTP/1.0")).upgrade is None


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_an_upgrade_with_a_body(framing: bytes) -> None:
    """llhttp stops before the body of an upgrade, and would read it as a request; here it is a body, in any order."""
    for lines in (
        (b"Connection: Upgrade", b"Upgrade: websocket", framing),
        (framing, b"Upgrade: h2c, websocket", b"Connection: Upgrade"),
    ):
        head = parse(with_fields(*lines))
        assert head.has_body and head.upgrade == b"websocket"
        assert (head.length, head.chunked) == ((5, False) if b"Length" in framing else (None, True))


@pytest.mark.parametrize("value", [b"h2c", b"H2C", b"h2c, h2c", b" ,h2c,"])
def test_h2c_is_dropped(value: bytes) -> None:
    """An offer of h2c alone is no upgrade, so a body beside it is an ordinary body."""
    head = parse(with_fields(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + value, b"Content-Length: 5"))
    assert (head.upgrade, head.length) == (None, 5)


def test_h2c_beside_another_protocol() -> None:
    """Of several protocols h2c alone is dropped."""
    assert parse(with_fields(b"Connection: Upgrade", b"Upgrade: h2c, websocket")).upgrade == b"websocket"


@pytest.mark.parametrize("value", [b"web socket", b"a/b/c", b"/a", b"a/", b"a;b", b'"a"'])
def test_bad_upgrades(value: bytes) -> None:
    """What is written into the next head is a list of protocols and nothing else."""
    refused(with_fields(b"Connection: Upgrade", b"Upgrade: " + value))


def test_an_upgrade_does_not_hide_what_is_wrong_behind_it() -> None:
    """The fields behind Upgrade are checked like all others."""
    refused(with_fields(b"Connection: Upgrade", b"Upgrade: a", b"B : b"))
    refused(with_fields(b"Connection: Upgrade", b"Upgrade: a", b"B: \x01"))


# Anything


def test_a_head_gives_the_first_value_of_a_field() -> None:
    """A field that came twice is found by its first value."""
    head = parse(with_fields(b"A: 1", b"a: 2"))
    assert head.get(b"a") == b"1"


def test_error_text() -> None:
    """An error says its status, its code and what is wrong."""
    assert str(Http1Error(414, "uri-too-long", "target is too long")) == "414 uri-too-long: target is too long"


GOOD = with_fields(
    b"User-Agent: curl/8",
    b"Accept: */*",
    b"Cookie: a=b; c=d",
    b"Connection: keep-alive, x-a",
    b"X-A:",
    b"Content-Length: 12",
    line=b"POST /path?query=1 HTTP/1.1",
)
UPGRADE = with_fields(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
CHUNKED = with_fields(b"Transfer-Encoding: chunked", b"Expect: 100-continue", line=b"PUT http://b:1/c HTTP/1.1")


@given(st.sampled_from([GOOD, UPGRADE, CHUNKED]), EDITS)
def test_changed_heads(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """A head that was changed anywhere is taken or refused, and nothing else happens. What is taken is unambiguous:
    llhttp in a fresh parser reads the same fields, and no byte is left over."""
    data = edited(base, edits)
    try:
        head = parse(data)
    except Http1Error as error:
        assert error.status in STATUSES
        return
    assert data.count(b"\r\n") == len(head.fields) + 2
    assert not any(b"\r" in part or b"\n" in part or b"\x00" in part for field in head.fields for part in field)

    class Reader:
        def __init__(self) -> None:
            self.fields: list[tuple[bytes, bytes]] = []

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append((name, value.strip(b" \t")))

    reader = Reader()
    try:
        httptools.HttpRequestParser(reader).feed_data(b"GET / HTTP/1.1\r\n" + data.partition(b"\r\n")[2])
    except httptools.HttpParserUpgrade:
        pass
    assert reader.fields == [(name, value) for _, name, value in head.fields]


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    """Random bytes are refused in the ordinary way, alone and behind a good beginning."""
    for start in (b"", START):
        for end in (b"", b"\r\n\r\n"):
            try:
                parse(start + data + end)
            except Http1Error as error:
                assert error.status in STATUSES

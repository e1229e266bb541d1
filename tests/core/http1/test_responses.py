"""Heads of responses: what is understood, what is refused, and what follows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import Framing, HeadLimits, ResponseHead, parse_response_head, response_framing
from tests.core.http1.pieces import BAD_LINES, EDITS, edited

LIMITS = HeadLimits()


def parse(data: bytes, limits: HeadLimits = LIMITS) -> ResponseHead:
    return parse_response_head(data, limits)


def with_fields(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *lines, b"", b""])


def refused(data: bytes, limits: HeadLimits = LIMITS) -> None:
    with pytest.raises(Http1Error) as caught:
        parse(data, limits)
    assert (caught.value.status, caught.value.code) == (502, "bad-response")


def test_an_ordinary_head() -> None:
    """A head comes out with its parts."""
    head = parse(b"HTTP/1.1 404 Not Found\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\n")
    assert (head.status, head.reason, head.version_11) == (404, b"Not Found", True)
    assert (head.length, head.chunked, head.keep_alive, head.upgrade) == (2, False, True, None)
    assert head.fields[1:3] == [(b"set-cookie", b"Set-Cookie", b"a"), (b"set-cookie", b"Set-Cookie", b"b")]
    assert (head.get(b"set-cookie"), head.get(b"x")) == (b"a", None)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 100 Continue", 100, b"Continue"),
        (b"HTTP/1.1 599 a  b\tc ", 599, b"a  b\tc "),
        (b"HTTP/1.0 299 Gr\xfc\xdfe \xe2\x9c\x93", 299, b"Gr\xfc\xdfe \xe2\x9c\x93"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes) -> None:
    """A reason may be missing, and may hold bytes over 0x7F. Read again it is the same."""
    for _ in range(2):
        head = parse(with_fields(line=line))
        assert (head.status, head.reason, head.version_11) == (status, reason, line.startswith(b"HTTP/1.1"))


def test_a_later_minor_version() -> None:
    """It is understood as the latest that we know (RFC 9110 2.5)."""
    assert parse(with_fields(line=b"HTTP/1.2 200 OK")).version_11


@pytest.mark.parametrize("fields", [[], [b"Upgrade: websocket"], [b"Connection: Upgrade"]])
def test_a_101_that_names_no_protocol(fields: list[bytes]) -> None:
    """A 101 without both of Connection and Upgrade is refused in words of ours, not in those of a parser's."""
    with pytest.raises(Http1Error) as caught:
        parse(with_fields(*fields, line=b"HTTP/1.1 101 Switching Protocols"))
    assert caught.value.message == "a 101 that names no protocol"


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 2 0 OK",
        b"HTTP/1.1 2_0 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/0.0 200 OK",
        b"HTTP/1.10 200 OK",
        b"http/1.1 200 OK",
        b" HTTP/1.1 200 OK",
        b"ICY 200 OK",
        b"200 OK",
        b"",
        b"GET / HTTP/1.1",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\x7fK",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 OK\r",
    ],
)
def test_status_lines_that_are_refused(line: bytes) -> None:
    """Statuses outside 100 to 599, other versions, control bytes in the reason: some of them pass llhttp."""
    refused(with_fields(line=line))
    refused(with_fields(b"A: a", line=line))


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte < 0x20 or byte == 0x7F])
def test_control_bytes(byte: int) -> None:
    """No control byte but tab passes, wherever it stands."""
    odd = bytes([byte])
    if odd != b"\t":
        refused(with_fields(b"A: a" + odd + b"b"))
        refused(with_fields(b"A: " + odd))
        refused(with_fields(line=b"HTTP/1.1 200 O" + odd + b"K"))
    refused(with_fields(b"A" + odd + b": a"))


def test_bytes_over_7f() -> None:
    """Bytes over 0x7F pass in values as they are (RFC 9110 5.5), and not in names."""
    value = bytes(range(0x80, 0x100))
    assert parse(with_fields(b"A: " + value)).get(b"a") == value
    refused(with_fields(b"A\xe4: a"))


@pytest.mark.parametrize("line", BAD_LINES)
def test_lines_that_are_refused(line: bytes) -> None:
    """Folded lines, bare CR and LF, white space around a name, names that are no tokens."""
    refused(with_fields(line))
    refused(with_fields(line, b"B: b"))
    refused(with_fields(b"B: b", line, line=b"HTTP/1.0 404 Not Found"))


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: +5",),
        (b"Content-Length: -5",),
        (b"Content-Length: 5, 5",),
        (b"Content-Length:",),
        (b"Content-Length: 9223372036854775808",),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"content-length: 6"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked, gzip",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding:",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    ],
)
@pytest.mark.parametrize("status", [b"200", b"204", b"304", b"100"])
def test_framing_that_is_refused(lines: tuple[bytes, ...], status: bytes) -> None:
    """A service's framing is held to the same rules as a client's, for statuses without a body too."""
    refused(with_fields(*lines, line=b"HTTP/1.1 " + status + b" X"))


def test_transfer_encoding_in_http_10() -> None:
    """An HTTP/1.0 service has no chunks."""
    refused(with_fields(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"))


@pytest.mark.parametrize(
    "data", [b"", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n\r\n", b"\r\nHTTP/1.1 200 OK\r\n\r\n"]
)
def test_what_is_not_exactly_one_head(data: bytes) -> None:
    """A parser of heads takes neither less nor more than one."""
    refused(data)


def test_two_heads_in_one() -> None:
    """A head with another behind it is not one head, whatever stands between them."""
    head = with_fields(b"Content-Length: 0")
    refused(head + head)
    refused(with_fields(line=b"HTTP/1.1 204 No Content") + head)


def test_limits() -> None:
    """A service's head is held to the limits of a client's, and breaking them is a 502."""
    data = with_fields(b"A: a", b"B: b")
    assert parse(data, HeadLimits(head_bytes=len(data), fields=2))
    refused(data, HeadLimits(head_bytes=len(data) - 1))
    refused(data, HeadLimits(fields=1))


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [(b"1.1", None, True), (b"1.1", b"close", False), (b"1.0", None, False), (b"1.0", b"Keep-Alive", True)],
)
def test_keep_alive(version: bytes, connection: bytes | None, keep_alive: bool) -> None:
    """Whether the service keeps the connection goes by its version and Connection."""
    lines = [] if connection is None else [b"Connection: " + connection]
    assert parse(with_fields(*lines, line=b"HTTP/%b 200 OK" % version)).keep_alive is keep_alive


def test_switching_protocols() -> None:
    """A 101 names the protocol that begins, in Upgrade and in Connection; one that does not is refused."""
    line = b"HTTP/1.1 101 Switching Protocols"
    assert parse(with_fields(b"Connection: upgrade", b"Upgrade: WebSocket", line=line)).upgrade == b"WebSocket"
    refused(with_fields(line=line))
    refused(with_fields(b"Upgrade: websocket", line=line))
    refused(with_fields(b"Connection: upgrade", line=line))
    refused(with_fields(b"Connection: upgrade", b"Upgrade: h2c", line=line))
    refused(with_fields(b"Connection: upgrade", b"Upgrade: a", line=b"HTTP/1.0 101 Switching Protocols"))


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199, 204])
@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_framing_means_nothing_without_a_body(status: int, framing: bytes) -> None:
    """1xx and 204 end with their head whatever they say, so nothing of it goes on (RFC 9112 6.3)."""
    head = parse(with_fields(framing, b"Connection: upgrade", b"Upgrade: a", line=b"HTTP/1.1 %d X" % status))
    assert (head.length, head.chunked) == (None, False)
    assert response_framing(head, b"GET") is (Framing.RAW if status == 101 else Framing.NO_BODY)


@pytest.mark.parametrize(
    ("status", "lines", "method", "kind"),
    [
        (200, (b"Content-Length: 5",), b"GET", "length"),
        (200, (b"Content-Length: 0",), b"GET", "length"),
        (200, (b"Transfer-Encoding: chunked",), b"GET", "chunked"),
        (200, (), b"GET", "until-close"),
        (200, (b"Content-Length: 5",), b"HEAD", "none"),
        (200, (b"Transfer-Encoding: chunked",), b"HEAD", "none"),
        (200, (), b"HEAD", "none"),
        (304, (b"Content-Length: 5",), b"GET", "none"),
        (304, (b"Transfer-Encoding: chunked",), b"GET", "none"),
        (304, (), b"GET", "none"),
        (205, (b"Content-Length: 0",), b"GET", "length"),
        (404, (), b"POST", "until-close"),
        (200, (b"Content-Length: 5",), b"head", "length"),
    ],
)
def test_what_follows_a_head(status: int, lines: tuple[bytes, ...], method: bytes, kind: str) -> None:
    """How a body is framed goes by method, status and fields, in this order."""
    assert response_framing(parse(with_fields(*lines, line=b"HTTP/1.1 %d X" % status)), method).value == kind


def test_many_different_status_lines() -> None:
    """What is kept of status lines is bounded, and what is not kept is read as well."""
    for number in range(600):
        assert parse(with_fields(line=b"HTTP/1.1 200 r%d" % number)).reason == b"r%d" % number
        assert parse(with_fields(b"Connection: c%d" % number)).connection == {b"c%d" % number}


def test_many_different_names() -> None:
    """What is kept of names is bounded, and what is not kept is read as well."""
    for start in range(0, 3000, 50):
        head = parse(with_fields(*[b"X-Name-%d: a" % number for number in range(start, start + 50)]))
        assert [lower for lower, _, _ in head.fields] == [b"x-name-%d" % number for number in range(start, start + 50)]


GOOD = with_fields(b"Date: x", b"Content-Length: 12", b"Connection: keep-alive", b"Set-Cookie: a=b")
UPGRADE = with_fields(b"Connection: Upgrade", b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching Protocols")


@given(st.sampled_from([GOOD, UPGRADE]), EDITS)
def test_changed_heads(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """A head that was changed anywhere is taken or refused with a 502, and nothing else happens."""
    data = edited(base, edits)
    try:
        head = parse(data)
    except Http1Error as error:
        assert error.status == 502
        return
    assert data.count(b"\r\n") == len(head.fields) + 2
    assert not any(b"\r" in part or b"\n" in part or b"\x00" in part for field in head.fields for part in field)
    assert b"\r" not in head.reason


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    """Random bytes are refused in the ordinary way, alone and behind a good beginning."""
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 "):
        for end in (b"", b"\r\n\r\n"):
            try:
                parse(start + data + end)
            except Http1Error as error:
                assert error.status == 502

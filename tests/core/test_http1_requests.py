"""Heads of requests: what is understood, what is refused and with which status."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.fields import FieldsError, read_framing
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head
from pico_twisted.core.http1.target import MAX_METHOD_BYTES, METHODS, valid_host

LIMITS = HeadLimits()
START = b"GET / HTTP/1.1\r\nHost: a.example\r\n"


def parse(data: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    return parse_request_head(data, limits)


def with_fields(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a.example") -> bytes:
    head = [line]
    if host is not None:
        head.append(b"Host: " + host)
    return b"\r\n".join([*head, *lines, b"", b""])


def refused(data: bytes, status: int = 400, limits: HeadLimits = LIMITS) -> Http1Error:
    with pytest.raises(Http1Error) as caught:
        parse(data, limits)
    assert caught.value.status == status, caught.value
    return caught.value


def test_an_ordinary_head() -> None:
    """A head comes out with its parts, and its fields in order with their names as they were written."""
    head = parse(
        b"POST /a/b?c=d%20e HTTP/1.1\r\nhOSt: My-Endpoint.example.com:8000\r\nX-A:  1\t \r\nEmpty:\r\n"
        b"x-a: 2\r\nContent-Length: 3\r\n\r\n"
    )
    assert (head.method, head.target, head.version_11) == (b"POST", b"/a/b?c=d%20e", True)
    assert head.host == b"My-Endpoint.example.com:8000"
    assert head.fields == [
        (b"host", b"hOSt", b"My-Endpoint.example.com:8000"),
        (b"x-a", b"X-A", b"1"),
        (b"empty", b"Empty", b""),
        (b"x-a", b"x-a", b"2"),
        (b"content-length", b"Content-Length", b"3"),
    ]
    assert (head.length, head.chunked, head.has_body, head.keep_alive) == (3, False, True, True)
    assert head.get(b"x-a") == b"1"
    assert head.get(b"empty") == b""
    assert head.get(b"nothing") is None
    assert (head.upgrade, head.expect_continue, head.connection) == (None, False, frozenset())


def test_an_empty_value_does_not_swallow_the_next_field() -> None:
    """llhttp tells of an empty value in a call of its own; the field behind it stays a field."""
    head = parse(with_fields(b"A:", b"B: b", b"C:  ", b"D: d"))
    assert [field[1:] for field in head.fields[1:]] == [(b"A", b""), (b"B", b"b"), (b"C", b""), (b"D", b"d")]


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Keep-Alive, CLOSE", False),
        (b"1.1", b"x", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
        (b"1.0", b" , x ,keep-alive,", True),
    ],
)
def test_keep_alive(version: bytes, connection: bytes | None, keep_alive: bool) -> None:
    """Whether the connection is kept goes by the version and by the tokens of Connection, whatever their case."""
    lines = [] if connection is None else [b"Connection: " + connection]
    assert parse(with_fields(*lines, line=b"GET / HTTP/" + version)).keep_alive is keep_alive


def test_connection_over_several_lines() -> None:
    """All lines of Connection count as one list."""
    head = parse(with_fields(b"Connection: a", b"connection: Close, b"))
    assert head.connection == {b"a", b"b", b"close"}
    assert not head.keep_alive


def test_expect() -> None:
    """An expectation counts in HTTP/1.1 only (RFC 9110 10.1.1)."""
    assert parse(with_fields(b"Expect: 100-Continue", b"Content-Length: 1")).expect_continue
    assert not parse(with_fields(b"Expect: 100-continue", line=b"POST / HTTP/1.0")).expect_continue
    assert not parse(with_fields(b"Expect: something")).expect_continue


# The request line


@pytest.mark.parametrize("method", sorted(METHODS))
def test_known_methods(method: bytes) -> None:
    """Every method that we know llhttp knows too."""
    assert parse(with_fields(line=method + b" / HTTP/1.1")).method == method


@pytest.mark.parametrize(
    "method",
    [b"get", b"Get", b"FOO", b"CONNECT", b"DESCRIBE", b"FLUSH", b"GET_PARAMETER", b"X-Y!", b"M" * MAX_METHOD_BYTES],
)
def test_methods_that_are_not_served(method: bytes) -> None:
    """CONNECT, methods that llhttp does not know, those of other protocols, and known ones in another case: 501."""
    target = b"a:1" if method == b"CONNECT" else b"/"
    assert refused(with_fields(line=method + b" " + target + b" HTTP/1.1"), 501).code == "not-implemented"


@pytest.mark.parametrize(
    "method", [b"", b"G(T", b"G:T", b'"GET"', b"@", b"\x16\x03\x01", b"G\xc3T", b"M" * (MAX_METHOD_BYTES + 1)]
)
def test_methods_that_are_no_tokens(method: bytes) -> None:
    """A method that is no token is no HTTP."""
    refused(with_fields(line=method + b" / HTTP/1.1"))


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3.0", b"HTTP/0.0", b"HTTP/9.9"])
def test_versions_that_are_not_spoken(version: bytes) -> None:
    """Versions other than 1.0 and 1.1 are 505, though llhttp takes some of them."""
    assert refused(with_fields(line=b"GET / " + version), 505).code == "version"


def test_the_preface_of_http2() -> None:
    """A client that begins HTTP/2 without being asked is told about the version."""
    refused(b"PRI * HTTP/2.0\r\n\r\n", 505)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET",
        b"GET / ",
        b" GET / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET / a HTTP/1.1",
        b"GET / HTTP/1.1x",
        b"GET / http/1.1",
        b"GET / HTTP/11",
        b"GET / HTTP/1.10",
        b"GET / HTTP/01.1",
        b"GET / HTTX/1.1",
        b"GET / ICE/1.0",
        b"GET / RTSP/1.0",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\xc3\xa4 HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.\xb1",
        b"HTTP/1.1 200 OK",
    ],
)
def test_request_lines_that_are_refused(line: bytes) -> None:
    """No version, two spaces, tabs, other protocols and bytes that are not visible ASCII: 400."""
    assert refused(with_fields(line=line)).code == "bad-request"


@pytest.mark.parametrize(
    "target", [b"/", b"/a//b/../c;d=1?e=f&g[]=h|i", b"//other.example/", b"/\\", b"/?", b"/%00%0d%0a", b'/{}"<>^`']
)
def test_targets_pass_as_they_are(target: bytes) -> None:
    """Paths and queries are not ours to change."""
    assert parse(with_fields(line=b"GET " + target + b" HTTP/1.1")).target == target


@pytest.mark.parametrize(
    "target",
    [
        b"/a#b",
        b"#",
        b"a",
        b"a/b",
        b"?a",
        b"*",
        b"*a",
        b"a.example:80",
        b"http:/a",
        b"http://",
        b"http:///a",
        b"ftp://a/",
        b"ws://a/",
        b"http://u@a/",
        b"http://u:p@a/",
        b"http://a:b/",
        b"http://a:99999/",
        b"http://[::1/",
        b"http://[x]/",
        b"http://a,b/",
        b"http://a\\b/",
        b"http://a/#b",
        b"://a/",
    ],
)
def test_targets_that_are_refused(target: bytes) -> None:
    """Fragments, targets that begin with no slash, other schemes, user names and bad authorities: 400."""
    refused(with_fields(line=b"GET " + target + b" HTTP/1.1"))


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET http://b.example/x?y HTTP/1.1", b"/x?y", b"b.example"),
        (b"GET HTTPS://b.example:81 HTTP/1.1", b"/", b"b.example:81"),
        (b"GET http://[::1]:81?q HTTP/1.0", b"/?q", b"[::1]:81"),
        (b"OPTIONS http://b.example HTTP/1.1", b"*", b"b.example"),
        (b"OPTIONS http://b.example/ HTTP/1.1", b"/", b"b.example"),
        (b"GET http://b.example//c HTTP/1.1", b"//c", b"b.example"),
    ],
)
def test_absolute_form(line: bytes, target: bytes, host: bytes) -> None:
    """The authority of an absolute-form target replaces Host (RFC 9112 3.2.2)."""
    head = parse(with_fields(line=line))
    assert (head.target, head.host) == (target, host)
    assert head.get(b"host") == b"a.example"


def test_absolute_form_still_needs_a_host() -> None:
    """An absolute-form target does not make up for a missing or bad Host."""
    refused(with_fields(line=b"GET http://a/ HTTP/1.1", host=None))
    refused(with_fields(line=b"GET http://a/ HTTP/1.1", host=b"a b"))
    assert parse(with_fields(line=b"GET http://a/ HTTP/1.0", host=None)).host == b"a"


def test_options_asterisk() -> None:
    """`*` is a target of OPTIONS."""
    assert parse(with_fields(line=b"OPTIONS * HTTP/1.1")).target == b"*"


# Host


def test_missing_host() -> None:
    """llhttp takes an HTTP/1.1 request without Host; we refuse it. HTTP/1.0 may do without."""
    assert refused(with_fields(host=None)).message == "missing Host"
    assert parse(with_fields(line=b"GET / HTTP/1.0", host=None)).host is None


def test_repeated_host() -> None:
    """llhttp takes two Hosts; we refuse them, the same or not, in HTTP/1.0 too."""
    assert "host" in refused(with_fields(b"Host: a.example")).message
    refused(with_fields(b"hOST: b.example", line=b"GET / HTTP/1.0"))


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"a.b",
        b"a-b_c.example.",
        b"127.0.0.1",
        b"127.0.0.1:80",
        b"a:1",
        b"[::1]",
        b"[2001:db8::1]:65535",
        b"A" * 255,
    ],
)
def test_good_hosts(host: bytes) -> None:
    """Names, IPv4 and bracketed IPv6 addresses, with or without a port."""
    assert parse(with_fields(host=host)).host == host


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b"a:",
        b"a:x",
        b"a:-1",
        b"a:65536",
        b"a:123456",
        b"a b",
        b"a,b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a@b",
        b"a\\b",
        b"a%41",
        b'"a"',
        b"a;b",
        b"::1",
        b"[::1",
        b"::1]",
        b"[]",
        b"[:]",
        b"[1.2.3.4]",
        b"[fe80::1%eth0]",
        b"[v1.a]",
        b"[::1]a",
        b"[12345::]",
        b"a\tb",
        b"a:80:80",
        b"http://a",
        b"A" * 256,
    ],
)
def test_bad_hosts(host: bytes) -> None:
    """What is no host with an optional port is refused before anybody routes by it."""
    refused(with_fields(host=host))
    assert not valid_host(host)


def test_repeated_endpoint() -> None:
    """Two endpoint IDs could be read differently by two hops."""
    refused(with_fields(b"x-pico-endpoint: a", b"X-Pico-Endpoint: a"))
    assert parse(with_fields(b"x-pico-endpoint: a")).get(b"x-pico-endpoint") == b"a"


# Framing


@pytest.mark.parametrize(
    ("value", "length"), [(b"0", 0), (b"5", 5), (b"007", 7), (b"9223372036854775807", 2**63 - 1), (b" 5\t", 5)]
)
def test_lengths(value: bytes, length: int) -> None:
    """Content-Length is digits."""
    head = parse(with_fields(b"Content-Length:" + value))
    assert (head.length, head.chunked, head.has_body) == (length, False, length > 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"+5",
        b"-5",
        b"-0",
        b"5,5",
        b"5, 5",
        b"5 5",
        b"5.0",
        b"0x5",
        b"5e1",
        b"1_0",
        b"a",
        b"9223372036854775808",
        b"18446744073709551615",
        b"18446744073709551616",
        b"0" * 20,
        b"9" * 400,
        b"\xb2",
    ],
)
def test_lengths_that_are_refused(value: bytes) -> None:
    """Signed, repeated, listed and absurd lengths are refused."""
    refused(with_fields(b"Content-Length: " + value))


@pytest.mark.parametrize("second", [b"Content-Length: 5", b"content-length: 6", b"CONTENT-LENGTH: 5"])
def test_repeated_lengths(second: bytes) -> None:
    """A second Content-Length is refused, the same or not."""
    refused(with_fields(b"Content-Length: 5", second))


def test_chunked() -> None:
    """One transfer coding, `chunked`, whatever its case."""
    for value in (b"chunked", b" Chunked", b" CHUNKED "):
        head = parse(with_fields(b"Transfer-Encoding:" + value))
        assert (head.length, head.chunked, head.has_body) == (None, True, True)


@pytest.mark.parametrize(
    "value",
    [
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, chunked",
        b"chunked,",
        b",chunked",
        b"xchunked",
        b"chunkedx",
        b"chunked;a=b",
        b'"chunked"',
        b"identity",
        b"identity, chunked",
        b"gzip",
        b"",
        b"chun\tked",
        b"\x0bchunked",
        b"\xa0chunked",
    ],
)
def test_transfer_codings_that_are_refused(value: bytes) -> None:
    """llhttp takes `gzip, chunked` and finds `xchunked` only behind the head; both and all others are refused."""
    refused(with_fields(b"Transfer-Encoding: " + value))


def test_repeated_transfer_encoding() -> None:
    """Two Transfer-Encoding lines make a list, and no list is served."""
    refused(with_fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"))
    refused(with_fields(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"))
    refused(with_fields(b"Transfer-Encoding: chunked", b"transfer-encoding: identity"))


def test_length_beside_transfer_encoding() -> None:
    """The two ways to frame a body never come together, in any order."""
    refused(with_fields(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
    refused(with_fields(b"Transfer-Encoding: chunked", b"Content-Length: 5"))
    refused(with_fields(b"Content-Length: 0", b"X: y", b"Transfer-Encoding: chunked"))


def test_our_own_check_of_framing_stands_alone() -> None:
    """Length beside chunks is refused by us too, should a later llhttp let it pass."""
    with pytest.raises(FieldsError, match="beside"):
        read_framing({b"content-length": b"5", b"transfer-encoding": b"chunked"}, version_11=True)


def test_transfer_encoding_in_http_10() -> None:
    """llhttp takes chunks from HTTP/1.0; we do not."""
    refused(with_fields(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"))


# Lines and bytes


@pytest.mark.parametrize(
    "line",
    [
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
    ],
)
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
    """No byte but tab and visible ASCII passes in a request, wherever it stands; llhttp lets many through."""
    odd = bytes([byte])
    refused(with_fields(b"A: a" + odd + b"b"))
    refused(with_fields(b"A: " + odd))
    refused(with_fields(b"A" + odd + b": a"))
    refused(with_fields(line=b"GET /" + odd + b" HTTP/1.1"))
    refused(with_fields(line=b"G" + odd + b"T / HTTP/1.1"))


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
    """llhttp stops before the body of an upgrade, and it would be read as a request: refused, in any order."""
    refused(with_fields(b"Connection: Upgrade", b"Upgrade: websocket", framing))
    refused(with_fields(framing, b"Upgrade: websocket", b"Connection: Upgrade"))
    refused(with_fields(b"Connection: Upgrade", b"Upgrade: h2c, websocket", framing))


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


def test_a_head_made_by_hand_has_an_index() -> None:
    """A head that was not parsed finds its fields too, the first of each name."""
    head = RequestHead(b"GET", b"/", fields=[(b"a", b"A", b"1"), (b"a", b"a", b"2")])
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


@given(
    base=st.sampled_from([GOOD, UPGRADE, CHUNKED]),
    edits=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.integers(0, 3),
            st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b"\t", b"\x00", b","])
            | st.binary(max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_changed_heads(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """A head that was changed anywhere is taken or refused, and nothing else happens. What is taken is unambiguous:
    llhttp in a fresh parser reads the same fields, and no byte is left over."""
    data = bytearray(base)
    for at, removed, added in edits:
        data[at : at + removed] = added
    try:
        head = parse(bytes(data))
    except Http1Error as error:
        assert error.status in (400, 414, 431, 501, 505)
        return
    assert bytes(data).count(b"\r\n") == len(head.fields) + 2
    assert not any(b"\r" in part or b"\n" in part or b"\x00" in part for field in head.fields for part in field)

    class Reader:
        def __init__(self) -> None:
            self.fields: list[tuple[bytes, bytes]] = []

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append((name, value.strip(b" \t")))

    reader = Reader()
    try:
        httptools.HttpRequestParser(reader).feed_data(bytes(data))
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
                assert error.status in (400, 414, 431, 501, 505)

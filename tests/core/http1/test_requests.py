"""Heads of requests: the request line, the host, the framing: what is understood, what is refused and how."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.fields import FieldsError, read_framing
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http1.target import HOSTS, IDEMPOTENT, MAX_METHOD_BYTES
from tests.core.http1.request_heads import parse, refused, with_fields


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
    """The field behind a field without a value stays a field of its own."""
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


def test_a_tab_behind_chunked() -> None:
    """Readers do not agree whether white space other than blanks belongs to a transfer coding."""
    for behind in (b"\t", b" \t", b"\t ", b" \t "):
        refused(with_fields(b"Transfer-Encoding: chunked" + behind))
        refused(with_fields(b"transfer-encoding:\tchunked" + behind, b"A: b"))
    assert parse(with_fields(b"Transfer-Encoding: chunked  ", b"A: b\t")).chunked


def test_connection_over_several_lines() -> None:
    """All lines of Connection count as one list."""
    head = parse(with_fields(b"Connection: a", b"connection: Close, b"))
    assert head.connection == {b"a", b"b", b"close"}
    assert not head.keep_alive


def test_expect() -> None:
    """An expectation counts in HTTP/1.1 only (RFC 9110 10.1.1)."""
    assert parse(with_fields(b"Expect: 100-Continue", b"Content-Length: 1")).expect_continue
    for value in (b"100-continue", b"200-ok", b""):
        assert not parse(with_fields(b"Expect: " + value, line=b"POST / HTTP/1.0")).expect_continue


@pytest.mark.parametrize(
    "lines",
    [
        [b"Expect: 200-ok"],
        [b"Expect: y 100-continue"],
        [b"Expect: 100-continue, 100-continue"],
        [b"Expect: 100-continue;q=1"],
        [b"Expect:"],
        [b"Expect: 100-continue", b"Expect: 100-continue"],
        [b"Expect: 100-continue", b"X-A: b", b"expect: y"],
        [b"Expect:", b"Expect: 100-continue"],
        [b"Expect: 100-continue\xa0"],
    ],
)
def test_expectations_that_are_refused(lines: list[bytes]) -> None:
    """Services read an odd Expect in different ways, and wait for a body or do not: only one 100-continue goes on."""
    assert refused(with_fields(*lines, b"Content-Length: 1"), 417).code == "expectation-failed"


# The request line


METHODS = b"""
    GET HEAD POST PUT DELETE OPTIONS TRACE PATCH ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK
    M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE NOTIFY ORDERPATCH PRI PROPFIND
    PROPPATCH PURGE QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE
    UPDATEREDIRECTREF VERSION-CONTROL LIST RPC_IN_DATA RPC_OUT_DATA RDG_IN_DATA BITS_POST BAN X-CUSTOM FROB
    DESCRIBE get Post connecting !#$%&'*+-.^_`|~09
""".split()


@pytest.mark.parametrize("method", [*METHODS, b"M" * MAX_METHOD_BYTES])
def test_any_token_is_a_method(method: bytes) -> None:
    """Methods are an open set (RFC 9110 16.1), those of IANA's registry, of products and of nobody alike."""
    assert parse(with_fields(b"Content-Length: 5", line=method + b" / HTTP/1.1")).method == method
    assert (method in IDEMPOTENT) is (method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


@pytest.mark.parametrize("method", [b"CONNECT", b"connect", b"Connect", b"head", b"Head"])
def test_methods_that_are_not_served(method: bytes) -> None:
    """CONNECT makes a tunnel of the connection, and HEAD an answer without a body: a service that compares methods
    without case would see another message than we do."""
    target = b"a:1" if method == b"CONNECT" else b"/"
    assert refused(with_fields(line=method + b" " + target + b" HTTP/1.1"), 501).code == "not-implemented"


@pytest.mark.parametrize(
    "method", [b"", b"G(T", b"G:T", b'"GET"', b"@", b"\x16\x03\x01", b"G\xc3T", b"M" * (MAX_METHOD_BYTES + 1)]
)
def test_methods_that_are_no_tokens(method: bytes) -> None:
    """A method that is no token is no HTTP."""
    refused(with_fields(line=method + b" / HTTP/1.1"))


@pytest.mark.parametrize("version", [b"HTTP/1.2", b"HTTP/1.9"])
def test_later_minor_versions(version: bytes) -> None:
    """A later minor version is understood as the latest that we know (RFC 9110 2.5)."""
    assert parse(with_fields(b"Transfer-Encoding: chunked", line=b"POST / " + version)).version_11


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.0", b"HTTP/9.9"])
def test_versions_that_are_not_spoken(version: bytes) -> None:
    """Versions other than 1.x are 505, though llhttp takes some of them."""
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
        b"GET \xc3\xa4 HTTP/1.1",
        b"G\xc3\xa4T / HTTP/1.1",
        b"G\xc3\xa4T /\xc3\xa4 HTTP/1.1",
        b"GET /\xc3\xa4 b HTTP/1.1",
        b"GET  /\xc3\xa4 HTTP/1.1",
        b"GET /\xc3\xa4",
        b"GET /\xc3\xa4#b HTTP/1.1",
        b"GET /\xc3\xa4\x7f HTTP/1.1",
        b"GET http://\xc3\xa4/ HTTP/1.1",
        b"GET http://\xc3\xa4/\xc3\xa4 HTTP/1.1",
        b"GET /\xc3\xa4 HTTP/1.\xb1",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.\xb1",
        b"HTTP/1.1 200 OK",
    ],
)
def test_request_lines_that_are_refused(line: bytes) -> None:
    """No version, two spaces, tabs, other protocols, control bytes, and bytes over 0x7F outside path and query: 400."""
    assert refused(with_fields(line=line)).code == "bad-request"


@pytest.mark.parametrize(
    "target", [b"/", b"/a//b/../c;d=1?e=f&g[]=h|i", b"//other.example/", b"/\\", b"/?", b"/%00%0d%0a", b'/{}"<>^`']
)
def test_targets_pass_as_they_are(target: bytes) -> None:
    """Paths and queries are not ours to change."""
    assert parse(with_fields(line=b"GET " + target + b" HTTP/1.1")).target == target


@pytest.mark.parametrize(
    ("target", "encoded", "host"),
    [
        (b"/caf\xc3\xa9?q=\xc3\xa9&a=%C3", b"/caf%C3%A9?q=%C3%A9&a=%C3", b"a.example"),
        (b"/\x80\xff", b"/%80%FF", b"a.example"),
        (b"http://b.example/\xe2\x82\xac", b"/%E2%82%AC", b"b.example"),
        (b"http://b.example?\xe9", b"/?%E9", b"b.example"),
    ],
)
def test_bytes_over_7f_in_a_target(target: bytes, encoded: bytes, host: bytes) -> None:
    """Raw UTF-8 and other bytes over 0x7F are percent-encoded as they are, and nothing else is changed."""
    head = parse(with_fields(line=b"GET " + target + b" HTTP/1.1"))
    assert (head.target, head.host) == (encoded, host)


def test_a_target_that_grows_by_being_encoded() -> None:
    """The limits hold for the target and the head that go on, so that no hop behind has to refuse them."""
    limits = HeadLimits(target_bytes=31)
    assert parse(with_fields(line=b"GET /" + b"\xe9" * 10 + b" HTTP/1.1"), limits)
    assert refused(with_fields(line=b"GET /" + b"\xe9" * 11 + b" HTTP/1.1"), 414, limits).code == "uri-too-long"
    data = with_fields(line=b"GET /" + b"\xe9" * 100 + b" HTTP/1.1")
    refused(data, 431, HeadLimits(head_bytes=len(data) + 100))
    parse(data, HeadLimits(head_bytes=len(data) + 200))


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
        b"a~b!c*d.example",
        b"a$b&c'(d)+e.example",
        b"a%41",
        b"%C3%A9.example:80",
        b"[fe80::1%25eth0]",
        b"[fe80::1%eth0]:80",
    ],
)
def test_good_hosts(host: bytes) -> None:
    """Names, IPv4 and bracketed IPv6 addresses, these also with a zone, with or without a port."""
    assert parse(with_fields(host=host)).host == host


@pytest.mark.parametrize(
    ("host", "onward"),
    [(b"a.example:", b"a.example"), (b"[::1]:", b"[::1]"), (b"127.0.0.1:", b"127.0.0.1"), (b"", None), (b" ", None)],
)
def test_hosts_that_do_not_go_on_as_they_came(host: bytes, onward: bytes | None) -> None:
    """An empty port says nothing (RFC 3986 6.2.3), and an empty Host that the target has no host (RFC 9112 3.2)."""
    assert parse(with_fields(host=host)).host == onward
    assert parse(with_fields(host=host, line=b"GET http://b.example:/ HTTP/1.1")).host == b"b.example"


@pytest.mark.parametrize(
    "host",
    [
        b":",
        b":80",
        b"a::",
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
        b"a%4",
        b"a%xy",
        b"a%",
        b"a\xe9",
        b'"a"',
        b"a;b",
        b"a=b",
        b"::1",
        b"[::1",
        b"::1]",
        b"[]",
        b"[:]",
        b"[1.2.3.4]",
        b"[fe80::1%]",
        b"[fe80::1%a b]",
        b"[fe80::1%a]b]",
        b"[%eth0]",
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
    assert HOSTS[host] is None


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

"""Heads cross between HTTP/2 and HTTP/1.1 as one message with one meaning, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head, parse_response_head
from pico_twisted.core.http2 import events as e
from pico_twisted.core.http2.heads import (
    MAX_CRUMBS,
    WEBSOCKET_KEY,
    request_fields,
    request_head,
    response_fields,
    response_head,
)
from tests.core.http2.pair import ByHand, Pair
from tests.peers import http2_frames as wire

LIMITS = HeadLimits()
GET = wire.request()
CONNECT = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


def everything(name: bytes) -> bool:
    return True


def refused(fields: list[wire.Field], status: int = 400, limits: HeadLimits = LIMITS) -> None:
    with pytest.raises(Http1Error) as caught:
        request_head(fields, limits)
    assert caught.value.status == status, caught.value


def test_a_request() -> None:
    """Pseudo-header fields become the request line and the one Host; all others stay as they are, in order."""
    head = request_head(
        wire.request((b"accept", b"*/*"), (b"content-length", b"5"), method=b"POST", path=b"/a?b=\xc3\xa9"), LIMITS
    )
    assert (head.method, head.target, head.host, head.length) == (b"POST", b"/a?b=%C3%A9", b"a.example", 5)
    assert [(name, value) for name, _, value in head.fields] == [
        (b"host", b"a.example"),
        (b"accept", b"*/*"),
        (b"content-length", b"5"),
    ]
    assert head.version_11 and head.keep_alive and not head.chunked and head.upgrade is None


def test_host_and_authority_are_one() -> None:
    """A Host beside :authority has to say the same; alone it is taken (RFC 9113 8.3.1)."""
    assert request_head([*GET[:3], (b"host", b"b.example")], LIMITS).host == b"b.example"
    assert request_head([*GET, (b"host", b"A.example")], LIMITS).host == b"a.example"
    assert request_head([*GET[:3], (b":authority", b"")], LIMITS).host is None
    refused([*GET, (b"host", b"b.example")])
    refused([*GET, (b"host", b"a.example"), (b"host", b"a.example")])
    refused([*GET[:3], (b":authority", b"user@a.example")])
    refused([*GET[:3], (b":authority", b"a.example/b")])


def test_crumbs_of_cookies() -> None:
    """Cookies in fields of their own are one Cookie for the service, and each counts for itself (RFC 9113 8.2.3)."""
    head = request_head([*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")], LIMITS)
    assert head.by_name[b"cookie"] == b"a=1; b=2"
    assert len(head.fields) == 3
    request_head([*GET, *[(b"cookie", b"a=1")] * MAX_CRUMBS], LIMITS)
    refused([*GET, *[(b"cookie", b"a=1")] * (MAX_CRUMBS + 1)], 431)
    refused([*GET, *[(b"cookie", b"a" * 2000)] * 17], 431)


def test_limits_are_those_of_http1() -> None:
    """Too many fields, too large a head and too long a target have the statuses that they have there."""
    refused([*GET, *[(b"x", b"y")] * 100], 431)
    refused([*GET, (b"x", b"y" * 33_000)], 431)
    refused(wire.request(path=b"/" + b"a" * 9000), 414)
    refused([(b":method", b"CONNECT"), (b":authority", b"a.example:443")], 501)
    refused([*GET, (b"expect", b"other")], 417)


def test_an_extended_connect_is_an_offer_of_an_upgrade() -> None:
    """A WebSocket over HTTP/2 is one over HTTP/1.1 for the service (RFC 8441 5)."""
    head = request_head([*CONNECT, (b"sec-websocket-version", b"13")], LIMITS)
    assert (head.method, head.target, head.upgrade, head.host) == (b"GET", b"/", b"websocket", b"a.example")
    assert head.connection == {b"upgrade"}
    assert b"sec-websocket-key" in head.by_name
    assert request_head([CONNECT[0], (b":protocol", b"other"), *CONNECT[2:]], LIMITS).upgrade == b"other"
    refused([(b":method", b"GET"), *CONNECT[1:]])
    refused([*CONNECT, (b"content-length", b"0")])
    refused([CONNECT[0], (b":protocol", b"websocket, h2c"), *CONNECT[2:]])
    refused([CONNECT[0], (b":protocol", b""), *CONNECT[2:]])


def test_the_key_of_a_client_means_nothing() -> None:
    """HAProxy makes an extended CONNECT of a handshake of HTTP/1.1, and leaves its key in: services get ours, once."""
    for keys in ([b"dGhlIHNhbXBsZSBub25jZQ=="], [b"x", b"y"]):
        head = request_head([*CONNECT, *[(b"sec-websocket-key", key) for key in keys]], LIMITS)
        assert [value for lower, _, value in head.fields if lower == b"sec-websocket-key"] == [WEBSOCKET_KEY]


@pytest.mark.parametrize(
    "field",
    [
        (b"connection", b"close"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"http2-settings", b"AAMAAABkAAQCAAAAAAIAAAAA"),
        (b"Upper", b"x"),
        (b"a b", b"x"),
        (b"a:", b"x"),
        (b"", b"x"),
        (b"a: b\r\nc", b"x"),
        (b"a", b"x\r\nb: c"),
        (b"a", b"x\nb: c"),
        (b"a", b"x\0"),
        (b"a", b"x\x7f"),
        (b"a\xff", b"x"),
        (b"content-length", b"+1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b""),
    ],
)
def test_what_no_request_of_http2_has(field: wire.Field) -> None:
    """Fields of a connection, odd names and bytes that end a line are refused, by libnghttp2 and once more by us."""
    refused([*GET, field])
    far = ByHand()
    told = far.send(wire.headers(1, [*GET, field]))
    for event in told:
        assert event[0] != e.REQUEST or field[0] == b"http2-settings"
    far.send(wire.ping())
    assert far.sent[-1].kind == wire.PING, "the fault is the stream's, not the connection's"


@pytest.mark.parametrize(
    "fields",
    [
        GET[1:],
        [GET[0], *GET[2:]],
        [*GET[:2], GET[3]],
        [*GET, GET[0]],
        [*GET, GET[3]],
        [GET[0], (b"a", b"b"), *GET[1:]],
        [GET[0], (b"cookie", b"b"), *GET[1:]],
        [GET[0], (b":scheme", b"ftp"), *GET[2:]],
        wire.request(path=b"http://b.example/"),
        wire.request(path=b""),
        wire.request(path=b"a"),
        wire.request(path=b"*"),
        wire.request(path=b"/ HTTP/1.1\r\nA: b"),
        wire.request(path=b"/a b"),
        wire.request(path=b"/a#b"),
        wire.request(method=b"GET /x"),
        wire.request(method=b""),
        wire.request(method=b"GET / HTTP/1.1\r\nHost: b\r\n\r\nGET"),
        wire.request(authority=b"a\r\nB: c"),
        wire.request(authority=b"a b"),
        [*GET, (b"content-length", b"1"), (b"content-length", b"1")],
        [*GET, (b"x-pico-endpoint", b"a"), (b"x-pico-endpoint", b"b")],
    ],
)
def test_what_no_request_line_can_be(fields: list[wire.Field]) -> None:
    """What is missing, repeated, late or more than one word is refused, whoever reads it."""
    refused(fields)


NAMES = st.one_of(
    st.sampled_from([b"accept", b"cookie", b"te", b"x-a", b"content-length", b"host", b":path", b"connection"]),
    st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True),
    st.binary(max_size=6),
)
VALUES = st.one_of(
    st.sampled_from([b"", b"0", b"5", b"a", b"trailers", b"a\r\nb: c", b" a ", b"\xff"]),
    st.from_regex(rb"[ -~\x80-\xff\t]{0,20}", fullmatch=True),
    st.binary(max_size=12),
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.binary(max_size=8), st.binary(max_size=8), st.booleans())
def test_a_head_says_what_its_fields_said(
    fields: list[wire.Field], path: bytes, authority: bytes, connect: bool
) -> None:
    """Whatever comes, a head that is not refused has exactly these fields, one Host, and no framing of its own."""
    given_fields = [*wire.request(path=b"/" + path, authority=authority), *fields]
    if connect:
        given_fields[:1] = CONNECT[:2]
    try:
        head = request_head(given_fields, LIMITS)
    except Http1Error:
        return
    plain = [(name, value.strip(b" \t")) for name, value in fields if name not in (b"cookie", b"host")]
    cookies = [value for name, value in fields if name == b"cookie"]
    expected = [(b"host", authority), *plain]
    if cookies:
        expected.append((b"cookie", b"; ".join(cookies).strip(b" \t")))
    got = [(name, value) for name, _, value in head.fields]
    assert got[: len(expected)] == [(name, value.strip(b" \t")) for name, value in expected]
    assert len(got) == len(expected) + 3 * connect
    assert not head.chunked
    assert b" " not in head.target and head.target[:1] == b"/"
    assert head.host is None or b"\n" not in head.host
    assert head.method == b"GET"


TOKENS = st.from_regex(rb"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
    lambda name: name not in {b"host", b"te", b"cookie", b"expect", b"upgrade", b"trailer"}
)
TEXTS = st.from_regex(rb"[!-~\x80-\xff]([ -~\x80-\xff]{0,20}[!-~])?", fullmatch=True)


@given(st.lists(st.tuples(TOKENS, TEXTS), max_size=6), st.sampled_from([b"GET", b"POST", b"PURGE"]))
def test_a_head_of_http1_is_the_same_behind_http2(fields: list[wire.Field], method: bytes) -> None:
    """From a head of HTTP/1.1 to fields, through libnghttp2, and back to a head: nothing is lost or made up."""
    lines = [name.title() + b": " + value for name, value in fields]
    head = parse_request_head(
        b"\r\n".join([method + b" /p HTTP/1.1", b"Host: h.example", b"Connection: x-gone", b"X-Gone: 1", *lines])
        + b"\r\n\r\n",
        LIMITS,
    )
    pair = Pair()
    pair.client.request(
        request_fields(head, scheme=b"http", authority=b"s.example", goes_on=everything, trailers=False), ended=True
    )
    _, told = pair.pump()
    assert told[0][0] == e.REQUEST
    other = request_head(told[0][2], LIMITS)
    assert (other.method, other.target, other.host) == (method, b"/p", b"s.example")
    kept = [(name, value) for name, value in fields if name != b"x-gone"]
    assert [(name, value) for name, _, value in other.fields] == [(b"host", b"s.example"), *kept]


@given(st.lists(st.tuples(TOKENS, TEXTS), max_size=6), st.sampled_from([200, 204, 304, 404, 599]))
def test_a_response_is_the_same_behind_http2(fields: list[wire.Field], status: int) -> None:
    """Responses too; their reason is all that HTTP/2 cannot say."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    head = parse_response_head(
        b"HTTP/1.1 %d Fine\r\nKeep-Alive: timeout=5\r\nContent-Length: 7\r\n" % status + lines + b"\r\n", LIMITS
    )
    pair = Pair()
    stream = pair.client.request(GET, ended=True)
    pair.pump()
    pair.server.respond(stream, response_fields(head, everything), ended=False)
    told, _ = pair.pump()
    assert told[0][0] == e.RESPONSE
    other = response_head(told[0][2], LIMITS)
    assert (other.status, other.reason, other.length) == (status, b"", head.length)
    got = [(name, value) for name, _, value in other.fields if name != b"content-length"]
    assert got == fields


def test_an_upgrade_that_was_taken_is_a_200() -> None:
    """HTTP/2 has no 101 (RFC 8441 5): the stream is the connection, and nothing of the old handshake is left."""
    head = parse_response_head(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        LIMITS,
    )
    assert response_fields(head, everything) == [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]


def test_an_offer_of_a_websocket_is_an_extended_connect() -> None:
    """Towards a service, with neither key nor fields of the connection."""
    head: RequestHead = parse_request_head(
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n",
        LIMITS,
    )
    assert request_fields(head, scheme=b"http", authority=b"s", goes_on=everything, trailers=False) == [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":authority", b"s"),
        (b":path", b"/chat"),
        (b"sec-websocket-version", b"13"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        [(b":status", b"101")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"200 OK\r\nA: b\r\n\r\n")],
        [(b"a", b"b")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"a", b"b\r\nc: d")],
        [(b":status", b"200"), (b"a: b", b"c")],
        [(b":status", b"200"), (b"content-length", b"x")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b""), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"a", b"b"), (b":status", b"200")],
    ],
)
def test_what_no_response_of_http2_has(fields: list[wire.Field]) -> None:
    """A service that sends it gets nothing through: 502."""
    with pytest.raises(Http1Error) as caught:
        response_head(fields, LIMITS)
    assert caught.value.status == 502


@pytest.mark.parametrize("announced", [b"X-Sum, Host", b"x-hop, X-Sum,", b"X-Sum, Content-Length, a b"])
def test_trailers_are_announced(announced: bytes) -> None:
    """Trailer goes along both ways, without what may not be a trailer or does not go on: services of Go take only
    trailers that were announced (RFC 9110 6.6.2)."""
    lines = b"Connection: x-hop\r\nTrailer: " + announced + b"\r\n\r\n"
    asked = parse_request_head(b"POST / HTTP/1.1\r\nHost: a\r\n" + lines, LIMITS)
    fields = request_fields(asked, scheme=b"http", authority=b"a", goes_on=everything, trailers=False)
    assert (b"trailer", b"X-Sum") in fields
    assert (b"trailer", b"X-Sum") in response_fields(
        parse_response_head(b"HTTP/1.1 200 OK\r\n" + lines, LIMITS), everything
    )


def test_what_announces_no_trailers() -> None:
    """Nothing is announced of which nothing goes on, and nothing of what has no trailers: a WebSocket."""
    none = b"Trailer: Host, :path, a b\r\n\r\n"
    asked = parse_request_head(b"POST / HTTP/1.1\r\nHost: a\r\n" + none, LIMITS)
    fields = request_fields(asked, scheme=b"http", authority=b"a", goes_on=everything, trailers=False)
    assert b"trailer" not in dict(fields)
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nTrailer: X-Sum\r\n\r\n"
    asked = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + offer, LIMITS)
    fields = request_fields(asked, scheme=b"http", authority=b"a", goes_on=everything, trailers=False)
    assert b"trailer" not in dict(fields)
    taken = parse_response_head(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + none, LIMITS)
    assert b"trailer" not in dict(response_fields(taken, everything))

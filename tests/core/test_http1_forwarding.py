"""Heads as they go on: what is dropped, what is added, and that nothing can be smuggled through them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import (
    KEEP,
    MAX_OWN_VIAS,
    count_via,
    error_response,
    request_to_service,
    request_to_tunnel,
    response_to_client,
    response_to_tunnel,
    sane_request_id,
)
from pico_twisted.core.http1.head import (
    END,
    HeadLimits,
    Keep,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)

LIMITS = HeadLimits()
ROOMY = HeadLimits(head_bytes=1 << 20, fields=1000, target_bytes=1 << 16)

HOP_BY_HOP = [
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authenticate: Basic",
    b"Proxy-Authorization: Basic x",
    b"TE: trailers",
    b"Trailer: X-A",
    b"Upgrade: websocket",
    b"HTTP2-Settings: x",
]


def request(*lines: bytes, line: bytes = b"GET /a?b HTTP/1.1", host: bytes | None = b"a.example") -> RequestHead:
    head = [line]
    if host is not None:
        head.append(b"Host: " + host)
    return parse_request_head(b"\r\n".join([*head, *lines, b"", b""]), LIMITS)


def response(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response_head(b"\r\n".join([line, *lines, b"", b""]), LIMITS)


def to_tunnel(
    head: RequestHead,
    *,
    client_ip: bytes = b"192.0.2.7",
    https: bool = False,
    trusted: bool = False,
    request_id: bytes = b"id-1",
    endpoint: bytes | None = None,
    length: int | Keep | None = KEEP,
) -> RequestHead:
    """The head as the agent reads it."""
    data = request_to_tunnel(
        head,
        client_ip=client_ip,
        https=https,
        trusted=trusted,
        via=b"pico-n1",
        request_id=request_id,
        endpoint=endpoint,
        length=length,
    )
    return parse_request_head(data, ROOMY)


def to_service(head: RequestHead, *, host: bytes | None = None, chunked: bool = False) -> RequestHead:
    return parse_request_head(request_to_service(head, host=host, via=b"pico-a1", chunked=chunked), ROOMY)


def names(head: RequestHead | ResponseHead) -> list[bytes]:
    return [lower for lower, _, _ in head.fields]


def values(head: RequestHead | ResponseHead, name: bytes) -> list[bytes]:
    return [value for lower, _, value in head.fields if lower == name]


# Requests


def test_a_request_to_the_tunnel() -> None:
    """What goes to an agent: the client's fields as they were, and ours behind them, byte for byte."""
    head = request(b"User-Agent: x", b"aCCept: */*", b"Content-Length: 05", b"X-Empty:", line=b"POST /a?b HTTP/1.1")
    assert request_to_tunnel(
        head, client_ip=b"192.0.2.7", https=False, trusted=False, via=b"pico-n1", request_id=b"id-1"
    ) == (
        b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\naCCept: */*\r\nX-Empty: \r\nContent-Length: 5\r\n"
        b"X-Forwarded-Host: a.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b"Forwarded: for=192.0.2.7;proto=http;host=a.example\r\nx-request-id: id-1\r\nVia: 1.1 pico-n1\r\n\r\n"
    )


def test_a_request_to_the_service() -> None:
    """What the agent sends on keeps what the node set, and adds the agent's Via alone."""
    head = to_tunnel(request(b"Cookie: a"))
    assert request_to_service(head, host=None, via=b"pico-a1", chunked=False) == (
        b"GET /a?b HTTP/1.1\r\nHost: a.example\r\nCookie: a\r\n"
        b"X-Forwarded-Host: a.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b"Forwarded: for=192.0.2.7;proto=http;host=a.example\r\nx-request-id: id-1\r\nVia: 1.1 pico-n1\r\n"
        b"Via: 1.1 pico-a1\r\n\r\n"
    )


def test_the_length_of_a_request() -> None:
    """Content-Length is the head's own, another, or none; a tunnel never sees Transfer-Encoding."""
    head = request(b"Content-Length: 3")
    assert to_tunnel(head).length == 3
    assert to_tunnel(head, length=7).length == 7
    assert to_tunnel(head, length=None).length is None
    chunked = request(b"Transfer-Encoding: chunked")
    assert b"transfer-encoding" not in names(to_tunnel(chunked))
    assert to_tunnel(chunked).length is None
    assert to_tunnel(chunked, length=0).length == 0


def test_the_framing_towards_a_service() -> None:
    """Towards a service the body has a length or comes in chunks, never both."""
    head = request(b"Content-Length: 3")
    assert to_service(head).length == 3
    assert to_service(head, chunked=True).chunked
    assert b"content-length" not in names(to_service(head, chunked=True))
    assert request_to_service(head, host=None, via=b"v", chunked=False, length=9).count(b"Content-Length: 9\r\n") == 1
    assert b"ontent-" not in request_to_service(head, host=None, via=b"v", chunked=False, length=None)


@pytest.mark.parametrize("line", HOP_BY_HOP)
def test_hop_by_hop_fields_of_a_request(line: bytes) -> None:
    """Fields of one hop end there, whether Connection names them or not (RFC 9110 7.6.1)."""
    name = line.partition(b":")[0].lower()
    for head in (request(line, b"X: y"), request(b"Connection: " + name, line, b"X: y", line=b"GET / HTTP/1.0")):
        for onward in (to_tunnel(head), to_service(head)):
            assert name not in names(onward)
            assert b"connection" not in names(onward)
            assert onward.get(b"x") == b"y"


def test_what_connection_names() -> None:
    """Fields that Connection names are dropped, over several lines too."""
    head = request(
        b"Connection: close, X-One", b"connection: x-TWO", b"X-One: 1", b"X-Two: 2", b"X-Two: 2", b"X-Three: 3"
    )
    for onward in (to_tunnel(head), to_service(head)):
        assert not {b"x-one", b"x-two"} & set(names(onward))
        assert onward.get(b"x-three") == b"3"


def test_what_connection_cannot_name() -> None:
    """Connection removes neither Host, Content-Length and Authorization nor what we set ourselves."""
    head = request(
        b"Connection: host, content-length, authorization, x-request-id, x-forwarded-for, forwarded, via",
        b"Connection: x-pico-endpoint",
        b"Authorization: Bearer x",
        b"Content-Length: 3",
        b"X-Request-Id: mine",
        b"Via: 1.1 other",
    )
    for onward in (to_tunnel(head, endpoint=b"e"), to_service(to_tunnel(head, request_id=b"mine"))):
        assert onward.host == b"a.example"
        assert onward.length == 3
        assert onward.get(b"authorization") == b"Bearer x"
        assert b"x-forwarded-for" in names(onward)
        assert b"forwarded" in names(onward)
        assert b"x-request-id" in names(onward)
        assert values(onward, b"via")[0] == b"1.1 other"
    assert to_tunnel(head, endpoint=b"e").get(b"x-pico-endpoint") == b"e"
    onward = to_service(head)
    assert (onward.get(b"authorization"), onward.get(b"x-request-id"), onward.length) == (b"Bearer x", b"mine", 3)


def test_our_own_fields_never_reach_a_service() -> None:
    """No `x-pico-*` of a client goes on, in any spelling; a node link gets the endpoint that was chosen."""
    head = request(b"x-pico-endpoint: e", b"X-Pico-Authorization: t", b"x-pico-new: n", b"X_Pico_Endpoint: f")
    for onward in (to_tunnel(head), to_service(head)):
        assert not [name for name in names(onward) if b"pico" in name]
    assert values(to_tunnel(head, endpoint=b"chosen"), b"x-pico-endpoint") == [b"chosen"]


@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"x-forwarded_proto",
        b"x_forwarded_host",
        b"X_Request_Id",
        b"CONTENT_LENGTH",
        b"Transfer_Encoding",
    ],
)
def test_names_with_underscores(name: bytes) -> None:
    """A service that turns names into CGI variables cannot be shown one of ours that we did not set."""
    head = request(name + b": 1", b"x_other: 2")
    for onward in (to_tunnel(head), to_tunnel(head, trusted=True), to_service(head)):
        assert name.lower() not in names(onward)
        assert onward.get(b"x_other") == b"2"


FORGED = (
    b"X-Forwarded-For: 198.51.100.1, 198.51.100.2",
    b"x-forwarded-for: 198.51.100.3",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: shop.example",
    b"Forwarded: for=198.51.100.1;proto=https",
    b"Forwarded: for=198.51.100.3",
)


def test_forwarding_fields_of_a_stranger() -> None:
    """What a client says about where it comes from is replaced by what we know."""
    onward = to_tunnel(request(*FORGED), https=True)
    assert values(onward, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(onward, b"x-forwarded-proto") == [b"https"]
    assert values(onward, b"x-forwarded-host") == [b"a.example"]
    assert values(onward, b"forwarded") == [b"for=192.0.2.7;proto=https;host=a.example"]


def test_forwarding_fields_of_a_trusted_proxy() -> None:
    """What a trusted proxy says is kept and appended to."""
    onward = to_tunnel(request(*FORGED), trusted=True)
    assert values(onward, b"x-forwarded-for") == [b"198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.7"]
    assert values(onward, b"x-forwarded-proto") == [b"https"]
    assert values(onward, b"x-forwarded-host") == [b"shop.example"]
    assert values(onward, b"forwarded") == [
        b"for=198.51.100.1;proto=https, for=198.51.100.3, for=192.0.2.7;proto=http;host=a.example"
    ]


def test_a_trusted_proxy_that_says_nothing() -> None:
    """Where a trusted proxy says nothing, or an empty value, ours is set."""
    for head in (request(), request(b"X-Forwarded-For:", b"X-Forwarded-Proto:", b"X-Forwarded-Host: ", b"Forwarded:")):
        onward = to_tunnel(head, trusted=True)
        assert values(onward, b"x-forwarded-for") == [b"192.0.2.7"]
        assert values(onward, b"x-forwarded-proto") == [b"http"]
        assert values(onward, b"x-forwarded-host") == [b"a.example"]
        assert values(onward, b"forwarded") == [b"for=192.0.2.7;proto=http;host=a.example"]


@pytest.mark.parametrize(
    ("client_ip", "host", "plain", "element"),
    [
        (b"2001:db8::1", b"a", b"2001:db8::1", b'for="[2001:db8::1]";proto=http;host=a'),
        (b"fe80::1%eth0", b"a", b"fe80::1", b'for="[fe80::1]";proto=http;host=a'),
        (b"::ffff:192.0.2.1", b"a", b"::ffff:192.0.2.1", b'for="[::ffff:192.0.2.1]";proto=http;host=a'),
        (b"192.0.2.1", b"a.b:80", b"192.0.2.1", b'for=192.0.2.1;proto=http;host="a.b:80"'),
        (b"192.0.2.1", b"[::1]:80", b"192.0.2.1", b'for=192.0.2.1;proto=http;host="[::1]:80"'),
        (b"", b"a", b"unknown", b"for=unknown;proto=http;host=a"),
        (b"/run/x.sock", b"a", b"unknown", b"for=unknown;proto=http;host=a"),
        (b"1.2.3.4\r\nX: y", b"a", b"unknown", b"for=unknown;proto=http;host=a"),
        (b'1";x="', b"a", b"unknown", b"for=unknown;proto=http;host=a"),
    ],
)
def test_addresses(client_ip: bytes, host: bytes, plain: bytes, element: bytes) -> None:
    """IPv6 is quoted and bracketed in Forwarded (RFC 7239 6), and what is no address is unknown."""
    onward = to_tunnel(request(host=host), client_ip=client_ip)
    assert values(onward, b"x-forwarded-for") == [plain]
    assert values(onward, b"forwarded") == [element]


def test_a_request_without_a_host() -> None:
    """An HTTP/1.0 request without Host goes on as HTTP/1.1 with one, and no Host is claimed to be the client's."""
    onward = to_tunnel(request(line=b"GET / HTTP/1.0", host=None))
    assert (onward.version_11, onward.host) == (True, b"localhost")
    assert b"x-forwarded-host" not in names(onward)
    assert values(onward, b"forwarded") == [b"for=192.0.2.7;proto=http"]
    assert values(onward, b"via") == [b"1.0 pico-n1"]
    assert to_service(request(line=b"GET / HTTP/1.0", host=None)).host == b"localhost"


def test_the_authority_replaces_host() -> None:
    """An absolute-form target goes on in origin-form, with its authority as the only Host."""
    for head in (
        request(line=b"GET http://b.example:81/x HTTP/1.1"),
        request(line=b"GET http://b.example:81/x HTTP/1.0"),
    ):
        for onward in (to_tunnel(head), to_service(head)):
            assert (onward.target, values(onward, b"host")) == (b"/x", [b"b.example:81"])


def test_a_service_with_a_host_of_its_own() -> None:
    """The agent can give its service another Host; what is no host is our own mistake."""
    onward = to_service(request(), host=b"localhost:3000")
    assert values(onward, b"host") == [b"localhost:3000"]
    for bad in (b"", b"a b", b"a\r\nX: y", b"a/b"):
        with pytest.raises(ValueError, match="Host"):
            to_service(request(), host=bad)


def test_expect_goes_on() -> None:
    """Expect goes to the service, but not the one of an HTTP/1.0 client, which counts for nothing."""
    head = request(b"Expect: 100-continue", b"Content-Length: 1", line=b"POST / HTTP/1.1")
    assert to_service(to_tunnel(head)).expect_continue
    old = request(b"eXpect: 100-continue", b"X: y", b"Content-Length: 1", line=b"POST / HTTP/1.0")
    assert b"expect" not in names(to_tunnel(old))
    assert to_tunnel(old).get(b"x") == b"y"


def test_an_upgrade_is_made_again_at_each_hop() -> None:
    """An upgrade goes on with a Connection of our own; h2c and what else Connection named do not."""
    head = request(
        b"Connection: keep-alive, Upgrade, X-Hop", b"Upgrade: h2c, WebSocket", b"X-Hop: 1", b"Sec-WebSocket-Key: k"
    )
    onward = to_tunnel(head)
    for hop in (onward, to_service(onward)):
        assert values(hop, b"connection") == [b"Upgrade"]
        assert values(hop, b"upgrade") == [b"WebSocket"]
        assert hop.upgrade == b"WebSocket"
        assert hop.get(b"sec-websocket-key") == b"k"
        assert hop.get(b"x-forwarded-for") == b"192.0.2.7"
        assert b"x-hop" not in names(hop)


def test_request_ids() -> None:
    """A client's request ID is kept if it is short and plain; the one that goes on is the one given."""
    assert sane_request_id(request(b"X-Request-ID: abc-1.2_3")) == b"abc-1.2_3"
    assert sane_request_id(request()) is None
    for bad in (b"", b"a b", b"a,b", b"a\tb", b"a/b", b'"a"', b"a" * 129):
        assert sane_request_id(request(b"X-Request-ID: " + bad)) is None
    assert values(to_tunnel(request(b"X-Request-ID: theirs"), request_id=b"ours"), b"x-request-id") == [b"ours"]


def test_values_of_ours_that_may_not_stand_in_a_head() -> None:
    """What the caller gives is checked before it is written."""
    head = request()
    for bad in (b"", b"a b", b"a\r\nX: y", b"a" * 129):
        with pytest.raises(ValueError, match="request ID"):
            to_tunnel(head, request_id=bad)
        with pytest.raises(ValueError, match="endpoint"):
            to_tunnel(head, endpoint=bad)
    for bad in (b"", b"a b", b"a\r\nX: y", b"a(", b"a" * 200):
        with pytest.raises(ValueError, match="Via"):
            request_to_service(head, host=None, via=bad, chunked=False)
        with pytest.raises(ValueError, match="Via"):
            response_to_tunnel(response(), via=bad)


def test_many_pseudonyms() -> None:
    """What is kept of pseudonyms is bounded, and what is not kept is written as well."""
    for number in range(1500):
        assert b"Via: 1.1 p%d\r\n" % number in response_to_tunnel(response(), via=b"p%d" % number)


def test_via_is_appended() -> None:
    """Via says every hop in order, with the version that the message came in (RFC 9110 7.6.3)."""
    onward = to_service(to_tunnel(request(b"Via: 1.0 first, HTTP/1.1 second (x, y)", line=b"GET / HTTP/1.0")))
    assert values(onward, b"via") == [b"1.0 first, HTTP/1.1 second (x, y)", b"1.0 pico-n1", b"1.1 pico-a1"]


def test_what_we_add_stays_within_the_limits_of_the_next_hop() -> None:
    """A head that is just within its limits grows as it goes on, and no further than `HeadLimits.onward` says."""
    limits = HeadLimits(head_bytes=2000, fields=10)
    host = b"a" * 255
    start = b"POST / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 1\r\nX: "
    lines = b"\r\nY: " * 7
    data = start + lines + b"x" * (2000 - len(start + lines) - 4) + b"\r\n\r\n"
    head = parse_request_head(data, limits)
    assert (len(data), len(head.fields)) == (2000, 10)
    address = b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    for trusted in (False, True):
        onward = request_to_tunnel(
            head,
            client_ip=address,
            https=True,
            trusted=trusted,
            via=b"pico-" + b"n" * 64,
            request_id=b"r" * 128,
            endpoint=b"e" * 128,
        )
        with pytest.raises(Http1Error):
            parse_request_head(onward, limits)
        parse_request_head(onward, limits.onward())


def test_a_request_that_goes_in_circles() -> None:
    """A request that carries our pseudonyms ten times is 508; others do not count."""
    assert count_via(request()) == 0
    assert count_via(request(b"Via: 1.1 pico-a, 1.0 other,HTTP/1.1 pico-b (c)", b"Via: 1.1 pico-a, 1.1 xpico-c")) == 3
    head = request(b"Via: 1.1 other")
    for hop in range(MAX_OWN_VIAS):
        assert count_via(head) == hop
        head = to_tunnel(head)
    with pytest.raises(Http1Error) as caught:
        to_tunnel(head)
    assert (caught.value.status, caught.value.code) == (508, "loop")


# Responses


def to_client(
    head: ResponseHead,
    *,
    close: bool = False,
    chunked: bool = False,
    version_11_client: bool = True,
    length: int | Keep | None = KEEP,
) -> ResponseHead:
    """The head as the client reads it."""
    data = response_to_client(
        head, close=close, chunked=chunked, via=b"pico-n1", version_11_client=version_11_client, length=length
    )
    return parse_response_head(data, ROOMY)


def through_tunnel(head: ResponseHead, *, length: int | Keep | None = KEEP) -> ResponseHead:
    """The head as the node reads it."""
    return parse_response_head(response_to_tunnel(head, via=b"pico-a1", length=length), ROOMY)


def test_a_response() -> None:
    """What goes back: the service's fields as they were, our framing, and a Via of each hop."""
    head = response(
        b"Server: x", b"Date: d", b"Content-Length: 05", b"Set-Cookie: a", b"Set-Cookie: b", b"Keep-Alive: 5"
    )
    data = response_to_tunnel(head, via=b"pico-a1")
    assert data == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: d\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n"
        b"Via: 1.1 pico-a1\r\n\r\n"
    )
    assert response_to_client(
        parse_response_head(data, LIMITS), close=True, chunked=False, via=b"pico-n1", length=KEEP
    ) == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: d\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nVia: 1.1 pico-a1\r\n"
        b"Content-Length: 5\r\nConnection: close\r\nVia: 1.1 pico-n1\r\n\r\n"
    )


def test_the_framing_of_a_response() -> None:
    """A client gets a length, chunks, or the end of the connection, by what the caller knows; never two of them."""
    chunked = response(b"Transfer-Encoding: chunked")
    assert b"transfer-encoding" not in names(through_tunnel(chunked))
    assert through_tunnel(chunked, length=4).length == 4
    assert to_client(through_tunnel(chunked), chunked=True).chunked
    assert names(to_client(response(b"Content-Length: 3"), chunked=True)) == [b"transfer-encoding", b"via"]
    assert to_client(response(b"Content-Length: 3"), length=8).length == 8
    assert to_client(response(b"Content-Length: 3"), length=None).length is None
    assert names(to_client(chunked)) == [b"via"]


@pytest.mark.parametrize("status", [100, 103, 204])
def test_statuses_that_have_no_body(status: int) -> None:
    """1xx and 204 carry no framing whatever the caller says, and no interim response closes anything."""
    head = response(b"Content-Length: 5", b"Link: l", line=b"HTTP/1.1 %d X" % status)
    onward = through_tunnel(head, length=7)
    assert names(onward) == [b"link", b"via"]
    for chunked in (False, True):
        assert b"transfer-encoding" not in names(to_client(head, chunked=chunked, length=7))
        assert b"content-length" not in names(to_client(head, chunked=chunked, length=7))
    assert (b"connection" in names(to_client(head, close=True))) is (status >= 200)


def test_not_modified_and_head_keep_their_length() -> None:
    """The length in an answer to HEAD and in a 304 speaks of what is not there: it goes on, chunks do not."""
    head = response(b"Content-Length: 5", line=b"HTTP/1.1 304 Not Modified")
    assert to_client(through_tunnel(head)).length == 5
    assert names(to_client(response(line=b"HTTP/1.1 304 Not Modified"), chunked=True)) == [b"via"]


def test_clients_that_speak_http_10() -> None:
    """An HTTP/1.0 client is told when its connection is kept, and never gets chunks."""
    head = response(b"Content-Length: 5")
    assert to_client(head, version_11_client=False).get(b"connection") == b"keep-alive"
    assert to_client(head, version_11_client=False, close=True).get(b"connection") == b"close"
    assert b"connection" not in names(to_client(head))
    with pytest.raises(ValueError, match="chunks"):
        to_client(head, version_11_client=False, chunked=True)


def test_a_response_of_http_10() -> None:
    """A response from an HTTP/1.0 service goes on as HTTP/1.1; its Via tells."""
    onward = through_tunnel(response(b"Content-Length: 1", line=b"HTTP/1.0 200 OK"))
    assert onward.version_11
    assert values(onward, b"via") == [b"1.0 pico-a1"]


@pytest.mark.parametrize("line", HOP_BY_HOP)
def test_hop_by_hop_fields_of_a_response(line: bytes) -> None:
    """Fields of one hop end there in responses and in 101 answers too."""
    name = line.partition(b":")[0].lower()
    lines = (b"Connection: close, X-Hop, " + name, line, b"X-Hop: 1", b"X: y")
    for onward in (through_tunnel(response(*lines)), to_client(response(*lines))):
        assert not {name, b"x-hop", b"connection"} & set(names(onward))
        assert onward.get(b"x") == b"y"
    switch = response(
        b"Connection: Upgrade, X-Hop", b"Upgrade: a", b"Keep-Alive: 5", b"X-Hop: 1", line=b"HTTP/1.1 101 Switching"
    )
    for onward in (through_tunnel(switch), to_client(switch, close=True)):
        assert names(onward) == [b"connection", b"upgrade", b"via"]
        assert (onward.upgrade, onward.get(b"connection")) == (b"a", b"Upgrade")


def test_a_service_does_not_speak_for_us() -> None:
    """`x-pico-*` of a service ends at the agent; what an agent says itself reaches the client in x-pico-error alone."""
    head = response(b"x-pico-error: forged", b"X-Pico-Other: 1", b"X: y")
    assert names(through_tunnel(head)) == [b"x", b"via"]
    onward = to_client(head)
    assert (onward.get(b"x-pico-error"), onward.get(b"x-pico-other")) == (b"forged", None)
    data = response_to_client(head, close=False, chunked=False, via=b"v", keep=frozenset())
    assert b"pico" not in data.lower()
    head = response(b"Connection: keep-alive", b"Keep-Alive: 5")
    data = response_to_client(head, close=False, chunked=False, via=b"v", keep=frozenset((b"keep-alive",)))
    assert b"alive" not in data.lower()


def test_reasons_go_on() -> None:
    """A reason goes on as it is, bytes over 0x7F too, and may be missing."""
    for reason in (b"", b"Gr\xfc\xdfe"):
        onward = to_client(through_tunnel(response(line=b"HTTP/1.1 299 " + reason)))
        assert onward.reason == reason


# Answers of our own


def test_an_error_response() -> None:
    """An error of ours is JSON, says which hop made it and why, and is a valid response."""
    data = error_response(502, 'no "upstream"\r\nä', hop="node-1", code="unreachable", close=False, date=b"today")
    connection = ClientConnection(LIMITS)
    connection.expect(b"GET")
    connection.receive(data)
    head = connection.next_event()
    assert isinstance(head, ResponseHead)
    assert (head.status, head.reason) == (502, b"Bad Gateway")
    assert head.get(b"content-type") == b"application/json"
    assert head.get(b"x-pico-error") == b"node-1; unreachable"
    assert head.get(b"date") == b"today"
    assert b"connection" not in names(head)
    body = connection.next_event()
    assert isinstance(body, bytes)
    assert json.loads(body) == {"error": 'no "upstream"\r\nä'}
    assert connection.next_event() is END
    assert connection.reusable


def test_an_error_response_to_head() -> None:
    """The answer to HEAD has the length of the body that it lacks."""
    whole = error_response(400, "bad", hop="n", code="c", close=True)
    head = error_response(400, "bad", hop="n", code="c", close=True, head_only=True)
    assert whole == head + b'{"error": "bad"}'
    parsed = parse_response_head(head, LIMITS)
    assert (parsed.length, parsed.keep_alive) == (16, False)


@pytest.mark.parametrize("status", [400, 404, 413, 414, 431, 501, 502, 503, 504, 505, 508, 499])
def test_the_statuses_of_our_errors(status: int) -> None:
    """Every status that we answer with makes a valid response."""
    data = error_response(status, "x", hop="n", code="c", close=True, head_only=True, extra=[(b"retry-after", b"1")])
    head = parse_response_head(data, LIMITS)
    assert head.status == status
    assert head.get(b"retry-after") == b"1"


def test_nothing_is_injected_into_an_error() -> None:
    """Neither a hop's name nor a code can end a line; a bad extra field is our own mistake."""
    data = error_response(400, "x", hop="n\r\nX: y\x00ä", code="c\nd", close=False)
    assert (
        parse_response_head(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", LIMITS).get(b"x-pico-error")
        == b"n??X: y??; c?d"
    )
    for extra in [(b"a b", b"c"), (b"a", b"b\r\nc: d"), (b"", b"a"), (b"a", b"\x00")]:
        with pytest.raises(ValueError, match="may not stand"):
            error_response(400, "x", hop="n", code="c", close=False, extra=[extra])
    with pytest.raises(ValueError, match="may not stand"):
        error_response(400, "x", hop="n", code="c", close=False, date=b"a\r\nb")


# Anything

NAMES = st.sampled_from(
    [
        b"Connection", b"Upgrade", b"Via", b"X-Forwarded-For", b"Forwarded", b"X-Forwarded-Proto", b"X-Forwarded-Host",
        b"TE", b"Keep-Alive", b"Expect", b"x-pico-error", b"x_pico_error", b"X-Request-Id", b"Trailer", b"Cookie",
    ]
) | st.text("abcXYZ019-_!~.", min_size=1, max_size=12).map(str.encode)  # fmt: skip
VALUES = st.sampled_from(
    [b"", b"close", b"keep-alive, upgrade", b"Upgrade", b"websocket", b"h2c", b"host, cookie", b"1.1 pico-x", b"via,te"]
) | st.binary(max_size=20)
LINES = st.lists(st.tuples(NAMES, VALUES).map(lambda field: field[0] + b": " + field[1]), max_size=8)
HOSTS = st.sampled_from([b"a", b"a.b:1", b"[::1]:2", b"127.0.0.1"]) | st.binary(max_size=10)
STARTS = st.sampled_from(
    [b"GET / HTTP/1.1", b"GET http://b:1?c HTTP/1.1", b"OPTIONS * HTTP/1.0", b"OPTIONS http://c HTTP/1.1"]
) | st.binary(max_size=20).map(lambda target: b"POST /" + target + b" HTTP/1.1")
FRAMINGS = st.sampled_from([b"X: y", b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked"])
LENGTHS = st.sampled_from([KEEP, None]) | st.integers(0, 2**63 - 1)


@given(
    line=STARTS,
    host=HOSTS,
    framing=FRAMINGS,
    lines=LINES,
    client_ip=st.binary(max_size=20) | st.ip_addresses().map(lambda address: str(address).encode()),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    length=LENGTHS,
)
def test_whatever_is_taken_goes_on_well_formed(
    line: bytes,
    host: bytes,
    framing: bytes,
    lines: list[bytes],
    client_ip: bytes,
    flags: tuple[bool, bool, bool],
    length: int | Keep | None,
) -> None:
    """A request that we take is one that the next hops take, with the meaning that it had here; none of its bytes
    ends a line there, and none of it frames or addresses another message."""
    try:
        head = request(framing, *lines, line=line, host=host)
    except Http1Error:
        return
    https, trusted, chunked = flags
    if head.upgrade is not None and isinstance(length, int):
        length = KEEP  # an upgrade has no body, so nobody gives it a length
    try:
        onward = to_tunnel(head, client_ip=client_ip, https=https, trusted=trusted, endpoint=b"e", length=length)
    except Http1Error as error:
        assert error.status == 508
        return
    assert (onward.method, onward.target, onward.upgrade) == (head.method, head.target, head.upgrade)
    assert onward.host == head.host
    assert onward.length == (head.length if length is KEEP else length)
    assert not onward.chunked
    assert len(values(onward, b"x-forwarded-for")) == len(values(onward, b"forwarded")) == 1
    assert values(onward, b"x-pico-endpoint") == [b"e"]
    assert len(onward.fields) <= len(head.fields) + 9
    final = to_service(onward, chunked=chunked and onward.upgrade is None)
    assert (final.method, final.target, final.host, final.upgrade) == (
        head.method, head.target, head.host, head.upgrade
    )  # fmt: skip
    assert not [name for name in names(final) if name.replace(b"_", b"-").startswith(b"x-pico-")]


@given(
    line=st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.0 404 X", b"HTTP/1.1 204 N", b"HTTP/1.1 103 E", b"HTTP/1.1 101 S"]
    )
    | st.binary(max_size=20).map(lambda reason: b"HTTP/1.1 200 " + reason),
    framing=FRAMINGS,
    lines=LINES,
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    length=LENGTHS,
)
def test_whatever_a_service_answers_goes_on_well_formed(
    line: bytes, framing: bytes, lines: list[bytes], flags: tuple[bool, bool, bool], length: int | Keep | None
) -> None:
    """A response that we take is one that the client takes, as one response with the same status."""
    try:
        head = response(framing, *lines, line=line)
    except Http1Error:
        return
    onward = through_tunnel(head, length=length)
    assert (onward.status, onward.reason, onward.chunked) == (head.status, head.reason, False)
    assert not [name for name in names(onward) if name.replace(b"_", b"-").startswith(b"x-pico-")]
    close, chunked, version_11 = flags
    final = to_client(onward, close=close, chunked=chunked and version_11, version_11_client=version_11)
    assert (final.status, final.reason) == (head.status, head.reason)
    if head.status == 101:
        assert final.upgrade == head.upgrade
    else:
        assert final.upgrade is None
    if final.status >= 200 and final.status != 204:
        assert final.chunked is (chunked and version_11)
        assert final.keep_alive is not close

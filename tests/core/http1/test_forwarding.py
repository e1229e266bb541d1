"""Heads of requests as they go on: what is dropped, what is added, and that nothing can be smuggled through them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.account import Peer, account_of_peer, account_of_proxy
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import (
    MAX_PASSES,
    NO_HOST,
    REQUEST_ID_PATTERN,
    count_passes,
    request_to_service,
    request_to_tunnel,
    response_to_client,
)
from pico_twisted.core.http1.head import Framing, HeadLimits, RequestHead, parse_request_head
from tests.core.http1.forwarded import FRAMINGS, HOP_BY_HOP, LENGTHS, LIMITS, LINES, ROOMY, names, response, values


def request(*lines: bytes, line: bytes = b"GET /a?b HTTP/1.1", host: bytes | None = b"a.example") -> RequestHead:
    head = [line]
    if host is not None:
        head.append(b"Host: " + host)
    return parse_request_head(b"\r\n".join([*head, *lines, b"", b""]), LIMITS)


def to_tunnel(
    head: RequestHead,
    *,
    client_ip: bytes = b"192.0.2.7",
    https: bool = False,
    trusted: bool = False,
    request_id: bytes = b"id-1",
    endpoint: bytes | None = None,
    length: int | None = None,
    via: bytes | None = None,
) -> RequestHead:
    """The head as the agent reads it."""
    data = request_to_tunnel(
        head,
        account=account_of_peer(client_ip, https, head.host),
        peer=Peer(client_ip, https, (lambda _: True) if trusted else None),
        via=via,
        request_id=request_id,
        endpoint=endpoint,
        length=length,
    )
    return parse_request_head(data, ROOMY)


def to_service(head: RequestHead, *, host: bytes | None = None, chunked: bool = False) -> RequestHead:
    return parse_request_head(request_to_service(head, host=host, chunked=chunked), ROOMY)


# Requests


def test_a_request_to_the_tunnel() -> None:
    """What goes to an agent: the client's fields as they were, and ours behind them, byte for byte."""
    head = request(b"User-Agent: x", b"aCCept: */*", b"Content-Length: 05", b"X-Empty:", line=b"POST /a?b HTTP/1.1")
    account = account_of_peer(b"192.0.2.7", False, head.host)
    assert request_to_tunnel(head, account=account, peer=Peer(b"192.0.2.7"), request_id=b"id-1") == (
        b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\naCCept: */*\r\nX-Empty: \r\nContent-Length: 5\r\n"
        b"X-Forwarded-Host: a.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Port: 80\r\nForwarded: for=192.0.2.7;proto=http;host=a.example\r\n"
        b"x-request-id: id-1\r\nCDN-Loop: pico\r\n\r\n"
    )


def test_a_request_to_the_service() -> None:
    """What the agent sends on keeps what the node set, and adds nothing: no Via either."""
    head = to_tunnel(request(b"Cookie: a"))
    assert request_to_service(head, host=None, chunked=False) == (
        b"GET /a?b HTTP/1.1\r\nHost: a.example\r\nCookie: a\r\n"
        b"X-Forwarded-Host: a.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Port: 80\r\nForwarded: for=192.0.2.7;proto=http;host=a.example\r\n"
        b"x-request-id: id-1\r\nCDN-Loop: pico\r\n\r\n"
    )


def test_the_length_of_a_request() -> None:
    """Content-Length is the head's own, or another; a tunnel never sees Transfer-Encoding."""
    head = request(b"Content-Length: 3")
    assert to_tunnel(head).length == 3
    assert to_tunnel(head, length=7).length == 7
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
    assert request_to_service(head, host=None, chunked=False).count(b"Content-Length: 3\r\n") == 1
    assert b"ontent-" not in request_to_service(request(), host=None, chunked=False)


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


RELATIVES = [
    "X-Forwarded",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Prefix",
    "X-Original-Forwarded-For",
    "Forwarded-For",
    "Client-IP",
    "X-Client-IP",
    "True-Client-IP",
    "X-Cluster-Client-IP",
    "CF-Connecting-IP",
    "X-Remote-Addr",
    "Front-End-Https",
    "X-Scheme",
]


@pytest.mark.parametrize("name", RELATIVES)
def test_what_only_a_proxy_can_know(name: str) -> None:
    """Relatives of the forwarding fields are dropped from strangers, and go on from a trusted proxy as they are."""
    head = request(name.encode() + b": 198.51.100.1", b"X-Client: 1")
    assert name.lower().encode() not in names(to_tunnel(head))
    assert to_tunnel(head).get(b"x-client") == b"1"
    vouched = to_tunnel(head, trusted=True)
    assert values(vouched, name.lower().encode()) == [b"198.51.100.1"]
    assert to_service(vouched).get(name.lower().encode()) == b"198.51.100.1"


@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"x-forwarded_proto",
        b"x_forwarded_host",
        b"X_Request_Id",
        b"X_Real_IP",
        b"X.Forwarded-For",
        b"True_Client-IP",
        b"CONTENT_LENGTH",
        b"Transfer_Encoding",
    ],
)
def test_names_in_disguise(name: bytes) -> None:
    """A service that turns names into CGI variables cannot be shown one of ours that we did not set."""
    head = request(name + b": 1", b"x_other: 2")
    for onward in (to_tunnel(head), to_tunnel(head, trusted=True), to_service(head)):
        assert name.lower() not in names(onward)
        assert onward.get(b"x_other") == b"2"


def test_a_request_without_a_host() -> None:
    """An HTTP/1.0 request without Host goes on as HTTP/1.1 with one, and no Host is claimed to be the client's."""
    onward = to_tunnel(request(line=b"GET / HTTP/1.0", host=None))
    assert (onward.version_11, onward.host) == (True, b"localhost")
    assert b"x-forwarded-host" not in names(onward)
    assert values(onward, b"forwarded") == [b"for=192.0.2.7;proto=http"]
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
    assert REQUEST_ID_PATTERN.fullmatch(b"abc-1.2_3")
    for bad in (b"", b"a b", b"a,b", b"a\tb", b"a/b", b'"a"', b"a" * 129):
        assert not REQUEST_ID_PATTERN.fullmatch(bad)
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
            to_tunnel(head, via=bad)
        with pytest.raises(ValueError, match="Via"):
            response_to_client(response(), Framing.NO_BODY, close=False, via=bad)


def test_via_is_appended_where_it_is_wanted() -> None:
    """Via says every hop in order, with the version that the message came in (RFC 9110 7.6.3); ours only if told to."""
    head = request(b"Via: 1.0 first, HTTP/1.1 second (x, y)", line=b"GET / HTTP/1.0")
    assert values(to_service(to_tunnel(head, via=b"pico-n1")), b"via") == [
        b"1.0 first, HTTP/1.1 second (x, y)",
        b"1.0 pico-n1",
    ]
    assert values(to_service(to_tunnel(head)), b"via") == [b"1.0 first, HTTP/1.1 second (x, y)"]
    assert b"via" not in names(to_service(to_tunnel(request())))


def test_what_we_add_stays_within_the_limits_of_the_next_hop() -> None:
    """A head that is just within its limits grows as it goes on, and no further than the next hop leaves room for."""
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
            account=account_of_proxy(head, Peer(address, True, lambda _: True))
            if trusted
            else account_of_peer(address, True, host),
            peer=Peer(address),
            via=b"pico-" + b"n" * 64,
            request_id=b"r" * 128,
            endpoint=b"e" * 128,
        )
        with pytest.raises(Http1Error):
            parse_request_head(onward, limits)
        assert len(onward) <= 2000 + 2 * 1024, "between a node's limit and that of the next hop are 2 KiB and 10 fields"
        assert onward.count(b"\r\n") - 2 <= 10 + 10


def test_a_long_way_stays_within_the_limits_of_the_next_hop() -> None:
    """However many trusted proxies a request came through, its head grows by no more than 2 KiB."""
    chain = b", ".join(b"fd00:ffff:ffff:ffff:ffff:ffff:ffff:%04x" % number for number in range(4096, 4136))
    start = b"GET / HTTP/1.1\r\nHost: " + b"a" * 255 + b"\r\nX-Real-IP: ::1\r\nX-Forwarded-For: "
    data = start + chain + b"\r\n\r\n"
    head = parse_request_head(data, LIMITS)
    peer = Peer(b"fd00::1", True, lambda _: True)
    account = account_of_proxy(head, peer)
    onward = request_to_tunnel(head, account=account, peer=peer, request_id=b"r" * 128, endpoint=b"e" * 128)
    assert len(account.proxies) == 8
    assert parse_request_head(onward, ROOMY).get(b"x-real-ip") == account.address
    assert len(onward) <= len(data) + 2 * 1024


def test_a_request_that_goes_in_circles() -> None:
    """A request that came to a proxy port of ours ten times is 508, whatever others have written into CDN-Loop."""
    assert count_passes(request()) == 0
    assert count_passes(request(b"CDN-Loop: pico;v=1, other, pico", b"CDN-Loop: picos, x;pico ,pico")) == 3
    head = request(b"CDN-Loop: other; v=2")
    for number in range(MAX_PASSES):
        assert count_passes(head) == number
        assert values(head, b"cdn-loop")[0] == b"other; v=2"
        head = to_service(to_tunnel(head))
    with pytest.raises(Http1Error) as caught:
        to_tunnel(head)
    assert (caught.value.status, caught.value.code) == (508, "loop")
    head = request(b"CDN-Loop: pico", b"Connection: cdn-loop")
    assert count_passes(to_tunnel(head)) == 2, "Connection does not name it away"


def test_a_circle_of_older_nodes_and_agents() -> None:
    """What older hops of ours say of themselves in Via finds a circle of which they are a part; others do not count."""
    assert (
        count_passes(request(b"Via: 1.1 pico-a, 1.0 other,HTTP/1.1 pico-b (c)", b"Via: 1.1 pico-a, 1.1 xpico-c")) == 3
    )
    with pytest.raises(Http1Error) as caught:
        to_tunnel(request(*[b"Via: 1.1 pico-a"] * MAX_PASSES))
    assert caught.value.code == "loop"


HOSTS = st.sampled_from([b"a", b"a.b:1", b"[::1]:2", b"127.0.0.1"]) | st.binary(max_size=10)
STARTS = st.sampled_from(
    [b"GET / HTTP/1.1", b"GET http://b:1?c HTTP/1.1", b"OPTIONS * HTTP/1.0", b"OPTIONS http://c HTTP/1.1"]
) | st.binary(max_size=20).map(lambda target: b"POST /" + target + b" HTTP/1.1")


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
    length: int | None,
) -> None:
    """A request that we take is one that the next hops take, with the meaning that it had here; none of its bytes
    ends a line there, and none of it frames or addresses another message."""
    try:
        head = request(framing, *lines, line=line, host=host)
    except Http1Error:
        return
    https, trusted, chunked = flags
    if head.upgrade is not None and isinstance(length, int):
        length = None  # an upgrade has no body, so nobody gives it a length
    try:
        onward = to_tunnel(head, client_ip=client_ip, https=https, trusted=trusted, endpoint=b"e", length=length)
    except Http1Error as error:
        assert error.status == 508
        return
    assert (onward.method, onward.target, onward.upgrade) == (head.method, head.target, head.upgrade)
    assert onward.host == (head.host or NO_HOST)
    assert onward.length == (head.length if length is None else length)
    assert not onward.chunked
    assert len(values(onward, b"x-forwarded-for")) == len(values(onward, b"forwarded")) == 1
    assert values(onward, b"x-pico-endpoint") == [b"e"]
    assert len(onward.fields) <= len(head.fields) + 10
    final = to_service(onward, chunked=chunked and onward.upgrade is None)
    assert (final.method, final.target, final.host, final.upgrade) == (
        head.method, head.target, head.host or NO_HOST, head.upgrade
    )  # fmt: skip
    assert not [name for name in names(final) if name.replace(b"_", b"-").startswith(b"x-pico-")]

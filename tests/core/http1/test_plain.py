"""Plain heads: they go on as they came, and nothing shows that they did."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import permutations, product
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.field_names import ACCOUNT, FRAMING, HOP_BY_HOP, ONWARD, OURS, REQUEST_ID, TELL_OF_CLIENTS
from pico_twisted.core.http1 import fields
from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import (
    request_from_link,
    request_to_service,
    request_to_tunnel,
    response_to_client,
    response_to_tunnel,
)
from pico_twisted.core.http1.head import (
    Framing,
    HeadLimits,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from pico_twisted.core.http1.plain import (
    FOR_AGENTS,
    FOR_ALL,
    FOR_NODES,
    PLAIN_FOR_AGENT,
    PLAIN_FOR_NODE,
    PLAIN_RESPONSE,
)
from pico_twisted.core.http1.streams import never_ends
from tests.structure.source import modules

LIMITS = HeadLimits()
NEVER = re.compile(rb"(?!)")
ACCOUNT_OF_ALL = account_of_peer(b"192.0.2.7", True, b"a.example")
PEERS = [Peer(b"192.0.2.7"), Peer(b"192.0.2.7", trusts=lambda _: True), Peer(b"192.0.2.7", connection=b"0" * 32)]

ORDINARY = [
    b"Accept",
    b"cookie",
    b"User-Agent",
    b"Upgrade-Insecure-Requests",
    b"Server",
    b"ETag",
    b"Content-Type",
    b"vary",
]
BEGINNINGS = (b"x-pico-error", b"X-Pico-Error", b"x-forwarded-for-us", b"Forwarded-By")
TOLD = (b"x-pico-endpoint", b"x-pico-authorization")
SPECIAL = sorted(FOR_NODES | FOR_AGENTS | FOR_ALL | {b"Keep-Alive", b"X_Forwarded_For", b"content_length"})
NAMES = st.sampled_from(ORDINARY) | st.sampled_from(ORDINARY) | st.sampled_from([*SPECIAL, *BEGINNINGS])
VALUES = st.sampled_from(
    [
        b"a",
        b"a b\tc",
        b"\xe4",
        b"text/event-stream",
        b"1.1 pico-x",
        b"pico",
        b"trailers",
        b"5",
        b"",
        b" a",
        b"a ",
        b"close",
    ]
)
FREE = st.tuples(NAMES, VALUES).map(b": ".join)
KEPT = st.sampled_from([b"Connection: keep-alive", b"connection: Keep-Alive"])
FRAMED = st.sampled_from(
    [b"Content-Length: 5", b"content-length: 007", b"Transfer-Encoding: chunked", b"Content-Length: 0"]
)
TELLING = st.tuples(
    st.sampled_from([*TOLD, b"X-Pico-Endpoint", b"x-Pico-authorization"]),
    VALUES | st.sampled_from([b"Bearer a", b"Bearer a b", b"Bearer  a"]),
).map(b": ".join)
LINES = st.lists(FREE | FREE | FREE | KEPT | FRAMED | TELLING, max_size=6)
FIRST = st.sampled_from([b"GET / HTTP/1.1", b"GET /a?b=%20 HTTP/1.1", b"DELETE /x HTTP/1.0", b"OPTIONS * HTTP/1.1"])
HOSTS = st.sampled_from(
    [b"Host: a.example", b"Host: a.example:80", b"host: a.example", b"Host: a.example:", b"Host: ["]
)
STATUS = st.sampled_from(
    [b"200 OK", b"404 ", b"204 No Content", b"304 x", b"100 Continue", b"599 \xe4", b"200", b"601 a"]
)


def read_both_ways(data: bytes, pattern: re.Pattern[bytes]) -> list[RequestHead]:
    """A head as it may be plain, and as it is read in the general way; none when it is refused."""
    head, general = (_tried(parse_request_head, data, LIMITS, way) for way in (pattern, None))
    assert head == general
    if not isinstance(head, RequestHead):
        return []
    assert general.plain is None
    told = {name: value for name, value in general.by_name.items() if name in TOLD}
    assert head.special == (told if head.plain is not None else general.by_name)
    return [head, general]


def same_from_client(data: bytes, peer: Peer, via: bytes | None, endpoint: bytes | None, length: int | None) -> None:
    """Fails when it shows that a client's request was taken for plain."""
    written = {
        _tried(
            request_to_tunnel,
            head,
            account=ACCOUNT_OF_ALL,
            peer=peer,
            request_id=b"id-1",
            via=via,
            endpoint=endpoint,
            length=length,
        )
        for head in read_both_ways(data, PLAIN_FOR_NODE)
    }
    assert len(written) <= 1


def same_from_node(data: bytes, host: bytes | None, chunked: bool, trailers: bool) -> None:
    """Fails when it shows that a node's request was taken for plain."""
    heads = read_both_ways(data, PLAIN_FOR_AGENT)
    assert len({request_to_service(head, host=host, chunked=chunked, trailers=trailers) for head in heads}) <= 1
    assert len({request_from_link(head) for head in heads}) <= 1


VIAS = st.sampled_from([None, b"pico-n1"])


@given(
    FIRST, HOSTS, LINES, st.sampled_from(PEERS), VIAS, st.sampled_from([None, b"e-1"]), st.sampled_from([None, None, 7])
)
def test_requests_of_clients(
    first: bytes,
    host: bytes,
    lines: list[bytes],
    peer: Peer,
    via: bytes | None,
    endpoint: bytes | None,
    length: int | None,
) -> None:
    """A client's request goes on in the same bytes, whether it was taken for plain or not."""
    same_from_client(b"\r\n".join([first, host, *lines, b"", b""]), peer, via, endpoint, length)


@given(FIRST, HOSTS, LINES, st.sampled_from([None, b"b.example"]), st.booleans(), st.booleans())
def test_requests_of_nodes(
    first: bytes, host: bytes, lines: list[bytes], other_host: bytes | None, chunked: bool, trailers: bool
) -> None:
    """What a node wrote goes to the service in the same bytes."""
    same_from_node(b"\r\n".join([first, host, *lines, b"", b""]), other_host, chunked, trailers)


def same_response(status: bytes, lines: Iterable[bytes], close: bool, via: bytes | None, chunked: bool) -> None:
    """Fails when it shows that a response was taken for plain."""
    data = b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])
    head = _tried(parse_response_head, data, LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pico_twisted.core.http1.head.PLAIN_RESPONSE", NEVER)
        general = _tried(parse_response_head, data, LIMITS)
    if not isinstance(head, ResponseHead) or not isinstance(general, ResponseHead):
        assert head == general
        return
    assert head == general and general.plain is None
    assert head.special == ({} if head.plain is not None else general.by_name)
    assert response_to_tunnel(head) == response_to_tunnel(general)
    framing = Framing.IN_CHUNKS if chunked else Framing.BY_LENGTH
    written = [
        response_to_client(one, framing, close=close, request_id=b"id-1", via=via, trailers=chunked)
        for one in (head, general)
    ]
    assert written[0] == written[1]
    assert never_ends(head) == never_ends(general)


@given(STATUS, LINES, st.booleans(), VIAS, st.booleans())
def test_responses(status: bytes, lines: list[bytes], close: bool, via: bytes | None, chunked: bool) -> None:
    """A response goes through the tunnel, and on to the client, in the same bytes."""
    same_response(status, lines, close, via, chunked)


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 "])
def test_lines_in_any_order(status: bytes) -> None:
    """What frames a body or keeps a connection may stand anywhere, and is taken out wherever it stands."""
    there = [b"A: b", b"Connection: keep-alive", b"Content-Length: 5", b"connection: Keep-Alive", b"C: d", b"E: f"]
    for order in permutations(there):
        for lines in (order, (*order[:3], b"Transfer-Encoding: chunked")):
            same_response(status, lines, close=False, via=None, chunked=lines is not order)
            data = b"\r\n".join([b"POST / HTTP/1.1\r\nHost: a.example", *lines, b"", b""])
            same_from_client(data, PEERS[0], None, None, None)
            same_from_node(data, None, lines is not order, False)


def _tried(function: Any, *arguments: Any, **options: Any) -> Any:
    """What a function returns, or the error that it ends with."""
    try:
        return function(*arguments, **options)
    except Http1Error as error:
        return str(error)


def with_line(line: bytes, first: bytes = b"GET / HTTP/1.1\r\nHost: a.example") -> bytes:
    return b"\r\n".join([first, b"Accept: */*", line, b"Cookie: a=b", b"", b""])


def is_plain(pattern: re.Pattern[bytes], line: bytes) -> bool:
    first = b"HTTP/1.1 200 OK" if pattern is PLAIN_RESPONSE else b"GET / HTTP/1.1\r\nHost: a.example"
    return pattern.fullmatch(with_line(line, first)) is not None


ALL_THREE: Final = (PLAIN_FOR_NODE, PLAIN_FOR_AGENT, PLAIN_RESPONSE)


def test_ordinary_heads_are_plain() -> None:
    """The heads that most requests have go the short way: a browser's, what a node makes of it, and answers."""
    for pattern in ALL_THREE:
        for line in (
            *(b"X-A: b", b"Upgrade-Insecure-Requests: 1", b"Connection: keep-alive", b"connection: Keep-Alive"),
            *(b"Content-Length: 5", b"content-length: 0", b"Transfer-Encoding: chunked", b"Content-Type: text/plain"),
        ):
            assert is_plain(pattern, line), line
    head = parse_request_head(with_line(b"Connection: keep-alive"), LIMITS, PLAIN_FOR_NODE)
    onward = request_to_tunnel(head, account=ACCOUNT_OF_ALL, peer=PEERS[0], request_id=b"id-1", via=b"pico-n1")
    assert head.plain is not None and parse_request_head(onward, LIMITS, PLAIN_FOR_AGENT).plain is not None
    for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Set-Cookie: a=b"):
        response = parse_response_head(with_line(line, b"HTTP/1.1 200 OK"), LIMITS)
        assert response.plain is not None
        assert parse_response_head(response_to_tunnel(response), LIMITS).plain is not None


def test_no_head_is_plain_that_some_hop_acts_on() -> None:
    """Whatever its case, a field that is dropped, written anew or acted on keeps a head from being plain."""
    begin = [b"x-pico-error", b"x-pico-"]
    wanted = {
        PLAIN_FOR_NODE: [
            *OURS,
            *TELL_OF_CLIENTS,
            *HOP_BY_HOP,
            *FRAMING,
            *FOR_NODES,
            *begin,
            b"x-forwarded",
            b"forwardedx",
        ],
        PLAIN_FOR_AGENT: [*ONWARD, *HOP_BY_HOP, *FRAMING, *FOR_AGENTS, *begin],
        PLAIN_RESPONSE: [*HOP_BY_HOP, *FRAMING, *REQUEST_ID, *FOR_ALL, *begin],
    }
    for pattern, names in wanted.items():
        for name, case in product(names, (bytes.lower, bytes.upper, bytes.title, bytes.swapcase)):
            assert not is_plain(pattern, case(name) + b": a"), name
    assert all(is_plain(PLAIN_FOR_AGENT, name + b": a") for name in ACCOUNT | REQUEST_ID)
    for kind in (b"application/grpc", b"Application/GRPC-Web+proto"):
        assert not is_plain(PLAIN_FOR_NODE, b"content-type: " + kind)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"A:b",
            b"A:  b",
            b"A: b ",
            b"A: b\t",
            b"A: ",
            b"A:",
            b"A : b",
            b" A: b",
            b"A",
            b"",
            b"A: b\r",
            b"A: b\rc: d",
        ),
        *(b"A: b\nc: d", b"A: \x00", b"A: \x7f", b"A_B: c", b"A.B: c", b"X_Pico_Error: c", b"A\xe4: b", b"A: b\r\n c"),
        *(b"Connection: close", b"Connection: keep-alive, x", b"Connection:keep-alive", b"Content-Length: +5"),
        *(b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        *(b"Transfer-Encoding: gzip, chunked", b"Content-Length: " + b"9" * 19, b"Host: a.example"),
    ],
)
def test_lines_that_keep_a_head_from_being_plain(line: bytes) -> None:
    """A line that we would write otherwise, or that is none, is left to the general way; a second Host is, too."""
    assert not any(
        is_plain(pattern, line) for pattern in ALL_THREE if pattern is not PLAIN_RESPONSE or line[:4] != b"Host"
    )


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: keep-alive"])
@pytest.mark.parametrize("begin", [b"x-pico-", b"X-Forwarded", b"Forwarded"])
def test_names_that_end_in_another_one(begin: bytes, framing: bytes) -> None:
    """A field whose name begins like one that is ours, and ends like one that frames the body, says nothing of it:
    Python 3.11.2 went on in the middle of such a line, and whoever read it before us did not."""
    for line in (begin + framing, begin + framing + b"\r\nA: b", b"A: b\r\n" + begin + framing):
        head = parse_request_head(
            b"POST / HTTP/1.1\r\nHost: a.example\r\n" + line + b"\r\n\r\n", LIMITS, PLAIN_FOR_NODE
        )
        assert (head.length, head.chunked, head.connection, head.plain) == (None, False, frozenset(), None)


def test_limits_hold() -> None:
    """A plain head is held to the same limits as any other, with the same answers."""
    data = with_line(b"A: b")
    for limits, status in (
        (HeadLimits(head_bytes=len(data) - 1), 431),
        (HeadLimits(fields=3), 431),
        (HeadLimits(target_bytes=0), 414),
    ):
        with pytest.raises(Http1Error) as caught:
            parse_request_head(data, limits, PLAIN_FOR_NODE)
        assert caught.value.status == status
    assert parse_request_head(data, HeadLimits(head_bytes=len(data), fields=4, target_bytes=1), PLAIN_FOR_NODE).plain
    data = with_line(b"A: b", b"HTTP/1.1 200 OK")
    for limits in (HeadLimits(head_bytes=len(data) - 1), HeadLimits(fields=2)):
        with pytest.raises(Http1Error):
            parse_response_head(data, limits)


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("name", [*TOLD, b"X-Pico-Endpoint"])
def test_what_is_told_a_node_alone(name: bytes, at: int) -> None:
    """An endpoint or a token is read, and goes nowhere; the head around it is as plain as without it, wherever the line
    stands. Told twice it is refused, and in another form it is for the general way."""
    lines = [b"GET / HTTP/1.1", b"Host: a.example", b"Accept: */*", b"Connection: keep-alive", b"Cookie: a=b"]

    def read(*more: bytes) -> RequestHead:
        return parse_request_head(b"\r\n".join((*lines[:at], *more, *lines[at:], b"", b"")), LIMITS, PLAIN_FOR_NODE)

    head = read(name + b": Bearer b")
    assert (head.plain, head.special) == (read().plain, {name.lower(): b"Bearer b"})
    assert head.by_name[name.lower()] == b"Bearer b" and len(head.fields) == 5
    longer = head.replace(length=7)
    assert (longer.length, longer.special[name.lower()]) == (7, b"Bearer b")
    with pytest.raises(Http1Error):
        read(name + b": b", name.upper() + b": b")
    for line in (b": a b c", b":b", b": b ", b":  b", b": \xe4", b":"):
        head = read(name + line)
        assert head.plain is None and head.special == head.by_name
    for name in (b"x-pico-endpoin", b"x-pico-endpoint-x", b"x-pico-error"):
        assert read(name + b": b").plain is None


@pytest.mark.parametrize("most", [1, 2, 30])
def test_the_shortest_fields_are_counted(most: int) -> None:
    """No head is so small that one with too many fields passes: not with names and values of one byte each."""
    limits = HeadLimits(fields=most)
    for first, parsed in (
        (b"GET / HTTP/1.1\r\nHost: a", lambda data: parse_request_head(data, limits, PLAIN_FOR_NODE)),
        (b"HTTP/1.1 200 \r\na: b", lambda data: parse_response_head(data, limits)),
    ):
        lines = [first, *[b"a: b"] * (most - 1)]
        assert parsed(b"\r\n".join((*lines, b"", b""))).plain is not None
        with pytest.raises(Http1Error):
            parsed(b"\r\n".join((*lines, b"a: b", b"", b"")))


def test_a_changed_head_is_not_plain() -> None:
    """Whoever changes a head has it written from its parts; a length alone is none of them."""
    for head in (
        parse_request_head(with_line(b"A: b"), LIMITS, PLAIN_FOR_NODE),
        parse_response_head(with_line(b"A: b", b"HTTP/1.1 200 OK"), LIMITS),
    ):
        changed = head.replace(fields=[*head.fields, (b"c", b"C", b"d")])
        assert (head.plain is None, changed.plain, changed.raw) == (False, None, b"")
        assert changed.by_name == head.by_name == changed.special
        longer = head.replace(length=7)
        assert (longer.length, longer.plain, longer.raw) == (7, head.plain, head.raw)


# Hostile heads


def repeats(parsed: Any) -> list[tuple[Any, int]]:
    """The repetitions in an expression that may go back, and how often they repeat at most."""
    found = []
    for kind, argument in parsed:
        if kind is _constants.ATOMIC_GROUP and len(argument) == 1 and argument[0][0] is _constants.MAX_REPEAT:
            argument = argument[0][1]  # which goes back no more once the group is over
        elif kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            found.append((kind, argument[1]))
        for part in argument if isinstance(argument, tuple | list) else [argument]:
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, _parser.SubPattern):
                    found += repeats(one)
    return found


@pytest.mark.parametrize("pattern", [*ALL_THREE, fields._FIELD_LINE, fields._PROTOCOL, fields.MASKED_CODING])
def test_no_expression_goes_back(pattern: re.Pattern[bytes]) -> None:
    """No repetition gives back what it took, so that a head costs time in proportion to its bytes; only whole lines
    that may be there once are tried both ways."""
    assert len(repeats(_parser.parse(rb"(a*(?:b{2,3}?)|(?!c+)d)*+e++(?>(?:f*g)+)(?>h+i)"))) == 5
    assert all(most == 1 for _, most in repeats(_parser.parse(pattern.pattern)))


FILLINGS = [
    *(
        b"A: b\r\n",
        b"A:",
        b"a",
        b" ",
        b"\t",
        b":",
        b"\r",
        b"\n",
        b"\r\n",
        b"A: b \r\n",
        b"A: b\r\n ",
        b"A: b\tc ",
        b"content-",
    ),
    *(b"Connection: keep-alive\r\n", b"Content-Length: 5\r\n", b"X-Pico-", b"A: b\r\nTE: c\r\n", b"A: " + b" b" * 99),
]


@pytest.mark.parametrize("filling", FILLINGS)
def test_heads_full_of_one_thing(filling: bytes) -> None:
    """A head of 32 KiB that is nearly plain over and over is answered, and not thought about."""
    for ending in (b"\r\n\r\n", b"\x00\r\n\r\n", b"x", b": \r\n\r\n"):
        for start in (b"GET / HTTP/1.1\r\nHost: a.example\r\n", b"HTTP/1.1 200 OK\r\n", b""):
            data = start + filling * (32 * 1024 // len(filling)) + ending
            for pattern in (*ALL_THREE, fields._FIELD_LINE, fields.MASKED_CODING):
                pattern.search(data)
            with pytest.raises(Http1Error):
                parse_request_head(data, LIMITS, PLAIN_FOR_NODE)
            with pytest.raises(Http1Error):
                parse_response_head(data, LIMITS)


# Who asks


def test_only_special_fields_are_asked_for_as_such() -> None:
    """What is asked of `special` keeps every head from being plain that has it: otherwise the answer would hang on the
    way that a head went."""
    named = {"HEADER": b"x-pico-endpoint", "AGENT": b"x-pico-agent", "CLIENT_CONNECTION": b"x-pico-client-connection"}
    known_in = {
        "pico_twisted.net.proxy.resource": FOR_NODES | {b"content-type"},  # of gRPC, which is never plain
        "pico_twisted.core.http1.forwarding": FOR_NODES | FOR_ALL,
        "pico_twisted.core.http2.forwarding": FOR_ALL,
        "pico_twisted.net.agent.serving.exchange": FOR_ALL,
    }
    asked = 0
    for name, module in modules().items():
        known = known_in.get(name, FOR_AGENTS)
        for node in ast.walk(ast.parse(module.text)) if "special" in module.text else ():
            key = _key_of_special(node)
            if key is None:
                continue
            asked += 1
            lower = named[key.id] if isinstance(key, ast.Name) else ast.literal_eval(key)
            assert lower in known or lower.startswith(b"x-pico-"), (name, lower)
    assert asked > 20


def _key_of_special(node: ast.AST) -> ast.expr | None:
    """What is asked of `special`, or of a name for it, if this asks it."""

    def is_special(one: ast.expr) -> bool:
        return (isinstance(one, ast.Attribute) and one.attr == "special") or (
            isinstance(one, ast.Name) and one.id == "special"
        )

    if (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.In | ast.NotIn)
        and is_special(node.comparators[0])
    ):
        return node.left
    if isinstance(node, ast.Subscript) and is_special(node.value):
        return node.slice
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_special(node.func.value):
        return node.args[0]
    return None


def test_the_names_are_those_that_the_general_way_goes_by() -> None:
    """What nodes write anew, and what belongs to one connection, is special on each way."""
    assert ONWARD <= FOR_AGENTS <= FOR_NODES
    assert OURS | TELL_OF_CLIENTS <= FOR_NODES
    assert HOP_BY_HOP | FRAMING <= FOR_ALL

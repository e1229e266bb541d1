"""Heads of responses as they go on: what is dropped and added, nothing smuggled, and answers of our own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import response_to_client, response_to_tunnel
from pico_twisted.core.http1.head import END, Framing, ResponseHead, parse_response_head, response_framing
from tests.core.http1.forwarded import FRAMINGS, HOP_BY_HOP, LENGTHS, LIMITS, LINES, ROOMY, names, response, values

# Responses


def to_client(
    head: ResponseHead,
    *,
    close: bool = False,
    chunked: bool = False,
    version_11_client: bool = True,
    length: int | None = None,
) -> ResponseHead:
    """The head as the client reads it."""
    framing = response_framing(head, b"GET")
    if framing not in (Framing.NO_BODY, Framing.RAW):
        framing = Framing.IN_CHUNKS if chunked else Framing.BY_LENGTH
    if length is not None:
        head = head.replace(length=length)
    data = response_to_client(head, framing, close=close, request_id=b"id-1", version_11_client=version_11_client)
    return parse_response_head(data, ROOMY)


def through_tunnel(head: ResponseHead, *, length: int | None = None) -> ResponseHead:
    """The head as the node reads it."""
    if length is not None:
        head = head.replace(length=length)
    return parse_response_head(response_to_tunnel(head), ROOMY)


def test_a_response() -> None:
    """What goes back: the service's fields as they were, our framing, and the ID of the request."""
    head = response(
        b"Server: x", b"Date: d", b"Content-Length: 05", b"Set-Cookie: a", b"Set-Cookie: b", b"Keep-Alive: 5"
    )
    data = response_to_tunnel(head)
    assert data == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: d\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\n"
    )
    onward = parse_response_head(data, LIMITS)
    assert response_to_client(onward, Framing.BY_LENGTH, close=True, request_id=b"id-1", via=b"pico-n1") == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: d\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nx-request-id: id-1\r\n"
        b"Content-Length: 5\r\nConnection: close\r\nVia: 1.1 pico-n1\r\n\r\n"
    )


def test_the_id_of_the_request() -> None:
    """A client is told the ID of its request, unless its service tells it one of its own: that one goes on alone."""
    assert values(to_client(response()), b"x-request-id") == [b"id-1"]
    assert values(to_client(response(b"X-Request-Id: theirs")), b"x-request-id") == [b"theirs"]
    assert b"x-request-id" not in response_to_client(response(line=b"HTTP/1.1 103 E"), Framing.NO_BODY, close=False)


def test_vias_of_older_agents() -> None:
    """A client does not see which agents and nodes of ours there are; what others say in Via goes on."""
    for told, left in (
        (b"1.1 pico-a", []),
        (b"1.0 x, 1.1 pico-a", [b"1.0 x"]),
        (b"1.1 pico-a,1.0 x (y, z)", [b"1.0 x (y, z)"]),
    ):
        assert values(to_client(response(b"Via: " + told, b"X: y")), b"via") == left


def test_the_framing_of_a_response() -> None:
    """A client gets a length, chunks, or the end of the connection, by what the caller knows; never two of them."""
    chunked = response(b"Transfer-Encoding: chunked")
    assert b"transfer-encoding" not in names(through_tunnel(chunked))
    assert through_tunnel(chunked, length=4).length == 4
    assert to_client(through_tunnel(chunked), chunked=True).chunked
    assert names(to_client(response(b"Content-Length: 3"), chunked=True)) == [b"x-request-id", b"transfer-encoding"]
    assert to_client(response(b"Content-Length: 3"), length=8).length == 8
    assert to_client(response()).length is None
    assert names(to_client(chunked)) == [b"x-request-id"]


@pytest.mark.parametrize("status", [100, 103, 204])
def test_statuses_that_have_no_body(status: int) -> None:
    """1xx and 204 carry no framing whatever the caller says, and no interim response closes anything."""
    head = response(b"Content-Length: 5", b"Link: l", line=b"HTTP/1.1 %d X" % status)
    onward = through_tunnel(head, length=7)
    assert names(onward) == [b"link"]
    for chunked in (False, True):
        assert b"transfer-encoding" not in names(to_client(head, chunked=chunked, length=7))
        assert b"content-length" not in names(to_client(head, chunked=chunked, length=7))
    assert (b"connection" in names(to_client(head, close=True))) is (status >= 200)


def test_not_modified_and_head_keep_their_length() -> None:
    """The length in an answer to HEAD and in a 304 speaks of what is not there: it goes on, chunks do not."""
    head = response(b"Content-Length: 5", line=b"HTTP/1.1 304 Not Modified")
    assert to_client(through_tunnel(head)).length == 5
    assert names(to_client(response(line=b"HTTP/1.1 304 Not Modified"), chunked=True)) == [b"x-request-id"]


def test_clients_that_speak_http_10() -> None:
    """An HTTP/1.0 client is told when its connection is kept, and never gets chunks."""
    head = response(b"Content-Length: 5")
    assert to_client(head, version_11_client=False).get(b"connection") == b"keep-alive"
    assert to_client(head, version_11_client=False, close=True).get(b"connection") == b"close"
    assert b"connection" not in names(to_client(head))
    with pytest.raises(ValueError, match="chunks"):
        to_client(head, version_11_client=False, chunked=True)


def test_a_response_of_http_10() -> None:
    """A response from an HTTP/1.0 service goes on as HTTP/1.1."""
    assert through_tunnel(response(b"Content-Length: 1", line=b"HTTP/1.0 200 OK")).version_11


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
        assert [name for name in names(onward) if name != b"x-request-id"] == [b"connection", b"upgrade"]
        assert (onward.upgrade, onward.get(b"connection")) == (b"a", b"Upgrade")


def test_a_service_does_not_speak_for_us() -> None:
    """`x-pico-*` of a service ends at the agent, and what an agent says itself at the node."""
    head = response(b"x-pico-error: forged", b"X-Pico-Other: 1", b"X: y")
    assert names(through_tunnel(head)) == [b"x"]
    onward = to_client(head)
    assert not [name for name in names(onward) if b"pico" in name]
    head = response(b"Connection: keep-alive", b"Keep-Alive: 5")
    assert b"alive" not in response_to_client(head, Framing.BY_CLOSE, close=False).lower()


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
    line: bytes, framing: bytes, lines: list[bytes], flags: tuple[bool, bool, bool], length: int | None
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

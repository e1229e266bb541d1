"""Trailers: what of them goes on, and how chunked bodies end with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.field_names import plain_name
from pico_twisted.core.header_edits import HeaderEdits
from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.chunked import ChunkedDecoder, last_chunk
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import (
    request_from_link,
    request_to_service,
    request_to_tunnel,
    response_to_client,
    response_to_tunnel,
    without_te,
)
from pico_twisted.core.http1.head import END, Framing, HeadLimits, RequestHead, parse_request_head, parse_response_head
from pico_twisted.core.http1.server import ServerConnection
from pico_twisted.core.http1.trailers import (
    MAX_BLOCK_BYTES,
    MAX_TRAILERS,
    TrailersError,
    cleaned,
    fault_in,
    read_block,
    takes_trailers,
    write_block,
)
from tests.core.http1.pieces import cut
from tests.core.http1.request_heads import with_fields

LIMITS = HeadLimits()

GO_ON = [
    b"grpc-status", b"grpc-message", b"grpc-status-details-bin", b"etag", b"server-timing", b"digest", b"repr-digest",
    b"content-digest", b"content-md5", b"x-amz-checksum-crc32", b"authentication-info", b"x-t", b"x_t",
    b"last-modified", b"x-client-version",
]  # fmt: skip

DO_NOT = [
    # what frames
    b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade", b"te", b"trailer",
    b"http2-settings", b"proxy-connection",
    # what routes, and whose a message is
    b"host", b"x-pico-endpoint", b"x-pico-authorization", b"x-pico-error", b"x-pico-anything", b"max-forwards", b"via",
    b"cdn-loop", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-anything", b"x-real-ip",
    b"true-client-ip", b"cf-connecting-ip", b"x-request-id", b"x-original-url", b"x-rewrite-url", b"destination",
    b"x-http-method-override",
    # who somebody is
    b"authorization", b"proxy-authorization", b"www-authenticate", b"proxy-authenticate", b"cookie", b"set-cookie",
    b"set-cookie2", b"x-auth-request-user", b"remote-user", b"ssl-client-verify", b"x-client-cert",
    b"x-ssl-client-cert", b"sec-websocket-key", b"origin", b"referer",
    # what modifies a request, controls a response or says what its content is
    b"cache-control", b"expect", b"pragma", b"range", b"if-match", b"if-none-match", b"accept-encoding", b"age",
    b"date", b"expires", b"location", b"retry-after", b"vary", b"warning", b"content-type",
    b"content-encoding", b"content-range", b"content-security-policy",
    b"access-control-allow-origin", b"strict-transport-security",
    # what a service reads as one of these
    b"content_length", b"x_forwarded_for", b"x.pico.endpoint", b"x_auth_user", b"set_cookie",
]  # fmt: skip


@pytest.mark.parametrize("name", GO_ON)
def test_what_goes_on(name: bytes) -> None:
    """What is made of a body, and what applications say behind it, goes on, in lower case."""
    block = write_block([(name.upper(), b" v ")])
    assert block == name + b": v\r\n"
    assert read_block(block) == [(name, b"v")]


@pytest.mark.parametrize("name", DO_NOT)
def test_what_does_not(name: bytes) -> None:
    """What only a head may say is dropped by whoever writes trailers, and by whoever reads them (RFC 9110 6.5.1)."""
    assert write_block([(b"A", b"1"), (name.title(), b"v"), (b"B", b"2")]) == b"a: 1\r\nb: 2\r\n"
    assert read_block(b"a: 1\r\n" + name + b": v\r\nb: 2\r\n") == [(b"a", b"1"), (b"b", b"2")]
    assert write_block([(name, b"v")]) == b""


def test_what_somebody_else_decides_about() -> None:
    """The caller can name more: what Connection names, and what an operator edits."""
    edits = HeaderEdits.of(set_to=["X-Set: 1"], add=["X-Add: 1"], remove=["X-Remove"])
    fields = [(b"X-Set", b"2"), (b"x-add", b"2"), (b"x-remove", b"2"), (b"x-other", b"2")]
    assert write_block(fields, edits.names) == b"x-other: 2\r\n"
    assert cleaned(write_block(fields), edits.names) == b"x-other: 2\r\n"


def test_what_is_too_large() -> None:
    """A block that is too large is dropped whole: what is left of it would say something else."""
    fits = b"b" * (MAX_BLOCK_BYTES - len(b"a: \r\n"))
    assert len(write_block([(b"a", fits)])) == MAX_BLOCK_BYTES
    assert write_block([(b"a", fits + b"b")]) == b""
    assert write_block([(b"a", b"b")] * MAX_TRAILERS).count(b"\n") == MAX_TRAILERS
    assert write_block([(b"a", b"b")] * (MAX_TRAILERS + 1)) == b""
    assert write_block([(b"host", b"b")] * (MAX_TRAILERS + 1) + [(b"a", b"b")]) == b"a: b\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"", b"v"),
        (b"a b", b"v"),
        (b"a:", b"v"),
        (b":a", b"v"),
        (b"a\r\nb", b"v"),
        (b"\xe4", b"v"),
        (b"a", b"v\r\nb: c"),
    ]
    + [(b"a", b"v" + bytes([control])) for control in (*range(9), *range(10, 32), 127)],
)
def test_what_is_no_field(name: bytes, value: bytes) -> None:
    """Nothing that could end a line is ever written, wherever it came from."""
    with pytest.raises(TrailersError):
        write_block([(b"x", b"y"), (name, value)])


def test_what_is_no_block() -> None:
    """A reader is not given what the tunnel does not let pass."""
    assert read_block(b"") == []
    for block in (b"a: b", b"A: b\r\n", b"a: b\r\n\r\n", b"a: " + b"b" * MAX_BLOCK_BYTES + b"\r\n"):
        assert fault_in(block)
        with pytest.raises(TrailersError):
            read_block(block)


NAMES = st.sampled_from([*GO_ON, *DO_NOT]) | st.text("abX9-_!.~", min_size=1, max_size=8).map(str.encode)
VALUES = st.text("ab \t,;:\x80\xff", max_size=12).map(lambda text: text.encode("latin-1"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=30), st.frozensets(st.sampled_from([b"x-t", b"a", b"etag"])))
def test_what_is_written_is_read(fields: list[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> None:
    """What goes on arrives in its order, and what does not is not there, under any spelling."""
    block = write_block(fields, dropped)
    assert not block or not fault_in(block)
    read = read_block(block)
    assert read == read_block(write_block(fields), dropped)
    assert write_block(read) == block
    kept = iter([(name.lower(), value.strip(b" \t")) for name, value in fields])
    assert all(field in kept for field in read), "in order"
    for name, _ in read:
        assert name not in dropped and plain_name(name) not in DO_NOT


# Chunked bodies


def test_a_chunked_body_with_trailers() -> None:
    """They are no part of the body, and nothing of what follows them is touched."""
    decoder = ChunkedDecoder(LIMITS, request=True, connection=frozenset((b"x-hop",)))
    data = b"1\r\na\r\n0;x\r\nA:b\r\nC:\r\nHost: evil\r\nX-Hop: 1\r\nD:  e f \r\n\r\nrest"
    body, at = decoder.decode(data, 0)
    assert (body, data[at:], decoder.done) == (b"a", b"rest", True)
    assert decoder.trailers == b"a: b\r\nc: \r\nd: e f\r\n"


@given(
    st.lists(st.tuples(st.sampled_from([b"A", b"x-B", b"Host", b"Content-Length"]), VALUES), max_size=6),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_trailers_in_pieces(fields: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """However the bytes come, the trailers are the same; and written again they are those that went on."""
    data = b"2\r\nab\r\n0\r\n" + b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n"
    decoder = ChunkedDecoder(LIMITS, request=False)
    held = bytearray()
    for piece in cut(data, cuts):
        held += piece
        _, at = decoder.decode(held, 0)
        del held[:at]
    assert decoder.done
    assert decoder.trailers == write_block(fields)
    again = ChunkedDecoder(LIMITS, request=False)
    again.decode(last_chunk(decoder.trailers), 0)
    assert again.done and again.trailers == decoder.trailers


def test_trailers_of_a_connection() -> None:
    """Each message has its own, on either side of a connection; the next one does not inherit them."""
    requests = ServerConnection(LIMITS)
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: x-hop\r\nTransfer-Encoding: chunked\r\n\r\n"
    requests.receive(chunked + b"0\r\nX-T: 1\r\nX-Hop: 2\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    requests.next_event()
    assert (requests.next_event(), requests.trailers) == (END, b"x-t: 1\r\n")
    requests.next_request()
    requests.next_event()
    assert (requests.next_event(), requests.trailers) == (END, b"")
    responses = ClientConnection(LIMITS)
    for answer, trailers in (
        (
            b"Transfer-Encoding: chunked\r\nConnection: close, x-hop\r\n\r\n0\r\nX-Hop: 1\r\nX-T: 2\r\n\r\n",
            b"x-t: 2\r\n",
        ),
        (b"Content-Length: 0\r\n\r\n", b""),
    ):
        responses.expect(b"GET")
        responses.receive(b"HTTP/1.1 200 OK\r\n" + answer)
        responses.next_event()
        assert (responses.next_event(), responses.trailers) == (END, trailers)


def test_smuggling_by_trailers() -> None:
    """What would frame the message anew is dropped, what would be a request of its own is refused."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    for trailer in (b"Content-Length: 100", b"Transfer-Encoding: chunked", b"Host: other", b"Connection: close"):
        requests = ServerConnection(LIMITS)
        requests.receive(with_fields(b"Transfer-Encoding: chunked") + b"0\r\n" + trailer + b"\r\n\r\n" + smuggled)
        requests.next_event()
        assert (requests.next_event(), requests.trailers) == (END, b"")
        requests.next_request()
        head = requests.next_event()
        assert isinstance(head, RequestHead) and head.target == b"/smuggled", "the client's next request, no more"
    requests = ServerConnection(LIMITS)
    requests.receive(with_fields(b"Transfer-Encoding: chunked") + b"0\r\n" + smuggled)
    requests.next_event()
    with pytest.raises(Http1Error):
        requests.next_event()


# TE and Trailer


@pytest.mark.parametrize(
    ("lines", "takes"),
    [
        ((b"TE: trailers",), True),
        ((b"TE: Trailers", b"Connection: TE"), True),
        ((b"TE: gzip;q=0.5, trailers ",), True),
        ((b"TE: gzip", b"TE:\ttrailers"), True),
        ((b"TE:",), False),
        ((b"TE: gzip",), False),
        ((b"TE: trailers;q=1",), False),
        ((b"TE: xtrailers",), False),
        ((b"Trailer: trailers",), False),
    ],
)
def test_who_takes_trailers(lines: tuple[bytes, ...], takes: bool) -> None:
    """A client says it in TE, as one word among others; it goes through the tunnel as one line of ours."""
    head = parse_request_head(with_fields(*lines), LIMITS)
    assert takes_trailers(head) is takes
    onward = to_tunnel(head)
    assert onward.count(b"\r\nTE: trailers\r\n") == takes and onward.lower().count(b"\r\nte:") == takes
    assert b"\r\nTE:" not in without_te(onward)
    read = parse_request_head(onward, LIMITS)
    assert takes_trailers(read) is takes
    assert request_from_link(read).count(b"\r\nTE: trailers\r\n") == takes


def to_tunnel(head: RequestHead) -> bytes:
    return request_to_tunnel(
        head, account=account_of_peer(b"192.0.2.7", False, head.host), peer=Peer(b"192.0.2.7"), request_id=b"i"
    )


def test_a_client_of_http_1_0() -> None:
    """It takes no trailers, whatever it says: it knows no chunks."""
    head = parse_request_head(with_fields(b"TE: trailers", b"Trailer: X-T", line=b"GET / HTTP/1.0"), LIMITS)
    assert b"TE:" not in to_tunnel(head) and b"Trailer" not in to_tunnel(head)


def test_the_service_is_told() -> None:
    """TE is of one connection, so Connection names it (RFC 9110 10.1.4). Beside an offer to upgrade it is left out."""
    head = parse_request_head(to_tunnel(parse_request_head(with_fields(b"TE: trailers"), LIMITS)), LIMITS)
    told = request_to_service(head, host=None, chunked=False, trailers=True)
    assert told.endswith(b"\r\nConnection: TE\r\nTE: trailers\r\n\r\n") and told.count(b"TE: trailers") == 1
    assert b"TE" not in request_to_service(head, host=None, chunked=False, trailers=False)
    offer = parse_request_head(with_fields(b"TE: trailers", b"Connection: TE, Upgrade", b"Upgrade: x"), LIMITS)
    told = request_to_service(offer, host=None, chunked=False, trailers=True)
    assert told.endswith(b"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n") and b"TE:" not in told


def test_what_is_announced() -> None:
    """Trailer goes along where trailers can, without what does not go on (RFC 9110 6.6.2)."""
    announced = (b"Trailer: X-T, Host, x-hop", b"trailer: , a b, ETag", b"Connection: x-hop")
    head = parse_request_head(with_fields(b"Transfer-Encoding: chunked", *announced), LIMITS)
    onward = to_tunnel(head)
    assert onward.count(b"\r\nTrailer: X-T, ETag\r\n") == 1 and onward.lower().count(b"trailer") == 1
    read = parse_request_head(onward, LIMITS)
    assert b"\r\nTrailer: X-T, ETag\r\n" in request_to_service(read, host=None, chunked=True)
    assert b"Trailer" not in request_to_service(read, host=None, chunked=False)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + b"\r\n".join(announced) + b"\r\n\r\n"
    head_back = parse_response_head(answer, LIMITS)
    back = response_to_tunnel(head_back)
    assert back == b"HTTP/1.1 200 OK\r\nTrailer: X-T, ETag\r\n\r\n"
    came = parse_response_head(back, LIMITS)
    assert b"\r\nTrailer: X-T, ETag\r\n" in response_to_client(came, Framing.IN_CHUNKS, close=False, trailers=True)
    for framing, trailers in ((Framing.IN_CHUNKS, False), (Framing.BY_LENGTH, True), (Framing.BY_CLOSE, True)):
        assert b"Trailer" not in response_to_client(came, framing, close=True, trailers=trailers)

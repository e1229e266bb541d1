"""Trailers from clients of either version to services of either, and back, by what each hop makes of them."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.field_names import plain_name
from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.chunked import ChunkedDecoder, last_chunk
from pico_twisted.core.http1.forwarding import (
    goes_to_service,
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
from pico_twisted.core.http1.trailers import cleaned, read_block, write_block
from pico_twisted.core.http2 import forwarding
from pico_twisted.core.http2.events import WireFields
from pico_twisted.core.http2.heads import request_fields, request_head, response_head
from tests.core.http1.test_trailers import DO_NOT, GO_ON
from tests.peers.http2_frames import request

LIMITS = HeadLimits()
Fields = list[tuple[bytes, bytes]]

FIELDS = st.lists(
    st.tuples(st.sampled_from([*GO_ON, *DO_NOT]), st.sampled_from([b"1", b"chunked", b"a b"])), max_size=12
)


def asked_over_1(names: bytes) -> RequestHead:
    return parse_request_head(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: " + names + b"\r\n\r\n", LIMITS
    )


def asked_over_2(names: bytes) -> RequestHead:
    return request_head([*request(method=b"POST"), (b"trailer", names)], LIMITS)


def served_over_1(head: RequestHead) -> bytes:
    told = parse_request_head(request_to_service(head, host=None, chunked=True), LIMITS)
    return told.by_name.get(b"trailer", b"")


def served_over_2(head: RequestHead) -> bytes:
    fields = request_fields(head, scheme=b"http", authority=b"a", goes_on=goes_to_service, trailers=False)
    return dict(fields).get(b"trailer", b"")


def answered_over_1(names: bytes) -> ResponseHead:
    return parse_response_head(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: " + names + b"\r\n\r\n", LIMITS
    )


def answered_over_2(names: bytes) -> ResponseHead:
    return response_head([(b":status", b"200"), (b"trailer", names)], LIMITS)


def told_over_1(head: ResponseHead) -> bytes:
    told = response_to_client(head, Framing.IN_CHUNKS, close=False, request_id=b"i", trailers=True)
    return parse_response_head(told, LIMITS).by_name.get(b"trailer", b"")


def told_over_2(head: ResponseHead) -> bytes:
    return dict(forwarding.response_to_client(head, b"i", None)).get(b"trailer", b"")


def came_over_1(fields: Fields) -> bytes:
    """The block of trailers behind chunks."""
    decoder = ChunkedDecoder(LIMITS, request=True)
    decoder.decode(b"0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n", 0)
    assert decoder.done
    return decoder.trailers


def came_over_2(fields: Fields) -> bytes:
    return write_block(fields)


def goes_over_1(block: bytes) -> WireFields:
    """What whoever reads chunks gets of a block."""
    lines = last_chunk(cleaned(block)).removeprefix(b"0\r\n").removesuffix(b"\r\n").split(b"\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


VERSIONS = st.sampled_from(["1.1", "2"])


def allowed(names: list[bytes]) -> list[bytes]:
    return [name for name in names if name not in {plain_name(one) for one in DO_NOT} | set(DO_NOT)]


@given(client=VERSIONS, service=VERSIONS, fields=FIELDS, link=st.booleans())
def test_what_is_announced_and_what_comes(client: str, service: str, fields: Fields, link: bool) -> None:
    """Between any client and any service, directly or over a link, the same trailers arrive and are announced: all
    those that may be trailers, in their order, and none that frames, routes or authenticates a message."""
    names = [name for name, _ in fields]
    expected = [field for field in fields if field[0] in allowed(names)]
    announced = b", ".join(allowed(names))
    read: Callable[[bytes], RequestHead] = asked_over_1 if client == "1.1" else asked_over_2
    account, peer = account_of_peer(b"192.0.2.7", False, b"a"), Peer(b"192.0.2.7")
    raw = request_to_tunnel(read(b", ".join(names)), account=account, peer=peer, request_id=b"i")
    if link:
        raw = request_from_link(parse_request_head(raw, LIMITS))
    asked = parse_request_head(raw, LIMITS)
    assert (served_over_1 if service == "1.1" else served_over_2)(asked) == announced
    answered = (answered_over_1 if service == "1.1" else answered_over_2)(b", ".join(names))
    back = parse_response_head(response_to_tunnel(answered), LIMITS)
    assert (told_over_1 if client == "1.1" else told_over_2)(back) == announced
    for sender, taker in ((client, service), (service, client)):
        block = (came_over_1 if sender == "1.1" else came_over_2)(fields)
        assert (goes_over_1 if taker == "1.1" else read_block)(block) == expected

"""Credentials that a request shows to the proxy port: where they are found, and that they go no further."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.credentials import BadCredential, Shown, choose_ours, hide, offers_ours, shown_by
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import request_to_tunnel
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head, parse_response_head

LIMITS = HeadLimits()
TOKEN = b"pico_aZ09._~+/-=="
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket")


def head(*fields: bytes) -> RequestHead:
    """A request with these fields, as read."""
    return parse_request_head(b"\r\n".join((b"GET / HTTP/1.1", b"Host: a.b", *fields, b"", b"")), LIMITS)


def passed_on(read: RequestHead) -> bytes:
    """The same as the next hop gets it."""
    return request_to_tunnel(
        read, account=account_of_peer(b"192.0.2.1", False, read.host), peer=Peer(b"192.0.2.1"), request_id=b"id"
    )


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ((), Shown(None, False, None)),
        ((b"X-Pico-Authorization: Bearer " + TOKEN,), Shown(TOKEN, False, None)),
        ((b"x-pico-authorization:bEARER   " + TOKEN + b" ",), Shown(TOKEN, False, None)),
        ((b"x-pico-authorization: " + TOKEN,), Shown(TOKEN, False, None)),
        ((b"Authorization: bearer " + TOKEN,), Shown(None, False, TOKEN)),
        ((b"Authorization: Basic YTpi",), Shown(None, False, None)),
        ((b"Authorization: Bearer a, Bearer b",), Shown(None, False, None)),
        ((b"Authorization: Bearer s", b"x-pico-authorization: t"), Shown(b"t", False, b"s")),
        ((*UPGRADE, b"Sec-WebSocket-Protocol: chat,pico.bearer.e.y.J , x"), Shown(b"e.y.J", True, None)),
        ((b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: pico.bearer.t"), Shown(b"t", True, None)),
        ((b"Sec-WebSocket-Protocol: Pico.Bearer.t, pico.bearer",), Shown(None, False, None)),
    ],
)
def test_where_a_credential_is_found(fields: tuple[bytes, ...], shown: Shown) -> None:
    """A token stands in our field, with or without its scheme, in Authorization with it, or in a subprotocol."""
    assert shown_by(head(*fields)) == shown


@pytest.mark.parametrize(
    "fields",
    [
        (b"x-pico-authorization: ",),
        (b"x-pico-authorization: Bearer a b",),
        (b"x-pico-authorization: Bearer a, Bearer b",),
        (b"x-pico-authorization: a,b",),
        (b"x-pico-authorization: Basic YTpi",),
        (b"x-pico-authorization: Bearer\xc3\xa9",),
        (b"Authorization: Bearer a", b"Authorization: Bearer a"),
        (b"x-pico-authorization: t", b"Authorization: Basic a", b"authorization: Basic b"),
        (b"x-pico-authorization: t", b"Sec-WebSocket-Protocol: pico.bearer.t"),
        (b"Sec-WebSocket-Protocol: pico.bearer.t", b"Sec-WebSocket-Protocol: pico.bearer.t"),
        (b"Sec-WebSocket-Protocol: pico.bearer.",),
    ],
)
def test_what_is_no_one_credential(fields: tuple[bytes, ...]) -> None:
    """Two credentials, a list of some, and what is none are refused: nobody guesses which one is meant."""
    with pytest.raises(BadCredential):
        shown_by(head(*fields))


@pytest.mark.parametrize(
    "fields",
    [
        (b"x-pico-authorization: a", b"x-pico-authorization: a"),
        (b"X-Pico-Authorization: a", b"x-pico-Authorization: b"),
        (b"x-pico-authorization: Bearer", b" t"),
        (b"x-pico-authorization : t",),
        (b"x-pico-authorization: t\x0bx",),
    ],
)
def test_what_is_no_head(fields: tuple[bytes, ...]) -> None:
    """Our field twice, folded, or not quite a field makes the request a bad one, with and without authentication."""
    with pytest.raises(Http1Error) as refused:
        head(*fields)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        (b"x-pico-authorization: Bearer secret",),
        (b"X-PICO-AUTHORIZATION: secret", b"Connection: x-pico-authorization"),
        (b"x_pico_authorization: secret", b"X.Pico-Authorization: secret"),
        (b"Authorization: Bearer secret",),
        (b"Authorization: Bearer secret", b"Connection: authorization, close"),
        (b"Sec-WebSocket-Protocol: pico, pico.bearer.secret",),
        (*UPGRADE, b"Sec-WebSocket-Protocol: pico.bearer.secret", b"sec-websocket-protocol: chat"),
    ],
)
def test_a_credential_goes_no_further(fields: tuple[bytes, ...]) -> None:
    """No hop behind this one sees a token that was shown here, wherever it stood and however its name is spelled."""
    read = head(*fields, b"Cookie: kept")
    sent = passed_on(hide(read, authorization=True, subprotocol=True))
    assert b"secret" not in sent and b"pico.bearer" not in sent and b"Cookie: kept" in sent


def test_what_is_the_services_stays() -> None:
    """Authorization for the service, and the subprotocols that it may choose from, go on as they are."""
    read = head(*UPGRADE, b"Authorization: Bearer s", b"Sec-WebSocket-Protocol: chat, pico.bearer.t,pico, b")
    assert offers_ours(read)
    sent = passed_on(hide(read, authorization=False, subprotocol=True))
    assert b"\r\nAuthorization: Bearer s\r\n" in sent and b"\r\nSec-WebSocket-Protocol: chat, b\r\n" in sent
    read = head(b"Authorization: Bearer s", b"x-pico-authorization: t")
    assert hide(read, authorization=True, subprotocol=False).by_name.keys() == {b"host", b"x-pico-authorization"}


def test_a_service_that_chooses_no_subprotocol() -> None:
    """A client that offered `pico` hears that it was chosen when the service chose none, and not otherwise."""
    start = b"HTTP/1.1 %d X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    none = parse_response_head(start % 101 + b"\r\n", LIMITS)
    assert choose_ours(none).fields[-1] == (b"sec-websocket-protocol", b"Sec-WebSocket-Protocol", b"pico")
    for other in (start % 101 + b"Sec-WebSocket-Protocol: chat\r\n\r\n", start % 426 + b"\r\n"):
        read = parse_response_head(other, LIMITS)
        assert choose_ours(read) is read

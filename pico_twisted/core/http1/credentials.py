"""Which credential a client's request shows to the proxy port, and the request without it.

What is needed. A client shows a token in a field of ours, `x-pico-authorization`, and leaves Authorization to its
service. Clients that can only send Authorization send it there, and then the service gets none. A script in a browser
can set no field for a WebSocket but the subprotocols that it offers: there it offers `pico.bearer.` and the token.

What can go wrong. A token of ours reaches a service, which can then speak in its client's name: so each place that
shows one is taken out before the head goes on. Two places show two: whoever reads another one than we do decides
otherwise, so that is refused. A service of WebSockets that knows no subprotocol chooses none, and then browsers end the
connection, for they offered some: a client that also offers `pico` is told that it was chosen.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import RequestHead, ResponseHead

CREDENTIAL: Final = b"x-pico-authorization"
"""The field for credentials of ours. It may come once."""

AUTHORIZATION: Final = b"authorization"
SUBPROTOCOLS: Final = b"sec-websocket-protocol"

IN_SUBPROTOCOL: Final = b"pico.bearer."
"""What an offered subprotocol begins with that shows a token."""

SUBPROTOCOL: Final = b"pico"
"""The subprotocol that is chosen for a client which offers it, when its service chose none."""

_TOKEN: Final = rb"([0-9A-Za-z._~+/-]+=*)"  # b64token of RFC 6750 2.1
_OURS: Final = re.compile(rb"(?:bearer +)?" + _TOKEN, re.IGNORECASE)
_BEARER: Final = re.compile(rb"bearer +" + _TOKEN, re.IGNORECASE)


class BadCredential(Exception):
    """What a request shows is not one credential; the message says why, for the client."""


class Shown(NamedTuple):
    """What a request shows.

    Attributes:
        bearer: the token that is for us, without its scheme; None when there is none.
        in_subprotocol: that one is a subprotocol.
        in_authorization: the token of Authorization, which may be for us or for the service; None when there is none.
    """

    bearer: bytes | None
    in_subprotocol: bool
    in_authorization: bytes | None


def shown_by(head: RequestHead) -> Shown:
    """What a request shows.

    Raises:
        BadCredential: it shows two credentials, or one that is none.
    """
    by_name = head.by_name
    if len(by_name) != len(head.fields) and [lower for lower, _, _ in head.fields].count(AUTHORIZATION) > 1:
        raise BadCredential("send Authorization once")
    offered = [name for name in _subprotocols(head) if name.startswith(IN_SUBPROTOCOL)]
    if len(offered) + (CREDENTIAL in by_name) > 1:
        raise BadCredential("show one token, in one place")
    bearer: bytes | None = None
    if CREDENTIAL in by_name or offered:
        match = _OURS.fullmatch(offered[0].removeprefix(IN_SUBPROTOCOL) if offered else by_name[CREDENTIAL])
        if match is None:
            raise BadCredential("what is shown is no token")
        bearer = match[1]
    match = _BEARER.fullmatch(by_name.get(AUTHORIZATION, b""))
    return Shown(bearer, bool(offered), None if match is None else match[1])


def hide(head: RequestHead, *, authorization: bool, subprotocol: bool) -> RequestHead:
    """The request without its credential. `x-pico-authorization` stays: no field of ours goes on anyway.

    Args:
        head: as read.
        authorization: leave out Authorization.
        subprotocol: leave out the subprotocol that shows a token, and the one that is chosen for those who show it.
    """
    fields = head.fields
    if authorization:
        fields = [field for field in fields if field[0] != AUTHORIZATION]
    if subprotocol:
        offered = [name for name in _subprotocols(head) if not name.startswith(IN_SUBPROTOCOL) and name != SUBPROTOCOL]
        fields = [field for field in fields if field[0] != SUBPROTOCOLS]
        if offered:
            fields.append((SUBPROTOCOLS, b"Sec-WebSocket-Protocol", b", ".join(offered)))
    return head.replace(fields=fields, by_name={lower: value for lower, _, value in reversed(fields)})


def offers_ours(head: RequestHead) -> bool:
    """Whether `SUBPROTOCOL` is among the subprotocols that a request offers."""
    return SUBPROTOCOL in _subprotocols(head)


def choose_ours(head: ResponseHead) -> ResponseHead:
    """The answer to an upgrade with `SUBPROTOCOL` chosen, if its service chose none."""
    if head.status != 101 or SUBPROTOCOLS in head.by_name:
        return head
    return head.replace(fields=[*head.fields, (SUBPROTOCOLS, b"Sec-WebSocket-Protocol", SUBPROTOCOL)])


def _subprotocols(head: RequestHead) -> list[bytes]:
    if SUBPROTOCOLS not in head.by_name:
        return []
    return [name.strip(b" \t") for name in all_values(head.fields, SUBPROTOCOLS).split(b",")]

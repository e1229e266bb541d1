"""The WebSocket at which clients reach a TCP endpoint: how its handshake is asked for, and answered (RFC 6455 4.2)."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from pico_twisted.core import public_url
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.routing.endpoint import HEADER, EndpointError, normal_endpoint_id
from pico_twisted.core.websocket.accept import accept_of

TCP_PATH: Final = public_url.TCP_PATH.encode("ascii")
"""What the path of such a WebSocket begins with; the endpoint ID follows."""

SUBPROTOCOL: Final = b"pico.tcp"
"""The subprotocol of bytes in binary messages."""

_VERSION: Final = b"sec-websocket-version"
_KEY: Final = b"sec-websocket-key"
_SUBPROTOCOLS: Final = b"sec-websocket-protocol"
_KEY_BYTES: Final = 16


def tcp_endpoint_of(head: RequestHead) -> str:
    """The endpoint ID in the path of a request that begins with `TCP_PATH`, in lower case.

    A field that names an endpoint has to name the same one: whoever stands in front of the node and sets it, so that
    its clients reach nothing else, reads no paths.

    Raises:
        EndpointError: it is no endpoint ID, or another one is named.
    """
    endpoint = normal_endpoint_id(head.target.partition(b"?")[0][len(TCP_PATH) :])
    if endpoint is None:
        raise EndpointError("invalid-endpoint", "invalid endpoint id")
    named = head.by_name.get(HEADER)
    if named is not None and normal_endpoint_id(named) != endpoint:
        raise EndpointError("invalid-endpoint", "x-pico-endpoint names another endpoint than the path")
    return endpoint


def check_handshake(head: RequestHead) -> None:
    """Judge a request for a WebSocket. One that came over HTTP/2 (RFC 8441) has got the key of `core.http2.heads`.

    Args:
        head: of the request.

    Raises:
        Http1Error: 400, or 426 with what `UPGRADE_FIELDS` say.
    """
    if head.upgrade is None or b"websocket" not in [one.strip(b" \t").lower() for one in head.upgrade.split(b",")]:
        raise Http1Error(426, "upgrade-required", "this is the WebSocket of a TCP endpoint: use picoctl forward")
    if head.method != b"GET" or head.has_body:
        raise Http1Error(400, "bad-request", "a WebSocket begins with a GET without a body")
    if head.by_name.get(_VERSION) != b"13":
        raise Http1Error(426, "upgrade-required", "WebSockets of version 13 are spoken here")
    if not _is_key(head):
        raise Http1Error(400, "bad-request", "a WebSocket begins with one Sec-WebSocket-Key of 16 bytes")


VERSION_FIELDS: Final = ((_VERSION, b"13"),)
"""What a 426 says besides (RFC 6455 4.4)."""

UPGRADE_FIELDS: Final = ((b"upgrade", b"websocket"), *VERSION_FIELDS)
"""The same over HTTP/1.1 (RFC 9110 15.5.22)."""


def _is_key(head: RequestHead) -> bool:
    if [lower for lower, _, _ in head.fields].count(_KEY) != 1:
        return False
    try:
        return len(base64.b64decode(head.by_name[_KEY], validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def accepted(head: RequestHead) -> ResponseHead:
    """The 101 for a request that `check_handshake` let pass."""
    fields: list[tuple[bytes, bytes, bytes]] = []
    key = head.by_name.get(_KEY)
    if key is not None:
        fields.append((b"sec-websocket-accept", b"Sec-WebSocket-Accept", accept_of(key)))
    offered = [one.strip(b" \t") for one in all_values(head.fields, _SUBPROTOCOLS).split(b",")]
    if SUBPROTOCOL in offered:
        fields.append((_SUBPROTOCOLS, b"Sec-WebSocket-Protocol", SUBPROTOCOL))
    by_name = {lower: value for lower, _, value in fields}
    return ResponseHead(101, b"Switching Protocols", True, fields, by_name, upgrade=b"websocket")


def tcp_request(head: RequestHead) -> RequestHead:
    """The head of the call that a WebSocket becomes: nothing of the client's goes on but what finds loops."""
    kept = [field for field in head.fields if field[0] in (b"cdn-loop", b"via")]
    by_name = {lower: value for lower, _, value in reversed(kept)}
    return RequestHead(b"GET", b"/", True, head.host, kept, by_name, upgrade=b"tcp")

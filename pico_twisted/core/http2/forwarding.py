"""Heads of responses as they go to a client over HTTP/2: what goes on of them is the same as over HTTP/1.1."""

from __future__ import annotations

from pico_twisted.core.http1.forwarding import goes_to_client, without_own_vias
from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.http2.events import WireFields
from pico_twisted.core.http2.heads import response_fields


def response_to_client(head: ResponseHead, request_id: bytes, via: bytes | None) -> WireFields:
    """A final response, or the 101 of a WebSocket, as it goes to a proxy client.

    Args:
        head: as it came through the tunnel.
        request_id: what the client is told, unless the service told it one of its own.
        via: our pseudonym; None for no Via, and then none of another hop of ours either.
    """
    more = [] if b"x-request-id" in head.special else [(b"x-request-id", request_id)]
    if via is not None:
        more.append(_via(head, via))
    elif b"via" in head.special:
        head = head.replace(fields=without_own_vias(head.fields))
    return response_fields(head, goes_to_client, more)


def interim_to_client(head: ResponseHead, via: bytes | None) -> WireFields:
    """An interim response, as it goes to a proxy client. For the arguments see `response_to_client`."""
    if via is None and b"via" in head.special:
        head = head.replace(fields=without_own_vias(head.fields))
    return response_fields(head, goes_to_client, [] if via is None else [_via(head, via)])


def _via(head: ResponseHead, via: bytes) -> tuple[bytes, bytes]:
    return b"via", (b"1.1 " if head.version_11 else b"1.0 ") + via

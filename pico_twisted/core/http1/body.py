"""What follows the head of a response (RFC 9112 6.3)."""

from __future__ import annotations

from typing import Literal

from pico_twisted.core.http1.head import ResponseHead

BodyKind = Literal["none", "length", "chunked", "until-close"]


def response_body(head: ResponseHead, request_method: bytes) -> BodyKind:
    """How the body of a response is framed.

    Args:
        head: of the response.
        request_method: of the request that it answers; the answer to HEAD has no body whatever its fields say.
    """
    status = head.status
    if status < 200 or status == 204 or status == 304 or request_method == b"HEAD":
        return "none"
    if head.chunked:
        return "chunked"
    if head.length is not None:
        return "length"
    return "until-close"

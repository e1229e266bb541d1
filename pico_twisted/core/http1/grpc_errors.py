"""Errors as clients of gRPC and gRPC-Web read them: an HTTP 200 whose head is all of it, with the status of gRPC in it.

What is needed. A client of gRPC that gets a 502 with a page of JSON makes UNAVAILABLE of it at best, and UNKNOWN of
most statuses; it shows nobody the words. Whether a call may be made again depends on the status.

What was chosen: what proxies in front of gRPC do, a *trailers-only* response (gRPC over HTTP/2, "Responses"). The
statuses are those that gRPC's own table gives for HTTP's, but for three that it knows no better name for: too many
requests and too large ones are RESOURCE_EXHAUSTED, for UNAVAILABLE would have clients come again at once, and a service
that is late is DEADLINE_EXCEEDED. Metrics and access logs say the HTTP status that any other client would get.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from pico_twisted.core.http1.head import RequestHead

_TYPE: Final = re.compile(rb"application/grpc(?:-web(?:-text)?)?(?:\+[a-z0-9.+-]{1,32})?", re.IGNORECASE)

_INTERNAL: Final = 13
UNAVAILABLE: Final = 14
"""The status of what may be tried again."""
_UNKNOWN: Final = 2

_STATUSES: Final = {
    400: _INTERNAL,
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    413: 8,  # RESOURCE_EXHAUSTED
    421: 12,
    429: 8,
    431: 8,
    500: _INTERNAL,
    501: 12,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: 4,
    508: _INTERNAL,
}

MOST_MESSAGE_BYTES: Final = 1024
"""Most bytes of a grpc-message."""


def grpc_type(head: RequestHead) -> bytes:
    """The content type that an answer to a request of gRPC has; empty when it is none."""
    found = _TYPE.match(head.by_name.get(b"content-type", b""))
    return found.group().lower() if found is not None else b""


def reads_trailers(head: RequestHead) -> bool:
    """Whether the client is one of gRPC that reads the outcome in trailers. Those of gRPC-Web read it in the body."""
    kind = grpc_type(head)
    return bool(kind) and not kind.startswith(b"application/grpc-web")


def grpc_status(status: int) -> int:
    """The status of gRPC for one of HTTP."""
    return _STATUSES.get(status, _UNKNOWN)


def grpc_fields(status: int, message: str) -> list[tuple[bytes, bytes]]:
    """What tells the outcome of a call: its status, and words for people.

    Args:
        status: of gRPC.
        message: is percent-encoded, as gRPC has it.
    """
    text = quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")[:MOST_MESSAGE_BYTES]
    return [(b"grpc-status", b"%d" % status), (b"grpc-message", text.encode("ascii"))]

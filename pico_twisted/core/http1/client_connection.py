"""Whose connection to a service is: NTLM and Negotiate authenticate a connection, not a request (RFC 4559).

What was said on such a connection before decides who the next request is from. So it belongs to one client's connection
alone. The node that took the client's connection gives it a name, from the first request on that authenticates like
this, and names it in the head of each of its requests from there on. The agent keeps a connection to the service for
each name. A client cannot say such a name itself: `forwarding` drops every `x-pico-*` of clients.
"""

from __future__ import annotations

import re
from typing import Final

from pico_twisted.core.field_names import AUTHENTICATING
from pico_twisted.core.http1.head import RequestHead, ResponseHead

CLIENT_CONNECTION: Final = b"x-pico-client-connection"
"""The field of a request between hops of ours that names the client's connection."""

NAME_BYTES: Final = 32
"""Bytes of a name: 128 random bits in hexadecimal, which nobody guesses."""

_NAME: Final = re.compile(rb"[0-9a-f]{32}")
_SCHEME: Final = re.compile(rb"(?:^|,)[ \t]*(?:ntlm|negotiate)(?:[ \t,]|$)", re.IGNORECASE)


def name_of(value: bytes) -> bytes:
    """The name that a field or a frame of a peer gives; empty when it is none."""
    return value if _NAME.fullmatch(value) else b""


def authenticates_connection(head: RequestHead | ResponseHead) -> bool:
    """Whether a message is part of an authentication that holds for its connection: it asks for it, or does it."""
    if AUTHENTICATING.isdisjoint(head.special):
        return False
    return any(lower in AUTHENTICATING and _SCHEME.search(value) is not None for lower, _, value in head.fields)

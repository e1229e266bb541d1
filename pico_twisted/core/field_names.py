"""Names of header fields, in lower case, by what they are for: what a hop decides, and never a client or a service."""

from __future__ import annotations

from typing import Final

HOP_BY_HOP: Final = frozenset(
    b"""
    connection http2-settings keep-alive proxy-authenticate proxy-authentication-info proxy-authorization
    proxy-connection te trailer transfer-encoding upgrade
    """.split()
)
"""Of one connection alone (RFC 9110 7.6.1)."""

FRAMING: Final = frozenset((b"content-length",))
"""What says where a body ends, besides."""

ACCOUNT: Final = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip".split()
)
"""What tells of the client, as a node writes it."""

REQUEST_ID: Final = frozenset((b"x-request-id",))
"""What a node names a request by."""

ONWARD: Final = FRAMING | HOP_BY_HOP | frozenset((b"host",))
"""What each hop writes anew."""

OURS: Final = ACCOUNT | REQUEST_ID | ONWARD
"""All that a node decides about a request."""

TELL_OF_CLIENTS: Final = frozenset(
    b"""
    cf-connecting-ip cf-connecting-ipv6 client-ip fastly-client-ip front-end-https true-client-ip x-client-ip
    x-cluster-client-ip x-original-forwarded-for x-real-ip x-remote-addr x-remote-ip x-scheme x-url-scheme
    """.split()
)
"""What else than X-Forwarded-* and Forwarded services take for the word of a proxy in front of them."""

FORWARDED: Final = (b"x-forwarded", b"forwarded")
"""How the names begin of what proxies tell of a client."""

AUTHENTICATING: Final = frozenset(b"authorization proxy-authenticate proxy-authorization www-authenticate".split())
"""What may authenticate a connection instead of a request."""

BETWEEN_HOPS: Final = b"x-pico-"
"""How the names begin of what hops of ours tell each other."""

_PLAIN: Final = bytes(byte if chr(byte).isalnum() and byte < 0x80 else 0x2D for byte in range(0x100))


def plain_name(lower: bytes) -> bytes:
    """What a service that turns names into variables sees of a name: dashes for all but letters and digits."""
    return lower.translate(_PLAIN)


def is_ours(plain: bytes) -> bool:
    """Whether a field, by its plain name, says what a node decides, or what only a proxy can know of a client."""
    return plain in OURS or plain.startswith(FORWARDED) or plain in TELL_OF_CLIENTS

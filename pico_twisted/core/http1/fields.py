"""The fields of a head: how llhttp hands them over, and what a few of them mean for framing and for the connection.

llhttp is strict about the shape of a field but lenient about its meaning, so what a message's framing hangs on is
checked here again: one Content-Length of digits alone, one transfer coding, each field on a line of its own.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

Fields = list[tuple[bytes, bytes, bytes]]
"""(lower-case name, name as received, value without the white space around it), in the order of the head."""

Index = dict[bytes, bytes]
"""The first value of each field, by lower-case name."""

MAX_LENGTH: Final = 2**63 - 1
"""The longest body that anybody may announce: what fits a signed 64-bit counter, here and in a service behind us."""

_MAX_LENGTH_DIGITS: Final = 19
"""Digits of `MAX_LENGTH`: bounded before they are turned into a number."""

_MAX_NAMES: Final = 1024
"""Names kept in lower case. A peer that invents names makes new ones slower, never the common ones."""

_MAX_NAME_BYTES: Final = 64
"""Longer names are rare and are not kept."""

_MAX_CONNECTIONS: Final = 256
"""Values of Connection kept as sets of tokens."""

_PROTOCOL: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?")

_COMMON_NAMES: Final = b"""
Accept accept Accept-Encoding accept-encoding Accept-Language accept-language Accept-Ranges Age Authorization
authorization Cache-Control cache-control Connection connection Content-Encoding Content-Language Content-Length
content-length Content-Range Content-Type content-type Cookie cookie Date date ETag Etag etag Expect Expires expires
Forwarded Host host If-Modified-Since If-None-Match Keep-Alive Last-Modified Link Location Origin Pragma Range Referer
Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-WebSocket-Accept Sec-WebSocket-Key
Sec-WebSocket-Version Server server Set-Cookie set-cookie TE Trailer Transfer-Encoding transfer-encoding Upgrade
Upgrade-Insecure-Requests User-Agent user-agent Vary vary Via via X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto
X-Request-Id x-pico-authorization x-pico-endpoint x-pico-error x-request-id
""".split()


class _LowerNames(dict[bytes, bytes]):
    """Names in lower case by names as received, filled as they come, bounded."""

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        if len(self) < _MAX_NAMES and len(name) <= _MAX_NAME_BYTES:
            self[name] = lower
        return lower


_LOWER: Final = _LowerNames((name, name.lower()) for name in _COMMON_NAMES)


class _Collected(Fields):
    """What llhttp calls back into: the list of fields itself, so that a head costs one object and one call a field."""

    __slots__ = ()

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the white space behind a value. What else rstrip takes off was refused before.
        self.append((_LOWER[name], name, value.rstrip()))


class FieldsError(Exception):
    """The fields break a rule; the message says which. The caller knows whose they are and makes an Http1Error."""


def read_fields(data: bytes, parser: type[HttpRequestParser | HttpResponseParser], count: int) -> Fields:
    """The fields of one whole head, checked by llhttp for shape and counted by us.

    Each call makes a parser and throws it away, so none is left behind that takes an upgrade's bytes, or the body of an
    upgrade request, for a second message.

    Args:
        data: the head, without control bytes.
        parser: of httptools.
        count: the lines between the first and the last, empty one. Each must have come out as a field, so llhttp saw
            the head end where we do.

    Raises:
        FieldsError
    """
    fields = _Collected()
    try:
        parser(fields).feed_data(data)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise FieldsError(str(error)) from None
    if len(fields) != count:
        raise FieldsError("lines and fields do not match")
    return fields


def index_fields(fields: Fields) -> Index:
    """The first value of each field, by lower-case name."""
    index = {field[0]: field[2] for field in fields}
    if len(index) != len(fields):
        index = {field[0]: field[2] for field in reversed(fields)}
    return index


def all_values(fields: Fields, lower_name: bytes) -> bytes:
    """All values of a list field as one, joined as RFC 9110 5.3 allows; empty when there are none."""
    return b", ".join([value for lower, _, value in fields if lower == lower_name and value])


def refuse_repeats(fields: Fields, once: frozenset[bytes]) -> None:
    """Refuse a head in which a field of `once` comes twice.

    Raises:
        FieldsError
    """
    seen: set[bytes] = set()
    for lower, _, _ in fields:
        if lower in once:
            if lower in seen:
                raise FieldsError(f"repeated {lower.decode('ascii')}")
            seen.add(lower)


def read_framing(index: Index, version_11: bool) -> tuple[int | None, bool]:
    """Content-Length and whether the body is chunked, by RFC 9112 6, without any of its leniencies.

    Raises:
        FieldsError
    """
    length: int | None = None
    value = index.get(b"content-length")
    if value is not None:
        if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
            raise FieldsError("bad Content-Length")
        length = int(value)
        if length > MAX_LENGTH:
            raise FieldsError("Content-Length is too large")
    value = index.get(b"transfer-encoding")
    if value is None:
        return length, False
    if length is not None:
        raise FieldsError("Content-Length beside Transfer-Encoding")
    if not version_11:
        raise FieldsError("Transfer-Encoding in HTTP/1.0")
    if value.lower() != b"chunked":
        raise FieldsError("a Transfer-Encoding other than chunked")
    return None, True


NO_TOKENS: Final[frozenset[bytes]] = frozenset()

_CONNECTIONS: Final[dict[bytes, frozenset[bytes]]] = {
    value: frozenset((value.lower(),)) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"upgrade")
}


def connection_tokens(value: bytes) -> frozenset[bytes]:
    """The lower-case tokens that a value of Connection names."""
    tokens = _CONNECTIONS.get(value)
    if tokens is None:
        tokens = frozenset(token for part in value.split(b",") if (token := part.strip(b" \t").lower()))
        if len(_CONNECTIONS) < _MAX_CONNECTIONS and len(value) <= _MAX_NAME_BYTES:
            _CONNECTIONS[value] = tokens
    return tokens


def upgrade_protocols(fields: Fields) -> bytes | None:
    """The value of Upgrade without `h2c`, which no hop of ours speaks; None when nothing is left.

    Raises:
        FieldsError
    """
    protocols: list[bytes] = []
    for part in all_values(fields, b"upgrade").split(b","):
        protocol = part.strip(b" \t")
        if not protocol or protocol.lower() == b"h2c":
            continue
        if not _PROTOCOL.fullmatch(protocol):
            raise FieldsError("bad Upgrade")
        protocols.append(protocol)
    return b", ".join(protocols) or None

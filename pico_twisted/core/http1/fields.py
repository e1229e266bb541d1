"""The fields of a head: how llhttp hands them over, and what a few of them mean for framing and for the connection.

llhttp is strict about the shape of a field but lenient about its meaning, so what a message's framing hangs on is
checked here again: one Content-Length of digits alone, one transfer coding, each field on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from pico_twisted.core.http1.memo import Memo

Fields = Sequence[tuple[bytes, bytes, bytes]]
"""(lower-case name, name as received, value without the white space around it), in the order of the head."""

ByName = Mapping[bytes, bytes]
"""The first value of each field, by lower-case name."""

MAX_LENGTH: Final = 2**63 - 1
"""Most bytes of a body that may be announced: what fits a signed 64-bit counter, here and in a service behind us."""

_MAX_LENGTH_DIGITS: Final = 19
"""Most digits of a Content-Length, those of `MAX_LENGTH`: they are counted before they are turned into a number."""

_MAX_NAMES: Final = 1024
"""Most names of fields that are kept in lower case."""

_MAX_CONNECTIONS: Final = 256
"""Most values of Connection that are kept as sets of tokens."""

_ONCE_IN_REQUESTS: Final = frozenset(
    (b"content-length", b"host", b"transfer-encoding", b"x-pico-authorization", b"x-pico-endpoint")
)
_ONCE_IN_RESPONSES: Final = frozenset((b"content-length", b"transfer-encoding"))

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


_LOWER: Final = Memo(bytes.lower, _MAX_NAMES, common=_COMMON_NAMES)


class _Collected(list[tuple[bytes, bytes, bytes]]):
    """What llhttp calls back into: the list of fields itself, so that a head costs one object and one call a field."""

    __slots__ = ()

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the white space behind a value. What else rstrip takes off was refused before.
        self.append((_LOWER[name], name, value.rstrip()))


class FieldsError(Exception):
    """The fields break a rule; the message says which. The caller knows whose they are and makes an Http1Error."""


FieldsRead = tuple[Fields, ByName, "int | None", bool, bool, frozenset[bytes], "bytes | None"]
"""(fields, by_name, length, chunked, keep_alive, connection, upgrade), as a head has them."""


def read_fields(
    data: bytes, parser: type[HttpRequestParser | HttpResponseParser], count: int, version_11: bool
) -> FieldsRead:
    """The fields of one whole head, checked by llhttp for shape and counted by us, and what they mean.

    Each call makes a parser and throws it away, so none is left behind that takes an upgrade's bytes, or the body of an
    upgrade request, for a second message.

    Args:
        data: the head, without control bytes, behind a first line that is like any other.
        parser: of httptools.
        count: the lines between the first and the last, empty one. Each must have come out as a field, so llhttp saw
            the head end where we do.
        version_11: the head says HTTP/1.1.

    Raises:
        FieldsError: llhttp refuses them, one that may come once comes twice, or framing or Upgrade cannot be right.
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
    by_name: dict[bytes, bytes] = {}
    for lower, _, value in reversed(fields):
        by_name[lower] = value  # noqa: PERF403 - a comprehension costs a call
    if len(by_name) != count:
        _refuse_repeats(fields, _ONCE_IN_REQUESTS if parser is HttpRequestParser else _ONCE_IN_RESPONSES)
    length: int | None = None
    chunked = False
    if b"content-length" in by_name or b"transfer-encoding" in by_name:
        length, chunked = read_framing(by_name, version_11)
    keep_alive = version_11
    tokens = NO_TOKENS
    upgrade: bytes | None = None
    if b"connection" in by_name:
        value = by_name[b"connection"] if len(by_name) == count else all_values(fields, b"connection")
        tokens = _CONNECTIONS[value]
        keep_alive = b"close" not in tokens and (version_11 or b"keep-alive" in tokens)
        if version_11 and b"upgrade" in tokens and b"upgrade" in by_name:
            upgrade = _upgrade_protocols(fields)
    return fields, by_name, length, chunked, keep_alive, tokens, upgrade


def all_values(fields: Fields, lower_name: bytes) -> bytes:
    """All values of a list field as one, joined as RFC 9110 5.3 allows; empty when there are none."""
    return b", ".join([value for lower, _, value in fields if lower == lower_name and value])


def _refuse_repeats(fields: Fields, once: frozenset[bytes]) -> None:
    seen: set[bytes] = set()
    for lower, _, _ in fields:
        if lower in once:
            if lower in seen:
                raise FieldsError(f"repeated {lower.decode('ascii')}")
            seen.add(lower)


def read_framing(by_name: ByName, version_11: bool) -> tuple[int | None, bool]:
    """Content-Length and whether the body is chunked, by RFC 9112 6, without any of its leniencies.

    Raises:
        FieldsError: they say nothing, several things or something else.
    """
    length: int | None = None
    value = by_name.get(b"content-length")
    if value is not None:
        if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
            raise FieldsError("bad Content-Length")
        length = int(value)
        if length > MAX_LENGTH:
            raise FieldsError("Content-Length is too large")
    value = by_name.get(b"transfer-encoding")
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


def _connection_tokens(value: bytes) -> frozenset[bytes]:
    """The lower-case tokens that a value of Connection names."""
    return frozenset(token for part in value.split(b",") if (token := part.strip(b" \t").lower()))


_CONNECTIONS: Final = Memo(
    _connection_tokens, _MAX_CONNECTIONS, common=(b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"upgrade")
)


def _upgrade_protocols(fields: Fields) -> bytes | None:
    """The value of Upgrade without `h2c`, which no hop of ours speaks; None when nothing is left."""
    protocols: list[bytes] = []
    for part in all_values(fields, b"upgrade").split(b","):
        protocol = part.strip(b" \t")
        if not protocol or protocol.lower() == b"h2c":
            continue
        if not _PROTOCOL.fullmatch(protocol):
            raise FieldsError("bad Upgrade")
        protocols.append(protocol)
    return b", ".join(protocols) or None

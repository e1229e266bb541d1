"""The fields of a head: how they are told apart, and what a few of them mean for framing and for the connection.

Refused is what two readers could take for two things: a line that is no field, white space before a colon, a field over
several lines, a length that is not digits alone, several lengths, a transfer coding beside a length or another one than
chunked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pico_twisted.core.http1.grammar import FIELD_VALUE, LINE_BYTES, OWS, TOKEN
from pico_twisted.core.http1.memo import Memo

Fields = Sequence[tuple[bytes, bytes, bytes]]
"""(lower-case name, name as received, value without the white space around it), in the order of the head."""

ByName = Mapping[bytes, bytes]
"""The first value of each field, by lower-case name."""

NO_FIELDS: Final[ByName] = {}
"""Of a head that has none."""

MAX_LENGTH: Final = 2**63 - 1
"""Most bytes of a body that may be announced: what fits a signed 64-bit counter, here and in a service behind us."""

_MAX_LENGTH_DIGITS: Final = 19
"""Most digits of a Content-Length, those of `MAX_LENGTH`: they are counted before they are turned into a number."""

_MAX_NAMES: Final = 1024
"""Most names of fields that are kept in lower case."""

_MAX_CONNECTIONS: Final = 256
"""Most values of Connection that are kept as sets of tokens."""

ONCE_IN_REQUESTS: Final = frozenset(
    (b"content-length", b"host", b"transfer-encoding", b"x-pico-authorization", b"x-pico-endpoint")
)
ONCE_IN_RESPONSES: Final = frozenset((b"content-length", b"transfer-encoding"))

_FIELD_LINE: Final = re.compile(rb"\n(" + TOKEN + rb"):" + OWS + rb"(" + FIELD_VALUE + rb")\r(?=\n)")
"""Finds each line that is a field: what lies between two line ends."""

MASKED_CODING: Final = re.compile(rb"\n(?i:transfer-encoding):" + OWS + rb"(?i:chunked) *+\t")
"""Finds a transfer coding that a tab is behind: other readers take it for one that they do not know."""

_PROTOCOL: Final = re.compile(TOKEN + rb"(?>(?:/" + TOKEN + rb")?)")

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


class FieldsError(Exception):
    """The fields break a rule; the message says which. The caller knows whose they are and makes an Http1Error."""


class TooManyFieldsError(FieldsError):
    """There are more of them than a head may have."""


FieldsRead = tuple[Fields, ByName, "int | None", bool, bool, frozenset[bytes], "bytes | None"]
"""(fields, by_name, length, chunked, keep_alive, connection, upgrade), as a head has them."""

BARE_LINE_ENDS: Final = "bare line ends or control bytes in the head"
"""What is wrong with a head that is not nothing but lines."""


def split_fields(data: bytes, at: int) -> Fields:
    """All lines of a head that are fields.

    Args:
        data: the head.
        at: where its first line ends.
    """
    lines = _FIELD_LINE.findall(data, at)
    if b" \r" in data or b"\t\r" in data:  # which few have
        # No other white space than rstrip takes off can be in a value, and it takes longer when it is told which.
        lines = [(name, value.rstrip()) for name, value in lines]
    return [(_LOWER[name], name, value) for name, value in lines]


def first_values(fields: Fields) -> ByName:
    """The first value of each field, by lower-case name."""
    by_name: dict[bytes, bytes] = {}
    for lower, _, value in reversed(fields):
        by_name[lower] = value  # noqa: PERF403 - a comprehension costs a call
    return by_name


def read_fields(data: bytes, at: int, most: int, once: frozenset[bytes], version_11: bool) -> FieldsRead:
    """The fields of one whole head, and what they mean.

    Args:
        data: the head.
        at: where its first line ends.
        most: how many fields it may have.
        once: those that it may have once.
        version_11: the head says HTTP/1.1.

    Raises:
        FieldsError: they are too many, a line is none, one that may come once comes twice, or framing or Upgrade cannot
            be right.
    """
    count = data.count(b"\n") - 2
    if count > most:
        raise _fault_in_lines(data, most)
    fields = split_fields(data, at)
    if len(fields) != count or not data.endswith(b"\r\n\r\n"):
        raise _fault_in_lines(data, most)
    by_name = first_values(fields)
    if len(by_name) != count:
        _refuse_repeats(fields, once)
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


def _fault_in_lines(data: bytes, most: int) -> FieldsError:
    """What is wrong with a head whose lines are not all fields, or are too many."""
    line_ends = data.translate(None, LINE_BYTES)
    lines = len(line_ends) // 2
    if line_ends != b"\r\n" * lines:
        return FieldsError(BARE_LINE_ENDS)
    if lines - 2 > most:
        return TooManyFieldsError("too many fields")
    return FieldsError("a line that is no field" if data.endswith(b"\r\n\r\n") else "not one whole head")


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
KEEP_ALIVE: Final = frozenset((b"keep-alive",))


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

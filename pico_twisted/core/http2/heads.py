"""Heads of HTTP/2 as those of HTTP/1.1, and back: what crosses the tunnel is the same, whatever a client speaks.

What can go wrong: translating is where requests have been smuggled. A field that HTTP/2 carries as it is, such as a
line end in a value or a second length, becomes another message in HTTP/1.1. So there is one grammar: fields are written
as the lines of a head, and `core.http1.head` reads them as it reads a client's. It finds all that is not allowed in
HTTP/1.1, and the lines are counted, so that none of them can have become two. What HTTP/2 forbids besides, names that
are not in lower case and fields of a connection, libnghttp2 refuses (RFC 9113 8.2), and it is refused here once more:
what a service is asked does not hang on one library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from pico_twisted.core.field_names import FRAMING, HOP_BY_HOP
from pico_twisted.core.http1.errors import Http1Error, bad_request, bad_response
from pico_twisted.core.http1.head import (
    HeadLimits,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.http1.trailers import announced
from pico_twisted.core.http2.engine import secret
from pico_twisted.core.http2.events import WireFields

WEBSOCKET_KEY: Final = b"cGljb190d2lzdGVkIGgyIQ=="
"""The key of a WebSocket that was opened over HTTP/2, which knows none (RFC 8441 5): 16 bytes that mean nothing."""

MAX_CRUMBS: Final = 256
"""Most fields of cookies in a request, each counted for itself: joined they are one field, of a bounded length, but by
then they were held apart. A browser keeps up to 180 cookies of a site, and may send each in a field of its own."""

_NOT_SENT: Final = HOP_BY_HOP | FRAMING | frozenset((b"host",))
_OF_A_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
"""Fields that no message of HTTP/2 has (RFC 9113 8.2.2)."""

_NAME_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_GATHERED: Final = frozenset((b"cookie", b"host"))
_SCHEMES: Final = frozenset((b"http", b"https"))
_TE: Final = b"te"
_KEY: Final = b"sec-websocket-key"
_ACCEPT: Final = b"sec-websocket-accept"
_SECRETS: Final = frozenset(
    (b"authorization", b"cookie", b"proxy-authorization", b"set-cookie", b"x-pico-authorization")
)


def request_head(fields: WireFields, limits: HeadLimits) -> RequestHead:
    """The head of a request that came over HTTP/2.

    An extended CONNECT becomes a GET that offers an upgrade (RFC 8441); its length is known by nobody.

    Args:
        fields: as they came, checked by libnghttp2.
        limits: what the head is held to, written as one of HTTP/1.1.

    Raises:
        Http1Error: as `parse_request_head`; 501 for a plain CONNECT.
    """
    names = [name for name, _ in fields]
    count, in_all, to_gather = _NAMES[b"\0".join(names)] or _NOT_HTTP2
    if in_all != len(names):
        raise bad_request("a field that HTTP/2 does not have, or not there")
    pseudo = dict(fields[:count])
    rest = fields[count:]
    host: bytes | None = None
    if to_gather:
        rest, host = _gathered(rest)
    method, target, authority = _request_line(pseudo, host)
    protocol = pseudo.get(b":protocol")
    if protocol is not None:
        # A key means nothing here (RFC 8441 5). HAProxy leaves in that of its client of HTTP/1.1.
        rest = [field for field in rest if field[0] != _KEY]
    lines = [b"", b"Host: " + authority]
    lines += [name + b": " + value for name, value in rest]
    if protocol is not None:
        lines += _offer(protocol, method, names)
        method = b"GET"
    lines[0] = method + b" " + target + b" HTTP/1.1"
    count = len(lines) - 1
    lines += (b"", b"")
    head = parse_request_head(b"\r\n".join(lines), limits)
    if len(head.fields) != count or head.method != method:
        raise bad_request("line ends in the head")
    return head


def _judge_names(joined: bytes) -> tuple[int, int, bool] | None:
    """How many pseudo-header fields there are, how many fields in all, and whether some are to be gathered.

    None if the names are not those of HTTP/2: a pseudo-header field that comes twice, or behind another field, for one.

    Args:
        joined: the names, with a byte between them that none can have.
    """
    names = joined.split(b"\0")
    pseudo = list(takewhile(lambda name: name[:1] == b":", names))
    rest = names[len(pseudo) :]
    strange = b"".join(rest).translate(None, _NAME_BYTES)
    if strange or len(set(pseudo)) != len(pseudo) or not _OF_A_CONNECTION.isdisjoint(rest):
        return None
    return len(pseudo), len(names), not _GATHERED.isdisjoint(rest)


_NOT_HTTP2: Final = (0, -1, False)
_NAMES: Final = Memo(_judge_names, 1024, longest_bytes=512)
"""By the names of a message: clients send the same ones again and again."""


def _gathered(fields: WireFields) -> tuple[WireFields, bytes | None]:
    """The fields with one Cookie at the end for all of its crumbs (RFC 9113 8.2.3) and without Host, and that."""
    cookies = [value for name, value in fields if name == b"cookie"]
    hosts = [value for name, value in fields if name == b"host"]
    if len(cookies) > MAX_CRUMBS:
        raise Http1Error(431, "head-too-large", "too many cookies")
    if len(hosts) > 1:
        raise bad_request("several Hosts")
    rest = [field for field in fields if field[0] not in _GATHERED]
    if cookies:
        rest.append((b"cookie", b"; ".join(cookies)))
    return rest, hosts[0] if hosts else None


def _request_line(pseudo: Mapping[bytes, bytes], host: bytes | None) -> tuple[bytes, bytes, bytes]:
    """(method, target, authority) of a request, by its pseudo-header fields (RFC 9113 8.3.1) and its Host."""
    method = pseudo.get(b":method", b"")
    authority = pseudo.get(b":authority")
    if authority is None:
        authority = host or b""
    elif host is not None and host.lower() != authority.lower():
        raise bad_request("Host and :authority differ")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        return method, authority, authority
    if pseudo.get(b":scheme") not in _SCHEMES:
        raise bad_request("only http and https are served")
    target = pseudo.get(b":path", b"")
    if target[:1] != b"/" and target != b"*":
        raise bad_request("bad target")
    return method, target, authority


def _offer(protocol: bytes, method: bytes, names: list[bytes]) -> list[bytes]:
    """The lines of an offer to change to a protocol, for an extended CONNECT (RFC 8441 4)."""
    if method != b"CONNECT" or not protocol or protocol.lower().translate(None, _NAME_BYTES):
        raise bad_request("bad :protocol")
    if b"content-length" in names:
        raise bad_request("a length of what has none")
    lines = [b"Connection: Upgrade", b"Upgrade: " + protocol]
    if protocol.lower() == b"websocket":
        lines.append(b"Sec-WebSocket-Key: " + WEBSOCKET_KEY)
    return lines


def response_fields(head: ResponseHead, goes_on: Callable[[bytes], bool], more: WireFields = ()) -> WireFields:
    """A response's head as it goes to a client over HTTP/2. A 101 becomes a 200 (RFC 8441 5).

    Args:
        head: checked.
        goes_on: whether a field does, by its lower-case name; fields of a connection never do.
        more: fields of ours.
    """
    status = 200 if head.status == 101 else head.status
    fields = [(b":status", b"%d" % status)]
    fields += _onward(head, goes_on, _ACCEPT if head.status == 101 else b"")
    if head.length is not None and status >= 200 and head.status not in (101, 204):
        fields.append((b"content-length", b"%d" % head.length))
    if b"trailer" in head.special and head.status != 101:
        fields += _announced(head)
    fields += more
    return fields


def request_fields(
    head: RequestHead, *, scheme: bytes, authority: bytes, goes_on: Callable[[bytes], bool], trailers: bool
) -> WireFields:
    """A request's head as it goes to a service over HTTP/2. An offer of a WebSocket becomes an extended CONNECT.

    Args:
        head: checked.
        scheme: `http` or `https`, of the service.
        authority: the Host that the service gets.
        goes_on: whether a field does, by its lower-case name; fields of a connection never do.
        trailers: whether trailers of the response are taken.
    """
    fields = [(b":method", head.method)]
    websocket = head.upgrade is not None and head.upgrade.lower() == b"websocket"
    if websocket:
        fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket")]
    fields += ((b":scheme", scheme), (b":authority", authority), (b":path", head.target))
    fields += _onward(head, goes_on, _KEY if websocket else b"")
    if head.length is not None and not websocket:
        fields.append((b"content-length", b"%d" % head.length))
    if b"trailer" in head.special and not websocket:
        fields += _announced(head)  # Go's servers take no others
    if trailers:
        fields.append((_TE, b"trailers"))
    return fields


def _onward(
    head: RequestHead | ResponseHead, goes_on: Callable[[bytes], bool], but: bytes
) -> list[tuple[bytes, bytes]]:
    """The fields that go on, as they go over HTTP/2; without the one that is named besides."""
    connection = head.connection
    return [
        secret(lower, value) if lower in _SECRETS else (lower, value)
        for lower, _, value in head.fields
        if goes_on(lower) and lower not in _NOT_SENT and lower not in connection and lower != but
    ]


def _announced(head: RequestHead | ResponseHead) -> list[tuple[bytes, bytes]]:
    """The field that says which trailers may come, if any of them may go on."""
    names = announced(head, head.connection)
    return [(b"trailer", names)] if names else []


def response_head(
    fields: WireFields, limits: HeadLimits, reasons: Mapping[bytes, bytes] = MappingProxyType({})
) -> ResponseHead:
    """The head of a response that came over HTTP/2. One without a length is framed by its stream.

    Args:
        fields: as they came, checked by libnghttp2.
        limits: what the head is held to, written as one of HTTP/1.1.
        reasons: what is said behind a status, which HTTP/2 does not.

    Raises:
        Http1Error: 502.
    """
    status: bytes | None = None
    names: list[bytes] = []
    lines: list[bytes] = [b""]
    for name, value in fields:
        if name == b":status" and status is None and not names:
            status = value
        else:
            names.append(name)
            lines.append(name + b": " + value)
    if (judged := _NAMES[b"\0".join(names)]) is None or judged[0]:
        raise bad_response("a field that HTTP/2 does not have")
    lines[0] = b"HTTP/1.1 " + (status or b"") + b" " + reasons.get(status or b"", b"")
    lines += (b"", b"")
    head = parse_response_head(b"\r\n".join(lines), limits)
    if len(head.fields) != len(names) or head.status == 101:
        raise bad_response("a head that does not belong into HTTP/2")
    return head

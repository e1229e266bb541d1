"""Heads as they go on to the next hop: pure functions from a checked head to bytes.

A head is never patched, always written from its parts: request line or status line, the fields that go on, then ours.
Framing is ours alone, so Content-Length and Transfer-Encoding are written from what the caller knows, never copied.

What does not go on, in both directions: the hop-by-hop fields of RFC 9110 7.6.1, what Connection names, and all
`x-pico-*`. Connection cannot name away what the next hop relies on (`_KEPT`). Of a request also names that a CGI-like
service cannot tell from one that is dropped or set here (`X_Forwarded_For`).

Nothing can be injected: the parts of a head were checked when it was parsed, and what is added from elsewhere is
checked here. A bad value of the caller is a ValueError; an odd client address is written as `unknown`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import attrs

from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import Framing, RequestHead, ResponseHead
from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.http1.target import HOSTS
from pico_twisted.core.text import ENDPOINT_ID_BYTES_PATTERN

MAX_OWN_VIAS: Final = 10
"""Hops of ours that a request may have passed; one that has passed so many goes in circles."""

NO_HOST: Final = b"localhost"
"""The Host of a request that names none, in HTTP/1.0 or by an empty field, on its way over HTTP/1.1."""

_HOP_BY_HOP: Final = frozenset(
    b"""
    connection http2-settings keep-alive proxy-authenticate proxy-authentication-info proxy-authorization
    proxy-connection te trailer transfer-encoding upgrade
    """.split()
)
_FRAMING: Final = frozenset((b"content-length",))
_HOST_FIELD: Final = frozenset((b"host",))
_FORWARDED: Final = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
_REQUEST_ID: Final = frozenset((b"x-request-id",))
_OURS: Final = _FORWARDED | _REQUEST_ID | _FRAMING | _HOST_FIELD | _HOP_BY_HOP

_KEPT: Final = frozenset((b"authorization", b"content-length", b"host", b"via")) | _FORWARDED | _REQUEST_ID
"""What Connection cannot name away: what routing, framing and access hang on, and what we set ourselves."""

REQUEST_ID_PATTERN: Final = re.compile(rb"[0-9A-Za-z._-]{1,128}")
"""Matches the whole of a request ID that goes on, from a client or of our own."""

_PLAIN_CONNECTION: Final = frozenset((b"close", b"keep-alive", b"upgrade"))

_MAX_REMEMBERED: Final = 1024
"""Most results that are kept of each function that is asked the same again and again."""

_ADDRESS: Final = re.compile(rb"([0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._-]{1,32})?")
_PSEUDONYM: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,160}")
_OWN_VIA: Final = re.compile(rb"(?:^|,)[ \t]*[^ \t,]+[ \t]+pico-")
_NEEDS_QUOTES: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")


def _goes_on(
    dropped: frozenset[bytes], lookalikes: frozenset[bytes] = frozenset(), kept: frozenset[bytes] = frozenset()
) -> Memo[bool]:
    """Whether a field goes on, by lower-case name: all but those in `dropped`, those in `lookalikes` when they are
    written with underscores, and `x-pico-*` unless it is in `kept`."""

    def decide(lower: bytes) -> bool:
        dashed = lower.replace(b"_", b"-")
        if lower in dropped or dashed.startswith(b"x-pico-"):
            return lower in kept
        return dashed == lower or dashed not in lookalikes

    return Memo(decide, _MAX_REMEMBERED)


_TO_TUNNEL: Final = _goes_on(_OURS, _OURS)
_FROM_LINK: Final = _goes_on(_HOP_BY_HOP | _FRAMING | _HOST_FIELD, kept=frozenset((CLIENT_CONNECTION,)))
_TO_SERVICE: Final = _goes_on(_HOP_BY_HOP | _FRAMING | _HOST_FIELD, _OURS)
_RESPONSE: Final = _goes_on(_HOP_BY_HOP | _FRAMING)


def _make_via_lines(via: bytes) -> tuple[bytes, bytes]:
    if not _PSEUDONYM.fullmatch(via):
        raise ValueError("a Via pseudonym is a token")
    return b"Via: 1.0 " + via + b"\r\n", b"Via: 1.1 " + via + b"\r\n"


_VIA_LINES: Final = Memo(_make_via_lines, _MAX_REMEMBERED, longest_bytes=160)
"""The last lines of a head, by our pseudonym: behind a message of HTTP/1.0, and of HTTP/1.1."""


def _lines(
    first: bytes, head: RequestHead | ResponseHead, goes_on: Memo[bool], length: int | None, upgrade: bytes | None
) -> list[bytes]:
    """The lines of a head without their CRLF: what begins it, the fields that go on, and the framing given."""
    lines = [first]
    connection = head.connection
    if connection and not connection <= _PLAIN_CONNECTION:
        gone = connection - _KEPT
        lines += [name + b": " + value for lower, name, value in head.fields if goes_on[lower] and lower not in gone]
    else:
        lines += [name + b": " + value for lower, name, value in head.fields if goes_on[lower]]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    if upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + upgrade)
    return lines


def count_via(head: RequestHead) -> int:
    """How many hops of ours a request has passed, by the pseudonyms in its Via that begin with `pico-`."""
    if b"via" not in head.by_name:
        return 0
    return len(_OWN_VIA.findall(all_values(head.fields, b"via")))


@attrs.frozen
class Client:
    """Who sent a request.

    Attributes:
        ip: of the client's connection.
        https: the connection is TLS.
        trusted: the client is a proxy whose forwarding fields are believed: they are appended to, not replaced.
        connection: the name of its connection, once a request on it authenticated the connection; else empty.
    """

    ip: bytes
    https: bool = False
    trusted: bool = False
    connection: bytes = b""


@lru_cache(_MAX_REMEMBERED)
def _forwarded(client_ip: bytes, https: bool, host: bytes | None) -> tuple[bytes, bytes, bytes]:
    """The client's address as it is written, the element of Forwarded (RFC 7239 4), and all lines for a client that is
    not trusted."""
    match = _ADDRESS.fullmatch(client_ip)
    if match is None:
        address = node = b"unknown"
    else:
        address = node = match.group(1)
        if b":" in address:
            node = b'"[' + address + b']"'
    proto = b"https" if https else b"http"
    element = b"for=" + node + b";proto=" + proto
    if host is not None:
        element += b';host="' + host + b'"' if _NEEDS_QUOTES.search(host) else b";host=" + host
    return address, element, _forwarding_lines(host, address, proto, element)


def _forwarding_lines(host: bytes | None, address: bytes, proto: bytes, element: bytes) -> bytes:
    lines = [b"X-Forwarded-For: " + address, b"X-Forwarded-Proto: " + proto, b"Forwarded: " + element]
    if host is not None:
        lines.insert(0, b"X-Forwarded-Host: " + host)
    return b"\r\n".join(lines)


def _appended(head: RequestHead, client: Client) -> bytes:
    """The forwarding lines of a request from a trusted proxy: what it said, and behind that what we know."""
    address, element, _ = _forwarded(client.ip, client.https, head.host)
    before = all_values(head.fields, b"x-forwarded-for")
    if before:
        address = before + b", " + address
    before = all_values(head.fields, b"forwarded")
    if before:
        element = before + b", " + element
    proto = head.by_name.get(b"x-forwarded-proto") or (b"https" if client.https else b"http")
    return _forwarding_lines(head.by_name.get(b"x-forwarded-host") or head.host, address, proto, element)


def request_to_tunnel(
    head: RequestHead,
    *,
    client: Client,
    via: bytes,
    request_id: bytes,
    endpoint: bytes | None = None,
    length: int | None = None,
) -> bytes:
    """A client's request as it goes to an agent, or over a node link.

    Args:
        head: as parsed.
        client: who sent it.
        via: our pseudonym, `pico-` and the node's ID.
        request_id: what `REQUEST_ID_PATTERN` matches.
        endpoint: for a node link the endpoint ID that was chosen, which becomes the first field; None for an agent.
        length: the Content-Length to give; None for the head's own.

    Raises:
        Http1Error: 508, the request went in circles.
        ValueError: `via`, `request_id` or `endpoint` may not stand in a head.
    """
    if not REQUEST_ID_PATTERN.fullmatch(request_id):
        raise ValueError("bad request ID")
    by_name = head.by_name
    if b"via" in by_name and count_via(head) >= MAX_OWN_VIAS:
        raise Http1Error(508, "loop", "the request goes in circles")
    first = head.method + b" " + head.target + b" HTTP/1.1\r\n"
    if endpoint is not None:
        if not ENDPOINT_ID_BYTES_PATTERN.fullmatch(endpoint):
            raise ValueError("bad endpoint ID")
        first += b"x-pico-endpoint: " + endpoint + b"\r\n"
    if client.connection:
        first += CLIENT_CONNECTION + b": " + client.connection + b"\r\n"
    lines = _lines(
        first + b"Host: " + (head.host or NO_HOST),
        head,
        _TO_TUNNEL,
        head.length if length is None else length,
        head.upgrade,
    )
    if not head.version_11 and b"expect" in by_name:
        lines = [line for line in lines if line[:7].lower() != b"expect:"]
    lines += (
        _appended(head, client) if client.trusted else _forwarded(client.ip, client.https, head.host)[2],
        b"x-request-id: " + request_id,
        _VIA_LINES[via][head.version_11],
        b"",
    )
    return b"\r\n".join(lines)


def request_from_link(head: RequestHead, length: int | None = None) -> bytes:
    """A request that came over a node link, as it goes to an agent.

    The node that took it from the client has set all fields that a hop sets, Via too: what the agent gets must not tell
    whether the request crossed a link.

    Args:
        head: as it came over the link.
        length: the Content-Length to give; None for the head's own.
    """
    first = head.method + b" " + head.target + b" HTTP/1.1\r\nHost: " + (head.host or NO_HOST)
    lines = _lines(first, head, _FROM_LINK, head.length if length is None else length, head.upgrade)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def request_to_service(head: RequestHead, *, host: bytes | None, via: bytes, chunked: bool) -> bytes:
    """A request as the agent sends it to its service.

    Args:
        head: as it came through the tunnel.
        host: the Host to give instead of the client's; None keeps the client's.
        via: our pseudonym.
        chunked: the body is sent in chunks; then no length is given.

    Raises:
        ValueError: `host` or `via` may not stand in a head.
    """
    if host is None:
        host = head.host or NO_HOST
    elif not HOSTS[host]:
        raise ValueError("bad Host")
    first = head.method + b" " + head.target + b" HTTP/1.1\r\nHost: " + host
    lines = _lines(first, head, _TO_SERVICE, None if chunked else head.length, head.upgrade)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    lines += (_VIA_LINES[via][head.version_11], b"")
    return b"\r\n".join(lines)


def response_to_tunnel(head: ResponseHead, *, via: bytes) -> bytes:
    """A service's response as the agent sends it to the node: without transfer coding, interim responses too.

    Args:
        head: as parsed.
        via: our pseudonym.

    Raises:
        ValueError: `via` may not stand in a head.
    """
    lines = _response_lines(head)
    lines += (_VIA_LINES[via][head.version_11], b"")
    return b"\r\n".join(lines)


def response_onto_link(head: ResponseHead) -> bytes:
    """An agent's response as it goes over a node link, interim responses too.

    The head goes as it came where that is possible. The node at the other end reads it as it would read the agent's,
    and is the hop that passes it on: no Via is added here, and what only a hop may say or hear stays in.

    Args:
        head: as it came through the tunnel, or one of our own.
    """
    if head.raw:
        return head.raw
    lines = _response_lines(head)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def _response_lines(head: ResponseHead) -> list[bytes]:
    """The lines of a response between hops of ours, without the last, empty one."""
    status = head.status
    return _lines(
        b"HTTP/1.1 %d %b" % (status, head.reason),
        head,
        _RESPONSE,
        None if status < 200 or status == 204 else head.length,
        head.upgrade if status == 101 else None,
    )


def response_to_client(
    head: ResponseHead, framing: Framing, *, close: bool, via: bytes, version_11_client: bool = True
) -> bytes:
    """A response as it goes to a proxy client, interim responses too. The status line always says HTTP/1.1.

    Args:
        head: as it came through the tunnel.
        framing: of the body towards the client. `CHUNKED` is not for HTTP/1.0 clients.
        close: the connection is closed after this response.
        via: our pseudonym.
        version_11_client: the client speaks HTTP/1.1; one that does not is told when its connection is kept.

    Raises:
        ValueError: `via` may not stand in a head, or chunks for an HTTP/1.0 client.
    """
    status = head.status
    lines = _lines(b"HTTP/1.1 %d %b" % (status, head.reason), head, _RESPONSE, None, None)
    if b"x-pico-error" in head.by_name:
        lines += [name + b": " + value for lower, name, value in head.fields if lower == b"x-pico-error"]
    if framing is Framing.CHUNKED:
        if not version_11_client:
            raise ValueError("no chunks for an HTTP/1.0 client")
        lines.append(b"Transfer-Encoding: chunked")
    elif head.length is not None and status >= 200 and status != 204:
        lines.append(b"Content-Length: %d" % head.length)
    if status >= 200:
        if close:
            lines.append(b"Connection: close")
        elif not version_11_client:
            lines.append(b"Connection: keep-alive")
    elif framing is Framing.RAW:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + (head.upgrade or b""))
    lines += (_VIA_LINES[via][head.version_11], b"")
    return b"\r\n".join(lines)

"""Heads as they go on to the next hop: pure functions from a checked head to bytes.

A head is never patched, always written anew: request line or status line, the fields that go on, then ours. Framing is
ours alone, so Content-Length and Transfer-Encoding are written from what the caller knows, never copied.

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

from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import KEEP, Keep, RequestHead, ResponseHead, valid_host
from pico_twisted.core.text import ENDPOINT_ID_BYTES_PATTERN

MAX_OWN_VIAS: Final = 10
"""A request that has passed this many hops of ours goes in circles."""

NO_HOST: Final = b"localhost"
"""The Host of a request that has none, which only HTTP/1.0 allows, on its way over HTTP/1.1."""

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

_PLAIN_CONNECTION: Final = frozenset((b"close", b"keep-alive", b"upgrade"))

_MAX_VERDICTS: Final = 1024
_MAX_NAME_BYTES: Final = 64

_SANE_REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z._-]{1,128}")
_ADDRESS: Final = re.compile(rb"([0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._-]{1,32})?")
_PSEUDONYM: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,160}")
_OWN_VIA: Final = re.compile(rb"(?:^|,)[ \t]*[^ \t,]+[ \t]+pico-")
_NEEDS_QUOTES: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")


class _GoesOn(dict[bytes, bool]):
    """Whether a field goes on, by lower-case name: decided at a name's first sight and kept, bounded.

    Args:
        dropped: names that do not.
        lookalikes: names that do not when they are written with underscores.
    """

    def __init__(self, dropped: frozenset[bytes], lookalikes: frozenset[bytes] = frozenset()) -> None:
        super().__init__()
        self._dropped = dropped
        self._lookalikes = lookalikes

    def __missing__(self, lower: bytes) -> bool:
        dashed = lower.replace(b"_", b"-")
        goes_on = lower not in self._dropped and not dashed.startswith(b"x-pico-")
        if dashed != lower and dashed in self._lookalikes:
            goes_on = False
        if len(self) < _MAX_VERDICTS and len(lower) <= _MAX_NAME_BYTES:
            self[lower] = goes_on
        return goes_on


_TO_TUNNEL: Final = _GoesOn(_OURS, _OURS)
_FROM_LINK: Final = _GoesOn(_HOP_BY_HOP | _FRAMING | _HOST_FIELD)
_TO_SERVICE: Final = _GoesOn(_HOP_BY_HOP | _FRAMING | _HOST_FIELD, _OURS)
_RESPONSE: Final = _GoesOn(_HOP_BY_HOP | _FRAMING)

_vias: Final[dict[bytes, bytes]] = {}


def _via_line(via: bytes, version_11: bool) -> bytes:
    line = _vias.get(via)
    if line is None:
        if not _PSEUDONYM.fullmatch(via):
            raise ValueError("a Via pseudonym is a token")
        line = b"Via: 1.1 " + via + b"\r\n"
        if len(_vias) < _MAX_VERDICTS:
            _vias[via] = line
    return line if version_11 else line.replace(b"1.1", b"1.0", 1)


def _lines(head: RequestHead | ResponseHead, goes_on: _GoesOn) -> list[bytes]:
    """The lines of the fields that go on, without their CRLF."""
    connection = head.connection
    if connection and not connection <= _PLAIN_CONNECTION:
        gone = connection - _KEPT
        return [name + b": " + value for lower, name, value in head.fields if goes_on[lower] and lower not in gone]
    return [name + b": " + value for lower, name, value in head.fields if goes_on[lower]]


def count_via(head: RequestHead) -> int:
    """How many hops of ours a request has passed, by the pseudonyms in its Via that begin with `pico-`."""
    if b"via" not in head.index:
        return 0
    return len(_OWN_VIA.findall(all_values(head.fields, b"via")))


def sane_request_id(head: RequestHead) -> bytes | None:
    """The request ID that the client gave, if it is 1 to 128 letters, digits, dots, underscores and dashes."""
    value = head.index.get(b"x-request-id")
    if value is not None and _SANE_REQUEST_ID.fullmatch(value):
        return value
    return None


@lru_cache(_MAX_VERDICTS)
def _forwarded(client_ip: bytes, https: bool, host: bytes | None) -> tuple[bytes, bytes]:
    """The client's address as it is written, and the element of Forwarded (RFC 7239 4)."""
    match = _ADDRESS.fullmatch(client_ip)
    if match is None:
        address = node = b"unknown"
    else:
        address = node = match.group(1)
        if b":" in address:
            node = b'"[' + address + b']"'
    element = b"for=" + node + (b";proto=https" if https else b";proto=http")
    if host is not None:
        element += b';host="' + host + b'"' if _NEEDS_QUOTES.search(host) else b";host=" + host
    return address, element


def request_to_tunnel(
    head: RequestHead,
    *,
    client_ip: bytes,
    https: bool,
    trusted: bool,
    via: bytes,
    request_id: bytes,
    endpoint: bytes | None = None,
    length: int | Keep | None = KEEP,
) -> bytes:
    """A client's request as it goes to an agent, or over a node link.

    Args:
        head: as parsed.
        client_ip: of the client's connection.
        https: the client's connection is TLS.
        trusted: the client is a proxy whose forwarding fields are believed: they are appended to, not replaced.
        via: our pseudonym, `pico-` and the node's ID.
        request_id: what `sane_request_id` accepts.
        endpoint: for a node link the endpoint ID that was chosen, which becomes the first field; None for an agent.
        length: the Content-Length to give; None for none.

    Raises:
        Http1Error: 508, the request went in circles.
        ValueError: `via`, `request_id` or `endpoint` may not stand in a head.
    """
    if not _SANE_REQUEST_ID.fullmatch(request_id):
        raise ValueError("bad request ID")
    index = head.index
    if b"via" in index and count_via(head) >= MAX_OWN_VIAS:
        raise Http1Error(508, "loop", "the request goes in circles")
    host = head.host
    address, element = _forwarded(client_ip, https, host)
    forwarded_proto = b"https" if https else b"http"
    forwarded_host = host
    if trusted:
        before = all_values(head.fields, b"x-forwarded-for")
        if before:
            address = before + b", " + address
        before = all_values(head.fields, b"forwarded")
        if before:
            element = before + b", " + element
        forwarded_proto = index.get(b"x-forwarded-proto") or forwarded_proto
        forwarded_host = index.get(b"x-forwarded-host") or forwarded_host
    first = head.method + b" " + head.target + b" HTTP/1.1\r\n"
    if endpoint is not None:
        if not ENDPOINT_ID_BYTES_PATTERN.fullmatch(endpoint):
            raise ValueError("bad endpoint ID")
        first += b"x-pico-endpoint: " + endpoint + b"\r\n"
    lines = [first + b"Host: " + (host or NO_HOST)]
    lines += _lines(head, _TO_TUNNEL)
    if not head.version_11 and b"expect" in index:
        lines = [line for line in lines if line[:7].lower() != b"expect:"]
    if length is KEEP:
        length = head.length
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    if head.upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    if forwarded_host is not None:
        lines.append(b"X-Forwarded-Host: " + forwarded_host)
    lines += (
        b"X-Forwarded-For: " + address,
        b"X-Forwarded-Proto: " + forwarded_proto,
        b"Forwarded: " + element,
        b"x-request-id: " + request_id,
        _via_line(via, head.version_11),
        b"",
    )
    return b"\r\n".join(lines)


def request_from_link(head: RequestHead, length: int | Keep | None = KEEP) -> bytes:
    """A request that came over a node link, as it goes to an agent.

    The node that took it from the client has set all fields that a hop sets, Via too: what the agent gets must not tell
    whether the request crossed a link.

    Args:
        head: as it came over the link.
        length: the Content-Length to give; None for none.
    """
    lines = [head.method + b" " + head.target + b" HTTP/1.1\r\nHost: " + (head.host or NO_HOST)]
    lines += _lines(head, _FROM_LINK)
    if length is KEEP:
        length = head.length
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    if head.upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def request_to_service(
    head: RequestHead,
    *,
    host: bytes | None,
    via: bytes,
    chunked: bool,
    length: int | Keep | None = KEEP,
) -> bytes:
    """A request as the agent sends it to its service.

    Args:
        head: as it came through the tunnel.
        host: the Host to give instead of the client's; None keeps the client's.
        via: our pseudonym.
        chunked: the body is sent in chunks; then no length is given.
        length: the Content-Length to give; None for none.

    Raises:
        ValueError: `host` or `via` may not stand in a head.
    """
    if host is None:
        host = head.host or NO_HOST
    elif not valid_host(host):
        raise ValueError("bad Host")
    lines = [head.method + b" " + head.target + b" HTTP/1.1\r\nHost: " + host]
    lines += _lines(head, _TO_SERVICE)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    else:
        if length is KEEP:
            length = head.length
        if length is not None:
            lines.append(b"Content-Length: %d" % length)
    if head.upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    lines.append(_via_line(via, head.version_11))
    lines.append(b"")
    return b"\r\n".join(lines)


def response_to_tunnel(head: ResponseHead, *, via: bytes, length: int | Keep | None = KEEP) -> bytes:
    """A service's response as the agent sends it to the node: without transfer coding, interim responses too.

    Args:
        head: as parsed.
        via: our pseudonym.
        length: the Content-Length to give; None for none. 1xx and 204 never have one.

    Raises:
        ValueError: `via` may not stand in a head.
    """
    if length is KEEP:
        length = head.length
    lines = _response_lines(head, length)
    lines.append(_via_line(via, head.version_11))
    lines.append(b"")
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
    lines = _response_lines(head, head.length)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def _response_lines(head: ResponseHead, length: int | None) -> list[bytes]:
    """The lines of a response between hops of ours, without the last, empty one."""
    status = head.status
    lines = [b"HTTP/1.1 %d %b" % (status, head.reason)]
    lines += _lines(head, _RESPONSE)
    if status >= 200 and status != 204:
        if length is not None:
            lines.append(b"Content-Length: %d" % length)
    elif status == 101 and head.upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    return lines


_PICO_ERROR: Final = frozenset((b"x-pico-error",))


def response_to_client(
    head: ResponseHead,
    *,
    close: bool,
    chunked: bool,
    via: bytes,
    version_11_client: bool = True,
    keep: frozenset[bytes] = _PICO_ERROR,
    length: int | Keep | None = KEEP,
) -> bytes:
    """A response as it goes to a proxy client, interim responses too. The status line always says HTTP/1.1.

    Args:
        head: as it came through the tunnel.
        close: the connection is closed after this response.
        chunked: the body is sent in chunks; then no length is given. Not for HTTP/1.0 clients.
        via: our pseudonym.
        version_11_client: the client speaks HTTP/1.1; one that does not is told when its connection is kept.
        keep: names of `x-pico-*` fields that go on.
        length: the Content-Length to give; None for none. 1xx and 204 never have one.

    Raises:
        ValueError: `via` may not stand in a head, or chunks for an HTTP/1.0 client.
    """
    status = head.status
    lines = [b"HTTP/1.1 %d %b" % (status, head.reason)]
    lines += _lines(head, _RESPONSE)
    if keep and not keep.isdisjoint(head.index):
        lines += [
            name + b": " + value for lower, name, value in head.fields if lower in keep and lower.startswith(b"x-pico-")
        ]
    if status < 200:
        if status == 101 and head.upgrade is not None:
            lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    else:
        if chunked:
            if not version_11_client:
                raise ValueError("no chunks for an HTTP/1.0 client")
            if status != 204 and status != 304:
                lines.append(b"Transfer-Encoding: chunked")
        elif status != 204:
            if length is KEEP:
                length = head.length
            if length is not None:
                lines.append(b"Content-Length: %d" % length)
        if close:
            lines.append(b"Connection: close")
        elif not version_11_client:
            lines.append(b"Connection: keep-alive")
    lines.append(_via_line(via, head.version_11))
    lines.append(b"")
    return b"\r\n".join(lines)


__all__ = [
    "KEEP",
    "MAX_OWN_VIAS",
    "NO_HOST",
    "count_via",
    "error_response",
    "request_from_link",
    "request_to_service",
    "request_to_tunnel",
    "response_onto_link",
    "response_to_client",
    "response_to_tunnel",
    "sane_request_id",
]

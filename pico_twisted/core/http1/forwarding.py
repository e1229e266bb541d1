"""Heads as they go on to the next hop: pure functions from a checked head to bytes.

A head is never patched. It is written from its parts: request line or status line, the fields that go on, then ours; or
it is plain, and what goes on is known to be what came (`plain`). Framing is ours alone, so Content-Length and
Transfer-Encoding are written from what the caller knows, never copied.

What does not go on, in both directions: the hop-by-hop fields of RFC 9110 7.6.1, what Connection names, and all
`x-pico-*`. Connection cannot name away what the next hop relies on (`_KEPT`). Of a request also what tells of the
client, which `account` tells anew, and names that a CGI-like service cannot tell from one that is dropped or set here
(`X_Forwarded_For`). TE and Trailer are written anew, by what `trailers` makes of them.

Nothing can be injected: the parts of a head were checked when it was parsed, and what is added from elsewhere is
checked here. A bad value of the caller is a ValueError.

*Loops.* A service may be a proxy port of ours, and then a request goes in circles. The hop that closes the circle is
one to a service, so what finds it has to go there. That is CDN-Loop (RFC 8586), made for this because services act on
Via: many do not compress for a client behind one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pico_twisted.core.field_names import (
    ACCOUNT,
    BETWEEN_HOPS,
    FRAMING,
    HOP_BY_HOP,
    ONWARD,
    OURS,
    REQUEST_ID,
    is_ours,
    plain_name,
)
from pico_twisted.core.http1.account import Account, Peer
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.fields import Fields, all_values
from pico_twisted.core.http1.head import IN_CHUNKS, RAW, Framing, RequestHead, ResponseHead
from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.http1.target import HOSTS
from pico_twisted.core.http1.trailers import TE_LINE, announcement, takes_trailers
from pico_twisted.core.text import ENDPOINT_ID_BYTES_PATTERN

MAX_PASSES: Final = 10
"""Times that a request may have come to a proxy port of ours; one that has come so often goes in circles."""

NO_HOST: Final = b"localhost"
"""The Host of a request that names none, in HTTP/1.0 or by an empty field, on its way over HTTP/1.1."""

_KEPT: Final = frozenset((b"authorization", b"cdn-loop", b"content-length", b"host", b"via")) | ACCOUNT | REQUEST_ID
"""What Connection cannot name away: what routing, framing and access hang on, and what we set ourselves."""

REQUEST_ID_PATTERN: Final = re.compile(rb"[0-9A-Za-z._-]{1,128}")
"""Matches the whole of a request ID that goes on, from a client or of our own."""

_PLAIN_CONNECTION: Final = frozenset((b"close", b"keep-alive", b"upgrade"))

_MAX_REMEMBERED: Final = 1024
"""Most results that are kept of each function that is asked the same again and again."""

_PSEUDONYM: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,160}")
_OWN_VIA: Final = re.compile(rb"(?:^|,)[ \t]*[^ \t,]+[ \t]+pico-[^,]*")
_OWN_LOOP: Final = re.compile(rb"(?:^|,)[ \t]*pico[ \t]*(?=[;,]|$)")
_LOOP_LINE: Final = b"CDN-Loop: pico\r\n"


def _goes_on(
    dropped: Callable[[bytes], bool], disguised: Callable[[bytes], bool] | None = None, kept: bytes = b""
) -> Memo[bool]:
    """Whether a field goes on, by lower-case name: all but those that are `dropped`, those whose plain name is one of
    the `disguised`, and `x-pico-*` other than the one that is `kept`."""

    def decide(lower: bytes) -> bool:
        plain = plain_name(lower)
        if dropped(lower) or plain.startswith(BETWEEN_HOPS):
            return lower == kept
        return disguised is None or plain == lower or not disguised(plain)

    return Memo(decide, _MAX_REMEMBERED)


_OF_STRANGER: Final = _goes_on(is_ours, is_ours)
_OF_PROXY: Final = _goes_on(OURS.__contains__, is_ours)
_FROM_LINK: Final = _goes_on(ONWARD.__contains__, kept=CLIENT_CONNECTION)
_TO_SERVICE: Final = _goes_on(ONWARD.__contains__, is_ours)
_RESPONSE: Final = _goes_on((HOP_BY_HOP | FRAMING).__contains__)

goes_to_service: Final[Callable[[bytes], bool]] = _TO_SERVICE.__getitem__
"""Whether a field of a request goes on to a service, whatever that speaks, by its lower-case name."""

goes_to_client: Final[Callable[[bytes], bool]] = _RESPONSE.__getitem__
"""Whether a field of a response goes to a proxy client, by its lower-case name."""


def _make_via_lines(via: bytes) -> tuple[bytes, bytes, bytes]:
    if not _PSEUDONYM.fullmatch(via):
        raise ValueError("a Via pseudonym is a token")
    return b"Via: 1.0 " + via + b"\r\n", b"Via: 1.1 " + via + b"\r\n", b"Via: 2 " + via + b"\r\n"


_VIA_LINES: Final = Memo(_make_via_lines, _MAX_REMEMBERED, longest_bytes=160)
"""The last lines of a head, by our pseudonym: behind a message of HTTP/1.0, of HTTP/1.1, and of HTTP/2."""


def _make_endpoint_line(endpoint: bytes) -> bytes:
    if not ENDPOINT_ID_BYTES_PATTERN.fullmatch(endpoint):
        raise ValueError("bad endpoint ID")
    return b"x-pico-endpoint: " + endpoint + b"\r\n"


_ENDPOINT_LINES: Final = Memo(_make_endpoint_line, _MAX_REMEMBERED, longest_bytes=128)
"""The first field of a head on a node link, by the endpoint ID."""


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


def _last_lines(head: RequestHead | ResponseHead) -> bytes:
    """What is written behind the lines of a plain head, but for chunks."""
    return b"\r\n" if head.length is None else b"Content-Length: %d\r\n\r\n" % head.length


def count_passes(head: RequestHead) -> int:
    """How often a request came to a proxy port of ours, by its CDN-Loop; or how many of our hops it passed that say so
    in Via, as all do that are older."""
    looped = len(_OWN_LOOP.findall(all_values(head.fields, b"cdn-loop")))
    return max(looped, len(_OWN_VIA.findall(all_values(head.fields, b"via"))))


def request_to_tunnel(
    head: RequestHead,
    *,
    account: Account,
    peer: Peer,
    request_id: bytes,
    via: bytes | None = None,
    endpoint: bytes | None = None,
    length: int | None = None,
    over_http2: bool = False,
) -> bytes:
    """A client's request as it goes to an agent, or over a node link.

    Args:
        head: as parsed.
        account: who it is from.
        peer: at the other end of its connection. The other words of a trusted proxy about the client go on.
        request_id: what `REQUEST_ID_PATTERN` matches.
        via: our pseudonym, `pico-` and the node's ID; None for no Via.
        endpoint: for a node link the endpoint ID that was chosen, which becomes the first field; None for an agent.
        length: the Content-Length to give; None for the head's own.
        over_http2: it came so, which Via tells.

    Raises:
        Http1Error: 508, the request went in circles.
        ValueError: `via`, `request_id` or `endpoint` may not stand in a head.
    """
    if not REQUEST_ID_PATTERN.fullmatch(request_id):
        raise ValueError("bad request ID")
    special = head.special
    if (b"cdn-loop" in special or b"via" in special) and count_passes(head) >= MAX_PASSES:
        raise Http1Error(508, "loop", "the request goes in circles")
    ours = b""
    if endpoint is not None:
        ours = _ENDPOINT_LINES[endpoint]
    if peer.connection:
        ours += CLIENT_CONNECTION + b": " + peer.connection + b"\r\n"
    if length is None:
        length = head.length
    onward = head.plain
    if onward is None:
        if b"te" in special and head.version_11 and takes_trailers(head):
            ours += TE_LINE + b"\r\n"
        lines = _lines(
            head.method + b" " + head.target + b" HTTP/1.1\r\n" + ours + b"Host: " + (head.host or NO_HOST),
            head,
            _OF_STRANGER if peer.trusts is None else _OF_PROXY,
            length,
            head.upgrade,
        )
        if not head.version_11 and b"expect" in special:
            lines = [line for line in lines if line[:7].lower() != b"expect:"]
        if b"trailer" in special and head.version_11 and (line := announcement(head, head.connection)):
            lines.append(line)
        onward = b"\r\n".join(lines) + b"\r\n"
    else:
        if ours:
            onward = onward.replace(b"\r\n", b"\r\n" + ours, 1)
        if length is not None:
            onward += b"Content-Length: %d\r\n" % length
    end = _LOOP_LINE if via is None else _LOOP_LINE + _VIA_LINES[via][2 if over_http2 else head.version_11]
    return b"%b%b\r\nx-request-id: %b\r\n%b\r\n" % (onward, account.lines, request_id, end)


def request_from_link(head: RequestHead, length: int | None = None) -> bytes:
    """A request that came over a node link, as it goes to an agent.

    The node that took it from the client has set all fields that a hop sets: what the agent gets must not tell whether
    the request crossed a link.

    Args:
        head: as it came over the link.
        length: the Content-Length to give; None for the head's own.
    """
    first = head.method + b" " + head.target + b" HTTP/1.1\r\n"
    if takes_trailers(head):
        first += TE_LINE + b"\r\n"
    first += b"Host: " + (head.host or NO_HOST)
    lines = _lines(first, head, _FROM_LINK, head.length if length is None else length, head.upgrade)
    if line := announcement(head):
        lines.append(line)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def without_te(head: bytes) -> bytes:
    """A request's head for a peer that takes no trailers.

    Args:
        head: as one of the functions above wrote it: no other line of it says TE.
    """
    return head.replace(b"\r\n" + TE_LINE + b"\r\n", b"\r\n", 1)


def request_to_service(head: RequestHead, *, host: bytes | None, chunked: bool, trailers: bool = False) -> bytes:
    """A request as the agent sends it to its service.

    Args:
        head: as it came through the tunnel.
        host: the Host to give instead of the client's; None keeps the client's.
        chunked: the body is sent in chunks; then no length is given.
        trailers: those of the response get to the client.

    Raises:
        ValueError: `host` may not stand in a head.
    """
    if host is None:
        if head.plain is not None and not trailers:
            return head.plain + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else _last_lines(head))
        host = head.host or NO_HOST
    elif not HOSTS[host]:
        raise ValueError("bad Host")
    first = head.method + b" " + head.target + b" HTTP/1.1\r\nHost: " + host
    lines = _lines(first, head, _TO_SERVICE, None if chunked else head.length, head.upgrade)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
        if line := announcement(head):
            lines.append(line)
    if trailers and head.upgrade is None:
        lines.append(b"Connection: TE\r\n" + TE_LINE)  # of one connection alone (RFC 9110 10.1.4)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def response_to_tunnel(head: ResponseHead) -> bytes:
    """A service's response as the agent sends it to the node: without transfer coding, interim responses too."""
    if head.plain is not None:
        return head.plain + _last_lines(head)
    status = head.status
    lines = _lines(
        b"HTTP/1.1 %d %b" % (status, head.reason),
        head,
        _RESPONSE,
        None if status < 200 or status == 204 else head.length,
        head.upgrade if status == 101 else None,
    )
    if line := announcement(head, head.connection):
        lines.append(line)
    lines += (b"", b"")
    return b"\r\n".join(lines)


def response_onto_link(head: ResponseHead) -> bytes:
    """An agent's response as it goes over a node link, interim responses too.

    The head goes as it came where that is possible. The node at the other end reads it as it would read the agent's,
    and is the hop that passes it on: what only a hop may say or hear stays in.

    Args:
        head: as it came through the tunnel, or one of our own.
    """
    return head.raw or response_to_tunnel(head)


def response_to_client(
    head: ResponseHead,
    framing: Framing,
    *,
    close: bool,
    request_id: bytes | None = None,
    via: bytes | None = None,
    version_11_client: bool = True,
    trailers: bool = False,
) -> bytes:
    """A response as it goes to a proxy client, interim responses too. The status line always says HTTP/1.1.

    Args:
        head: as it came through the tunnel.
        framing: of the body towards the client. `CHUNKED` is not for HTTP/1.0 clients.
        close: the connection is closed after this response.
        request_id: what the client is told, unless the service told it one of its own; None for an interim response.
        via: our pseudonym; None for no Via, and then none of another hop of ours either.
        version_11_client: the client speaks HTTP/1.1; one that does not is told when its connection is kept.
        trailers: it takes trailers, so it is told which may come behind chunks.

    Raises:
        ValueError: `via` may not stand in a head, or chunks for an HTTP/1.0 client.
    """
    status = head.status
    special = head.special
    if b"via" in special and via is None:
        head = head.replace(fields=without_own_vias(head.fields))
    onward = head.plain
    if onward is None:
        onward = b"\r\n".join(_lines(b"HTTP/1.1 %d %b" % (status, head.reason), head, _RESPONSE, None, None)) + b"\r\n"
    if request_id is not None and b"x-request-id" not in special:
        onward += b"x-request-id: %b\r\n" % request_id
    if framing is IN_CHUNKS:
        if not version_11_client:
            raise ValueError("no chunks for an HTTP/1.0 client")
        onward += b"Transfer-Encoding: chunked\r\n"
        if trailers and (line := announcement(head)):
            onward += line + b"\r\n"
    elif head.length is not None and status >= 200 and status != 204:
        onward += b"Content-Length: %d\r\n" % head.length
    if status >= 200:
        if close:
            onward += b"Connection: close\r\n"
        elif not version_11_client:
            onward += b"Connection: keep-alive\r\n"
    elif framing is RAW:
        onward += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % (head.upgrade or b"")
    return onward + (b"\r\n" if via is None else _VIA_LINES[via][head.version_11] + b"\r\n")


def without_own_vias(fields: Fields) -> Fields:
    """The fields without what older agents of ours say of themselves in Via."""
    kept: list[tuple[bytes, bytes, bytes]] = []
    for lower, name, value in fields:
        if lower == b"via":
            value = _OWN_VIA.sub(b"", value).lstrip(b", \t")
            if not value:
                continue
        kept.append((lower, name, value))
    return kept

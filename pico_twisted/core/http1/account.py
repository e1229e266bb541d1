"""One account of the client: its address, and the scheme, host and port that it asked for.

What is needed. Services read who their client is in one of two families of fields, X-Forwarded-* or Forwarded (RFC
7239), and each framework prefers another one. So both are written, from one account, and cannot contradict each other.

What can go wrong. Anybody can send these fields. Those of a stranger count for nothing: the account is made from the
connection. Those of a trusted proxy are believed, but not all that is in them: a proxy appends to what its own client
claimed. So a list is read from its end, and what comes before the first address that is no trusted proxy is a
stranger's claim, and dropped as one.

What was chosen. A proxy that writes one family often passes the other on from its client. So the account is read from
one of them alone: X-Forwarded-* if the proxy sent any of it, else Forwarded. What breaks the syntax says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

import attrs

from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.http1.target import HOSTS

MAX_PROXIES: Final = 8
"""Most proxies between a client and us that are told on: each makes the head of a request longer."""

UNKNOWN: Final = b"unknown"
"""What stands where an address would, when none is known (RFC 7239 6.2)."""

_MAX_REMEMBERED: Final = 1024
"""Most accounts of clients without a trusted proxy that are kept: they send one request after the other."""

_IP_NODE: Final = re.compile(
    r"(?P<v4>[0-9.]{7,15})(?::[0-9]{1,5})?"
    r"|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\](?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]{1,32}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._-]{1,32})?"
)
_HIDDEN_NODE: Final = re.compile(r"(unknown|_[0-9A-Za-z._-]{1,63})(?::[0-9A-Za-z._-]{1,33})?", re.IGNORECASE)
_PAIR: Final = re.compile(
    r"[ \t]*(?:(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)="
    r"(?:(?P<token>[!#$%&'*+\-.^_`|~0-9A-Za-z:\[\]]+)|\"(?P<quoted>(?:[^\"\\]|\\.)*)\"))?[ \t]*(?P<end>[;,]|$)"
)
_NEEDS_QUOTES: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_HTTPS: Final = {"https": True, "wss": True, "http": False, "ws": False}
_X_FAMILY: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip")

Told = tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[str]]
"""(addresses, schemes, hosts, ports) as the hops before us told them, the nearest first."""


class Peer(NamedTuple):
    """The other end of a connection to the proxy port: a client, or a proxy in front of it.

    Attributes:
        ip: its address.
        https: the connection is TLS.
        trusts: for a proxy that is trusted: whether an address is of another one. None for anybody else.
        connection: the name of the connection, once a request on it authenticated the connection; else empty.
    """

    ip: bytes
    https: bool = False
    trusts: Callable[[str], bool] | None = None
    connection: bytes = b""


@attrs.frozen
class Account:
    """Who a request is from.

    Attributes:
        address: the client's IP; or `unknown`, or a name that a proxy uses to hide it (RFC 7239 6.3).
        https: the scheme that the client used.
        host: that it asked for, with the port if it gave one; None when it gave no host.
        port: that it asked for.
        proxies: addresses of the proxies between the client and us, the nearest last.
        over: the same as one text, with commas between.
        lines: the fields that tell all this, without the last CRLF.
    """

    address: bytes
    https: bool
    host: bytes | None
    port: int
    proxies: tuple[bytes, ...]
    over: bytes
    lines: bytes


@lru_cache(_MAX_REMEMBERED)
def account_of_peer(ip: bytes, https: bool, host: bytes | None) -> Account:
    """The account of a client that nobody vouches for.

    Args:
        ip: of its connection.
        https: whether that is TLS.
        host: of its request; None when it has none.
    """
    return _account(_ip(ip.decode("ascii", "replace")) or UNKNOWN, https, host, None, ())


def account_of_proxy(head: RequestHead, peer: Peer) -> Account:
    """The account of a client as a trusted proxy gives it.

    Args:
        head: of the proxy's request.
        peer: the proxy.
    """
    own = _ip(peer.ip.decode("ascii", "replace")) or UNKNOWN
    fors, schemes, hosts, ports = _told(head)
    at = -1  # the hop whose client is the client, counted from us
    nodes: list[bytes] = []
    while at + 1 < min(len(fors), MAX_PROXIES) and (node := _node(fors[at + 1])) is not None:
        at += 1
        nodes.append(node)
        if peer.trusts is None or not peer.trusts(node.decode("ascii")):
            break
    host = _at(hosts, at).encode("ascii", "replace")
    port = _at(ports, at)
    account = _account(
        nodes[-1] if nodes else own,
        _HTTPS.get(_at(schemes, at).lower(), peer.https),
        HOSTS[host] or head.host,
        int(port) if port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 0xFFFF else None,
        (*reversed(nodes[:-1]), *((own,) if own != UNKNOWN else ())) if nodes else (),
    )
    if b"x-real-ip" in head.by_name:
        account = attrs.evolve(account, lines=account.lines + b"\r\nX-Real-IP: " + account.address)
    return account


def _account(
    address: bytes, https: bool, host: bytes | None, told_port: int | None, proxies: tuple[bytes, ...]
) -> Account:
    host = host or None
    scheme, default = (b"https", 443) if https else (b"http", 80)
    _, colon, digits = host.rpartition(b":") if host is not None and not host.endswith(b"]") else (b"", b"", b"")
    port = int(digits) if colon and digits.isdigit() else told_port or default
    element = b"for=" + _in_forwarded(address) + b";proto=" + scheme
    lines = [
        b"X-Forwarded-For: " + b", ".join((address, *proxies)),
        b"X-Forwarded-Proto: " + scheme,
        b"X-Forwarded-Port: %d" % port,
    ]
    if host is not None:
        lines.insert(0, b"X-Forwarded-Host: " + host)
        authority = host if colon or port == default else b"%b:%d" % (host, port)
        element += b';host="' + authority + b'"' if _NEEDS_QUOTES.search(authority) else b";host=" + authority
    lines.append(b"Forwarded: " + b", ".join((element, *(b"for=" + _in_forwarded(proxy) for proxy in proxies))))
    return Account(address, https, host, port, proxies, b", ".join(proxies), b"\r\n".join(lines))


def _in_forwarded(node: bytes) -> bytes:
    """An address as Forwarded has it: IPv6 in brackets and quotes (RFC 7239 6)."""
    return b'"[' + node + b']"' if b":" in node else node


def _at(values: Sequence[str], at: int) -> str:
    """What was told at one hop, or by the furthest one that told it; empty when nothing was."""
    return values[min(max(at, 0), len(values) - 1)] if values else ""


def _told(head: RequestHead) -> Told:
    if any(head.by_name.get(name) for name in _X_FAMILY):
        fors, schemes, hosts, ports, real_ip = (_list(head, name) for name in _X_FAMILY)
        return fors or real_ip[:1], schemes, hosts, ports
    return _read_forwarded(_text(head, b"forwarded"))


def _text(head: RequestHead, name: bytes) -> str:
    return all_values(head.fields, name).decode("latin-1")


def _list(head: RequestHead, name: bytes) -> list[str]:
    """The elements of a list, the last one first."""
    return [value for part in reversed(_text(head, name).split(",")) if (value := part.strip(" \t"))]


def _read_forwarded(text: str) -> Told:
    """The elements of Forwarded, the last one first. A hop that left something out knew what the next one told."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            return (), (), (), ()
        name, token, quoted, end = match.group("name", "token", "quoted", "end")
        if name is not None:
            if name.lower() in elements[-1]:
                return (), (), (), ()
            elements[-1][name.lower()] = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
        if end == ",":
            elements.append({})
        at = match.end()
    hops = [element for element in reversed(elements) if element]
    schemes, hosts = [""], [""]
    for hop in hops:
        schemes.append(hop.get("proto") or schemes[-1])
        hosts.append(hop.get("host") or hosts[-1])
    return [hop.get("for") or "unknown" for hop in hops], schemes[1:], hosts[1:], ()


def _node(text: str) -> bytes | None:
    """The address that a proxy tells of its client, without a port; None when it is none, nor hidden."""
    hidden = _HIDDEN_NODE.fullmatch(text)
    if hidden is not None:
        name = hidden.group(1)
        return UNKNOWN if name.lower() == "unknown" else name.encode("ascii")
    return _ip(text)


def _ip(text: str) -> bytes | None:
    match = _IP_NODE.fullmatch(text)
    if match is None:
        return None
    try:
        address = ip_address(match.group("v4") or match.group("v6") or match.group("bare"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address).encode("ascii")

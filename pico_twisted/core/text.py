"""Texts that several parts read and write in the same way: names, addresses, and what strangers sent."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Matches the whole of a name that goes into headers and log lines: a cluster, a node, an agent, a slot."""

ENDPOINT_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Matches the whole of an endpoint ID, in any case."""

ENDPOINT_ID_BYTES_PATTERN: Final = re.compile(ENDPOINT_ID_PATTERN.pattern.encode("ascii"))
"""Matches the whole of an endpoint ID that stands in a head."""

_MAX_NETWORKS: Final = 4096
"""Most addresses whose network is kept: finding it out takes microseconds."""

_IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that count: a customer of a provider has all addresses behind them, and a host changes its
own as it likes (RFC 8981)."""

_SIZES: Final = ("B", "KB", "MB", "GB", "TB")


def printable(text: str, instead: str = "?") -> str:
    """Return a stranger's text with one character in place of each that moves a cursor or hides."""
    return text if text.isprintable() else "".join(char if char.isprintable() else instead for char in text)


def escaped(text: str) -> str:
    """Return a text for a terminal or a log line, with escapes for the characters that move a cursor or hide."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def is_ip(host: str) -> bool:
    """Whether a host is an IP address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an IP, is this machine for itself: no name that somebody else can give away."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


@lru_cache(_MAX_NETWORKS)
def network_of(address: bytes) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address; empty for what is no address, since
    nobody knows how many share it."""
    try:
        ip = ipaddress.ip_address(address.decode("ascii"))
    except ValueError:
        return ""
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), _IPV6_PREFIX), strict=False))


def bracketed(host: str) -> str:
    """Return a host as URLs and `Host` have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int | str) -> str:
    """Return `host:port`, with the brackets that an IPv6 address needs."""
    return f"{bracketed(host)}:{port}"


def milliseconds(seconds: float) -> str:
    """Return a short time in seconds as people read it: in milliseconds."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def short_size(count: int) -> str:
    """A number of bytes with three digits at most, for people."""
    value = float(count)
    for unit in _SIZES:
        if value < 999.5 or unit == _SIZES[-1]:
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def span_text(seconds: float) -> str:
    """A span of time for people, in its largest unit: `4 s`, `12 min`, `3 h`, `5 d`."""
    for unit, size_s, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < size_s * most:
            return f"{int(seconds // size_s)} {unit}"
    return f"{int(seconds // 86400)} d"


def span(seconds: float) -> str:
    """A time in the unit that says enough of it: `40 s`, `4 min`, `3 h`, `12 d`. Only whole units count: what ends in
    `3 d` has three days at least."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(0.0, seconds))} s"

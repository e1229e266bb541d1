"""The PROXY protocol, versions 1 and 2: what a load balancer writes in front of a connection of its client.

After `proxy-protocol.txt` of HAProxy. A receiver is told who may send a header, and never guesses: what comes from such
a sender begins with one, or is refused. Only the address and port of the client are read. What follows the addresses in
version 2 (TLVs) is skipped, within the length that the header gives; more than `MAX_HEADER_BYTES` is refused.

Headers are written for services, too. A node tells an agent the IP of a client and the port that it asked for, and
neither the client's own port nor the IP that it connected to: these are 0, and the unspecified address.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

MAX_HEADER_BYTES: Final = 4096
"""Most bytes of a header: addresses take 216 at most, and TLVs such as a client's certificate name some more."""

MAX_V1_BYTES: Final = 107
"""Most bytes of a header of version 1, its CRLF included."""

V1_START: Final = b"PROXY "
"""How a header of version 1 begins."""

V2_START: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""How a header of version 2 begins."""

_FIXED_BYTES: Final = 16
_V1: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_NO_ADDRESS: Final = (0x00, 0x31)  # unspecified, or a Unix socket


class ProxyHeaderError(Exception):
    """A header that cannot be read; the message says why, without bytes of the sender."""


class ProxyHeader(NamedTuple):
    """A whole header.

    Attributes:
        size: its bytes.
        host: the IP of the client; empty when the sender speaks for itself, as in a health check, or does not know.
        port: the client's; 0 when there is no host.
    """

    size: int
    host: str = ""
    port: int = 0


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header that a connection begins with.

    Args:
        data: all that came of the connection so far.

    Returns:
        The header; None when more of it has to come.

    Raises:
        ProxyHeaderError: it is none, or not a valid one. Told as early as the bytes show it.
    """
    if data.startswith(V2_START):
        return _read_v2(data)
    if data.startswith(V1_START):
        return _read_v1(data)
    if V2_START.startswith(data) or V1_START.startswith(data):
        return None
    raise ProxyHeaderError("no PROXY protocol header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise ProxyHeaderError("a header of version 1 that does not end")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(end + 2)
    match = _V1.fullmatch(line)
    if match is None or int(match[4]) > 0xFFFF or int(match[5]) > 0xFFFF:
        raise ProxyHeaderError("a bad header of version 1")
    family = IPv4Address if match[1] == b"TCP4" else IPv6Address
    try:
        host = str(family(match[2].decode("ascii")))
        family(match[3].decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("a bad address in a header of version 1") from None
    return ProxyHeader(end + 2, host, int(match[4]))


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED_BYTES:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(V2_START))
    size = _FIXED_BYTES + length
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("a header of an unknown version or command")
    if size > MAX_HEADER_BYTES:
        raise ProxyHeaderError("a header that is too long")
    if command == _PROXY and family not in (_TCP4, _TCP6, *_NO_ADDRESS):
        raise ProxyHeaderError("a header for something other than TCP")
    if len(data) < size:
        return None
    if command == _LOCAL or family in _NO_ADDRESS:
        return ProxyHeader(size)
    layout = "!4s4sHH" if family == _TCP4 else "!16s16sHH"
    if struct.calcsize(layout) > length:
        raise ProxyHeaderError("a header without room for its addresses")
    source, _, port, _ = struct.unpack_from(layout, data, _FIXED_BYTES)
    return ProxyHeader(size, str(IPv4Address(source) if family == _TCP4 else IPv6Address(source)), port)


def write_proxy_header(version: int, client: str, to_port: int = 0) -> bytes:
    """Write the header of a connection that is made for a client.

    Args:
        version: 1 or 2.
        client: its IP; anything else when it is not known.
        to_port: the port that it asked for; 0 when it is not known.
    """
    try:
        ip = ip_address(client.partition("%")[0])
    except ValueError:
        return b"PROXY UNKNOWN\r\n" if version == 1 else V2_START + struct.pack("!BBH", _PROXY, _NO_ADDRESS[0], 0)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    nowhere = type(ip)(0)
    if version == 1:
        return f"PROXY TCP{ip.version} {ip} {nowhere} 0 {to_port}\r\n".encode("ascii")
    addresses = ip.packed + nowhere.packed + struct.pack("!HH", 0, to_port)
    family = _TCP4 if ip.version == 4 else _TCP6
    return V2_START + struct.pack("!BBH", _PROXY, family, len(addresses)) + addresses

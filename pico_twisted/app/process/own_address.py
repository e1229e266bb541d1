"""The IP under which others reach a port that is bound to every interface.

What is needed. Others are told one address. It has to be one of this machine's, and one that they can reach: with
several interfaces, in a container, in a network namespace without a default route, and on loopback when the whole
cluster runs on one machine.

What was chosen. The kernel is asked which of its addresses it would use: towards the nodes that are to be joined, then
towards the outside. A UDP socket that is connected tells it, and nothing is sent. Where it has no route at all, the
interfaces are looked through. Rejected: the addresses of the host's own name (on Debian that is 127.0.1.1), and asking
a server on the Internet.

A node's name may stand for loopback on that node alone, so an address that others can reach is preferred to loopback,
whichever of the nodes it was found with.
"""

from __future__ import annotations

import fcntl
import ipaddress
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

from twisted.logger import Logger

log = Logger()

RESOLVE_S = 3.0
"""Seconds that looking up nodes may take at the start. Without an answer the address is found in other ways."""

_OUTSIDE = ("192.0.2.1", "2001:db8::1")  # addresses that no machine has, for documentation (RFC 5737, RFC 3849)
_DISCARD_PORT = 9
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1


def own_ip(towards: Sequence[str] = (), *, ipv4_only: bool = False) -> str:
    """The IP of this machine that others are told.

    Args:
        towards: names and IPs of those who are to reach it, the most important first.
        ipv4_only: whether only an IPv4 address will do.

    Returns:
        An IP; loopback when all of `towards` are on this machine, or when it has no other.
    """
    loopback = ""
    for target in _resolved(towards):
        ip = _local_ip(target, ipv4_only)
        if ip and not ipaddress.ip_address(ip).is_loopback:
            return ip
        loopback = loopback or ip
    if loopback:
        return loopback
    for target in _OUTSIDE:
        if ip := _local_ip(target, ipv4_only):
            return ip
    return next(_interface_ips(ipv4_only), "127.0.0.1")


def is_this_machine(host: str) -> bool:
    """Whether a name or an IP stands for this machine alone. False for a name that cannot be looked up."""
    ips = list(_resolved([host]))
    return bool(ips) and all(map(_is_local, ips))


def _is_local(ip: str) -> bool:
    """Whether it is an address of this machine: only such a one can be bound."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((ip, 0))
    except OSError:
        return False
    return True


def _local_ip(target: str, ipv4_only: bool) -> str:
    """The source address of packets to an IP; empty when there is no route, or when the address is of no use."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((target, _DISCARD_PORT))
            ip = str(sock.getsockname()[0])
    except OSError:
        return ""
    return ip if _can_be_told(ip, ipv4_only) else ""


def _can_be_told(ip: str, ipv4_only: bool) -> bool:
    """A link-local IPv6 address means nothing without the interface, which has another name on each machine."""
    if ":" not in ip:
        return True
    return not ipv4_only and not ipaddress.IPv6Address(ip).is_link_local


def _interface_ips(ipv4_only: bool) -> Iterator[str]:
    """The addresses of the interfaces that are up, IPv4 before IPv6, in the kernel's order."""
    import ifaddr  # here, since it runs a program (ldconfig) when it is imported

    try:
        adapters = [adapter for adapter in ifaddr.get_adapters() if _is_up(adapter.name)]
    except OSError as error:
        log.warn("The interfaces of this machine cannot be listed", reason=str(error))
        return
    addresses = [address for adapter in adapters for address in adapter.ips]
    for address in sorted(addresses, key=lambda one: not one.is_IPv4):
        ip = address.ip if isinstance(address.ip, str) else address.ip[0]
        if _can_be_told(ip, ipv4_only) and not ipaddress.ip_address(ip).is_loopback:
            yield ip


def _is_up(interface: str) -> bool:
    """Whether an interface is up; also where that cannot be told."""
    request = struct.pack("16sH14x", interface.encode()[:15], 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
    except OSError:
        return True
    flags: int = struct.unpack("16sH14x", answer)[1]
    return bool(flags & _IFF_UP)


def _resolved(hosts: Sequence[str]) -> Iterator[str]:
    """The IPs of hosts in their order, as they become known; ends early when that takes too long.

    Names are looked up in a thread: a name server that does not answer must not keep a node from starting.
    """
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def look_up() -> None:
        for host in hosts:
            for ip in _lookup(host):
                found.put(ip)
        found.put(None)

    if not hosts:
        return
    threading.Thread(target=look_up, name="own-address", daemon=True).start()
    deadline = time.monotonic() + RESOLVE_S
    try:
        while (ip := found.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
            yield ip
    except queue.Empty:
        log.warn("The names of the nodes to join are not found in time", waited_s=RESOLVE_S)


def _lookup(host: str) -> list[str]:
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)]
    except (OSError, UnicodeError):
        return []

"""Host names into IPs, with the reactor's resolver, for what is sent without a connection."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from pico_twisted.core.text import host_port
from pico_twisted.net.socket.options import plain_ip

_PORT: Final = re.compile(r"[0-9]{1,5}")


class NamingReactor(Protocol):
    """What is asked of the reactor: time, and names."""

    nameResolver: IHostnameResolver

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., object], /) -> IDelayedCall: ...


@implementer(IResolutionReceiver)
class _Resolution:
    """Gathers the addresses of one name."""

    def __init__(self, found: Deferred[list[str]]) -> None:
        self._found = found
        self._ips: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        assert isinstance(address, IPv4Address | IPv6Address)
        ip = address.host
        if ip not in self._ips:
            self._ips.append(ip)

    def resolutionComplete(self) -> None:
        self._found.callback(self._ips)


def resolve(resolver: IHostnameResolver, host: str) -> Deferred[list[str]]:
    """The IPs of a host, in the resolver's order; empty when it has none. Never fails."""
    found: Deferred[list[str]] = Deferred()
    resolver.resolveHostName(_Resolution(found), host)
    return found


def split_address(text: str) -> tuple[str, int]:
    """Take a text such as another node advertises apart: the host without brackets, and the port.

    Raises:
        ValueError: it is no such text.
    """
    host, _, port = text.rpartition(":")
    if not host or not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise ValueError(f"not host:port: {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def address_text(host: str, port: int) -> str:
    """`host:port`, the same text for the same address."""
    return host_port(plain_ip(host), port)

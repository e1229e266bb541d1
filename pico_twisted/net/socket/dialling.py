"""How to connect to a host over TCP."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

# IReactorTCP, IReactorTime, and for names IReactorPluggableNameResolver: Python has no name for all of these at once
DialReactor = Any

NEXT_ADDRESS_S: Final = 0.03
"""Seconds that a connection to a name waits before it tries the name's next address too. Twisted's 0.3 s are paid in
full by every connection to a service that listens on 127.0.0.1 and is called localhost."""


def tcp_endpoint(reactor: DialReactor, host: str, port: int, timeout_s: float) -> IStreamClientEndpoint:
    """Return how to connect to a host. An IP is not resolved: that would cost a thread's turn and several objects.

    Args:
        reactor: connects.
        host: a name, or an IP without brackets.
        port: its port.
        timeout_s: of an attempt in all.
    """
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout_s)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout_s)
    return HostnameEndpoint(reactor, host, port, timeout=timeout_s, attemptDelay=NEXT_ADDRESS_S)

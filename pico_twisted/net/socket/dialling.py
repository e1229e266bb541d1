"""How to connect to a host over TCP."""

from __future__ import annotations

from typing import Any, Final

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

# IReactorTCP, IReactorTime, and for names IReactorPluggableNameResolver: Python has no name for all of these at once
DialReactor = Any

NEXT_ADDRESS_S: Final = 0.03
"""Seconds that a connection to a name waits before it tries the name's next address too. Twisted's 0.3 s are paid in
full by every connection to a service that listens on the second one."""


LOCALHOST: Final = ("localhost", "localhost.")
"""Names of this machine's loopback addresses, whatever is said of them elsewhere (RFC 6761 6.3)."""


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Loopback:
    """This machine by IPv4, and if nothing listens there, by IPv6."""

    first: IStreamClientEndpoint
    second: IStreamClientEndpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def connect_to_second(refused: Failure) -> Deferred[IProtocol]:
            refused.trap(ConnectionRefusedError)
            return self.second.connect(protocolFactory).addErrback(lambda _: refused)

        return self.first.connect(protocolFactory).addErrback(connect_to_second)


def tcp_endpoint(reactor: DialReactor, host: str, port: int, timeout_s: float) -> IStreamClientEndpoint:
    """Return how to connect to a host. An IP is not resolved: that would cost a thread's turn and several objects.

    Args:
        reactor: connects.
        host: a name, or an IP without brackets.
        port: its port.
        timeout_s: of an attempt in all.
    """
    if host.lower() in LOCALHOST:
        second = TCP6ClientEndpoint(reactor, "::1", port, timeout_s)
        return _Loopback(TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout_s), second)
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout_s)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout_s)
    return HostnameEndpoint(reactor, host, port, timeout=timeout_s, attemptDelay=NEXT_ADDRESS_S)

"""How to connect to a host over TCP, and through which proxies that is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.forward_proxy import ForwardProxies

log = Logger()

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


def tell_of_proxies(proxies: ForwardProxies, urls: Iterable[str]) -> None:
    """Tell the log which proxies are used: an environment may name one that nobody thought of, or that is of no use.

    Args:
        proxies: of this process.
        urls: of the nodes.
    """
    for variable in proxies.unusable:
        log.warn("{variable} names no http or https proxy, and is not used", variable=variable)
    for url in urls:
        proxy = proxies.for_url(url)
        if proxy is not None:
            log.info("{url} is reached through the proxy {proxy}", url=url, proxy=str(proxy))

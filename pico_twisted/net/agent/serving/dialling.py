"""How the services of listeners are connected to, of whatever kind: over TCP or a unix socket, a PROXY protocol header
first, and TLS on that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from zope.interface import implementer

from pico_twisted.config import ListenerConfig
from pico_twisted.net.socket.dialling import LOCALHOST, DialReactor, tcp_endpoint
from pico_twisted.net.socket.unix import UnixEndpoint
from pico_twisted.net.tls.client import HTTP1_ONLY, client_tls


def service_endpoint(
    reactor: DialReactor,
    config: ListenerConfig,
    timeout_s: float,
    *,
    alpn: Sequence[bytes] = HTTP1_ONLY,
    header: bytes = b"",
) -> IStreamClientEndpoint:
    """Return how to connect to the service of a listener.

    Args:
        reactor: connects.
        config: of the listener.
        timeout_s: for a connection without TLS, which the caller has to bound.
        alpn: the protocols that an https service is offered, the best one first.
        header: the first bytes of the connection, in front of TLS.

    Raises:
        UnusableCertificateError: a file of `tls` cannot be used, and never could.
    """
    address, tls = config.addr, config.tls
    if address.path:
        endpoint: IStreamClientEndpoint = UnixEndpoint(reactor, address.path, timeout_s)
    else:
        endpoint = tcp_endpoint(reactor, address.host, address.port, timeout_s)
    if header:
        endpoint = _HeaderFirst(endpoint, header)
    if address.https:
        name = tls.server_name or address.host or LOCALHOST[0]
        ours = client_tls(name, tls.ca, verify=tls.verify, cert=tls.cert, key=tls.key, alpn=alpn)
        endpoint = wrapClientTLS(ours, endpoint, reactor)
    return endpoint


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _HeaderFirst:
    """Connects, and writes some bytes before anybody else does."""

    endpoint: IStreamClientEndpoint
    header: bytes

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = Factory.forProtocol(lambda: _WritesHeader(protocolFactory, self.header))
        factory.noisy = False
        # Twisted's types: the factory of a function makes what the function returns
        connecting = cast("Deferred[_WritesHeader]", self.endpoint.connect(cast(IProtocolFactory, factory)))
        return connecting.addCallback(lambda first: first.made)


class _WritesHeader(Protocol):
    """Writes the header of a connection, and makes way for whom it is for.

    Attributes:
        made: who has the connection.
    """

    transport: Connection  # of TCP or of a unix socket
    made: IProtocol

    def __init__(self, factory: IProtocolFactory, header: bytes) -> None:
        self._factory = factory
        self._header = header

    def connectionMade(self) -> None:
        transport: Any = self.transport  # as a transport and as what has a protocol: no type of Twisted is both
        transport.write(self._header)
        address: IAddress = transport.getPeer()
        made = self._factory.buildProtocol(address)
        assert made is not None  # the factories of services make one for every connection
        self.made = transport.protocol = made
        made.makeConnection(transport)

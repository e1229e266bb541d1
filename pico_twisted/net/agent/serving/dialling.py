"""How the services of listeners are connected to, of whatever kind: over TCP or a unix socket, and TLS on that."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pico_twisted.config import ListenerConfig
from pico_twisted.net.socket.dialling import LOCALHOST, DialReactor, tcp_endpoint
from pico_twisted.net.tls.client import HTTP1_ONLY, client_tls


def service_endpoint(
    reactor: DialReactor, config: ListenerConfig, timeout_s: float, alpn: Sequence[bytes] = HTTP1_ONLY
) -> IStreamClientEndpoint:
    """Return how to connect to the service of a listener.

    Args:
        reactor: connects.
        config: of the listener.
        timeout_s: for a connection without TLS, which the caller has to bound.
        alpn: the protocols that an https service is offered, the best one first.

    Raises:
        UnusableCertificateError: a file of `tls` cannot be used, and never could.
    """
    address, tls = config.addr, config.tls
    if address.path:
        path = "\0" + address.path[1:] if address.path.startswith("@") else address.path
        endpoint: IStreamClientEndpoint = UNIXClientEndpoint(reactor, path, timeout_s)
    else:
        endpoint = tcp_endpoint(reactor, address.host, address.port, timeout_s)
    if address.https:
        name = tls.server_name or address.host or LOCALHOST[0]
        endpoint = wrapClientTLS(client_tls(name, tls.ca, verify=tls.verify, alpn=alpn), endpoint)
    return endpoint

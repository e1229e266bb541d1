"""How an agent reaches a node: over TCP or a unix socket of this machine, perhaps through a proxy, and TLS on that."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import attrs
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pico_twisted.config import ClientTlsConfig
from pico_twisted.core.forward_proxy import ForwardProxy
from pico_twisted.core.text import host_port
from pico_twisted.net.socket.dialling import LOCALHOST, DialReactor, tcp_endpoint
from pico_twisted.net.socket.unix import UnixEndpoint
from pico_twisted.net.tls.client import client_tls
from pico_twisted.net.tls.through_proxy import through_proxy

_SECURE: Final = ("https", "wss")


@attrs.frozen
class NodeUrl:
    """Where a node is, as `connect.url` says it.

    Attributes:
        secure: TLS is spoken.
        host, port: as Host and TLS have them; for a unix socket they are made up.
        path: what comes before the path of the protocol.
        socket: of a unix socket the path; else empty.
    """

    secure: bool
    host: str
    port: int
    path: str = ""
    socket: str = ""

    @classmethod
    def of(cls, url: str) -> NodeUrl:
        """Read a URL that the configuration took."""
        parsed = urlsplit(url)
        if parsed.scheme == "unix":
            return cls(False, LOCALHOST[0], 80, socket=parsed.path)
        secure = parsed.scheme in _SECURE
        port = parsed.port or (443 if secure else 80)
        return cls(secure, parsed.hostname or "", port, parsed.path.rstrip("/"))

    @property
    def web_socket(self) -> str:
        """The URL of a WebSocket, up to the path of the protocol."""
        return f"{'wss' if self.secure else 'ws'}://{host_port(self.host, self.port)}{self.path}"


def node_endpoint(
    reactor: DialReactor, node: NodeUrl, tls: ClientTlsConfig, timeout_s: float, proxy: ForwardProxy | None, agent: str
) -> IStreamClientEndpoint:
    """Return how to connect to a node.

    Args:
        reactor: dials.
        node: where it is.
        tls: how its certificate is checked, and which one we show.
        timeout_s: for each connection without what is on it, which the caller has to bound.
        proxy: that is asked for the connection; None to make it ourselves.
        agent: who we are, for the proxy.

    Raises:
        UnusableCertificateError: a file of `tls` cannot be used, and never could.
    """
    if node.socket:
        return UnixEndpoint(reactor, node.socket, timeout_s)
    if proxy is None:
        endpoint = tcp_endpoint(reactor, node.host, node.port, timeout_s)
    else:
        endpoint = through_proxy(reactor, proxy, host_port(node.host, node.port), agent, timeout_s)
    if node.secure:
        endpoint = wrapClientTLS(client_tls(node.host, tls.root_cas, cert=tls.cert, key=tls.key), endpoint, reactor)
    return endpoint

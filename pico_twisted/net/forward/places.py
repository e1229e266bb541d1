"""Proxy ports at which TCP endpoints are reached, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import attrs
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pico_twisted.core.forward_proxy import ForwardProxy
from pico_twisted.core.text import host_port
from pico_twisted.core.websocket.handshake import TCP_PATH
from pico_twisted.net.socket.dialling import DialReactor, tcp_endpoint
from pico_twisted.net.socket.unix import UnixEndpoint
from pico_twisted.net.tls.client import client_tls
from pico_twisted.net.tls.through_proxy import through_proxy

UNIX = "unix:"
"""What the URL of a port begins with that is the path of a unix socket."""
_SECURE = ("https", "wss")


@attrs.frozen(kw_only=True)
class Place:
    """A proxy port.

    Attributes:
        url: as it was given.
        host: for the field `Host`.
        path: that comes before ours.
        connect: makes how to connect, of the seconds for an attempt; with files that changed read again. It raises
            `UnusableCertificateError` when one of them cannot be used, and never could.
        secure: over TLS.
    """

    url: str
    host: str
    path: str
    connect: Callable[[float], IStreamClientEndpoint]
    secure: bool

    def target(self, endpoint_id: str) -> str:
        """The target of the WebSocket of an endpoint."""
        return f"{self.path}{TCP_PATH.decode('ascii')}{endpoint_id}"


def place_of(
    reactor: DialReactor,
    url: str,
    *,
    ca: str = "",
    cert: str = "",
    key: str = "",
    proxy: ForwardProxy | None = None,
    agent: str = "",
) -> Place:
    """The proxy port of a URL.

    Args:
        reactor: connects.
        url: http, https, ws or wss, perhaps with a path that comes before ours; or `unix:` and the path of a socket.
        ca: the PEM file of those to trust; the system's when empty.
        cert: the PEM file of our certificate; none when empty.
        key: that of its key; the same file when empty.
        proxy: of the network that we are in, which is asked for the connection; None to make it ourselves.
        agent: who we are, for the proxy.
    """
    if url.startswith(UNIX):
        path = url.removeprefix(UNIX)
        return Place(
            url=url,
            host="localhost",
            path="",
            connect=lambda timeout_s: UnixEndpoint(reactor, path, timeout_s),
            secure=False,
        )
    parsed = urlsplit(url)
    host, secure = parsed.hostname or "", parsed.scheme in _SECURE
    port = parsed.port or (443 if secure else 80)

    def connect(timeout_s: float) -> IStreamClientEndpoint:
        if proxy is None:
            plain = tcp_endpoint(reactor, host, port, timeout_s)
        else:
            plain = through_proxy(reactor, proxy, host_port(host, port), agent, timeout_s)
        return wrapClientTLS(client_tls(host, ca, cert=cert, key=key or cert), plain, reactor) if secure else plain

    netloc = parsed.netloc
    return Place(
        url=url,
        host=netloc if netloc.isascii() else netloc.encode("idna").decode("ascii"),
        path=parsed.path.rstrip("/"),
        connect=connect,
        secure=secure,
    )

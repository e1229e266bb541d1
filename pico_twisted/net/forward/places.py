"""Proxy ports at which tcp endpoints are reached, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.forward_proxy import ForwardProxy
from pico_twisted.core.text import host_port
from pico_twisted.core.websocket.frames import LayMask
from pico_twisted.core.websocket.handshake import TCP_PATH
from pico_twisted.net.forward.failures import Again, DialFailed
from pico_twisted.net.socket.dialling import DialReactor, tcp_endpoint
from pico_twisted.net.tls.client import client_tls

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

    def mask(self) -> LayMask | None:
        """What lays masks; None where there are none to lay. It is imported when it is needed: that takes a while."""
        if self.secure:
            return None
        from pico_twisted.net.socket.masking import lay_mask

        return lay_mask


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
            connect=lambda timeout_s: UNIXClientEndpoint(reactor, path, timeout_s),
            secure=False,
        )
    parsed = urlsplit(url)
    host, secure = parsed.hostname or "", parsed.scheme in _SECURE
    port = parsed.port or (443 if secure else 80)

    def connect(timeout_s: float) -> IStreamClientEndpoint:
        if proxy is None:
            plain = tcp_endpoint(reactor, host, port, timeout_s)
        else:
            plain = _through(reactor, proxy, host_port(host, port), agent, timeout_s)
        return wrapClientTLS(client_tls(host, ca, cert=cert, key=key or cert), plain, reactor) if secure else plain

    netloc = parsed.netloc
    return Place(
        url=url,
        host=netloc if netloc.isascii() else netloc.encode("idna").decode("ascii"),
        path=parsed.path.rstrip("/"),
        connect=connect,
        secure=secure,
    )


def _through(
    reactor: DialReactor, proxy: ForwardProxy, target: str, agent: str, timeout_s: float
) -> IStreamClientEndpoint:
    """How to connect to a host and port through a proxy. What does that is imported when it is needed."""
    from pico_twisted.net.tunnel.through_proxy import ProxyFailed, ThroughProxy

    to_proxy = tcp_endpoint(reactor, proxy.host, proxy.port, timeout_s)
    if proxy.scheme == "https":
        to_proxy = wrapClientTLS(client_tls(proxy.host), to_proxy)

    def said(failure: Failure) -> Failure:
        if isinstance(failure.value, ProxyFailed):
            return Failure(DialFailed(failure.value.message, Again.LATER if failure.value.away else Again.ELSEWHERE))
        return failure

    return _Told(ThroughProxy(to_proxy, proxy, target, agent), said)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Told:
    """An endpoint whose failures are told in other words."""

    endpoint: IStreamClientEndpoint
    said: Callable[[Failure], Failure]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self.endpoint.connect(protocolFactory).addErrback(self.said)

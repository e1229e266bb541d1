"""Proxy ports at which tcp endpoints are reached, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import attrs
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pico_twisted.core.websocket.frames import LayMask
from pico_twisted.core.websocket.handshake import TCP_PATH
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


def place_of(reactor: DialReactor, url: str, *, ca: str = "", cert: str = "", key: str = "") -> Place:
    """The proxy port of a URL.

    Args:
        reactor: connects.
        url: http, https, ws or wss, perhaps with a path that comes before ours; or `unix:` and the path of a socket.
        ca: the PEM file of those to trust; the system's when empty.
        cert: the PEM file of our certificate; none when empty.
        key: that of its key; the same file when empty.
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
        plain = tcp_endpoint(reactor, host, port, timeout_s)
        return wrapClientTLS(client_tls(host, ca, cert=cert, key=key or cert), plain, reactor) if secure else plain

    netloc = parsed.netloc
    return Place(
        url=url,
        host=netloc if netloc.isascii() else netloc.encode("idna").decode("ascii"),
        path=parsed.path.rstrip("/"),
        connect=connect,
        secure=secure,
    )

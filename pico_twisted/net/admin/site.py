"""The HTTP server of the admin port: twisted.web's, bounded.

A slow or huge request must not cost more than it is worth. So of a body only as much is kept as a form with a token
has; a request has to be complete in a fixed time, which its bytes do not extend; and the number of connections is
limited: when all are taken, an address that has few gets one of the address that has the most. All answers, whatever
they are, tell browsers to keep nothing, to guess nothing, and to show them in no frame.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any, AnyStr, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from pico_twisted.core.ports import ADMIN, PORT_FIELD
from pico_twisted.core.text import network_of
from pico_twisted.net.admin.answers import JSON, fail
from pico_twisted.net.admin.operators import Operator

KEEPALIVE_S: Final = 120.0
"""Seconds from one answer to the end of the next request: two scrapes of Prometheus at its default interval."""

KEPT_BODY_BYTES: Final = 16 * 1024
"""Most bytes of a body that are kept: more than the form of the login has."""

MAX_BODY_BYTES: Final = 64 * 1024
"""Most bytes of a body that are dropped without a word; beyond that the answer is 413."""

FIRST_S: Final = 10.0
"""Seconds from the connection to the end of its first request."""

MAX_CONNECTIONS: Final = 256
"""Most connections to an admin port. Operators, dashboards and scrapers together have a few."""

SERVER: Final = b"pico"
"""Value of the Server header."""

HEADERS: Final = {
    b"server": SERVER,
    PORT_FIELD.encode("ascii"): ADMIN.encode("ascii"),
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"same-origin",  # with `no-referrer` browsers would send no Origin with the form of the login
    b"x-content-type-options": b"nosniff",
}
"""Fields of all answers."""


class AdminRequest(Request):
    """A request of which only the beginning of the body is kept.

    Attributes:
        operator: who asks; the entrance says so.
        stays: whether they may still look, asked while an answer goes on; the entrance says that too.
        kept_body_bytes, most_body_bytes: how much of a body is kept, and may come.
    """

    kept_body_bytes = KEPT_BODY_BYTES
    most_body_bytes = MAX_BODY_BYTES

    channel: AdminChannel
    content: BytesIO
    operator = Operator()
    stays: Callable[[], bool] = staticmethod(lambda: True)

    def __init__(self, channel: AdminChannel, queued: bool = False) -> None:
        super().__init__(channel, queued)  # type: ignore[no-untyped-call]
        self._body_bytes = 0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= self.kept_body_bytes:
            self.content.write(data)

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """The last value of a field. Any bytes may come in one, also some that are no UTF-8, which Twisted expects."""
        if isinstance(key, bytes):
            return super().getHeader(key)
        value = super().getHeader(key.encode("ascii"))
        return None if value is None else value.decode("latin-1")

    def getRequestHostname(self) -> bytes:
        """A fixed name: no route depends on Host, and Klein stumbles over odd ones."""
        return SERVER

    def process(self) -> None:
        self.site = self.channel.site
        for name, value in HEADERS.items():
            self.setHeader(name, value)
        self.setHeader(b"date", datetimeToString())
        self.content.seek(0)
        path: bytes = self.path
        if path.lower().startswith((b"http://", b"https://")):  # absolute-form: what counts is behind the authority
            path = b"/" + path.split(b"://", 1)[1].partition(b"/")[2]
        self.prepath: list[bytes] = []
        self.postpath = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
        try:
            if self._body_bytes > self.most_body_bytes:
                self.write(fail(self, 413, "no body of this size is wanted here"))
                self.finish()
            else:
                self.render(self.site.resource)
        except Exception:
            self.processingFailed(Failure())


@implementer(IHalfCloseableProtocol)
class AdminChannel(HTTPChannel):
    """An HTTP/1.1 connection whose requests have a fixed time."""

    factory: AdminSite
    transport: ITCPTransport
    site: AdminSite

    def connectionMade(self) -> None:
        self.address = _host(self.transport.getPeer())
        self.factory.open[self] = None
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.setTimeout(FIRST_S)

    def requestDone(self, request: Request) -> None:
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if self.persistent and not self._handlingRequest:
            self.setTimeout(KEEPALIVE_S)

    @property
    def is_waiting(self) -> bool:
        """Whether no request of this connection is being answered."""
        return not self._handlingRequest

    def resetTimeout(self) -> None:
        """Twisted calls this for each read; here bytes do not extend the time."""

    def timeoutConnection(self) -> None:
        """Its time is over. That is no news: strangers could fill the log with it."""
        self.transport.abortConnection()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        body = json.dumps({"error": "not an HTTP/1.1 request, or its head is too large"}).encode("ascii")
        fields = {
            **HEADERS,
            b"date": datetimeToString(),
            b"content-type": JSON.encode("ascii"),
            b"content-length": b"%d" % len(body),
            b"connection": b"close",
        }
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in fields.items()), b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.loseConnection()

    def readConnectionLost(self) -> None:
        """The client sends no more; what it asked for is still answered."""
        if self._handlingRequest:
            self.persistent = 0
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.open.pop(self, None)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class AdminSite(Site):
    """Makes an `AdminChannel` for each connection. See `admin_site`."""

    noisy = False
    protocol: Any = AdminChannel  # the type that Twisted declares is private
    displayTracebacks = False

    def __init__(
        self, resource: IResource, reactor: IReactorTime | None, request: type[AdminRequest] = AdminRequest
    ) -> None:
        super().__init__(resource, request, parsePOSTFormSubmission=False, timeout=KEEPALIVE_S, reactor=reactor)  # type: ignore[no-untyped-call]
        self.open: dict[AdminChannel, None] = {}  # the oldest first

    def buildProtocol(self, addr: IAddress | None) -> Any:  # the type that Twisted declares is private
        if len(self.open) >= MAX_CONNECTIONS and not self._make_room(_host(addr)):
            return None
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def _make_room(self, address: str) -> bool:
        """End a connection of the address that has the most, for one that has fewer. Returns whether there was one."""
        counts = Counter(channel.address for channel in self.open)
        ((most_of, most),) = counts.most_common(1)
        waiting = [channel for channel in self.open if channel.address == most_of and channel.is_waiting]
        if counts[address] + 1 >= most or not waiting:
            return False
        self.open.pop(waiting[0])  # which is told of its end a moment later
        waiting[0].transport.abortConnection()
        return True

    def log(self, request: object) -> None:
        """Requests of operators and scrapers are not logged."""


def _host(address: IAddress | None) -> str:
    """Where a connection is from, a network of IPv6 as one; one text for all at a Unix socket."""
    return network_of(str(getattr(address, "host", "")).encode())


def admin_site(resource: IResource, reactor: IReactorTime | None = None) -> AdminSite:
    """The factory for an admin port.

    Args:
        resource: of an `AdminApp` or an `AgentAdminApp`.
        reactor: for the time limits; the installed one when None.
    """
    return AdminSite(resource, reactor)

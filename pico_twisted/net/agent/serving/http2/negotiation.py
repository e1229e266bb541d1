"""The beginning of a TLS connection to a service, until that has chosen what is spoken on it (ALPN, RFC 7301)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.agent.serving.connection import SecureServiceConnection, ServiceConnection
from pico_twisted.net.agent.serving.http2.connection import SharedConnection
from pico_twisted.net.agent.serving.http2.users import NotHttp2

H2: Final = b"h2"


@implementer(IHandshakeListener)
class Negotiation(Protocol):
    """Makes way for what speaks the chosen protocol.

    Args:
        make_shared: makes a connection of HTTP/2.
        make_http1: makes one of HTTP/1.1; None when the service has to choose HTTP/2.

    Attributes:
        chosen: fires with what was made, once the handshake is complete and the service's certificate found good.
    """

    transport: Any  # TLSMemoryBIOProtocol, whose methods have no types

    def __init__(
        self, make_shared: Callable[[], SharedConnection], make_http1: Callable[[], ServiceConnection] | None
    ) -> None:
        self.chosen: Deferred[SharedConnection | ServiceConnection] = Deferred(lambda _: self._abort())
        self._make_shared = make_shared
        self._make_http1 = make_http1

    def logPrefix(self) -> str:
        return "service"

    def handshakeCompleted(self) -> None:
        if self.chosen.called:
            return
        transport = self.transport
        made: SharedConnection | ServiceConnection
        if transport.negotiatedProtocol == H2:
            made = self._make_shared()
        elif self._make_http1 is not None:
            made = self._make_http1()
        else:
            self.chosen.errback(Failure(NotHttp2("the service does not choose HTTP/2 in its TLS handshake (ALPN)")))
            self._abort()
            return
        transport.wrappedProtocol = made
        made.makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted
        if isinstance(made, SecureServiceConnection):
            made.handshakeCompleted()
        self.chosen.callback(made)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.chosen.called:
            self.chosen.errback(reason)

    def _abort(self) -> None:
        self.transport.abortConnection()

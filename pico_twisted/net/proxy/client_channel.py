"""What the connections of clients have in common, whatever they speak: how they begin and end with the port."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Final

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.account import Peer
from pico_twisted.core.rpc.session_base import MAX_DATA_BYTES
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.proxy.port import ClientRequest, IClientTransport, ProxyPort, Visitor
from pico_twisted.net.routing.refusals import SHUTDOWN
from pico_twisted.net.socket.options import tune

CLIENT_LINGER_S: Final = 3.0
"""Seconds for which a client's input is thrown away once our half of its connection is closed."""

CLIENT_LINGER_BYTES: Final = 4 * 1024 * 1024
"""Most input that is thrown away while a client's connection lingers, in bytes; beyond it the connection is dropped."""

DRAIN_IDLE_S: Final = 1.0
"""Seconds for which an idle connection is kept while the node drains: a request on its way still gets its answer."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class ClientChannel(Protocol, abc.ABC):
    """A connection of a client to the port.

    Args:
        port: that the client came to.
        address: of the client, or of the proxy that it came through.

    Attributes:
        deadline: of what is awaited now, for the sweep. For the others see `ClientConnection`.
    """

    transport: IClientTransport
    peer = Peer(b"")
    visitor: Visitor | None = None
    deadline = NEVER

    def __init__(self, port: ProxyPort, address: IAddress | None) -> None:
        self.port = port
        self.address = address

    def connectionMade(self) -> None:
        """A client connected."""
        port, transport = self.port, self.transport
        settings = port.settings
        if not port.made(self, getattr(self.address, "host", ""), ISSLTransport.providedBy(transport)):
            self.abort()
            return
        tune(transport, MAX_DATA_BYTES)
        transport.registerProducer(self, True)
        self.deadline = settings.sweep.now + settings.config.head_timeout
        settings.sweep.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever side ended it."""
        self.port.lost(self)
        self.port.settings.sweep.discard(self)

    def abort(self) -> None:
        """End the connection with a reset."""
        self.transport.abortConnection()

    def keep_closing(self) -> None:
        """Close behind what was written, and no later than an idle connection would end."""
        settings = self.port.settings
        self.deadline = settings.sweep.now + settings.config.keepalive_timeout
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # What depends on what is spoken

    @property
    @abc.abstractmethod
    def held_bytes(self) -> int:
        """See `ClientConnection`."""

    @property
    @abc.abstractmethod
    def serving(self) -> int:
        """See `ClientConnection`."""

    @abc.abstractmethod
    def requests(self) -> Iterable[ClientRequest]:
        """See `ClientConnection`."""

    @abc.abstractmethod
    def request_done(self, request: ClientRequest) -> None:
        """See `ClientConnection`."""

    @abc.abstractmethod
    def hold_back(self, until: float) -> None:
        """See `ClientConnection`."""

    @abc.abstractmethod
    def drain(self) -> None:
        """See `ClientConnection`."""

    @abc.abstractmethod
    def shut(self, error: str = SHUTDOWN) -> None:
        """See `ClientConnection`."""

    @abc.abstractmethod
    def deadline_passed(self, now: float) -> None:
        """What was awaited did not come in time."""

    @abc.abstractmethod
    def readConnectionLost(self) -> None:
        """The client's FIN (IHalfCloseableProtocol)."""

    @abc.abstractmethod
    def writeConnectionLost(self) -> None:
        """Our half is closed (IHalfCloseableProtocol)."""

    @abc.abstractmethod
    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""

    @abc.abstractmethod
    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` follows (IPushProducer)."""

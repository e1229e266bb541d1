"""A TLS port and a client, for the tests of TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tls.port_context import ServerContext
from pico_twisted.net.tls.server import SniffingFactory
from tests.net.in_reactor import DEADLINE_S, reactor, until


class Served(Protocol):
    """Records what happens to it and does what the test asks for."""

    transport: Any

    def __init__(self, port: Port) -> None:
        self.port = port
        self.received = b""
        self.events: list[str] = []
        self.lost: Deferred[object] = Deferred()

    def connectionMade(self) -> None:
        self.events.append("made")
        self.port.served.append(self)
        self.port.made(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.port.received(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.lost.callback(reason.value)


@implementer(IHalfCloseableProtocol)
class HalfServed(Served):
    """One that may be half-closed."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")
        self.port.read_lost(self)

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")


class Port(Factory):
    """A TLS port on 127.0.0.1 whose protocols are `Served`; a test replaces what they do."""

    noisy = False

    def __init__(self, context: ServerContext, kind: type[Served] = HalfServed) -> None:
        self.kind = kind
        self.served: list[Served] = []
        self.made: Callable[[Served], object] = lambda served: None
        self.received: Callable[[Served, bytes], object] = lambda served, data: served.transport.write(data)
        self.read_lost: Callable[[Served], object] = lambda served: served.transport.loseConnection()
        self.timer = ReactorSweep(reactor)
        self.factory: Any = SniffingFactory(self, context, "n1", timer=self.timer)
        self.listening = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.number: int = self.listening.getHost().port

    def buildProtocol(self, addr: object) -> Served:
        return self.kind(self)

    async def close(self) -> None:
        await self.listening.stopListening()
        for served in self.served:
            if "lost" not in served.events:
                served.transport.abortConnection()
                await served.lost
        await until(lambda: not self.factory.waiting)
        assert not self.timer._items


def dial(port: Port) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port.number), timeout=DEADLINE_S)

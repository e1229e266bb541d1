"""Somebody who publishes keys: an https server on 127.0.0.1 that answers with what it is told, as badly as wanted."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.python.failure import Failure

from tests.net.in_reactor import reactor
from tools.stage.certificates import Made


def answer(body: bytes, status: str = "200 OK", fields: str = "") -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


class _Connection(Protocol):
    factory: Issuer
    transport: Any  # of a connection that is open

    def connectionMade(self) -> None:
        self._head = b""
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._head = b""
            self.factory.asked += 1
            if self.factory.answer is not None:
                self.transport.write(self.factory.answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.remove(self)


class Issuer(Factory):
    """The server.

    Args:
        certificate: of it.
        answer: see below.

    Attributes:
        answer: what it answers with; None for nothing at all.
        asked: how often somebody asked.
        url: of the JWK set.
    """

    protocol: Any = _Connection  # the factory of a protocol says less than it takes
    noisy = False

    def __init__(self, certificate: Made, answer: bytes | None = None) -> None:
        self.answer = answer
        self.asked = 0
        self.connections: list[_Connection] = []
        self._context = DefaultOpenSSLContextFactory(certificate.key_file, certificate.cert_file)
        self._listening: Any = None  # a port; Twisted's interface has not all of it
        self._port = 0
        self.start()
        self.url = f"https://localhost:{self._port}/keys.json"

    def start(self) -> None:
        """Listen, on the same port each time."""
        self._listening = reactor.listenSSL(self._port, self, self._context, interface="127.0.0.1")
        self._port = self._listening.getHost().port

    async def stop(self) -> None:
        """Be away."""
        await self._listening.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()

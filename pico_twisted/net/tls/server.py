"""TLS for the ports that serve it.

A client that speaks plain HTTP to a TLS port should read why that fails, so a plain protocol looks at the first byte of
each connection. 0x16 begins a TLS handshake: then a `TlsTransport` is put on the connection and given everything.
Anything else is taken for HTTP and answered 400. OpenSSL's part of a connection costs 55 KiB, so it is made when the
first record is there, which says what the client wants: who sends half of it costs that half.
"""

from __future__ import annotations

import math
from typing import Final

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IOpenSSLContextFactory,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.tls.transport import TlsFactory, TlsTransport

log = Logger()

TLS_HANDSHAKE_S: Final = 10.0
"""Seconds from the connection to the end of the handshake; as long as a request's head may take."""

PLAIN_CLIENT_LEAVES_S: Final = 5.0
"""Seconds that a refused plain client may take to read its answer and close."""

MAX_PLAIN_BYTES: Final = 32 * 1024
"""Most bytes of a plain request that are read before it is answered: as much as a head may have."""

MAX_PLAIN_DISCARDED_BYTES: Final = 1024 * 1024
"""Most bytes of a refused plain client that are read and dropped, so that it sees its answer instead of a reset."""

MAX_HANDSHAKES: Final = 2048
"""Most connections of a port that have not completed their handshake. Each costs up to 55 KiB. One more closes the one
that has been at it for longest: who is honest needs two round trips, and who stalls a port needs all its places."""

SAY_AGAIN_S: Final = 1.0
"""Seconds between two lines that say why a handshake failed: anybody can have thousands fail."""

MAX_HELLO_BYTES: Final = 5 + 16 * 1024
"""Most bytes of the first record of a handshake (RFC 8446 5.1)."""

_TLS_HANDSHAKE: Final = 0x16
_VALIDATES: Final = b"\x0aacme-tls/1"
"""A protocol in the list that a client offers. Who else has these bytes in the first message gets no service."""


class SniffingFactory(Factory):
    """A factory for a TLS port: makes a `FirstByte` for each connection.

    Args:
        factory: makes the protocols that are served. Their transport behaves as a TLS transport.
        context: the certificates; see `ServerContext`.
        hop: the node's ID, named in the answer to plain HTTP.
        timer: watches the deadlines of handshakes.
        validation: the TLS of those who validate names there, as RFC 8737 has it; None when nobody does.
        clock: for Twisted's gathering of small writes; its own reactor when None.
    """

    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory,
        context: IOpenSSLContextFactory,
        hop: str,
        *,
        timer: Sweep,
        validation: IOpenSSLContextFactory | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.hop = hop
        self.timer = timer
        self.waiting: dict[FirstByte, None] = {}
        self._say_again_at = -math.inf
        self._unsaid = 0
        self._factory = factory
        self._tls = TlsFactory(context, False, factory, clock)
        validates = Factory.forProtocol(Validator)
        self._validation = None if validation is None else TlsFactory(validation, False, validates, clock)

    def doStart(self) -> None:
        super().doStart()  # type: ignore[no-untyped-call]
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()
        super().doStop()  # type: ignore[no-untyped-call]

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        assert addr is not None
        served = self._factory.buildProtocol(addr)
        if served is None:
            return None
        if len(self.waiting) >= MAX_HANDSHAKES:
            next(iter(self.waiting)).give_up()
        return FirstByte(self, served)

    def tls(self, first: FirstByte, served: IProtocol, hello: bytes) -> TlsTransport:
        """The TLS side of a connection that began a handshake with some bytes."""
        if self._validation is not None and _VALIDATES in hello:
            return TlsTransport(self._validation, Validator(), first.settled, self._failed)
        return TlsTransport(self._tls, served, first.settled, self._failed)

    def _failed(self, peer: str, why: str) -> None:
        """A handshake failed for a fault of the client, or of ours: say so, once a second."""
        if self.timer.now < self._say_again_at:
            self._unsaid += 1
            return
        unsaid, self._unsaid, self._say_again_at = self._unsaid, 0, self.timer.now + SAY_AGAIN_S
        log.info("A TLS handshake failed: {reason}", reason=why, peer=peer, more_before=unsaid)


@implementer(IHalfCloseableProtocol)
class FirstByte(Protocol):
    """Looks at how a connection begins, and hands all of it to the protocol that it is for."""

    transport: ITCPTransport

    def __init__(self, owner: SniffingFactory, served: IProtocol) -> None:
        self.deadline = NEVER
        self._owner = owner
        self._served: IProtocol | None = served
        self._inner: TlsTransport | PlainClient | None = None
        self._hello = b""

    def connectionMade(self) -> None:
        timer = self._owner.timer
        self.deadline = timer.now + TLS_HANDSHAKE_S
        self._owner.waiting[self] = None
        timer.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is None:
            data = self._hello + data
            tls = data[0] == _TLS_HANDSHAKE
            if tls and len(data) < 5 + int.from_bytes(data[3:5], "big") <= MAX_HELLO_BYTES:
                self._hello = data
                return
            self._hello = b""
            served, self._served = self._served, None
            assert served is not None
            if tls:
                self._inner = self._owner.tls(self, served, data)
            else:
                self._inner = PlainClient(self, self._owner.hop)
            # From now on the transport calls the inner protocol without a detour.
            self.dataReceived = self._inner.dataReceived  # type: ignore[method-assign]
            self._inner.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        self._inner.dataReceived(data)

    def extend(self, seconds: float) -> None:
        """Allow that many seconds from now."""
        self.deadline = self._owner.timer.now + seconds

    def settled(self) -> None:
        """The handshake is complete, or there will be none: no deadline any more."""
        self.deadline = NEVER
        self._owner.waiting.pop(self, None)
        self._owner.timer.discard(self)

    def deadline_passed(self, now: float) -> None:
        if isinstance(self._inner, PlainClient) and self._inner.answer():
            return
        self.give_up()

    def give_up(self) -> None:
        """End the connection."""
        self.settled()
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        if self._inner is None:
            self.transport.loseConnection()
        else:
            self._inner.readConnectionLost()

    def writeConnectionLost(self) -> None:
        if self._inner is not None:
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.settled()
        inner, self._inner, self._served = self._inner, None, None
        self.__dict__.pop("dataReceived", None)
        if inner is not None:
            inner.connectionLost(reason)


class Validator(Protocol):
    """Somebody who validates a name: the handshake was all that they wanted (RFC 8737 3)."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class PlainClient(Protocol):
    """Tells a client that speaks plain HTTP what this port speaks.

    The request is read first, as far as its head goes, and after the answer everything is read and dropped for a while:
    closing with unread bytes would make the kernel send a reset, and the client might never see the answer.
    """

    transport: ITCPTransport

    def __init__(self, first: FirstByte, hop: str) -> None:
        self._first = first
        self._hop = hop
        self._head = b""
        self._answered = False
        self._dropped = 0

    def dataReceived(self, data: bytes) -> None:
        if self._answered:
            self._dropped += len(data)
            if self._dropped > MAX_PLAIN_DISCARDED_BYTES:
                self.transport.abortConnection()
            return
        self._head += data
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head or len(self._head) > MAX_PLAIN_BYTES:
            self.answer()

    def answer(self) -> bool:
        """Answer, unless that was done. Returns whether it was done now."""
        if self._answered:
            return False
        self._answered = True
        self.transport.write(
            error_response(
                400,
                "this port speaks TLS: use https",
                hop=self._hop,
                code="tls-required",
                close=True,
                head_only=self._head.startswith(b"HEAD "),
            )
        )
        self._head = b""
        self._first.extend(PLAIN_CLIENT_LEAVES_S)
        self.transport.loseWriteConnection()
        return True

    def readConnectionLost(self) -> None:
        self.answer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

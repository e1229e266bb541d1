"""TLS for the ports that serve it.

A client that speaks plain HTTP to a TLS port should read why that fails, so a plain protocol looks at the first byte of
each connection. 0x16 begins a TLS handshake: then a `TlsTransport` is put on the connection and given everything.
Anything else is taken for HTTP and answered 400. Until the handshake is complete a connection costs a little memory and
no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IOpenSSLContextFactory,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.answers import error_response
from pico_twisted.net.tls.certificates import new_context, use_own
from pico_twisted.net.tls.transport import TlsFactory, TlsTransport
from pico_twisted.net.turn import NEVER, Sweep

TLS_HANDSHAKE_S: Final = 10.0
"""Seconds from the connection to the end of the handshake; as long as a request's head may take."""

PLAIN_CLIENT_LEAVES_S: Final = 5.0
"""Seconds that a refused plain client may take to read its answer and close."""

MAX_PLAIN_BYTES: Final = 32 * 1024
"""Most bytes of a plain request that are read before it is answered: as much as a head may have."""

MAX_PLAIN_DISCARDED_BYTES: Final = 1024 * 1024
"""Most bytes of a refused plain client that are read and dropped, so that it sees its answer instead of a reset."""

MAX_HANDSHAKES: Final = 2048
"""Most connections of a port that have not completed their handshake. Each costs up to 55 KiB; more are closed at
once."""

_TLS_HANDSHAKE: Final = 0x16


@implementer(IOpenSSLContextFactory, IOpenSSLServerConnectionCreator)
class ServerContext:
    """The TLS of a port: version 1.2 or 1.3, HTTP/1.1 by ALPN.

    The files are read by `reload`, which a daemon calls at its start, or else for the first connection. A daemon that
    reloads makes another one of the files that there are now, and has this one take its place with `become`.

    Args:
        cert_file: PEM, the port's own certificate first, then its chain.
        key_file: PEM, not encrypted.

    Attributes:
        chain: what is shown, once it was read: the port's own certificate, then those that certify it.
    """

    _context: SSL.Context | None = None

    def __init__(self, cert_file: str, key_file: str) -> None:
        self.cert_file = cert_file
        self.key_file = key_file
        self.chain: Sequence[x509.Certificate] = ()

    def reload(self) -> None:
        """Read the files, for the connections that come after. When that fails the old certificate stays in use.

        Raises:
            UnusableCertificateError: one of them cannot be used.
        """
        self._context = self._load()

    def become(self, other: ServerContext) -> None:
        """Use the files and the certificate of another one, for the connections that come after."""
        self.cert_file = other.cert_file
        self.key_file = other.key_file
        self.chain = other.chain
        self._context = other._context

    @property
    def in_use(self) -> Sequence[x509.Certificate]:
        """All certificates on which something depends: those that are shown."""
        return self.chain

    def _load(self) -> SSL.Context:
        context = new_context()
        context.set_alpn_select_callback(_select_protocol)
        self.chain = use_own(context, self.cert_file, self.key_file).chain
        return context

    def getContext(self) -> SSL.Context:
        if self._context is None:
            self._context = self._load()
        return self._context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self.getContext(), None)


class NoCommonProtocolError(SSL.Error):
    """The client offers protocols, and HTTP/1.1 is not among them. It has the form of what OpenSSL's queue gives."""


def _select_protocol(_: SSL.Connection, offered: list[bytes]) -> bytes:
    """The protocol to speak. What is raised here makes OpenSSL send `no_application_protocol` (RFC 7301 3.2)."""
    if b"http/1.1" not in offered:
        raise NoCommonProtocolError([("", "", "the client does not offer HTTP/1.1")])
    return b"http/1.1"


class SniffingFactory(Factory):
    """A factory for a TLS port: makes a `FirstByte` for each connection.

    Args:
        factory: makes the protocols that are served. Their transport behaves as a TLS transport.
        context: the certificate; see `ServerContext`.
        hop: the node's ID, named in the answer to plain HTTP.
        timer: watches the deadlines of handshakes.
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
        clock: IReactorTime | None = None,
    ) -> None:
        self.hop = hop
        self.timer = timer
        self.waiting: set[FirstByte] = set()
        self._factory = factory
        self._tls = TlsFactory(context, False, factory, clock)

    def doStart(self) -> None:
        super().doStart()  # type: ignore[no-untyped-call]
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()
        super().doStop()  # type: ignore[no-untyped-call]

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        assert addr is not None
        if len(self.waiting) >= MAX_HANDSHAKES:
            return None
        served = self._factory.buildProtocol(addr)
        if served is None:
            return None
        return FirstByte(self, served)

    def tls(self, first: FirstByte, served: IProtocol) -> TlsTransport:
        """The TLS side of a connection that began a handshake."""
        return TlsTransport(self._tls, served, first.settled)


@implementer(IHalfCloseableProtocol)
class FirstByte(Protocol):
    """Looks at how a connection begins, and hands all of it to the protocol that it is for."""

    transport: ITCPTransport

    def __init__(self, owner: SniffingFactory, served: IProtocol) -> None:
        self.deadline = NEVER
        self._owner = owner
        self._served: IProtocol | None = served
        self._inner: TlsTransport | PlainClient | None = None

    def connectionMade(self) -> None:
        timer = self._owner.timer
        self.deadline = timer.now + TLS_HANDSHAKE_S
        self._owner.waiting.add(self)
        timer.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is None:
            served, self._served = self._served, None
            assert served is not None
            if data[0] == _TLS_HANDSHAKE:
                self._inner = self._owner.tls(self, served)
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
        self._owner.waiting.discard(self)
        self._owner.timer.discard(self)

    def deadline_passed(self, now: float) -> None:
        if isinstance(self._inner, PlainClient) and self._inner.answer():
            return
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

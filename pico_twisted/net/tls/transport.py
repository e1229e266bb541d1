"""A TLS transport for served protocols that need both ends of a stream.

Twisted's `BufferingTLSTransport` does the work. What it does not do, and a proxy needs:

* Half-close. A peer's close_notify ends what it sends, not what it wants to read (RFC 8446, 6.1). Twisted closes the
  connection at once; a client that ends its side after a request would get no answer. A protocol that provides
  `IHalfCloseableProtocol` is told, and goes on writing; `loseWriteConnection` sends our close_notify, then the FIN.
* An end. Twisted waits for the peer's close_notify before it closes, for ever if none comes. Here the connection is
  closed when what was written has gone out.
* An end of the TCP stream without close_notify is not an end but a broken connection, since anybody on the way could
  have made it: `connectionLost` tells of `ConnectionLost`.
* The served protocol is connected when the handshake is complete, so failed handshakes never reach it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.socket.options import peer_text
from pico_twisted.net.tls.certificates import openssl_reasons

log = Logger()


class WriteSide(enum.Enum):
    """How far our side of the stream is."""

    OPEN = "open"
    CLOSING = "closing"  # what was written goes out first
    CLOSED = "closed"  # our close_notify was sent


@implementer(ISSLTransport)
class TlsTransport(BufferingTLSTransport):
    """Twisted's TLS, with half-close, an end that comes, and a protocol that is connected after the handshake.

    The methods with an underscore and camel case are Twisted's, replaced.

    Args:
        factory: Twisted's, with the settings.
        served: the protocol to connect after the handshake.
        handshaken: called when the handshake is complete, before the protocol is connected.
        failed: called with the peer's address and the reason when the handshake failed, but not when the peer just
            went away.
    """

    transport: ITCPTransport
    _tlsConnection: SSL.Connection | None  # type: ignore[assignment]

    def __init__(
        self,
        factory: TlsFactory,
        served: IProtocol,
        handshaken: Callable[[], None],
        failed: Callable[[str, str], None],
    ) -> None:
        super().__init__(factory, served, False)
        self._handshaken: Callable[[], None] | None = handshaken
        self._failed = failed
        self._refusal = ""
        self._peer_finished = False
        self._write_side = WriteSide.OPEN

    def refuse(self, words: str) -> None:
        """Say why the peer's certificate is refused; see `verify_peer`. OpenSSL ends the handshake."""
        self._refusal = words

    # Receiving.

    def dataReceived(self, data: bytes) -> None:
        if not self._peer_finished:  # what comes after a close_notify is to be ignored, and not to be kept
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _checkHandshakeStatus(self) -> None:
        if self._aborted or self._tlsConnection is None:
            return
        try:
            self._tlsConnection.do_handshake()
        except SSL.WantReadError:
            self._flushSendBIO()
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
        else:
            self._handshakeDone = True
            handshaken, self._handshaken = self._handshaken, None
            if handshaken is not None:
                handshaken()
            self.wrappedProtocol.makeConnection(self)
            listener = IHandshakeListener(self.wrappedProtocol, None)
            if listener is not None:
                listener.handshakeCompleted()

    def _flushReceiveBIO(self) -> None:
        while not (self._lostTLSConnection or self._peer_finished or self._tlsConnection is None):
            try:
                data = self._tlsConnection.recv(2**15)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._peer_finished = True
                self._finished()
            except SSL.Error:
                self._tlsShutdownFinished(Failure())
            else:
                if not self.disconnecting:
                    self.wrappedProtocol.dataReceived(data)
        if self._tlsConnection is not None:
            self._flushSendBIO()

    def _finished(self) -> None:
        """The peer said that it sends no more."""
        if self.disconnecting:
            return
        half_closeable = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if half_closeable is None:
            self._aggregator.flush()
            self._shutdownTLS()
            if self._tlsConnection is not None:  # else closing has ended the connection already
                self._tlsShutdownFinished(None)
        else:
            half_closeable.readConnectionLost()

    def readConnectionLost(self) -> None:
        """The TCP stream has ended. Only after a close_notify is that an end."""
        if self._tlsConnection is None or self._lostTLSConnection or self._peer_finished:
            return
        if self._handshakeDone:
            self._tlsConnection.bio_shutdown()
            self._flushReceiveBIO()
        else:
            self.abortConnection()

    # Sending.

    def _write(self, data: bytes) -> None:
        if self._write_side is not WriteSide.CLOSED:
            super()._write(data)  # type: ignore[no-untyped-call]

    def loseWriteConnection(self) -> None:
        """Send what was written, then say that nothing follows; reading goes on."""
        if self.disconnecting or self._write_side is not WriteSide.OPEN or self._tlsConnection is None:
            return
        self._aggregator.flush()
        self._write_side = WriteSide.CLOSING
        self._close_write()

    def _close_write(self) -> None:
        if self._write_side is WriteSide.CLOSING and not self._appSendBuffer and not self.disconnecting:
            self._close_notify()
            self.transport.loseWriteConnection()

    def _unbufferPendingWrites(self) -> None:
        super()._unbufferPendingWrites()  # type: ignore[no-untyped-call]
        self._close_write()

    def writeConnectionLost(self) -> None:
        """Our FIN has gone out."""
        half_closeable = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if half_closeable is not None:
            half_closeable.writeConnectionLost()

    def _close_notify(self) -> None:
        if self._tlsConnection is None or self._write_side is WriteSide.CLOSED:
            return
        self._write_side = WriteSide.CLOSED
        try:
            self._tlsConnection.shutdown()
        except SSL.Error:
            pass  # in the middle of a handshake there is no peer to say goodbye to
        self._flushSendBIO()

    # The end.

    def _shutdownTLS(self) -> None:
        self._close_notify()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        if self._tlsConnection is not None:
            super().abortConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._handshaken = None
        if self.disconnecting:
            self._lostTLSConnection = True  # we closed it: what the peer did not say any more does not matter
        if not self._handshakeDone:
            self.wrappedProtocol = Protocol()  # the one to be served never heard of this connection
            why = self._reason or reason
            if isinstance(why.value, SSL.Error):
                self._failed(peer_text(self), self._refusal or "; ".join(openssl_reasons(why.value)))
            else:
                log.debug("a TLS handshake failed: {reason}", reason=why.getErrorMessage(), peer=peer_text(self))
        super().connectionLost(reason)


class TlsFactory(TLSMemoryBIOFactory):
    """What Twisted wants to have beside a TLS transport: the settings."""

    protocol = TlsTransport

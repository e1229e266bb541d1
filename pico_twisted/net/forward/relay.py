"""Between a connection of this machine and the TCP session that it is forwarded to.

What is needed. Bytes both ways, as fast as both sides take them, and no faster: whoever reads slowly slows down who
writes, and no one else. Each half ends by itself. And what was cut must look cut to the local program: its connection
is reset, not closed, or a download that lost its tail would pass for a whole one. (A unix socket cannot be reset; its
end is all that can be shown. stdin and stdout have the exit status for it.)

Nothing is read from the local side before the session is open: its bytes wait in the kernel meanwhile.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.forward.failures import DialFailed
from pico_twisted.net.forward.session import MAX_PIECE_BYTES, TcpSession
from pico_twisted.net.socket.options import forget_output, tune, writer

log = Logger()

Dial = Callable[[], "Deferred[TcpSession]"]
"""Opens a TCP session; it fails with `DialFailed`."""


class RelayOwner(Protocol):
    """Who keeps the connections of one endpoint."""

    def dial(self) -> Deferred[TcpSession]:
        """Open the session for one of them."""

    def begun(self, relay: Relay) -> None:
        """There is one more."""

    def refused(self, relay: Relay, failed: DialFailed) -> None:
        """Its session could not be opened."""

    def cut(self, relay: Relay, reason: str) -> None:
        """Its session was cut by the other side."""

    def over(self, relay: Relay) -> None:
        """It is gone."""


class _Stage(enum.Enum):
    """Each leads to the later ones only."""

    DIALLING = enum.auto()
    OPEN = enum.auto()
    OVER = enum.auto()  # the session is over; what the local side is owed may still be written


@implementer(IHalfCloseableProtocol, IPushProducer)
class Relay(TwistedProtocol):
    """A local connection, and the user of its session.

    Args:
        owner: keeps it.
    """

    transport: Any  # TCP's, a unix socket's or stdio's: no interface of Twisted has all that is asked of them

    def __init__(self, owner: RelayOwner) -> None:
        self._owner = owner
        self._stage = _Stage.DIALLING
        self._dialling: Deferred[TcpSession] | None = None
        self._session: TcpSession | None = None
        self._write: Callable[[bytes], None] = _nowhere
        self._full = False  # the local transport holds enough
        self._ended = False  # the service has ended its stream

    # From the local side

    def connectionMade(self) -> None:
        self.transport.pauseProducing()
        tune(self.transport, MAX_PIECE_BYTES)
        self._write = writer(self.transport)
        self.transport.registerProducer(self, True)
        self._owner.begun(self)
        dialling = self._dialling = self._owner.dial()
        dialling.addCallbacks(self._opened, self._failed)
        dialling.addErrback(_log_fault)

    def dataReceived(self, data: bytes) -> None:
        session = self._session
        if session is not None:
            session.write(data)
            if not session.writable:
                self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        if self._session is not None:
            self._session.end()

    def writeConnectionLost(self) -> None:
        """Our half is closed: at the service's end, or because nobody reads any more."""
        if not self._ended:
            self.reset()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        stage, self._stage = self._stage, _Stage.OVER
        if stage is _Stage.DIALLING:
            self._stop_dialling()
        session, self._session = self._session, None
        if session is not None:
            session.cut("the local connection was lost")
        forget_output(self.transport)
        self._owner.over(self)

    def pauseProducing(self) -> None:
        """The local transport holds enough (IPushProducer)."""
        self._full = True
        if self._session is not None:
            self._session.pause()

    def resumeProducing(self) -> None:
        """The local transport wrote all that it had (IPushProducer)."""
        self._full = False
        if self._session is not None:
            self._session.resume()

    def stopProducing(self) -> None:
        """The local connection is going away (IPushProducer); `connectionLost` follows."""

    # The session

    def _opened(self, session: TcpSession) -> None:
        self._dialling = None
        if self._stage is not _Stage.DIALLING:
            session.cut("the local connection is gone")
            return
        self._stage = _Stage.OPEN
        self._session = session
        session.user = self
        self.transport.resumeProducing()

    def _failed(self, failure: Failure) -> None:
        self._dialling = None
        if failure.check(CancelledError) is not None:
            return
        if isinstance(failure.value, DialFailed):
            self._owner.refused(self, failure.value)
        else:
            _log_fault(failure)
        self.reset()

    def _stop_dialling(self) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    # SessionUser

    def session_data(self, data: bytes) -> None:
        self._write(data)

    def session_ended(self) -> None:
        self._ended = True
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()
        if self._full and self._session is not None:
            self._session.resume()  # nobody says any more that there is room, and what comes now is no bytes

    def session_took(self) -> None:
        if self._stage is _Stage.OPEN:
            self.transport.resumeProducing()

    def session_closed(self) -> None:
        self._stage = _Stage.OVER
        self._session = None
        self.transport.loseConnection()

    def session_cut(self, reason: str) -> None:
        self._session = None
        self._owner.cut(self, reason)
        self.reset()

    def reset(self) -> None:
        """Give it up: the local side sees a reset, the node a cut. Idempotent."""
        self._stage = _Stage.OVER
        self._stop_dialling()
        session, self._session = self._session, None
        if session is not None:
            session.cut("the local side is gone")
        self._drop()

    def _drop(self) -> None:
        """Close the local side so that its program sees a cut."""
        self.transport.abortConnection()


def _nowhere(data: bytes) -> None:
    """There is no connection yet."""


def _log_fault(failure: Failure) -> None:
    log.failure("A connection could not be forwarded", failure)

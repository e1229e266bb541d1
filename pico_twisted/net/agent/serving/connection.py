"""One connection to the local service. It serves many requests, one after the other, and knows nothing of calls."""

from __future__ import annotations

import enum
import socket
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.session_base import MAX_DATA_BYTES
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.socket.options import forget_output, holds_output, raw_socket, tune, writer

CLOSE_S: Final = 10.0
"""Seconds that a service gets to take our last bytes before the connection is cut."""


class _Life(enum.Enum):
    """Whether the connection serves requests. Each state leads to the later ones only."""

    OPEN = enum.auto()
    CLOSING = enum.auto()  # what was written goes out, and nothing more is of interest
    GONE = enum.auto()


class ConnectionUser(Protocol):
    """Who has the connection for one request."""

    def service_data(self, data: bytes) -> None:
        """Bytes came."""

    def service_ended(self) -> None:
        """The service closed its half in good order."""

    def service_lost(self) -> None:
        """The connection is gone, without the end of the service's half."""

    def service_took(self) -> None:
        """The transport has room again for what we write."""

    def service_late(self, now: float) -> None:
        """The connection's deadline passed."""


class ConnectionOwner(Protocol):
    """Who keeps connections: see `local_service`."""

    connections: set[ServiceConnection]

    def forget(self, connection: ServiceConnection) -> None:
        """The connection can serve no further request."""

    def closed_idle(self, connection: ServiceConnection) -> None:
        """The service closed it while it had no user."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class ServiceConnection(TwistedProtocol):
    """A connection to the service.

    Args:
        owner: keeps it.
        sweep: watches its deadline.
        limits: of the heads of responses.
        reader: makes what reads the responses.

    Attributes:
        user: who has it; None while it is idle.
        http: reads the service's responses.
        writable: the transport takes more; else wait for `service_took`.
        write: writes to the service.
        paused: it is not read.
        socket: under it, where there is one.
        idle_since: when its last answer had ended.
        client: the name of the client's connection that alone may use it; empty when anybody may.
        header: the PROXY protocol header that it began with, if it did: it serves requests of that client alone.
        deadline: set by the user, or by its owner while it is idle.
    """

    transport: Any  # TCP's, or TLS on it: no interface of Twisted has all that both can do

    def __init__(
        self,
        owner: ConnectionOwner,
        sweep: Sweep,
        limits: HeadLimits,
        reader: type[ClientConnection] = ClientConnection,
    ) -> None:
        self.user: ConnectionUser | None = None
        self.http = reader(limits)
        self.writable = True
        self.paused = False
        self.client = b""
        self.header = b""
        self.idle_since = sweep.now
        self.deadline = NEVER
        self._owner = owner
        self._sweep = sweep
        self.socket: socket.socket | None = None
        self._life = _Life.OPEN

    def logPrefix(self) -> str:
        return "service"

    # From the transport

    def connectionMade(self) -> None:
        if isinstance(self.transport, Connection):
            # Endpoints leave a protocol of theirs between, which has done its work and would cost 1 us for each read.
            self.transport.protocol = self
        self.socket = raw_socket(self.transport)
        self.write = writer(self.transport)
        tune(self.transport, MAX_DATA_BYTES)
        self.transport.registerProducer(self, True)
        self._sweep.add(self)
        self._owner.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        user = self.user
        if user is not None:
            user.service_data(data)
        elif self._life is _Life.OPEN:
            self.abort()  # it was not asked for anything

    def readConnectionLost(self) -> None:
        if self.user is not None:
            self.user.service_ended()
        elif self._life is _Life.OPEN:
            self._owner.closed_idle(self)
            self.close()

    def writeConnectionLost(self) -> None:
        """Our half is closed: we asked for that."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._sweep.discard(self)
        if self.user is None and self._life is _Life.OPEN:
            self._owner.closed_idle(self)
        self._life = _Life.GONE
        self._owner.forget(self)
        self._owner.connections.discard(self)
        forget_output(self.transport)
        if self.user is not None:
            self.user.service_lost()

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self.writable = False

    def resumeProducing(self) -> None:
        """The transport wrote all that it had (IPushProducer)."""
        self.writable = True
        user = self.user
        if user is not None:
            user.service_took()

    def stopProducing(self) -> None:
        """The connection is going away (IPushProducer); `connectionLost` follows."""

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep."""
        user = self.user
        if user is not None:
            user.service_late(now)
        elif self._life is _Life.OPEN:
            self.close()
        else:
            self.abort()

    # From its user and its owner

    @property
    def sent_all(self) -> bool:
        """Whether the kernel took all that was written."""
        return self.writable and not holds_output(self.transport)

    def pause(self) -> None:
        """Read no more, until `resume`. What was read already, over TLS, still comes."""
        self.paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on. Does nothing unless paused."""
        if self.paused:
            self.paused = False
            self.transport.resumeProducing()

    def end_writing(self) -> None:
        """Close our half, once what was written is out. The service may go on."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """Close, once what was written is out. Idempotent."""
        if self._life is _Life.OPEN:
            self._life = _Life.CLOSING
            self._owner.forget(self)
            self.deadline = self._sweep.now + CLOSE_S
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Drop the connection, and what was not written yet. The service sees a reset at once. Idempotent."""
        if self._life is not _Life.GONE:
            self._life = _Life.GONE
            self._owner.forget(self)
            self.deadline = NEVER
            self.transport.abortConnection()


@implementer(IHandshakeListener)
class SecureServiceConnection(ServiceConnection):
    """A connection to an https service; `ready` fires once its certificate was found good."""

    def __init__(
        self,
        owner: ConnectionOwner,
        sweep: Sweep,
        limits: HeadLimits,
        reader: type[ClientConnection] = ClientConnection,
    ) -> None:
        super().__init__(owner, sweep, limits, reader)
        self.ready: Deferred[None] = Deferred(lambda _: self.abort())
        self._read_ended = False

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def readConnectionLost(self) -> None:
        self._read_ended = True
        super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ready.called:
            self.ready.errback(reason)
        if self.user is not None and not self._read_ended and reason.check(ConnectionDone):
            self.user.service_ended()  # TLS knows no half-closed connections
        super().connectionLost(reason)

    def end_writing(self) -> None:
        """See `ServiceConnection.end_writing`."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()  # sends close_notify, and still delivers what comes

    def close(self) -> None:
        """See `ServiceConnection.close`."""
        was_open = self._life is _Life.OPEN
        super().close()
        if was_open and self._life is _Life.CLOSING:
            # Twisted's TLS would wait for the service's close_notify, which says nothing that we want to know.
            self.transport.transport.loseConnection()

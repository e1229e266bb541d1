"""A TCP connection in memory, with what the data path asks of one.

Twisted's `StringTransport` keeps what was written and no more. Here the peer may read slowly, so that producers are
paused and resumed as a socket's would be; either side may half-close; and an abort throws away what was not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER_BYTES = 64 * 1024
"""Like a Twisted transport, it asks its producer to pause when it holds more than this."""


@implementer(ITCPTransport)
class MemoryTransport:
    """One end of a connection; the test is the other.

    Args:
        clock: calls `connectionLost` in a turn of its own, as a reactor does.
        peer: the address of the other end.

    Attributes:
        protocol: set by `connect`.
        bufferSize: most bytes that are read at once, as of Twisted's.
        taken: what the peer took.
        takes: whether the peer takes what is written at once; else see `take`.
        reading: the protocol wants input.
        half_closed: our end of the stream was sent.
        over: the connection is gone.
        aborted: and we dropped it.
    """

    def __init__(self, clock: IReactorTime, peer: IPv4Address | None = None) -> None:
        self._clock = clock
        self._peer = peer or IPv4Address("TCP", "192.0.2.7", 50007)
        self.protocol: Any = None
        self.bufferSize = 64 * 1024
        self.producer: Any = None
        self.taken = bytearray()
        self.takes = True
        self.reading = True
        self.half_closed = False
        self.over = False
        self.aborted = False
        self.connected = True
        self.disconnecting = False
        self.fin_taken = False
        self._half_closing = False
        self._producer_paused = False
        self._held = bytearray()
        self._waiting: list[bytes | None] = []  # input that is not wanted now; None is the peer's FIN

    def connect(self, protocol: Any) -> Any:
        """Give the connection to a protocol. Returns the protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)
        return protocol

    # What the peer does

    def receive(self, data: bytes) -> None:
        """The peer sends bytes."""
        if not self.over:
            self._waiting.append(data)
            self._deliver()

    def receive_fin(self) -> None:
        """The peer ends its half."""
        if not self.over:
            self._waiting.append(None)
            self._deliver()

    def receive_reset(self) -> None:
        """The peer drops the connection."""
        self._lose(Failure(ConnectionLost("reset by the test")))

    def take(self, count: int | None = None) -> bytes:
        """The peer takes what was written, at most `count` bytes."""
        size = len(self._held) if count is None else count
        data = bytes(self._held[:size])
        del self._held[:size]
        self.taken += data
        if not self._held:
            self._emptied()
        return data

    @property
    def held(self) -> int:
        """Bytes that were written and not taken."""
        return len(self._held)

    def clear(self) -> bytes:
        """What was taken since the last time."""
        data = bytes(self.taken)
        self.taken.clear()
        return data

    # ITransport

    def write(self, data: bytes) -> None:
        """Queue bytes for the peer."""
        if not isinstance(data, bytes):
            raise TypeError(f"bytes, not {type(data)}")
        if self.over or self.half_closed or self.aborted or not data:
            return
        self._held += data
        if self.takes:
            self.take()
        elif self.producer is not None and len(self._held) > BUFFER_BYTES and not self._producer_paused:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Queue bytes for the peer."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close once everything was taken."""
        if not self.over and not self.disconnecting:
            self.disconnecting = True
            self.reading = False
            if not self._held:
                self._emptied()

    def abortConnection(self) -> None:
        """Close now."""
        if not self.over and not self.aborted:
            self.aborted = True
            self.reading = False
            self._held.clear()
            self._clock.callLater(0, self._lose, Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        """End our half once everything was taken."""
        self._half_closing = True
        if not self._held:
            self._emptied()

    def getPeer(self) -> IPv4Address:
        """The test's address."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """Ours."""
        return IPv4Address("TCP", "192.0.2.1", 8000)

    def getTcpNoDelay(self) -> bool:
        """As a socket's."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a socket's."""

    def getTcpKeepAlive(self) -> bool:
        """As a socket's."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """As a socket's."""

    # IConsumer and IPushProducer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Who is told to pause."""
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Nobody is."""
        self.producer = None
        self._producer_paused = False
        if self.disconnecting and not self._held:
            self._emptied()

    def pauseProducing(self) -> None:
        """Give the protocol no input."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Give it input again."""
        if self.disconnecting or self.aborted or self.over:
            return
        self.reading = True
        self._clock.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        """The same as closing."""
        self.loseConnection()

    # Inside

    def _deliver(self) -> None:
        while self._waiting and self.reading and not self.over:
            data = self._waiting.pop(0)
            if data is not None:
                self.protocol.dataReceived(data)
            elif IHalfCloseableProtocol.providedBy(self.protocol):
                self.reading = False
                self.protocol.readConnectionLost()
            else:
                self._lose(Failure(ConnectionDone()))

    def _emptied(self) -> None:
        if self.producer is not None and self._producer_paused:
            self._producer_paused = False
            self.producer.resumeProducing()
            return  # as Twisted's, which then forgets that it was to end our half
        if self._half_closing and not self.half_closed and not self.over:
            self.half_closed = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
        if self.disconnecting and not self.aborted:
            self._clock.callLater(0, self._lose, Failure(ConnectionDone()))

    def _lose(self, reason: Failure) -> None:
        if not self.over:
            self.over = True
            self.connected = False
            self.disconnecting = True
            self._held.clear()
            self.protocol.connectionLost(reason)


class Wire:
    """Joins two memory transports: what one writes the other receives.

    Args:
        piece_bytes: asked before each delivery; how many bytes arrive at once.
    """

    def __init__(
        self,
        left: MemoryTransport,
        right: MemoryTransport,
        piece_bytes: Callable[[], int] = lambda: 64 * 1024,
    ) -> None:
        self.left = left
        self.right = right
        self._piece_bytes = piece_bytes

    def step(self) -> bool:
        """Carry one piece each way. Returns whether anything moved."""
        moved = self._carry(self.left, self.right)
        return self._carry(self.right, self.left) or moved

    def flush(self) -> None:
        """Carry everything, until both are quiet.

        Raises:
            RuntimeError: they never are.
        """
        for _ in range(1_000_000):
            if not self.step():
                return
        raise RuntimeError("the connection does not come to rest")

    def _carry(self, sender: MemoryTransport, receiver: MemoryTransport) -> bool:
        if receiver.over:
            sender.clear()
            if not sender.over and not sender.aborted:
                sender.receive_reset()
                return True
            return False
        if sender.taken and receiver.reading:
            size = self._piece_bytes()
            data = bytes(sender.taken[:size])
            del sender.taken[:size]
            receiver.receive(data)
            return True
        ended = sender.half_closed or sender.over
        if ended and not sender.taken and not sender.fin_taken:
            sender.fin_taken = True
            if sender.aborted:
                receiver.receive_reset()
            else:
                receiver.receive_fin()
            return True
        return False

"""A connection between two protocols of one process: the transports that TCP would give them, without a socket.

What is needed. Protocols written for TCP go on working: backpressure both ways for both kinds of producers, half-close,
an orderly end behind what was written, an abort that the other side sees, and no call from within a call. Nothing is
kept without bound: a writer whose reader stands still is paused.

What can go wrong. A protocol writes from within `dataReceived`, closes there, or puts another protocol in its place
(`transport.protocol`, as Autobahn's resource does when a request becomes a WebSocket). One end may go while the other
one's bytes are on their way. A protocol raises: that ends its connection, and nothing else.

What was chosen. Each end keeps what it wrote until the other one takes it. An end calls its protocol in turns of its
own only, at most one read in each, so that the protocol can pause in between. A turn of the reactor costs more than
most of these, and a request takes eight: so one has room for several, of one end after the other. Who is told what, and
when, is as with Twisted's TCP transports, with one difference: a protocol that knows no half-closed connections does
not lose what it wrote before its peer's end, which a kernel would have taken from it long ago.

What was rejected. A socket pair: two descriptors and six system calls for each connection, and addresses that would
have to be hidden from the protocol all the same.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()

FULL_BYTES: Final = 64 * 1024
"""Bytes that wait for the other end above which a producer is paused, as Twisted's TCP transports have it."""
PIECE_BYTES: Final = 64 * 1024
"""Most bytes of one `dataReceived`, as of one read of a socket."""
TURNS: Final = 16
"""Turns that ends may take in one of the reactor, if fewer wait for one: enough for a request, or for 1 MiB."""


class _Life(enum.Enum):
    """How far an end is. Each state leads to the later ones only."""

    OPEN = enum.auto()
    CLOSING = enum.auto()  # what was written is still taken; nothing more is read
    GONE = enum.auto()  # the protocol was told


class _Stream(enum.Enum):
    """How far the stream is that an end writes. Each state leads to the later ones only."""

    OPEN = enum.auto()
    ENDING = enum.auto()  # its end is behind what waits
    READ = enum.auto()  # the other end knows of its end
    ENDED = enum.auto()  # and the protocol knows of that


class _Producer(enum.Enum):
    """What an end knows of the producer that writes to it."""

    NONE = enum.auto()
    PUSHING = enum.auto()
    PAUSED = enum.auto()  # it pushes, and was told to wait
    PULLED = enum.auto()  # it writes when it is told to


class Turns:
    """Gives the ends of connections their turns, each when it is due.

    Args:
        clock: the reactor, or a `Clock` in tests.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[MemoryTransport] = deque()
        self._call: IDelayedCall | None = None

    def add(self, end: MemoryTransport) -> None:
        """Give an end a turn, which does not wait for one yet."""
        self._waiting.append(end)
        if self._call is None:
            self._call = self._clock.callLater(0, self._give)

    def _give(self) -> None:
        waiting = self._waiting
        left = max(len(waiting), TURNS)
        try:
            while waiting and left:
                left -= 1
                waiting.popleft().take_turn()
        finally:
            self._call = self._clock.callLater(0, self._give) if waiting else None


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a connection in memory; see `connect_in_memory`.

    Args:
        turns: gives it turns.
        host: the address of this end.
        peer: the address of the other one.

    Attributes:
        protocol: gets what the other end writes; may be replaced.
    """

    protocol: IProtocol
    _other: MemoryTransport

    def __init__(self, turns: Turns, host: IAddress, peer: IAddress) -> None:
        self._turns = turns
        self._host = host
        self._peer = peer
        self._life = _Life.OPEN
        self._stream = _Stream.OPEN
        self._queue: deque[bytes] = deque()  # what we wrote and the other end did not take
        self._queued = 0
        self._reading = True
        self._drained = False  # the other end took all, which the producer was not told yet
        self._producer: Any = None  # of either kind: Twisted has two interfaces without a common one
        self._produces = _Producer.NONE
        self._broken: Exception | None = None  # why the connection ends in the next turn, whatever waits
        self._waits = False  # for a turn

    # What protocols ask (ITransport, and what they use of ITCPTransport)

    @property
    def connected(self) -> bool:
        """Whether the protocol was not told yet that the connection is gone."""
        return self._life is not _Life.GONE

    @property
    def disconnecting(self) -> bool:
        """Whether it closes once what was written is taken."""
        return self._life is _Life.CLOSING

    @property
    def queued(self) -> int:
        """Bytes that the other end did not take yet."""
        return self._queued

    def getHost(self) -> IAddress:
        return self._host

    def getPeer(self) -> IAddress:
        return self._peer

    def write(self, data: bytes) -> None:
        if not data or self._life is _Life.GONE or self._stream is not _Stream.OPEN:
            return
        self._queue.append(bytes(data))
        self._queued += len(data)
        self._drained = False
        self._other._wake()
        if self._other._life is _Life.GONE:
            self._wake()
        if self._queued > FULL_BYTES and self._produces is _Producer.PUSHING:
            self._produces = _Producer.PAUSED
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self._life is _Life.OPEN:
            self._life = _Life.CLOSING
            self._wake()

    def abortConnection(self) -> None:
        self._break(ConnectionAborted())

    def loseWriteConnection(self) -> None:
        if self._stream is _Stream.OPEN:
            self._stream = _Stream.ENDING
            self._other._wake()

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """No peer goes here without a word."""

    # What it asks a producer (IConsumer)

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # Any as of `_producer`
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered and was not unregistered")
        if self._life is _Life.GONE:
            producer.stopProducing()
            return
        self._producer = producer
        self._produces = _Producer.PUSHING if streaming else _Producer.PULLED
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._produces = _Producer.NONE
        self._wake()

    # What is asked of it as a producer of what it reads (IPushProducer)

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if not self._reading:
            self._reading = True
            self._wake()

    def stopProducing(self) -> None:
        self.loseConnection()

    # Turns

    def _wake(self) -> None:
        if not self._waits and self._life is not _Life.GONE:
            self._waits = True
            self._turns.add(self)

    def take_turn(self) -> None:
        """Do what is due (called by `Turns`)."""
        self._waits = False
        try:
            self._work()
        except Exception:
            log.failure("A protocol failed, and its connection ends", protocol=repr(self.protocol))
            self._break(ConnectionLost("the protocol failed"))

    def _work(self) -> None:
        """Tell the producer, and the protocol at most one thing that may make it act."""
        other = self._other
        if self._drained and self._produces in (_Producer.PAUSED, _Producer.PULLED):
            self._drained = False
            if self._produces is _Producer.PAUSED:
                self._produces = _Producer.PUSHING
            self._wake()
            self._producer.resumeProducing()
        if self._broken is not None:
            self._lost(self._broken)
        elif self._queued and other._life is _Life.GONE and (self._knows_end or not self._reading):
            self._lost(ConnectionLost("the other end closed the connection and did not read all"))
        elif self._life is _Life.CLOSING:
            if not self._queued and self._produces not in (_Producer.PAUSED, _Producer.PULLED):
                self._lost(ConnectionDone())
        elif self._stream is _Stream.READ:
            self._stream = _Stream.ENDED
            self._wake()
            half_closeable = IHalfCloseableProtocol(self.protocol, None)
            if half_closeable is not None:
                half_closeable.writeConnectionLost()
        elif self._reading:
            self._read()

    @property
    def _knows_end(self) -> bool:
        """Whether the protocol does not read any more, or knows that nothing more comes."""
        return self._life is not _Life.OPEN or self._other._stream in (_Stream.READ, _Stream.ENDED)

    def _read(self) -> None:
        other = self._other
        if other._queued:
            data = other._take()
            other._wake()
            self._wake()
            self.protocol.dataReceived(data)
        elif other._stream is _Stream.ENDING:
            other._stream = _Stream.READ
            other._wake()
            self._wake()
            half_closeable = IHalfCloseableProtocol(self.protocol, None)
            if half_closeable is not None:
                half_closeable.readConnectionLost()
            else:
                self.loseConnection()

    def _take(self) -> bytes:
        """Give the other end some of what we wrote."""
        queue = self._queue
        pieces, room = [], PIECE_BYTES
        while queue and room:
            piece = queue.popleft()
            if len(piece) > room:
                queue.appendleft(piece[room:])
                piece = piece[:room]
            pieces.append(piece)
            room -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._queued -= len(data)
        self._drained = not self._queued
        return data

    # Ends

    def _break(self, why: Exception) -> None:
        """Drop the connection in the next turn, for the other end too, with all that waits."""
        if self._life is _Life.GONE or self._broken is not None:
            return
        self._broken = why
        self._wake()
        other = self._other
        if other._broken is None:
            other._broken = ConnectionLost("the other end dropped the connection")
            other._wake()

    def _lost(self, why: Exception) -> None:
        self._life = _Life.GONE
        self._queue.clear()
        self._queued = 0
        if self._stream is _Stream.OPEN:
            self._stream = _Stream.ENDING
        producer, self._producer = self._producer, None
        self._other._wake()
        try:
            if producer is not None:
                producer.stopProducing()
        finally:
            self.protocol.connectionLost(Failure(why))


@implementer(ISSLTransport)
class SecureMemoryTransport(MemoryTransport):  # type: ignore[override]  # the addresses are those of no IP network
    """An end whose peer came over TLS, which ended before this process: `isSecure` of a request is true, and links that
    a program makes are `https`."""

    def getPeerCertificate(self) -> None:
        """The certificate of the peer was for whoever ended its TLS."""


def connect_in_memory(
    turns: Turns,
    client: IProtocol,
    server: IProtocol,
    *,
    client_address: IAddress,
    server_address: IAddress,
    secure: bool = False,
) -> None:
    """Connect two protocols.

    Args:
        turns: of the two ends, and of other connections.
        client: one end.
        server: the other one, which hears of the connection first.
        client_address: what the server sees as its peer.
        server_address: what the server sees as its own address, and the client as its peer.
        secure: whether the server's transport is as one over TLS (`ISSLTransport`).

    Raises:
        Exception: a protocol raised it when it was told of the connection, which ends for those that were told.
    """
    ends = SecureMemoryTransport if secure else MemoryTransport
    at_server = ends(turns, server_address, client_address)
    at_client = MemoryTransport(turns, client_address, server_address)
    at_server._other, at_client._other = at_client, at_server
    at_server.protocol, at_client.protocol = server, client
    try:
        server.makeConnection(at_server)
    except Exception:
        at_client._life = _Life.GONE  # nobody told it of a connection
        at_server.abortConnection()
        raise
    try:
        client.makeConnection(at_client)
    except Exception:
        at_client.abortConnection()
        raise

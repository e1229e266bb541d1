"""Connections in memory: what protocols are promised of TCP holds without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.socket.memory import FULL_BYTES, PIECE_BYTES, MemoryTransport, Turns, connect_in_memory
from tests.conftest import LoggedFailures

CLIENT = IPv4Address("TCP", "192.0.2.7", 0)
SERVER = IPv4Address("TCP", "192.0.2.1", 80)


class Records(Protocol):
    """Keeps what it is told."""

    transport: MemoryTransport

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.told: list[str] = []
        self.reason: type[BaseException] | None = None

    @property
    def data(self) -> bytes:
        """All that came."""
        return b"".join(self.reads)

    def dataReceived(self, data: bytes) -> None:
        self.reads.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.reason is None, "it was told twice"
        self.reason = reason.type


@implementer(IHalfCloseableProtocol)
class Halves(Records):
    """Knows half-closed connections."""

    def readConnectionLost(self) -> None:
        self.told.append("read")

    def writeConnectionLost(self) -> None:
        self.told.append("write")


@implementer(IPushProducer)
class Producer:
    """Writes, and does as it is told.

    Args:
        transport: to write to.
        pieces: what to write in all, if it is pulled.
    """

    def __init__(self, transport: MemoryTransport, pieces: int = 0) -> None:
        self.transport = transport
        self.pieces = pieces
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.pieces:
            self.pieces -= 1
            self.transport.write(b"p" * 10)
            if not self.pieces:
                self.transport.unregisterProducer()
                self.transport.loseConnection()

    def stopProducing(self) -> None:
        self.told.append("stop")


class Pair:
    """Two protocols that are connected.

    Args:
        client, server: the protocols.
        secure: as of `connect_in_memory`.
    """

    def __init__(self, client: Any = None, server: Any = None, *, secure: bool = False) -> None:
        self.clock = Clock()
        self.client: Any = client or Halves()
        self.server: Any = server or Halves()
        connect_in_memory(
            Turns(self.clock), self.client, self.server, client_address=CLIENT, server_address=SERVER, secure=secure
        )

    def turn(self, most: int = 1000) -> None:
        """Let the reactor turn until nothing is left to do."""
        for _ in range(most):
            if not self.clock.getDelayedCalls():
                return
            self.clock.advance(0)
        raise AssertionError("the connection never comes to rest")


def test_each_end_knows_the_addresses() -> None:
    """The server's peer is the client and the other way round; only a secure connection says that it is one."""
    pair = Pair()
    assert pair.server.transport.getPeer() == pair.client.transport.getHost() == CLIENT
    assert pair.client.transport.getPeer() == pair.server.transport.getHost() == SERVER
    assert ISSLTransport(pair.server.transport, None) is None
    secure = Pair(secure=True)
    assert ISSLTransport(secure.server.transport).getPeerCertificate() is None
    assert ISSLTransport(secure.client.transport, None) is None


def test_nothing_is_called_from_within_a_call() -> None:
    """A write is delivered in a later turn, however often the two answer each other."""

    class Answers(Records):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.reads) < 50:
                self.transport.write(b"%d" % len(self.reads))
                assert len(pair.client.reads) + 1 >= len(pair.server.reads)

    pair = Pair(Answers(), Answers())
    pair.client.transport.write(b"0")
    assert pair.server.reads == []
    pair.turn()
    assert len(pair.server.reads) == 50


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=3 * PIECE_BYTES)), max_size=12), st.integers(0, 3))
def test_bytes_arrive_whole_and_in_order(writes: list[tuple[bool, bytes]], pauses: int) -> None:
    """Whatever is written, in whatever pieces, arrives at the other end as it is, at most 64 KiB in a read."""
    pair = Pair()
    sent = {True: b"", False: b""}
    for from_client, data in writes:
        (pair.client if from_client else pair.server).transport.writeSequence([data[:5], data[5:]])
        sent[from_client] += data
        if pauses:
            pauses -= 1
            pair.server.transport.pauseProducing()
            pair.turn()
            pair.server.transport.resumeProducing()
    pair.turn()
    assert (pair.server.data, pair.client.data) == (sent[True], sent[False])
    assert all(len(read) <= PIECE_BYTES for read in pair.server.reads + pair.client.reads)


def test_a_paused_reader_pauses_the_writer() -> None:
    """A streaming producer is paused above 64 KiB that the other end did not take, and resumed when it took all."""
    pair = Pair()
    producer = Producer(pair.client.transport)
    pair.client.transport.registerProducer(producer, True)
    pair.server.transport.pauseProducing()
    pair.client.transport.write(b"x" * FULL_BYTES)
    assert producer.told == []
    pair.client.transport.write(b"y")
    pair.turn()
    assert producer.told == ["pause"]
    assert pair.server.reads == []
    pair.server.transport.resumeProducing()
    pair.turn()
    assert producer.told == ["pause", "resume"]
    assert len(pair.server.data) == FULL_BYTES + 1


def test_a_reader_may_pause_between_two_reads() -> None:
    """What comes after a pause from within `dataReceived` waits."""

    class PausesAtOnce(Records):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.pauseProducing()

    pair = Pair(server=PausesAtOnce())
    pair.client.transport.write(b"x" * 3 * PIECE_BYTES)
    pair.turn()
    assert len(pair.server.data) == PIECE_BYTES
    pair.server.transport.resumeProducing()
    pair.turn()
    assert len(pair.server.data) == 2 * PIECE_BYTES


def test_a_pulled_producer_writes_when_the_last_piece_was_taken() -> None:
    """It is asked again each time; it does not hinder reading; its end closes the connection behind its bytes."""
    pair = Pair(server=Records())
    producer = Producer(pair.client.transport, pieces=5)
    pair.client.transport.registerProducer(producer, False)
    pair.server.transport.write(b"meanwhile")
    pair.turn()
    assert pair.server.data == b"p" * 50
    assert producer.told == ["resume"] * 5
    assert pair.client.data == b"meanwhile"
    assert pair.client.reason is ConnectionDone


def test_a_pulled_producer_that_has_nothing_is_not_asked_again_and_again() -> None:
    """The reactor comes to rest."""
    pair = Pair()
    producer = Producer(pair.client.transport)
    pair.client.transport.registerProducer(producer, False)
    pair.turn()
    assert producer.told == ["resume"]


def test_one_producer_at_a_time() -> None:
    """A second one is a mistake of the program."""
    pair = Pair()
    pair.client.transport.registerProducer(Producer(pair.client.transport), True)
    with pytest.raises(RuntimeError, match="was not unregistered"):
        pair.client.transport.registerProducer(Producer(pair.client.transport), True)


def test_a_half_close_ends_one_stream() -> None:
    """The other end reads all and then the end, and goes on writing; the writer is told, too."""
    pair = Pair()
    pair.client.transport.write(b"q" * (PIECE_BYTES + 1))
    pair.client.transport.loseWriteConnection()
    pair.client.transport.write(b"too late")
    pair.turn()
    assert len(pair.server.data) == PIECE_BYTES + 1
    assert (pair.server.told, pair.client.told) == (["read"], ["write"])
    pair.server.transport.write(b"answer")
    pair.server.transport.loseConnection()
    pair.turn()
    assert pair.client.data == b"answer"
    assert pair.client.told == ["write", "read"]
    assert pair.server.reason is ConnectionDone
    assert pair.client.reason is None
    pair.client.transport.loseConnection()
    pair.turn()
    assert pair.client.reason is ConnectionDone


def test_a_protocol_without_half_closing_still_answers() -> None:
    """Its connection closes at the end of its peer's stream, behind what it wrote."""

    class Echoes(Records):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    pair = Pair(server=Echoes())
    pair.client.transport.write(b"e" * 5 * PIECE_BYTES)
    pair.client.transport.loseWriteConnection()
    pair.turn()
    assert pair.client.data == b"e" * 5 * PIECE_BYTES
    assert pair.server.reason is ConnectionDone
    assert pair.client.told == ["write", "read"]


def test_a_close_comes_behind_what_was_written() -> None:
    """Nothing is read any more from then on, and both ends are told once."""
    pair = Pair(server=Records())
    pair.client.transport.write(b"last words" * PIECE_BYTES)
    pair.client.transport.loseConnection()
    assert pair.client.transport.disconnecting
    pair.server.transport.write(b"not read")
    pair.turn()
    assert pair.server.data == b"last words" * PIECE_BYTES
    assert pair.client.data == b""
    assert pair.client.reason is ConnectionDone
    assert pair.server.reason is not None
    assert not pair.server.transport.connected


def test_a_close_waits_for_a_reader_that_is_paused() -> None:
    """What was written is not lost because the other end reads later."""
    pair = Pair()
    pair.server.transport.pauseProducing()
    pair.client.transport.write(b"later")
    pair.client.transport.loseConnection()
    pair.turn()
    assert pair.client.reason is None
    pair.server.transport.resumeProducing()
    pair.turn()
    assert (pair.server.data, pair.server.told) == (b"later", ["read"])
    assert pair.client.reason is not None and issubclass(pair.client.reason, ConnectionDone)


def test_who_writes_to_an_end_that_is_gone_is_told() -> None:
    """As a reset would; also an end that does not read, with a producer that waits."""
    pair = Pair()
    pair.client.transport.loseConnection()
    pair.turn()
    assert pair.server.told == ["read"]
    pair.server.transport.write(b"anybody there?")
    pair.turn()
    assert pair.server.reason is ConnectionLost
    paused = Pair()
    producer = Producer(paused.server.transport)
    paused.server.transport.registerProducer(producer, True)
    paused.server.transport.pauseProducing()
    paused.client.transport.pauseProducing()
    paused.server.transport.write(b"x" * 2 * FULL_BYTES)
    paused.client.transport.loseConnection()
    paused.turn()
    assert paused.server.reason is ConnectionLost
    assert producer.told == ["pause", "stop"]


def test_an_abort_drops_what_waits() -> None:
    """Both ends are told in the next turn, one of its own abort and the other of a loss; a producer is stopped."""
    pair = Pair()
    producer = Producer(pair.server.transport)
    pair.server.transport.registerProducer(producer, True)
    pair.client.transport.write(b"never read")
    pair.client.transport.abortConnection()
    pair.client.transport.abortConnection()
    pair.turn()
    assert (pair.server.data, pair.server.reason, pair.client.reason) == (b"", ConnectionLost, ConnectionAborted)
    assert producer.told == ["stop"]
    pair.server.transport.write(b"x")
    pair.server.transport.loseConnection()
    pair.server.transport.loseWriteConnection()
    late = Producer(pair.server.transport)
    pair.server.transport.registerProducer(late, True)
    assert late.told == ["stop"]
    pair.turn()


def test_another_protocol_takes_over() -> None:
    """What comes after `transport.protocol` was set goes to that one, as when a request becomes a WebSocket."""
    pair = Pair()
    pair.client.transport.write(b"GET")
    pair.turn()
    successor = Records()
    pair.server.transport.protocol = successor
    successor.makeConnection(pair.server.transport)
    pair.client.transport.write(b"frames")
    pair.client.transport.loseConnection()
    pair.turn()
    assert (pair.server.data, successor.data, successor.reason) == (b"GET", b"frames", ConnectionDone)


def test_a_protocol_that_fails_loses_its_connection(logged_failures: LoggedFailures) -> None:
    """It is logged, and the other end is told."""

    class Fails(Records):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    pair = Pair(server=Fails())
    pair.client.transport.write(b"x")
    pair.turn()
    assert pair.server.reason is pair.client.reason is ConnectionLost
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


@pytest.mark.parametrize("who", ["server", "client"])
def test_a_protocol_that_fails_at_once(who: str) -> None:
    """Whoever connects is told; an end that had heard of the connection hears of its end, another one of nothing."""

    class Fails(Records):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    clock, server, client = Clock(), Records(), Records()
    if who == "server":
        server = Fails()
    else:
        client = Fails()
    with pytest.raises(ZeroDivisionError):
        connect_in_memory(Turns(clock), client, server, client_address=CLIENT, server_address=SERVER)
    for _ in range(10):
        clock.advance(0)
    assert not clock.getDelayedCalls()
    reasons = (server.reason, client.reason)
    assert reasons == ((ConnectionAborted, None) if who == "server" else (ConnectionLost, ConnectionAborted))

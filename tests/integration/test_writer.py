"""Writing to a socket at once, in front of Twisted's queue."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pico_twisted.net.socket.options import writer
from tests.doubles.transport import MemoryTransport
from tests.integration.harness import eventually, pause, reactor


class Server(Protocol):
    """Writes what the test wants, both ways."""

    transport: Any
    ended: Failure | None = None
    paused = 0

    def connectionMade(self) -> None:
        self.write_now = writer(self.transport)
        self.factory.servers.append(self)
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        """Nothing is waiting."""

    def stopProducing(self) -> None:
        """The connection is gone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason


class Pair:
    """A server's connection, and the socket at its other end."""

    async def open(self) -> Pair:
        """Connect."""
        factory: Any = Factory.forProtocol(Server)
        factory.servers = []
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.sock.connect(("127.0.0.1", self._port.getHost().port))
        self.sock.setblocking(False)
        await eventually(lambda: factory.servers)
        self.server: Server = factory.servers[0]
        self.got = bytearray()
        self.end = False
        return self

    def read(self) -> None:
        """Take what is there."""
        while not self.end:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.end = True
                return
            self.got += data
            self.end = not data

    def has_all(self, wanted: bytes) -> bool:
        """Whether everything came."""
        self.read()
        return len(self.got) >= len(wanted)

    async def close(self) -> None:
        """Close everything."""
        self.sock.close()
        self.server.transport.abortConnection()
        await eventually(lambda: self.server.ended is not None)
        await self._port.stopListening()


@pytest.mark.parametrize("seed", range(4))
@ensureDeferred
async def test_order(seed: int) -> None:
    """Whatever is written at once or queued, small or large, to a slow reader or a fast one, arrives in order."""
    rng = random.Random(seed)
    pair = await Pair().open()
    sent = bytearray()
    for _ in range(150):
        data = rng.randbytes(rng.choice((0, 1, 100, 5_000, 70_000, 300_000 if rng.random() < 0.1 else 3)))
        sent += data
        (pair.server.write_now if rng.random() < 0.7 else pair.server.transport.write)(data)
        if rng.random() < 0.3:
            pair.read()
        if rng.random() < 0.3:
            await pause(0)
    await eventually(lambda: pair.has_all(bytes(sent)))
    assert pair.got == sent
    await pair.close()


@ensureDeferred
async def test_at_once() -> None:
    """A small write is there before the reactor has turned; a large one pauses its producer as ever."""
    pair = await Pair().open()
    pair.server.write_now(b"now")
    pair.read()
    assert pair.got == b"now"
    while not pair.server.paused:
        pair.server.write_now(bytes(100_000))
        assert len(pair.server.transport.dataBuffer) + pair.server.transport._tempDataLen < 1_000_000
    await pair.close()


@pytest.mark.parametrize("ending", ["loseConnection", "loseWriteConnection"])
@ensureDeferred
async def test_last_words(ending: str) -> None:
    """What was written before an end comes before it, and nothing comes behind it."""
    pair = await Pair().open()
    pair.server.write_now(b"a" * 3_000_000)
    pair.server.write_now(b"b")
    getattr(pair.server.transport, ending)()
    pair.server.transport.unregisterProducer()

    def ended() -> bool:
        pair.read()
        return pair.end

    await eventually(ended)
    pair.server.write_now(b"too late")
    await pause(0.02)
    assert pair.got == b"a" * 3_000_000 + b"b"
    await pair.close()


@ensureDeferred
async def test_peer_is_gone() -> None:
    """Writing to a peer that has reset the connection raises nothing: the transport finds out."""
    pair = await Pair().open()
    pair.server.write_now(bytes(5_000_000))
    pair.sock.close()
    for _ in range(100):
        pair.server.write_now(bytes(1000))
        await pause(0)
    await eventually(lambda: pair.server.ended is not None)
    assert pair.server.ended is not None and pair.server.ended.check(ConnectionLost, ConnectionDone)
    pair.server.write_now(b"too late")
    await pair.close()


def test_other_transports() -> None:
    """A transport that is no plain socket is written to as ever."""
    transport = MemoryTransport(Clock())
    write = writer(transport)
    write(b"x")
    assert transport.taken == b"x"

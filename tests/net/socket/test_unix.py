"""Connections over Unix sockets, made and accepted."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pico_twisted.app.process.local_admin import LocalPort, listen_locally
from pico_twisted.net.socket.options import is_dead, peer_text, tune, writer
from pico_twisted.net.socket.unix import UnixEndpoint, UnixPeer, UnixPort
from tests.net.in_reactor import DEADLINE_S, in_reactor, reactor, until


class Kept(Protocol):
    """Keeps what came."""

    def __init__(self, address: IAddress | None) -> None:
        self.address = address
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Keeping(Factory):
    """Makes those, and knows them."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Kept] = []

    def buildProtocol(self, addr: IAddress | None) -> Any:  # as Twisted has it
        self.made.append(Kept(addr))
        return self.made[-1]


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket of the test that listens at `tmp_path / "s"`."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen(1)
        yield made


def endpoint(tmp_path: Path, timeout_s: float = DEADLINE_S) -> UnixEndpoint:
    return UnixEndpoint(reactor, str(tmp_path / "s"), timeout_s)


@in_reactor
async def test_both_ends(tmp_path: Path) -> None:
    """Bytes go both ways, in any amount; an end is told; the file stays as whoever bound the socket made it."""
    path = str(tmp_path / "s")
    bound = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    bound.bind(path)
    os.umask(before)
    bound.listen()
    bound.setblocking(False)
    ours, theirs = Keeping(), Keeping()
    port = UnixPort(bound, theirs, reactor)
    port.startListening()
    assert port.path == path
    client: Any = await endpoint(tmp_path).connect(ours)
    (server,) = await until(lambda: theirs.made, "a connection")
    assert server.address == UnixPeer() and server.transport is not None
    assert peer_text(server.transport) == "unix"
    for transport in (client.transport, server.transport):
        tune(transport)
        writer(transport)(b"x" * 3_000_000)
    await until(lambda: len(client.received) == len(server.received) == 3_000_000, "all bytes")
    assert not is_dead(server.transport)
    client.transport.loseConnection()
    await until(lambda: client.lost and server.lost, "both ends")
    await port.stopListening()
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [UnixPort, LocalPort])
@in_reactor
async def test_one_of_several_that_share_a_socket(listening: socket.socket, tmp_path: Path, kind: type) -> None:
    """When one of them stops, the others go on: the socket is not shut down for all."""
    listening.setblocking(False)
    theirs = Keeping()
    ports: list[Any] = []
    for _ in range(2):
        if kind is UnixPort:
            ports.append(UnixPort(listening.dup(), theirs, reactor))
            ports[-1].startListening()
        else:
            ports += listen_locally(reactor, listening.dup(), theirs)
    await ports[0].stopListening()
    client: Any = await endpoint(tmp_path).connect(Keeping())
    await until(lambda: theirs.made, "a connection")
    client.transport.loseConnection()
    await until(lambda: client.lost and theirs.made[0].lost, "its end")
    await ports[1].stopListening()


@pytest.mark.parametrize("own", [b"\0abc", b"\0some name", b"abcd"])
@in_reactor
async def test_a_client_has_no_address(tmp_path: Path, own: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it bound its own end to: four characters would be taken for an IPv6 address."""
    monkeypatch.chdir(tmp_path)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("s")
    bound.listen()
    bound.setblocking(False)
    theirs = Keeping()
    port = UnixPort(bound, theirs, reactor)
    port.startListening()
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(own)
        client.connect("s")
        (server,) = await until(lambda: theirs.made, "a connection")
        assert server.address == UnixPeer()
    await until(lambda: server.lost, "the end")
    await port.stopListening()


@in_reactor
async def test_nobody_there(tmp_path: Path, listening: socket.socket) -> None:
    """A file without a process is a closed port; without a file, or without the right to it, there is a reason."""
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        await endpoint(tmp_path).connect(Keeping())
    with pytest.raises(ConnectError) as missing:
        await UnixEndpoint(reactor, str(tmp_path / "none"), 1.0).connect(Keeping())
    assert missing.value.osError == errno.ENOENT


@in_reactor
async def test_a_full_queue_is_waited_for(tmp_path: Path, listening: socket.socket) -> None:
    """The kernel refuses what does not fit into a queue; over TCP it would try again, and so do we, for a time."""
    waiting = []
    while True:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        waiting.append(one)
        if one.connect_ex(str(tmp_path / "s")) == errno.EAGAIN:
            break
    with pytest.raises(TimeoutError):
        await endpoint(tmp_path, 0.05).connect(Keeping())
    given_up = endpoint(tmp_path).connect(Keeping())
    given_up.cancel()
    with pytest.raises(CancelledError):
        await given_up
    connecting = endpoint(tmp_path).connect(Keeping())
    await deferLater(reactor, 0.03)
    assert not connecting.called
    for _ in waiting[:-1]:
        listening.accept()[0].close()
    protocol: Any = await connecting
    assert protocol.transport.connected
    protocol.transport.abortConnection()
    for one in waiting:
        one.close()
    await until(lambda: protocol.lost, "the end")


@in_reactor
async def test_who_has_left_and_who_has_only_ended(tmp_path: Path, listening: socket.socket) -> None:
    """A peer that ended its half still reads, and one that closed does not: the kernel tells them apart."""
    protocol: Any = await endpoint(tmp_path).connect(Keeping())
    peer, _ = listening.accept()
    peer.shutdown(socket.SHUT_WR)
    assert not is_dead(protocol.transport)
    peer.close()
    assert is_dead(protocol.transport)
    protocol.transport.abortConnection()
    await until(lambda: protocol.lost, "the end")
    assert not is_dead(protocol.transport)

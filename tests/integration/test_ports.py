"""Ports of TCP and UDP under one number, and the addresses that they are told by."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import deferLater

from pico_twisted.app.process.ports import (
    ACCEPTS_OF_A_TURN,
    ACCEPTS_WHEN_LATE,
    SHORT_LINE_S,
    BoundPort,
    CannotStart,
    GossipPort,
    advertised,
)
from pico_twisted.config import Address
from tests.integration.harness import eventually, reactor
from tools.stage.ports import free_port

KEY = "cluster.gossip.bind_addr"


class Greeting(Protocol):
    """Says one word to whoever connects."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(b"hello")
        self.transport.loseConnection()


class Echo(DatagramProtocol):
    """Sends packets back, and counts how often it was started and stopped."""

    transport: Any

    def __init__(self) -> None:
        self.started = 0
        self.stopped = 0
        self.senders: list[str] = []

    def startProtocol(self) -> None:
        self.started += 1

    def stopProtocol(self) -> None:
        self.stopped += 1

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.senders.append(addr[0])
        self.transport.write(datagram, addr)


@asynccontextmanager
async def gossip_port(
    address: Address, max_packet_bytes: int = 65_000, using: Any = None
) -> AsyncIterator[tuple[GossipPort, Echo]]:
    """A port that is stopped at the end."""
    protocol = Echo()
    port = GossipPort(using or reactor, KEY, address, Factory.forProtocol(Greeting), protocol, max_packet_bytes)
    try:
        yield port, protocol
    finally:
        await port.stop()


def dial(host: str, port: int) -> socket.socket:
    """A TCP connection to a port of this machine; the kernel makes it without the reactor's help."""
    sock = socket.create_connection((host, port), timeout=5)
    sock.setblocking(False)
    return sock


async def greeted(host: str, port: int) -> bool:
    """Whether somebody says hello there."""
    with closing(dial(host, port)) as sock:
        return await received(sock) == b"hello"


async def echoed(host: str, port: int, datagram: bytes) -> bytes:
    """What comes back for a packet."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(datagram, (host, port))
        return await received(sock)


async def received(sock: socket.socket) -> bytes:
    """What a socket has received, as soon as that is anything."""
    got = bytearray()

    def look() -> bool:
        with suppress(BlockingIOError):
            got.extend(sock.recv(70_000))
        return bool(got)

    await eventually(look)
    return bytes(got)


def is_refused(port: int) -> bool:
    """Whether nobody listens on this TCP port of 127.0.0.1."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@contextmanager
def taken_udp(port: int) -> Iterator[None]:
    """While the UDP half of this port of 127.0.0.1 is somebody else's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        yield


class Unlucky:
    """A reactor on which somebody else has the UDP half of the first numbers that the system picks.

    Args:
        failures: how many.
    """

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.picked: list[int] = []
        self.holders: list[socket.socket] = []

    def listenTCP(self, port: int, *args: Any, **kwargs: Any) -> Any:
        listening = reactor.listenTCP(port, *args, **kwargs)
        number = listening.getHost().port
        self.picked.append(number)
        if self.left:
            self.left -= 1
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.holders.append(sock)
            with suppress(OSError):  # it is somebody else's indeed
                sock.bind(("127.0.0.1", number))
        return listening

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def close(self) -> None:
        """Let the numbers go."""
        for sock in self.holders:
            sock.close()


@ensureDeferred
@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        (Address("127.0.0.1", 0), ["127.0.0.1"]),
        (Address("::1", 0), ["::1"]),
        (Address("localhost", 0), []),
        (Address("0.0.0.0", 0), ["127.0.0.1"]),
        (Address("", 0), ["127.0.0.1", "::1"]),
        (Address("::", 0), ["127.0.0.1", "::1"]),
    ],
)
async def test_tcp_and_udp_under_one_number(address: Address, hosts: list[str]) -> None:
    """Port 0 gives one number to both; all interfaces are those of both families."""
    async with gossip_port(address) as (port, protocol):
        number = port.bound.port
        assert number and protocol.transport.getHost().port == number
        for host in hosts or [port.bound.host]:
            assert await greeted(host, number)
            assert await echoed(host, number, b"packet") == b"packet"
    assert (protocol.started, protocol.stopped) == (1, 1)


@ensureDeferred
async def test_senders_on_a_port_of_both_families() -> None:
    """What the docstring says of the addresses: an IPv4 sender shows up in its IPv6 form, and can be answered there."""
    async with gossip_port(Address("", 0)) as (port, protocol):
        await echoed("127.0.0.1", port.bound.port, b"four")
        await echoed("::1", port.bound.port, b"six")
        assert protocol.senders == ["::ffff:127.0.0.1", "::1"]


@ensureDeferred
async def test_packets_up_to_the_limit_are_whole() -> None:
    """Twisted's own limit of 8192 bytes does not cut them; those above ours are cut."""
    async with gossip_port(Address("127.0.0.1", 0), 60_000) as (port, _):
        for size, expected in ((60_000, 60_000), (60_001, 60_000)):
            assert len(await echoed("127.0.0.1", port.bound.port, bytes(size))) == expected


@ensureDeferred
async def test_a_number_whose_udp_half_is_taken() -> None:
    """With port 0 the next number is tried; the protocols do not notice."""
    unlucky = Unlucky(3)
    try:
        async with gossip_port(Address("127.0.0.1", 0), using=unlucky) as (port, protocol):
            assert len(set(unlucky.picked)) == 4
            assert port.bound.port == unlucky.picked[-1] == protocol.transport.getHost().port
            assert await greeted("127.0.0.1", port.bound.port)
            for number in unlucky.picked[:-1]:
                with pytest.raises(ConnectionRefusedError):
                    dial("127.0.0.1", number)
        assert (protocol.started, protocol.stopped) == (1, 1)
    finally:
        unlucky.close()


@ensureDeferred
async def test_when_every_number_is_taken() -> None:
    """The attempts end, with a message."""
    unlucky = Unlucky(1000)
    try:
        with pytest.raises(CannotStart, match=r"^cannot listen on 127.0.0.1:0 \(.*, UDP\): Address already in use$"):
            async with gossip_port(Address("127.0.0.1", 0), using=unlucky):
                pass
        assert len(unlucky.picked) == 50
    finally:
        unlucky.close()


@ensureDeferred
async def test_a_port_in_use_stops_the_start() -> None:
    """One line with the address, its key and the reason, whichever half is taken; the other half is let go."""
    number = free_port()
    with taken_udp(number), pytest.raises(CannotStart) as raised:
        async with gossip_port(Address("127.0.0.1", number)):
            pass
    assert str(raised.value) == f"cannot listen on 127.0.0.1:{number} ({KEY}, UDP): Address already in use"
    await eventually(lambda: is_refused(number))
    with socket.create_server(("127.0.0.1", number)):
        with pytest.raises(CannotStart) as raised:
            async with gossip_port(Address("127.0.0.1", number)):
                pass
        assert str(raised.value) == f"cannot listen on 127.0.0.1:{number} ({KEY}): Address already in use"
        with taken_udp(number):
            pass
    async with gossip_port(Address("127.0.0.1", number)) as (port, _):
        assert port.bound == Address("127.0.0.1", number)


@ensureDeferred
async def test_an_address_that_is_not_here_stops_the_start() -> None:
    """Of another machine, or of nobody."""
    for host in ("192.0.2.99", "no-such-host.invalid"):
        with pytest.raises(CannotStart, match=rf"^cannot listen on {host}:0 \({KEY}\): ."):
            async with gossip_port(Address(host, 0)):
                pass


@ensureDeferred
async def test_stopping_in_two_steps() -> None:
    """Without TCP packets still come and go; both steps may be repeated; the address stays known."""
    async with gossip_port(Address("127.0.0.1", free_port())) as (port, protocol):
        bound = port.bound
        for _ in range(2):
            await BoundPort.stop(port)
            with pytest.raises(ConnectionRefusedError):
                dial("127.0.0.1", bound.port)
            assert await echoed("127.0.0.1", bound.port, b"still here") == b"still here"
        for _ in range(2):
            await port.stop()
        assert protocol.stopped == 1
        assert port.bound == bound
        with taken_udp(bound.port):
            pass


@ensureDeferred
async def test_the_address_that_others_are_told() -> None:
    """What is configured; else the IP that it is bound to; else one towards those who are to reach it."""
    async with gossip_port(Address("127.0.0.1", 0)) as (port, _):
        assert advertised(port.bound, Address("node-1.example.com", 9003), None) == "node-1.example.com:9003"
        assert advertised(port.bound, None, None) == str(port.bound)
    async with gossip_port(Address("", 0)) as (port, _):
        number = port.bound.port
        assert advertised(port.bound, None, ["127.0.0.1"]) == f"127.0.0.1:{number}"
        assert advertised(port.bound, None, ["::1"]) == f"[::1]:{number}"
        assert advertised(port.bound, None, ["127.0.0.1"]) == f"127.0.0.1:{number}"
        assert advertised(port.bound, None, []).rpartition(":")[0] not in ("", "[::]", "0.0.0.0")


@ensureDeferred
async def test_a_port_of_ipv4_is_not_told_by_an_ipv6_address() -> None:
    """Bound to all IPv4 interfaces, it would not answer there."""
    port = BoundPort(reactor, "proxy.bind_addr", Address("0.0.0.0", 0), Factory.forProtocol(Greeting))
    try:
        assert ":" not in advertised(port.bound, None, ["::1"]).rpartition(":")[0]
    finally:
        await port.stop()


class Counting(Greeting):
    """Keeps in which turn each connection was taken."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def connectionMade(self) -> None:
        self._turns.took()
        super().connectionMade()


class LateReactor:
    """The reactor, with more ready than it can look at in time."""

    is_late = True
    line_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Turns(Factory):
    """Counts the connections of each turn of the reactor."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self._in_turn = 0

    def buildProtocol(self, addr: Any) -> Counting:
        """A connection was taken."""
        return Counting(self)

    def took(self) -> None:
        """One more in this turn."""
        if not self._in_turn:
            reactor.callLater(0, self._turned)
        self._in_turn += 1

    def _turned(self) -> None:
        self.taken.append(self._in_turn)
        self._in_turn = 0


@pytest.mark.parametrize("path", [False, True], ids=["tcp", "unix"])
@ensureDeferred
async def test_a_flood_of_connections_comes_in_turn(path: bool, tmp_path: Any) -> None:
    """However many connections wait, one turn takes a few of them, and what else is ready has its turn; at the end of
    the port all that still wait are taken at once, and none is lost."""
    turns = Turns()
    address = Address("", 0, str(tmp_path / "port.sock")) if path else Address("127.0.0.1", 0)
    port = BoundPort(reactor, "proxy.bind_addr", address, turns)
    flood, more = 10 * ACCEPTS_OF_A_TURN, 3 * ACCEPTS_OF_A_TURN
    with ExitStack() as clients:

        def connect(count: int) -> None:
            for _ in range(count):
                client = clients.enter_context(socket.socket(socket.AF_UNIX if path else socket.AF_INET))
                client.connect(address.path if path else ("127.0.0.1", port.bound.port))

        connect(flood)
        await eventually(lambda: sum(turns.taken) == flood)
        assert max(turns.taken) <= ACCEPTS_OF_A_TURN
        port.pause()
        connect(more)
        await port.stop()
        await eventually(lambda: sum(turns.taken) == flood + more)


@contextmanager
def waiting_clients(port: BoundPort, count: int) -> Iterator[None]:
    """Connections that wait to be taken: the port is paused."""
    port.pause()
    with ExitStack() as clients:
        for _ in range(count):
            client = clients.enter_context(socket.socket())
            client.connect(("127.0.0.1", port.bound.port))
        yield


@pytest.mark.parametrize("first", [False, True])
@ensureDeferred
async def test_a_process_that_is_late_takes_few_connections(first: bool) -> None:
    """New clients wait where that costs nothing, while those that are connected are served; not so operators, agents
    and nodes."""
    turns = Turns()
    late: Any = LateReactor()
    port = BoundPort(late, "proxy.bind_addr", Address("127.0.0.1", 0), turns, first=first)
    count = 3 * ACCEPTS_OF_A_TURN
    with waiting_clients(port, count):
        port.resume()
        await eventually(lambda: sum(turns.taken) == count)
        assert (max(turns.taken) <= ACCEPTS_WHEN_LATE) is not first
        await port.stop()


@pytest.mark.parametrize("line_s", [0.0, SHORT_LINE_S])
@ensureDeferred
async def test_who_has_waited_for_long_is_taken(monkeypatch: pytest.MonkeyPatch, line_s: float) -> None:
    """Who has waited for long to be connected is taken as quickly as ever, unless those that are connected wait for
    long, too: new connections alone make nobody so late that requests are refused."""
    monkeypatch.setattr("pico_twisted.app.process.ports.LONG_WAIT_S", 0.1)
    turns = Turns()
    late: Any = LateReactor()
    late.line_s = line_s
    port = BoundPort(late, "proxy.bind_addr", Address("127.0.0.1", 0), turns)
    count = 3 * ACCEPTS_OF_A_TURN
    with waiting_clients(port, count):
        await deferLater(reactor, 0.2)
        port.resume()
        await eventually(lambda: sum(turns.taken) == count)
        assert (max(turns.taken) > ACCEPTS_WHEN_LATE) is (line_s < SHORT_LINE_S)
        assert turns.taken[0] == ACCEPTS_WHEN_LATE and max(turns.taken) <= ACCEPTS_OF_A_TURN
        await port.stop()

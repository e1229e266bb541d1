"""What the data path asks of a socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection

from pico_twisted.net.socket import options as flow
from tests.doubles.transport import MemoryTransport
from tools.stage.waiting import wait_until

NOTSENT_LOWAT = 25
"""TCP_NOTSENT_LOWAT of linux/tcp.h, which Python knows since 3.12."""
TICK_S = 0.02
"""Seconds by which the kernel's clock for such ages may be coarser than ours."""


class Holder:
    """A transport, as far as its socket goes; or something that lies on one."""

    def __init__(self, sock: socket.socket | None = None, transport: object = None) -> None:
        if sock is not None:
            self.socket = sock
        self.transport = transport


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    with client, accepted:
        yield client, accepted


Pair = tuple[socket.socket, socket.socket]


def test_raw_socket(pair: Pair) -> None:
    """The socket is found under any number of layers; where there is none, None is."""
    assert flow.raw_socket(Holder(pair[0])) is pair[0]
    assert flow.raw_socket(Holder(transport=Holder(transport=Holder(pair[0])))) is pair[0]
    assert flow.raw_socket(MemoryTransport(Clock())) is None
    assert flow.raw_socket(None) is None


def test_tune(pair: Pair) -> None:
    """Small writes leave at once, and the kernel's queue is short; other transports are left alone."""
    flow.tune(Holder(pair[1]))
    assert pair[1].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert pair[1].getsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT) == flow.NOTSENT_LOWAT_BYTES
    one, two = socket.socketpair()
    with one, two:
        flow.tune(Holder(one))
    flow.tune(Holder(one))
    pair[0].close()
    flow.tune(Holder(pair[0]))
    transport = MemoryTransport(Clock())
    flow.tune(transport)
    assert transport.bufferSize == 64 * 1024


def test_how_much_one_read_gives() -> None:
    """It is as much as becomes one frame, where that is said: 64 KiB would leave a small one behind each large one."""
    transport = MemoryTransport(Clock())
    flow.tune(transport, 60 * 1024)
    assert transport.bufferSize == 60 * 1024


def test_keep_watch(pair: Pair) -> None:
    """A peer that is silent is asked after a minute, under TLS too; what has no socket of TCP is left alone."""
    client, _ = pair
    flow.keep_watch(Holder(transport=Holder(client)))
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    flow.keep_watch(Holder())
    left, right = socket.socketpair()
    with left, right:
        flow.keep_watch(Holder(left))


def test_unread() -> None:
    """How long a connection has waited that is accepted now: since its client sent something, or else connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            wait_until(lambda: flow.unread_s(client) >= 0.1, "the time since it connected")
            with server.accept()[0] as silent:
                assert 0.09 <= flow.unread_s(silent) < 5
        with socket.create_connection(server.getsockname()) as client:
            wait_until(lambda: flow.unread_s(client) >= 0.1, "the time since it connected")
            sent_at = time.monotonic()
            client.send(b"x")
            with server.accept()[0] as spoke:
                assert flow.unread_s(spoke) <= time.monotonic() - sent_at + TICK_S
    for one in socket.socketpair():
        with one:
            assert flow.unread_s(one) == 0.0


def test_acknowledged_bytes(pair: Pair) -> None:
    """What the peer's kernel took is counted, and nothing where the kernel cannot tell."""
    before = flow.acknowledged_bytes(Holder(pair[0]))
    assert before is not None
    pair[0].sendall(bytes(1000))
    assert pair[1].recv(1000, socket.MSG_WAITALL) == bytes(1000)
    assert flow.acknowledged_bytes(Holder(pair[0])) == before + 1000
    one, two = socket.socketpair()
    with one, two:
        assert flow.acknowledged_bytes(Holder(one)) is None
    pair[0].close()
    assert flow.acknowledged_bytes(Holder(pair[0])) is None
    assert flow.acknowledged_bytes(MemoryTransport(Clock())) is None


def test_is_dead(pair: Pair) -> None:
    """A peer whose half is closed may live; one whose kernel answered with a reset is dead."""
    client, server = pair
    holder = Holder(server)
    assert not flow.is_dead(holder)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    assert not flow.is_dead(holder)
    server.sendall(b"are you there?")
    assert not flow.is_dead(holder)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    deadline_checks = 1000
    while not flow.is_dead(holder):
        deadline_checks -= 1
        assert deadline_checks, "the reset was not seen"
        server.settimeout(0.01)
        try:
            server.recv(1)
        except OSError:
            continue
    server.close()
    assert flow.is_dead(holder)
    assert not flow.is_dead(MemoryTransport(Clock()))


class Recorder:
    """What a transport without half-closing is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def unregisterProducer(self) -> None:
        self.asked.append("unregister")

    def loseConnection(self) -> None:
        self.asked.append("lose")


def test_half_close() -> None:
    """The end of our stream goes out behind what is queued; a transport that cannot do that is closed."""
    clock = Clock()
    transport = MemoryTransport(clock)
    transport.takes = False
    transport.write(b"last words")
    flow.half_close(transport)
    assert not transport.half_closed
    transport.take()
    assert transport.half_closed and not transport.disconnecting
    other: Any = Recorder()
    flow.half_close(other)
    assert other.asked == ["unregister", "lose"]


def test_a_peer_that_does_not_read_takes_little_of_the_kernel(pair: Pair) -> None:
    """What is sent to it waits with us, where it is counted, and not in the kernel, but for a little."""
    flow.tune(Holder(pair[0]))
    accepted = [0, 0]
    for number, sock in enumerate(pair):
        sock.setblocking(False)
        try:
            while True:
                accepted[number] += sock.send(bytes(16 * 1024))
        except BlockingIOError:
            pass
    assert 2 * accepted[0] < accepted[1]


def test_what_a_lost_connection_held_is_let_go() -> None:
    """Its objects may live on for a while, its output does not, under TLS or not."""
    transport: Any = Connection(socket.socket(), Protocol())
    assert not flow.holds_output(transport) and not flow.holds_output(Holder(transport=None))
    transport.dataBuffer, transport._tempDataBuffer = b"much", [b"more"]
    assert flow.holds_output(Holder(transport=transport))
    flow.forget_output(Holder(transport=transport))
    assert (transport.dataBuffer, transport._tempDataBuffer) == (b"", [])
    flow.forget_output(MemoryTransport(Clock()))
    transport.socket.close()


def test_whether_the_peer_took_all(pair: Pair) -> None:
    """Its kernel did; where that is not known, ours."""
    client, accepted = pair
    assert flow.took_all(Holder(accepted))
    accepted.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            accepted.send(bytes(65536))
    assert not flow.took_all(Holder(accepted))
    client.setblocking(False)
    while not flow.took_all(Holder(accepted)):
        with contextlib.suppress(BlockingIOError):
            client.recv(1 << 20)
    assert flow.took_all(MemoryTransport(Clock()))
    accepted.close()
    assert flow.took_all(Holder(accepted))


class Told(socket.socket):
    """A socket whose kernel tells what the test wants."""

    info = b""

    def getsockopt(self, *args: Any) -> Any:
        """As of a socket."""
        return self.info


def test_a_peer_that_is_not_heard() -> None:
    """One that has acknowledged nothing for too long, while something is on its way to it."""
    with Told() as sock:
        for unacked, age_ms, gone in ((0, 900_000, False), (1, 2000, False), (1, 3001, True)):
            sock.info = struct.pack("=24xI28xI", unacked, age_ms)
            assert flow.is_unheard(Holder(sock), 3.0) is gone
        sock.info = bytes(20)
        assert not flow.is_unheard(Holder(sock), 3.0)
    assert not flow.is_unheard(MemoryTransport(Clock()), 3.0)


def test_a_peer_that_is_cut_off() -> None:
    """One that has acknowledged nothing for three seconds, although it was sent again and again; under TLS, too."""
    with Told() as sock:
        for resent, unacked, age_ms, cut_off in (
            (2, 1, 3001, True),
            (2, 1, 2999, False),
            (1, 1, 60_000, False),
            (0, 0, 60_000, False),
        ):
            sock.info = struct.pack("=2xB21xI28xI", resent, unacked, age_ms)
            assert flow.is_cut_off(Holder(transport=Holder(sock))) is cut_off
    assert not flow.is_cut_off(MemoryTransport(Clock()))


def test_what_the_kernel_tells_of_a_peer_that_is_there(pair: Pair) -> None:
    """Whatever it was sent, and whether it reads or not, it acknowledges; of one that we closed nothing is told."""
    pair[1].send(b"x")
    assert not flow.is_unheard(Holder(pair[1]), 1.0) and not flow.is_cut_off(Holder(pair[1]))
    pair[1].close()
    assert not flow.is_unheard(Holder(pair[1]), 0.0)

"""Sockets that systemd hands over: which is for which port, and what is told when one is for none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_twisted.app.process.handed import HandedSocket, HandedSockets
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.config import Address

LOOPBACK = "127.0.0.1"


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server((LOOPBACK, 0)) as made:
        yield made


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """A socket for packets."""
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.bind((LOOPBACK, 0))
        yield made


def handed(sock: socket.socket, name: str = "pico.socket") -> HandedSocket:
    """As systemd hands it over; the test's own stays open."""
    return HandedSocket(name=name, socket=sock.dup())


def number(sock: socket.socket) -> int:
    found: int = sock.getsockname()[1]
    return found


def closed(descriptor: int | None) -> bool:
    """Close what was taken. Whether there was something."""
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def test_a_socket_is_for_the_port_that_has_its_address(tcp: socket.socket, udp: socket.socket) -> None:
    """By number and host, and by kind: one of packets is for the packets of the gossip alone. Each is taken once."""
    sockets = HandedSockets([handed(tcp), handed(udp)])
    assert sockets.take("proxy", Address(LOOPBACK, number(tcp) ^ 1)) is None
    assert sockets.take("proxy", Address("127.0.0.2", number(tcp))) is None
    assert sockets.take("proxy", Address("", number(tcp))) is None  # every interface is another address
    assert sockets.take("gossip", Address(LOOPBACK, number(udp))) is None
    assert closed(sockets.take("gossip", Address(LOOPBACK, number(udp)), socket.SOCK_DGRAM))
    assert closed(sockets.take("proxy", Address("localhost", number(tcp))))
    assert sockets.take("proxy", Address("localhost", number(tcp))) is None
    sockets.check({})


def test_a_socket_may_be_named_after_its_port(tcp: socket.socket) -> None:
    """Then its address is what systemd says, whatever the configuration does."""
    sockets = HandedSockets([handed(tcp, "upstream")])
    assert sockets.take("proxy", Address(LOOPBACK, number(tcp))) is None
    assert closed(sockets.take("upstream", Address("", 1)))


def test_every_interface_is_every_interface() -> None:
    """Whether systemd binds it for both IP families or for one."""
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        with socket.socket(family) as sock:
            sock.bind((host, 0))
            sock.listen()
            assert closed(HandedSockets([handed(sock)]).take("proxy", Address("", number(sock))))
            assert HandedSockets([handed(sock)]).take("proxy", Address(LOOPBACK, number(sock))) is None


def test_one_that_nobody_takes_stops_the_start(tcp: socket.socket) -> None:
    """Its clients would wait for ever: the message names it, and the ports that there are."""
    sockets = HandedSockets([handed(tcp)])
    with pytest.raises(CannotStart) as raised:
        sockets.check({"proxy": Address("", 8000)})
    assert f"TCP at {LOOPBACK}:{number(tcp)}" in str(raised.value) and "proxy :8000" in str(raised.value)


def test_packets_that_waited_are_dropped(udp: socket.socket) -> None:
    """They are of a time in which nobody was here."""
    for _ in range(3):
        udp.sendto(b"old", udp.getsockname())
    descriptor = HandedSockets([handed(udp)]).take("gossip", Address(LOOPBACK, number(udp)), socket.SOCK_DGRAM)
    assert descriptor is not None
    with socket.socket(fileno=descriptor) as taken, pytest.raises(BlockingIOError):
        taken.recv(10)


def test_a_unix_socket(tmp_path: Path) -> None:
    """It is for the port that has its path, or its name; never for the gossip, nor for a port that is elsewhere."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        here, elsewhere = Address("", 0, str(tmp_path / "s")), Address("", 0, str(tmp_path / "t"))
        for name, address in (("pico.socket", elsewhere), ("pico.socket", Address("", 8000)), ("upstream", here)):
            assert HandedSockets([handed(sock, name)]).take("proxy", address) is None
        assert HandedSockets([handed(sock, "gossip")]).take("gossip", Address("", 8003)) is None
        assert closed(HandedSockets([handed(sock)]).take("proxy", here))
        assert closed(HandedSockets([handed(sock, "proxy")]).take("proxy", Address("", 8000)))
        with pytest.raises(CannotStart, match=f"a unix socket at {tmp_path}/s"):
            HandedSockets([handed(sock)]).check({"proxy": elsewhere})


def test_a_tcp_socket_is_for_no_port_at_a_path(tcp: socket.socket) -> None:
    """Unless it is named after the port."""
    assert HandedSockets([handed(tcp)]).take("proxy", Address("", 0, "/run/p")) is None

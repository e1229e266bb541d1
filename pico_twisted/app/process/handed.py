"""Sockets that systemd has bound and hands over: a restart keeps the ports, and no connection is refused meanwhile.

systemd holds the sockets. What comes while no process is there waits in their queues for the next one. The protocol is
that of sd_listen_fds(3). Twisted takes its variables out of the environment when it is imported, and gives the
descriptors to the endpoints `systemd:` alone, so they are asked. A socket is for the port that it is named after
(`proxy`, `admin`, `upstream`, `gossip`), or else for the one whose address in the configuration it has: the sockets of
one unit have one name in common.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Mapping, Sequence

import attrs
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString

from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.config.values import ALL_INTERFACES, Address
from pico_twisted.core.text import host_port, is_ip

PORTS = ("proxy", "admin", "upstream", "gossip")
"""The names by which a socket says which port it is for."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_MOST_WAITING = 100_000  # packets: more than the kernel keeps for a socket


@attrs.frozen(eq=False, kw_only=True)
class HandedSocket:
    """One of them.

    Attributes:
        name: that systemd gave it.
        socket: itself.
    """

    name: str
    socket: socket.socket

    def fits(self, port: str, address: Address, kind: int) -> bool:
        """Whether it is for this port of a node."""
        is_unix = self.socket.family == socket.AF_UNIX
        if self.socket.type != kind or (self.socket.family not in _FAMILIES and (not is_unix or port == "gossip")):
            return False
        if self.name in PORTS:
            return self.name == port
        if is_unix or address.path:
            return bool(address.path) and self.socket.getsockname() == address.path
        host, number = self.socket.getsockname()[:2]
        if number != address.port:
            return False
        return host in ALL_INTERFACES if address.is_all else host == address.host or not is_ip(address.host)

    def __str__(self) -> str:
        where = self.socket.getsockname()
        kind = {socket.SOCK_STREAM: "TCP", socket.SOCK_DGRAM: "UDP"}.get(self.socket.type, "a socket")
        if self.socket.family == socket.AF_UNIX:
            return f"a unix socket at {where!s}"
        return f"{kind} at {host_port(*where[:2]) if isinstance(where, tuple) else where}"


class HandedSockets:
    """Those that no port has taken yet.

    Args:
        sockets: all that were handed over.
    """

    def __init__(self, sockets: Sequence[HandedSocket] = ()) -> None:
        self.left = list(sockets)

    def take(self, port: str, address: Address, kind: int = socket.SOCK_STREAM) -> int | None:
        """The descriptor of the socket for a port; None when it has to be bound.

        Args:
            port: its name.
            address: where the configuration has it.
            kind: SOCK_STREAM, or SOCK_DGRAM for the packets of the gossip.
        """
        for handed in self.left:
            if handed.fits(port, address, kind):
                self.left.remove(handed)
                handed.socket.setblocking(False)
                if kind == socket.SOCK_DGRAM:
                    _empty(handed.socket)
                return handed.socket.detach()
        return None

    def check(self, addresses: Mapping[str, Address]) -> None:
        """Look whether all were taken.

        Args:
            addresses: where the configuration has the ports, by their names.

        Raises:
            CannotStart: one was not, so clients would wait in its queue for ever.
        """
        if self.left:
            ports = ", ".join(f"{name} {address}" for name, address in addresses.items())
            left = ", ".join(map(str, self.left))
            raise CannotStart(f"systemd hands over what is for no port of this node: {left}. The ports are: {ports}")


def _empty(sock: socket.socket) -> None:
    """Drop the packets that waited: they would look younger than they are."""
    with contextlib.suppress(OSError):
        for _ in range(_MOST_WAITING):
            sock.recv(1)


def handed_over(reactor: IDaemonReactor) -> HandedSockets:
    """The sockets that systemd has handed over to this process."""
    names = {}
    for name in PORTS:
        with contextlib.suppress(KeyError):
            names[_descriptor(reactor, f"name={name}")] = name
    found: list[HandedSocket] = []
    for at in itertools.count():
        try:
            descriptor = _descriptor(reactor, f"index={at}")
        except IndexError:
            return HandedSockets(found)
        os.set_inheritable(descriptor, False)
        with contextlib.suppress(OSError):  # it is no socket
            found.append(HandedSocket(name=names.get(descriptor, ""), socket=socket.socket(fileno=descriptor)))
    raise AssertionError  # it counts for ever


def _descriptor(reactor: IDaemonReactor, which: str) -> int:
    endpoint = serverFromString(reactor, f"systemd:domain=INET:{which}")
    assert isinstance(endpoint, AdoptedStreamServerEndpoint)
    descriptor: int = endpoint.fileno
    return descriptor

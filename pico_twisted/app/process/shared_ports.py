"""Listening sockets that several processes share: bound by the parent, before any of them is there."""

from __future__ import annotations

import errno
import socket
from typing import Any

from pico_twisted.app.process.ports import BACKLOG, CannotStart, reason_of
from pico_twisted.config.values import Address
from pico_twisted.net.socket.socket_files import SocketFile, bind_socket


def shared_sockets(key: str, address: Address, count: int) -> list[socket.socket]:
    """Listening sockets of one TCP address, for as many processes. The kernel spreads connections evenly over them.

    Each has a queue of its own, which lives as long as any process holds the socket: one that holds it can give it
    to the next process, and no connection in it is lost.

    Args:
        key: the key of the address in the configuration, for messages.
        address: where; with port 0 on a free one.
        count: how many.

    Raises:
        CannotStart: nothing can listen there.
    """
    sockets: list[socket.socket] = []
    try:
        sockets.append(_shared(address, None))
        while len(sockets) < count:
            sockets.append(_shared(address, sockets[0].getsockname()))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise CannotStart(f"cannot listen on {address} ({key}): {reason_of(error)}") from error
    return sockets


# Python gives the address of a socket no type: its shape depends on the family.
def _shared(address: Address, first: tuple[Any, ...] | None) -> socket.socket:
    """The first such socket of an address, which must be free, or a further one where the first one is."""
    if first is not None:
        return _bind_shared(socket.AF_INET6 if ":" in first[0] else socket.AF_INET, first)
    if address.is_all:
        try:
            return _bind_first(
                socket.AF_INET6 if ":" in (address.host or "::") else socket.AF_INET, address.host or "::", address.port
            )
        except OSError as error:
            if address.host or error.errno == errno.EADDRINUSE:
                raise
            return _bind_first(socket.AF_INET, "0.0.0.0", address.port)
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return _bind_first(found[0][0], str(found[0][4][0]), address.port)


def _bind_first(family: int, host: str, port: int) -> socket.socket:
    """Only alone is a socket refused an address at which another process of ours shares already."""
    with socket.socket(family) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((host, port))
        where = alone.getsockname()
        if port:
            alone.listen(1)  # bound is not yet refused
    return _bind_shared(family, where)


def _bind_shared(family: int, where: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def shared_unix_socket(key: str, address: Address, mode: int, count: int) -> tuple[list[socket.socket], SocketFile]:
    """One listening unix socket for as many processes, and its file. Whoever has nothing to do takes the next
    connection.

    Args:
        key: the key of the address in the configuration, for messages.
        address: where.
        mode: the permissions of the file.
        count: how many.

    Raises:
        CannotStart: nothing can listen there.
    """
    try:
        sock, file = bind_socket(address.path, mode, BACKLOG)
    except OSError as error:
        raise CannotStart(f"cannot listen on {address} ({key}): {reason_of(error)}") from error
    return [sock, *(sock.dup() for _ in range(count - 1))], file


def bound_address(sock: socket.socket) -> Address:
    """Where a socket listens."""
    where = sock.getsockname()
    return Address("", 0, where) if sock.family == socket.AF_UNIX else Address(*where[:2])

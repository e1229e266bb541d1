"""Listening: bind, tell the real address, and stop without losing who is already in the queue."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Any

from twisted.internet import task
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from pico_twisted.config.values import Address

log = Logger()

BACKLOG = 1024
"""Connections that the kernel queues for us; a burst of clients must not meet a full queue."""
SETTLE_S = 0.1
"""What connections that are half made get to be made, when no new ones are begun."""


class CannotStart(Exception):
    """What stops a daemon before it serves anything: one clear line for the operator."""


class BoundPort:
    """One listening TCP port.

    Args:
        reactor: listens.
        key: the key of its address in the configuration, for messages.
        address: where.
        factory: makes its protocols.

    Raises:
        CannotStart: nothing can listen there.
    """

    def __init__(self, reactor: Any, key: str, address: Address, factory: Any) -> None:
        self._reactor = reactor
        self._all = address.is_all
        try:
            self._port = _listen(reactor, address, factory)
        except (CannotListenError, OSError) as error:
            reason = getattr(error, "socketError", error)
            text = getattr(reason, "strerror", None) or str(reason)
            raise CannotStart(f"cannot listen on {address} ({key}): {text}") from error

    @property
    def bound(self) -> Address:
        """The address that it listens on, with the real port."""
        here = self._port.getHost()
        return Address(host=here.host, port=here.port)

    @property
    def open_to_all(self) -> bool:
        """Bound to every interface."""
        return self._all

    def advertised(self, configured: Address | None) -> str:
        """The address under which others reach it: what is configured, else the bound IP, else the host's own."""
        port = self.bound.port
        if configured is not None:
            return str(Address(host=configured.host or own_ip(), port=configured.port or port))
        return str(Address(host=own_ip() if self._all else self.bound.host, port=port))

    async def stop(self) -> None:
        """Listen no longer, and lose nobody: closing a listening socket resets the connections in its queue.
        Idempotent.

        So first no new connection is begun (its client tries again after a second, and is then refused cleanly), then
        those that were on their way are accepted, and then the socket is closed.
        """
        port, self._port = self._port, _Stopped(self._port)
        if isinstance(port, _Stopped):
            return
        _drop_new_connections(port.socket)
        await task.deferLater(self._reactor, SETTLE_S)
        port.numberAccepts = BACKLOG
        port.doRead()
        await port.stopListening()


def _drop_new_connections(sock: socket.socket) -> None:
    """Have the kernel drop every SYN to a listening socket, as if it were lost on the way (Linux; else nothing)."""
    program = b"".join(struct.pack("=HBBI", *line) for line in _DROP_SYN)
    code = ctypes.create_string_buffer(program)
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(code))
        )
    except OSError:
        log.debug("No filter on the listening socket")


_SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: load the flags, keep SYN and ACK, drop what has SYN alone.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, 0x12),  # and #0x12
    (0x15, 0, 1, 0x02),  # jeq #0x02, next, skip one
    (0x06, 0, 0, 0),  # ret #0
    (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
)


class _Stopped:
    """Remembers the address of a port that listens no longer."""

    def __init__(self, port: Any) -> None:
        self._host = port.getHost()

    def getHost(self) -> Any:
        return self._host


def _listen(reactor: Any, address: Address, factory: Any) -> Any:
    if address.is_all:
        try:
            return reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface=address.host or "::")
        except CannotListenError as error:
            if address.host or getattr(error.socketError, "errno", None) == 98:
                raise
            return reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface="0.0.0.0")
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface=found[0][4][0])


def own_ip() -> str:
    """The IP that this host's traffic to the outside comes from; loopback when it has none. Nothing is sent."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((target, 9))
                return str(sock.getsockname()[0])
        except OSError:
            continue
    return "127.0.0.1"

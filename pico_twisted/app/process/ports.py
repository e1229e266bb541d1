"""Listening: bind, tell the real address, and stop without losing who is already in the queue."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet import task
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from pico_twisted.app.process.own_address import own_ip
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.config import ConfigFaults
from pico_twisted.config.values import Address
from pico_twisted.core.overload import LATE_S
from pico_twisted.net.socket.options import plain_ip, serve_first, unread_s
from pico_twisted.net.socket.socket_files import SocketFile, bind_socket
from pico_twisted.net.socket.unix import UnixPort

log = Logger()

BACKLOG = 4096
"""Connections that the kernel queues for us, if net.core.somaxconn allows that many: a burst of clients, or a fleet of
agents whose node restarts, must not meet a full queue."""
ACCEPTS_OF_A_TURN = 16
"""Most connections that a port takes in one turn of the reactor: as many as there are events of others. Twisted takes
20 more each time that there were as many as it took, without an end, so a flood of new connections would make all else
wait. Those that wait are in the kernel's queue, where nobody sees how long: so each turn takes some."""
ACCEPTS_WHEN_LATE = 2
"""Most connections that a port for clients takes in one turn of a process that is late. To take one and refuse its
request costs about as much as to serve it, and the kernel's queue costs nothing: whoever balances load sees that nobody
answers, and goes elsewhere."""
LONG_WAIT_S = 2.0
"""Seconds that a connection waits to be taken, from which on as many are taken in a turn as ever, if those that are
connected do not wait for long."""
SHORT_LINE_S = 0.8 * LATE_S
"""Seconds for which these may wait meanwhile: new connections alone are to make nobody so late that requests are
refused."""
SETTLE_S = 0.1
"""Seconds that half-open connections get to be completed once no new ones are begun."""
PAIR_ATTEMPTS = 50
"""Most free numbers that are tried for a port of both TCP and UDP. Each fails only when a stranger has its UDP half."""


class CannotStart(Exception):
    """What stops a daemon before it serves anything: a clear line for the operator, or several."""


class Attempts:
    """Things to do at a start of which each is tried, so that an operator reads at once all that stops it."""

    def __init__(self) -> None:
        self._faults: list[str] = []

    @contextlib.contextmanager
    def each(self) -> Iterator[None]:
        """Try one: it raises `CannotStart`, or `ConfigFaults` for a file that has changed since it was checked."""
        try:
            yield
        except (CannotStart, ConfigFaults) as error:
            self._faults.append(str(error))

    def check(self) -> None:
        """Raise `CannotStart` with all that went wrong."""
        if self._faults:
            raise CannotStart("\n".join(self._faults))


def advertised(bound: Address, configured: Address | None, towards: Sequence[str] | None) -> str:
    """The address under which others reach a port: what is configured, else the bound IP, else the host's own; empty
    for a unix socket.

    Args:
        bound: its real address.
        configured: by the operator, if at all.
        towards: hosts from which it is to be reached, names or IPs; None when it is bound to one interface.
    """
    if configured is not None:
        return str(configured)
    if bound.path:
        return ""
    host = bound.host if towards is None else _own_ip(tuple(towards), bound.host == "0.0.0.0")
    return str(Address(host=host, port=bound.port))


def is_loopback(bound: Address) -> bool:
    """Whether what is bound here is reached by this machine alone."""
    if bound.path:
        return True
    return ipaddress.ip_address(plain_ip(bound.host)).is_loopback


class BoundPort:
    """One listening port, of TCP or a unix socket.

    Args:
        reactor: listens.
        key: the key of its address in the configuration, for messages.
        address: where.
        factory: makes its protocols.
        descriptor: of a socket that listens there already, which is taken over; None to bind one.
        socket_mode: the permissions of the file of a unix socket that is bound.
        outlives: somebody else holds that socket, too, and what waits in its queue is for the next process.
        first: those who connect here are looked at before those who connect elsewhere, when there is too much.

    Raises:
        CannotStart: nothing can listen there.
    """

    def __init__(
        self,
        reactor: IDaemonReactor,
        key: str,
        address: Address,
        factory: IProtocolFactory,
        descriptor: int | None = None,
        *,
        socket_mode: int = 0o660,
        outlives: bool = False,
        first: bool = False,
    ) -> None:
        self._reactor = reactor
        self.outlives = outlives
        self._file: SocketFile | None = None
        self._port: Any  # as of `_adopt`
        try:
            if descriptor is None and address.path:
                sock, self._file = bind_socket(address.path, socket_mode, BACKLOG)
                self._port = _listen_on(reactor, sock, factory)
            elif descriptor is None:
                self._port = _listen(reactor, address, factory)
            else:
                self._port = _adopt(reactor, descriptor, factory)
        except (CannotListenError, OSError) as error:
            raise CannotStart(f"cannot listen on {address} ({key}): {reason_of(error)}") from error
        _accept_in_turn(self._port, None if first else ClientQueue(self._port, reactor))
        serve_first(self._port)

    @property
    def bound(self) -> Address:
        """The address that it listens on, with the real port."""
        here = self._port.getHost()
        if isinstance(here, UNIXAddress):
            return Address("", 0, os.fsdecode(here.name or b""))
        return Address(host=here.host, port=here.port)

    @property
    def is_loopback(self) -> bool:
        """Only this machine reaches it."""
        return is_loopback(self.bound)

    def pause(self) -> None:
        """Accept no connections for now: new ones wait in the queue."""
        self._port.stopReading()

    def resume(self) -> None:
        """Accept again, those first who waited."""
        self._port.startReading()

    async def stop(self) -> None:
        """Listen no longer, and lose no connection: closing a listening socket resets the connections in its queue.
        Idempotent.

        So first no new connection is begun (its client tries again after a second, and is then refused cleanly), then
        those that were on their way are accepted, and then the socket is closed.
        """
        port, self._port = self._port, _Stopped(self._port)
        if isinstance(port, _Stopped):
            return
        if self._file is not None:
            self._file.remove()  # nobody finds it any more
        if self.outlives:
            await maybeDeferred(port.stopListening)
            return
        if not isinstance(port, UnixPort):
            _drop_new_connections(port.socket)
            await task.deferLater(self._reactor, SETTLE_S)
        port.numberAccepts = BACKLOG
        type(port).doRead(port)  # all of them, in this one turn
        await maybeDeferred(port.stopListening)


class GossipPort(BoundPort):
    """A port with one number for TCP and UDP.

    Args:
        reactor: listens.
        key: the key of its address in the configuration, for messages.
        address: where; with port 0 on a number that is free for both.
        factory: makes the protocols of TCP connections.
        protocol: gets the packets. On a port of both IP families its transport takes and gives IPv4 addresses in
            their IPv6 form, `::ffff:192.0.2.1`.
        max_packet_bytes: the largest packet that is read whole; a larger one is cut.
        descriptors: of sockets for TCP and for UDP that systemd has bound there; None for one that is to be bound.

    Raises:
        CannotStart: nothing can listen there.
    """

    def __init__(
        self,
        reactor: IDaemonReactor,
        key: str,
        address: Address,
        factory: IProtocolFactory,
        protocol: DatagramProtocol,
        max_packet_bytes: int,
        descriptors: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self._udp: IListeningPort | None = None
        tcp, udp = descriptors
        attempts = 1 if address.port or tcp is not None else PAIR_ATTEMPTS
        while True:
            attempts -= 1
            super().__init__(reactor, key, address, factory, tcp, outlives=tcp is not None, first=True)
            if udp is not None:
                self._udp = _adopt_packets(reactor, udp, protocol, max_packet_bytes)
                break
            bound = self.bound
            try:
                self._udp = reactor.listenUDP(
                    bound.port, protocol, interface=bound.host, maxPacketSize=max_packet_bytes
                )
                break
            except CannotListenError as error:
                self._port.stopListening()
                if not attempts or getattr(error.socketError, "errno", None) != errno.EADDRINUSE:
                    raise CannotStart(f"cannot listen on {address} ({key}, UDP): {reason_of(error)}") from error
        serve_first(self._udp)

    async def stop(self) -> None:
        """Accept no more connections, and then no more packets either. Idempotent."""
        await super().stop()
        udp, self._udp = self._udp, None
        if udp is not None:
            await maybeDeferred(udp.stopListening)


@functools.cache
def _own_ip(towards: tuple[str, ...], ipv4_only: bool) -> str:
    """Found out once for the process: all ports tell the same, and a slow name server is waited for once."""
    return own_ip(towards, ipv4_only=ipv4_only)


def reason_of(error: Exception) -> str:
    """Why nothing can listen, in the system's words."""
    reason = getattr(error, "socketError", error)
    return getattr(reason, "strerror", None) or str(reason)


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


# Twisted's type of a factory asks for protocols that know their factory, which ours need not; and no interface of
# Twisted has all that a `BoundPort` asks of its port.
def _adopt(reactor: IDaemonReactor, descriptor: int, factory: Any) -> Any:
    """Listen on a socket of the parent. The process that had it before may have stopped taking connections."""
    with socket.socket(fileno=descriptor) as sock:
        if sock.family == socket.AF_UNIX:
            sock.setblocking(False)
            return _listen_on(reactor, sock.dup(), factory)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return reactor.adoptStreamPort(sock.fileno(), sock.family, factory)


# `Any`: as of `_adopt`
def _accept_in_turn(port: Any, queue: ClientQueue | None) -> None:
    """Have a port take no more than `ACCEPTS_OF_A_TURN` connections at once, and of clients as many as their queue
    says."""
    take = port.doRead

    def take_some() -> None:
        port.numberAccepts = min(port.numberAccepts, ACCEPTS_OF_A_TURN if queue is None else queue.most())
        take()

    port.doRead = take_some


class ClientQueue:
    """The kernel's queue of clients that have connected and were not taken yet.

    Args:
        port: takes them. They are those of the reactor, whatever the port's own is.
        reactor: may know that it is late (`is_late`), and how long what is ready waits (`line_s`).
    """

    # `Any`: as of `_adopt`
    def __init__(self, port: Any, reactor: IDaemonReactor) -> None:
        self._reactor = reactor
        self._waited_s = 0.0  # by the last that was taken, when that was asked
        self._accepted = port.transport
        port.transport = self._accept

    def most(self) -> int:
        """How many are to be taken in this turn."""
        if not getattr(self._reactor, "is_late", False):
            self._waited_s = 0.0
            return ACCEPTS_OF_A_TURN
        is_short = getattr(self._reactor, "line_s", 0.0) < SHORT_LINE_S
        return ACCEPTS_OF_A_TURN if is_short and self._waited_s > LONG_WAIT_S else ACCEPTS_WHEN_LATE

    # What Twisted calls, which has no types there
    def _accept(self, sock: socket.socket, *arguments: Any) -> object:
        if getattr(self._reactor, "is_late", False):
            self._waited_s = unread_s(sock)
        return self._accepted(sock, *arguments[:-1], self._reactor)


_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
# Classic BPF over the TCP header: load the flags, keep SYN and ACK, drop what has SYN alone.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, 0x12),  # and #0x12
    (0x15, 0, 1, 0x02),  # jeq #0x02, next, skip one
    (0x06, 0, 0, 0),  # ret #0
    (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
)


# `Any`: as of `_adopt`
def _adopt_packets(reactor: IDaemonReactor, descriptor: int, protocol: DatagramProtocol, most_bytes: int) -> Any:
    with socket.socket(fileno=descriptor) as sock:
        return reactor.adoptDatagramPort(sock.fileno(), sock.family, protocol, most_bytes)


class _Stopped:
    """Remembers the address of a port that listens no longer."""

    def __init__(self, port: IListeningPort) -> None:
        self._host = port.getHost()

    def getHost(self) -> IAddress:
        return self._host


# `Any`: as of `_adopt`
def _listen_on(reactor: IDaemonReactor, sock: socket.socket, factory: Any) -> UnixPort:
    port = UnixPort(sock, factory, reactor)
    port.startListening()
    return port


# `Any`: as of `_adopt`
def _listen(reactor: IDaemonReactor, address: Address, factory: Any) -> Any:
    if address.is_all:
        try:
            return reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface=address.host or "::")
        except CannotListenError as error:
            if address.host or getattr(error.socketError, "errno", None) == errno.EADDRINUSE:
                raise
            return reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface="0.0.0.0")
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return reactor.listenTCP(address.port, factory, backlog=BACKLOG, interface=str(found[0][4][0]))

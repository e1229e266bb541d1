"""Unix sockets (unix(7)), both ends: connections without file descriptors in them, and for peers without an address.

Why not Twisted's own transports: they receive and send with recvmsg(2) and sendmsg(2), so that descriptors can be
passed along, which costs more for each read than TCP's do; their port takes the client's own path for an address, and
trips over one of four characters; it changes the mode of a socket that somebody else has bound, and removes its file.
And a connection attempt that meets a full queue, which the kernel answers with EAGAIN at once, fails there, while over
TCP it would be tried again by the kernel.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final

import attrs
from twisted.internet import tcp
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, TimeoutError, getConnectError
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.config.values import UNIX
from pico_twisted.net.socket.socket_files import SocketFile

RETRY_S: Final = 0.01
"""Seconds after which a socket is tried again whose queue was full."""

# IReactorFDSet and IReactorTime: Python has no name for both at once
UnixReactor = Any


@implementer(IAddress)
@attrs.frozen
class UnixPeer:
    """Who connected to a port of ours over a Unix socket: somebody on this machine.

    Attributes:
        host: stands for the address.
    """

    host: str = UNIX


class UnixConnection(tcp.Server):
    """One connection, made or accepted.

    Args:
        sock: connected.
        protocol: has the connection.
        address: of the other end.
        reactor: tells when there is something to do.
    """

    def __init__(self, sock: socket.socket, protocol: IProtocol, address: IAddress, reactor: UnixReactor) -> None:
        self._peer = address
        self.repstr = f"<{type(protocol).__name__} on a Unix socket>"
        super().__init__(sock, protocol, (UNIX, None), None, 0, reactor)  # type: ignore[arg-type]  # no port

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return UNIXAddress(self.socket.getsockname() or None)

    def getTcpNoDelay(self) -> bool:
        """There is no such delay."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no such delay."""


class _Listening(socket.socket):
    """A listening socket whose clients have no address, whatever they bound their own end to."""

    # The type of the address differs by the family of the socket.
    def accept(self) -> tuple[socket.socket, Any]:
        accepted, _ = super().accept()
        return accepted, ""


class UnixPort(tcp.Port):
    """A port that listens on a socket which somebody has bound.

    Args:
        sock: listens; it belongs to the port from here on.
        factory: makes the protocols.
        reactor: tells when somebody connects.
        file: of the socket, which goes with the port; None when it is somebody else's.
    """

    addressFamily = socket.AF_UNIX
    _shouldShutdown = False  # that would end it for all who share it

    # The factory and the reactor: as Twisted has them
    def __init__(self, sock: socket.socket, factory: Any, reactor: UnixReactor, file: SocketFile | None = None) -> None:
        super().__init__(0, factory, reactor=reactor)
        self._file = file
        self.socket = _Listening(fileno=sock.detach())
        self.path = _path_of(self.socket)

    def transport(self, skt: socket.socket, protocol: IProtocol, *more: object) -> UnixConnection:  # type: ignore[override]
        """The transport of an accepted connection; Twisted calls it as the class that it usually is."""
        return UnixConnection(skt, protocol, UnixPeer(), more[-1])

    def _buildAddr(self, address: object) -> UnixPeer:
        return UnixPeer()

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self.path)

    def startListening(self) -> None:
        """Begin to accept."""
        assert self.factory is not None  # as Twisted's type would have it
        self.factory.doStart()
        self.connected = True
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as TCP's does
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        if self._file is not None:
            self._file.remove()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted


def _path_of(sock: socket.socket) -> str:
    name = sock.getsockname()
    return "@" + name[1:].decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class UnixEndpoint:
    """How to connect to a Unix socket.

    Attributes:
        reactor: for the connection.
        path: absolute; or `@` and a name that needs no file.
        timeout_s: for which a socket is tried whose queue is full.
    """

    reactor: UnixReactor
    path: str
    timeout_s: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint.connect`. Succeeds or fails at once, unless the queue is full."""
        attempt = _Attempt(self, protocolFactory)
        attempt.make()
        return attempt.outcome


class _Attempt:
    """One attempt to connect, as often as it takes."""

    def __init__(self, endpoint: UnixEndpoint, factory: IProtocolFactory) -> None:
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self._endpoint = endpoint
        self._factory = factory
        self._until = endpoint.reactor.seconds() + endpoint.timeout_s
        self._again: IDelayedCall | None = None

    def make(self) -> None:
        self._again = None
        path, reactor = self._endpoint.path, self._endpoint.reactor
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        code = sock.connect_ex("\0" + path[1:] if path.startswith("@") else path)
        if code:
            sock.close()
            if code != errno.EAGAIN:
                self.outcome.errback(Failure(getConnectError((code, os.strerror(code)))))
            elif reactor.seconds() >= self._until:
                self.outcome.errback(Failure(TimeoutError()))
            else:
                self._again = reactor.callLater(RETRY_S, self.make)
            return
        address = UNIXAddress(path)
        protocol = self._factory.buildProtocol(address)
        if protocol is None:
            sock.close()
            self.outcome.errback(Failure(ConnectError(string="no protocol")))
            return
        protocol.makeConnection(UnixConnection(sock, protocol, address, reactor))
        self.outcome.callback(protocol)

    def _cancelled(self, _: Deferred[IProtocol]) -> None:
        if self._again is not None:
            self._again.cancel()

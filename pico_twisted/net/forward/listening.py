"""Where local programs connect to: ports of this machine, and unix sockets."""

from __future__ import annotations

import ipaddress
from typing import Final

import attrs
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

from pico_twisted.core.text import host_port
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.socket.socket_files import bind_socket
from pico_twisted.net.socket.unix import UnixPort

BACKLOG: Final = 128
"""Local connections that the kernel holds until they are accepted."""
SOCKET_MODE: Final = 0o600
"""Mode of a unix socket: whoever may connect to it uses our token."""


class CannotListen(Exception):
    """A local address cannot be listened on. Its text says why."""


@attrs.frozen
class TcpLocal:
    """An address of this machine.

    Attributes:
        host: an IP without brackets.
        port: 0 for any free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback


@attrs.frozen
class UnixLocal:
    """A unix socket.

    Attributes:
        path: of its file.
    """

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return True


Local = TcpLocal | UnixLocal


def listen(reactor: DialReactor, local: Local, factory: Factory) -> tuple[IListeningPort, Local]:
    """Listen on a local address.

    Args:
        reactor: listens.
        local: the address.
        factory: makes what connections are served by.

    Returns:
        The port, and its address with the number that it got.

    Raises:
        CannotListen: it cannot be.
    """
    if isinstance(local, UnixLocal):
        return _listen_unix(reactor, local, factory), local
    try:
        port: IListeningPort = reactor.listenTCP(local.port, factory, BACKLOG, local.host)
    except CannotListenError as error:
        why = getattr(error.socketError, "strerror", None) or error.socketError
        raise CannotListen(f"cannot listen on {local}: {why}") from None
    return port, TcpLocal(local.host, port.getHost().port)  # type: ignore[attr-defined]  # of an IPv4 or IPv6 address


def _listen_unix(reactor: DialReactor, local: UnixLocal, factory: Factory) -> IListeningPort:
    try:
        sock, file = bind_socket(local.path, SOCKET_MODE, BACKLOG)
    except OSError as error:
        raise CannotListen(f"cannot listen on {local}: {error.strerror}") from None
    port = UnixPort(sock, factory, reactor, file)
    port.startListening()
    return port

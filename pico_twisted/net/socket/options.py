"""What the data path asks of a socket beyond Twisted: short queues, progress, whether a peer is still there."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IConsumer, IProtocol, ITCPTransport, ITransport
from twisted.internet.tcp import Connection

from pico_twisted.core.text import host_port
from pico_twisted.net.socket.unix import UnixPeer

NOTSENT_LOWAT_BYTES: Final = 128 * 1024
"""Unsent bytes that the kernel may queue on a connection: enough for a fast link, little enough that a small call soon
follows on a tunnel, and that thousands who read slowly do not use up the memory that the kernel has for all of TCP."""

_LINUX = sys.platform == "linux"


def _tcp_option(names: Sequence[str], on_linux: int) -> int | None:
    """The number of an option of TCP, by the first of its names that this Python has; on Linux also where it has none.
    The number there means something else elsewhere (on macOS 4 is TCP_NOPUSH), so there None."""
    for name in names:
        if (found := getattr(socket, name, None)) is not None:
            return int(found)
    return on_linux if _LINUX else None


_NOTSENT_LOWAT: Final = _tcp_option(("TCP_NOTSENT_LOWAT",), 25)
_TCP_INFO: Final = getattr(socket, "TCP_INFO", 11) if _LINUX else None  # elsewhere another structure, if any
_KEEPALIVE: Final = (
    (_tcp_option(("TCP_KEEPIDLE", "TCP_KEEPALIVE"), 4), 60),  # its name on Linux, on macOS
    (_tcp_option(("TCP_KEEPINTVL",), 5), 15),
    (_tcp_option(("TCP_KEEPCNT",), 6), 4),
)
"""Seconds until the first question and between two, and how many are asked: two minutes in all."""
GONE_S: Final = 180.0
"""Seconds after which a peer that acknowledges nothing is gone."""
CUT_OFF_S: Final = 3.0
"""Seconds without an acknowledgement, of what was sent again in vain, after which a peer's machine is out of reach."""
CUT_OFF_RESENT: Final = 2
"""How often its timer has to have sent that again: it is the fourth time then, for the probe of a tail (RFC 8985) comes
before the timer. Where one packet in twenty is lost each way, one in ten thousand needs more."""
_RESENT_AT = 2  # in struct tcp_info of linux/tcp.h: how often in turn the timer has sent the oldest segment again
_UNACKED_AT = 24  # segments that were sent and not acknowledged
_DATA_AGE_AT = 52  # milliseconds since the last data came, or since it was opened when none did
_ACK_AGE_AT = 56  # milliseconds since the last acknowledgement came
_BYTES_ACKED_AT = 120  # since Linux 4.1
_TCP_CLOSE = 7


def raw_socket(transport: object) -> socket.socket | None:
    """The socket under a transport and whatever TLS lies on it; None for a transport without one."""
    while transport is not None:
        found = getattr(transport, "socket", None)
        if isinstance(found, socket.socket):
            return found
        transport = getattr(transport, "transport", None)
    return None


def plain_ip(host: str) -> str:
    """An IP as people write it: an IPv4 client of a port that is bound to all interfaces comes as `::ffff:1.2.3.4`."""
    return host.removeprefix("::ffff:") if "." in host else host


def peer_text(transport: ITransport) -> str:
    """host:port of the other end, as people write it; `unix` for whoever came over a Unix socket."""
    peer = transport.getPeer()
    if isinstance(peer, UnixPeer):
        return peer.host
    return host_port(plain_ip(str(getattr(peer, "host", ""))), getattr(peer, "port", ""))


# Twisted's interfaces do not tell how much a transport reads at once.
def tune(transport: Any, read_bytes: int | None = None) -> None:
    """Send small writes at once, and keep the kernel's queue short. Where that cannot be, it is not.

    Args:
        transport: a connection.
        read_bytes: most bytes that one read gives, where that is to be less than Twisted's 64 KiB: what becomes one
            frame is not cut in two.
    """
    if read_bytes is not None:
        transport.bufferSize = read_bytes
    sock = raw_socket(transport)
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if _NOTSENT_LOWAT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
    except OSError:
        return


def serve_first(transport: object) -> None:
    """Have what a connection brings, or a port, looked at before the connections of clients, however many of them have
    sent something. A reactor that knows nothing of that serves all alike."""
    while transport is not None and not isinstance(transport, FileDescriptor):
        transport = getattr(transport, "transport", None)
    serve = getattr(getattr(transport, "reactor", None), "serve_first", None)
    if serve is not None:
        serve(transport)


def keep_watch(transport: object) -> None:
    """Have the kernel ask a peer that is silent whether it is still there, after a minute and not after two hours."""
    sock = raw_socket(transport)
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        return


def writer(transport: ITransport) -> Callable[[bytes], None]:
    """A function that writes to the transport, at once where that is possible.

    `transport.write` only queues: the bytes leave in the reactor's next turn, after two changes of the epoll set and
    one more dispatch, which together cost as much as parsing a head. A plain TCP transport that has nothing queued can
    be overtaken safely: its socket takes the bytes now, and what it does not take is queued as ever. An error is left
    for the transport to find.
    """
    if not isinstance(transport, Connection) or transport.TLS or not hasattr(transport, "_tempDataBuffer"):
        return transport.write
    send = transport.socket.send

    def write(data: bytes) -> None:
        if transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting or not transport.connected:
            transport.write(data)
            return
        try:
            sent = send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            transport.write(data[sent:])

    return write


# Twisted's interfaces do not tell of the protocol that a transport has.
def hand_to(transport: Any, protocol: IProtocol) -> None:
    """Have another protocol get what comes on a connection, its end too. To connect it is left to the caller."""
    if hasattr(transport, "wrappedProtocol"):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol


def forget_output(transport: object) -> None:
    """Let go of what a connection that is gone did not send. Its objects refer to each other, so they stay until the
    garbage collector looks at all objects, which it does not while nothing happens: with the output of all clients that
    left together."""
    while transport is not None:
        if isinstance(transport, Connection):
            transport.dataBuffer = b""
            transport._tempDataBuffer = []
            return
        transport = getattr(transport, "transport", None)


def holds_output(transport: object) -> bool:
    """Whether bytes that were written wait in this process for room in the kernel."""
    while transport is not None and not isinstance(transport, Connection):
        transport = getattr(transport, "transport", None)
    return transport is not None and bool(transport.dataBuffer or transport._tempDataBuffer)


def took_all(transport: object) -> bool:
    """Whether the peer's kernel took all that was written; where ours does not tell, whether ours did."""
    if holds_output(transport):
        return False
    sock = raw_socket(transport)
    if sock is None:
        return True
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):
        return True
    return bool(count == 0)


def half_close(transport: ITransport) -> None:
    """Send what is queued and then the end of our stream, and go on reading; where TLS cannot do that, close.

    Closing a socket that has unread input makes the kernel send a reset, which can destroy an answer on its way. So
    a refusal is followed by a half-close, some more reading, and only then a close.
    """
    if hasattr(type(transport), "loseWriteConnection"):
        cast(ITCPTransport, transport).loseWriteConnection()
    else:
        cast(IConsumer, transport).unregisterProducer()  # a TLS transport closes only when it has no producer
        transport.loseConnection()


def has_ended(sock: socket.socket) -> bool:
    """Whether the peer has ended its stream, and all that came before was read."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _tcp_info(transport: object) -> bytes:
    """`struct tcp_info` of a connection, as much of it as the kernel tells; empty where it tells nothing."""
    sock = raw_socket(transport)
    return b"" if sock is None else _tcp_info_of(sock)


def _tcp_info_of(sock: socket.socket) -> bytes:
    if _TCP_INFO is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return b""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 192)
    except OSError:
        return b""


def unread_s(sock: socket.socket) -> float:
    """Seconds since a connection brought something, of which nothing was read yet, or since it was opened when nothing
    came: for one that was accepted just now, how long it has waited for that. 0.0 where the kernel does not tell."""
    info = _tcp_info_of(sock)
    if len(info) < _DATA_AGE_AT + 4:
        return 0.0
    (age_ms,) = struct.unpack_from("=I", info, _DATA_AGE_AT)
    return float(age_ms / 1000)


def acknowledged_bytes(transport: object) -> int | None:
    """How many bytes the peer's kernel took so far (tcpi_bytes_acked); None where the kernel does not tell."""
    info = _tcp_info(transport)
    if len(info) < _BYTES_ACKED_AT + 8:
        return None
    (count,) = struct.unpack_from("=Q", info, _BYTES_ACKED_AT)
    return int(count)


def is_unheard(transport: object, seconds: float, resent: int = 0) -> bool:
    """Whether bytes are on their way to a peer whose kernel has acknowledged nothing for so long, though ours has sent
    them again at least so often.

    The kernel asks a silent peer whether it is there only while it has nothing to send. With something on its way it
    sends that again, for a quarter of an hour (tcp_retries2). One that reads nothing, but is there, answers the
    question whether it has room again every two minutes at least.
    """
    info = _tcp_info(transport)
    if len(info) < _ACK_AGE_AT + 4:
        return False
    (unacked,) = struct.unpack_from("=I", info, _UNACKED_AT)
    (age_ms,) = struct.unpack_from("=I", info, _ACK_AGE_AT)
    return bool(unacked and age_ms > seconds * 1000 and info[_RESENT_AT] >= resent)


def is_cut_off(transport: object) -> bool:
    """Whether what is sent does not reach the peer's machine: a wire is broken, or the connection is half open, and
    something in between swallows what the other machine says of that.

    A process that stands still is not cut off: the kernel of its machine goes on to acknowledge. Nor is what stands
    behind a balancer, whose kernel does.
    """
    return is_unheard(transport, CUT_OFF_S, CUT_OFF_RESENT)


def is_dead(transport: object) -> bool:
    """Whether the peer answered what we sent with a reset, which no read tells once its stream has ended; or, at the
    other end of a Unix socket, has closed it."""
    sock = raw_socket(transport)
    if sock is None:
        return False
    try:
        if sock.family == socket.AF_UNIX:
            looking = select.poll()
            looking.register(sock, 0)
            return any(events & (select.POLLHUP | select.POLLERR) for _, events in looking.poll(0))
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        info = b"" if _TCP_INFO is None else sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 8)
    except OSError as error:
        return error.errno in (errno.EBADF, errno.ENOTCONN)
    return bool(info) and info[0] == _TCP_CLOSE

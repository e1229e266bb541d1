"""The admin port as a file, for operators of this machine: what `systemctl reload` asks.

An admin port may be off, on one address, or behind TLS for a name of its own, and the unit of systemd would have to be
told. So in the directory that systemd makes for a daemon (`RuntimeDirectory=`, told in `RUNTIME_DIRECTORY`) there is
always a Unix socket `admin`, with the same routes. Only the daemon's user and root may use it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet import tcp, unix
from twisted.python.failure import Failure

from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.net.socket.options import serve_first

FILE = "admin"
"""Name of the socket in the directory."""
BACKLOG = 64
"""Operators that wait until they are heard."""


class LocalPort(unix.Port):
    """A listening Unix socket that leaves its file, and the socket itself to others: workers share it, and systemd
    removes it."""

    _shouldShutdown = False

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)


def local_admin_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """Listen in the directory of the daemon; None when there is none.

    Raises:
        CannotStart: nothing can listen there.
    """
    directory = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not directory:
        return None
    path = os.path.join(directory, FILE)
    sock = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a process that was killed
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise CannotStart(f"cannot listen on {path} (RUNTIME_DIRECTORY): {error.strerror or error}") from error
    finally:
        os.umask(mask)
    return sock


# The factory: as of `BoundPort`
def listen_locally(reactor: IDaemonReactor, sock: socket.socket | None, factory: Any) -> list[LocalPort]:
    """Serve on such a socket, if there is one. The socket itself is closed: the port has a copy."""
    if sock is None:
        return []
    with sock:
        port: LocalPort = LocalPort._fromListeningDescriptor(reactor, sock.fileno(), factory)
    port.mode = 0o600  # which Twisted gives the file
    port.startListening()
    serve_first(port)
    return [port]

"""A stand-in for systemd: it binds the ports of a node, and hands them to each process that comes for them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from tools.stage.ports import HOST, Ports

# Takes the sockets to where sd_listen_fds(3) has them, as systemd does between fork and exec.
TAKE = (
    "import os, socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); "
    "names, fds, _, _ = socket.recv_fds(s, 1000, 20); s.close(); "
    "assert len(fds) == len(names.split(b':')), (names, fds); "
    "[os.dup2(fd, 3 + at) for at, fd in enumerate(fds)]; "
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names.decode()); "
)


class Systemd:
    """Holds sockets, and hands them to each process that comes for them.

    Args:
        path: where they come.
        sockets: by their names; those of one name in a list.
    """

    def __init__(self, path: Path, sockets: Mapping[str, list[socket.socket]]) -> None:
        self.prelude = TAKE.format(path=str(path))
        self._sockets = sockets
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._hand_over, daemon=True)
        self._thread.start()

    def _hand_over(self) -> None:
        names = [name for name, sockets in self._sockets.items() for _ in sockets]
        descriptors = [sock.fileno() for sockets in self._sockets.values() for sock in sockets]
        with contextlib.suppress(OSError):
            while True:
                with self._server.accept()[0] as taker:
                    socket.send_fds(taker, [":".join(names).encode()], descriptors)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()


def bound(ports: Ports) -> list[socket.socket]:
    """All sockets of a node: four for connections, one for packets."""
    packets = socket.socket(type=socket.SOCK_DGRAM)
    packets.bind((HOST, ports.gossip))
    streams = [socket.create_server((HOST, number), backlog=512) for number in sorted(ports.numbers)]
    return [*streams, packets]

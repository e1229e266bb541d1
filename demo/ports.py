"""Free ports of 127.0.0.1, the default ones if possible."""

from __future__ import annotations

import socket
from contextlib import closing

from demo.children import DemoFailed
from demo.service import HOST

STEP = 10
_TRIES = 100


def is_free(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Could somebody listen on this port of 127.0.0.1 now?"""
    with closing(socket.socket(type=kind)) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
            if kind == socket.SOCK_STREAM:
                sock.listen()
        except OSError:
            return False
        return True


class Blocks:
    """Gives out blocks of ports that follow each other in steps of ten, without those that others hold.

    Args:
        first: the first port of the first block.
        size: ports of a block.
        udp: which of them, counted from 0, is needed for UDP too.
    """

    def __init__(self, first: int, size: int, *, udp: int | None = None) -> None:
        self._next = first
        self._size = size
        self._udp = udp

    def take(self) -> tuple[int, int | None]:
        """The first port of the next block, and a port for whose sake a block was left out, if one was.

        Raises:
            DemoFailed: there is none.
        """
        held = None
        for _ in range(_TRIES):
            first, self._next = self._next, self._next + STEP
            taken = self._taken(first)
            if taken is None:
                return first, held
            held = held or taken
        raise DemoFailed(f"found no free ports up to {self._next}")

    def _taken(self, first: int) -> int | None:
        for offset in range(self._size):
            free = is_free(first + offset)
            if free and offset == self._udp:
                free = is_free(first + offset, socket.SOCK_DGRAM)
            if not free:
                return first + offset
        return None

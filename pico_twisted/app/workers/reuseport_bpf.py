"""Tells the kernel which of several sockets with one port get new connections.

Sockets that share a port with SO_REUSEPORT each have a queue, and the kernel chooses one for each new connection. It
does not know that the process behind a queue is gone, or hangs. A program in classic BPF, which the kernel asks for the
number of a socket, makes it choose among those that are looked after. It needs no privilege.

Numbers are in the order in which the sockets began to listen, as long as none is closed. Where the system has no such
thing all sockets get connections, and those of a process that is gone wait for its successor.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

from twisted.logger import Logger

log = Logger()

_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_LOAD_ABSOLUTE = 0x20
_MODULO = 0x94
_JUMP_EQUAL = 0x15
_RETURN = 0x06
_RANDOM = 0xFFFFF000 + 56
"""The place at which a program finds a number by chance (SKF_AD_OFF + SKF_AD_RANDOM)."""

Line = tuple[int, int, int, int]


def steer(sock: socket.socket, numbers: Sequence[int], count: int) -> None:
    """Have new connections go to some of the sockets.

    Args:
        sock: any of those that share the port.
        numbers: of the sockets that get connections; with none or all of them the kernel chooses among all.
        count: how many sockets there are.
    """
    try:
        if 0 < len(numbers) < count:
            lines = program(numbers)
            code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
            value = struct.pack("@HP", len(lines), ctypes.addressof(code))
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, value)
        else:
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:  # detaching where nothing is attached is one
        log.debug("New connections are not steered", reason=str(error))


def program(numbers: Sequence[int]) -> list[Line]:
    """One of these numbers by chance: a chain of comparisons with the remainder of a random number."""
    lines: list[Line] = [(_LOAD_ABSOLUTE, 0, 0, _RANDOM), (_MODULO, 0, 0, len(numbers))]
    for place, number in enumerate(numbers[:-1]):
        lines += [(_JUMP_EQUAL, 0, 1, place), (_RETURN, 0, 0, number)]
    return [*lines, (_RETURN, 0, 0, numbers[-1])]

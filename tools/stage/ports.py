"""Free ports of 127.0.0.1."""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from dataclasses import astuple, dataclass
from typing import Final

from tools.stage.waiting import StageFailed

HOST: Final = "127.0.0.1"
"""Where everything on the stage listens."""
_WORKERS: Final = 8


def _ports_of(worker: str) -> range:
    """The ports of one of the workers of pytest-xdist, so that none takes what another left for a moment: a node that
    is started again comes back to its port. Whoever is no worker may take all."""
    first, last = 12_000, 32_000
    if not worker.startswith("gw"):
        return range(first, last)
    share = (last - first) // _WORKERS
    begin = first + int(worker[2:]) % _WORKERS * share
    return range(begin, begin + share)


_PORTS: Final = _ports_of(os.environ.get("PYTEST_XDIST_WORKER", ""))
"""Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes a port between pick and bind."""
_TRIES: Final = 200
_GIVEN: Final[deque[int]] = deque(maxlen=200)
"""The ports that were given last."""


def is_free(port: int, *kinds: socket.SocketKind) -> bool:
    """Whether a server could listen on a port now.

    Args:
        port: of 127.0.0.1.
        kinds: of sockets; none for both TCP and UDP.
    """
    for kind in kinds or (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as tried:
            if kind == socket.SOCK_STREAM:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((HOST, port))
                if kind == socket.SOCK_STREAM:
                    tried.listen()
            except OSError:
                return False
    return True


def free_row(count: int) -> int:
    """The first of so many ports in a row that nobody uses now, and nobody asked for lately: what is to have them may
    not listen yet. Callers try another one if that has changed."""
    for _ in range(_TRIES):
        first = random.choice(_PORTS)
        row = range(first, first + count)
        if not any(port in _GIVEN for port in row) and all(is_free(port) for port in row):
            _GIVEN.extend(row)
            return first
    raise StageFailed("no free port was found")


def free_port() -> int:
    """A port that nobody uses now, TCP and UDP. Callers try another one if that has changed."""
    return free_row(1)


_HELD: Final[list[socket.socket]] = []


def unused_address() -> str:
    """An address where nothing listens, and nobody else will while this process runs: its port is taken, but deaf."""
    held = socket.socket()
    held.bind((HOST, free_port()))
    _HELD.append(held)
    return f"{HOST}:{held.getsockname()[1]}"


@dataclass(frozen=True)
class Ports:
    """The four ports of a node."""

    proxy: int
    admin: int
    upstream: int
    gossip: int

    @classmethod
    def pick(cls, but: frozenset[int] = frozenset()) -> Ports:
        """Four free ones, none of them among those given."""
        found: list[int] = []
        while len(found) < 4:
            if (port := free_port()) not in but:
                found.append(port)
        return cls(*found)

    @property
    def numbers(self) -> frozenset[int]:
        """All four."""
        return frozenset(astuple(self))

    def flags(self) -> list[str]:
        """The flags that give a node these ports; 0 stands for any free one."""
        return [
            f"--proxy.bind-addr={HOST}:{self.proxy}",
            f"--admin.bind-addr={HOST}:{self.admin}",
            f"--upstream.bind-addr={HOST}:{self.upstream}",
            f"--cluster.gossip.bind-addr={HOST}:{self.gossip}",
        ]

    def settings(self) -> dict[str, dict[str, object]]:
        """The part of a node's configuration that gives it these ports."""
        sections: dict[str, dict[str, object]] = {
            name: {"bind_addr": f"{HOST}:{getattr(self, name)}"} for name in ("proxy", "admin", "upstream", "gossip")
        }
        sections["cluster"] = {"gossip": sections.pop("gossip")}
        return sections

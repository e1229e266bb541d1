"""What each part of the soak runs against: a node, an agent and a service."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tests.system import wire
from tests.system.service import Service
from tools.stage.stage import Stage

BLOCK = bytes(range(256)) * 256  # 64 KiB
PAUSE = threading.Event()  # never set: its `wait` is a pause


class Rig:
    """A node, an agent with the endpoint `web`, and a recording service."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.service = Service()
        self.node = stage.node()
        self.agent = stage.agent(self.node, {"web": self.service.address})

    def connect(self, receive_buffer: int | None = None) -> wire.Stream:
        """A client of the proxy port."""
        tls = self.stage.tls
        return wire.connect(self.node.proxy, tls=tls.context if tls else None, receive_buffer=receive_buffer)

    def close(self) -> None:
        """The services; the processes belong to the stage."""
        self.service.close()


def head(line: str, *fields: str, endpoint: str = "web") -> bytes:
    """A request's head."""
    return "\r\n".join([line, "Host: soak.example", f"x-pico-endpoint: {endpoint}", *fields, "", ""]).encode()


@contextlib.contextmanager
def rig_of(stage: Stage) -> Iterator[Rig]:
    """A Rig, closed in the end."""
    rig = Rig(stage)
    try:
        yield rig
    finally:
        rig.close()


# -- times

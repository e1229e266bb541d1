"""What each part of the soak runs against: a node, an agent and a service."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tests.system import wire
from tests.system.service import Service
from tools.stage.nodes import Settings
from tools.stage.stage import Stage

BLOCK = bytes(range(256)) * 256  # 64 KiB
PAUSE = threading.Event()  # never set: its `wait` is a pause


class Rig:
    """A node, an agent with the endpoint `web`, and a recording service.

    Args:
        stage: where they run.
        node, agent: their settings.
    """

    def __init__(self, stage: Stage, node: Settings | None = None, agent: Settings | None = None) -> None:
        self.stage = stage
        self.service = Service()
        self.node = stage.node(settings=node)
        self.agent = stage.agent(self.node, {"web": self.service.address}, agent)

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
def rig_of(stage: Stage, node: Settings | None = None, agent: Settings | None = None) -> Iterator[Rig]:
    """A Rig, closed in the end. See `Rig`."""
    rig = Rig(stage, node, agent)
    try:
        yield rig
    finally:
        rig.close()


# -- times

"""A local service that speaks what it likes over TCP: one connection for each call."""

from __future__ import annotations

from typing import ClassVar

from pico_twisted.core.rpc.frames import TCP
from pico_twisted.net.agent.serving.own_connections import OwnConnections


class TcpService(OwnConnections):
    """Where the TCP calls of one listener go.

    Args:
        parts: as of `LocalService`.
    """

    kind: ClassVar[int] = TCP

    def client_gone(self, client: bytes) -> None:
        """No connection is of a client."""

    def retire(self) -> None:
        """The calls go on; there is nothing else."""

    def close(self) -> None:
        """Cut all connections, and keep none from here on."""
        self._closed = True
        for connection in list(self.connections):
            connection.abort()

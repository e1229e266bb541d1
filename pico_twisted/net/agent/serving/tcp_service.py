"""A local service that speaks what it likes over TCP: one connection for each call."""

from __future__ import annotations

import functools
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory

from pico_twisted.core.agent.service_call import ServiceRequest
from pico_twisted.core.rpc.frames import TCP
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.local_service import LocalService, ServiceParts


class TcpService(LocalService):
    """Where the TCP calls of one listener go.

    Args:
        parts: as of `LocalService`.

    Attributes:
        connections: all that are open.
    """

    kind: ClassVar[int] = TCP

    def __init__(self, parts: ServiceParts) -> None:
        super().__init__(parts)
        self.connections: set[ServiceConnection] = set()
        tunnel = parts.tunnel
        self._factory = Factory.forProtocol(
            functools.partial(ServiceConnection, self, tunnel.sweep, tunnel.head_limits)
        )
        self._factory.noisy = False
        self._closed = False

    @property
    def connection_count(self) -> int:
        """How many connections to it are open."""
        return len(self.connections)

    def open(self, request: ServiceRequest) -> Deferred[ServiceConnection]:
        """Open a connection for a call. Fails with what Twisted says, in time; can be cancelled."""
        opening: Deferred[ServiceConnection] = Deferred.fromCoroutine(self._open(request))
        return opening.addTimeout(self.connect_s, self.clock)

    async def _open(self, request: ServiceRequest) -> ServiceConnection:
        header = self.header_for(request)
        connection: ServiceConnection = await self.dial(self._factory, header=header, request=request.head)
        if self._closed:
            connection.abort()
            raise ConnectionAborted
        self.reached()
        return connection

    # ConnectionOwner

    def forget(self, connection: ServiceConnection) -> None:
        """No connection is kept for another call."""

    def closed_idle(self, connection: ServiceConnection) -> None:
        """The service has ended a connection whose call is over."""

    # LocalService

    def client_gone(self, client: bytes) -> None:
        """No connection is of a client."""

    def retire(self) -> None:
        """The calls go on; there is nothing else."""

    def close(self) -> None:
        """Cut all connections, and keep none from here on."""
        self._closed = True
        for connection in list(self.connections):
            connection.abort()

"""A local service whose connections serve one call at a time: how they are opened for a call, and which there are."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory

from pico_twisted.core.agent.service_call import ServiceRequest
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.net.agent.serving.connection import SecureServiceConnection, ServiceConnection
from pico_twisted.net.agent.serving.local_service import HeldCall, LocalService, ServiceParts
from pico_twisted.net.agent.serving.queue import Places


class OwnConnections(LocalService):
    """Where calls of one listener go that have a connection to the service for themselves.

    Args:
        parts, calls: as of `LocalService`.
        reader: makes what reads the responses.

    Attributes:
        connections: all that are open, idle or not.
    """

    def __init__(
        self,
        parts: ServiceParts,
        calls: set[HeldCall] | None = None,
        reader: type[ClientConnection] = ClientConnection,
    ) -> None:
        super().__init__(parts, calls)
        sweep, limits = parts.tunnel.sweep, parts.tunnel.head_limits
        make = SecureServiceConnection if parts.config.addr.https else ServiceConnection
        self.connections: set[ServiceConnection] = set()
        self._factory = Factory.forProtocol(lambda: make(self, sweep, limits, reader))
        self._factory.noisy = False
        self._program = parts.program
        most = parts.config.max_connections
        if most is not None:
            self.places = Places(most, parts.config.max_wait, sweep, parts.counts)
        self._closed = False

    @property
    def connection_count(self) -> int:
        """How many connections to it are open, idle ones too."""
        return len(self.connections)

    def open(self, request: ServiceRequest) -> Deferred[ServiceConnection]:
        """Open a connection for a call. Fails with what Twisted or OpenSSL say, in time; can be cancelled."""
        opening: Deferred[ServiceConnection] = Deferred.fromCoroutine(self._open(request))
        return opening.addTimeout(self.connect_s, self.clock)

    async def _open(self, request: ServiceRequest) -> ServiceConnection:
        header = self.header_for(request)
        if self.places is not None:
            self.make_room(self.places)
        if self._program is None:
            connection = await self.dial(self._factory, header=header)
        else:
            connection = await self._program.endpoint_for(request).connect(self._factory)
        assert isinstance(connection, ServiceConnection)
        connection.header = header
        if isinstance(connection, SecureServiceConnection):
            await connection.ready
        if self._closed:
            connection.abort()
            raise ConnectionAborted
        self.reached()
        return connection

    def make_room(self, places: Places) -> None:
        """Close idle connections, if there are so many that another one would be too much."""

    # ConnectionOwner

    def forget(self, connection: ServiceConnection) -> None:
        """The connection can serve no further call."""

    def closed_idle(self, connection: ServiceConnection) -> None:
        """The service closed it while it had no user."""

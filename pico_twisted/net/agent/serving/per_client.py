"""A service that is told with the first bytes of a connection who the client is (PROXY protocol).

What is said holds for the connection's life. So a connection serves requests of one client alone, which is known by its
address: that of the header. Idle connections are kept, since a browser sends many requests; for each header apart, and
all together no more than for any other service: the one that was idle for longest makes room.
"""

from __future__ import annotations

from pico_twisted.core.agent.service_call import ServiceRequest
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.http1_service import MAX_BUSY, Http1Service
from pico_twisted.net.agent.serving.local_service import ServiceParts


class PerClientService(Http1Service):
    """Where the calls of a listener with `proxy_protocol` go.

    Args:
        parts: as of `LocalService`.
    """

    def __init__(self, parts: ServiceParts) -> None:
        super().__init__(parts)
        self._idle_by_header: dict[bytes, dict[ServiceConnection, None]] = {}

    def take(self, request: ServiceRequest, *, surely: bool) -> ServiceConnection | None:
        """See `Http1Service.take`. Only a connection that began with the header of this request's client."""
        header = self.header_for(request)
        if request.client_connection:
            own = self._own(request.client_connection)
            if own is not None and own.header == header:
                return own
        same = self._idle_by_header.get(header)
        if same is None:
            return None
        taken = self._last_used(same, surely)
        if taken is not None:
            self.forget(taken)
        return taken

    def give(self, connection: ServiceConnection, hint: bytes | None) -> None:
        """See `Http1Service.give`."""
        if len(self._idle) >= MAX_BUSY:
            next(iter(self._idle)).close()
        super().give(connection, hint)
        if connection in self._idle:
            self._idle_by_header.setdefault(connection.header, {})[connection] = None

    def forget(self, connection: ServiceConnection) -> None:
        """See `Http1Service.forget`."""
        super().forget(connection)
        same = self._idle_by_header.get(connection.header)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._idle_by_header[connection.header]

"""A local service that speaks HTTP/1.1: idle connections to take, and new ones to open."""

from __future__ import annotations

import fcntl
import math
import re
import socket
import termios
from typing import Final

from pico_twisted.core.agent.service_call import ServiceRequest, ServiceResponse
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.client_connection import authenticates_connection
from pico_twisted.core.http1.lenient import LenientConnection
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.local_service import HeldCall, ServiceParts
from pico_twisted.net.agent.serving.own_connections import OwnConnections
from pico_twisted.net.agent.serving.queue import Places

MAX_IDLE: Final = 64
"""Most idle connections that are kept while a service has little to do: few beside its own limit of open files."""
FRESH_S: Final = 1.0
"""Most seconds that a connection may have been idle on which a request is sent that cannot be sent twice. Services
close idle connections when they like, most after 2 s (gunicorn), 5 s (uvicorn, Node) or 60 s; what is on its way to
them at that moment is lost. To open a connection takes less than a millisecond."""
FRESH_SHARE: Final = 0.5
"""The same, as a share of the time after which the service was seen to close idle connections."""
MAX_BUSY: Final = 1024
"""Most idle connections that are kept between two bursts. What a turn of the reactor brings is answered together, so of
hundreds of connections in use all may be idle for a moment; to open others costs more than the requests do."""
MAX_BUSY_S: Final = 3.0
"""Seconds for which idle connections beyond `MAX_IDLE` are kept. The one used last is taken first, so they are what is
not needed."""
MAX_CLIENTS: Final = 1024
"""Most connections that are kept for one client's connection each, beside the pool that all share."""
CLIENT_IDLE_S: Final = 300.0
"""Most seconds for which an idle one of these is kept. The node says when the client's connection ends; this is for
nodes that do not, and as long as a node keeps an idle client by default."""

_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_NO_BYTES: Final = bytes(4)
_COUNT: Final = bytearray(4)
_TIMEOUT = re.compile(rb"(?:^|[,; \t])timeout=([0-9]{1,6})(?:$|[,; \t])", re.IGNORECASE)


class Http1Service(OwnConnections):
    """Where the http calls of one listener go.

    Args:
        parts, calls: as of `LocalService`.
    """

    def __init__(self, parts: ServiceParts, calls: set[HeldCall] | None = None) -> None:
        super().__init__(parts, calls, LenientConnection if parts.config.lenient else ClientConnection)
        self._idle: dict[ServiceConnection, None] = {}
        self._closes_after_s = math.inf  # how long an idle connection lasted that the service closed
        self._of_clients: dict[bytes, ServiceConnection] = {}  # by the name of the client's connection, in use or not
        self._retired = False

    def take(self, request: ServiceRequest, *, surely: bool) -> ServiceConnection | None:
        """Take an idle connection, the one that was used last, and on which no bytes wait: those would be taken for the
        answer to the next request.

        Args:
            request: that is to be sent. If its client's connection has one of its own, that one is preferred.
            surely: the request cannot be sent twice: only one that is not about to end, and is looked at.

        Returns:
            None when there is none.
        """
        if request.client_connection and (own := self._own(request.client_connection)) is not None:
            return own
        return self._last_used(self._idle, surely)

    def _own(self, client: bytes) -> ServiceConnection | None:
        """The idle connection that belongs to a client's connection of this name."""
        own = self._of_clients.get(client)
        if own is None or own.user is not None:
            return None
        if own.socket is None or not (_has_unasked(own.socket) or _is_closed(own.socket)):
            return own
        own.abort()
        return None

    def _last_used(self, idle: dict[ServiceConnection, None], surely: bool) -> ServiceConnection | None:
        """See `take`."""
        while idle:
            connection, _ = idle.popitem()
            sock = connection.socket
            idle_s = self.sweep.now - connection.idle_since
            if idle_s > self._closes_after_s and not (sock is not None and _is_closed(sock)):
                self._closes_after_s = idle_s  # the service keeps them for longer than it was seen to
            if surely and idle_s > min(FRESH_S, self._closes_after_s * FRESH_SHARE):
                idle[connection] = None
                return None  # the others were idle for longer
            if sock is None or not (_has_unasked(sock) or (surely and _is_closed(sock))):
                return connection
            connection.abort()
        return None

    def closed_idle(self, connection: ServiceConnection) -> None:
        """The service closed a connection that served no request."""
        self._closes_after_s = min(self._closes_after_s, self.sweep.now - connection.idle_since)

    def keep_for(self, connection: ServiceConnection, client: bytes) -> None:
        """From here on the connection serves this client's connection alone, for its life."""
        connection.client = client
        own = self._of_clients
        own[client] = connection
        if len(own) > MAX_CLIENTS:
            for other in own.values():
                if other.user is None and other is not connection:
                    other.close()
                    return
            del own[client]  # all are in use: this one is closed behind its answer

    def client_gone(self, client: bytes) -> None:
        """The client's connection of that name has ended."""
        connection = self._of_clients.pop(client, None)
        if connection is not None and connection.user is None:
            connection.close()

    def keeps(self, connection: ServiceConnection, request: ServiceRequest, response: ServiceResponse) -> bool:
        """Whether a connection may serve further requests behind this one. Not if it is authenticated, or about to be,
        for a client whose connection has no name here; and with `reuse: safe` not if the service may read on in the
        body of this request."""
        head = response.head
        if not connection.client and (request.authenticates or (head is not None and authenticates_connection(head))):
            return False
        if self.config.reuse == "always":
            return True
        return not (response.early or request.may_be_two) and connection.sent_all

    def give(self, connection: ServiceConnection, hint: bytes | None) -> None:
        """Give a connection back whose response has ended and left nothing behind.

        Args:
            connection: in use no longer.
            hint: the response's Keep-Alive field. Where it says how long the service waits, we wait a second less.
        """
        idle_s = CLIENT_IDLE_S if connection.client else self.config.keepalive_timeout
        if self.config.reuse == "never":
            idle_s = 0.0
        if hint is not None:
            idle_s = min(idle_s, _idle_s(hint))
        connection.idle_since = self.sweep.now
        if connection.client:
            kept = self._of_clients.get(connection.client) is connection
            if self._closed or self._retired or idle_s <= 0 or not kept:
                connection.close()
            else:
                connection.deadline = self.sweep.now + idle_s
            return
        if self._closed or self._retired or len(self._idle) >= MAX_BUSY or idle_s <= 0:
            connection.close()
            return
        if len(self._idle) >= MAX_IDLE:
            idle_s = min(idle_s, MAX_BUSY_S)
        connection.deadline = self.sweep.now + idle_s
        self._idle[connection] = None

    def forget(self, connection: ServiceConnection) -> None:
        """The connection can serve no further request. Idempotent."""
        self._idle.pop(connection, None)
        if connection.client and self._of_clients.get(connection.client) is connection:
            del self._of_clients[connection.client]

    def make_room(self, places: Places) -> None:
        """See `OwnConnections.make_room`: those go that were idle for longest."""
        idle = [one for one in (*self._idle, *self._of_clients.values()) if one.user is None]
        for connection in idle[: max(0, len(idle) + len(places.inside) - places.most)]:
            connection.close()

    def make(self) -> ServiceConnection:
        """A connection that is not connected yet, for whoever connects it: see `adopt`."""
        made = self._factory.buildProtocol(None)
        assert made is not None  # a factory of a function makes what that returns
        return made

    def adopt(self, connection: ServiceConnection) -> None:
        """A connection of `make` is there, and good: it may serve requests."""
        self.reached()
        self.give(connection, None)

    def retire(self) -> None:
        """Take no new calls, which is for the owner to see to: those that it has go on, and keep no connection open."""
        self._retired = True
        for connection in [*self._idle, *self._of_clients.values()]:
            if connection.user is None:
                connection.close()

    def close(self) -> None:
        """Close the idle connections, cut the others, and keep none from here on."""
        self._closed = True
        for connection in list(self.connections):
            if connection.user is None:
                connection.close()
            else:
                connection.abort()


def _has_unasked(sock: socket.socket) -> bool:
    """Whether bytes came that the reactor has not read: of an idle connection they answer no request."""
    try:
        fcntl.ioctl(sock, termios.FIONREAD, _COUNT)  # into a buffer that is there: it costs half of one that is made
    except OSError:
        return True
    return _COUNT != _NO_BYTES


def _is_closed(sock: socket.socket) -> bool:
    """Whether the service closed it, or sent bytes, since the reactor last looked."""
    try:
        sock.recv(1, _PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _idle_s(hint: bytes) -> float:
    found = _TIMEOUT.search(hint)
    return math.inf if found is None else int(found.group(1)) - 1.0

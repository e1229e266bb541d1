"""A local service that speaks HTTP/2: the connections that its calls share, and the calls that wait for a stream.

What is needed. One connection serves all calls of a listener, as long as the service takes that many streams. Beyond
that there are more connections, for long streams would else keep everybody out. While one goes away, another is there.

What can go wrong. The service takes few streams, none, or goes away at once, again and again: so calls wait in turn
and only so many, connections are opened one after the other and only so many, and a call that was refused is sent
again a few times only. A service over TLS may choose HTTP/1.1 (ALPN): then its calls are those of an `Http1Service`,
until it is asked again after some minutes, for it may have been replaced.
"""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.http2.connection import StreamGone
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.http2.connection import SharedConnection
from pico_twisted.net.agent.serving.http2.negotiation import H2, Negotiation
from pico_twisted.net.agent.serving.http2.users import TurnedAway
from pico_twisted.net.agent.serving.local_service import LocalService, ServiceParts
from pico_twisted.net.agent.serving.queue import ServiceQueue
from pico_twisted.net.tls.client import HTTP1_ONLY

log = Logger()

MOST_CONNECTIONS: Final = 32
"""Most connections that take streams: with the hundred streams that services commonly take, thousands of calls."""
AGAIN_S: Final = 1.0
"""Seconds before another connection is tried where one could not be made while others serve."""
MOST_TURNED_AWAY: Final = 3
"""Most connections in a row that are tried when the service goes away (GOAWAY) on each before it took a stream."""
HTTP1_FOR_S: Final = 300.0
"""Seconds for which a service that chose HTTP/1.1 is taken to speak nothing else."""


class WaitingCall(Protocol):
    """A call that wants a stream; see `call.Http2Call`."""

    def start(self, connection: SharedConnection) -> None:
        """Send the request. Raises `StreamGone` when the connection takes no streams any more."""

    @property
    def client(self) -> str:
        """The address of its client."""

    def turned_away(self, words: str) -> None:
        """It may not wait, and why."""

    def unreachable(self, words: str) -> None:
        """No connection could be made, and why not."""

    def hand_over(self, http1: Http1Service) -> None:
        """The service speaks HTTP/1.1."""


class Http2Service(LocalService):
    """Where the calls of one listener go.

    Args:
        parts: as of `LocalService`.

    Attributes:
        scheme: of its requests.
        http1: serves calls over HTTP/1.1, where the service may choose; None where it may not.
        head_limits: of the heads of responses.
    """

    def __init__(self, parts: ServiceParts) -> None:
        super().__init__(parts)
        config, tunnel = parts.config, parts.tunnel
        self.scheme = b"https" if config.addr.https else b"http"
        self.grpc = config.protocol == "grpc"
        self.head_limits = tunnel.head_limits
        self.http1: Http1Service | None = None
        if config.addr.https and not self.grpc:
            self.http1 = Http1Service(parts, self.calls)
        self._factory = Factory.forProtocol(self._negotiation if config.addr.https else self._make)
        self._factory.noisy = False
        self._connections: dict[SharedConnection, None] = {}  # all that are not closed
        wait_s = NEVER if config.max_connections is None else config.max_wait
        self._waiting: ServiceQueue[WaitingCall] = ServiceQueue(self.sweep, parts.counts, wait_s, _turn_away)
        self._most_connections = min(MOST_CONNECTIONS, config.max_connections or MOST_CONNECTIONS)
        self._opening: Deferred[object] | None = None
        self._opened_at = 0.0  # when the last attempt to connect began
        self._again_at = 0.0
        self._unreachable_words = ""  # why, the last time
        self._turned_away = 0  # connections in a row
        self._http1_until = 0.0
        self._closed = False
        self._retired = False

    def _make(self) -> SharedConnection:
        return SharedConnection(self, self.sweep, self.end_of_turn)

    def _negotiation(self) -> Negotiation:
        return Negotiation(self._make, None if self.http1 is None else self.http1.make)

    @property
    def connection_count(self) -> int:
        """How many connections to it are open, idle ones too."""
        return len(self._connections) + (0 if self.http1 is None else self.http1.connection_count)

    @property
    def chose_http1(self) -> bool:
        """Whether it is taken to speak HTTP/1.1 alone."""
        return self.sweep.now < self._http1_until

    @property
    def idle_s(self) -> float:
        """See `ConnectionOwner.idle_s`."""
        return 0.0 if self._closed or self._retired else self.config.keepalive_timeout

    def client_gone(self, client: bytes) -> None:
        """See `LocalService.client_gone`."""
        if self.http1 is not None:
            self.http1.client_gone(client)

    @property
    def waiting(self) -> int:
        """How many calls wait for a connection or a stream."""
        return len(self._waiting) + (0 if self.http1 is None else self.http1.waiting)

    # Calls

    def enter(self, call: WaitingCall, *, surely: bool) -> bool:
        """Give a call a stream, now or when there is one.

        Args:
            call: is started, or fails, perhaps before this returns.
            surely: its request cannot be sent twice, so that a connection that was idle is looked at first.

        Returns:
            Whether it may come in; else too many wait.
        """
        if not self._waiting:
            for connection in list(self._connections):
                if surely and connection.has_room and not connection.users and connection.is_dead():
                    connection.leave()
                elif connection.has_room and self._start(call, connection):
                    return True
        if not self._waiting.add(call.client, call):
            return False
        self._open()
        return True

    def leave(self, call: WaitingCall) -> None:
        """A call does not want a stream any more. Idempotent."""
        self._waiting.discard(call)

    def _start(self, call: WaitingCall, connection: SharedConnection) -> bool:
        try:
            call.start(connection)
        except StreamGone:  # its stream numbers are used up, or it is closing
            connection.leave()
            return False
        return True

    def room(self) -> None:
        """A stream may be free (`ConnectionOwner`)."""
        if not self._waiting:
            return
        for connection in list(self._connections):
            while connection.has_room and (call := self._waiting.take()) is not None:
                if not self._start(call, connection):
                    self._waiting.put_back(call.client, call)
        if self._waiting:
            self._open()

    def gone(self, connection: object) -> None:
        """A connection is closed (`ConnectionOwner`)."""
        if isinstance(connection, SharedConnection):
            self._connections.pop(connection, None)
        if self._waiting:
            self._open()

    # Connections

    def _open(self) -> None:
        """Open another connection for those who wait, unless that is of no use now."""
        serving = [connection for connection in self._connections if connection.takes_calls]
        if self._opening is not None or len(serving) >= self._most_connections:
            return
        if serving and (self.sweep.now < self._again_at or not all(one.most_streams for one in serving)):
            return  # the next stream that ends goes to who waits
        if self._closed:
            self._refuse_all()
            return
        self._opened_at = self.clock.seconds()
        opening = self._opening = Deferred.fromCoroutine(self._connect())
        opening.addTimeout(self.connect_s, self.clock)
        opening.addCallbacks(self._opened, self._failed)
        opening.addErrback(lambda failure: log.failure("A connection to a service failed by a fault of ours", failure))

    async def _connect(self) -> SharedConnection | ServiceConnection:
        alpn = (H2,) if self.http1 is None else (H2, *HTTP1_ONLY)
        made: object = await self.dial(self._factory, alpn=alpn)
        if isinstance(made, Negotiation):
            made = await made.chosen
        if isinstance(made, SharedConnection):
            self._connections[made] = None
            await made.ready
        assert isinstance(made, (SharedConnection, ServiceConnection))
        if self._closed:
            made.abort()
            raise ConnectionAborted
        return made

    def _opened(self, connection: SharedConnection | ServiceConnection) -> None:
        self._opening = None
        self._turned_away = 0
        if isinstance(connection, SharedConnection):
            self.reached()
            self._http1_until = 0.0
            self.room()
            return
        http1 = self.http1
        assert http1 is not None
        self._http1_until = self.sweep.now + HTTP1_FOR_S
        http1.adopt(connection)
        for call in self._waiting.take_all():
            call.hand_over(http1)

    def _failed(self, failure: Failure) -> None:
        self._opening = None
        self._turned_away = self._turned_away + 1 if failure.check(TurnedAway) else 0
        if self._waiting and 0 < self._turned_away < MOST_TURNED_AWAY:
            self._open()
            return
        self._turned_away = 0
        if self._waiting:
            self._unreachable_words = self.unreachable(failure, self._opened_at, len(self._waiting))
        self._again_at = self.sweep.now + AGAIN_S
        if not any(connection.takes_calls for connection in self._connections):
            self._refuse_all()

    def _refuse_all(self) -> None:
        for call in self._waiting.take_all():
            call.unreachable(self._unreachable_words)

    # Endings

    def retire(self) -> None:
        """See `LocalService.retire`."""
        self._retired = True
        for connection in list(self._connections):
            connection.leave()
        if self.http1 is not None:
            self.http1.retire()

    def close(self) -> None:
        """See `LocalService.close`."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        for connection in list(self._connections):
            if connection.users:
                connection.abort()
            else:
                connection.close()
        if self.http1 is not None:
            self.http1.close()


def _turn_away(call: WaitingCall, words: str) -> None:
    call.turned_away(words)

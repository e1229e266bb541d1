"""The clients of a bench: each has one connection at a time, and one request or message under way.

The connections are such as an agent has to its services. What is sent on them, and how answers are judged, differs by
kind: requests of HTTP/1.1, or messages over a WebSocket.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import End, HeadLimits, ResponseHead
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.ctl.bench.echo import SERVER
from pico_twisted.ctl.bench.messages import Content, FrameCount, OtherMessage
from pico_twisted.ctl.bench.places import Place
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.ctl.bench.record import Record
from pico_twisted.net.agent.serving.connection import SecureServiceConnection, ServiceConnection
from pico_twisted.net.tls.failures import connect_failure_text

TIMEOUT: Final = "no answer in time"
"""The kind of error that a request has which took too long."""
CLOSED: Final = "closed before the answer"
"""The kind of error that a request has whose connection ended."""
NO_CONNECTION: Final = "no connection: "
"""What the kind of error begins with that a request has for which there was no connection."""
PAUSE_S: Final = 0.1
"""The seconds that a client waits after a connection that failed: a closed port must not be dialled in a loop."""
MAX_ERROR_BYTES: Final = 2048
"""The bytes that are kept of the body of an answer that is an error: enough for what a node says."""

_SWITCHED: Final = 101
_OK: Final = 200


class RequestFailed(Exception):
    """A request has no right answer. Its text is the kind of error."""


class Client:
    """Makes one request after the other, on a connection that it keeps.

    Args:
        place: where it connects.
        heads: of its requests; taken in turn, by all clients of the place.
        content: what it sends, and gets back.
        plan: what is wanted.
        sweep: watches the time-outs.
        reactor: tells how long connecting takes.

    Attributes:
        connections: those that are open, one at most (ConnectionOwner).
    """

    def __init__(
        self,
        place: Place,
        heads: Iterator[bytes],
        content: Content,
        plan: BenchPlan,
        *,
        sweep: Sweep,
        reactor: IReactorTime,
    ) -> None:
        self.connections: set[ServiceConnection] = set()
        self._place = place
        self._factory = Factory.forProtocol(partial(place.kind, self, sweep, HeadLimits()))
        self._factory.noisy = False
        self._heads = heads
        self._content = content
        self._plan = plan
        self._sweep = sweep
        self._reactor = reactor
        self._record = Record()
        self._until = NEVER
        self._connection: ServiceConnection | None = None  # on which the next request can be made
        self._answer: Deferred[Any] | None = None  # of a head, or of nothing for a message
        self._head: ResponseHead | None = None
        self._body_bytes = 0
        self._error_body = b""

    async def request(self, record: Record, due_at: float) -> None:
        """Make a request. When this is cancelled, the request stays without an end.

        Args:
            record: where it is counted.
            due_at: when it should have begun, as `time.perf_counter` has it: its latency is counted from then.
        """
        record.begun += 1
        self._record = record
        self._until = self._sweep.now + self._plan.timeout_s
        try:
            await self._exchange(self._connection or await self._open())
        except RequestFailed as error:
            record.failed(str(error), time.perf_counter())
        else:
            at = time.perf_counter()
            record.succeeded(at - due_at, at)
            return
        finally:
            self._rest()
        if self._connection is None:
            await deferLater(self._reactor, PAUSE_S)

    def close(self) -> None:
        """Close the connection; with a request under way, cut it."""
        for connection in list(self.connections):
            if self._answer is None:
                connection.close()
            else:
                connection.abort()

    async def _open(self) -> ServiceConnection:
        opening = Deferred.fromCoroutine(self._connect())
        try:
            self._connection = await opening.addTimeout(self._plan.timeout_s, self._reactor)
        except CancelledError:
            raise
        except TimeoutError:
            raise RequestFailed(TIMEOUT) from None
        except Exception:
            raise RequestFailed(NO_CONNECTION + connect_failure_text(Failure())) from None
        return self._connection

    async def _connect(self) -> ServiceConnection:
        try:
            connection = await self._place.endpoint.connect(self._factory)
        except ConnectingCancelledError:
            raise CancelledError from None
        assert isinstance(connection, ServiceConnection)
        if isinstance(connection, SecureServiceConnection):
            await connection.ready
        return connection

    async def _exchange(self, connection: ServiceConnection) -> None:
        """Make one request.

        Raises:
            RequestFailed: it has no right answer.
        """
        head = await self._ask(connection, self._plan.method, self._content.request)
        if head.status != _OK:
            raise RequestFailed(self._error(head))
        if head.get(b"server") != SERVER:
            raise RequestFailed("an answer of another service")
        if self._body_bytes != self._plan.answer_bytes:
            raise RequestFailed("an answer of another length")

    async def _ask(self, connection: ServiceConnection, method: str, body: bytes) -> ResponseHead:
        connection.http.expect(method.encode("ascii"))
        self._head = None
        self._body_bytes = 0
        self._error_body = b""
        head: ResponseHead = await self._send(connection, next(self._heads) + body)
        return head

    def _send(self, connection: ServiceConnection, data: bytes) -> Deferred[Any]:
        """Send a request or a message; fires when the answer is here, or fails with `RequestFailed`."""
        answer: Deferred[Any] = Deferred()
        self._answer = answer
        self._record.sent_bytes += len(data)
        connection.user = self
        connection.deadline = self._until
        connection.write(data)
        return answer

    def _end(self, result: object) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.callback(result)

    def _fail(self, kind: str) -> None:
        self._end(Failure(RequestFailed(kind)))

    def _rest(self) -> None:
        """Nothing is under way any more: keep the connection, if it can be used further."""
        connection = self._connection
        if connection is not None:
            connection.user = None
            connection.deadline = NEVER
            if self._answer is not None or not self._reusable(connection):
                self.close()
        self._answer = None

    def _reusable(self, connection: ServiceConnection) -> bool:
        return connection.http.reusable

    def _error(self, head: ResponseHead) -> str:
        """An answer that is an error, in few words: its status, and what a node says."""
        try:
            words = json.loads(self._error_body).get("error")
        except (ValueError, AttributeError, RecursionError):
            words = None
        return f"{head.status} {words}" if isinstance(words, str) and len(words) < 100 else str(head.status)

    # ConnectionOwner and ConnectionUser

    def closed_idle(self, connection: ServiceConnection) -> None:
        """It is gone, which `forget` says as well."""

    def forget(self, connection: ServiceConnection) -> None:
        """It can serve no further request."""
        if connection is self._connection:
            self._connection = None

    def service_data(self, data: bytes) -> None:
        """Bytes of an answer came, or none at its end."""
        self._record.received_bytes += len(data)
        connection = self._connection
        assert connection is not None
        connection.http.receive(data)
        try:
            while (event := connection.http.next_event()) is not None:
                if isinstance(event, bytes):
                    self._body_bytes += len(event)
                    if self._head is not None and self._head.status != _OK:
                        self._error_body = (self._error_body + event)[:MAX_ERROR_BYTES]
                elif isinstance(event, End):
                    self._end(self._head)
                    return
                elif event.status == _SWITCHED:
                    self._end(event)
                    return
                elif event.status >= _OK:
                    self._head = event
        except Http1Error as error:
            connection.abort()
            self._fail(f"not HTTP: {error}")

    def service_ended(self) -> None:
        """The other side closes the connection; that may be the end of the answer."""
        connection = self._connection
        assert connection is not None
        connection.http.receive_eof()
        if self._head is not None:
            self.service_data(b"")
        connection.close()
        self.service_lost()

    def service_lost(self) -> None:
        """The connection is gone."""
        self._fail(CLOSED)

    def service_took(self) -> None:
        """The transport has room; everything was given to it at once."""

    def service_late(self, now: float) -> None:
        """The request took too long. What it was for is cut."""
        answer = self._answer
        if answer is not None:
            answer.errback(RequestFailed(TIMEOUT))


class WebSocketClient(Client):
    """Sends messages over a WebSocket, each when the one before came back. The first takes the handshake's time too."""

    _frames: FrameCount | None = None

    async def _open(self) -> ServiceConnection:
        self._frames = None
        connection = await super()._open()
        head = await self._ask(connection, "GET", b"")
        if head.status != _SWITCHED:
            connection.close()
            raise RequestFailed(f"no WebSocket: {self._error(head)}")
        self._frames = FrameCount(self._content.returned)
        self.service_data(connection.http.take_rest())
        return connection

    async def _exchange(self, connection: ServiceConnection) -> None:
        await self._send(connection, self._content.sent)

    def _reusable(self, connection: ServiceConnection) -> bool:
        return self._frames is not None

    def service_data(self, data: bytes) -> None:
        """Bytes of the handshake's answer or of messages came."""
        if self._frames is None:
            super().service_data(data)
            return
        self._record.received_bytes += len(data)
        try:
            for _ in range(self._frames.feed(data)):
                self._end(None)
        except OtherMessage as error:
            self.close()
            self._fail(str(error))

"""The clients of a bench: each has one connection at a time, and one request or message under way.

What is sent on a connection, and how its answers are judged, differs by kind: HTTP/1.1, or messages over a WebSocket.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, HeadLimits, ResponseHead
from pico_twisted.ctl.bench.echo import SERVER
from pico_twisted.ctl.bench.messages import FrameCount, Message, OtherMessage
from pico_twisted.ctl.bench.places import Place
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.ctl.bench.record import Record
from pico_twisted.net.socket.options import tune, writer
from pico_twisted.net.tls.client import explain_tls
from pico_twisted.net.tls.failures import connect_failure_text
from pico_twisted.net.turn import NEVER, Sweep

log = Logger()

TIMEOUT: Final = "no answer in time"
"""The kind of error that a request has which took too long."""
CLOSED: Final = "closed before the answer"
"""The kind of error that a request has whose connection ended."""
PAUSE_S: Final = 0.1
"""The seconds that a client waits after a connection that failed: a closed port must not be dialled in a loop."""
MAX_ERROR_BYTES: Final = 2048
"""The bytes that are kept of the body of an answer that is an error: enough for what a node says."""
COPIED_BYTES: Final = 32 * 1024
"""The largest body, in bytes, that is sent in one piece with its head."""

_SWITCHED: Final = 101
_OK: Final = 200


class Client:
    """Makes one request after the other, when it is told to.

    Args:
        place: where it connects.
        make: its kind of connection.
        sweep: watches the time-outs.
        reactor: wakes it after a connection that failed.
        timeout_s: for one request.
        free: called whenever it has nothing to do.
    """

    def __init__(
        self,
        place: Place,
        make: Callable[[Client], Wire],
        *,
        sweep: Sweep,
        reactor: IReactorTime,
        timeout_s: float,
        free: Callable[[Client], None],
    ) -> None:
        self.place = place
        self.deadline = NEVER
        self._factory = Factory.forProtocol(lambda: make(self))
        self._factory.noisy = False
        self._sweep = sweep
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._free = free
        self._wire: Wire | None = None
        self._connecting: Deferred[Any] | None = None
        self._record: Record | None = None
        self._due_at = 0.0
        self._ready = False

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._record is not None

    def go(self, record: Record, due_at: float) -> None:
        """Make a request.

        Args:
            record: where it is counted.
            due_at: when it should have begun, as `time.perf_counter` has it: its latency is counted from then.
        """
        record.begun += 1
        self._record = record
        self._due_at = due_at
        self.deadline = self._sweep.now + self._timeout_s
        self._sweep.add(self)
        wire = self._wire
        if wire is None or wire.gone:
            self._connect()
        elif self._ready:
            self._ask(wire)

    def _connect(self) -> None:
        self._ready = False
        connecting = self._connecting = self.place.endpoint.connect(self._factory)
        connecting.addCallbacks(self._connected, self._not_connected)
        connecting.addErrback(lambda failure: log.failure("A client failed", failure))

    def _connected(self, wire: Any) -> None:
        self._connecting = None
        if self._record is None:
            wire.abort()
        else:
            self._wire = wire

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if not isinstance(failure.value, CancelledError) or self._record is not None:
            self.failed(f"no connection: {connect_failure_text(failure)}")

    def ready(self, wire: Wire) -> None:
        """The connection can take requests."""
        self._wire = wire
        self._ready = True
        if self._record is not None:
            self._ask(wire)
        else:
            self._drop()

    def _ask(self, wire: Wire) -> None:
        assert self._record is not None
        self._record.sent_bytes += wire.ask()

    def answered(self, wire: Wire, *, keep: bool) -> None:
        """The whole answer is here, and right."""
        record, at = self._record, time.perf_counter()
        if record is None or wire is not self._wire:
            return
        record.received_bytes += wire.received_bytes
        wire.received_bytes = 0
        record.succeeded(at - self._due_at, at)
        if not keep:
            self.close()
        self._over(0.0)

    def failed(self, kind: str, *, keep: bool = False) -> None:
        """There will be no right answer to the request.

        Args:
            kind: why, in few words.
            keep: the connection can be used further.
        """
        record = self._record
        if record is None:
            self._drop()
            return
        record.failed(kind, time.perf_counter())
        if self._wire is not None:
            record.received_bytes += self._wire.received_bytes
            self._wire.received_bytes = 0
        if not keep:
            self._drop()
        self._over(0.0 if keep else PAUSE_S)

    def lost(self, wire: Wire, why: str | None) -> None:
        """A connection is gone, for a reason `why` if TLS gave one. Idle ones may go at any time."""
        if wire is self._wire:
            self._wire = None
            if self._record is not None:
                self.failed(f"no connection: {why}" if why else CLOSED)

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep: the request took too long."""
        self.deadline = NEVER
        self.failed(TIMEOUT)

    def abort(self) -> None:
        """Give everything up; a request under way stays without an end."""
        self._record = None
        self._sweep.discard(self)
        self._drop()

    def close(self) -> None:
        """Close the connection, on which nothing is under way."""
        wire, self._wire = self._wire, None
        if wire is not None and not wire.gone:
            wire.close()

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and not wire.gone:
            wire.abort()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()

    def _over(self, pause_s: float) -> None:
        self._record = None
        self._sweep.discard(self)
        if pause_s:
            self._reactor.callLater(pause_s, self._free, self)
        else:
            self._free(self)


class Wire(Protocol, ABC):
    """One connection of a client, which reads the answers in HTTP.

    Args:
        client: whose it is.

    Attributes:
        received_bytes: since this was last set to 0.
        gone: it cannot be used any more.
    """

    transport: Any  # of TCP or TLS; the methods that both have are in no interface of Twisted

    def __init__(self, client: Client) -> None:
        self.client = client
        self.received_bytes = 0
        self.gone = False
        self._http = ClientConnection(HeadLimits())
        self._head: ResponseHead | None = None
        self._body_bytes = 0
        self._error_body = b""

    def logPrefix(self) -> str:
        return "client"

    def connectionMade(self) -> None:
        if isinstance(self.transport, Connection):
            self.transport.protocol = self  # endpoints leave one of theirs between
        tune(self.transport, tunnel=False)
        self.write = writer(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        if self._head is not None:
            self._http.receive_eof()
            self._read()
        self.client.lost(self, explain_tls(reason))

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._http.receive(data)
        self._read()

    @abstractmethod
    def ask(self) -> int:
        """Send the next request; how many bytes that were."""

    @abstractmethod
    def _judge(self, head: ResponseHead, *, keep: bool) -> None:
        """A whole answer is here, or the head of one that switches to another protocol."""

    def close(self) -> None:
        """Close it."""
        self.gone = True
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut it."""
        self.gone = True
        self.transport.abortConnection()

    def _read(self) -> None:
        try:
            while (event := self._http.next_event()) is not None:
                if isinstance(event, bytes):
                    self._body_bytes += len(event)
                    if self._head is not None and self._head.status != _OK:
                        self._error_body = (self._error_body + event)[:MAX_ERROR_BYTES]
                elif event is END or (isinstance(event, ResponseHead) and event.status == _SWITCHED):
                    head = self._head if event is END else event
                    self._head = None
                    assert isinstance(head, ResponseHead)
                    self._judge(head, keep=self._http.reusable and not self.gone)
                    return
                elif isinstance(event, ResponseHead) and event.status >= _OK:
                    self._head = event
                    self._body_bytes = 0
                    self._error_body = b""
        except Http1Error as error:
            self.client.failed(f"not HTTP: {error}")

    def _error(self, head: ResponseHead) -> str:
        """An answer that is an error, in few words: its status, and what a node says."""
        try:
            words = json.loads(self._error_body).get("error")
        except (ValueError, AttributeError, RecursionError):
            words = None
        return f"{head.status} {words}" if isinstance(words, str) and len(words) < 100 else str(head.status)


class HttpWire(Wire):
    """A kept connection with one request after the other.

    Args:
        client: whose it is.
        heads: of requests, taken in turn; shared by all connections to a proxy port.
        body: of each request.
        plan: what is expected of the answers.
        first: which of the heads is first.
    """

    def __init__(self, client: Client, heads: Sequence[bytes], body: bytes, plan: BenchPlan, first: int) -> None:
        super().__init__(client)
        self._heads = heads
        self._body = body
        self._turn = first
        self._method = plan.method.encode("ascii")
        self._expected_bytes = plan.answer_bytes

    def connectionMade(self) -> None:
        super().connectionMade()
        self.client.ready(self)

    def ask(self) -> int:
        head = self._heads[self._turn % len(self._heads)]
        self._turn += 1
        self._head = None
        self._http.expect(self._method, upgrade=False)
        body = self._body
        if len(body) <= COPIED_BYTES:
            self.write(head + body)
        else:
            self.write(head)
            self.write(body)
        return len(head) + len(body)

    def _judge(self, head: ResponseHead, *, keep: bool) -> None:
        if head.status != _OK:
            self.client.failed(self._error(head), keep=keep)
        elif head.get(b"server") != SERVER:
            self.client.failed("an answer of another service", keep=keep)
        elif self._body_bytes != self._expected_bytes:
            self.client.failed("an answer of another length", keep=keep)
        else:
            self.client.answered(self, keep=keep)


class WebSocketWire(Wire):
    """A WebSocket, on which each message is waited for. Its handshake belongs to the first message's time.

    Args:
        client: whose it is.
        request: the head of the request for it.
        message: that is sent.
    """

    def __init__(self, client: Client, request: bytes, message: Message) -> None:
        super().__init__(client)
        self._request = request
        self._message = message
        self._frames: FrameCount | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._http.expect(b"GET", upgrade=True)
        self.write(self._request)

    def ask(self) -> int:
        self.write(self._message.sent)
        return len(self._message.sent)

    def dataReceived(self, data: bytes) -> None:
        if self._frames is None:
            super().dataReceived(data)
        else:
            self.received_bytes += len(data)
            self._count(self._frames, data)

    def _judge(self, head: ResponseHead, *, keep: bool) -> None:
        if head.status != _SWITCHED:
            self.client.failed(f"no WebSocket: {self._error(head)}")
            return
        self._frames = FrameCount(self._message.returned)
        rest = self._http.take_rest()
        self.received_bytes = len(rest)
        self.client.ready(self)
        self._count(self._frames, rest)

    def _count(self, frames: FrameCount, data: bytes) -> None:
        try:
            for _ in range(frames.feed(data)):
                self.client.answered(self, keep=True)
        except OtherMessage as error:
            self.client.failed(str(error))

"""One http call on its way through the agent: a request to the local service, and the response back.

What is needed. Bytes pass both ways as they come, and each side slows the other down: the service's reading of the
request decides about the caller's credit, the caller's credit about our reading of the response. Either stream may
end first. The caller may give up at any moment, and the service must see that at once.

What can go wrong. The service answers garbage, half an answer, two answers; it closes at any byte; it answers before
it has the request, or never. A kept connection may have died unnoticed. And none of that may cost more than this call.

What was chosen. One object a call, a small state (`_Stage`), no timers: the connection to the service carries the
deadline. A head is sent on only together with what was read behind it, so that a small response is one frame, and an
answer that turns out broken in the same read can still be a clean 502.

- *A dead kept connection* that gave no byte: the request is sent again, once, on a fresh connection, if it is
  idempotent and all that was sent is kept. For others the connection is looked at before it is used.
- *A response that ends before its request*: the caller is told *stop* once the response has left us. A reset before
  that would overtake it. The connection to the service is cut: what it would make of the rest is not known.
- *Credit* is given when the transport of the service takes bytes, not when they arrive.
- *Timeouts* bound waiting for the service only: for its head, from the last progress of the request; else for any byte
  either way. While the request waits for its caller, or after an upgrade, none runs.

A v1 call is the same with whole messages: its request comes at once, its response is gathered and sent as one frame.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.chunked import LAST_CHUNK, encode_chunk
from pico_twisted.core.http1.errors import Http1Error, bad_request
from pico_twisted.core.http1.forwarding import error_response, request_to_service, response_to_tunnel
from pico_twisted.core.http1.head import END, RequestHead, ResponseHead
from pico_twisted.core.http1.target import IDEMPOTENT
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import FAILED, PROTOCOL, TIMEOUT
from pico_twisted.core.rpc.http import INTERIM_BYTES, CallProtocolError
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.agent.connection import ServiceConnection
from pico_twisted.net.interfaces import ICallReceiver
from pico_twisted.net.routing.linger import LINGER_S, Linger
from pico_twisted.net.turn import NEVER

if TYPE_CHECKING:
    from pico_twisted.net.agent.forwarder import Forwarder
    from pico_twisted.net.tunnel import Tunnel

log = Logger()

IDLE_S: Final = 300.0
"""A stream in which no byte moved for this long, either way, is given up."""
KEPT_BYTES: Final = 64 * 1024
"""How much of a request is kept, to be sent again on a fresh connection."""

CLIENT_LEFT: Final = 499
"""Counted as the status of a call that its caller gave up."""


class _Stage(enum.Enum):
    """Where in its life a call is. Each leads to the next ones or to OVER; a retry leads back from AWAITING."""

    OPENING = enum.auto()  # no connection to the service yet
    AWAITING = enum.auto()  # for the final head
    ANSWERING = enum.auto()  # the head has come, the body is coming
    UPGRADED = enum.auto()  # raw bytes both ways
    LINGERING = enum.auto()  # the response has ended, the request has not, and goes nowhere
    OVER = enum.auto()


_OPENING = _Stage.OPENING
_AWAITING = _Stage.AWAITING
_ANSWERING = _Stage.ANSWERING
_UPGRADED = _Stage.UPGRADED
_LINGERING = _Stage.LINGERING
_OVER = _Stage.OVER


@implementer(ICallReceiver)
class Exchange:
    """Serves one http call.

    Args:
        forwarder: of the listener.
        tunnel: the session that the call is on.
        call: the call.
    """

    __slots__ = (
        "_asked_upgrade",
        "_body_bytes",
        "_call",
        "_chunked",
        "_connection",
        "_expecting",
        "_forwarder",
        "_gathered",
        "_got_byte",
        "_head",
        "_held",
        "_interim_bytes",
        "_lingering",
        "_method",
        "_opening",
        "_owed",
        "_replay",
        "_request_bytes",
        "_request_ended",
        "_response_ended",
        "_since",
        "_stage",
        "_started",
        "_status",
        "_stream",
        "_tunnel",
        "_v2",
    )

    def __init__(self, forwarder: Forwarder, tunnel: Tunnel, call: Call) -> None:
        self._forwarder = forwarder
        self._tunnel = tunnel
        self._call = call
        self._v2 = tunnel.dialect.whole_body_bytes is None
        self._stage = _OPENING
        self._started = forwarder.seconds()
        self._connection: ServiceConnection | None = None
        self._opening: Deferred[ServiceConnection] | None = None
        # the request
        self._stream = tunnel.dialect.read_request(forwarder.request_limits)
        self._method = b""
        self._chunked = False
        self._asked_upgrade = False
        self._expecting = False  # the caller waits for a 100 before its body
        self._request_ended = False
        self._request_bytes = 0
        self._since = 0.0  # the last progress of the request
        self._owed = 0  # payload that came, and was not taken by the service's transport yet
        self._held: list[bytes] = []  # for the service, until there is a connection
        self._replay: bytes | None = None  # all that a kept connection was sent; None: it is not to be sent again
        # the response
        self._head: ResponseHead | None = None
        self._status = 0
        self._got_byte = False
        self._body_bytes = 0
        self._interim_bytes = 0
        self._gathered: list[bytes] = []  # over v1, the body so far
        self._response_ended = False  # after an upgrade: the service closed its half
        self._lingering: Linger | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of the response that are gathered for a v1 peer."""
        return sum(map(len, self._gathered))

    # The request

    def begin(self, payload: bytes, more: bool) -> None:
        """Take the call's first frame."""
        forwarder = self._forwarder
        try:
            events = self._stream.feed(payload, more)
        except (Http1Error, CallProtocolError) as error:
            self._refuse(error)
            return
        head = events[0]
        assert isinstance(head, RequestHead)
        body = events[1] if len(events) > 1 and type(events[1]) is bytes else b""
        ended = self._request_ended = not more
        method = self._method = head.method
        self._asked_upgrade = head.upgrade is not None
        self._expecting = head.expect_continue and not ended
        self._since = forwarder.sweep.now
        self._owed = len(payload)
        self._request_bytes = len(body)
        chunked = self._chunked = head.length is None and head.upgrade is None and bool(body or not ended)
        data = request_to_service(head, host=forwarder.host, via=forwarder.via, chunked=chunked)
        if chunked:
            data += encode_chunk(body)
            if ended:
                data += LAST_CHUNK
        elif body:
            data += body
        replayable = method in IDEMPOTENT and len(body) <= KEPT_BYTES
        connection = forwarder.pool.take(surely=not (replayable and ended))
        if connection is None:
            self._held.append(data)
            self._open()
        else:
            if replayable:
                self._replay = data
            self._use(connection, data)

    def _open(self) -> None:
        self._stage = _OPENING
        opening = self._opening = self._forwarder.pool.open()
        opening.addCallbacks(self._opened, self._unreachable)
        opening.addErrback(self._broken)

    def _opened(self, connection: ServiceConnection) -> None:
        self._opening = None
        self._forwarder.reachable()
        data = b"".join(self._held)
        self._held.clear()
        self._use(connection, data)

    def _unreachable(self, failure: Failure) -> None:
        self._opening = None
        if self._stage is _OVER:
            return  # the attempt was cancelled
        self._forwarder.unreachable(failure)
        self._fail(502, "upstream unreachable", "service-unreachable")

    def _broken(self, failure: Failure) -> None:
        log.failure("A call failed by a fault of ours", failure)
        self._give_up(FAILED)

    def _use(self, connection: ServiceConnection, data: bytes) -> None:
        self._stage = _AWAITING
        self._connection = connection
        connection.user = self
        connection.http.expect(self._method, upgrade=self._asked_upgrade)
        connection.write(data)
        if connection.writable:
            owed, self._owed = self._owed, 0
            self._tunnel.consumed(self._call, owed)
        self._watch(connection, self._since)

    def frame(self, payload: bytes, more: bool) -> None:
        """A further frame of the request."""
        stage = self._stage
        if stage is _OVER:
            return
        if stage is _LINGERING:
            if not more:
                self._over()
            return
        try:
            self._stream.feed(payload, more)
        except (Http1Error, CallProtocolError) as error:
            self._give_up(PROTOCOL, str(error))
            return
        self._owed += len(payload)
        self._request_bytes += len(payload)
        self._since = self._forwarder.sweep.now
        self._expecting = False
        if self._chunked:
            data = encode_chunk(payload) if more else encode_chunk(payload) + LAST_CHUNK
        else:
            data = payload
        if not more:
            self._request_ended = True
        connection = self._connection
        if connection is None:
            self._held.append(data)
            return
        if data:
            connection.write(data)
        replay = self._replay
        if replay is not None:
            self._replay = replay + data if self._request_bytes <= KEPT_BYTES else None
        if connection.writable:
            owed, self._owed = self._owed, 0
            self._tunnel.consumed(self._call, owed)
        if stage is not _UPGRADED:
            self._watch(connection, self._forwarder.sweep.now)
        elif not more:
            self._end_upgraded_request(connection)

    def _service_is_due(self, connection: ServiceConnection) -> bool:
        """Whether we wait for the service, to answer or to take what we have for it, and not for the caller."""
        return self._head is None and (
            self._request_ended or self._asked_upgrade or self._expecting or not connection.writable
        )

    def _watch(self, connection: ServiceConnection, since: float) -> None:
        """Something moved: set the deadline anew, of the service's head or of a silent stream."""
        connection.deadline = since + (self._forwarder.timeout_s if self._service_is_due(connection) else IDLE_S)

    # The service

    def service_took(self) -> None:
        """The service's transport wrote what it had."""
        owed, self._owed = self._owed, 0
        if owed:
            self._since = self._forwarder.sweep.now
            self._tunnel.consumed(self._call, owed)
        connection = self._connection
        if connection is not None and self._stage is not _UPGRADED:
            self._watch(connection, self._forwarder.sweep.now)

    def service_data(self, data: bytes) -> None:
        """Bytes of the response."""
        connection = self._connection
        assert connection is not None
        if self._stage is _UPGRADED:
            self._send_upgraded(connection, data)
            return
        self._got_byte = True
        connection.http.receive(data)
        self._read(connection)

    def _read(self, connection: ServiceConnection, ended_early: bool = False) -> None:
        next_event = connection.http.next_event
        pieces: list[bytes] = []
        ended = False
        try:
            while (event := next_event()) is not None:
                if type(event) is bytes:
                    self._body_bytes += len(event)
                    pieces.append(event)
                elif event is END:
                    ended = True
                    break
                else:
                    assert isinstance(event, ResponseHead)
                    if event.status < 200:
                        if event.status == 101:
                            self._upgrade(connection, event)
                            return
                        self._interim(connection, event)
                    else:
                        self._head = event
                        if self._v2:
                            pieces.append(response_to_tunnel(event, via=self._forwarder.via))
        except Http1Error as error:
            self._answer_is_broken(error, "service-failed" if ended_early else "bad-response")
            return
        if not self._v2:
            self._gather(pieces, ended)
        elif pieces or ended:
            self._stage = _ANSWERING
            self._tunnel.send(self._call, pieces[0] if len(pieces) == 1 else b"".join(pieces), not ended)
            if not ended and self._call.queued > SEND_HIGH_BYTES:
                connection.pause()
        if self._connection is not connection:
            return
        if ended:
            self._answered(connection)
        elif self._head is not None:
            self._watch(connection, self._forwarder.sweep.now)

    def _interim(self, connection: ServiceConnection, head: ResponseHead) -> None:
        if head.status == 100:
            self._expecting = False
        self._since = self._forwarder.sweep.now
        self._watch(connection, self._forwarder.sweep.now)
        if not self._v2:
            return
        data = response_to_tunnel(head, via=self._forwarder.via)
        self._interim_bytes += len(data)
        if self._interim_bytes <= INTERIM_BYTES:
            self._tunnel.send(self._call, data, True)

    def _gather(self, pieces: list[bytes], ended: bool) -> None:
        self._gathered += pieces
        if self._body_bytes > self._forwarder.v1_body_bytes:
            self._cut()
            self._gathered.clear()
            self._fail(502, "the response is too large for version 1 of the protocol", "body-too-large")
        elif ended:
            head = self._head
            assert head is not None
            body = b"".join(self._gathered)
            self._gathered.clear()
            if body or not (self._method == b"HEAD" or head.status == 304):
                head = head._replace(length=len(body))
            self._tunnel.send(self._call, response_to_tunnel(head, via=self._forwarder.via) + body, False)

    def _answered(self, connection: ServiceConnection) -> None:
        """The response is complete, and queued for the caller."""
        head = self._head
        assert head is not None
        self._status = head.status
        connection.user = None
        connection.resume()
        self._connection = None
        if not (self._request_ended or self._asked_upgrade):
            connection.abort()
            self._linger(0.0)
            return
        if connection.http.reusable:
            self._forwarder.pool.give(connection, head.by_name.get(b"keep-alive"))
        else:
            connection.close()
        if self._request_ended:
            self._over()
        else:
            self._linger(LINGER_S)

    def _answer_is_broken(self, error: Http1Error, code: str) -> None:
        self._forwarder.trouble("The service broke HTTP: {reason}", error.message)
        self._cut()
        if self._stage is _AWAITING:
            self._gathered.clear()
            self._fail(502, "upstream unreachable", code)
        else:
            self._give_up(FAILED, error.message)

    def service_ended(self) -> None:
        """The service closed its half of the connection."""
        connection = self._connection
        assert connection is not None
        if self._stage is _UPGRADED:
            self._end_upgraded_response(connection)
        elif self._head is None:
            self.service_lost()
        else:
            connection.http.receive_eof()
            self._read(connection, ended_early=True)

    def service_lost(self) -> None:
        """The connection is gone."""
        self._cut()
        if self._stage is _UPGRADED:
            if self._response_ended:
                self._linger(0.0)
            else:
                self._give_up(FAILED, "the service broke the connection")
        elif self._stage is _ANSWERING:
            self._give_up(FAILED, "the service broke the connection")
        elif self._replay is not None and not self._got_byte:
            self._held.append(self._replay)
            self._replay = None
            self._forwarder.metrics.retried("stale")
            self._open()
        else:
            self._forwarder.trouble("The service broke the connection: {reason}", "it gave no answer")
            self._gathered.clear()
            self._fail(502, "upstream unreachable", "service-failed")

    def service_late(self, now: float) -> None:
        """The deadline passed."""
        connection = self._connection
        assert connection is not None
        due = self._service_is_due(connection)
        self._cut()
        if due or not self._v2:
            self._forwarder.trouble("The service did not answer in time", "no head" if due else "no byte")
            self._gathered.clear()
            self._fail(504, "upstream timeout", "service-timeout")
        else:
            self._give_up(TIMEOUT, f"no byte for {IDLE_S:.0f} s")

    # After an upgrade

    def _upgrade(self, connection: ServiceConnection, head: ResponseHead) -> None:
        self._stage, self._status = _UPGRADED, 101
        connection.deadline = NEVER
        self._replay = None
        self._stream.upgraded()
        rest = connection.http.take_rest()
        self._send_upgraded(connection, response_to_tunnel(head, via=self._forwarder.via) + rest)
        self._body_bytes = len(rest)
        if self._request_ended:
            self._end_upgraded_request(connection)

    def _send_upgraded(self, connection: ServiceConnection, data: bytes) -> None:
        self._body_bytes += len(data)
        self._tunnel.send(self._call, data, True)
        if self._call.queued > SEND_HIGH_BYTES:
            connection.pause()

    def _end_upgraded_request(self, connection: ServiceConnection) -> None:
        if self._response_ended:
            self._leave(connection)
        else:
            connection.end_writing()

    def _end_upgraded_response(self, connection: ServiceConnection) -> None:
        self._response_ended = True
        self._tunnel.send(self._call, b"", False)
        if self._request_ended:
            self._leave(connection)

    def _leave(self, connection: ServiceConnection) -> None:
        connection.user = None
        self._connection = None
        connection.close()
        self._over()

    # The tunnel

    def drained(self) -> None:
        """The response's queue is short again."""
        connection = self._connection
        if connection is not None:
            connection.resume()
            if self._stage is not _UPGRADED:
                self._watch(connection, self._forwarder.sweep.now)

    def reset(self, code: str, text: str) -> None:
        """The caller gave up, or broke the protocol."""
        self._drop(CLIENT_LEFT)

    def lost(self) -> None:
        """The session ended."""
        self._drop(CLIENT_LEFT)

    # Endings

    def _refuse(self, error: Http1Error | CallProtocolError) -> None:
        """The request itself is nonsense."""
        if self._v2:
            self._give_up(PROTOCOL, str(error))
            return
        self._request_ended = True
        fault = error if isinstance(error, Http1Error) else bad_request(str(error))
        self._fail(fault.status, fault.message, fault.code)

    def _fail(self, status: int, message: str, code: str) -> None:
        """Answer in the service's place; no byte of a response was sent yet."""
        forwarder = self._forwarder
        self._status = status
        self._held.clear()
        self._replay = None
        data = error_response(
            status, message, hop=forwarder.agent_id, code=code, close=False, head_only=self._method == b"HEAD"
        )
        self._tunnel.send(self._call, data, False)
        if self._request_ended:
            self._over()
        else:
            self._linger(LINGER_S if self._asked_upgrade else 0.0)

    def _give_up(self, code: str, text: str = "") -> None:
        """Reset the call."""
        if self._stage is not _OVER:
            self._tunnel.reset(self._call, code, text)
            self._drop(502)

    def _drop(self, status: int) -> None:
        """Nobody wants the response any more: let the service know."""
        if self._stage is _OVER:
            return
        if self._stage is not _LINGERING:
            self._status = status
        self._cut()
        self._held.clear()
        self._gathered.clear()
        self._replay = None
        self._over()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()

    def _cut(self) -> None:
        """Drop the connection to the service, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.user = None
            connection.abort()

    def _linger(self, patience_s: float) -> None:
        self._stage = _LINGERING
        self._lingering = Linger(self._forwarder.sweep, self._tunnel, self._call, patience_s, self._over)
        self._lingering.begin()

    def _over(self) -> None:
        if self._stage is _OVER:
            return
        if self._lingering is not None:
            self._lingering.end()
        self._stage = _OVER
        self._call.receiver = None  # no cycle is left for the collector
        forwarder = self._forwarder
        forwarder.exchanges.discard(self)
        forwarder.metrics.request_done(
            self._method, self._status, forwarder.seconds() - self._started, self._request_bytes, self._body_bytes
        )

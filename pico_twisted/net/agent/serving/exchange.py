"""One http call on its way through the agent: a request to the local service, and the response back.

What is needed. Bytes pass both ways as they come, and each side slows the other down: the service's reading of the
request decides about the caller's credit, the caller's credit about our reading of the response. Either stream may
end first. The caller may give up at any moment, and the service must see that at once.

What can go wrong. The service answers garbage, half an answer, two answers; it closes at any byte; it answers before
it has the request, or never. A kept connection may have died unnoticed. And none of that may cost more than this call.

What was chosen. Two objects of `core.agent` know what is to be written to either side; this one moves it, with a small
state (`Stage`) and no timers: the connection to the service carries the deadline. A head is sent on only together with
what was read behind it, so that an answer that turns out broken in the same read can still be a clean 502.

- *A dead kept connection* that gave no byte: the request is sent again, once, on a fresh connection, if it is
  idempotent and all that was sent is kept. For others the connection is looked at before it is used.
- *A response that ends before its request*: the caller is told *stop* once the response has left us. A reset before
  that would overtake it. The connection to the service is cut: what it would make of the rest is not known.
- *A body that the service may not have looked for*: it would be its next request, and the answer the next client's. So
  that connection serves nobody else, unless the listener says otherwise (`reuse`).
- *Credit* is given when the transport of the service takes bytes, not when they arrive.
- *Timeouts* are the node's: it resets a call that takes too long or stands still. The listener may have a shorter one
  for the service's head, from the last progress of the request. Nodes of version 1 can reset nothing: see `v1`.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pico_twisted.core.agent.service_call import COMING, ENDED, UPGRADING, ServiceRequest, ServiceResponse
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import FAILED, PROTOCOL, TIMEOUT
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.policy import Denied, MoreFields
from pico_twisted.net.agent.serving.served_call import WORDS, ConnectionCall, Stage
from pico_twisted.net.agent.serving.upgraded import UpgradedCall
from pico_twisted.net.routing.linger import CALLER_LINGER_S
from pico_twisted.net.socket.end_of_turn import TurnPieces
from pico_twisted.net.tunnel.interfaces import ICaller, IHttpReceiver

_OPENING = Stage.OPENING
_AWAITING = Stage.AWAITING
_ANSWERING = Stage.ANSWERING
_LINGERING = Stage.LINGERING
_OVER = Stage.OVER


@implementer(IHttpReceiver)
class Exchange(ConnectionCall):
    """Serves one http call.

    Args:
        service: serves it.
        tunnel: the session that the call is on.
        call: the call.
    """

    _service: Http1Service
    _default_timeout_s: ClassVar[float] = NEVER  # for the service's head, if the listener has none
    _idle_s: ClassVar[float] = NEVER  # for any byte either way

    def __init__(self, service: Http1Service, tunnel: ICaller, call: Call) -> None:
        request = ServiceRequest(tunnel.dialect.read_request(REQUEST_LIMITS), tunnel.capabilities)
        super().__init__(service, tunnel, call, request, ServiceResponse(request, service.response_edits))
        self._since = 0.0  # the last progress of the request
        self._held: list[bytes] = []  # for the service, until there is a connection
        self._pieces: TurnPieces | None = None  # of a request in chunks

    # The request

    def begin(self, payload: bytes, more: bool, *, granted: int | None = None) -> None:
        """Take the call's first frame.

        Args:
            payload: of the frame.
            more: further frames follow.
            granted: of a call that was begun elsewhere, bytes of the payload for which its caller has credit again. The
                policy of the listener has let it in.
        """
        service = self._service
        request = self._request
        try:
            data = request.begin(payload, more, host=service.host, edits=service.request_edits)
            waits = None if service.policy is None or granted is not None else service.policy.judge(self._call, request)
            if service.places is not None:
                waits = service.places.behind(waits, self._call, request.client)
        except (Http1Error, CallProtocolError) as error:
            self._refuse(error)
            return
        except Denied as denied:
            self._fail(*denied.answer)
            return
        if request.chunked and service.end_of_turn is not None:
            self._pieces = TurnPieces(service.end_of_turn, self._take)
        self._since = service.sweep.now
        self._owed = len(payload) - (granted or 0)
        connection = None if waits else service.take(request, surely=request.replay is None or more)
        if connection is None:
            self._open(data, waits)
        else:
            self._use(connection, data)

    def _open(self, data: bytes, waits: Deferred[None] | None = None) -> None:
        """Send the request so far, and what comes meanwhile, on a fresh connection, once the policy says so."""
        self._stage = _OPENING
        self._held.append(data)
        opening = self._fresh() if waits is None else waits.addCallback(lambda _: self._let_in())
        self._opening = opening
        opening.addCallbacks(self._opened, self._unreachable).addErrback(self._broken)

    def _let_in(self) -> ServiceConnection | Deferred[ServiceConnection]:
        """It has waited, and may use a connection."""
        request = self._request
        return self._service.take(request, surely=request.replay is None or request.body is not ENDED) or self._fresh()

    def _fresh(self) -> Deferred[ServiceConnection]:
        self._request.replay = None
        return self._dial()

    def _opened(self, connection: ServiceConnection) -> None:
        self._opening = None
        data = b"".join(self._held)
        self._held.clear()
        self._use(connection, data)

    def _use(self, connection: ServiceConnection, data: bytes) -> None:
        request = self._request
        self._stage = _AWAITING
        self._connection = connection
        if request.client_connection:
            self._service.keep_for(connection, request.client_connection)
        connection.user = self
        connection.http.expect(request.method, upgrade=request.upgrade_asked)
        connection.write(data)
        self._watch(connection, self._since)
        if connection.writable:
            owed, self._owed = self._owed, 0
            self._tunnel.consumed(self._call, owed)

    def frame(self, payload: bytes, more: bool) -> None:
        """A further frame of the request (ICallReceiver)."""
        pieces = self._pieces
        if pieces is None:
            self._take(payload, more)
        elif more:
            pieces.add(payload)
        else:
            self._take(pieces.take() + payload, False)

    def trailers(self, block: bytes) -> None:
        """The request has ended with trailers (IHttpReceiver)."""
        if self._pieces is not None:
            self._pieces.flush()
        self._take(block, False, ends=True)

    def _take(self, payload: bytes, more: bool = True, ends: bool = False) -> None:
        stage = self._stage
        if stage is _LINGERING or stage is _OVER:
            if not more:
                self._over()
            return
        try:
            data = self._request.end(payload) if ends else self._request.feed(payload, more)
        except (Http1Error, CallProtocolError) as error:
            self._give_up(PROTOCOL, str(error))
            return
        now = self._since = self._service.sweep.now
        self._owed += len(payload)
        connection = self._connection
        if connection is None:
            self._held.append(data)
            return
        if data:
            connection.write(data)
        self._watch(connection, now)
        if connection.writable:
            owed, self._owed = self._owed, 0
            self._tunnel.consumed(self._call, owed)

    def _service_is_due(self, connection: ServiceConnection) -> bool:
        """Whether the service has the next say, or is to take what we have for it: not the caller."""
        return self._request.body is not COMING or not connection.writable

    def _watch(self, connection: ServiceConnection, since: float) -> None:
        """Something moved: set the deadline of the service's head, or of a silent stream."""
        due = self._response.head is None and self._service_is_due(connection)
        timeout_s = self._service.timeout_s
        if not due:
            timeout_s = self._idle_s
        elif timeout_s is None:
            timeout_s = self._default_timeout_s
        connection.deadline = since + timeout_s

    # The service

    def service_took(self) -> None:
        """The service's transport wrote what it had."""
        now = self._service.sweep.now
        owed, self._owed = self._owed, 0
        if owed:
            self._since = now
            self._tunnel.consumed(self._call, owed)
        connection = self._connection
        if connection is not None:
            self._watch(connection, now)

    def service_data(self, data: bytes) -> None:
        """Bytes of the response, or none at its end."""
        connection = self._connection
        assert connection is not None
        self._request.replay = None
        response = self._response
        connection.http.receive(data)
        try:
            payload = response.read(connection.http)
            while payload is not None and response.head is None:
                if payload:
                    self._send_interim(payload)
                self._since = self._service.sweep.now
                self._watch(connection, self._since)
                payload = response.read(connection.http)
        except Http1Error as error:
            self._answer_is_broken(error, "bad-response" if data else "service-failed")
            return
        if response.head is None or self._connection is not connection:
            return
        if self._stage is _AWAITING:
            health = self._service.health
            if health is not None and health.judge.failures:
                health.answered(self._started)
        if payload is None:
            self._watch(connection, self._service.sweep.now)
        elif response.ended:
            self._tunnel.send(self._call, payload, bool(response.trailers))
            if response.trailers:
                self._tunnel.send_trailers(self._call, response.trailers)
            if self._connection is connection:
                self._answered(connection, response.head)
        elif response.head.status == 101:
            self._upgrade(connection, payload)
        else:
            self._stage = _ANSWERING
            self._send(connection, payload)
            if self._connection is connection:
                self._watch(connection, self._service.sweep.now)

    def _upgrade(self, connection: ServiceConnection, data: bytes) -> None:
        """The service changes the protocol: hand the call on."""
        self._stage = _OVER
        self._connection = None
        upgraded = UpgradedCall(self, connection)
        connection.user = self._call.receiver = upgraded
        self._service.calls.discard(self)
        self._service.calls.add(upgraded)
        upgraded.begin(data)

    def _answered(self, connection: ServiceConnection, head: ResponseHead) -> None:
        """The response is complete, and queued for the caller."""
        self._status = head.status
        self._connection = None
        connection.user = None
        if connection.paused:
            connection.resume()
        request = self._request
        body = request.body
        if body is not ENDED and body is not UPGRADING:
            connection.abort()
            self._linger(0.0)
            return
        special = head.special
        asks = request.authenticates or b"www-authenticate" in special or b"proxy-authenticate" in special
        doubtful = asks or request.chunked or request.body_bytes
        if connection.http.reusable and (not doubtful or self._service.keeps(connection, request, self._response)):
            self._service.give(connection, special.get(b"keep-alive"))
        else:
            connection.close()
        if body is ENDED:
            self._over()
        else:
            self._linger(CALLER_LINGER_S)

    def _answer_is_broken(self, error: Http1Error, code: str) -> None:
        self._trouble("The service broke HTTP: {reason}", error.message)
        self._cut()
        if self._stage is _AWAITING:
            self._fail(502, WORDS[code], code)
        else:
            self._give_up(FAILED, error.message)

    def service_ended(self) -> None:
        """The service closed its half of the connection."""
        connection = self._connection
        assert connection is not None
        if self._response.head is None:
            self.service_lost()
        else:
            connection.http.receive_eof()
            self.service_data(b"")

    def service_lost(self) -> None:
        """The connection is gone."""
        self._cut()
        if self._stage is not _AWAITING:
            self._trouble("The service broke the connection: {reason}", "it was in the middle of its response")
            self._give_up(FAILED, "the service broke the connection")
        elif self._request.replay is not None:
            self._service.metrics.retried("stale")
            self._open(self._request.replay)
        else:
            self._trouble("The service broke the connection: {reason}", "it gave no answer")
            self._service.answerless(self._started, "it breaks connections without an answer")
            self._fail(502, WORDS["service-failed"], "service-failed")

    def service_late(self, now: float) -> None:
        """The deadline passed."""
        connection = self._connection
        assert connection is not None
        due = self._stage is _AWAITING and self._service_is_due(connection)
        self._cut()
        if due:
            reason = "no head" if self._response.head is None else "no byte"
            self._trouble("The service did not answer in time", reason)
            self._fail(504, WORDS["service-timeout"], "service-timeout")
        else:
            self._give_up(TIMEOUT, f"no byte for {self._idle_s:.0f} s")

    def drained(self) -> None:
        """The response's queue is short again (ICallReceiver)."""
        connection = self._connection
        if connection is not None:
            connection.resume()
            self._watch(connection, self._service.sweep.now)

    # Endings

    def _fail(self, status: int, message: str, code: str, fields: MoreFields = ()) -> None:
        self._held.clear()
        super()._fail(status, message, code, fields)

    def _drop(self, status: int) -> None:
        self._held.clear()
        super()._drop(status)

"""One http call as a stream of a connection to the local service that other calls share.

It does what an `Exchange` does over HTTP/1.1, and answers in the same words. What differs:

- *Waiting.* A call waits for a stream; what comes of the request meanwhile is kept: as much as its caller has credit.
- *Again.* What the service says it has not looked at is sent again, whatever the method: a stream that was refused, or
  is above the last one of a GOAWAY (RFC 9113 8.7). When the connection dies, only what may be done twice is.
- *Slowness.* Bytes that wait for the service's window get no credit; and the stream's window is opened for the service
  as the caller takes what came.
- *Giving up* is a reset of the stream, at once.
- *Expect.* Many services say no 100 over HTTP/2, nginx for one, and clients of HTTP/2 expect none. A client of HTTP/1.1
  may wait a second for it. So it is said here when the service has said nothing for a moment.
"""

from __future__ import annotations

from typing import ClassVar, Final

from zope.interface import implementer

from pico_twisted.core.agent.http2_call import code_name
from pico_twisted.core.agent.service_call import COMING, ENDED, EXPECTING, UPGRADING
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.trailers import TrailersError
from pico_twisted.core.http2.events import (
    CANCEL,
    HTTP_1_1_REQUIRED,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    WireFields,
)
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import FAILED, PROTOCOL, TIMEOUT
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.agent.serving.http2.connection import SharedConnection
from pico_twisted.net.agent.serving.http2.service import Http2Service
from pico_twisted.net.agent.serving.http2.waiting import WaitingHttp2Call
from pico_twisted.net.agent.serving.served_call import WORDS, Stage
from pico_twisted.net.routing.linger import CALLER_LINGER_S
from pico_twisted.net.tunnel.interfaces import ICaller, IHttpReceiver

MOST_STREAMS_TRIED: Final = 3
"""Most streams on which a call is begun: a service that refuses them all has had its say."""
EXPECT_S: Final = 0.1
"""Seconds that a service has to say 100, or that it does not want the body."""
MOST_LOST: Final = 1
"""How often a request that may be done twice is sent again when its connection died, as over HTTP/1.1."""


@implementer(IHttpReceiver)
class Http2Call(WaitingHttp2Call):
    """Serves one http call.

    Args:
        service: serves it.
        tunnel: the session that the call is on.
        call: the call.

    Attributes:
        stream: its number on the connection; of no meaning while it waits for one.
        deadline: for the service's head, or for any byte.
    """

    _default_timeout_s: ClassVar[float] = NEVER  # for the service's head, if the listener has none
    _idle_s: ClassVar[float] = NEVER  # for any byte either way

    def __init__(self, service: Http2Service, tunnel: ICaller, call: Call) -> None:
        super().__init__(service, tunnel, call)
        self.stream = 0
        self.deadline = NEVER
        self._connection: SharedConnection | None = None
        self._timeout_s = self._default_timeout_s if service.timeout_s is None else service.timeout_s
        self._since = 0.0  # the last progress of the request
        self._lost = 0
        self._pieces: list[bytes] = []  # of the response, until all that came in one read was told
        self._unopened = 0  # bytes of the response that the service's window was not opened for

    # The request

    def _begun(self) -> None:
        self._since = self._service.sweep.now
        if self._timeout_s is not NEVER:
            self._service.sweep.add(self)
            self._watch()

    def _watch_no_more(self) -> None:
        self._service.sweep.discard(self)

    def start(self, connection: SharedConnection) -> None:
        """Send the request so far (`WaitingCall`)."""
        service, request = self._service, self._request
        if request.websocket and not connection.takes_websockets:
            self._fail(501, "the service takes no WebSockets over HTTP/2", "no-websocket")
            return
        body = request.body_so_far()
        ended = request.body is ENDED or (request.body is UPGRADING and not request.websocket)
        fields = request.fields(service.scheme, service.host, service.grpc)
        last = request.last_fields
        connection.open(self, fields, body, ended and not last)
        if last:
            connection.end_with(self, last)
        self._connection = connection
        self._stage = Stage.AWAITING
        self._streams_tried += 1
        if not body:
            self.queue_is(0)
        if request.body is EXPECTING:
            service.sweep.add(self)
            self._since = service.sweep.now
        self._watch()

    def frame(self, payload: bytes, more: bool) -> None:
        """A further frame of the request (IHttpReceiver)."""
        stage, connection, request = self._stage, self._connection, self._request
        if stage is Stage.LINGERING or stage is Stage.OVER:
            if not more:
                self._over()
            return
        was_whole = request.body is UPGRADING and not request.websocket
        try:
            request.feed(payload, more, waits=connection is None)
        except (Http1Error, CallProtocolError) as error:
            self._give_up(PROTOCOL, str(error))
            return
        self._since = self._service.sweep.now
        self._owed += len(payload)
        if connection is not None and not was_whole:
            connection.send(self, payload, not more or (request.body is UPGRADING and not request.websocket))
            if stage is Stage.HALF_UPGRADED and not more:
                self._over()
                return
        self._watch()

    def trailers(self, block: bytes) -> None:
        """The request has ended with trailers (IHttpReceiver)."""
        connection, request = self._connection, self._request
        if self._stage is Stage.LINGERING or self._stage is Stage.OVER:
            self._over()
            return
        try:
            request.end(block)
        except CallProtocolError as error:
            self._give_up(PROTOCOL, str(error))
            return
        if connection is not None:
            if last := request.last_fields:
                connection.end_with(self, last)
            else:
                connection.send(self, b"", True)
        self._watch()

    def queue_is(self, waiting: int) -> None:
        """So many bytes of the request wait for the service (`StreamUser`)."""
        taken = self._owed - waiting
        if taken > 0:
            self._owed = waiting
            self._since = self._service.sweep.now
            self._watch()
            self._tunnel.consumed(self._call, taken)

    @property
    def _service_is_due(self) -> bool:
        """Whether the service has the next say, or is to take what we have for it: not the caller."""
        return self._response.head is None and (self._request.body is not COMING or self._owed > 0)

    def _watch(self) -> None:
        """Something moved: set the deadline of the service's head, or of a silent stream."""
        if self._request.body is EXPECTING and self._stage is Stage.AWAITING:
            self.deadline = self._since + EXPECT_S
        else:
            self.deadline = self._since + (self._timeout_s if self._service_is_due else self._idle_s)

    # The response

    def interim_came(self, fields: WireFields) -> None:
        """An interim head (`StreamUser`)."""
        try:
            head = self._response.interim(fields, self._service.head_limits)
        except Http1Error as error:
            self._answer_is_broken(error.message)
            return
        self._send_interim(head)
        self._since = self._service.sweep.now
        self._watch()

    def head_came(self, fields: WireFields, ended: bool) -> None:
        """The final head (`StreamUser`)."""
        self._request.kept = None
        health = self._service.health
        if health is not None and health.judge.failures:
            health.answered(self._started)
        try:
            self._pieces.append(self._response.begin(fields, self._service.head_limits))
        except Http1Error as error:
            self._answer_is_broken(error.message)
            return
        self._response.ended = ended

    def data_came(self, data: bytes, ended: bool) -> None:
        """A piece of the body (`StreamUser`)."""
        self._response.body_bytes += len(data)
        self._response.ended = ended
        self._unopened += len(data)
        self._pieces.append(data)

    def trailers_came(self, fields: WireFields) -> None:
        """The end of the response (`StreamUser`)."""
        try:
            self._response.end(fields)
        except TrailersError as error:
            self._answer_is_broken(str(error))

    def read_is_over(self) -> None:
        """Send on what came (`StreamUser`)."""
        response = self._response
        if response.head is None or self._stage is Stage.LINGERING or self._stage is Stage.OVER:
            return
        payload = b"".join(self._pieces)
        self._pieces.clear()
        if not response.ended:
            self._stage = Stage.UPGRADED if response.head.status == 101 else Stage.ANSWERING
            self._tunnel.send(self._call, payload, True)
            self.drained()
        elif response.head.status == 101:
            self._tunnel.send(self._call, payload, False)
            self._half_closed()
        else:
            self._send_last(payload)
            self._answered(response.head.status)

    def _send_last(self, payload: bytes) -> None:
        """Send the end of the response."""
        trailers = self._response.trailers
        self._tunnel.send(self._call, payload, bool(trailers))
        if trailers:
            self._tunnel.send_trailers(self._call, trailers)

    def drained(self) -> None:
        """The caller takes more: so may the service send (IHttpReceiver)."""
        self._since = self._service.sweep.now
        self._watch()
        connection = self._connection
        if connection is not None and self._unopened and self._call.queued <= SEND_HIGH_BYTES:
            unopened, self._unopened = self._unopened, 0
            connection.took(self, unopened)

    def _half_closed(self) -> None:
        """The service ended its half of a WebSocket."""
        self._status = 101
        self._stage = Stage.HALF_UPGRADED
        if self._request.body is ENDED:
            self._leave(NO_ERROR)
            self._over()
        elif self._connection is None:  # its stream is over, too
            self._linger(0.0)

    def _answered(self, status: int) -> None:
        """The response is complete, and queued for the caller."""
        self._status = status
        self._leave(NO_ERROR)
        body = self._request.body
        if body is ENDED:
            self._over()
        else:
            self._linger(CALLER_LINGER_S if body is UPGRADING else 0.0)

    def _answer_is_broken(self, reason: str) -> None:
        self._trouble("The service broke HTTP: {reason}", reason)
        self._leave(PROTOCOL_ERROR)
        if self._stage is Stage.AWAITING:
            self._fail(502, WORDS["bad-response"], "bad-response")
        else:
            self._give_up(FAILED, reason)

    def stream_closed(self, code: int, broken: bool) -> None:
        """The stream is over (`StreamUser`)."""
        if self._response.ended:
            self._leave(NO_ERROR)
            if self._stage is Stage.HALF_UPGRADED:
                self._linger(0.0)
            return
        connection = self._connection
        self._leave(NO_ERROR)
        name = code_name(code)
        if broken:
            self._answer_is_broken("a message that is not valid in HTTP/2")
        elif self._stage is not Stage.AWAITING:
            self._trouble("The service broke a stream: {reason}", f"{name} in the middle of its response")
            self._give_up(FAILED, f"the service broke the stream: {name}")
        elif code == REFUSED_STREAM and self._may_go_again:
            if connection is not None:
                connection.refused()
            self._again("stream-refused")
        elif code == HTTP_1_1_REQUIRED and self._request.kept is not None and self._service.http1 is not None:
            self._service.metrics.retried("http1-required")
            self.hand_over(self._service.http1)  # this one alone: others may need HTTP/2
        elif code in (REFUSED_STREAM, HTTP_1_1_REQUIRED) and self._request.kept is not None:
            # Nothing was done with it: the node may look for somebody else.
            self._trouble("The service broke a stream: {reason}", name)
            self._fail(502, "the service refuses the request", "service-unreachable")
        else:
            self._trouble("The service broke a stream: {reason}", f"{name} in place of an answer")
            self._fail(502, "the service gave the request up", "service-failed")

    @property
    def _may_go_again(self) -> bool:
        return self._request.kept is not None and self._streams_tried < MOST_STREAMS_TRIED

    def _again(self, reason: str) -> None:
        """Send the request once more, all of which is kept."""
        self._service.metrics.retried(reason)
        self._stage = Stage.OPENING
        self._pieces.clear()
        self._enter()

    def connection_lost(self, why: str) -> None:
        """The connection is gone (`StreamUser`)."""
        self._leave(NO_ERROR)
        if self._stage is Stage.HALF_UPGRADED:
            self._linger(0.0)
        elif self._stage is not Stage.AWAITING:
            self._trouble("The service broke the connection: {reason}", f"{why} in the middle of a response")
            self._give_up(FAILED, "the service broke the connection")
        elif self._request.idempotent and self._request.kept is not None and self._lost < MOST_LOST:
            self._lost += 1
            self._again("stale")
        else:
            self._trouble("The service broke the connection: {reason}", f"{why} before an answer came")
            self._service.answerless(self._started, "it breaks connections without an answer")
            self._fail(502, WORDS["service-failed"], "service-failed")

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep."""
        if self._request.body is EXPECTING and self._stage is Stage.AWAITING:
            self._send_interim(self._response.continued())
            self._watch()
            return
        due, opening = self._service_is_due, self._stage is Stage.OPENING
        self._cut()
        if due:
            self._trouble("The service did not answer in time", "no stream was free" if opening else "no head")
            self._fail(504, WORDS["service-timeout"], "service-timeout")
        else:
            self._give_up(TIMEOUT, f"no byte for {self._idle_s:.0f} s")

    # Endings

    def _leave(self, code: int) -> None:
        """The stream is of no use any more, if it is not over."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave_stream(self, code)

    def _cut(self) -> None:
        """See `ServedCall`."""
        self._service.leave(self)
        self._leave(CANCEL)

    def _linger(self, patience_s: float) -> None:
        self._watch_no_more()
        super()._linger(patience_s)

    def _over(self) -> None:
        super()._over()
        self._pieces.clear()

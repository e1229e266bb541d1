"""A call that a local service serves: what is the same whatever the service speaks, and how the call ends."""

from __future__ import annotations

import abc
import enum
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from pico_twisted.core.agent.service_call import (
    ENDED,
    UPGRADING,
    CallRequest,
    CallResponse,
    ServiceRequest,
    ServiceResponse,
)
from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.streams import never_ends
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import FAILED, PROTOCOL, TIMEOUT
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.core.rpc.interim import InterimHeads
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.local_service import LocalService
from pico_twisted.net.agent.serving.own_connections import OwnConnections
from pico_twisted.net.agent.serving.policy import Denied, MoreFields
from pico_twisted.net.observe.access_log import LoggedRequest
from pico_twisted.net.observe.metrics.requests import FAILED_FROM
from pico_twisted.net.observe.requests import CLIENT_LEFT
from pico_twisted.net.observe.tracing import HopSpan
from pico_twisted.net.routing.linger import CALLER_LINGER_S, Linger
from pico_twisted.net.tunnel.interfaces import ICaller

log = Logger()

WORDS: Final = {
    "service-unreachable": "the service cannot be reached",
    "service-failed": "the service closed the connection without a response",
    "bad-response": "the response of the service is not valid HTTP",
    "service-timeout": "the service did not respond in time",
}
"""What is wrong, for the client, by the code of our answer."""

PATIENT_S: Final = 3.0
"""Seconds after which a connection that is not there counts as one that was not to be had, if the caller leaves then:
many clients are less patient than `CONNECT_TIMEOUT_S`."""


class Stage(enum.Enum):
    """Where in its life a call is. Each leads to the next ones or to OVER; a retry leads back from AWAITING."""

    OPENING = enum.auto()  # no connection to the service yet
    AWAITING = enum.auto()  # nothing of the final response was sent to the caller
    ANSWERING = enum.auto()  # its body is coming
    UPGRADED = enum.auto()  # raw bytes both ways
    HALF_UPGRADED = enum.auto()  # raw bytes to the service, which has closed its half
    LINGERING = enum.auto()  # the response has ended, the request has not, and goes nowhere
    OVER = enum.auto()


_OVER = Stage.OVER


class ServedCall(abc.ABC):
    """What all calls share.

    Args:
        service: serves it.
        tunnel, call: of the caller.
        request, response: what came and went so far.
    """

    _error = ""  # the code of what went wrong
    span: HopSpan | None = None  # of one that is recorded
    _stage = Stage.OPENING
    _status = 0  # what it is counted with
    _lingering: Linger | None = None
    _interims: InterimHeads | None = None  # of a response that has some

    def __init__(
        self, service: LocalService, tunnel: ICaller, call: Call, request: CallRequest, response: CallResponse
    ) -> None:
        self._service = service
        self._tunnel = tunnel
        self._call = call
        self._request = request
        self._response = response
        self._started = service.clock.seconds()
        self._owed = 0  # payload that came, and was not taken by the service's transport yet

    @property
    def never_ends(self) -> bool:
        """Whether its response has begun, and goes on until somebody cuts it."""
        head = self._response.head
        return head is not None and never_ends(head)

    def shut(self) -> None:
        """The agent stops: cut the response, for the caller and for the service."""
        self._give_up(FAILED, "the agent stops")

    @property
    def held_bytes(self) -> int:
        """Bytes of the response that are kept from the caller."""
        return 0

    def reset(self, code: str, text: str) -> None:
        """The caller gave up, or broke the protocol (ICallReceiver)."""
        if code == TIMEOUT and self._stage is Stage.AWAITING:
            self._trouble("The service did not answer in time", "the node waits no longer")
            self._drop(504)
            return
        if code == PROTOCOL:
            self._trouble("The node refused the response: {reason}", text)
        self._drop(CLIENT_LEFT)

    def lost(self) -> None:
        """The session ended (ICallReceiver)."""
        self._drop(CLIENT_LEFT)

    def _send_interim(self, head: bytes) -> None:
        """Send an interim head on, if it goes on."""
        if self._interims is None:
            self._interims = InterimHeads(self._tunnel.capabilities)
        if self._interims.passes(head, self._call.queued, self._service.sweep.now):
            self._tunnel.send(self._call, head, True)

    def _trouble(self, message: str, reason: str) -> None:
        self._service.trouble(message, reason, self._request.request_id)
        self._tell_inspector(message.format(reason=reason) if "{" in message else f"{message}: {reason}")

    def _tell_inspector(self, words: str) -> None:
        """What went wrong, for whoever looks at this call."""
        if self._service.inspector is not None:
            self._service.inspector.trouble(self._call, words)

    def _refuse(self, error: Http1Error | CallProtocolError) -> None:
        """The request itself is nonsense."""
        self._give_up(PROTOCOL, str(error))

    def _fail(self, status: int, message: str, code: str, fields: MoreFields = ()) -> None:
        """Answer in the service's place; no byte of a response was sent yet."""
        request = self._request
        self._status = status
        self._error = code
        self._tell_inspector(message)
        data = error_response(
            status,
            message,
            hop=self._service.agent_id,
            code=code,
            close=False,
            head_only=request.method == b"HEAD",
            date=datetimeToString(),
            extra=fields,
        )
        self._tunnel.send(self._call, data, False)
        if request.body is ENDED:
            self._over()
        else:
            self._linger(CALLER_LINGER_S if request.body is UPGRADING else 0.0)

    def _broken(self, failure: Failure) -> None:
        log.failure("A call failed by a fault of ours", failure)
        self._give_up(FAILED)

    def _give_up(self, code: str, text: str = "") -> None:
        """Reset the call."""
        if self._stage is not Stage.OVER:
            self._error = code
            if text:
                self._tell_inspector(text)
            self._tunnel.reset(self._call, code, text)
            self._drop(502)

    def _drop(self, status: int) -> None:
        """The response is not wanted any more: let the service know."""
        if self._stage is not Stage.LINGERING:
            self._status = status
        self._cut()
        self._over()

    @abc.abstractmethod
    def _cut(self) -> None:
        """Let the service know that nothing more is wanted of it. Idempotent."""

    def _linger(self, patience_s: float) -> None:
        """The caller need not go on, and is told so unless it ends its stream in that time."""
        self._stage = Stage.LINGERING
        self._lingering = Linger(self._service.sweep, self._tunnel, self._call, patience_s, self._over)
        self._lingering.begin()

    def _over(self) -> None:
        if self._stage is _OVER:
            return
        self._stage = _OVER
        if self._lingering is not None:
            self._lingering.end()
        self._call.receiver = None  # no cycle is left for the collector
        service = self._service
        service.calls.discard(self)
        if service.policy is not None:
            service.policy.leave(self._call)
        if service.places is not None:
            service.places.leave(self._call)
        if service.inspector is not None:
            service.inspector.over(self._call, self._status, self._error)
        took_s = service.clock.seconds() - self._started
        request = self._request
        service.metrics.request_done(
            request.method, self._status, took_s, request.body_bytes, self._response.body_bytes
        )
        if self.span is not None:
            self.span.end(service.endpoint, self._status, self._error)
        if self._error:
            service.metrics.service_failed(self._error)
        wanted = self._status >= FAILED_FROM or self._error or service.requests.wants_all
        if wanted and (told := self.so_far()) is not None:
            service.requests.request(False, told)

    def so_far(self) -> LoggedRequest | None:
        """What can be told of it now, of one in progress what can be told by now; None before its head has come."""
        request, response, service = self._request, self._response, self._service
        if request.head is None:
            return None
        return {
            "client": request.client,
            "proxies": b"",
            "method": request.method,
            "target": request.head.target,
            "endpoint": service.endpoint,
            "upstream": service.addr,
            "status": self._status or (0 if response.head is None else response.head.status),
            "bytes_in": request.body_bytes,
            "bytes_out": response.body_bytes,
            "first_byte_s": None,
            "duration_s": service.clock.seconds() - self._started,
            "request_id": request.request_id,
            "error": self._error,
            "protocol": "HTTP/1.1" if request.head.version_11 else "HTTP/1.0",
            "fields": request.head.by_name,
            "subject": "",
        }


class ConnectionCall(ServedCall):
    """A call that has a connection to the service for itself: what an `Exchange` and an `UpgradedCall` share."""

    _request: ServiceRequest
    _response: ServiceResponse
    _connection: ServiceConnection | None = None
    _asked_at = NEVER  # when a connection was wanted, by the clock
    _opening: Deferred[ServiceConnection] | None = None

    _service: OwnConnections

    def _dial(self) -> Deferred[ServiceConnection]:
        """Open a connection."""
        self._asked_at = self._service.clock.seconds()
        return self._service.open(self._request)

    def _unreachable(self, failure: Failure) -> None:
        self._opening = None
        if self._stage is Stage.OVER:
            return  # the attempt was cancelled
        if isinstance(failure.value, Denied):
            self._fail(*failure.value.answer)
            return
        self._tell_inspector(self._service.unreachable(failure, self._asked_at))
        self._fail(502, WORDS["service-unreachable"], "service-unreachable")

    def _drop(self, status: int) -> None:
        super()._drop(status)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            if self._service.clock.seconds() - self._asked_at >= PATIENT_S:
                self._service.answerless(self._asked_at, "it takes no connections")

    def _send(self, connection: ServiceConnection, data: bytes) -> None:
        """Send on what the service said, and read no more of it than the caller takes."""
        self._tunnel.send(self._call, data, True)
        if self._call.queued > SEND_HIGH_BYTES:
            connection.pause()

    def _cut(self) -> None:
        """Drop the connection to the service, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.user = None
            connection.abort()

"""A call for a service of HTTP/2 until it has a stream: it is judged, it waits, it may become one of HTTP/1.1."""

from __future__ import annotations

import abc

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pico_twisted.core.agent.http2_call import Http2Request, Http2Response
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.net.agent.serving.exchange import Exchange
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.http2.connection import SharedConnection
from pico_twisted.net.agent.serving.http2.service import Http2Service
from pico_twisted.net.agent.serving.policy import Denied
from pico_twisted.net.agent.serving.queue import TOO_MANY, busy
from pico_twisted.net.agent.serving.served_call import WORDS, ServedCall, Stage
from pico_twisted.net.agent.serving.v1 import WholeExchange
from pico_twisted.net.tunnel.interfaces import ICaller


class WaitingHttp2Call(ServedCall):
    """A call that wants a stream.

    Args:
        service: serves it.
        tunnel: the session that the call is on.
        call: the call.
    """

    _service: Http2Service
    _request: Http2Request
    _response: Http2Response
    _tunnel: ICaller

    def __init__(self, service: Http2Service, tunnel: ICaller, call: Call) -> None:
        request = Http2Request(tunnel.dialect.read_request(REQUEST_LIMITS), tunnel.capabilities)
        super().__init__(service, tunnel, call, request, Http2Response(request, service.response_edits))
        self._admission: Deferred[None] | None = None
        self._streams_tried = 0

    def begin(self, payload: bytes, more: bool) -> None:
        """Take the call's first frame.

        Args:
            payload: of the frame.
            more: further frames follow.
        """
        service, request = self._service, self._request
        try:
            request.begin(payload, more, service.request_edits)
            waits = None if service.policy is None else service.policy.judge(self._call, request)
        except (Http1Error, CallProtocolError) as error:
            self._refuse(error)
            return
        except Denied as denied:
            self._fail(*denied.answer)
            return
        self._owed = len(payload)
        self._begun()
        if waits is None:
            self._enter()
        else:
            self._admission = waits
            waits.addCallbacks(lambda _: self._enter(), self._not_admitted)
            waits.addErrback(self._broken)

    def _not_admitted(self, failure: Failure) -> None:
        if self._stage is not Stage.OVER:  # else it was cancelled
            error = failure.value
            if not isinstance(error, Denied):
                failure.raiseException()
            self._fail(*error.answer)

    def _enter(self) -> None:
        """Get a stream, now or later."""
        service, request = self._service, self._request
        http1 = service.http1
        own_connection = request.upgrade_asked or request.authenticates or request.client_connection
        if http1 is not None and own_connection:
            self.hand_over(http1)
        elif not service.enter(self, surely=not request.idempotent):
            self.turned_away(TOO_MANY)

    @property
    def client(self) -> str:
        """The address of its client (`WaitingCall`)."""
        return self._request.client

    def turned_away(self, words: str) -> None:
        """It may not wait (`WaitingCall`)."""
        self._fail(*busy(words).answer)

    def hand_over(self, http1: Http1Service) -> None:
        """The call goes on as one of HTTP/1.1 (`WaitingCall`)."""
        call, service, request = self._call, self._service, self._request
        kept = request.kept
        assert kept, "nothing of a response came, and who waits has all of its request"
        payload, more = b"".join(piece for piece, _ in kept), kept[-1][1] or bool(request.trailers)
        self._stage = Stage.OVER
        self._watch_no_more()
        make = Exchange if self._tunnel.dialect.whole_body_bytes is None else WholeExchange
        exchange = make(http1, self._tunnel, call)
        service.calls.discard(self)
        service.calls.add(exchange)
        call.receiver = exchange
        exchange.begin(payload, more, granted=len(payload) - self._owed)
        if request.trailers:
            exchange.trailers(request.trailers)

    def unreachable(self, words: str) -> None:
        """No connection to the service could be made, and why not (`WaitingCall`)."""
        self._tell_inspector(words)
        self._fail(502, WORDS["service-unreachable"], "service-unreachable")

    @abc.abstractmethod
    def start(self, connection: SharedConnection) -> None:
        """Send the request so far (`WaitingCall`)."""

    @abc.abstractmethod
    def _begun(self) -> None:
        """The request has begun: watch over it from here on."""

    @abc.abstractmethod
    def _watch_no_more(self) -> None:
        """What is to come has no deadline."""

    def _over(self) -> None:
        super()._over()
        self._request.kept = None
        self._watch_no_more()
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.cancel()

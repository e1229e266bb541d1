"""One request on its way through a node: choose, call, try again, time out, copy.

A `RoutedRequest` stands between a downstream (where the request came from: `IDownstream`) and one pending call at a
time (where it goes). It knows no channel, no socket and no version of the protocol.

What can go wrong, and what is done. The tunnel that was chosen dies, refuses, or cannot reach its service: another
one is tried, at most twice, if the call certainly reached no service, or if doing it twice does no harm (an idempotent
method) and the body is still here to be sent again. A service answers before it has the whole request: the response
goes on its way, and so does the rest of the request until one side says stop. A client leaves: the call is reset, so
that the service hears of it. A response is cut short: so is the client's.

The timer bounds waiting, never a transfer: until the response begins it runs from the last progress of the request's
body, and while the client is the one who is waited for, the idle limit holds instead. This hop waits one second
longer than the hop behind it, so that the one who knows most answers.
"""

from __future__ import annotations

import math
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.http1.target import IDEMPOTENT
from pico_twisted.core.rpc.call import WINDOW_BYTES
from pico_twisted.core.rpc.frames import CANCELLED, FAILED, PROTOCOL, REFUSED_NOT_HERE, TIMEOUT
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.routing.interfaces import CallFailed, IDownstream, IPendingCall, IResponseSink, IRoute
from pico_twisted.net.routing.refusals import (
    NO_UPSTREAMS,
    REQUEST_TIMEOUT,
    SERVICE_UNREACHABLE,
    UPSTREAM_TIMEOUT,
    code_of_agent,
    code_of_nowhere,
    code_of_reset,
    refusal,
)
from pico_twisted.net.routing.response import Response
from pico_twisted.net.routing.settings import RoutingSettings

log = Logger()

MAX_RETRIES: Final = 2
"""Most times that one request is made again after its first call failed."""
HOP_MARGIN_S: Final = 1.0
"""Seconds that a hop waits longer for a response than the hop behind it."""

_AWAITED = Response.AWAITED
_BODY = Response.BODY
_UPGRADED = Response.UPGRADED
_OVER = Response.OVER


@implementer(IResponseSink)
class RoutedRequest:
    """One request on its way, from `start` until its downstream is told `done`.

    Whether the response has ended, or is paused, is known by the pending call.

    Args:
        settings: of the port that took the request.
        downstream: where the request came from, and its answer goes.

    Attributes:
        upstream: the agent or node that was tried last, for the log.
        upstream_node: the same if it is a node; "" if it is an agent.
        error: the code of what went wrong; "" when nothing did.
        reached: a service may have seen something of the request.
    """

    __slots__ = (
        "_call",
        "_downstream",
        "_replay",
        "_replay_bytes",
        "_pausing_request",
        "_queued",
        "_received",
        "_request_ended",
        "_response",
        "_settings",
        "_tried",
        "_trailers",
        "_whole_at",
        "deadline",
        "error",
        "reached",
        "upstream",
        "upstream_node",
    )

    def __init__(self, settings: RoutingSettings, downstream: IDownstream) -> None:
        self._settings = settings
        self._downstream = downstream
        self.upstream = self.upstream_node = self.error = ""
        self.reached = False
        self.deadline = NEVER
        self._call: IPendingCall | None = None
        self._tried: list[IRoute] = []
        self._replay: list[bytes] = []  # of its body, to be sent again
        self._replay_bytes = 0
        self._received = 0  # bytes of its body so far
        self._request_ended = False
        self._trailers = b""
        self._whole_at = math.inf  # so many bytes are the body of an offer to upgrade, whose answer is then awaited
        self._pausing_request = False
        self._queued = 0  # of its body, when it was last seen to move
        self._response = _AWAITED

    # What the downstream calls

    def start(self, body: bytes, ended: bool) -> None:
        """Begin, with the body bytes that came with the head; `ended` when that is all of the request."""
        if body:
            self._replay.append(body)
            self._replay_bytes = self._received = len(body)
        self._request_ended = ended
        self._attempt()
        if self._response is not _OVER:
            self._settings.sweep.add(self)

    def body(self, data: bytes) -> None:
        """A piece of the request's body, or of the upgraded protocol."""
        if self._response is _OVER:
            return
        if self._replay_bytes == self._received and self._response is _AWAITED:
            self._keep(data)
        self._received += len(data)
        call = self._call
        if call is not None:
            call.send(data, True)
            if not self._pausing_request and call.queued > SEND_HIGH_BYTES:
                self._pausing_request = True
                self._downstream.pause_request()
        self._progress()

    def _keep(self, data: bytes) -> None:
        """Keep what may have to be sent again: all of the body so far, or nothing."""
        if self._received + len(data) <= self._tried[-1].max_replay_bytes:
            self._replay.append(data)
            self._replay_bytes += len(data)
        else:
            self._replay = []
            self._replay_bytes = 0

    def trailers(self, block: bytes) -> None:
        """The request is complete, and ends with these trailers."""
        if not self._request_ended:
            self._trailers = block
            self.body_ended()

    def body_ended(self) -> None:
        """The request is complete, or the client closed its direction of the upgraded protocol."""
        if self._response is _OVER or self._request_ended:
            return
        self._request_ended = True
        if self._call is not None:
            self._call.send_trailers(self._trailers) if self._trailers else self._call.send(b"", False)
        if self._call is not None and self._call.over:  # or it is another one now
            self._finish()
        else:
            self._progress()

    def gone(self, code: str = CANCELLED, text: str = "") -> None:
        """The client left, or another node gave up; the reset code says why, the text says more."""
        if self._response is not _OVER:
            self.error = self.error or "client-gone"
            self._cancel(code, text)
            self._finish()

    def pause(self) -> None:
        """The downstream holds enough of the response."""
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """The downstream took what it held."""
        if self._call is not None:
            self._call.resume()
            self._progress()

    # Choosing and calling

    def _attempt(self) -> None:
        before, downstream = self._call, self._downstream
        try:
            route = self._settings.router.take(downstream.endpoint, self._tried, downstream)
            if route is None:
                self._nowhere()
                return
            self._tried.append(route)
            self.upstream, self.upstream_node, self.error = route.name, route.node_id, ""
            if self._whole_at < math.inf:
                self._fit(route)
            body = b"".join(self._replay) if self._replay else b""
            call = self._call = route.open(downstream, body, not self._request_ended or self._trailers != b"", self)
        except Http1Error as error:
            self._refuse(error)
            return
        if before is not None and before.paused:
            call.pause()
        if self._trailers:
            call.send_trailers(self._trailers)
        response = call.response
        assert response is not None  # the call was made just now
        response.addCallbacks(self._head_came, self._no_head_came)
        self._progress()

    def _fit(self, route: IRoute) -> None:
        """Leave out what the route's peer does not take, in a request that offers an upgrade."""

    def _can_retry(self, *, safe: bool) -> bool:
        """Whether making the request again does no harm, and there is where to."""
        return self._can_repeat(safe=safe) and self._settings.router.has_other(self._downstream.endpoint, self._tried)

    def _can_repeat(self, *, safe: bool) -> bool:
        if self._response is not _AWAITED or self._replay_bytes < self._received or len(self._tried) > MAX_RETRIES:
            return False
        return safe or self._downstream.head.method in IDEMPOTENT

    def may_give_up(self, cut_off: bool) -> bool:
        """See `IResponseSink.may_give_up`. What can be made again waits for where to go, and goes once by a guess."""
        if not self._can_repeat(safe=False):
            return cut_off
        if len(self._tried) > 1 and not cut_off:
            return False
        return self._settings.router.has_living(self._downstream.endpoint, self._tried)

    def _retry(self, why: str) -> None:
        self._settings.metrics.retried(why)
        self._attempt()

    def _nowhere(self) -> None:
        """No route is left to try."""
        self._refuse(refusal(code_of_nowhere(self.error, bool(self._tried), self._settings.router.draining)))

    # What the pending call tells: its Deferred first, then as an IResponseSink

    def _head_came(self, head: ResponseHead) -> None:
        """The final head (callback of the pending call's Deferred)."""
        try:
            agent_error = head.special.get(b"x-pico-error")
            if agent_error is not None and self._took_agent_error(head, agent_error):
                return
            self._replay = []
            if head.status == 101:
                self._response = _UPGRADED
                self.deadline = NEVER
            else:
                self._response = _BODY
                self.deadline = self._settings.sweep.now + self._settings.idle_timeout_s
            self._downstream.begin(head)
        except Exception:
            log.failure("A response could not be passed on", endpoint=self._downstream.endpoint, upstream=self.upstream)
            self._cut("internal", CANCELLED)

    def _took_agent_error(self, head: ResponseHead, value: bytes) -> bool:
        """Keep the code of an agent's own error for the log. Returns whether another agent is tried instead."""
        self.error = code_of_agent(value)
        if head.status != 502 or self.error != SERVICE_UNREACHABLE or not self._can_retry(safe=True):
            return False
        if self._call is not None:
            self._call.cancel(CANCELLED)
        self._retry(SERVICE_UNREACHABLE)
        return True

    def _no_head_came(self, failure: Failure) -> None:
        """The call failed before its head (errback of the pending call's Deferred)."""
        error = failure.value
        if isinstance(error, Http1Error):
            self._refuse(error)
        elif isinstance(error, CallFailed):
            self.failed(error)
        else:
            log.failure("A call failed in an unforeseen way", failure)
            self.failed(CallFailed(FAILED, "", safe=False))

    def failed(self, error: CallFailed) -> None:
        """The call failed: before its head the request may be made again, behind it the response is cut short."""
        self.error = code_of_reset(error.code, self._downstream.kind)
        endpoint = self._downstream.endpoint
        if error.code == PROTOCOL:
            self._settings.rules_broken(endpoint, self.upstream, error.text)
        if self._response is _BODY or self._response is _UPGRADED:
            log.debug(
                "A response was cut short: {reason}", reason=str(error), endpoint=endpoint, upstream=self.upstream
            )
            self._cut(self.error, CANCELLED)
            return
        self.reached = self.reached or not error.safe
        if error.code == REFUSED_NOT_HERE and self._tried[-1].not_here(endpoint):
            self.error = NO_UPSTREAMS
        if self._can_retry(safe=error.safe):
            self._retry(error.code)
            return
        log.debug("A call failed: {reason}", reason=str(error), endpoint=endpoint, upstream=self.upstream)
        self._nowhere()

    def interim(self, head: ResponseHead) -> None:
        """A 1xx head: the wait starts over. A service was reached, so the request is not made again."""
        self._response = Response.INTERIM
        self.reached = True
        self._replay = []
        self._downstream.interim(head)
        self._progress()

    def data(self, data: bytes) -> None:
        """What came of the body with one frame, perhaps nothing behind the head."""
        self._downstream.write(data)
        if self._response is _BODY:
            self.deadline = self._settings.sweep.now + self._settings.idle_timeout_s

    def trailers_came(self, block: bytes) -> None:
        """The response ends with trailers."""
        self._downstream.write_trailers(block)

    def ended(self, data: bytes, wants_no_more: bool) -> None:
        """The response is complete; or it was, and now the rest of the request is not wanted."""
        if wants_no_more:
            self._downstream.stop_request()
            self._finish()
            return
        self._downstream.finish(data)
        if self._call is None or self._call.over:
            self._finish()
        else:
            self._progress()

    def drained(self) -> None:
        """The queue of the request is short again."""
        if self._pausing_request:
            self._pausing_request = False
            self._downstream.resume_request()
        self._progress()

    # Time

    def _progress(self) -> None:
        """Something moved: move the deadline."""
        settings = self._settings
        response = self._response
        if response is _UPGRADED:
            return
        if response is _BODY or not (self._request_ended or self._pausing_request or self._received >= self._whole_at):
            self.deadline = settings.sweep.now + settings.idle_timeout_s
        else:
            self.deadline = settings.sweep.now + settings.timeout_s + HOP_MARGIN_S
            self._queued = self._call.queued if self._received and self._call is not None else 0

    def deadline_passed(self, now: float) -> None:
        """Nothing moved for too long."""
        if self._response is _BODY:
            self._cut("idle-timeout", TIMEOUT)
        elif self._call is not None and self._takes_request(self._call):
            self._progress()  # the service takes its request, however slowly
        elif self._request_ended or self._pausing_request or self._received >= self._whole_at:
            self._refuse(refusal(UPSTREAM_TIMEOUT))
        else:
            self._refuse(refusal(REQUEST_TIMEOUT))

    def _takes_request(self, call: IPendingCall) -> bool:
        """Whether more than one window of the request was queued, or still is some, and it became less."""
        return call.queued < self._queued and (call.queued > 0 or self._queued > WINDOW_BYTES)

    # The end

    def _refuse(self, error: Http1Error) -> None:
        """Answer with an error of ours."""
        self.error = error.code
        self._cancel(TIMEOUT if error.status == 504 else CANCELLED)
        self._downstream.fail(error.status, error.message, error.code)
        self._finish()

    def _cut(self, error: str, code: str) -> None:
        """Give the response up in its middle."""
        self.error = error
        self._cancel(code)
        self._downstream.cut()
        self._finish()

    def _cancel(self, code: str, text: str = "") -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel(code, text)

    def _finish(self) -> None:
        if self._response is not _OVER:
            self._response = _OVER
            self._settings.sweep.discard(self)
            self._replay = []
            self._call = None
            self._downstream.done()

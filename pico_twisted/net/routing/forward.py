"""One forwarded request: choose, call, retry, time out, copy.

A `Forward` stands between a downstream (where the request came from: `IDownstream`) and one pending call at a time
(where it goes). It knows no channel and no socket.

What can go wrong, and what is done. The tunnel that was chosen dies, refuses, or cannot reach its service: another
one is tried, at most twice, if the call certainly reached no service, or if doing it twice does no harm (an idempotent
method) and the body is still here to be sent again. A service answers before it has the whole request: the response
goes on its way, and so does the rest of the request until somebody says stop. A client leaves: the call is reset, so
that the service hears of it. A response is cut short: so is the client's.

The timer bounds waiting, never a transfer: until the response begins it runs from the last progress of the request's
body, and while the client is the one who is waited for, the idle limit holds instead. This hop waits one second
longer than the hop behind it, so that the one who knows most answers.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import KEEP, Keep, RequestHead, ResponseHead
from pico_twisted.core.http1.target import IDEMPOTENT
from pico_twisted.core.links.relay import RelayedRequest
from pico_twisted.core.rpc.frames import CANCELLED, REFUSALS, REFUSED_NOT_HERE, TIMEOUT, UNSUPPORTED
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.interfaces import CallFailed, IDownstream, IPendingCall, IResponseSink, IRouter
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.turn import NEVER, Sweep

log = Logger()

MAX_RETRIES: Final = 2
REPLAY_BYTES: Final = 64 * 1024
"""A body up to this size is kept until the response begins, so that the request can be made again."""
HOP_MARGIN_S: Final = 1.0
"""How much longer a hop waits than the one behind it."""
FIRST_FRAME_BYTES: Final = 60 * 1024
"""Head and body bytes that are put together into a call's first frame."""

MAX_CODE_BYTES: Final = 64
"""What is kept of an agent's error code for the log."""
NO_UPSTREAMS: Final = "no-upstreams"
"""The code of our 502 that says: nobody holds the endpoint."""
SERVICE_UNREACHABLE: Final = "service-unreachable"
"""The code of an agent's 502 that says: nothing of the request reached the service."""


class WriteHead(Protocol):
    """Writes the head that the `Forward` was given as it goes on, with a Content-Length if one is given, to an agent or
    to another node."""

    def __call__(self, head: Any, length: int | Keep | None, to_node: bool) -> bytes: ...


@attrs.frozen(kw_only=True)
class ForwardSettings:
    """What every forwarded request of a port shares."""

    router: IRouter
    sweep: Sweep
    metrics: Metrics
    timeout_s: float
    idle_timeout_s: float
    v1_body_bytes: int


@implementer(IResponseSink)
class Forward:
    """One request on its way, from `start` until the downstream is told `done`.

    Args:
        settings: of the port that took the request.
        downstream: an `IDownstream`.
        head: of the request.
        endpoint: the endpoint ID that was decided for it.
        write_head: writes the head for the next hop.

    Attributes:
        upstream: the agent that was tried last, for the log.
        error: the code of what went wrong; "" when nothing did.
        begun: the response's head was given to the downstream.
        reached: a service may have seen something of the request.
        upgraded: both directions are raw bytes.
        response_ended: nothing more of the response comes.
    """

    __slots__ = (
        "_body_ended",
        "_call",
        "_downstream",
        "_head",
        "_interim_sent",
        "_kept",
        "_kept_bytes",
        "_keeps",
        "_over",
        "_paused",
        "_pausing_request",
        "_queued",
        "_retries",
        "_settings",
        "_tried",
        "_waits_whole",
        "_write_head",
        "begun",
        "deadline",
        "endpoint",
        "error",
        "reached",
        "response_ended",
        "upgraded",
        "upstream",
    )

    def __init__(
        self,
        settings: ForwardSettings,
        downstream: IDownstream,
        head: RequestHead | RelayedRequest,
        endpoint: str,
        write_head: WriteHead,
    ) -> None:
        self._settings = settings
        self._downstream = downstream
        self._head = head
        self._write_head = write_head
        self.endpoint = endpoint
        self.upstream = ""
        self.error = ""
        self.begun = False
        self.reached = False
        self.upgraded = False
        self.response_ended = False
        self.deadline = NEVER
        self._call: IPendingCall | None = None
        self._tried: list[Any] = []
        self._retries = 0
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._keeps = True  # all of the body so far is in _kept
        self._body_ended = False
        self._waits_whole = False  # a v1 agent gets the body in one piece
        self._interim_sent = False
        self._paused = False  # the downstream takes no response for now
        self._pausing_request = False
        self._queued = 0  # of the request, when it was last seen to move
        self._over = False

    # What the downstream calls

    def start(self, body: bytes, ended: bool) -> None:
        """Begin, with the body bytes that came with the head; `ended` when that is all of the request."""
        if body:
            self._kept.append(body)
            self._kept_bytes = len(body)
        self._body_ended = ended and self._head.upgrade is None
        self._settings.sweep.add(self)
        self._attempt()

    def body(self, data: bytes) -> None:
        """A piece of the request's body, or of the upgraded protocol."""
        if self._over:
            return
        if self._keeps and not self.upgraded:
            self._kept_bytes += len(data)
            if self._waits_whole:
                if self._kept_bytes > self._settings.v1_body_bytes:
                    self._refuse(413, "request body too large for an agent of version 1", "body-too-large")
                    return
            elif self._kept_bytes > REPLAY_BYTES:
                self._keeps = False
                self._kept = []
            if self._keeps:
                self._kept.append(data)
        call = self._call
        if call is not None:
            call.send(data, True)
            if call.queued > SEND_HIGH_BYTES and not self._pausing_request:
                self._pausing_request = True
                self._downstream.pause_request()
        self._progress()

    def body_ended(self) -> None:
        """The request is complete, or the client closed its direction of the upgraded protocol."""
        if self._over or self._body_ended:
            return
        self._body_ended = True
        call = self._call
        if call is not None:
            call.send(b"", False)
        elif self._waits_whole:
            self._attempt()
        self._progress()
        if self.response_ended:
            self._finish()

    def gone(self, code: str = CANCELLED) -> None:
        """The client left, or another node gave up; `code` is the reset code that says why."""
        if not self._over:
            self.error = self.error or "client-gone"
            self._cancel(code)
            self._finish()

    def pause(self) -> None:
        """The downstream holds enough of the response."""
        self._paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """The downstream took what it held."""
        self._paused = False
        if self._call is not None:
            self._call.resume()
            self._progress()

    # Choosing and calling

    def _attempt(self) -> None:
        try:
            self._choose_and_call()
        except Http1Error as error:
            self._refuse(error.status, error.message, error.code)

    def _choose_and_call(self) -> None:
        router = self._settings.router
        if router.busy():
            self._refuse(503, "too many requests in progress", "busy")
            return
        registration = router.choose(self.endpoint, self._tried)
        while registration is not None and router.full(registration):
            self._tried.append(registration)
            self.error = "busy"
            registration = router.choose(self.endpoint, self._tried)
        if registration is None:
            self._nowhere()
            return
        if registration.version == 1 and self._head.upgrade is None:
            if not self._body_ended:
                self._wait_for_whole_body()
                return
            if self._kept_bytes > self._settings.v1_body_bytes:
                self._refuse(413, "request body too large for an agent of version 1", "body-too-large")
                return
        self._tried.append(registration)
        self.upstream = registration.agent_id
        self.error = ""
        self._call_through(registration)

    def _call_through(self, registration: Any) -> None:
        head = self._head
        body = b"".join(self._kept) if self._kept else b""
        length: int | Keep | None = KEEP
        upgrade_asked = head.upgrade is not None
        if registration.version == 1:
            more = False
            if isinstance(head, RequestHead) and upgrade_asked:
                head = head._replace(upgrade=None)
                upgrade_asked = False
                self._body_ended = True
            if body or self._waits_whole or head.has_body:  # a head from a link says nothing of an unknown length
                length = len(body)
        else:
            more = not self._body_ended
        payload = self._write_head(head, length, registration.node_id is not None)
        rest = b""
        if body:
            if registration.version == 1 or len(payload) + len(body) <= FIRST_FRAME_BYTES:
                payload += body
            else:
                rest = body
        call = self._settings.router.call(
            registration, payload, more or bool(rest), method=head.method, upgrade_asked=upgrade_asked, sink=self
        )
        self._call = call
        if self._paused:
            call.pause()
        assert call.response is not None  # it was made just now
        call.response.addCallbacks(self._response, self._failed)
        if rest:
            call.send(rest, more)
        self._progress()

    def _wait_for_whole_body(self) -> None:
        self._waits_whole = True
        if self._kept_bytes > self._settings.v1_body_bytes or (self._head.length or 0) > self._settings.v1_body_bytes:
            self._refuse(413, "request body too large for an agent of version 1", "body-too-large")
            return
        if not self._keeps:
            self._refuse(502, "upstream unreachable", "upstream-unreachable")
            return
        self._answer_expectation()
        self._progress()

    def _answer_expectation(self) -> None:
        """Nobody behind us can answer the client's Expect any more: do it here."""
        if self._head.expect_continue and not self._interim_sent:
            self._interim_sent = True
            self._downstream.interim(ResponseHead(100, b"Continue"))
            self._downstream.flush()

    def _nowhere(self) -> None:
        if not self._tried or self.error == NO_UPSTREAMS:
            if self._settings.router.draining:
                self._refuse(503, "node is shutting down", "draining")
            else:
                self._refuse(502, "no available upstreams", NO_UPSTREAMS)
        elif self.error == "busy":
            self._refuse(503, "too many requests in progress", "busy")
        elif self.error == TIMEOUT:
            self._refuse(504, "upstream timeout", "upstream-timeout")
        else:
            self._refuse(502, "upstream unreachable", "upstream-unreachable")

    def _can_retry(self, safe: bool) -> bool:
        """Whether the request may be made again, and there is where to."""
        if self._retries >= MAX_RETRIES or not self._keeps:
            return False
        if not safe and self._head.method not in IDEMPOTENT:
            return False
        return self._settings.router.choose(self.endpoint, self._tried) is not None

    def _retry(self, why: str) -> None:
        self._retries += 1
        self._settings.metrics.retried(why)
        self._attempt()

    # What the pending call tells

    def _response(self, head: ResponseHead) -> None:
        """The final head (callback of the pending call's Deferred)."""
        try:
            self._take_response(head)
        except Exception:
            log.failure("A response could not be passed on", endpoint=self.endpoint, upstream=self.upstream)
            self.error = "internal"
            self._cancel(CANCELLED)
            self._downstream.cut()
            self._finish()

    def _take_response(self, head: ResponseHead) -> None:
        agent_error = head.get(b"x-pico-error")
        if agent_error is not None:
            self.error = agent_error.rpartition(b" ")[2][:MAX_CODE_BYTES].decode("ascii", "replace")
        if head.status == 502 and self.error == SERVICE_UNREACHABLE and self._can_retry(True):
            self._cancel(CANCELLED)
            self._retry("service-unreachable")
            return
        self.begun = True
        self._keeps = False
        self._kept = []
        if head.status == 101:
            self.upgraded = True
            self.deadline = NEVER
        else:
            self.deadline = self._settings.sweep.now + self._settings.idle_timeout_s
            if self._head.upgrade is not None:
                self._body_ended = True
                if self._call is not None:
                    self._call.send(b"", False)
        self._downstream.begin(head)

    def _failed(self, failure: Failure) -> None:
        """No head will come (errback of the pending call's Deferred)."""
        error = failure.value
        if not isinstance(error, CallFailed):
            log.failure("A call failed in an unforeseen way", failure)
            error = CallFailed("failed", "", safe=False)
        self._call = None
        if self._over:
            return
        self.reached = self.reached or not error.safe
        self.error = _ERROR_CODES.get(error.code, "upstream-unreachable")
        node_id = self._tried[-1].node_id
        if error.code == REFUSED_NOT_HERE and node_id is not None:
            self._settings.router.not_here(node_id, self.endpoint)
            self.error = NO_UPSTREAMS
        if self._can_retry(error.safe):
            self._retry(error.code)
            return
        log.debug("A call failed: {reason}", reason=str(error), endpoint=self.endpoint, upstream=self.upstream)
        self._nowhere()

    def call_interim(self, head: ResponseHead) -> None:
        """A 1xx head: the wait begins anew. A service was reached, so the request is not made again."""
        self._interim_sent = True
        self.reached = True
        self._keeps = False
        self._kept = []
        self._downstream.interim(head)
        self._progress()

    def call_data(self, data: bytes) -> None:
        """A piece of the response."""
        if self._over:
            return
        self._downstream.write(data)
        if not self.upgraded:
            settings = self._settings
            self.deadline = settings.sweep.now + settings.idle_timeout_s

    def call_flush(self) -> None:
        """All that came with one frame was given."""
        if not self._over:
            self._downstream.flush()

    def call_ended(self) -> None:
        """The response is complete."""
        if self._over:
            return
        self.response_ended = True
        self._downstream.finish()
        if self._body_ended:
            self._finish()
        else:
            self._progress()

    def call_stopped(self) -> None:
        """The response is complete, and the rest of the request is not wanted."""
        if self._over:
            return
        self._downstream.stop_request()
        self._finish()

    def call_failed(self, error: CallFailed) -> None:
        """The response was cut short."""
        if self._over:
            return
        self.error = _ERROR_CODES.get(error.code, "upstream-unreachable")
        log.debug(
            "A response was cut short: {reason}", reason=str(error), endpoint=self.endpoint, upstream=self.upstream
        )
        self._downstream.cut()
        self._finish()

    def call_drained(self) -> None:
        """The queue of the request is short again."""
        if self._pausing_request:
            self._pausing_request = False
            self._downstream.resume_request()
        self._progress()

    # Time

    def _progress(self) -> None:
        """Something moved: set the deadline anew."""
        if self.upgraded:
            return
        settings = self._settings
        if self.begun or not (self._body_ended or self._pausing_request or self._head.upgrade is not None):
            self.deadline = settings.sweep.now + settings.idle_timeout_s
        else:
            self.deadline = settings.sweep.now + settings.timeout_s + HOP_MARGIN_S
            self._queued = self._call.queued if self._call is not None else 0

    def deadline_passed(self, now: float) -> None:
        """Nothing moved for too long."""
        if self._over:
            self._settings.sweep.discard(self)
        elif self.begun:
            self.error = "idle-timeout"
            self._cancel(TIMEOUT)
            self._downstream.cut()
            self._finish()
        elif self._call is not None and self._takes_request(self._call):
            self._progress()  # the service takes its request, however slowly
        elif self._body_ended or self._pausing_request or self._head.upgrade is not None:
            self._refuse(504, "upstream timeout", "upstream-timeout")
        else:
            self._refuse(408, "request timeout", "request-timeout")

    def _takes_request(self, call: IPendingCall) -> bool:
        """Whether more than one window of the request was queued, or still is some, and it became less."""
        return call.queued < self._queued and (call.queued > 0 or self._queued > REPLAY_BYTES)

    # The end

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer with an error of ours."""
        self.error = code
        self._cancel(TIMEOUT if status == 504 else CANCELLED)
        self._downstream.fail(status, message, code)
        self._finish()

    def _cancel(self, code: str) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel(code)

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._settings.sweep.discard(self)
        self._kept = []
        self._call = None
        self._downstream.done()


_ERROR_CODES: dict[str, str] = {
    TIMEOUT: TIMEOUT,
    UNSUPPORTED: "upstream-unreachable",
    **{code: "busy" if code.endswith("busy") else "upstream-unreachable" for code in REFUSALS},
}

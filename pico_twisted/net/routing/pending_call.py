"""A pending http call: the Deferred of its final head, and the body behind it.

It reads the frames of one call, as the caller. What a frame means is decided by `core.rpc.http`; what to do about a
failure is decided by whoever made the call (`net.routing.forward`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, HeadLimits, ResponseHead
from pico_twisted.core.links.relay import RelayedResponse
from pico_twisted.core.rpc.frames import CANCELLED, FAILED, HTTP, PROTOCOL, REFUSALS, STOP, UNSUPPORTED
from pico_twisted.core.rpc.http import CallProtocolError, ResponseReader
from pico_twisted.net.interfaces import CallFailed, ICallReceiver, IPendingCall, IResponseSink

if TYPE_CHECKING:
    from pico_twisted.core.rpc.call import Call
    from pico_twisted.core.rpc.dialect import Dialect

LOST = "lost"
"""The code of a call whose session ended."""


@implementer(ICallReceiver, IPendingCall)
class PendingCall:
    """One http call that we made, until both of its streams have ended.

    Attributes:
        response: fires with the final `ResponseHead`; fails with `CallFailed`. Cancelling it cancels the call.
        registration: the tunnel that it runs on.
        over: nothing more comes of it.
    """

    __slots__ = (
        "_cluster",
        "_ended",
        "_held",
        "_paused",
        "_sink",
        "_stream",
        "call",
        "over",
        "registration",
        "response",
    )

    def __init__(
        self,
        cluster: Any,
        registration: Any,
        payload: bytes,
        more: bool,
        limits: HeadLimits,
        method: bytes,
        upgrade_asked: bool,
        sink: IResponseSink,
        relays: bool = False,
    ) -> None:
        self._cluster = cluster
        self._sink = sink
        dialect: Dialect = registration.dialect
        self._stream: ResponseReader
        if relays and dialect.whole_body_bytes is None:
            self._stream = RelayedResponse(limits, method, upgrade_asked)
        else:
            self._stream = dialect.read_response(limits, method, upgrade_asked)
        self._held = 0
        self._paused = False
        self._ended = False
        self.over = False
        self.registration = registration
        self.response: Deferred[ResponseHead] | None = Deferred(self._cancelled)
        self.call: Call = registration.call(HTTP, payload, more, self)

    # What its owner calls

    def send(self, data: bytes, more: bool) -> None:
        """Send body bytes of the request; `more=False` ends it."""
        self.registration.send(self.call, data, more)
        if not more and self._ended:
            self._finish()

    def cancel(self, code: str, text: str = "") -> None:
        """Give the call up. Nothing more comes of it. Idempotent."""
        if not self.over:
            self._finish()
            self.response = None
            self.registration.reset(self.call, code, text)

    def pause(self) -> None:
        """The client's transport holds enough: grant no credit for what comes."""
        self._paused = True

    def resume(self) -> None:
        """The client's transport took what it held."""
        self._paused = False
        held, self._held = self._held, 0
        if held:
            self.registration.consumed(self.call, held)

    @property
    def queued(self) -> int:
        """Bytes of the request that wait for credit or for the connection."""
        return self.call.queued

    def _cancelled(self, response: Deferred[ResponseHead]) -> None:
        self.cancel(CANCELLED)

    # What the tunnel calls (ICallReceiver)

    def frame(self, payload: bytes, more: bool) -> None:
        """A frame of the response."""
        if self.over:
            return
        try:
            events = self._stream.feed(payload, more)
        except (Http1Error, CallProtocolError) as error:
            self.registration.reset(self.call, PROTOCOL, str(error))
            self._fail(CallFailed(PROTOCOL, str(error), safe=False))
            return
        sink = self._sink
        for event in events:
            if type(event) is bytes:
                sink.call_data(event)
            elif event is END:
                self._ended = True
                if self.call.send_ended:
                    self._finish()
                sink.call_ended()
            elif event.status < 200 and event.status != 101:  # type: ignore[union-attr]
                sink.call_interim(event)  # type: ignore[arg-type]
            else:
                response, self.response = self.response, None
                if response is not None:
                    response.callback(event)  # type: ignore[arg-type]
            if self.over:
                return  # the connection behind the sink was flushed when the call ended, and nobody counts credit now
        sink.call_flush()
        if self._paused:
            self._held += len(payload)
        elif more:
            self.registration.consumed(self.call, len(payload))

    def reset(self, code: str, text: str) -> None:
        """The callee gave the call up."""
        if self.over:
            return
        if code == STOP and self._ended:
            self._finish()
            self._sink.call_stopped()
            return
        if code == STOP:
            code = FAILED
        self._fail(CallFailed(code, text, safe=code in REFUSALS or code == UNSUPPORTED))

    def lost(self) -> None:
        """The session ended."""
        if self.over:
            return
        if self._ended:
            self._finish()
            self._sink.call_stopped()
            return
        self._fail(CallFailed(LOST, "the session ended", safe=not self.call.started))

    def drained(self) -> None:
        """The queue of the request is short again."""
        if not self.over:
            self._sink.call_drained()

    def _fail(self, error: CallFailed) -> None:
        self._finish()
        response, self.response = self.response, None
        if response is not None:
            response.errback(error)
        else:
            self._sink.call_failed(error)

    def _finish(self) -> None:
        if not self.over:
            self.over = True
            self._cluster.pending.discard(self)
            self.call.receiver = None  # no cycle is left for the collector: it would take a few percent of our time

"""A pending http call: the Deferred of its final head, and the body behind it.

It reads the frames of one call, as the caller. What a frame means is decided by a reader of `core`; what to do about a
failure is decided by its maker (`net.routing.routed_request`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.http1.streams import never_ends
from pico_twisted.core.routing.latency import FLOOR_S
from pico_twisted.core.rpc.call import Call, Stream
from pico_twisted.core.rpc.frames import (
    CANCELLED,
    FAILED,
    HTTP,
    PROTOCOL,
    REFUSALS,
    REFUSED_BUSY,
    STOP,
    TOO_LARGE,
    UNSUPPORTED,
)
from pico_twisted.core.rpc.http import CallProtocolError, ResponseReader, ResponseTooLargeError
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.routing.interfaces import CallFailed, IPendingCall, IResponseSink, IRoute
from pico_twisted.net.routing.refusals import SHUTDOWN
from pico_twisted.net.tunnel.interfaces import IHttpReceiver

LOST: Final = "lost"
"""The code of a call whose session ended."""
SILENT: Final = "silent"
"""The code of a call whose session gives no sign of life, and which was given up before that ended."""
FIRST_FRAME_BYTES: Final = 60 * 1024
"""Most bytes of head and body that are put together into a call's first frame."""


class _Response(enum.Enum):
    """How much of the response came."""

    AWAITED = enum.auto()  # no final head
    BEGUN = enum.auto()
    ENDED = enum.auto()


_OPEN = Stream.OPEN
_AWAITED = _Response.AWAITED
_BEGUN = _Response.BEGUN
_ENDED = _Response.ENDED


@implementer(IHttpReceiver, IPendingCall)
class PendingCall:
    """One call that we made, until both of its streams have ended.

    Args:
        rows: where calls are counted: it is in each of them until it is over.
        route: whose callee is called, and whose latency is measured.
        seconds: tells the time.
        reader: of the response.
        sink: takes the response.
        head: of the request.
        body: the part of the request's body that has come.
        more: whether the body goes on.
        kind: of the call, HTTP or TCP.

    Attributes:
        route: the same.
        asked_at: since when its first byte is awaited; `NEVER` when it is not.
        response: fires with the final `ResponseHead`, or fails with `CallFailed`; cancelling it cancels the call. None
            once it fired.
        paused: what comes is not granted again for now.
        over: nothing more comes of it.
        never_ends: its response has begun, and goes on until somebody cuts it.
    """

    __slots__ = (
        "_callee",
        "_came",
        "_held",
        "_reader",
        "_rows",
        "_seconds",
        "_sink",
        "asked_at",
        "call",
        "never_ends",
        "over",
        "paused",
        "response",
        "route",
    )

    def __init__(
        self,
        rows: tuple[set[IPendingCall], ...],
        route: IRoute,
        seconds: Callable[[], float],
        reader: ResponseReader,
        sink: IResponseSink,
        head: bytes,
        body: bytes,
        more: bool,
        kind: int = HTTP,
    ) -> None:
        self._rows = rows
        self.route = route
        self._callee = callee = route.callee
        self._seconds = seconds
        self._reader = reader
        self._sink = sink
        self._held = 0  # payload that came while paused
        self._came = _AWAITED
        self.over = False
        self.never_ends = False
        self.paused = False
        self.response: Deferred[ResponseHead] | None = Deferred(self._cancelled)
        rest = b""
        if body:
            if len(head) + len(body) <= FIRST_FRAME_BYTES:
                head += body
            else:
                rest = body
        self.call: Call = callee.call(kind, head, more or bool(rest), self)
        if rest:
            callee.send(self.call, rest, more)
        for row in rows:
            row.add(self)
        self.asked_at = NEVER if more else seconds()

    # IPendingCall

    @property
    def kind(self) -> int:
        """Its type, HTTP or TCP."""
        return self.call.kind

    @property
    def queued(self) -> int:
        """Bytes of the request that wait for credit or for the connection."""
        return self.call.queued

    def send(self, data: bytes, more: bool) -> None:
        """Send body bytes of the request; `more=False` ends it."""
        self._callee.send(self.call, data, more)
        if not more:
            self.asked()

    def send_trailers(self, block: bytes) -> None:
        """End the request with trailers; empty for none."""
        self._callee.send_trailers(self.call, block)
        self.asked()

    def asked(self) -> None:
        """The request is complete, or as far as an offer to upgrade goes: its first byte is awaited."""
        if self._came is _ENDED:
            self._finish()
        elif self._came is _AWAITED:
            self.asked_at = self._seconds()

    def cancel(self, code: str, text: str = "") -> None:
        """Give the call up. Nothing more comes of it. Idempotent."""
        if not self.over:
            self._finish()
            self.response = None
            self._callee.reset(self.call, code, text)

    def shut(self) -> None:
        """The node stops: cut the response, for the client and for the callee."""
        if not self.over:
            self._callee.reset(self.call, CANCELLED, "the node stops")
            self._fail(CallFailed(SHUTDOWN, "the node stops", safe=False))

    def give_up(self) -> None:
        """The session gives no sign of life: fail as if it had ended."""
        if not self.over:
            started = self.call.started
            self._callee.reset(self.call, CANCELLED, "no sign of life")
            self._fail(CallFailed(SILENT, "no sign of life", safe=not started))

    def may_give_up(self, cut_off: bool) -> bool:
        """Whether that is better than to wait. See `IResponseSink.may_give_up`."""
        return not self.over and self.response is not None and self._sink.may_give_up(cut_off)

    def pause(self) -> None:
        """The client's transport holds enough: grant no credit for what comes."""
        self.paused = True

    def resume(self) -> None:
        """The client's transport took what it held."""
        self.paused = False
        held, self._held = self._held, 0
        if held:
            self._callee.consumed(self.call, held)

    def _cancelled(self, response: Deferred[ResponseHead]) -> None:
        self.cancel(CANCELLED)

    # IHttpReceiver

    def frame(self, payload: bytes, more: bool) -> None:
        """A frame of the response: at most a head, a piece of the body and the end, in this order."""
        if self.over:
            return
        try:
            events = self._reader.feed(payload, more)
        except (Http1Error, CallProtocolError) as error:
            self._broken(error)
            return
        sink = self._sink
        data = b""
        for event in events:
            if type(event) is bytes:
                data = event
            elif type(event) is ResponseHead:
                self._first_byte()
                if event.status < 200 and event.status != 101:
                    sink.interim(event)
                else:
                    self._came = _BEGUN
                    if more and self.call.kind == HTTP:
                        self.never_ends = never_ends(event)
                    response, self.response = self.response, None
                    if response is not None:
                        response.callback(event)
                if self.over:
                    return  # the credit of a call that is over does not count
        if not more:
            self._came = _ENDED
            if self.call.sending is not _OPEN:
                self._finish()
            sink.ended(data, False)
        elif self._came is not _AWAITED:
            sink.data(data)
        if self.over:
            return
        if self.paused:
            self._held += len(payload)
        elif more:
            self._callee.consumed(self.call, len(payload))

    def _first_byte(self) -> None:
        now = self._seconds()
        waited_s, self.asked_at = now - self.asked_at, NEVER
        latency = self.route.latency
        if waited_s < FLOOR_S and not latency.held:
            latency.answered_at = now
        else:
            latency.answered(waited_s, now)

    def trailers(self, block: bytes) -> None:
        """The response has ended with trailers."""
        if self.over:
            return
        try:
            self._reader.trailers()
        except CallProtocolError as error:
            self._broken(error)
            return
        self._came = _ENDED
        if self.call.sending is not _OPEN:
            self._finish()
        self._sink.trailers_came(block)
        self._sink.ended(b"", False)

    def _broken(self, error: Http1Error | CallProtocolError) -> None:
        self._callee.reset(self.call, PROTOCOL, str(error))
        code = TOO_LARGE if isinstance(error, ResponseTooLargeError) else PROTOCOL
        self._fail(CallFailed(code, str(error), safe=False))

    def reset(self, code: str, text: str) -> None:
        """The callee gave the call up."""
        if self.over:
            return
        if self._came is _ENDED and code == STOP:
            self._stop()
        else:
            if code == STOP:
                code = FAILED
            if code == REFUSED_BUSY and self.route.node_id:
                self.route.latency.refused(self._seconds())
            self._fail(CallFailed(code, text, safe=code in REFUSALS or code == UNSUPPORTED))

    def lost(self) -> None:
        """The session ended."""
        if self.over:
            return
        if self._came is _ENDED:
            self._stop()
        else:
            self._fail(CallFailed(LOST, "the session ended", safe=not self.call.started))

    def drained(self) -> None:
        """The queue of the request is short again."""
        if not self.over:
            self._sink.drained()

    def _stop(self) -> None:
        self._finish()
        self._sink.ended(b"", True)

    def _fail(self, error: CallFailed) -> None:
        self._finish()
        response, self.response = self.response, None
        if response is not None:
            response.errback(error)
        else:
            self._sink.failed(error)

    def _finish(self) -> None:
        if not self.over:
            self.over = True
            for row in self._rows:
                row.discard(self)
            self.call.receiver = None  # no cycle is left for the collector: it would take a few percent of our time

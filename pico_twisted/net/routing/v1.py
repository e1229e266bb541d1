"""Version 1 of the protocol, as requests meet it: a message of an old agent is one frame, so it takes bodies whole.

The body is gathered here. The agent cannot answer the client's Expect meanwhile, so we do. What is too large is
refused with 413. An offer to upgrade is left out.
"""

from __future__ import annotations

import re
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import without_te
from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.rpc.frames import CANCELLED, HTTP, TCP
from pico_twisted.net.routing.interfaces import CallFailed, IDownstream, IPendingCall, IResponseSink
from pico_twisted.net.routing.pending_call import LOST, PendingCall
from pico_twisted.net.routing.refusals import BODY_TOO_LARGE, SHUTDOWN, refusal
from pico_twisted.net.routing.routes import AgentRoute, RouteParts
from pico_twisted.net.routing.unsupported import UnsupportedCall
from pico_twisted.net.tunnel.interfaces import ITunnel

_CLIENT_LINE: Final = re.compile(rb"^" + CLIENT_CONNECTION + rb": [^\r]*\r\n", re.MULTILINE)
"""What an agent of version 1 would pass on to its service."""


def route_to(tunnel: ITunnel, parts: RouteParts) -> AgentRoute:
    """Make the route to an agent, whichever version it speaks."""
    body_bytes = tunnel.dialect.whole_body_bytes
    return AgentRoute(parts, tunnel) if body_bytes is None else V1Route(parts, tunnel, body_bytes)


class V1Route(AgentRoute):
    """The route to one registration of an agent of version 1.

    Args:
        parts, tunnel: as of `AgentRoute`.
        body_bytes: what a body may hold.
    """

    def __init__(self, parts: RouteParts, tunnel: ITunnel, body_bytes: int) -> None:
        super().__init__(parts, tunnel)
        self.max_replay_bytes = body_bytes

    def open(self, request: IDownstream, body: bytes, more: bool, sink: IResponseSink) -> IPendingCall:
        """Call the agent once the body is whole. See `IRoute.open`.

        Raises:
            Http1Error: 413, the body is too large.
        """
        head = request.head
        if request.kind == TCP:
            return UnsupportedCall()
        if head.upgrade is not None:
            return self.call(request, body, None, sink)
        self.check_size(max(len(body), head.length or 0) if more else len(body))
        if more:
            return _GatheringCall(self, request, body, sink)
        return self.call(request, body, len(body) if body or head.has_body else None, sink)

    def check_size(self, body_bytes: int) -> None:
        """Refuse a body that is too large.

        Raises:
            Http1Error: 413, the body is too large.
        """
        if body_bytes > self.max_replay_bytes:
            raise refusal(BODY_TOO_LARGE)

    def call(self, request: IDownstream, body: bytes, length: int | None, sink: IResponseSink) -> PendingCall:
        """Call the agent with a whole body: as `open` does, with a `length` as of `IDownstream.write_head`."""
        parts = self._parts
        rows = self.rows if self.tunnel.subject is None else self.rows_for(self.tunnel.subject)
        parts.metrics.call_started("agent")
        reader = self.tunnel.dialect.read_response(parts.head_limits, request.head.method, False)
        message = _CLIENT_LINE.sub(b"", without_te(request.write_head(None, length, False)), count=1) + body
        return PendingCall(rows, self, parts.seconds, reader, sink, message, b"", False)


@implementer(IPendingCall)
class _GatheringCall:
    """A call whose request is still coming: the agent hears of it when that is whole.

    See `IPendingCall` for what is not documented here.
    """

    kind = HTTP

    def __init__(self, route: V1Route, request: IDownstream, body: bytes, sink: IResponseSink) -> None:
        self._route = route
        self._request = request
        self._sink = sink
        self._body = [body]
        self._size = len(body)
        self._call: PendingCall | None = None
        self._over = False
        self.never_ends = False
        self.paused = False
        self.response: Deferred[ResponseHead] | None = Deferred(lambda _: self.cancel(CANCELLED))
        for row in route.rows:
            row.add(self)
        if request.head.expect_continue:
            request.interim(ResponseHead(100, b"Continue"))

    @property
    def over(self) -> bool:
        """Nothing more comes of it."""
        return self._over if self._call is None else self._call.over

    @property
    def queued(self) -> int:
        """Bytes of the request that wait in the agent's session."""
        return 0 if self._call is None else self._call.queued

    def send(self, data: bytes, more: bool) -> None:
        """Gather a piece of the body; call the agent when it was the last one."""
        if self._over:
            return
        self._body.append(data)
        self._size += len(data)
        try:
            self._route.check_size(self._size)
            if not more:
                self._open()
        except Http1Error as error:
            self._fail(error)

    def send_trailers(self, block: bytes) -> None:
        """Version 1 has no trailers: the body was whole."""
        self.send(b"", False)

    def _open(self) -> None:
        response = self.response
        if self._route.tunnel.closed.called:
            self._fail(CallFailed(LOST, "the session ended", safe=True))
        elif response is not None:
            self._end()
            call = self._call = self._route.call(self._request, b"".join(self._body), self._size, self._sink)
            self._body = []
            if self.paused:
                call.pause()
            assert call.response is not None  # it was made just now
            call.response.chainDeferred(response)
            self.response = None

    def _fail(self, error: Exception) -> None:
        self._end()
        response, self.response = self.response, None
        if response is not None:
            response.errback(error)

    def _end(self) -> None:
        self._over = True
        for row in self._route.rows:
            row.discard(self)

    def cancel(self, code: str, text: str = "") -> None:
        """Give the call up."""
        self._end()
        self.response = None
        if self._call is not None:
            self._call.cancel(code, text)

    def shut(self) -> None:
        """The node stops: give the call up, if it has not begun."""
        if not self._over:
            self._fail(CallFailed(SHUTDOWN, "the node stops", safe=True))

    def pause(self) -> None:
        """Grant no credit for what comes."""
        self.paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        if self._call is not None:
            self._call.resume()

"""One connection of a proxy client that speaks HTTP/2: its streams are requests of the port, beside each other.

What can go wrong, and what is done.

*Work.* A client opens streams and gives them up at once. Their calls are cancelled as soon as that is known, and those
that came and went within one read are never made. What services still do for others is bounded by `StreamPlaces`.

*Memory.* Each stream has a window of its own, and the connection's is as large as all of them: one that stands still
does not disturb the others. What waits for the client is bounded by `Http2Output`.

*Time.* Settings have to come within `head_timeout`, and an idle connection ends after `keepalive_timeout`. While a
request is forwarded its `RoutedRequest` keeps the time; what was answered has to be taken, a bit of it at least within
`idle_timeout`.

*Ends.* A client may send a request while we say that we end. So we say it twice (RFC 9113 6.8): first that there will
be an end, and after a moment which stream was the last. A client whose FIN comes can open no windows any more: it left.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pico_twisted.core.http1.account import account_of_peer, account_of_proxy
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.http2.connection import Http2Connection
from pico_twisted.core.http2.events import (
    CANCEL,
    CLOSED,
    DATA,
    ENDED,
    REFUSED_STREAM,
    REQUEST,
    SETTINGS,
    TRAILERS,
    Event,
    WireFields,
)
from pico_twisted.core.http2.flood import RESETS, FloodLimits, FloodWatch
from pico_twisted.core.http2.heads import request_head
from pico_twisted.core.http2.settings import Http2Settings
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_BYTES, CLIENT_LINGER_S, ClientChannel
from pico_twisted.net.proxy.http2.counts import Http2Counts
from pico_twisted.net.proxy.http2.output import SPARE_BYTES, Http2Output
from pico_twisted.net.proxy.http2.places import StreamPlaces
from pico_twisted.net.proxy.http2.request import WINDOW_BYTES, Http2Request
from pico_twisted.net.proxy.pace import BodyPace
from pico_twisted.net.proxy.port import TRANSPORT_BYTES, ClientRequest, ProxyPort
from pico_twisted.net.proxy.request import nobody
from pico_twisted.net.routing.refusals import SHUTDOWN
from pico_twisted.net.socket.options import half_close, peer_text, writer

LAST_STREAMS_S: Final = 1.0
"""Seconds between the announcement of an end and the end: requests on their way still get their answers."""

LOOKS: Final = 4
"""How often in an `idle_timeout` it is looked at whether what was answered is taken."""

_WEBSOCKET: Final = b"websocket"


class Stage(enum.Enum):
    """Where in its life a connection is."""

    GREETING = enum.auto()  # the client's settings are awaited
    SERVING = enum.auto()
    LEAVING = enum.auto()  # it was announced that there will be an end
    LEFT = enum.auto()  # no new streams are taken
    LINGERING = enum.auto()  # the last frames leave, and what comes is thrown away
    CLOSED = enum.auto()


class Http2Channel(ClientChannel):
    """Gives the streams of a client to the port's resource.

    Args:
        port: that the client came to.
        address: of the client, or of the proxy that it came through.
        counts: what is counted of all such connections.
    """

    def __init__(self, port: ProxyPort, address: IAddress | None, counts: Http2Counts) -> None:
        super().__init__(port, address)
        self._counts = counts
        self._stage = Stage.GREETING
        self._streams = port.settings.config.http2.streams
        self._head_limits = port.settings.head_limits
        settings = Http2Settings(streams=self._streams, window_bytes=WINDOW_BYTES, spare_bytes=SPARE_BYTES)
        self._engine = Http2Connection(client=False, settings=settings)
        limits = FloodLimits(resets=max(RESETS, self._streams), stall_s=port.settings.config.idle_timeout)
        self._flood = FloodWatch(self._engine, limits, port.settings.sweep.now)
        self._requests: dict[int, Http2Request] = {}  # by stream, until that is closed
        self._fresh: list[Http2Request] = []  # came with what is read now
        self._places = StreamPlaces(
            self._streams, port.settings.sweep, port.line, self._render, port.settings.turn_is_long
        )
        self._discarded = 0
        self._transport_bytes = 0  # that the transport holds at most

    def connectionMade(self) -> None:
        """A client connected."""
        end_of_turn = self.port.settings.end_of_turn
        self._output = Http2Output(self._engine, writer(self.transport), end_of_turn, self._happened, self.holds)
        self._counts.connections.add(self)
        super().connectionMade()
        self._output.soon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever side ended it."""
        self._stage = Stage.CLOSED
        self._counts.connections.discard(self)
        super().connectionLost(reason)
        self._all_gone()

    def _all_gone(self) -> None:
        self._places.close()
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.closed()

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Bytes of frames."""
        if self._stage is Stage.LINGERING:
            self._discarded += len(data)
            if self._discarded > CLIENT_LINGER_BYTES:
                self.abort()
            return
        if self._stage is Stage.CLOSED:
            return
        self._happened(self._engine.receive(data))
        self._output.received()

    def _happened(self, events: Sequence[Event]) -> None:
        if self._stage is Stage.LINGERING or self._stage is Stage.CLOSED:
            return
        flood = self._flood
        excess = flood.saw(events, self.port.settings.sweep.now)
        if excess is not None:
            self._engine.terminate(excess.code)
            self._break_off(excess.reason)
            return
        for event in events:
            kind = event[0]
            if event[0] == REQUEST:
                if event[1] not in flood.not_begun:
                    self._begin(event[1], event[2], event[3])
            elif event[0] == DATA:
                request = self._requests.get(event[1])
                if request is not None:
                    request.came(event[2], event[3])
            elif event[0] == TRAILERS:
                request = self._requests.get(event[1])
                if request is not None:
                    request.trailers_came(event[2])
            elif kind == CLOSED:
                self._closed(event[1])
            elif kind == SETTINGS and self._stage is Stage.GREETING:
                self._stage = Stage.SERVING
                self._wait()
            elif kind == ENDED:
                self._break_off("protocol" if event[2] else "")
        if self._places.waiting:
            self._places.go_on()
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._places.give(fresh)

    def _break_off(self, reason: str) -> None:
        """Nothing more is read of the client; the reason says what it did wrong, if it did."""
        if reason:
            self._counts.ended(reason, peer_text(self.transport), self.port.settings.sweep.now)
        self._all_gone()
        self._linger()

    def _begin(self, stream: int, fields: WireFields, ended: bool) -> None:
        if len(self._requests) >= self._streams:
            self._counts.refused += 1
            self._output.reset(stream, REFUSED_STREAM)
            return
        fault: Http1Error | None = None
        try:
            head = request_head(fields, self._head_limits)
            if head.upgrade is not None and head.upgrade.lower() != _WEBSOCKET:
                fault = Http1Error(501, "not-implemented", "of the protocols of CONNECT only websocket is supported")
        except Http1Error as error:
            fault = error
        if fault is not None:
            head = RequestHead(b"", b"")
            account = nobody(self)
        else:
            ip, https, trusts, _ = peer = self.peer
            account = account_of_peer(ip, https, head.host) if trusts is None else account_of_proxy(head, peer)
        request = Http2Request(self, head, account, stream=stream, output=self._output, client_ended=ended)
        if not self._requests and self._stage is Stage.SERVING:
            self.deadline = self.port.settings.sweep.now + self.port.settings.config.idle_timeout / LOOKS
        self._requests[stream] = request
        if fault is not None:
            request.fail(fault.status, fault.message, fault.code)
            request.done()
            return
        if head.upgrade is not None:
            request.await_answer()
        self._fresh.append(request)

    def _render(self, request: Http2Request) -> None:
        port = self.port
        port.requests += 1
        self._counts.requests += 1
        if not request.body_complete and port.min_body_rate:
            BodyPace(request)
        port.resource.render(request)
        if request.body:
            self._output.consumed(request.stream, len(request.body))

    def _closed(self, stream: int) -> None:
        request = self._requests.get(stream)
        if request is None:
            return
        given_up = request.closed()
        self._requests.pop(stream, None)  # only now: `request_done` would free its place
        if request.is_over:
            self._places.free(request, given_up)
        if not self._requests:
            self._wait()

    def readConnectionLost(self) -> None:
        """The client's FIN (IHalfCloseableProtocol)."""
        self._all_gone()
        self._close()

    def writeConnectionLost(self) -> None:
        """Our half is closed (IHalfCloseableProtocol)."""
        if self._stage is Stage.LINGERING:
            self.deadline = self.port.settings.sweep.now + CLIENT_LINGER_S

    # Time

    def _wait(self) -> None:
        """No stream is open. Say until when one has to be."""
        settings = self.port.settings
        now = settings.sweep.now
        if self._stage is Stage.LEFT:
            self._linger()
        elif self._stage is Stage.SERVING:
            self.deadline = now + settings.config.keepalive_timeout

    def deadline_passed(self, now: float) -> None:
        """The client took too long, or it is time for a look at what was answered."""
        stage = self._stage
        if stage is Stage.LEAVING:
            self._stage = Stage.LEFT
            self._engine.goaway()
            self._output.soon()
            if self._requests:
                self._look(now)
            else:
                self._linger()
        elif stage is Stage.LINGERING or stage is Stage.CLOSED or stage is Stage.GREETING:
            self.abort()
        elif self._requests:
            self._look(now)
        else:
            self.drain()

    def _look(self, now: float) -> None:
        """Give up streams of whose answer the client has taken nothing for too long."""
        self.deadline = now + self.port.settings.config.idle_timeout / LOOKS
        patient = {stream for stream, request in self._requests.items() if request.is_upgraded}
        over = {stream for stream, request in self._requests.items() if request.is_over}
        for stream in self._flood.stalled(now, patient, over):
            self._output.reset(stream, CANCEL)

    # For requests and the port

    def holds(self) -> None:
        """Something is held for the client, or of it: it counts until it is none."""
        self.port.holding.add(self)

    @property
    def held_bytes(self) -> int:
        """See `ClientConnection`."""
        return self._transport_bytes + self._output.queued_in_all + self._places.held_bytes

    @property
    def serving(self) -> int:
        """See `ClientConnection`. A response that is being taken is in progress, too."""
        return len(self._requests)

    def requests(self) -> Iterable[ClientRequest]:
        """Those in progress."""
        return [request for request in self._requests.values() if not request.is_over]

    def request_done(self, request: ClientRequest) -> None:
        """A request is over, and its stream is soon."""
        assert isinstance(request, Http2Request)
        request.leave()
        if request.stream not in self._requests:
            self._places.free(request, False)

    def hold_back(self, until: float) -> None:
        """See `ClientConnection`."""
        self._places.hold_back(until)

    # The end

    def drain(self) -> None:
        """Say that there will be an end, for the node's or since nothing happens here."""
        if self._stage is Stage.SERVING or self._stage is Stage.GREETING:
            self._stage = Stage.LEAVING
            self._engine.announce_end()
            self._output.soon()
            self.deadline = self.port.settings.sweep.now + LAST_STREAMS_S

    def _linger(self) -> None:
        """End the connection behind what was written, without losing that to a reset."""
        if self._stage is Stage.CLOSED or self._stage is Stage.LINGERING:
            return
        self._stage = Stage.LINGERING
        self.deadline = self.port.settings.sweep.now + self.port.settings.config.keepalive_timeout
        self._output.flush_all()
        self.transport.unregisterProducer()
        half_close(self.transport)

    def _close(self) -> None:
        if self._stage is not Stage.CLOSED:
            self._stage = Stage.CLOSED
            self.keep_closing()

    def abort(self) -> None:
        """End the connection with a reset."""
        self._stage = Stage.CLOSED
        super().abort()

    def shut(self, error: str = SHUTDOWN) -> None:
        """See `ClientConnection`."""
        for request in self._requests.values():
            if not request.is_over:
                request.error = error
        self.abort()

    # Flow

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self.holds()
        self._transport_bytes = TRANSPORT_BYTES
        self._output.hold()

    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""
        self._transport_bytes = 0
        self._output.go_on()

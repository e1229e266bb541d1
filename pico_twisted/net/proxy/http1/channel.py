"""One connection of a proxy client: HTTP/1.1 read, and requests given to the port's resource one after the other.

What can go wrong, and what is done.

*Pipelining.* The next request is parsed when the one before is answered and read to its end. What a client sends
ahead is held up to a bound, then reading stops.

*Ends.* A client that ends its half may have left, and one that is refused may still send: see `half_close`.

*Memory.* The transport tells when it holds enough; then the tunnel gets no credit. What it holds meanwhile is counted.

*Time.* One deadline, moved by what happens: the head has `head_timeout` in all, an idle connection `keepalive_timeout`;
while a request is forwarded its `RoutedRequest` keeps the time.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pico_twisted.core.http1.account import account_of_peer, account_of_proxy
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, RequestHead
from pico_twisted.core.http1.server import ServerConnection
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_S, DRAIN_IDLE_S, ClientChannel
from pico_twisted.net.proxy.http1.half_close import HalfClose
from pico_twisted.net.proxy.http1.request import Http1Request, refuse
from pico_twisted.net.proxy.http2.arrival import asks_for_http2, take_over
from pico_twisted.net.proxy.pace import BodyPace
from pico_twisted.net.proxy.port import TRANSPORT_BYTES, ClientRequest, Forward, ProxyPort
from pico_twisted.net.routing.refusals import SHUTDOWN
from pico_twisted.net.socket.options import writer

READ_AHEAD_BYTES: Final = 64 * 1024
"""Most bytes that a client may send ahead of the answer to its request: one read."""


class Stage(enum.Enum):
    """Where in its life a connection is."""

    READING = enum.auto()  # no request is in progress: the next head is awaited
    SERVING = enum.auto()  # a request is in progress
    RAW = enum.auto()  # an upgraded protocol is
    LINGERING = enum.auto()  # the last answer leaves, and what comes is thrown away
    CLOSED = enum.auto()  # what was written may still leave; nothing else happens


_READING = Stage.READING
_SERVING = Stage.SERVING
_RAW = Stage.RAW
_LINGERING = Stage.LINGERING
_CLOSED = Stage.CLOSED


class ProxyChannel(ClientChannel):
    """Reads requests, gives them to the port's resource, and writes what comes back.

    Args:
        port: that the client came to.
        address: of the client, or of the proxy that it came through.

    Attributes:
        reading_stopped: why the client is not read now. For the others see `ClientConnection`.
    """

    held_bytes = 0

    def __init__(self, port: ProxyPort, address: IAddress | None) -> None:
        super().__init__(port, address)
        self._stage = _READING
        self._request: Http1Request | None = None
        self._requests = ServerConnection(port.settings.head_limits, port.http2 is not None)
        self.reading_stopped: set[str] = set()
        self._taking = False  # requests, in a loop
        self._served = False
        self._head_deadline: float | None = None

    def connectionMade(self) -> None:
        """A client connected."""
        transport = self.transport
        self._ends = HalfClose(transport, self.send, self.abort)
        self._write = writer(transport)
        if asks_for_http2(transport):
            take_over(self)
        else:
            super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever side ended it."""
        self._stage = _CLOSED
        super().connectionLost(reason)
        if (forward := self._forward) is not None:
            forward.gone()

    @property
    def _forward(self) -> Forward | None:
        return self._request.forward if self._request is not None else None

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Bytes of requests, of a request's body, or of an upgraded protocol."""
        stage = self._stage
        if stage is _READING:
            self._requests.receive(data)
            self._read_requests()
        elif stage is _SERVING:
            self._requests.receive(data)
            self._read_body()
            if self._requests.buffered > READ_AHEAD_BYTES and self._request is not None:
                self.pause_reading("ahead")
        elif stage is _RAW:
            self._raw_data(data)
        elif stage is _LINGERING and not self._ends.discard(data):
            self.abort()

    def _read_requests(self) -> None:
        """Take the next request, and those behind it that are answered at once."""
        if self._taking:
            return
        self._taking = True
        try:
            while self._stage is _READING:
                head = self._requests.next_event()
                if type(head) is not RequestHead:
                    if self._requests.is_http2:
                        self._stage = _CLOSED
                        super().connectionLost()
                        take_over(self, self._requests.take_rest())
                    else:
                        self._wait(self._requests.head_begun)
                    return
                self._begin(head)
        except Http1Error as error:
            refuse(self, error)
        finally:
            self._taking = False

    def _begin(self, head: RequestHead) -> None:
        self.deadline = NEVER
        body = b""
        complete = not (head.chunked or head.length)
        fault: Http1Error | None = None
        try:
            while not complete and (event := self._requests.next_event()) is not None:
                if type(event) is bytes:
                    body += event
                else:
                    complete = True
        except Http1Error as error:
            fault = error
        ip, https, trusts, _ = peer = self.peer
        account = account_of_peer(ip, https, head.host) if trusts is None else account_of_proxy(head, peer)
        request = self._request = Http1Request(self, head, account, body, complete)
        request.keep_alive = head.keep_alive
        request.trailers = self._requests.trailers
        self._stage = _SERVING
        self.port.requests += 1
        if fault is not None:
            request.break_off(fault)
            return
        if not complete and self.port.min_body_rate:
            BodyPace(request)
        self.port.resource.render(request)
        if self.held_bytes and (forward := self._forward) is not None:
            forward.pause()  # the answer before it still waits in the transport
        if self._ends.client_ended and self._request is request:
            self._client_ended(request)

    def _read_body(self) -> None:
        request, forward = self._request, self._forward
        if request is None or forward is None:
            return
        try:
            while not self.reading_stopped and not request.body_complete:
                event = self._requests.next_event()
                if event is None:
                    break
                if event is END:
                    request.body_complete = True
                    forward.trailers(block) if (block := self._requests.trailers) else forward.body_ended()
                elif type(event) is bytes:
                    request.bytes_in += len(event)
                    if request.bytes_in > request.most_bytes:
                        raise self.port.body_too_long()
                    forward.body(event)
        except Http1Error as error:
            request.break_off(error)

    def _raw_data(self, data: bytes) -> None:
        if (request := self._request) is not None and request.forward is not None:
            request.bytes_in += len(data)
            request.forward.body(data)

    def _wait(self, head_begun: bool) -> None:
        """No whole head is here. Say until when one has to be, or to begin."""
        settings = self.port.settings
        now = settings.sweep.now
        if self._ends.client_ended:
            self._close()
        elif head_begun:
            if self._head_deadline is None:
                self._head_deadline = now + settings.config.head_timeout
            self.deadline = self._head_deadline
        elif self.port.draining:
            self.deadline = now + DRAIN_IDLE_S
        elif self._served:
            self.deadline = now + settings.config.keepalive_timeout

    def readConnectionLost(self) -> None:
        """The client's FIN (IHalfCloseableProtocol)."""
        self._ends.client_ended = True
        request = self._request
        if self._stage is _CLOSED:
            return
        if self._stage is _LINGERING or request is None:
            self._close()
        elif self._stage is _RAW and (forward := self._forward) is not None:
            forward.body_ended()
        elif not request.body_complete:
            self.abort()
        else:
            self._client_ended(request)

    def writeConnectionLost(self) -> None:
        """Our half is closed (IHalfCloseableProtocol)."""
        self._ends.we_ended = True
        if self._stage is _LINGERING:
            self.deadline = self.port.settings.sweep.now + CLIENT_LINGER_S

    def _client_ended(self, request: Http1Request) -> None:
        request.keep_alive = request.keep_alive and self._requests.buffered > 0
        self.deadline = self._ends.ended_during(request, self.port.settings.sweep.now)

    # Time

    def deadline_passed(self, now: float) -> None:
        """A head, an idle connection or a lingering one took too long; or a client is to be asked."""
        if self._stage is _LINGERING and self._ends.we_ended:
            self._close()  # what the kernel holds for the client still goes to it
        elif self._stage is _LINGERING or self._stage is _CLOSED:
            self.abort()
        elif self._request is not None:
            self.deadline = self._ends.ask(self._request, now, self.held_bytes == 0)
        elif self._requests.head_begun:
            refuse(self, Http1Error(408, "request-timeout", "request head took too long"))
        else:
            self._close()
            self.deadline = now + CLIENT_LINGER_S

    # Output, for Http1Request

    def send(self, data: bytes) -> None:
        """Write to the client."""
        if self.held_bytes:
            self.held_bytes += len(data)
        self._write(data)

    def goes_on(self) -> bool:
        """Whether the connection may go on behind the response that begins now."""
        return not self.port.draining and (not self._ends.client_ended or self._requests.buffered > 0)

    def upgraded(self) -> None:
        """A 101 was written: from here bytes go both ways as they are."""
        self._stage = _RAW
        self.deadline = NEVER
        rest = self._requests.take_rest()
        self.resume_reading("ahead")
        if rest:
            self._raw_data(rest)
        if self._ends.client_ended and (forward := self._forward) is not None:
            forward.body_ended()

    def end_raw(self) -> None:
        """The service ended its direction of the upgraded protocol."""
        if self._stage is not _CLOSED:
            self._ends.end()

    def request_done(self, request: ClientRequest) -> None:
        """The request in progress is over: go on with the next one, or close."""
        current, self._request = self._request, None
        self._served = True
        self._head_deadline = None
        if current is None:
            return
        if current.pieces is not None:
            current.pieces.take()  # nobody is there for them, or they were sent
        if self._stage is _CLOSED:
            return
        if not current.keep_alive or not current.body_complete:
            sends_on = self._stage is _RAW or not current.body_complete or self._requests.buffered > 0
            if self._ends.client_ended or not sends_on:
                self._close()
            else:
                self.linger()
            return
        self._requests.next_request()
        self._stage = _READING
        if self.reading_stopped:
            self.resume_reading("ahead")
            self.resume_reading("request")
        if self._requests.buffered:
            self._read_requests()
        else:
            self._wait(False)

    def hold_back(self, until: float) -> None:
        """See `ClientConnection`. It ends: who comes again stands in the kernel's line, which costs nothing."""
        if self._request is not None:
            self._request.keep_alive = False

    @property
    def serving(self) -> int:
        """Whether a request is in progress, or on its way in: 1 or 0."""
        return self._request is not None or self._requests.head_begun

    def requests(self) -> Iterable[ClientRequest]:
        """The one in progress."""
        return () if self._request is None else (self._request,)

    # Refusals and the end

    def linger(self) -> None:
        """End the connection behind what was written, without losing that to a reset."""
        if self._stage is _CLOSED or self._stage is _LINGERING:
            return
        self._stage = _LINGERING
        self.deadline = self.port.settings.sweep.now + self.port.settings.config.keepalive_timeout
        self.reading_stopped.clear()
        self.transport.unregisterProducer()
        if self._ends.client_ended:
            self.transport.loseConnection()
        else:
            self.transport.resumeProducing()
            self._ends.end()

    def _close(self) -> None:
        if self._stage is not _CLOSED:
            self._stage = _CLOSED
            self.keep_closing()

    def abort(self) -> None:
        """End the connection with a reset."""
        self._stage = _CLOSED
        super().abort()

    def shut(self, error: str = SHUTDOWN) -> None:
        """End now, whatever is in progress, for a reason that is none of the client's or the service's."""
        if self._request is not None:
            self._request.error = error
        self.abort()

    def drain(self) -> None:
        """The node shuts down: an idle connection has a moment left."""
        if self._stage is _READING:
            self._wait(self._requests.head_begun)

    # Flow

    def pause_reading(self, why: str) -> None:
        """Stop reading, for one of two reasons; both have to be taken back."""
        if not self.reading_stopped and self._stage is not _CLOSED and self._stage is not _LINGERING:
            self.transport.pauseProducing()
        self.reading_stopped.add(why)

    def resume_reading(self, why: str) -> None:
        """Take one reason back."""
        if why not in self.reading_stopped:
            return
        self.reading_stopped.discard(why)
        if self.reading_stopped or self._stage is _CLOSED or self._stage is _LINGERING:
            return
        if not self._ends.client_ended:
            self.transport.resumeProducing()
        if self._stage is _SERVING:
            self._read_body()

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self.held_bytes = TRANSPORT_BYTES
        self.port.holding.add(self)
        if (forward := self._forward) is not None:
            forward.pause()

    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""
        self.held_bytes = 0
        self.port.holding.discard(self)
        if (forward := self._forward) is not None:
            forward.resume()
        self._ends.took()

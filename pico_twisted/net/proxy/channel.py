"""One connection of a proxy client: HTTP/1.1 read on llhttp, requests given to the site's resource one after the other.

What can go wrong, and what is done.

*Pipelining.* The next request is parsed when the one before is answered and read to its end. What a client sends
ahead is held up to a bound, then reading stops.

*A client that leaves* while we wait for the service sends the same FIN as one that only ended its half and waits for
the answer. Nothing tells them apart but sending something: so a client whose FIN came before the response began is
asked after a moment with an interim 100 (RFC 9110 15.2 lets clients ignore it): the kernel of one that left answers
with a reset. HTTP/1.0 clients get no 1xx, so they get their answer. When the FIN comes behind the response's head, its
bytes are the question: while they flow, a client that left answers them with a reset; when they pause, it has left.

*Closing.* A socket that is closed with unread input resets the connection, and the answer with it. So after a refusal
the connection half-closes and lingers: input is thrown away for a while.

*Memory.* The transport tells when it holds enough; then the tunnel gets no credit. What it holds meanwhile is counted.

*Time.* One deadline, moved by what happens: the head has `head_timeout` in all, an idle connection `keepalive_timeout`;
while a request is forwarded its `RoutedRequest` keeps the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import Client, error_response
from pico_twisted.core.http1.head import END, RequestHead
from pico_twisted.core.http1.server import ServerConnection
from pico_twisted.net.proxy.request import ProxyRequest
from pico_twisted.net.socket.options import half_close, is_dead, plain_ip, tune, writer
from pico_twisted.net.turn import NEVER

if TYPE_CHECKING:
    from pico_twisted.net.proxy.site import ProxySite

log = Logger()

READ_AHEAD_BYTES: Final = 64 * 1024
"""What a client may send ahead of the answer to its request: one read."""
TRANSPORT_BYTES: Final = 64 * 1024
"""What a Twisted transport holds when it asks us to pause."""
LINGER_S: Final = 3.0
"""How long input is thrown away after a refusal."""
LINGER_BYTES: Final = 4 * 1024 * 1024
"""And how much of it at most."""
ASK_AFTER_S: Final = 0.3
"""A client whose FIN came, and that got no answer in this time, is asked whether it is still there."""
DRAIN_IDLE_S: Final = 1.0
"""While the node drains, an idle connection is closed after this: a request on its way still gets its answer."""

_ASK = b"HTTP/1.1 100 Continue\r\n\r\n"


@implementer(IHalfCloseableProtocol, IPushProducer)
class ProxyChannel(Protocol):
    """Reads requests, gives them to the site's resource, and writes what comes back.

    Attributes:
        site: the factory.
        peer: the client's address.
        client: what is told of the client to the next hop.
        held_bytes: an upper bound on what the transport holds for this client.
    """

    site: ProxySite
    transport: Any
    peer: Any = None
    client = Client(b"")
    held_bytes = 0
    deadline = NEVER

    _request: ProxyRequest | None = None
    _paused = False  # by the transport
    _raw = False
    _lingering = False
    _write_ended = False
    _watched = False  # its FIN came behind the response's head
    _sent_before = 0
    _lingered = 0
    at_eof = False  # its FIN came
    _asked = False
    _closed = False
    _busy = False

    def connectionMade(self) -> None:
        """A client connected."""
        site = self.site
        transport: Any = self.transport
        self.peer = peer = transport.getPeer()
        host = plain_ip(getattr(peer, "host", ""))
        https = bool(ISSLTransport.providedBy(transport))
        self.client = Client(host.encode("ascii", "replace"), https, site.trusts(host))
        self._reading_stopped: set[str] = set()
        self._out: list[bytes] = []
        self._requests = ServerConnection(site.settings.head_limits)
        if len(site.connections) >= site.settings.max_connections:
            self._closed = True
            transport.abortConnection()
            return
        tune(transport, tunnel=False)
        self._send = writer(transport)
        transport.registerProducer(self, True)
        site.connections.add(self)
        self.deadline = site.settings.sweep.now + site.settings.head_timeout_s
        site.settings.sweep.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever ended it."""
        self._closed = True
        self.site.connections.discard(self)
        self.site.paused.discard(self)
        self.site.settings.sweep.discard(self)
        request = self._request
        if request is not None and request.forward is not None:
            request.forward.gone()

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Bytes of requests, of a request's body, or of an upgraded protocol."""
        if self._lingering:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self._abort()
            return
        if self._closed:
            return
        request = self._request
        if self._raw:
            request.bytes_in += len(data)  # type: ignore[union-attr]
            request.forward.body(data)  # type: ignore[union-attr]
            return
        self._requests.receive(data)
        if request is None:
            self._read_requests()
        else:
            if not request.body_complete and not self._reading_stopped:
                self._read_body(request)
            if self._requests.buffered > READ_AHEAD_BYTES and self._request is not None:
                self.pause_reading("ahead")

    def _read_requests(self) -> None:
        """Take the next request, and those behind it that are answered at once."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._request is None and not self._closed and not self._lingering:
                if not self._requests.buffered:
                    self._wait()
                    return
                try:
                    head = self._requests.next_event()
                except Http1Error as error:
                    self._refuse(error)
                    return
                if head is None:
                    self._wait()
                    return
                self._begin(head)  # type: ignore[arg-type]
        finally:
            self._busy = False

    def _begin(self, head: RequestHead) -> None:
        self.deadline = NEVER
        body = b""
        complete = not head.has_body
        fault: Http1Error | None = None
        if not complete:
            try:
                event = self._requests.next_event()
                if type(event) is bytes:
                    body = event
                    event = self._requests.next_event()
                complete = event is END
                if event is not None and not complete:
                    body += event  # type: ignore[operator]
            except Http1Error as error:
                fault = error
        request = self._request = ProxyRequest(self, head, body, complete)
        self.site.requests += 1
        self._asked = False
        self._watched = False
        if fault is not None:
            self._break(request, fault)
            return
        self.site.resource.render(request)
        if self._paused and request.forward is not None:
            request.forward.pause()  # the answer before it still waits in the transport
        if self.at_eof and self._request is request:
            self._came_to_eof(request)

    def _read_body(self, request: ProxyRequest) -> None:
        forward: Any = request.forward
        try:
            while not self._reading_stopped and not request.body_complete:
                event: Any = self._requests.next_event()
                if event is None:
                    break
                if event is END:
                    request.body_complete = True
                    forward.body_ended()
                else:
                    request.bytes_in += len(event)
                    forward.body(event)
        except Http1Error as error:
            self._break(request, error)

    def _wait(self) -> None:
        """No request is here. Say until when one has to be."""
        settings = self.site.settings
        now = settings.sweep.now
        if self.at_eof:
            self._close()
        elif self._requests.head_begun:
            if self._head_deadline is None:
                self._head_deadline = now + settings.head_timeout_s
            self.deadline = self._head_deadline
        elif self.site.draining:
            self.deadline = now + DRAIN_IDLE_S
        elif self._served:
            self.deadline = now + settings.keepalive_timeout_s

    _head_deadline: float | None = None
    _served = False

    def readConnectionLost(self) -> None:
        """The client's FIN (IHalfCloseableProtocol)."""
        self.at_eof = True
        request = self._request
        if self._closed:
            return
        if self._lingering:
            self._close()
        elif self._raw:
            request.forward.body_ended()  # type: ignore[union-attr]
        elif request is None:
            self._close()
        elif not request.body_complete:
            self._abort()
        else:
            self._came_to_eof(request)

    def writeConnectionLost(self) -> None:
        """Our half is closed (IHalfCloseableProtocol)."""
        self._write_ended = True
        if self._lingering:
            self.deadline = self.site.settings.sweep.now + LINGER_S

    def _came_to_eof(self, request: ProxyRequest) -> None:
        request.keep_alive = request.keep_alive and self._requests.buffered > 0
        if request.status:
            self._watched = True
            self._sent_before = request.bytes_out
        if request.head.version_11 or request.status:
            self.deadline = self.site.settings.sweep.now + ASK_AFTER_S

    # Time

    def deadline_passed(self, now: float) -> None:
        """A head, an idle connection or a lingering one took too long; or a client is to be asked."""
        if self._lingering and self._write_ended:
            self._close()  # what the kernel holds for the client still goes to it
        elif self._lingering or self._closed:
            self._abort()
        elif self._request is not None:
            self._ask(self._request, now)
        elif self._requests.head_begun:
            self._refuse(Http1Error(408, "request-timeout", "request head took too long"))
        else:
            self._close()
            self.deadline = now + LINGER_S

    def _ask(self, request: ProxyRequest, now: float) -> None:
        if not self.at_eof:
            self.deadline = NEVER
        elif self._watched:
            if request.bytes_out == self._sent_before and not self._paused:
                self._abort()
            else:
                self._sent_before = request.bytes_out
                self.deadline = now + ASK_AFTER_S
        elif request.status:
            self.deadline = NEVER
        elif not self._asked:
            self._asked = True
            self.write(_ASK)
            self.flush()
            self.deadline = now
        elif is_dead(self.transport):
            self._abort()
        else:
            self.deadline = now

    # Output, for ProxyRequest

    def write(self, data: bytes) -> None:
        """Write to the client, with the next `flush`."""
        self._out.append(data)

    def flush(self) -> None:
        """Write what was gathered."""
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if self._paused:
            self.held_bytes += len(data)
        self._send(data)

    def goes_on(self, wished: bool) -> bool:
        """Whether the connection goes on behind the response that begins now, when the client wishes it."""
        return wished and not self.site.draining and (not self.at_eof or self._requests.buffered > 0)

    def upgraded(self) -> None:
        """A 101 was sent: from here bytes go both ways as they are."""
        request = self._request
        self._raw = True
        self.deadline = NEVER
        rest = self._requests.take_rest()
        self.resume_reading("ahead")
        if rest:
            request.bytes_in += len(rest)  # type: ignore[union-attr]
            request.forward.body(rest)  # type: ignore[union-attr]
        if self.at_eof:
            request.forward.body_ended()  # type: ignore[union-attr]

    def end_raw(self) -> None:
        """The service ended its direction of the upgraded protocol."""
        self.flush()
        if not self._closed:
            half_close(self.transport)

    def cut(self, *, as_reset: bool) -> None:
        """End the connection behind what was written of a response, without what would make it look whole.

        A response that ends with its connection would look whole after a FIN: the client of one gets a reset.
        """
        if as_reset:
            self._out.clear()
            self._abort()
        else:
            self._linger()

    def write_error(
        self, status: int, message: str, code: str, *, close: bool, head_only: bool, keep_alive_10: bool
    ) -> int:
        """Write an error of ours. Returns the size of its body."""
        extra: list[tuple[bytes, bytes]] = []
        if status == 503:
            extra.append((b"retry-after", b"1"))
        if keep_alive_10:
            extra.append((b"connection", b"keep-alive"))
        answer = error_response(
            status,
            message,
            hop=self.site.settings.node_id,
            code=code,
            close=close,
            head_only=head_only,
            date=datetimeToString(),
            extra=extra,
        )
        self.write(answer)
        return len(answer) - answer.index(b"\r\n\r\n") - 4

    def request_done(self, request: ProxyRequest) -> None:
        """The forwarding of the request is over: log it, and go on with the next one, or close."""
        self.flush()
        self._log(request)
        request.forward = None
        if self._request is not request:
            return
        self._request = None
        self._served = True
        self._head_deadline = None
        if self._closed:
            return
        if not request.keep_alive or not request.response_over or not request.body_complete:
            if self.at_eof or (request.body_complete and not self._requests.buffered and not self._raw):
                self._close()
            else:
                self._linger()
            return
        self._requests.next_request()
        if self._reading_stopped:
            self.resume_reading("ahead")
            self.resume_reading("request")
        if not self._busy:
            self._read_requests()

    def _log(self, request: ProxyRequest) -> None:
        settings = self.site.settings
        forward = request.forward
        if not request.status:
            request.status = 499
        first, whole = request.times()
        settings.metrics.request_done(request.method, request.status, whole, request.bytes_in, request.bytes_out)
        if not settings.access_log.enabled:
            return
        settings.access_log.request(
            client=self.client.ip.decode("ascii"),
            method=request.method,
            target=request.uri,
            endpoint=request.endpoint,
            upstream=forward.upstream if forward is not None else "",
            status=request.status,
            bytes_in=request.bytes_in,
            bytes_out=request.bytes_out,
            first_byte_s=first,
            duration_s=whole,
            request_id=request.request_id.decode("ascii"),
            error=request.error,
        )

    def shut(self) -> None:
        """The node ends now, whatever is in progress."""
        if self._request is not None and self._request.forward is not None:
            self._request.forward.error = "shutdown"
        self._abort()

    @property
    def serving(self) -> bool:
        """Whether a request is in progress, or on its way in."""
        return self._request is not None or self._requests.head_begun

    def drain(self) -> None:
        """The node shuts down: an idle connection has a moment left."""
        if self._request is None and not self._lingering and not self._closed:
            self._wait()

    # Refusals and the end

    def _refuse(self, error: Http1Error) -> None:
        """What came is no request: answer, log it, and close."""
        size = self.write_error(
            error.status, error.message, error.code, close=True, head_only=False, keep_alive_10=False
        )
        settings = self.site.settings
        settings.metrics.request_done(b"", error.status, 0.0, 0, size)
        settings.access_log.request(
            client=self.client.ip.decode("ascii"),
            method=b"",
            target=b"",
            endpoint="",
            upstream="",
            status=error.status,
            bytes_in=0,
            bytes_out=size,
            first_byte_s=None,
            duration_s=0.0,
            request_id="",
            error=error.code,
        )
        self._linger()

    def _break(self, request: ProxyRequest, error: Http1Error) -> None:
        """The body of a request breaks HTTP: answer if nothing was answered, and close."""
        request.keep_alive = False
        forward = request.forward
        if request.status:
            self._abort()
            return
        request.fail(error.status, error.message, error.code)
        if forward is not None:
            forward.error = error.code
            forward.gone()
        else:
            request.done()

    def _linger(self) -> None:
        if self._closed or self._lingering:
            return
        self.flush()
        self._lingering = True
        self.deadline = self.site.settings.sweep.now + self.site.settings.keepalive_timeout_s
        transport: Any = self.transport
        self._reading_stopped.clear()
        transport.unregisterProducer()
        if self.at_eof:
            transport.loseConnection()
        else:
            transport.resumeProducing()
            half_close(transport)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self.deadline = self.site.settings.sweep.now + self.site.settings.keepalive_timeout_s
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()

    def _abort(self) -> None:
        self._closed = True
        transport: Any = self.transport
        transport.abortConnection()

    # Flow

    def pause_reading(self, why: str) -> None:
        """Stop reading, for one of two reasons; both have to be taken back."""
        if not self._reading_stopped and not self._closed and not self._lingering:
            self.transport.pauseProducing()
        self._reading_stopped.add(why)

    def resume_reading(self, why: str) -> None:
        """Take one reason back."""
        if why not in self._reading_stopped:
            return
        self._reading_stopped.discard(why)
        if self._reading_stopped or self._closed or self._lingering:
            return
        if not self.at_eof:
            self.transport.resumeProducing()
        request = self._request
        if request is not None and not request.body_complete and not self._raw:
            self._read_body(request)

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self._paused = True
        self.held_bytes = TRANSPORT_BYTES
        self.site.paused.add(self)
        if self._request is not None and self._request.forward is not None:
            self._request.forward.pause()

    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""
        self._paused = False
        self.held_bytes = 0
        self.site.paused.discard(self)
        if self._request is not None and self._request.forward is not None:
            self._request.forward.resume()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` follows (IPushProducer)."""

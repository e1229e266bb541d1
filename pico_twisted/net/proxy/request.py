"""One request of a proxy client: a slim IRequest for the reverse resource, and the downstream of its `RoutedRequest`.

`twisted.web.server.Request` parses arguments and cookies, adds Date and Server, and cannot send a 1xx or stream a
request's body; making one costs more than a whole head does on llhttp. This one is what a resource that streams
needs: the request as it was read, and the means to answer it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from twisted.web.http_headers import Headers
from zope.interface import implementer

from pico_twisted.core.http1.chunked import LAST_CHUNK
from pico_twisted.core.http1.forwarding import request_to_tunnel, response_to_client
from pico_twisted.core.http1.head import Framing, Keep, RequestHead, ResponseHead, response_framing
from pico_twisted.net.interfaces import IDownstream

if TYPE_CHECKING:
    from pico_twisted.net.proxy.channel import ProxyChannel
    from pico_twisted.net.routing.routed_request import RoutedRequest


@implementer(IDownstream)
class ProxyRequest:
    """A request, from its head until both it and its response are over.

    Attributes:
        head: as read.
        body, body_complete: what came with the head, and whether that was all of the request.
        forward: set by the resource that takes the request.
        status: of the response; 0 while there is none, 499 when the client left before.
        bytes_in, bytes_out: of the bodies.
    """

    __slots__ = (
        "_chunked",
        "_first_byte_at",
        "_started_at",
        "_until_close",
        "body",
        "body_complete",
        "bytes_in",
        "bytes_out",
        "channel",
        "endpoint",
        "error",
        "forward",
        "head",
        "keep_alive",
        "request_id",
        "response_over",
        "status",
        "upgraded",
    )

    def __init__(self, channel: ProxyChannel, head: RequestHead, body: bytes, body_complete: bool) -> None:
        self.channel = channel
        self.head = head
        self.body = body
        self.body_complete = body_complete
        self.forward: RoutedRequest | None = None
        self.endpoint = ""
        self.request_id = b""
        self.error = ""
        self.status = 0
        self.bytes_in = len(body)
        self.bytes_out = 0
        self.keep_alive = head.keep_alive
        self.response_over = False
        self.upgraded = False
        self._chunked = False
        self._until_close = False
        self._started_at = perf_counter()
        self._first_byte_at = 0.0

    # Of IRequest: what a resource may ask

    @property
    def method(self) -> bytes:
        """As received."""
        return self.head.method

    @property
    def uri(self) -> bytes:
        """The target, in origin-form."""
        return self.head.target

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.head.target.partition(b"?")[0]

    @property
    def clientproto(self) -> bytes:
        """The version, as twisted.web writes it."""
        return b"HTTP/1.1" if self.head.version_11 else b"HTTP/1.0"

    @property
    def requestHeaders(self) -> Headers:
        """The fields, as twisted.web's Headers (made at each call)."""
        headers = Headers()
        for _, name, value in self.head.fields:
            headers.addRawHeader(name, value)
        return headers

    def getHeader(self, key: bytes) -> bytes | None:
        """The first value of a field."""
        return self.head.get(key.lower())

    def getClientAddress(self) -> Any:
        """The address of the client's connection."""
        return self.channel.peer

    def getHost(self) -> Any:
        """The address of our end of it."""
        return self.channel.transport.getHost()

    def isSecure(self) -> bool:
        """Whether the client speaks TLS."""
        return self.channel.client.https

    # IDownstream

    def write_head(self, endpoint: bytes | None, length: int | Keep | None, upgrades: bool) -> bytes:
        """Return the request's head for its next hop."""
        channel = self.channel
        return request_to_tunnel(
            self.head if upgrades else self.head._replace(upgrade=None),
            client=channel.client,
            via=channel.site.via,
            request_id=self.request_id,
            endpoint=endpoint,
            length=length,
        )

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on; HTTP/1.0 clients get none."""
        if self.head.version_11:
            self.channel.write(self._head_bytes(head, close=False, chunked=False))
            self.channel.flush()

    def begin(self, head: ResponseHead) -> None:
        """Send the final head, framed for this client."""
        self._first_byte_at = perf_counter()
        status = self.status = head.status
        channel = self.channel
        site = channel.site
        if status == 101:
            self.upgraded = True
            self.keep_alive = False
            channel.write(self._head_bytes(head, close=False, chunked=False))
            channel.upgraded()
            return
        if response_framing(head, self.head.method) is Framing.UNTIL_CLOSE:
            if self.head.version_11:
                self._chunked = True
            else:
                self._until_close = True
                self.keep_alive = False
        if site.draining or channel.at_eof:
            self.keep_alive = channel.goes_on(self.keep_alive)
        channel.write(self._head_bytes(head, close=not self.keep_alive, chunked=self._chunked))

    def _head_bytes(self, head: ResponseHead, *, close: bool, chunked: bool) -> bytes:
        return response_to_client(
            head,
            Framing.CHUNKED if chunked else response_framing(head, self.head.method),
            close=close,
            via=self.channel.site.via,
            version_11_client=self.head.version_11,
        )

    def write(self, data: bytes) -> None:
        """Send body bytes, with the head that is written."""
        self._write_body(data)
        self.channel.flush()

    def _write_body(self, data: bytes) -> None:
        if data:
            self.bytes_out += len(data)
            self.channel.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self, data: bytes) -> None:
        """Send the last body bytes: the response is complete."""
        self._write_body(data)
        self.response_over = True
        if self._chunked:
            self.channel.write(LAST_CHUNK)
        if self.upgraded:
            self.channel.end_raw()
        else:
            self.channel.flush()

    def cut(self) -> None:
        """Break the connection, so that the client sees that the response is not whole."""
        self.response_over = True
        self.keep_alive = False
        self.channel.cut(as_reset=self._until_close or self.upgraded)

    def fail(self, status: int, message: str, code: str) -> None:
        """Answer with an error of ours."""
        self._first_byte_at = perf_counter()
        self.status = status
        self.error = code
        self.response_over = True
        if status == 408 or not self.body_complete:
            self.keep_alive = False
        self.keep_alive = self.channel.goes_on(self.keep_alive)
        self.bytes_out = self.channel.write_error(
            status,
            message,
            code,
            close=not self.keep_alive,
            head_only=self.head.method == b"HEAD",
            keep_alive_10=self.keep_alive and not self.head.version_11,
        )

    def pause_request(self) -> None:
        """Read no more of the body."""
        self.channel.pause_reading("request")

    def resume_request(self) -> None:
        """Go on reading the body."""
        self.channel.resume_reading("request")

    def stop_request(self) -> None:
        """The rest of the body is not wanted."""
        self.keep_alive = False
        self.response_over = True

    def done(self) -> None:
        """The forwarding is over: log it, and let the connection go on."""
        forward = self.forward
        if forward is not None:
            self.error = forward.error or self.error
        self.channel.request_done(self)

    # The record

    def times(self) -> tuple[float | None, float]:
        """Seconds from the head to the first byte of the response (None when there was none), and to now."""
        first = self._first_byte_at - self._started_at if self._first_byte_at else None
        return first, perf_counter() - self._started_at

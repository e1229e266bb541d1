"""The WebSocket of a client of a TCP endpoint: messages one way, the bytes of a TCP session the other.

What is needed. A client asks for `/_pico/v1/tcp/<endpoint ID>`; who it is, whether it may, and under which ceilings is
decided as for every request. The 101 is only given once the service was reached, so that a refusal is an answer with a
status and a reason. From then on each binary message is bytes, an empty one the end of its sender's stream.

What can go wrong. *What was cut looks whole.* So an end in good order is said: by the empty message, and once both have
been sent by a close with 1000. A service that breaks off is told with 1011 and why, a node that stops with 1001; and a
client that is gone without a word, or says that it failed, is a reset for the service. A client that closes with 1000
has sent all that it wanted: its service gets the end of the stream, however slowly it takes what comes before, and what
it still says is thrown away. And a client that does not read for hours still gets the last bytes: until it took them,
the session is one in progress.

*A page in a browser.* A WebSocket needs no permission of CORS, so any page could speak with a database that the browser
can reach, in the name of its user. A request with an `Origin` comes in only if the page itself shows a token, or if its
origin is one that the operator knows.

*Silence.* What stands between client and node closes connections that are silent for a minute. So a session that is
silent gets a ping. No answer is waited for: a client that reads nothing, since its program does not, is as alive as
any. Peers that are gone are found by the kernel (SO_KEEPALIVE), at both ends; and a client that does not even
acknowledge our pings by us, as the kernel would send them again for a quarter of an hour.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from zope.interface import implementer

from pico_twisted.core.http1.affinity import ClientTie
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import request_to_tunnel
from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.protocol_limits import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL,
    CLOSE_NORMAL,
    CLOSE_POLICY,
    CLOSE_PROTOCOL,
)
from pico_twisted.core.rpc.frames import CANCELLED, TCP
from pico_twisted.core.sweep import NEVER
from pico_twisted.core.websocket.frames import (
    BINARY,
    CLOSE,
    EMPTY,
    NO_STATUS,
    PING,
    PONG,
    Closed,
    Event,
    FrameReader,
    Ping,
    WebSocketError,
    close_payload,
    frame_header,
)
from pico_twisted.core.websocket.handshake import UPGRADE_FIELDS, VERSION_FIELDS, accepted, check_handshake, tcp_request
from pico_twisted.net.proxy.request import HTTP_2, ProxyRequest
from pico_twisted.net.routing.interfaces import IDownstream
from pico_twisted.net.routing.refusals import SHUTDOWN
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.routing.tcp_request import TcpRequest
from pico_twisted.net.socket.options import GONE_S, is_unheard, keep_watch
from pico_twisted.net.tunnel.websocket_pipe import lay_mask

PING_S: Final = 30.0
"""Seconds without a byte for the client after which it gets a ping: half of the minute after which load balancers give
a silent connection up."""

LAST_BYTES_S: Final = 10.0
"""Seconds that the service has to end its stream, once the client has closed in good order and all of its bytes are on
their way."""

STALLED_S: Final = 60.0
"""Seconds in which the service has to take some of the bytes of a client that has closed in good order."""

_EMPTY_MESSAGE: Final = frame_header(BINARY, 0)


class _Stage(enum.Enum):
    """Where in its life a session is."""

    CONNECTING = enum.auto()  # the service is not reached
    OPEN = enum.auto()
    LEFT = enum.auto()  # the client closed in good order: its last bytes are on their way
    TAIL = enum.auto()  # both streams have ended: the client's last bytes and our close frame wait for it
    CLOSED = enum.auto()  # our close frame was sent, or the client is gone


def begin_tcp(settings: RoutingSettings, request: ProxyRequest) -> None:
    """Begin a session, or answer why not.

    Args:
        settings: of the port.
        request: for a path of TCP endpoints; it may come in.
    """
    try:
        check_handshake(request.head)
        _check_origin(request)
    except Http1Error as error:
        if error.status == 426:
            request.error_fields = VERSION_FIELDS if request.protocol == HTTP_2 else UPGRADE_FIELDS
        request.fail(error.status, error.message, error.code)
        request.done()
        return
    request.forward = session = TcpWebSocket(settings, request)
    session.start()


def _check_origin(request: ProxyRequest) -> None:
    origin = request.head.by_name.get(b"origin")
    visitor = request.visitor
    if origin is None or (visitor is not None and visitor.in_subprotocol):
        return
    known = request.connection.port.settings.config.tcp.origins
    if origin.decode("latin-1").lower() not in known:
        raise Http1Error(
            403, "origin-refused", "a page needs a token of its own for a TCP endpoint, or proxy.tcp.origins names it"
        )


@implementer(IDownstream)
class TcpWebSocket:
    """One session: the downstream of its `TcpRequest`, and what the client's connection gives its bytes to.

    See `Forward` and `IDownstream` for what is not documented here.

    Args:
        settings: of the port.
        request: of the client, whose handshake is good.
    """

    kind = TCP
    client_connection = b""

    def __init__(self, settings: RoutingSettings, request: ProxyRequest) -> None:
        idle_s = request.connection.port.settings.config.tcp.idle_timeout
        self.endpoint = request.endpoint
        self.head = tcp_request(request.head)
        self.deadline = NEVER
        self._request = request
        self._sweep = settings.sweep
        self._routed = TcpRequest(settings, self, math.inf if idle_s is None else idle_s)
        self._reader = FrameReader(lay_mask, from_client=True)
        self._stage = _Stage.CONNECTING
        self._client_ended = False
        self._service_ended = False
        self._wrote_at = 0.0
        self._pong: bytes | None = None  # of a ping that waits until the client reads
        self._bytes_in = 0
        self._bytes_out = 0
        self._waiting_bytes = math.inf  # of a client that closed, when they were last looked at

    def start(self) -> None:
        """Reach the service."""
        self._routed.start(b"", False)

    def tie(self) -> ClientTie:
        """By the client's address alone. See `IDownstream.tie`."""
        return ClientTie(self._request.account)

    # Forward: what the connection says

    @property
    def upstream(self) -> str:
        """The agent or node that was tried last."""
        return self._routed.upstream

    @property
    def upstream_node(self) -> str:
        """The same if it is a node; empty if it is an agent."""
        return self._routed.upstream_node

    @property
    def error(self) -> str:
        """The code of what went wrong."""
        return self._routed.error

    def body(self, data: bytes) -> None:
        """Bytes of frames."""
        if self._stage is not _Stage.OPEN:
            return
        try:
            for event in self._reader.receive(data):
                self._take(event)
                if self._stage is not _Stage.OPEN:
                    return
        except WebSocketError as error:
            self._close(error.code, error.reason)
            self._routed.gone(CANCELLED, error.reason)

    def _take(self, event: Event) -> None:
        if type(event) is Ping:
            self._pong = event.payload
            if not self._request.response_waits:
                self._answer_ping()
        elif type(event) is Closed:
            self._client_closed(event)
        elif self._client_ended:
            raise WebSocketError(CLOSE_PROTOCOL, "a message behind the empty one")
        elif event is EMPTY:
            self._client_ended = True
            self._routed.body_ended()
        elif type(event) is bytes:
            self._bytes_in += len(event)
            self._routed.body(event)

    def _client_closed(self, closed: Closed) -> None:
        if closed.code not in (CLOSE_NORMAL, NO_STATUS):
            self._close(closed.code, "")
            self._routed.gone(CANCELLED, f"the client closed with {closed.code}")
            return
        self._close(CLOSE_NORMAL, "")
        self._stage = _Stage.LEFT
        self.deadline = self._sweep.now + LAST_BYTES_S
        self._routed.resume()
        if not self._client_ended:
            self._client_ended = True
            self._routed.body_ended()

    def body_ended(self) -> None:
        """The client's connection has ended without a close."""
        self.gone()

    def trailers(self, block: bytes) -> None:
        """There are none where frames are expected."""

    def gone(self) -> None:
        """The client's connection is gone."""
        if self._stage is _Stage.TAIL:
            self._over()
        elif self._stage is not _Stage.LEFT:
            self._stage = _Stage.CLOSED
            self._routed.gone()

    def _shut(self, error: str) -> None:
        """See `ProxyRequest.say_end`."""
        if self._stage is _Stage.OPEN:
            self._close(CLOSE_POLICY, error)
        self._request.error = error
        self._routed.gone(CANCELLED, error)
        if self._stage is _Stage.TAIL:
            self._over()

    def pause(self) -> None:
        """The client does not read."""
        if self._stage is not _Stage.LEFT:
            self._routed.pause()

    def resume(self) -> None:
        """It reads again."""
        if self._stage is _Stage.TAIL:
            self._over()
            return
        if self._pong is not None and self._stage is _Stage.OPEN:
            self._answer_ping()
        self._routed.resume()

    # IDownstream: what the call says

    def write_head(self, endpoint: bytes | None, length: int | None, upgrades: bool) -> bytes:
        """See `IDownstream.write_head`."""
        request = self._request
        connection = request.connection
        return request_to_tunnel(
            self.head,
            account=request.account,
            peer=connection.peer._replace(connection=b""),
            request_id=request.request_id,
            via=connection.port.via,
            endpoint=endpoint,
            over_http2=request.protocol == HTTP_2,
        )

    def interim(self, head: ResponseHead) -> None:
        """A 1xx means nothing to a client that waits for a 101."""

    def begin(self, head: ResponseHead) -> None:
        """The service was reached; or an agent says why not."""
        request = self._request
        if head.status != 101:
            request.begin(head)
            return
        self._stage = _Stage.OPEN
        self._wrote_at = self._sweep.now
        self.deadline = self._wrote_at + PING_S
        self._sweep.add(self)
        keep_watch(request.connection.transport)
        request.say_end = self._shut
        request.begin(accepted(request.head))

    def write(self, data: bytes) -> None:
        """Bytes of the service."""
        if self._stage is _Stage.OPEN:
            if data:
                self._wrote_at = self._sweep.now
                self._bytes_out += len(data)
                self._request.write(frame_header(BINARY, len(data)) + data)
        elif self._stage is _Stage.CONNECTING:
            self._request.write(data)

    def finish(self, data: bytes) -> None:
        """The service's stream has ended."""
        if self._stage is _Stage.OPEN:
            self._service_ended = True
            self.write(data)
            self._request.write(_EMPTY_MESSAGE)
        elif self._stage is _Stage.CONNECTING:
            self._request.finish(data)

    def write_trailers(self, block: bytes) -> None:
        """An agent's error needs none."""

    def cut(self) -> None:
        """The session is broken off."""
        if self._stage is _Stage.OPEN:
            routed = self._routed
            code = CLOSE_GOING_AWAY if routed.error == SHUTDOWN else CLOSE_INTERNAL
            self._close(code, routed.reason or routed.error)
        elif self._stage is _Stage.CONNECTING:
            self._request.cut()

    def fail(self, status: int, message: str, code: str) -> None:
        """Answer with an error of ours."""
        self._request.fail(status, message, code)

    def pause_request(self) -> None:
        """Read no more of the client."""
        self._request.pause_request()

    def resume_request(self) -> None:
        """Go on."""
        self._request.resume_request()

    def stop_request(self) -> None:
        """The service, whose stream had ended, takes nothing any more."""
        if self._stage is _Stage.OPEN and not self._client_ended:
            self._close(CLOSE_INTERNAL, "the service closed the connection")

    def done(self) -> None:
        """The session is over."""
        if self._stage is _Stage.OPEN:
            self._close(CLOSE_NORMAL, "")
            if self._request.response_waits:
                self._stage = _Stage.TAIL
                return
        self._over()

    def _over(self) -> None:
        self._sweep.discard(self)
        request = self._request
        if self._stage is not _Stage.CONNECTING:
            request.bytes_in, request.bytes_out = self._bytes_in, self._bytes_out
        request.done()

    # Frames that carry nothing of the session

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep: the client heard nothing for a while, or has left and the service says on."""
        if self._stage is _Stage.LEFT:
            self._look_at_service(now)
            return
        silent = self._wrote_at + PING_S <= now
        self.deadline = (now if silent else self._wrote_at) + PING_S
        connection = self._request.connection
        if is_unheard(connection.transport, GONE_S):
            connection.shut("client-gone")
        elif silent and self._stage is _Stage.OPEN and not self._request.response_waits:
            self._request.write(frame_header(PING, 0))

    def _look_at_service(self, now: float) -> None:
        """The client has left in good order: wait for the service for as long as it takes what was said."""
        before, self._waiting_bytes = self._waiting_bytes, self._routed.waiting_bytes
        if self._waiting_bytes and self._waiting_bytes < before:
            self.deadline = now + STALLED_S
        elif not self._waiting_bytes and 0 < before < math.inf:
            self.deadline = now + LAST_BYTES_S
        else:
            self._routed.gone()

    def _answer_ping(self) -> None:
        payload, self._pong = self._pong, None
        assert payload is not None
        self._wrote_at = self._sweep.now
        self._request.write(frame_header(PONG, len(payload)) + payload)

    def _close(self, code: int, reason: str) -> None:
        """Say that nothing more comes."""
        self._stage = _Stage.CLOSED
        payload = b"" if code == NO_STATUS else close_payload(code, reason)
        self._request.write(frame_header(CLOSE, len(payload)) + payload)
        self._request.finish(b"")

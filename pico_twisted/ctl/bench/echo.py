"""The service behind a bench's endpoints. It answers calls inside the agent, without a connection to anything.

So what is measured is the cluster, and as little as can be of this process. A request gets its own body back, or one of
a size that was asked for; a WebSocket gets each message back when it is whole. All of it in versions 1 and 2 of the
protocol, streamed and with flow control, as a good service would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import End, RequestHead
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import PROTOCOL
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.core.websocket.accept import accept_of
from pico_twisted.ctl.bench.messages import Content, FrameCount, OtherMessage
from pico_twisted.net.tunnel import SEND_HIGH_BYTES
from pico_twisted.net.tunnel.interfaces import ICallAcceptor, IHttpReceiver, ITunnel

_PIECE_BYTES: Final = 60 * 1024
"""What a tunnel carries in one frame."""
SERVER: Final = b"pico-bench"
"""Names the service in its answers: what answers otherwise is something else."""
_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


@implementer(ICallAcceptor)
class EchoService:
    """Answers the calls of all sessions of one agent.

    Args:
        content: what requests are answered with, and the only message that WebSockets get and send back.
        drain_requested: called with a tunnel whose node asks for a replacement.
    """

    def __init__(self, content: Content, drain_requested: Callable[[object], None]) -> None:
        self.content = content
        self._drain_requested = drain_requested

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> EchoCall:
        """Answer a call. See `ICallAcceptor.call_opened`."""
        echo = EchoCall(self, tunnel, call)
        call.receiver = echo
        echo.frame(payload, more)
        return echo

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session (ICallAcceptor)."""
        self._drain_requested(tunnel)


@implementer(IHttpReceiver)
class EchoCall:
    """One call. Output waits here while the tunnel has enough of it, and so does the credit for its input."""

    __slots__ = ("_body", "_call", "_content", "_ended", "_frames", "_out", "_owed", "_stream", "_tunnel")

    def __init__(self, service: EchoService, tunnel: ITunnel, call: Call) -> None:
        self._content = service.content
        self._body = service.content.response
        self._tunnel = tunnel
        self._call = call
        self._stream = tunnel.dialect.read_request(REQUEST_LIMITS)
        self._frames: FrameCount | None = None  # after an upgrade
        self._out = bytearray()
        self._owed = 0
        self._ended = False

    def frame(self, payload: bytes, more: bool) -> None:
        """A frame of the request."""
        self._owed += len(payload)
        try:
            for event in self._stream.feed(payload, more):
                if isinstance(event, RequestHead):
                    self._begin(event, more)
                elif isinstance(event, End):
                    self._ended = True
                    self._out += self._body or b""
                elif self._frames is not None:
                    self._out += self._content.returned * self._frames.feed(event)
                elif self._body is None:
                    self._out += event
        except (Http1Error, CallProtocolError, OtherMessage) as error:
            self._tunnel.reset(self._call, PROTOCOL, str(error))
            return
        self.drained()

    def trailers(self, block: bytes) -> None:
        """The request has ended with trailers, which do not come back."""
        self._owed += len(block)
        self._ended = True
        self._out += self._body or b""
        self.drained()

    def reset(self, code: str, text: str) -> None:
        """The caller gave up."""
        self._out.clear()

    def lost(self) -> None:
        """The session ended."""
        self._out.clear()

    def _begin(self, head: RequestHead, more: bool) -> None:
        if head.upgrade is not None:
            self._stream.upgraded()
            self._body = b""
            self._frames = FrameCount(self._content.sent)
            self._out += _SWITCHING % accept_of(head.get(b"sec-websocket-key") or b"")
            return
        length = head.length if self._body is None else len(self._body)
        if length is None and not more and not head.chunked:
            length = 0
        fields = b"" if length is None else b"Content-Length: %d\r\n" % length
        self._out += b"HTTP/1.1 200 OK\r\nServer: %b\r\n%b\r\n" % (SERVER, fields)
        if head.method == b"HEAD":
            self._body = b""

    def drained(self) -> None:
        """Hand over what there is, as far as the tunnel wants it; then the request may go on as well.

        A version that knows no streams gets the whole answer in one piece.
        """
        tunnel, call, out = self._tunnel, self._call, self._out
        most = _PIECE_BYTES if tunnel.dialect.whole_body_bytes is None else len(out)
        while not call.send_ended and call.queued <= SEND_HIGH_BYTES and (out or self._ended):
            data = bytes(out[:most])
            del out[:most]
            tunnel.send(call, data, bool(out) or not self._ended)
        if not out and not call.closed:
            owed, self._owed = self._owed, 0
            tunnel.consumed(call, owed)

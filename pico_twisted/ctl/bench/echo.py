"""The service behind a bench's endpoints. It answers calls inside the agent, without a connection to anything.

So what is measured is the cluster, and as little as can be of this process. A request gets its own body back, or one of
a size that was asked for; a WebSocket gets each message back when it is whole. All of it in versions 1 and 2 of the
protocol, streamed and with flow control, as a good service would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import End, RequestHead
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.rpc.frames import PROTOCOL
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.ctl.bench.messages import FrameCount, Message, OtherMessage, accept_of
from pico_twisted.net.interfaces import ICallAcceptor, ICallReceiver
from pico_twisted.net.tunnel import SEND_HIGH_BYTES

_PIECE_BYTES: Final = 60 * 1024
"""What a tunnel carries in one frame."""
SERVER: Final = b"pico-bench"
"""Names the service in its answers: what answers otherwise is something else."""
_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


def body_of(size: int) -> bytes:
    """A body that is not all the same, so that nothing on the way can make it small."""
    pattern = bytes(range(256))
    return (pattern * (size // 256 + 1))[:size]


@implementer(ICallAcceptor)
class EchoService:
    """Answers the calls of all sessions of one agent.

    Args:
        body: what every request is answered with; None for its own body.
        message: the only one that WebSockets get, and send back.
        drain_requested: called with a tunnel whose node asks for a replacement.
    """

    def __init__(self, body: bytes | None, message: Message, drain_requested: Callable[[object], None]) -> None:
        self.body = body
        self.message = message
        self._drain_requested = drain_requested

    def call_opened(self, tunnel: Any, call: Any, kind: int, payload: bytes, more: bool) -> EchoCall:
        """Answer a call. See `ICallAcceptor.call_opened`."""
        echo = EchoCall(self, tunnel, call)
        call.receiver = echo
        echo.frame(payload, more)
        return echo

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session (ICallAcceptor)."""
        self._drain_requested(tunnel)


@implementer(ICallReceiver)
class EchoCall:
    """One call. Output waits here while the tunnel has enough of it, and so does the credit for its input."""

    __slots__ = ("_call", "_ended", "_frames", "_head_only", "_out", "_owed", "_service", "_stream", "_tunnel")

    def __init__(self, service: EchoService, tunnel: Any, call: Any) -> None:
        self._service = service
        self._tunnel = tunnel
        self._call = call
        self._stream = tunnel.dialect.read_request(REQUEST_LIMITS)
        self._frames: FrameCount | None = None  # after an upgrade
        self._out: deque[bytes] = deque()
        self._owed = 0
        self._ended = False
        self._head_only = False

    def frame(self, payload: bytes, more: bool) -> None:
        """A frame of the request."""
        self._owed += len(payload)
        try:
            for event in self._stream.feed(payload, more):
                self._take(event, more)
        except (Http1Error, CallProtocolError, OtherMessage) as error:
            self._tunnel.reset(self._call, PROTOCOL, str(error))
            return
        self._send()

    def reset(self, code: str, text: str) -> None:
        """The caller gave up."""
        self._out.clear()

    def lost(self) -> None:
        """The session ended."""
        self._out.clear()

    def drained(self) -> None:
        """The tunnel has room again."""
        self._send()

    def _take(self, event: RequestHead | bytes | End, more: bool) -> None:
        frames = self._frames
        if isinstance(event, bytes):
            if frames is not None:
                for _ in range(frames.feed(event)):
                    self._out.extend(_pieces(self._service.message.returned))
            elif self._service.body is None and not self._head_only:
                self._out.append(event)
        elif isinstance(event, RequestHead):
            self._begin(event, more)
        else:
            self._ended = True
            body = self._service.body
            if body and frames is None and not self._head_only:
                self._out.extend(_pieces(body))

    def _begin(self, head: RequestHead, more: bool) -> None:
        if head.upgrade is not None:
            self._stream.upgraded()
            self._frames = FrameCount(self._service.message.sent)
            self._out.append(_SWITCHING % accept_of(head.get(b"sec-websocket-key") or b""))
            return
        self._head_only = head.method == b"HEAD"
        body = self._service.body
        length = len(body) if body is not None else head.length
        if length is None and not more and not head.chunked:
            length = 0
        fields = b"" if length is None else b"Content-Length: %d\r\n" % length
        self._out.append(b"HTTP/1.1 200 OK\r\nServer: %b\r\n%b\r\n" % (SERVER, fields))

    def _send(self) -> None:
        """Hand over what there is, as far as the tunnel wants it; then the request may go on as well."""
        tunnel, call, out = self._tunnel, self._call, self._out
        small = len(out) < 3 and sum(map(len, out)) <= _PIECE_BYTES and call.queued <= SEND_HIGH_BYTES
        if small or tunnel.dialect.whole_body_bytes is not None:
            data = b"".join(out)
            out.clear()
            tunnel.send(call, data, not self._ended)
        while out and call.queued <= SEND_HIGH_BYTES:
            data = out.popleft()
            tunnel.send(call, data, bool(out) or not self._ended)
        if not out and not call.closed:
            owed, self._owed = self._owed, 0
            tunnel.consumed(call, owed)


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _PIECE_BYTES] for at in range(0, len(data), _PIECE_BYTES))

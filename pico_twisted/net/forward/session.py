"""One TCP session, as its client sees it: a WebSocket to a node that carries a stream of bytes each way.

What can go wrong. A transfer that was cut must never look whole. So the end of the service's stream is believed only
when it was said, by an empty message; a connection that is lost, or a close frame before that, is a cut, and whoever
uses the session is told the reason. Nor is it over when we have said the last word: the last bytes may wait for a long
time, here or in the kernel, while the service takes none. So the node's close is waited for, and only a node that took
all and says nothing is left after a moment.

A middlebox forgets connections over which nothing comes: after a silence we send a ping. Whether it is answered says
nothing, since a node reads no ping behind bytes that its service does not take. A machine that is gone is found by the
kernel's own keepalive; or by us, as the kernel sends a ping that nobody acknowledges again for a quarter of an hour.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.protocol_limits import CLOSE_INTERNAL, CLOSE_NORMAL, CLOSE_PROTOCOL
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.core.text import printable
from pico_twisted.core.websocket.frames import (
    BINARY,
    CLOSE,
    NO_MASK,
    PING,
    PONG,
    Closed,
    Ended,
    FrameReader,
    LayMask,
    Ping,
    WebSocketError,
    close_payload,
    frame_header,
)
from pico_twisted.core.websocket.opening import NoWebSocket, Opening, Refused
from pico_twisted.net.socket.options import GONE_S, forget_output, is_unheard, keep_watch, took_all, tune, writer

log = Logger()

MAX_PIECE_BYTES: Final = 60 * 1024
"""Most bytes of one message: with its header it fits a read of 64 KiB."""
PING_S: Final = 20.0
"""Seconds without a byte from the node after which we send a ping: proxies close what is silent for a minute."""
CLOSE_S: Final = 2.0
"""Seconds that the node gets to take our close frame, or to send its own once it took the ends of both streams."""


class SessionUser(Protocol):
    """Who has a session."""

    def session_data(self, data: bytes) -> None:
        """Bytes of the service came."""

    def session_ended(self) -> None:
        """The service has ended its stream; ours may go on."""

    def session_took(self) -> None:
        """The transport has room again for what we send."""

    def session_closed(self) -> None:
        """Both streams have ended, and all of both has arrived."""

    def session_cut(self, reason: str) -> None:
        """The session was cut: what came may not be all. The reason is in words for people."""


class _Stage(enum.Enum):
    """Each leads to the later ones only."""

    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()  # a close frame was sent, or is waited for, and input is thrown away
    GONE = enum.auto()


@implementer(IPushProducer)
class TcpSession(TwistedProtocol):
    """A TCP session.

    Args:
        opening: its handshake.
        sweep: watches its silence.
        lay_mask: for a connection without TLS; None where TLS hides our bytes from those in between, against whom masks
            are made (RFC 6455 10.3). There the key is zero.

    Attributes:
        ready: fires when the service was reached; fails with `Refused`, `NoWebSocket`, or why there is no connection.
        user: who has it, set when it is ready.
        writable: the transport takes more; else wait for `session_took`.
        deadline: for the sweep.
    """

    transport: Any  # TCP's, or TLS on it: no interface of Twisted has all that both can do

    def __init__(self, opening: Opening, sweep: Sweep, lay_mask: LayMask | None) -> None:
        self.ready: Deferred[TcpSession] = Deferred(lambda _: self.abort())
        self.user: SessionUser | None = None
        self.writable = True
        self.deadline = NEVER
        self._opening = opening
        self._sweep = sweep
        self._lay_mask = lay_mask
        self._reader = FrameReader(_no_mask, from_client=False)
        self._stage = _Stage.OPENING
        self._write: Callable[[bytes], None] = _nowhere
        self._pong: bytes | None = None  # for the last ping, which waits for the transport to take its answer
        self._sent_end = False
        self._received_end = False

    # From the transport

    def connectionMade(self) -> None:
        if isinstance(self.transport, Connection):
            # Endpoints leave a protocol of theirs between, which has done its work.
            self.transport.protocol = self
        tune(self.transport)
        keep_watch(self.transport)
        self._write = writer(self.transport)
        self.transport.registerProducer(self, True)
        self._sweep.add(self)
        self._write(self._opening.request)

    def dataReceived(self, data: bytes) -> None:
        if self._stage is _Stage.OPEN:
            self.deadline = self._sweep.now + PING_S
            self._receive(data)
        elif self._stage is _Stage.OPENING:
            self._answered(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._sweep.discard(self)
        stage, self._stage = self._stage, _Stage.GONE
        self.deadline = NEVER
        self.writable = False
        forget_output(self.transport)
        if stage is _Stage.OPENING:
            self._fail(self._why(reason))
        elif stage is _Stage.OPEN:
            self._over("the connection to the node was lost")

    @property
    def _both_ended(self) -> bool:
        return self._sent_end and self._received_end

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self.writable = False

    def resumeProducing(self) -> None:
        """The transport wrote all that it had (IPushProducer)."""
        self.writable = True
        if self._pong is not None:
            self._answer_ping()
        if self.user is not None:
            self.user.session_took()

    def stopProducing(self) -> None:
        """The connection is going away (IPushProducer); `connectionLost` follows."""

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep."""
        if self._stage is not _Stage.OPEN:
            self.transport.abortConnection()
        elif is_unheard(self.transport, GONE_S):
            self._over("the node is gone: it acknowledges nothing")
            self.abort()
        elif not self._both_ended:
            self.deadline = now + PING_S
            if self.writable:
                self._send(PING, b"")
        elif took_all(self.transport):
            self._close(CLOSE_NORMAL, "")
            self._over("")
        else:
            self.deadline = now + CLOSE_S

    # Opening

    def _answered(self, data: bytes) -> None:
        try:
            opened = self._opening.receive(data)
        except (Refused, NoWebSocket):
            self._fail(Failure())
            self.abort()
            return
        if opened is None:
            return
        self._stage = _Stage.OPEN
        self.deadline = self._sweep.now + PING_S
        if not self.ready.called:
            self.ready.callback(self)
        if opened.rest:
            self._receive(opened.rest)

    def _fail(self, failure: Failure) -> None:
        if not self.ready.called:
            self.ready.errback(failure)

    def _why(self, reason: Failure) -> Failure:
        """What the end of the connection means before the session was open."""
        if reason.check(ConnectionDone, ConnectionLost):
            try:
                self._opening.receive_end()
            except (Refused, NoWebSocket):
                return Failure()
        return reason

    # What comes

    def _receive(self, data: bytes) -> None:
        try:
            events = self._reader.receive(data)
        except WebSocketError as error:
            self._close(error.code, error.reason)
            self._over(f"the node breaks WebSocket: {error.reason}")
            return
        for event in events:
            if self._stage is not _Stage.OPEN:
                return
            if isinstance(event, bytes):
                self._take(event)
            elif isinstance(event, Ended):
                self._take_end()
            elif isinstance(event, Ping):
                self._pong = event.payload
                if self.writable:
                    self._answer_ping()
            else:
                self._closed(event)

    def _take(self, data: bytes) -> None:
        if self._received_end:
            self._close(CLOSE_PROTOCOL, "bytes behind the end of the stream")
            self._over("the node breaks the protocol: bytes behind the end of the stream")
        elif self.user is not None:
            self.user.session_data(data)

    def _take_end(self) -> None:
        if self._received_end:
            return
        self._received_end = True
        if self._sent_end:
            self.deadline = self._sweep.now + CLOSE_S
        if self.user is not None:
            self.user.session_ended()

    def _closed(self, event: Closed) -> None:
        reason = printable(event.reason)
        if event.code != CLOSE_NORMAL:
            self._close(CLOSE_INTERNAL, "")
        else:
            self._close(CLOSE_NORMAL, "")
            if self._both_ended:
                self._over("")
                return
            reason = reason or "it was closed before both sides had ended"
        self._over(f"the node closed it ({event.code}): {reason}" if reason else f"the node closed it ({event.code})")

    def _over(self, reason: str) -> None:
        """The session is over: in good order, or for a reason."""
        user, self.user = self.user, None
        if user is None:
            return
        if reason:
            user.session_cut(reason)
        else:
            user.session_closed()

    def _answer_ping(self) -> None:
        pong, self._pong = self._pong, None
        self._send(PONG, pong or b"")

    # What goes

    def write(self, data: bytes) -> None:
        """Send bytes to the service."""
        if len(data) <= MAX_PIECE_BYTES:
            self._send(BINARY, data)
        else:
            for at in range(0, len(data), MAX_PIECE_BYTES):
                self._send(BINARY, data[at : at + MAX_PIECE_BYTES])

    def end(self) -> None:
        """Our stream has ended. Idempotent."""
        if self._stage is not _Stage.OPEN or self._sent_end:
            return
        self._sent_end = True
        self._send(BINARY, b"")
        if self._received_end:
            self.deadline = self._sweep.now + CLOSE_S

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._stage is not _Stage.OPEN:
            return
        if self._lay_mask is None:
            mask = NO_MASK
        else:
            mask = os.urandom(4)
            if payload:
                payload = self._lay_mask(mask, payload)
        self._write(frame_header(opcode, len(payload), mask) + payload)

    def pause(self) -> None:
        """Read no more, until `resume`."""
        if self._stage is _Stage.OPEN:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._stage is _Stage.OPEN:
            self.transport.resumeProducing()

    # The end

    def cut(self, reason: str) -> None:
        """Give the session up: the node is told why, and its service sees a cut. The user hears no more of it."""
        self.user = None
        if self._stage is _Stage.OPEN:
            self._close(CLOSE_INTERNAL, reason)
        else:
            self.abort()

    def abort(self) -> None:
        """Drop the connection without a word. Idempotent."""
        self.user = None
        if self._stage is not _Stage.GONE and self.connected:
            self._stage = _Stage.CLOSING
            self.transport.abortConnection()

    def _close(self, code: int, reason: str) -> None:
        """Send a close frame, and close once it is out; what comes is thrown away."""
        self._send(CLOSE, close_payload(code, reason))
        self._stage = _Stage.CLOSING
        self.deadline = self._sweep.now + CLOSE_S
        self.transport.resumeProducing()  # else the end of a connection that is not read is never seen
        self.transport.unregisterProducer()
        self.transport.loseConnection()


def _no_mask(mask: bytes, data: bytes) -> bytes:
    """A server's frames have no mask to be taken off."""
    return data


def _nowhere(data: bytes) -> None:
    """There is no connection yet."""

"""An open tunnel: one WebSocket that drives one session.

Autobahn does the WebSocket handshake,
fragmented messages, control frames and closing; in front of it stand two things of ours. The handshake's head is read
with `core.http1` under its limits, because Autobahn reads a head of any size, answers refusals with a bare status line,
and drops the body of a refusal that it receives. And a binary message that lies whole in what was read is taken out
here, without Autobahn's per-frame states: that is every frame of a busy tunnel. Anything else is left to Autobahn.

Output is pulled from the session only while the transport is not paused, so that what waits, waits in the session,
where a small call overtakes a big one. The transport is never paused for reading: credit alone slows a v2 peer.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import txaio
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.protocol_limits import CLOSE_BUSY, CLOSE_GOING_AWAY, CLOSE_NORMAL, CLOSE_PROTOCOL
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import Call, CallReceiver
from pico_twisted.core.rpc.dialect import V2, Dialect
from pico_twisted.core.rpc.frames import (
    DRAIN,
    FAILED,
    MAX_BODY_V1,
    MAX_MESSAGE_V2,
)
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import SessionError
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.core.text import host_port, printable
from pico_twisted.net.interfaces import Closed, ITunnel
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.socket.options import acknowledged_bytes, half_close, plain_ip, tune, writer
from pico_twisted.net.tunnel.masking import lay_mask
from pico_twisted.net.turn import NEVER, EndOfTurn, Sweep

log = Logger(namespace="pico_twisted.net.tunnel")

LISTENER_PATH: Final = b"/pico/v1/listener/"
ELSEWHERE: Final = "elsewhere"
"""Code of a refusal: another node can take this session, so that the listener is at more than one."""
MAX_ELSEWHERE: Final = 16
"""Nodes that an agent may name which it would rather not register with: as many as a listener may have sessions."""
CLOSE_TIMEOUT_S: Final = 2.0
"""What a peer gets to take our close frame and close its end."""
STALL_S: Final = 20.0
"""A peer that takes no byte of our output for this long is closed."""
TICK_S: Final = 1.0
"""How often a session looks at the time while it has calls or output; one that rests looks when it has a reason."""

_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_BINARY_FINAL = 0x82

# Autobahn formats a line for nearly everything that it does; what matters is logged here, in our words.
txaio.use_twisted()
autobahn_log = txaio.make_logger()  # type: ignore[attr-defined]
autobahn_log.set_log_level("critical")


@attrs.frozen(kw_only=True)
class TunnelParts:
    """What every tunnel of a process shares.

    With an `end_of_turn` the frames of one turn of the reactor leave with one write; without one each leaves at once.
    """

    clock: Any
    sweep: Sweep
    metrics: Metrics
    budget: Budget
    head_limits: HeadLimits
    max_calls: int
    version: str
    end_of_turn: EndOfTurn | None = None
    v1: Dialect = dialect_v1(MAX_BODY_V1)


@implementer(ITunnel, IPushProducer)
class Tunnel:
    """What both roles share. Mixed into an Autobahn protocol, which owns the transport.

    `acceptor` serves the calls that the peer opens; None when there is nobody who would.
    """

    log = autobahn_log

    # `version` is set with the session: until then Autobahn's client keeps the WebSocket draft's number there
    version: int
    dialect: Dialect
    node_id: str | None = None
    agent_id = ""
    endpoint = ""
    slot = ""
    peer = ""
    acceptor: Any = None
    parts: TunnelParts
    session: Any = None

    # Autobahn's, which this is mixed into
    transport: Any
    factory: Any
    data: bytes
    message_data: Any
    current_frame: Any
    inside_message: bool
    failedByMe: bool
    sendPong: Callable[[bytes], None]
    sendCloseFrame: Callable[..., None]
    consumeData: Callable[[], None]
    remoteCloseCode: int | None
    remoteCloseReason: str | None
    onOpen: Callable[[], None]
    deadline = NEVER

    _alive = False  # frames are exchanged
    _closing = False  # a close frame was sent or received; input is only thrown away
    _paused = False
    _pumping = False
    _due = False
    _masks = False
    _pong: bytes | None = None
    _partial_bytes = 0
    _stalled_since = NEVER
    _acknowledged: int | None = None
    _by_us = False
    _code: int | None = None
    _reason = ""
    _abort_at = NEVER
    _told_drain = False
    _rests = False  # there are no calls

    # Autobahn's hooks, server and client

    def _start_session(
        self, version: int, *, asks_always: bool, serves: Iterable[int], prepared: SessionV2 | None = None
    ) -> None:
        """Begin to exchange frames.

        Args:
            version: 1 or 2.
            asks_always, serves: as of a session.
            prepared: a session that was made before the connection, with calls queued in it.
        """
        parts = self.parts
        dialect = self.dialect = V2 if version == 2 else parts.v1
        self.version = version
        self.closed: Deferred[Closed] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.maxMessagePayloadSize = self.maxFramePayloadSize = dialect.max_message_bytes
        self.session = prepared or dialect.session(
            asks_always=asks_always,
            serves=serves,
            max_calls=parts.max_calls,
            budget=parts.budget,
            now=parts.sweep.now,
        )
        self.session.last_received = parts.sweep.now
        self._alive = True
        self._drain_waiters: list[Deferred[None]] = []
        tune(self.transport, tunnel=True)
        self._write = writer(self.transport)
        self.transport.registerProducer(self, True)
        self.deadline = parts.sweep.now
        self._asked_at = parts.clock.seconds()
        self.session.tick(parts.sweep.now)
        parts.sweep.add(self)

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)  # type: ignore[misc]
        if not isBinary:
            self.fail(CLOSE_PROTOCOL, "a text message")

    def onMessageFrameData(self, payload: bytes) -> None:
        self._partial_bytes += len(payload)
        if self._rests:
            self._stir()
        super().onMessageFrameData(payload)  # type: ignore[misc]
        if self._partial_bytes > MAX_MESSAGE_V2 and self.parts.budget.full:
            self.fail(CLOSE_BUSY, "no memory for a message of this size now")

    def onMessageEnd(self) -> None:
        self._partial_bytes = 0
        pieces, self.message_data = self.message_data, None
        if not self.failedByMe and pieces is not None:
            self._message(b"".join(pieces))

    def onPing(self, payload: bytes) -> None:
        if self._paused:
            self._pong = payload
        elif self._alive:
            self.sendPong(payload)

    def onPong(self, payload: bytes) -> None:
        pass

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        stop: bool | None = super().onCloseFrame(code, reasonRaw)  # type: ignore[misc]
        if not self._by_us:
            self._code = self.remoteCloseCode
            self._reason = printable(self.remoteCloseReason or "")
        self._end(clean=True)
        self._abort_at = self.deadline = self.parts.sweep.now + CLOSE_TIMEOUT_S
        if not self.factory.isServer:
            self.transport.loseConnection()
        return stop

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._end(clean=False)
        self.parts.sweep.discard(self)
        if self.session is not None:
            self.gone.callback(None)

    def _onOpen(self) -> None:
        self.onOpen()

    def _fail_connection(self, code: int = CLOSE_GOING_AWAY, reason: str = "going away") -> None:
        self.fail(code, reason)

    # Input

    def _receive(self, data: bytes) -> None:
        if self._closing:
            self._discard(data)
            return
        self.session.last_received = self.parts.sweep.now
        if self.data:
            data = self.data + data
        self.data = b""
        if self.current_frame is not None or self.inside_message:
            self.data = data
            self.consumeData()
            return
        masked = 0x80 if self.factory.isServer else 0
        position = 0
        size = len(data)
        while size - position >= 2:
            second = data[position + 1]
            length = second & 0x7F
            if data[position] != _BINARY_FINAL or second & 0x80 != masked or length == 127:
                break
            start = position + 2
            if length == 126:
                if size < start + 2:
                    self.data = data[position:]
                    return
                (length,) = _U16.unpack_from(data, start)
                start += 2
                if length < 126:
                    break
            if masked:
                mask = data[start : start + 4]
                start += 4
            end = start + length
            if end > size:
                self.data = data[position:]
                return
            message = data[start:end]
            if masked:
                message = lay_mask(mask, message)
            position = end
            self._message(message)
            if not self._alive:
                self._discard(data[position:])
                return
        if position < size:
            self.data = data[position:] if position else data
            self.consumeData()

    def _discard(self, data: bytes) -> None:
        """After our close frame only the peer's close frame would be of interest, and its closing says the same."""
        self.data = b""

    def _message(self, message: bytes) -> None:
        if not self._alive:
            return
        session = self.session
        try:
            event = session.receive(message)
        except SessionError as error:
            self.fail(error.code, error.reason)
            return
        if event is not None:
            what, call, payload, extra = event
            try:
                if what == rpc.FRAME:
                    if call.receiver is not None:  # its owner may be done with a call whose end is still queued
                        call.receiver.frame(payload, extra)
                else:
                    self._dispatch(what, call, payload, extra)
            except Exception:
                log.failure("A call failed by a fault of ours", peer=self.peer)
                if call is not None and not call.closed:
                    self.reset(call, FAILED)
                    self._lose(call)
        if session.has_output():
            self._output()

    def _dispatch(self, what: int, call: Any, payload: Any, extra: Any) -> None:
        """Tell whom an event is for."""
        if what == rpc.OPENED:
            self._opened(call, payload, extra)
        elif what == rpc.WAS_RESET:
            if call.kind == DRAIN:
                if call.ours:
                    self._drain_answered()
            else:
                self.parts.metrics.reset(False, payload)
                if call.receiver is not None:
                    call.receiver.reset(payload, extra)
        elif what == rpc.ECHO:
            self.session.record_rtt(max(0.0, self.parts.clock.seconds() - self._asked_at))
            self._count_round_trip(self.session.rtt_s)
        elif what == rpc.DRAINED:
            self._drain_answered()
        else:
            self.acceptor.drain_requested(self)

    def _count_round_trip(self, seconds: float) -> None:
        self.parts.metrics.heartbeat(seconds)

    def _opened(self, call: Call, payload: bytes, more: bool) -> None:
        if self._rests:
            self._stir()
        receiver = self.acceptor.call_opened(self, call, call.kind, payload, more)
        if call.receiver is None:
            call.receiver = receiver

    # Output

    def _output(self) -> None:
        """There is something to send: send it now, or with all else that this turn of the reactor brings."""
        if self._due or self._paused:
            return
        end_of_turn = self.parts.end_of_turn
        if end_of_turn is None:
            self._pump()
        else:
            self._due = True
            end_of_turn.add(self._flush)

    def _flush(self) -> None:
        self._due = False
        self._pump()

    def _pump(self) -> None:
        if self._pumping or not self._alive:
            return
        self._pumping = True
        session = self.session
        try:
            while not self._paused and self._alive:
                batch = session.frames_to_send()
                if not batch:
                    break
                self._write(self._on_the_wire(batch))
                for call in session.take_drained():
                    if not call.closed and call.receiver is not None:
                        call.receiver.drained()
                if not session.has_output():
                    break
        finally:
            self._pumping = False

    def _on_the_wire(self, batch: list[bytes]) -> bytes:
        pieces: list[bytes] = []
        for frame in batch:
            size = len(frame)
            if self._masks:
                bit = 0x80
                mask = random.getrandbits(32).to_bytes(4, "big")
                frame = mask + lay_mask(mask, frame)
            else:
                bit = 0
            if size < 126:
                pieces.append(bytes((_BINARY_FINAL, bit | size)))
            elif size < 65536:
                pieces.append(bytes((_BINARY_FINAL, bit | 126, size >> 8, size & 255)))
            else:
                pieces.append(bytes((_BINARY_FINAL, bit | 127)) + _U64.pack(size))
            pieces.append(frame)
        return b"".join(pieces)

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self._paused = True
        self._stir()
        self._stalled_since = self.parts.sweep.now
        self._acknowledged = acknowledged_bytes(self.transport)

    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""
        self._paused = False
        if self._pong is not None and self._alive:
            payload, self._pong = self._pong, None
            self.sendPong(payload)
        self._pump()

    def stopProducing(self) -> None:
        """The connection is gone (IPushProducer); `connectionLost` follows."""
        self._paused = True

    # Time

    def deadline_passed(self, now: float) -> None:
        """One coarse tick: heartbeats, silence, a peer that takes nothing, a close that takes too long."""
        self.deadline = now + TICK_S
        if now >= self._abort_at:
            self.transport.abortConnection()
            return
        if not self._alive:
            return
        asked_id = self.session.asked_id
        dead = self.session.tick(now)
        if self.session.asked_id != asked_id:
            self._asked_at = self.parts.clock.seconds()
        if dead is not None:
            self._reason = dead
            self._end(clean=False)
            self.transport.abortConnection()
            return
        if self._paused:
            acknowledged = acknowledged_bytes(self.transport)
            if acknowledged != self._acknowledged:
                self._acknowledged = acknowledged
                self._stalled_since = now
            elif now - self._stalled_since > STALL_S:
                self._reason = f"took no byte for {STALL_S:.0f} s"
                self._end(clean=False)
                self.transport.abortConnection()
        else:
            self._pump()
            if not self.session.call_count() and not self._partial_bytes:
                self._lie_down()

    def _lie_down(self) -> None:
        """There are no calls: nothing is to be looked at before a heartbeat is due, or the peer was silent too long."""
        self._rests = True
        self.deadline = self.session.due_at()

    def _stir(self) -> None:
        """Something happens on a session that rested: look at it again."""
        self._rests = False
        self.deadline = min(self.deadline, self.parts.sweep.now + TICK_S)

    # What its users call (ITunnel)

    @property
    def rtt_s(self) -> float:
        """Seconds of the last heartbeat's round trip; 0.0 before the first."""
        return float(self.session.rtt_s)

    @property
    def draining(self) -> bool:
        """The peer drains, or was told that we do."""
        return self._told_drain or bool(self.session.draining)

    @property
    def call_count(self) -> int:
        """Calls open now, both ways."""
        return int(self.session.call_count())

    def held_bytes(self) -> int:
        """Bytes that this session makes the process hold."""
        return int(self.session.held_bytes()) + self._partial_bytes

    def call(self, kind: int, payload: bytes, more: bool, receiver: CallReceiver) -> Call:
        """Open a call; its events go to `receiver`."""
        call: Call = self.session.call(kind, payload, more)
        call.receiver = receiver
        if self._rests:
            self._stir()
        if not self._due:
            self._output()
        return call

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """Queue bytes of our stream; `more=False` ends it."""
        self.session.send(call, data, more)
        if not self._due:
            self._output()

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """Give the call up. Its receiver hears nothing more."""
        if call.closed:
            return
        self.session.reset(call, code, text)
        self.parts.metrics.reset(True, code)
        self._output()

    def consumed(self, call: Call, count: int) -> None:
        """Payload was taken by our consumer."""
        if self.session.consumed(call, count, self.parts.clock.seconds()) and not self._due:
            self._output()

    def ask(self) -> None:
        """Ask the peer for a sign of life, now."""
        if self._alive:
            self.session.ask(self.parts.sweep.now)
            self._asked_at = self.parts.clock.seconds()
            self._output()

    def drain(self) -> Deferred[None]:
        """Tell the peer that we drain. Fires when it answered, when the session ends, or at once when it is v1."""
        self._told_drain = True
        if not self._alive or not self.session.drain():
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._drain_waiters.append(waiter)
        self._pump()
        return waiter

    def _drain_answered(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def close(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close the WebSocket: a close frame, and the connection once the peer answered or `CLOSE_TIMEOUT_S` passed."""
        if self._closing or self.session is None:
            return
        self._pump()
        self._by_us = True
        self.fail(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """End the session with a close frame; what the peer sends from here on is thrown away."""
        if self._closing:
            return
        self._closing = True
        self._code = code
        self._reason = reason
        if not self._by_us:
            log.warn("Session of {peer} failed: {reason}", peer=self.peer, code=code, reason=reason)
        self.failedByMe = True
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode("utf-8")[:120] or None)
        self._end(clean=self._by_us)
        self._abort_at = self.deadline = self.parts.sweep.now + CLOSE_TIMEOUT_S
        self.transport.unregisterProducer()
        half_close(self.transport)

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._by_us = True
        self._end(clean=False)
        self.transport.abortConnection()

    def _end(self, *, clean: bool) -> None:
        """The session is over, whatever the connection still does: tell everybody, once."""
        if not self._alive:
            return
        self._alive = False
        self._closing = True
        self._drain_answered()
        closed = Closed(by_us=self._by_us, clean=clean, code=self._code, reason=self._reason or "connection lost")
        calls = list(self.session.calls())
        self.closed.callback(closed)  # first, so that a call that is made again does not come back here
        for call in calls:
            self._lose(call)

    def _lose(self, call: Call) -> None:
        receiver: Any = call.receiver
        if receiver is not None:
            try:
                receiver.lost()
            except Exception:
                log.failure("A call could not be ended", peer=self.peer)


def peer_text(transport: Any) -> str:
    peer = transport.getPeer()
    host, port = plain_ip(str(getattr(peer, "host", ""))), getattr(peer, "port", "")
    return host_port(host, port)

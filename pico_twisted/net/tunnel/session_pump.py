"""An open tunnel: one WebSocket that drives one session.

Output is pulled from the session only while the transport is not paused, so that what waits, waits in the session,
where a small call overtakes a big one. No call pauses reading, for a turn at most: credit alone slows a v2 peer.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.protocol_limits import CLOSE_NORMAL
from pico_twisted.core.routing.affinity import Affinity
from pico_twisted.core.rpc.call import Call, CallReceiver, HttpReceiver
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.core.rpc.dialect import Dialect
from pico_twisted.core.rpc.frames import DRAIN, FAILED
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import DRAINED, ECHO, ENDED_WITH, FRAME, OPENED, WAS_RESET, Event, SessionError
from pico_twisted.core.rpc.v1 import SessionV1
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.socket.options import acknowledged_bytes, tune, writer
from pico_twisted.net.tunnel.interfaces import Closed, ICallAcceptor, ITunnel
from pico_twisted.net.tunnel.websocket_pipe import LARGEST_FRAME_BYTES, MASK_BYTES, Stage, WebSocketPipe

log = Logger(namespace="pico_twisted.net.tunnel")

STALL_S: Final = 20.0
"""Seconds without a byte of our output taken after which a peer is closed."""
TICK_S: Final = 1.0
"""Seconds between two looks at the time of a session that has calls or output; an idle one is left alone."""


class _Output(enum.Enum):
    """What is done about the session's output."""

    QUIET = enum.auto()
    DUE = enum.auto()  # at the end of this turn of the reactor
    PUMPED = enum.auto()  # right now


_TOO_LARGE: Final = (413, "the request is too large for version 1 of the protocol", "body-too-large")
_NO_MEMORY: Final = (503, "no memory for a request of this size now", "busy")

_OPEN = Stage.OPEN
_QUIET = _Output.QUIET
_DUE = _Output.DUE
_PUMPED = _Output.PUMPED


@implementer(ITunnel, IPushProducer)
class Tunnel(WebSocketPipe):
    """The session on a WebSocket; what both roles share.

    Attributes:
        acceptor: serves the calls that the peer opens.
        session: decides what is sent and what it means.
    """

    dialect: Dialect
    node_id: str | None = None
    agent_id = agent_version = endpoint = slot = ""
    alone = False
    speaks = "http"
    affinity = Affinity.NONE
    subject: Subject | None = None
    capabilities: frozenset[bytes] = frozenset()
    acceptor: ICallAcceptor

    _output_is = _QUIET
    _stalled_since = NEVER
    _acknowledged: int | None = None
    _told_drain = False
    _gate: Callable[[bytes], None] | None = None  # takes messages in place of the session
    _idle = False  # there are no calls, and nothing is held

    def _start_session(
        self, dialect: Dialect, *, asks_always: bool, serves: Iterable[int], prepared: SessionV2 | None = None
    ) -> None:
        """Begin to exchange frames.

        Args:
            dialect: what the peer speaks.
            asks_always: as of a session.
            serves: as of a session.
            prepared: a session that was made before the connection, with calls queued in it.
        """
        parts, now = self.parts, self.parts.sweep.now
        self.dialect = dialect
        self.version = dialect.version  # until now Autobahn's client keeps the WebSocket draft's number there
        self.peer = self._peer_text()
        self.closed: Deferred[Closed] = Deferred()
        self.gone = Deferred()
        self.maxMessagePayloadSize = self.maxFramePayloadSize = dialect.max_message_bytes
        self.session = prepared or dialect.session(
            asks_always=asks_always, serves=serves, max_calls=parts.max_calls, budget=parts.budget, now=now
        )
        self.session.last_received = now
        self.session.takes_trailers = TRAILERS in self.capabilities
        self._stage = _OPEN
        self._drain_waiters: deque[list[Deferred[None]]] = deque()  # for each drain of ours that has no answer yet
        tune(self.transport, LARGEST_FRAME_BYTES if self.factory.isServer else LARGEST_FRAME_BYTES - MASK_BYTES)
        self._write = writer(self.transport)
        self.transport.registerProducer(self, True)
        self._abort_at, self.deadline = NEVER, now
        self._asked_at = parts.clock.seconds()
        self.session.tick(now)
        parts.sweep.add(self)

    # Input

    def _message(self, message: bytes) -> None:
        if self._stage is not _OPEN:
            return
        if self._gate is not None:
            self._gate(message)
            return
        try:
            event = self.session.receive(message)
        except SessionError as error:
            self.fail(error.code, error.reason)
            return
        if event is not None:
            try:
                if event[0] == FRAME:
                    receiver = event[1].receiver
                    if receiver is not None:  # its owner may be done with a call whose end is still queued
                        receiver.frame(event[2], event[3])
                    return
                if event[0] == OPENED:
                    if self._idle:
                        self._wake()
                    _, call, payload, more = event
                    opened = self.acceptor.call_opened(self, call, call.kind, payload, more)
                    if call.receiver is None:
                        call.receiver = opened
                    return
                self._dispatch(event)
            except Exception:
                log.failure("A call failed by a fault of ours", peer=self.peer)
                if event[1] is not None and not event[1].closed:
                    self.reset(event[1], FAILED)
                    self._lose(event[1])
        self._answer_soon()

    def _message_skipped(self, header: bytes, too_large: bool) -> None:
        session = self.session
        if self._stage is not _OPEN or not isinstance(session, SessionV1):
            return
        status, words, code = _TOO_LARGE if too_large else _NO_MEMORY
        try:
            event = session.skipped(header, error_response(status, words, hop=self.agent_id, code=code, close=False))
        except SessionError as error:
            self.fail(error.code, error.reason)
            return
        if event is not None:
            self._dispatch(event)
        self._answer_soon()

    def _dispatch(self, event: Event) -> None:
        """Pass on an event that is no part of a stream."""
        if event[0] == WAS_RESET:
            _, call, code, text = event
            if call.kind == DRAIN:
                if call.ours:
                    self._drain_answered()
            else:
                self.parts.metrics.reset(False, code)
                if call.receiver is not None:
                    call.receiver.reset(code, text)
        elif event[0] == ENDED_WITH:
            receiver = cast("HttpReceiver | None", event[1].receiver)  # the session says so of http calls alone
            if receiver is not None:
                receiver.trailers(event[2])
        elif event[0] == ECHO:
            self.session.record_rtt(max(0.0, self.parts.clock.seconds() - self._asked_at))
            self._count_round_trip(self.session.rtt_s)
        elif event[0] == DRAINED:
            self._drain_answered()
        else:
            self.acceptor.drain_requested(self)

    def _count_round_trip(self, seconds: float) -> None:
        self.parts.metrics.heartbeat(seconds)

    # Output

    def _answer_soon(self) -> None:
        """What came was no part of a stream: the session may have an answer, or credit for what waits."""
        if self._output_is is _QUIET and self.session.has_output():
            self._send_soon()

    def _send_soon(self) -> None:
        """Begin to send what there is: now, or with all else that this turn brings."""
        if self._paused:
            return
        if (end_of_turn := self.parts.end_of_turn) is None:
            self._pump()
        else:
            self._output_is = _DUE
            end_of_turn.add(self._pump)

    def _pump(self) -> None:
        if self._stage is not _OPEN or self._output_is is _PUMPED:
            return
        self._output_is = _PUMPED
        session = self.session
        try:
            while not self._paused and self._stage is _OPEN and (batch := session.frames_to_send()):
                self._write(self._framed(batch))
                if session.drained:
                    for call in session.take_drained():
                        if call.receiver is not None and not call.closed:
                            call.receiver.drained()
                elif not (session.turn or session.first):
                    break
        finally:
            self._output_is = _QUIET

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        super().pauseProducing()
        self._wake()
        self._stalled_since = self.parts.sweep.now
        self._acknowledged = acknowledged_bytes(self.transport)

    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""
        super().resumeProducing()
        self._pump()

    # Time

    def deadline_passed(self, now: float) -> None:
        """One coarse tick: heartbeats, silence, a peer that takes nothing, a close that takes too long."""
        self.deadline = now + TICK_S
        if now >= self._abort_at:
            self.transport.abortConnection()
            return
        if self._stage is not _OPEN:
            return
        session = self.session
        asked_id = session.asked_id
        dead = session.tick(now)
        if session.asked_id != asked_id:
            self._asked_at = self.parts.clock.seconds()
        if dead is not None:
            self._drop(dead)
        elif self._paused:
            if (acknowledged := acknowledged_bytes(self.transport)) != self._acknowledged:
                self._acknowledged = acknowledged
                self._stalled_since = now
            elif now - self._stalled_since > STALL_S:
                self._drop(f"took no byte for {STALL_S:.0f} s")
        else:
            self._pump()
            if not session.call_count() and not self._partial_bytes:
                self._fall_idle()

    def _fall_idle(self) -> None:
        """There are no calls: nothing is to be looked at before a heartbeat is due, or the peer was silent too long."""
        self._idle = True
        self.deadline = self.session.due_at()

    def _wake(self) -> None:
        """Something happens on a session that may have been idle: look at it again."""
        if self._idle:
            self._idle = False
            self.deadline = min(self.deadline, self.parts.sweep.now + TICK_S)

    # What its users call (ITunnel)

    @property
    def rtt_s(self) -> float:
        """Seconds of the last heartbeat's round trip; 0.0 before the first."""
        return self.session.rtt_s

    @property
    def near_rtt_s(self) -> float:
        """See `ITunnel.near_rtt_s`."""
        return self.session.near_rtt_s

    @property
    def heard_at(self) -> float:
        """See `IHeardCallee.heard_at`."""
        return self.session.last_received if self._stage is _OPEN else NEVER

    @property
    def draining(self) -> bool:
        """The peer drains, or was told that we do."""
        return self._told_drain or self.session.draining

    @property
    def call_count(self) -> int:
        """Calls open now, both ways."""
        return self.session.call_count()

    def held_bytes(self) -> int:
        """Bytes that this session makes the process hold."""
        return self.session.held_bytes() + self._partial_bytes

    def call(self, kind: int, payload: bytes, more: bool, receiver: CallReceiver) -> Call:
        """See `ICallee.call`."""
        call = self.session.call(kind, payload, more)
        call.receiver = receiver
        if self._idle:
            self._wake()
        if self._output_is is _QUIET:
            self._send_soon()
        return call

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """See `ICallee.send`."""
        self.session.last_sent = self.parts.sweep.now
        self.session.send(call, data, more)
        if self._output_is is _QUIET:
            self._send_soon()

    def send_trailers(self, call: Call, block: bytes) -> None:
        """See `ICallee.send_trailers`."""
        self.session.send_trailers(call, block)
        if self._output_is is _QUIET:
            self._send_soon()

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """See `ICallee.reset`."""
        if call.closed:
            return
        self.session.reset(call, code, text)
        self.parts.metrics.reset(True, code)
        if self._output_is is _QUIET:
            self._send_soon()

    def consumed(self, call: Call, count: int) -> None:
        """See `ICallee.consumed`."""
        if self.session.consumed(call, count, self.parts.clock.seconds()) and self._output_is is _QUIET:
            self._send_soon()

    def ask(self) -> None:
        """See `IHeardCallee.ask`."""
        if self._stage is _OPEN:
            self.session.ask(self.parts.sweep.now)
            self._asked_at = self.parts.clock.seconds()
            if self._output_is is _QUIET:
                self._send_soon()

    def drain(self) -> Deferred[None]:
        """Tell the peer that we drain. Fires when it answered, when the session ends, or at once when it is v1."""
        told, self._told_drain = self._told_drain, True
        if self._stage is not _OPEN or not self.session.drain():
            return succeed(None)
        if not told:
            self._drain_waiters.append([])
            self._pump()
        if not self._drain_waiters:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._drain_waiters[-1].append(waiter)
        return waiter

    def _drain_answered(self) -> None:
        if self._drain_waiters:
            for waiter in self._drain_waiters.popleft():
                waiter.callback(None)

    def close(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close the WebSocket: a close frame, and the connection once the peer answered or `CLOSE_TIMEOUT_S` passed."""
        if self._stage is _OPEN:
            self._pump()
            self._by_us = True
            self.fail(code, reason)

    def _end(self, *, clean: bool) -> None:
        """Tell everybody that the session is over."""
        if self._stage is not _OPEN:
            return
        self._stage = Stage.CLOSING
        while self._drain_waiters:
            self._drain_answered()
        closed = Closed(by_us=self._by_us, clean=clean, code=self._code, reason=self._reason or "connection lost")
        calls = list(self.session.calls())
        self.closed.callback(closed)  # first, so that a call that is made again does not come back here
        for call in calls:
            self._lose(call)

    def _lose(self, call: Call) -> None:
        if call.receiver is not None:
            try:
                call.receiver.lost()
            except Exception:
                log.failure("A call could not be ended", peer=self.peer)

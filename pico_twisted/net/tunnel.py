"""RPC over WebSocket: the only module that imports Autobahn.

A `Tunnel` is one WebSocket connection that drives one `core.rpc.session`. Autobahn does the WebSocket handshake,
fragmented messages, control frames and closing; in front of it stand two things of ours. The handshake's head is read with
`core.http1` under its limits, because Autobahn reads a head of any size, answers refusals with a bare status line,
and drops the body of a refusal that it receives. And a binary message that lies whole in what was read is taken out
here, without Autobahn's per-frame states: that is every frame of a busy tunnel. Anything else is left to Autobahn.

Output is pulled from the session only while the transport is not paused, so that what waits, waits in the session, where a
small call overtakes a big one. The transport is never paused for reading: credit alone slows a v2 peer.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import txaio
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.xormasker import create_xor_masker
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import error_response
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head, parse_response_head
from pico_twisted.core.rpc import session as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.frames import (
    DRAIN,
    FAILED,
    HTTP,
    MAX_MESSAGE_V1,
    MAX_MESSAGE_V2,
    SUBPROTOCOL_V2,
)
from pico_twisted.core.rpc.session import SEND_HIGH_BYTES, Call, SessionError, SessionV1, SessionV2
from pico_twisted.net.flow import acknowledged_bytes, half_close, tune, writer
from pico_twisted.net.interfaces import ITunnel
from pico_twisted.net.metrics import Metrics
from pico_twisted.net.periodic import NEVER, EndOfTurn, Sweep
from pico_twisted.net.tls import client_tls

log = Logger()

LISTENER_PATH: Final = b"/pico/v1/listener/"
HANDSHAKE_TIMEOUT_S: Final = 10.0
"""From the connection to the end of the WebSocket handshake; bytes do not extend it."""
CLOSE_TIMEOUT_S: Final = 2.0
"""What a peer gets to take our close frame and close its end."""
STALL_S: Final = 20.0
"""A peer that takes no byte of our output for this long is closed."""
TICK_S: Final = 1.0
"""How often a session looks at the time."""
MAX_REFUSAL_BODY_BYTES: Final = 8 * 1024
"""How much of a refusal's body an agent reads."""

MAX_SMALL_MASK_BYTES: Final = 768

_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_WS_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==\Z")
_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_BINARY_FINAL = 0x82

# Autobahn formats a line for nearly everything that it does; what matters is logged here, in our words.
_autobahn_log = txaio.make_logger()
_autobahn_log.set_log_level("critical")


@attrs.frozen(kw_only=True)
class Closed:
    """How a session ended. `by_us` decides whether an agent reconnects; `clean` says that a close frame came."""

    by_us: bool
    clean: bool
    code: int | None
    reason: str


class HandshakeRefused(Exception):
    """The server answered the WebSocket handshake with something other than 101.

    Attributes:
        status: the HTTP status.
        message: the server's own words, cut and made printable.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


class HandshakeTimeout(Exception):
    """The connection or its handshake took too long."""


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


@implementer(ITunnel, IPushProducer)
class Tunnel:
    """What both roles share. Mixed into an Autobahn protocol, which owns the transport.

    `acceptor` serves the calls that the peer opens; None when there is nobody who would.
    """

    log = _autobahn_log

    # `version` is set with the session: until then Autobahn's client keeps the WebSocket draft's number there
    version: int
    node_id: str | None = None
    agent_id = ""
    endpoint = ""
    slot = ""
    peer = ""
    acceptor: Any = None
    parts: TunnelParts
    session: Any = None
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

    # Autobahn's hooks, server and client

    def _start_session(self, version: int, *, asks_always: bool, serves: Iterable[int]) -> None:
        parts = self.parts
        make = SessionV2 if version == 2 else SessionV1
        self.version = version
        self.closed: Deferred[Closed] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.maxMessagePayloadSize = MAX_MESSAGE_V2 if version == 2 else MAX_MESSAGE_V1
        self.maxFramePayloadSize = self.maxMessagePayloadSize
        self.session = make(
            asks_always=asks_always,
            serves=serves,
            max_calls=parts.max_calls,
            budget=parts.budget,
            now=parts.sweep.now,
        )
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
        super().onMessageBegin(isBinary)
        if not isBinary:
            self.fail(1002, "a text message")

    def onMessageFrameData(self, payload: bytes) -> None:
        self._partial_bytes += len(payload)
        super().onMessageFrameData(payload)
        if self._partial_bytes > MAX_MESSAGE_V2 and self.parts.budget.full:
            self.fail(1013, "no memory for a message of this size now")

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
        stop: bool | None = super().onCloseFrame(code, reasonRaw)
        if not self._by_us:
            self._code = self.remoteCloseCode
            self._reason = _printable(self.remoteCloseReason or "")
        self._end(clean=True)
        self._abort_at = self.parts.sweep.now + CLOSE_TIMEOUT_S
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

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
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
                message = _masked(mask, message)
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
            event = session.receive(message, self.parts.sweep.now)
        except SessionError as error:
            self.fail(error.code, error.reason)
            return
        if event is not None:
            call = event[1]
            try:
                self._dispatch(*event)
            except Exception:
                log.failure("A call failed by a fault of ours", peer=self.peer)
                if call is not None and not call.closed:
                    self.reset(call, FAILED)
                    if call.receiver is not None:
                        call.receiver.lost()
        if session.has_output():
            self._output()

    def _dispatch(self, what: int, call: Any, payload: Any, extra: Any) -> None:
        """Tell whom an event is for."""
        if what == rpc.FRAME:
            if call.receiver is not None:  # its owner may be done with a call whose end is still queued
                call.receiver.frame(payload, extra)
        elif what == rpc.OPENED:
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
            self.session.rtt_s = max(0.0, self.parts.clock.seconds() - self._asked_at)
            self.parts.metrics.heartbeat(self.session.rtt_s)
        elif what == rpc.DRAINED:
            self._drain_answered()
        else:
            self.acceptor.drain_requested(self)

    def _opened(self, call: Call, payload: bytes, more: bool) -> None:
        receiver = self.acceptor.call_opened(self, call, call.kind, payload, more)
        if call.receiver is None:
            call.receiver = receiver

    # Output

    def _output(self) -> None:
        """There is something to send: now, or at the end of the reactor's turn, together with what else there will be."""
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
                if not session.turn:
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
                frame = mask + _masked(mask, frame)
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

    def call(self, kind: int, payload: bytes, more: bool, receiver: object) -> Call:
        """Open a call; its events go to `receiver`."""
        call: Call = self.session.call(kind, payload, more)
        call.receiver = receiver
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
        self.session.consumed(call, count, self.parts.sweep.now)
        if not self._due and self.session.has_output():
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

    def close(self, code: int = 1000, reason: str = "") -> None:
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
        self._abort_at = self.parts.sweep.now + CLOSE_TIMEOUT_S
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
            if call.receiver is not None:
                try:
                    call.receiver.lost()
                except Exception:
                    log.failure("A call could not be ended")


def _masked(mask: bytes, data: bytes) -> bytes:
    """The data with the mask laid on it, or taken off (RFC 6455 5.3).

    Autobahn's masker is fast for each byte and slow to set up; up to about a kilobyte one big integer is faster.
    """
    size = len(data)
    if size > MAX_SMALL_MASK_BYTES:
        masked: bytes = create_xor_masker(mask, size).process(data)
        return masked
    pattern = mask * (size // 4 + 1)
    number = int.from_bytes(data, "little") ^ int.from_bytes(pattern[:size], "little")
    return number.to_bytes(size, "little")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


# The server's role


@attrs.frozen(kw_only=True)
class Refusal:
    """A handshake that is not accepted: what to answer."""

    status: int
    message: str
    code: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@attrs.frozen(kw_only=True)
class Admission:
    """A handshake that is accepted, and what is known of the peer."""

    endpoint: str
    agent_id: str
    slot: str
    agent_version: str


class TunnelServerProtocol(Tunnel, WebSocketServerProtocol):
    """A peer that connected to us."""

    admission: Admission
    _deaf = False

    def connectionMade(self) -> None:
        self.parts = self.factory.parts
        self._head = b""
        super().connectionMade()
        self.deadline = self.parts.sweep.now + HANDSHAKE_TIMEOUT_S
        self.parts.sweep.add(self)
        self.factory.connections.add(self)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.factory.connections.discard(self)
        self.parts.sweep.discard(self)
        super().connectionLost(reason)

    def deadline_passed(self, now: float) -> None:
        if self.session is None:
            self.transport.abortConnection()
        else:
            super().deadline_passed(now)

    def dataReceived(self, data: bytes) -> None:
        if self.session is not None:
            self._receive(data)
        elif not self._deaf:
            self._handshake(data)

    def _handshake(self, data: bytes) -> None:
        limits = self.parts.head_limits
        self._head += data
        end = self._head.find(b"\r\n\r\n", 0, limits.head_bytes)
        if end < 0:
            if len(self._head) >= limits.head_bytes:
                self._refuse(Refusal(status=431, message="request head too large", code="head-too-large"))
            return
        whole, self._head = self._head, b""
        try:
            head = parse_request_head(whole[: end + 4], limits)
        except Http1Error as error:
            self._refuse(Refusal(status=error.status, message=error.message, code=error.code))
            return
        answer = self._check_websocket(head) or self.factory.admit(head, self.transport.getPeer())
        if isinstance(answer, Refusal):
            self._refuse(answer)
            return
        self.admission = answer
        self._dataReceived(whole)

    @staticmethod
    def _check_websocket(head: RequestHead) -> Refusal | None:
        if head.method != b"GET" or head.has_body:
            return Refusal(status=400, message="a WebSocket handshake is a GET without a body", code="bad-request")
        if not head.version_11 or head.upgrade is None or b"websocket" not in head.upgrade.lower():
            return Refusal(
                status=426,
                message="this is for agents: a WebSocket handshake is expected",
                code="upgrade-required",
                headers=((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
            )
        if head.get(b"sec-websocket-version") != b"13":
            return Refusal(
                status=426,
                message="only WebSocket version 13 is spoken",
                code="upgrade-required",
                headers=((b"sec-websocket-version", b"13"),),
            )
        keys = [value for name, _, value in head.fields if name == b"sec-websocket-key"]
        if len(keys) != 1 or not _WS_KEY.match(keys[0]):
            return Refusal(status=400, message="bad sec-websocket-key", code="bad-request")
        return None

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in JSON and close, after the peer had time to read it."""
        self._deaf = True
        log.info(
            "Handshake refused: {reason}", peer=_peer_text(self.transport), status=refusal.status, reason=refusal.message
        )
        self.factory.refused(refusal)
        self.transport.write(
            error_response(
                refusal.status,
                refusal.message,
                hop=self.factory.node_id,
                code=refusal.code,
                close=True,
                extra=refusal.headers,
            )
        )
        self.deadline = self.parts.sweep.now + CLOSE_TIMEOUT_S
        half_close(self.transport)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: object = None) -> None:
        """What Autobahn still finds wrong with a handshake that we let pass."""
        self._refuse(Refusal(status=400, message=_printable(reason), code="bad-request"))

    def onConnect(self, request: Any) -> tuple[str | None, dict[str, str]]:
        chosen = SUBPROTOCOL_V2 if SUBPROTOCOL_V2 in request.protocols else None
        return chosen, {"x-pico-node-id": self.factory.node_id}

    def onOpen(self) -> None:
        self.peer = _peer_text(self.transport)
        admission = self.admission
        self.endpoint = admission.endpoint
        self.slot = admission.slot
        self.agent_id = admission.agent_id or f"v1-{self.peer}"
        version = 2 if self.websocket_protocol_in_use == SUBPROTOCOL_V2 else 1
        self.acceptor = self.factory.acceptor
        self._start_session(version, asks_always=True, serves=self.factory.serves)
        self.factory.opened(self)
        self._pump()


def _peer_text(transport: Any) -> str:
    peer = transport.getPeer()
    host, port = str(getattr(peer, "host", "")), getattr(peer, "port", "")
    if "." in host:
        host = host.removeprefix("::ffff:")  # an IPv4 client of a port that is bound to all interfaces
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TunnelServerFactory(WebSocketServerFactory):
    """Accepts tunnels. A subclass says whom (`admit`) and what follows (`opened`).

    Args:
        parts: what all tunnels share.
        node_id: told to the peer, and the hop in refusals.
        reactor: Autobahn's timers; never the global one by accident.
    """

    protocol = TunnelServerProtocol
    log = _autobahn_log
    acceptor: Any = None
    serves: tuple[int, ...] = ()

    def __init__(self, parts: TunnelParts, *, node_id: str, reactor: Any) -> None:
        super().__init__(reactor=reactor, server="")
        self.parts = parts
        self.node_id = node_id
        self.connections: set[TunnelServerProtocol] = set()
        self.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            utf8validateIncoming=False,
            allowedOrigins=["*"],
            allowNullOrigin=True,
            webStatus=False,
            tcpNoDelay=False,
        )

    def admit(self, head: RequestHead, peer: Any) -> Admission | Refusal:
        """Decide on a well-formed WebSocket handshake."""
        return Refusal(status=404, message="nothing is here", code="not-found")

    def opened(self, tunnel: TunnelServerProtocol) -> None:
        """A session is open."""

    def refused(self, refusal: Refusal) -> None:
        """A handshake was refused."""


def token_of(head: RequestHead, name: bytes) -> str | None:
    """A header that holds one safe token: "" when absent, None when it is not one."""
    value = head.get(name)
    if value is None:
        return ""
    text = value.decode("ascii", "replace")
    return text if _TOKEN.match(text) else None


# The client's role


class TunnelClientProtocol(Tunnel, WebSocketClientProtocol):
    """Our connection to a node."""

    _masks = True
    _answer_head: Any = None

    def connectionMade(self) -> None:
        self.parts = self.factory.parts
        self.acceptor = self.factory.acceptor
        self.endpoint = self.factory.endpoint
        self.agent_id = self.factory.agent_id
        self.slot = self.factory.slot
        self._head = b""
        tune(self.transport, tunnel=True)
        super().connectionMade()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.parts.sweep.discard(self)
        if self.session is None:
            if self._answer_head is not None:
                self._refused()
            else:
                if reason.check(ConnectionDone):
                    reason = Failure(ConnectionLost("closed during the handshake"))
                self.factory.failed(reason)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self.session is not None:
            self._receive(data)
        else:
            self._handshake(data)

    def _handshake(self, data: bytes) -> None:
        self._head += data
        if self._answer_head is None:
            limits = self.parts.head_limits
            end = self._head.find(b"\r\n\r\n", 0, limits.head_bytes)
            if end < 0:
                if len(self._head) >= limits.head_bytes:
                    self._give_up(HandshakeRefused(502, "the answer's head is too large"))
                return
            try:
                head = parse_response_head(self._head[: end + 4], limits)
            except Http1Error as error:
                self._give_up(HandshakeRefused(502, f"not an answer to a WebSocket handshake: {error.message}"))
                return
            if head.status == 101:
                node_id = head.get(b"x-pico-node-id")
                if node_id is not None:
                    self.node_id = _printable(node_id[:64].decode("ascii", "replace"))
                whole, self._head = self._head, b""
                self._dataReceived(whole)
                return
            self._answer_head = head
            self._head = self._head[end + 4 :]
        wanted = self._answer_head.length
        enough = MAX_REFUSAL_BODY_BYTES if wanted is None else min(wanted, MAX_REFUSAL_BODY_BYTES)
        if len(self._head) >= enough:
            self._refused()

    def _refused(self) -> None:
        head, self._answer_head = self._answer_head, None
        self._give_up(HandshakeRefused(head.status, _refusal_words(head.reason, self._head)))

    def _give_up(self, error: Exception) -> None:
        self.factory.failed(Failure(error))
        self.transport.abortConnection()

    def failHandshake(self, reason: str) -> None:
        """What Autobahn found wrong with a 101."""
        self._give_up(HandshakeRefused(502, _printable(reason)))

    def onOpen(self) -> None:
        self.peer = _peer_text(self.transport)
        version = 2 if self.websocket_protocol_in_use == SUBPROTOCOL_V2 else 1
        self._start_session(version, asks_always=False, serves=(HTTP,))
        self.factory.opened(self)


def _refusal_words(reason: bytes, body: bytes) -> str:
    """The server's own words: the `error` of a JSON body, else the start of the body, else the reason phrase."""
    text = body[:MAX_REFUSAL_BODY_BYTES].decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, Mapping) and isinstance(parsed.get("error"), str):
        text = parsed["error"]
    text = " ".join(text.split())[:200] or reason.decode("latin-1")
    return _printable(text)


class TunnelClientFactory(WebSocketClientFactory):
    """Makes the one protocol of one attempt; `ready` fires with it when its session is open."""

    protocol = TunnelClientProtocol
    log = _autobahn_log
    noisy = False

    def __init__(
        self,
        parts: TunnelParts,
        *,
        url: str,
        headers: Mapping[str, str],
        acceptor: Any,
        endpoint: str,
        agent_id: str,
        slot: str,
        reactor: Any,
    ) -> None:
        super().__init__(
            url, headers=dict(headers), protocols=[SUBPROTOCOL_V2], useragent=f"pico/{parts.version}", reactor=reactor
        )
        self.parts = parts
        self.acceptor = acceptor
        self.endpoint = endpoint
        self.agent_id = agent_id
        self.slot = slot
        self.ready: Deferred[TunnelClientProtocol] = Deferred()
        self.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            autoPingInterval=0,
            tcpNoDelay=False,
        )

    def opened(self, tunnel: TunnelClientProtocol) -> None:
        """The session is open."""
        if not self.ready.called:
            self.ready.callback(tunnel)

    def failed(self, reason: Failure) -> None:
        """The attempt is over."""
        if not self.ready.called:
            self.ready.errback(reason)


def connect_tunnel(
    reactor: Any,
    parts: TunnelParts,
    url: str,
    *,
    endpoint_id: str,
    agent_id: str,
    slot: str,
    token: str = "",
    root_cas: str = "",
    acceptor: Any,
    timeout_s: float,
) -> Deferred[TunnelClientProtocol]:
    """Connect to a node and register an endpoint.

    Args:
        url: http, https, ws or wss; a path in it comes before ours.
        token: sent as a Bearer token when not empty.
        root_cas: a PEM file to check the node's certificate with instead of the system's roots.
        acceptor: an `ICallAcceptor`, for the requests.
        timeout_s: for the connection, TLS and the WebSocket handshake together.

    Returns:
        A Deferred that fires with the open tunnel. It fails with `HandshakeRefused`, `HandshakeTimeout`, or what the
        connection failed with (Twisted's connection errors, OpenSSL's).
    """
    parsed = urlsplit(url)
    secure = parsed.scheme in ("https", "wss")
    host = parsed.hostname or ""
    port = parsed.port or (443 if secure else 80)
    shown = f"[{host}]" if ":" in host else host
    path = parsed.path.rstrip("/") + LISTENER_PATH.decode("ascii") + endpoint_id
    headers = {"x-pico-agent-id": agent_id, "x-pico-agent-version": parts.version, "x-pico-slot": slot}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    factory = TunnelClientFactory(
        parts,
        url=f"{'wss' if secure else 'ws'}://{shown}:{port}{path}",
        headers=headers,
        acceptor=acceptor,
        endpoint=endpoint_id.lower(),
        agent_id=agent_id,
        slot=slot,
        reactor=reactor,
    )
    endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout_s)
    if secure:
        endpoint = wrapClientTLS(client_tls(host, root_cas), endpoint)

    protocols: list[TunnelClientProtocol] = []
    connecting = endpoint.connect(factory)
    connecting.addCallbacks(protocols.append, factory.failed)

    def give_up(error: Exception) -> None:
        factory.failed(Failure(error))
        connecting.cancel()
        for protocol in protocols:
            protocol.transport.abortConnection()

    result: Deferred[TunnelClientProtocol] = Deferred(lambda _: give_up(HandshakeTimeout("cancelled")))
    timer = parts.clock.callLater(timeout_s, give_up, HandshakeTimeout(f"no session after {timeout_s:g} s"))

    def done(outcome: Any) -> None:
        if timer.active():
            timer.cancel()
        if not result.called:
            result.callback(outcome)

    factory.ready.addBoth(done)
    return result


__all__ = [
    "SEND_HIGH_BYTES",
    "Admission",
    "Closed",
    "HandshakeRefused",
    "HandshakeTimeout",
    "Refusal",
    "Tunnel",
    "TunnelParts",
    "TunnelServerFactory",
    "connect_tunnel",
    "token_of",
]

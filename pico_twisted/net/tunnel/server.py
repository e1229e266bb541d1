"""The server's role: a peer connects, its handshake is read and judged, its session begins."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

import attrs
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import RequestHead, parse_request_head
from pico_twisted.core.http1.target import read_request_line
from pico_twisted.core.ports import PORT_FIELD, UPSTREAM
from pico_twisted.core.routing.affinity import Affinity
from pico_twisted.core.rpc.dialect import V2, Dialect
from pico_twisted.core.rpc.frames import HEARTBEAT_PAYLOAD, SUBPROTOCOL_V2
from pico_twisted.core.rpc.heartbeats import HEARTBEAT_S
from pico_twisted.core.text import NAME_PATTERN, printable
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.socket.options import half_close
from pico_twisted.net.tls.verification import client_certificate
from pico_twisted.net.tunnel.idle import shrink, slim_class
from pico_twisted.net.tunnel.interfaces import ICallAcceptor
from pico_twisted.net.tunnel.parts import CREDENTIAL_UNTIL, TunnelParts, own_capabilities
from pico_twisted.net.tunnel.session_pump import TICK_S, Tunnel
from pico_twisted.net.tunnel.websocket_pipe import Stage, autobahn_log

log = Logger(namespace="pico_twisted.net.tunnel")

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""Seconds from the connection to the end of the WebSocket handshake; bytes do not extend them."""

MAX_SHAKING: Final = 2048
"""Connections in their handshake beside which stalled ones are not kept: with 64 KiB each, they hold 128 MiB."""
STALLED_S: Final = 2.0
"""Seconds after which a handshake stalls. Agents send theirs at once; many that come back together may wait a while."""
REFUSALS_S: Final = 1.0
"""Seconds between two lines of the log about refusals of one kind: strangers may be refused thousands of times."""

_TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of a peer that speaks TLS."""

_WS_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==\Z")


@attrs.frozen(kw_only=True)
class Refusal:
    """A handshake that is not accepted: what to answer."""

    status: int
    message: str
    code: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    logged: bool = False  # by whoever refused it


@attrs.frozen(kw_only=True)
class Admission:
    """A handshake that is accepted, and what is known of the peer."""

    endpoint: str
    agent_id: str
    slot: str
    agent_version: str
    alone: bool = False
    speaks: str = "http"
    affinity: Affinity = Affinity.NONE
    others: str = ""  # who else serves the endpoint, told to the agent
    subject: Subject | None = None  # who the agent has shown to be
    capabilities: frozenset[bytes] = frozenset()


class TunnelServerProtocol(Tunnel, WebSocketServerProtocol):  # type: ignore[misc]
    """A peer that connected to us."""

    factory: TunnelServerFactory
    admission: object  # what the factory's `admit` gave
    _awaited: Deferred[object] | None = None  # the factory's answer, while it looks at a credential

    def connectionMade(self) -> None:
        self.parts = self.factory.parts
        self._head = b""
        super().connectionMade()
        self._abort_at = self.deadline = self.parts.sweep.now + HANDSHAKE_TIMEOUT_S
        self.parts.sweep.add(self)
        self.factory.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.discard(self)
        self.factory.shaking.pop(self, None)
        self.factory.awake.discard(self)
        self.parts.sweep.discard(self)
        self._judge_no_more()
        super().connectionLost(reason)

    def deadline_passed(self, now: float) -> None:
        if self._stage is Stage.OPEN and self.dialect is V2:
            self.session.says = self.factory.says
        super().deadline_passed(now)

    def _fall_idle(self) -> None:
        super()._fall_idle()
        self.factory.awake.discard(self)

    def _wake(self) -> None:
        if self._idle:
            super()._wake()
            self.factory.awake.add(self)

    def _serve(self, dialect: Dialect) -> None:
        """Begin the session, as the side that asks for signs of life."""
        self.acceptor = self.factory.acceptor
        self.factory.shaking.pop(self, None)
        self._start_session(dialect, asks_always=True, serves=self.factory.serves)
        self.factory.awake.add(self)

    def _handshake(self, data: bytes) -> None:
        limits = self.parts.head_limits
        self._head += data
        if self._awaited is not None:
            if len(self._head) > 2 * limits.head_bytes:
                self._refuse(Refusal(status=400, message="frames before the answer", code="bad-request"))
            return
        if self._head[:1] == _TLS_HANDSHAKE:  # it would wait for an answer in TLS until it gives up
            self._refuse(Refusal(status=400, message="this port does not speak TLS", code="bad-request"))
            return
        end = self._head.find(b"\r\n\r\n", 0, limits.head_bytes)
        if end < 0:
            if len(self._head) >= limits.head_bytes:
                self._refuse(Refusal(status=431, message="request head too large", code="head-too-large"))
            elif b"\n" in self._head:
                self._check_line(self._head.partition(b"\n")[0], limits.target_bytes)
            return
        try:
            head = parse_request_head(self._head[: end + 4], limits)
        except Http1Error as error:
            self._refuse(Refusal(status=error.status, message=error.message, code=error.code))
            return
        answer = self._check_websocket(head) or self.factory.admit(head, self._shown(head))
        if isinstance(answer, Deferred):
            self._awaited = answer  # meanwhile the deadline of the handshake goes on
            answer.addCallback(self._judged).addErrback(self._not_judged)
        else:
            self._judged(answer)

    def _shown(self, head: RequestHead) -> Credential:
        """What the peer shows of who it is. What stands in `Authorization` and is no Bearer token is an empty one."""
        values = [value for name, _, value in head.fields if name == b"authorization"]
        scheme, _, token = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        bearer = token.strip() if scheme.lower() == b"bearer" else b""
        return Credential(
            bearer=bearer if values else None,
            certificate=client_certificate(self.transport),
            address=self._peer_text(),
        )

    def _judged(self, answer: object) -> None:
        self._awaited = None
        if self._stage is not Stage.OPENING:
            return
        if isinstance(answer, Refusal):
            self._refuse(answer)
            return
        self.admission = answer
        whole, self._head = self._head, b""
        if self._shake_hands(whole):
            shrink(self)

    def _not_judged(self, failure: Failure) -> None:
        self._awaited = None
        if not failure.check(CancelledError):
            log.failure("A handshake could not be judged", failure, peer=self._peer_text())
            self.transport.abortConnection()

    def _judge_no_more(self) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.cancel()

    def _check_line(self, line: bytes, target_bytes: int) -> None:
        """Tell a peer that speaks something else at once, instead of waiting for the rest of a head."""
        try:
            read_request_line(line, target_bytes)
        except Http1Error as error:
            self._refuse(Refusal(status=error.status, message=error.message, code=error.code))

    def _check_websocket(self, head: RequestHead) -> Refusal | None:
        if head.method != b"GET" or head.has_body:
            return Refusal(status=400, message="a WebSocket handshake is a GET without a body", code="bad-request")
        offers = [] if head.upgrade is None else [offer.strip() for offer in head.upgrade.lower().split(b",")]
        if not head.version_11 or b"websocket" not in offers:
            return Refusal(
                status=426,
                message=f"this is for {self.factory.peers}: a WebSocket handshake is expected",
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
        self._stage = Stage.REFUSED
        self._head = b""
        self._judge_no_more()
        self.factory.refused(refusal, self._peer_text())
        self.transport.write(
            error_response(
                refusal.status,
                refusal.message,
                hop=self.factory.node_id,
                code=refusal.code,
                close=True,
                extra=((PORT_FIELD.encode("ascii"), self.factory.port_name.encode("ascii")), *refusal.headers),
            )
        )
        self._close_soon()
        half_close(self.transport)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: object = None) -> None:
        """What Autobahn still finds wrong with a handshake that we let pass."""
        self._refuse(Refusal(status=400, message=printable(reason), code="bad-request"))

    def onConnect(self, request: ConnectionRequest) -> tuple[str | None, dict[str, str]]:
        return SUBPROTOCOL_V2 if SUBPROTOCOL_V2 in request.protocols else None, self._answer_headers()

    def _answer_headers(self) -> dict[str, str]:
        """What stands in the 101 besides WebSocket's own."""
        headers = self.factory.answer_headers() | own_capabilities(self.transport)
        admission = self.admission
        if isinstance(admission, Admission):
            if admission.others:
                headers["x-pico-shared-with"] = admission.others
            if admission.subject is not None and admission.subject.expires_at is not None:
                headers[CREDENTIAL_UNTIL] = f"{admission.subject.expires_at:.0f}"
        return headers

    def onOpen(self) -> None:
        admission = self.admission
        assert isinstance(admission, Admission)
        self.endpoint, self.slot, self.alone = admission.endpoint, admission.slot, admission.alone
        self.agent_version = admission.agent_version
        if admission.speaks != self.speaks or admission.affinity is not self.affinity:
            self.speaks, self.affinity = admission.speaks, admission.affinity
        if admission.subject is not None:  # else it would take room in each of thousands of idle tunnels
            self.subject = admission.subject
        self.capabilities = admission.capabilities
        self.agent_id = admission.agent_id or f"v1-{self._peer_text()}"
        self._serve(V2 if self.websocket_protocol_in_use == SUBPROTOCOL_V2 else self.parts.v1)
        self.session.ask_sooner(self.factory.chance() * (HEARTBEAT_S - TICK_S))
        self.factory.opened(self)
        self._pump()


class TunnelServerFactory(WebSocketServerFactory):
    """Accepts tunnels. A subclass says where (`port_name`), from whom (`peers`, `admit`) and what follows (`opened`).

    Args:
        parts: what all tunnels share.
        node_id: told to the peer, and the hop in refusals.
        reactor: Autobahn's timers; never the global one by accident.

    Attributes:
        connections: all that are open, those in their handshake included.
        shaking: those of them that have no session, with when they began, in seconds of the sweep; the oldest first.
        awake: those with a session that has calls, or had some a moment ago. The others hold no bytes.
    """

    log = autobahn_log
    protocol = TunnelServerProtocol  # type: ignore[assignment]  # it knows its factory better than Twisted does
    peers = "agents"
    port_name = UPSTREAM
    acceptor: ICallAcceptor
    serves: tuple[int, ...] = ()
    says = HEARTBEAT_PAYLOAD  # what our heartbeats carry
    chance: Callable[[], float] = staticmethod(random.random)  # from 0 up to 1; spreads the heartbeats of many sessions

    def __init__(self, parts: TunnelParts, *, node_id: str, reactor: IReactorTime) -> None:
        super().__init__(reactor=reactor, server="")  # type: ignore[no-untyped-call]  # of Autobahn
        self.parts = parts
        self.node_id = node_id
        self.connections: set[TunnelServerProtocol] = set()
        self.shaking: dict[TunnelServerProtocol, float] = {}
        self.awake: set[TunnelServerProtocol] = set()
        self._slim: type[TunnelServerProtocol] | None = None
        self._refusals = RepeatedWarning(REFUSALS_S)
        self.setProtocolOptions(  # likewise
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            utf8validateIncoming=False,
            allowedOrigins=["*"],
            allowNullOrigin=True,
            webStatus=False,
            tcpNoDelay=False,
        )

    def buildProtocol(  # type: ignore[override]  # as for `protocol`
        self, addr: IAddress | None
    ) -> TunnelServerProtocol | None:
        """A protocol for a new connection."""
        if self._slim is None:
            self._slim = slim_class(self.protocol, self)
        protocol = self._slim()
        protocol.factory = self
        return protocol

    def connected(self, tunnel: TunnelServerProtocol) -> None:
        """Somebody has connected. When many do and stall, the one that has stalled for the longest makes room."""
        now = self.parts.sweep.now
        if len(self.shaking) >= MAX_SHAKING:
            oldest, began = next(iter(self.shaking.items()))
            if now - began >= STALLED_S:
                del self.shaking[oldest]
                oldest.transport.abortConnection()
        self.connections.add(tunnel)
        self.shaking[tunnel] = now

    def admit(self, head: RequestHead, shown: Credential) -> object:
        """Decide on a well-formed WebSocket handshake.

        Args:
            head: of its request.
            shown: what the peer has shown of who it is.

        Returns:
            A `Refusal`, or what the protocol is to know; or a Deferred of one of them, which is cancelled when the peer
            leaves or takes too long.
        """
        return Refusal(status=404, message="nothing is here", code="not-found")

    def answer_headers(self) -> dict[str, str]:
        """What stands in every 101 besides WebSocket's own and our capabilities."""
        return {"x-pico-node-id": self.node_id}

    def opened(self, tunnel: TunnelServerProtocol) -> None:
        """A session is open."""

    def refused(self, refusal: Refusal, peer: str) -> None:
        """A handshake was refused: log that, for each code once a second at most."""
        if refusal.logged:
            return
        suppressed = self._refusals.due(refusal.code, self.parts.sweep.now)
        if suppressed is not None:
            log.info(
                "Handshake refused: {reason}",
                peer=peer,
                status=refusal.status,
                reason=refusal.message,
                suppressed=suppressed,
            )


def token_of(head: RequestHead, name: bytes) -> str | None:
    """Read a header that holds one safe token: "" when it is absent, None when it holds anything else."""
    value = head.get(name)
    if value is None:
        return ""
    text = value.decode("ascii", "replace")
    return text if NAME_PATTERN.fullmatch(text) else None


def tokens_of(head: RequestHead, name: bytes, most: int) -> list[str] | None:
    """Read a header that holds safe tokens with commas between: [] when it is absent.

    Args:
        head: of the handshake's request.
        name: of the header, in lower case.
        most: how many tokens it may hold; None is returned for more, and when one is not safe.
    """
    value = head.get(name)
    if value is None:
        return []
    texts = [text.strip() for text in value.decode("ascii", "replace").split(",", most)]
    return texts if len(texts) <= most and all(map(NAME_PATTERN.fullmatch, texts)) else None

"""Node links, both roles: the handshake of two nodes, and the proof that follows it.

Which peer is believed is decided in `core.links.handshake`. Here neither end says a word too early: the
client sends nothing before the server has proven itself, and then its own proof first; the server takes nothing else
before that, and gives a peer that owes it little time and little memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.links.handshake import (
    LINK_PATH,
    ClientHandshake,
    ServerHandshake,
)
from pico_twisted.core.links.sync_frames import SyncFormatError, decode_proof, encode_proof
from pico_twisted.core.protocol_limits import CLOSE_POLICY
from pico_twisted.core.rpc.capabilities import OWN_CAPABILITIES
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.core.rpc.frames import (
    CREDIT,
    HEADER,
    HEADER_BYTES,
    MAX_MESSAGE_V2,
    MORE,
    RESET,
    RESPONSE,
    SYNC,
)
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import OPENED
from pico_twisted.core.sweep import NEVER
from pico_twisted.core.text import host_port
from pico_twisted.net.socket.dialling import DialReactor, tcp_endpoint
from pico_twisted.net.socket.options import serve_first
from pico_twisted.net.tunnel.client import TunnelClientFactory, TunnelClientProtocol, open_tunnel
from pico_twisted.net.tunnel.interfaces import ICallAcceptor, ICallReceiver
from pico_twisted.net.tunnel.parts import TunnelParts, own_capabilities
from pico_twisted.net.tunnel.server import TunnelServerProtocol
from pico_twisted.net.tunnel.websocket_pipe import Stage

PROOF_TIMEOUT_S: Final = 10.0
"""Seconds from the end of the handshake to the client's proof."""

MAX_PROOF_MESSAGE_BYTES: Final = 125
"""Most bytes of the message that carries a proof, so that an unproven peer makes us hold no more. A proof takes 53."""

_FIRST_FLAGS: Final = RESPONSE | MORE | RESET | CREDIT
"""Flags of which none may stand in the frame that carries a proof."""


class LinkServerProtocol(TunnelServerProtocol):
    """A node that connected to us.

    Attributes:
        node_id: of the peer.
        generation: of the peer.
    """

    admission: ServerHandshake
    generation = 0
    _prove_by = NEVER

    def _answer_headers(self) -> dict[str, str]:
        return {**self.admission.headers(), **own_capabilities(self.transport)}

    def onOpen(self) -> None:
        self.node_id = self.agent_id = self.admission.node_id
        self.generation = self.admission.generation
        self.capabilities = self.admission.capabilities
        self._serve(V2)
        if self.admission.proves:
            self._gate = self._take_proof
            self._prove_by = self.parts.sweep.now + PROOF_TIMEOUT_S
            self._limit_messages(MAX_PROOF_MESSAGE_BYTES)
        else:
            self.factory.opened(self)
        self._pump()

    def _limit_messages(self, most_bytes: int) -> None:
        self.maxMessagePayloadSize = self.maxFramePayloadSize = most_bytes

    def _take_proof(self, message: bytes) -> None:
        fault = self._judge(message)
        if fault:
            self.fail(CLOSE_POLICY, fault)
            return
        self._gate = None
        self._prove_by = NEVER
        self._limit_messages(MAX_MESSAGE_V2)
        self.factory.opened(self)
        event = self.session.receive(message)
        if event is not None and event[0] == OPENED:  # else we are too busy, which the session answers
            self.consumed(event[1], len(event[2]))
            self.send(event[1], b"", False)
        self._pump()

    def _judge(self, message: bytes) -> str:
        """Say what is wrong with a first message; "" when it is the proof that is owed."""
        if len(message) < HEADER_BYTES:
            return "a proof is needed first"
        kind, call_id, flags = HEADER.unpack_from(message)
        if kind != SYNC or call_id == 0 or flags & _FIRST_FLAGS:
            return "a proof is needed first"
        try:
            proof = decode_proof(message[HEADER_BYTES:])
        except SyncFormatError:
            return "a proof is needed first"
        return "" if self.admission.accepts(proof) else "the proof is wrong"

    def _count_round_trip(self, seconds: float) -> None:
        self.parts.metrics.link_round_trip(seconds)

    def deadline_passed(self, now: float) -> None:
        if now >= self._prove_by:
            self.fail(CLOSE_POLICY, "no proof in time")
        super().deadline_passed(now)
        if self._stage is Stage.OPEN:
            self.deadline = min(self.deadline, self._prove_by)


@implementer(ICallReceiver)
class _ProofAnswer:
    """Waits for the answer to our proof."""

    def __init__(self, proven: Callable[[], None]) -> None:
        self._proven = proven

    def frame(self, payload: bytes, more: bool) -> None:
        """The server believes us: it answered."""
        self._proven()

    def reset(self, code: str, text: str) -> None:
        """The server believes us, or it would close; it is too busy to say more."""
        self._proven()

    def lost(self) -> None:
        """The server does not believe us, or is gone; the session says which."""

    def drained(self) -> None:
        """Nothing was queued."""


class LinkClientProtocol(TunnelClientProtocol):
    """Our connection to another node."""

    factory: LinkClientFactory
    _proof: bytes | None = None

    def connectionMade(self) -> None:
        serve_first(self.transport)
        super().connectionMade()

    def _take_answer(self, head: ResponseHead) -> None:
        super()._take_answer(head)
        self._proof = self.factory.handshake.check(head)

    def onOpen(self) -> None:
        factory = self.factory
        if factory.ready.called:  # the attempt was given up meanwhile, and its calls with it
            self.transport.abortConnection()
            return
        session = factory.session
        if self._proof is not None:
            call = session.call_ahead(SYNC, encode_proof(self._proof))
            call.receiver = _ProofAnswer(factory.proven)
        self._start_session(V2, asks_always=True, serves=(), prepared=session)
        factory.opened(self)
        self._pump()
        if self._proof is None:
            factory.proven()

    def _count_round_trip(self, seconds: float) -> None:
        self.parts.metrics.link_round_trip(seconds)


class LinkClientFactory(TunnelClientFactory):
    """Makes one attempt to open a link to another node, and its one protocol.

    Args:
        reactor: connects.
        parts: what all tunnels share.
        address: host and port of the other node's gossip port.
        server_id: the node ID that is expected there.
        handshake: decides whether it is.
        session: the calls that wait for the link.
        acceptor: told when the other node drains.
        proven: called when the other node believes us.
    """

    protocol = LinkClientProtocol

    def __init__(
        self,
        reactor: DialReactor,
        parts: TunnelParts,
        address: tuple[str, int],
        *,
        server_id: str,
        handshake: ClientHandshake,
        session: SessionV2,
        acceptor: ICallAcceptor,
        proven: Callable[[], None],
    ) -> None:
        host, port = address
        super().__init__(
            parts,
            url=f"ws://{host_port(host.partition('%')[0], port)}{LINK_PATH.decode('ascii')}",
            headers={**handshake.headers(), **OWN_CAPABILITIES},
            acceptor=acceptor,
            agent_id=server_id,
            reactor=reactor,
        )
        self._address = address
        self.handshake = handshake
        self.session = session
        self.proven = proven

    def connect(self, tls: IOpenSSLClientConnectionCreator | None, timeout_s: float) -> Deferred[LinkClientProtocol]:
        """Open the link.

        Args:
            tls: for a cluster whose links use TLS.
            timeout_s: for the connection, TLS and the WebSocket handshake together.

        Returns:
            A Deferred that fires with the open tunnel, behind whose proof the calls of `session` leave. It fails with
            `NotThePeer` when another node answers or cannot prove itself, and as that of `connect_tunnel`. Cancelling
            it gives the attempt up.
        """
        endpoint = tcp_endpoint(self.reactor, *self._address, timeout_s)
        if tls is not None:
            endpoint = wrapClientTLS(tls, endpoint)
        return cast("Deferred[LinkClientProtocol]", open_tunnel(self, endpoint, timeout_s))

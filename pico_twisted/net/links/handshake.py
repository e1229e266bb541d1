"""Node links, both roles: the handshake of two nodes, and the proof that follows it.

Who is believed is decided in `core.links.handshake`. Here it is kept that nobody says a word too early: the
client sends nothing before the server has proven itself, and then its own proof first; the server takes nothing else
before that, and gives a peer that owes it little time and little memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.links.handshake import (
    LINK_PATH,
    ClientHandshake,
    HandshakeFault,
    LinkIdentity,
    ServerHandshake,
)
from pico_twisted.core.links.sync_frames import SyncFormatError, decode_proof, encode_proof
from pico_twisted.core.protocol_limits import CLOSE_POLICY
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import (
    CREDIT,
    HEADER,
    HEADER_BYTES,
    HTTP,
    MAX_MESSAGE_V2,
    MORE,
    RESET,
    RESPONSE,
    SUBPROTOCOL_V2,
    SYNC,
)
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.text import host_port
from pico_twisted.net.interfaces import ICallReceiver
from pico_twisted.net.socket.dialling import tcp_endpoint
from pico_twisted.net.tunnel.base import TunnelParts, peer_text
from pico_twisted.net.tunnel.client import TunnelClientFactory, TunnelClientProtocol, open_tunnel
from pico_twisted.net.tunnel.server import Refusal, TunnelServerFactory, TunnelServerProtocol

log = Logger(namespace="pico_twisted.net.tunnel")

PROOF_TIMEOUT_S: Final = 10.0
"""From the end of the handshake to the client's proof."""

MAX_PROOF_MESSAGE_BYTES: Final = 125
"""Of the message that carries a proof, so that an unproven peer makes us hold no more. A proof takes 53."""

_FIRST_FLAGS: Final = RESPONSE | MORE | RESET | CREDIT
"""None of them may stand in the frame that carries a proof."""


class LinkServerProtocol(TunnelServerProtocol):
    """A node that connected to us.

    Attributes:
        node_id: of the peer.
        generation: of the peer.
    """

    admission: ServerHandshake
    generation = 0
    _awaits_proof = False
    _owes_answer = False
    _prove_by = 0.0

    def _answer_headers(self) -> dict[str, str]:
        return self.admission.headers()

    def onOpen(self) -> None:
        self.peer = peer_text(self.transport)
        self.node_id = self.agent_id = self.admission.node_id
        self.generation = self.admission.generation
        self.acceptor = self.factory.acceptor
        self._awaits_proof = self.admission.proves
        self._start_session(2, asks_always=True, serves=self.factory.serves)
        if self._awaits_proof:
            self._prove_by = self.parts.sweep.now + PROOF_TIMEOUT_S
            self._limit_messages(MAX_PROOF_MESSAGE_BYTES)
        else:
            self.factory.opened(self)
        self._pump()

    def _limit_messages(self, most_bytes: int) -> None:
        self.maxMessagePayloadSize = self.maxFramePayloadSize = most_bytes

    def _receive(self, data: bytes) -> None:
        if self._awaits_proof and not self._closing:
            # Autobahn looks at each frame's length before it keeps any of it. What follows the proof in this read comes
            # the same way.
            self.session.last_received = self.parts.sweep.now
            self.data += data
            self.consumeData()
        else:
            super()._receive(data)

    def _message(self, message: bytes) -> None:
        if self._awaits_proof and self._alive:
            fault = self._judge(message)
            if fault:
                self.fail(CLOSE_POLICY, fault)
                return
            self._awaits_proof = False
            self._limit_messages(MAX_MESSAGE_V2)
            self.factory.opened(self)
            self._owes_answer = True
            super()._message(message)
            self._owes_answer = False
        else:
            super()._message(message)

    def _judge(self, message: bytes) -> str:
        """What is wrong with a first message; "" when it is the proof that is owed."""
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

    def _opened(self, call: Call, payload: bytes, more: bool) -> None:
        if self._owes_answer:
            self.session.consumed(call, len(payload), self.parts.clock.seconds())
            self.send(call, b"", False)
        else:
            super()._opened(call, payload, more)

    def _count_round_trip(self, seconds: float) -> None:
        self.parts.metrics.link_round_trip(seconds)

    def deadline_passed(self, now: float) -> None:
        if self._awaits_proof and self._alive and now >= self._prove_by:
            self.fail(CLOSE_POLICY, "no proof in time")
        super().deadline_passed(now)
        if self._awaits_proof and self._alive:
            self.deadline = min(self.deadline, self._prove_by)


class LinkServerFactory(TunnelServerFactory):
    """Accepts node links at `/pico/v1/node`. A subclass says what follows (`opened`) once the client has proven itself.

    Args:
        parts: what all tunnels share.
        identity: asked for this node's own at each handshake.
        nonce: gives `NONCE_BYTES` new random bytes.
        max_links: connections at once, those in their handshake included.
        reactor: for Autobahn.

    Attributes:
        draining: clients are refused.
    """

    protocol = LinkServerProtocol
    peers = "nodes"
    serves = (HTTP, SYNC)
    draining = False

    def __init__(
        self,
        parts: TunnelParts,
        *,
        identity: Callable[[], LinkIdentity],
        nonce: Callable[[], bytes],
        max_links: int,
        reactor: Any,
    ) -> None:
        super().__init__(parts, node_id=identity().node_id, reactor=reactor)
        self._identity = identity
        self._nonce = nonce
        self._max_links = max_links

    def buildProtocol(self, addr: Any) -> Any:
        """A protocol for a new connection; None closes it, when even those to be refused are too many."""
        return super().buildProtocol(addr) if len(self.connections) < 2 * self._max_links else None

    def admit(self, head: RequestHead, peer: Any) -> ServerHandshake | Refusal:
        """Decide on a node's handshake."""
        if head.target.partition(b"?")[0] != LINK_PATH:
            return Refusal(status=404, message="nothing is here: nodes connect to a node", code="not-found")
        offers = {
            offer.strip()
            for name, _, value in head.fields
            if name == b"sec-websocket-protocol"
            for offer in value.split(b",")
        }
        if SUBPROTOCOL_V2.encode("ascii") not in offers:
            return Refusal(status=400, message="nodes speak version 2 of the protocol alone", code="bad-request")
        try:
            handshake = ServerHandshake(self._identity(), head, self._nonce())
        except HandshakeFault as fault:
            return Refusal(status=fault.status, message=fault.message, code=fault.code)
        if self.draining:
            return Refusal(
                status=503,
                message="node is shutting down",
                code="draining",
                headers=((b"retry-after", b"1"),),
            )
        if len(self.connections) > self._max_links:
            return Refusal(status=503, message="too many links", code="busy", headers=((b"retry-after", b"10"),))
        return handshake


@implementer(ICallReceiver)
class _ProofAnswer:
    """Waits for the answer to our proof."""

    def __init__(self, proven: Callable[[], None]) -> None:
        self._proven = proven

    def frame(self, payload: bytes, more: bool) -> None:
        """The server believes us."""
        self._proven()

    def reset(self, code: str, text: str) -> None:
        """It does, for else it would close; it is too busy to say more."""
        self._proven()

    def lost(self) -> None:
        """It does not, or is gone."""

    def drained(self) -> None:
        """Nothing was queued."""


class LinkClientProtocol(TunnelClientProtocol):
    """Our connection to another node."""

    _proof: bytes | None = None

    def _take_answer(self, head: ResponseHead) -> None:
        super()._take_answer(head)
        self._proof = self.factory.handshake.check(head)

    def onOpen(self) -> None:
        factory: LinkClientFactory = self.factory
        if factory.ready.called:  # the attempt was given up meanwhile, and its calls with it
            self.transport.abortConnection()
            return
        self.peer = peer_text(self.transport)
        session = factory.session
        if self._proof is not None:
            call = session.call_ahead(SYNC, encode_proof(self._proof))
            call.receiver = _ProofAnswer(factory.proven)
        self._start_session(2, asks_always=True, serves=(), prepared=session)
        factory.opened(self)
        self._pump()
        if self._proof is None:
            factory.proven()

    def _count_round_trip(self, seconds: float) -> None:
        self.parts.metrics.link_round_trip(seconds)


class LinkClientFactory(TunnelClientFactory):
    """Makes the one protocol of one attempt to open a link.

    Args:
        parts: what all tunnels share.
        url: of the other node.
        server_id: the node ID that is expected there.
        handshake: decides whether it is.
        session: the calls that wait for the link.
        acceptor: told when the other node drains.
        proven: called when the other node believes us.
        reactor: for Autobahn.
    """

    protocol = LinkClientProtocol

    def __init__(
        self,
        parts: TunnelParts,
        *,
        url: str,
        server_id: str,
        handshake: ClientHandshake,
        session: SessionV2,
        acceptor: Any,
        proven: Callable[[], None],
        reactor: Any,
    ) -> None:
        super().__init__(
            parts,
            url=url,
            headers=handshake.headers(),
            acceptor=acceptor,
            endpoint="",
            agent_id=server_id,
            slot="",
            reactor=reactor,
        )
        self.handshake = handshake
        self.session = session
        self.proven = proven


def connect_link(
    reactor: Any,
    parts: TunnelParts,
    host: str,
    port: int,
    *,
    server_id: str,
    handshake: ClientHandshake,
    session: SessionV2,
    acceptor: Any,
    proven: Callable[[], None],
    tls: IOpenSSLClientConnectionCreator | None,
    timeout_s: float,
) -> Deferred[LinkClientProtocol]:
    """Open a link to another node.

    Args:
        host, port: of its gossip port.
        server_id, handshake, session, acceptor, proven: as of `LinkClientFactory`.
        tls: for a cluster whose links use TLS.
        timeout_s: for the connection, TLS and the WebSocket handshake together.

    Returns:
        A Deferred that fires with the open tunnel, behind whose proof the calls of `session` leave. It fails with
        `NotThePeer` when another node answers or cannot prove itself, and as that of `connect_tunnel`. Cancelling it
        gives the attempt up.
    """
    factory = LinkClientFactory(
        parts,
        url=f"ws://{host_port(host.partition('%')[0], port)}{LINK_PATH.decode('ascii')}",
        server_id=server_id,
        handshake=handshake,
        session=session,
        acceptor=acceptor,
        proven=proven,
        reactor=reactor,
    )
    endpoint = tcp_endpoint(reactor, host, port, timeout_s)
    if tls is not None:
        endpoint = wrapClientTLS(tls, endpoint)
    return open_tunnel(factory, endpoint, timeout_s)

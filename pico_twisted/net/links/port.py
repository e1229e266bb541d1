"""The TCP side of the gossip port: accepts links of other nodes, and serves what they ask from this node alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.links.handshake import LINK_PATH, HandshakeFault, LinkIdentity, ServerHandshake
from pico_twisted.core.ports import GOSSIP
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CLIENT_GONE, HTTP, REFUSED_BUSY, SUBPROTOCOL_V2, SYNC, TCP
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.access.load import NodeLoad
from pico_twisted.net.access.retry_after import RETRY_AFTER, later
from pico_twisted.net.links.handshake import LinkServerProtocol
from pico_twisted.net.links.request import LinkRequest
from pico_twisted.net.links.sync import Answers, SyncRequest
from pico_twisted.net.observe.requests import RequestWatch
from pico_twisted.net.routing.client_routes import take_client_gone
from pico_twisted.net.routing.interfaces import IRouter
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.tunnel import Closed, Refusal, TunnelParts, TunnelServerFactory, TunnelServerProtocol
from pico_twisted.net.tunnel.interfaces import ICallAcceptor, ICallReceiver, ITunnel
from pico_twisted.net.tunnel.upstream import node_drains

log = Logger()

OVERLOADED: Final = "the node has more to do than it can"
"""What another node is told, for its log, of a request that is refused for that. The code is one that old ones know."""

MAX_SYNC_CALLS: Final = 2
"""Most questions for the maps that one link may ask at once. Each may make us hold a whole question or answer."""


@implementer(ICallAcceptor)
class LinkPort(TunnelServerFactory):
    """The Autobahn server factory of the gossip port, which accepts node links at `/pico/v1/node`.

    Args:
        parts: what all tunnels share.
        identity: asked for this node's own at each handshake.
        nonce: gives `NONCE_BYTES` new random bytes.
        max_links: connections at once, those in their handshake included.
        answers: to the questions of other nodes.
        reactor: for Autobahn.

    Attributes:
        draining: clients are refused.
        tunnels: the links whose peers have proven themselves.
    """

    protocol = LinkServerProtocol
    peers = "nodes"
    port_name = GOSSIP
    serves = (HTTP, TCP, SYNC, CLIENT_GONE)
    draining = False

    def __init__(
        self,
        parts: TunnelParts,
        *,
        identity: Callable[[], LinkIdentity],
        nonce: Callable[[], bytes],
        max_links: int,
        answers: Answers,
        reactor: IReactorTime,
    ) -> None:
        super().__init__(parts, node_id=identity().node_id, reactor=reactor)
        self._identity = identity
        self._nonce = nonce
        self._max_links = max_links
        self._answers = answers
        self.acceptor = self
        self.tunnels: dict[LinkServerProtocol, None] = {}
        self._told: set[LinkServerProtocol] = set()  # those that answered our drain: no call can start on them
        self._drained: Deferred[None] | None = None
        parts.sweep.each(self._look)

    def serve(self, router: IRouter, requests: RequestWatch, load: NodeLoad) -> None:
        """Have requests of other nodes routed. Called once, before any link can be there.

        Args:
            router: knows the registrations of this node alone.
            requests: takes those that are over.
            load: what is refused while this node comes late: of these requests as many as of those of its own clients,
                before their heads are read. The other node makes them elsewhere, if there is another that may serve.
        """
        self._load = load
        # The node that took the request from its client holds the timers; it resets the call when it has waited enough.
        self._settings = RoutingSettings(
            router=router,
            sweep=self.parts.sweep,
            metrics=self.parts.metrics,
            timeout_s=math.inf,
            idle_timeout_s=math.inf,
            requests=requests,
            tracer=self.parts.tracer,
        )

    def buildProtocol(  # type: ignore[override]  # as in the class above
        self, addr: IAddress | None
    ) -> TunnelServerProtocol | None:
        """A protocol for a new connection; None closes it, when even those to be refused are too many."""
        return super().buildProtocol(addr) if len(self.connections) < 2 * self._max_links else None

    def admit(self, head: RequestHead, shown: Credential) -> ServerHandshake | Refusal:
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
            return node_drains()
        if len(self.connections) > self._max_links:
            return Refusal(status=503, message="too many links", code="busy", headers=((RETRY_AFTER, later()),))
        return handshake

    def opened(self, tunnel: TunnelServerProtocol) -> None:
        """A node has proven itself."""
        assert isinstance(tunnel, LinkServerProtocol)
        self.tunnels[tunnel] = None
        tunnel.closed.addCallback(self._closed, tunnel)
        log.info(
            "Link from {node} at {peer} opened", node=tunnel.node_id, peer=tunnel.peer, generation=tunnel.generation
        )
        if self.draining:
            self._drain(tunnel)

    def _closed(self, closed: Closed, tunnel: LinkServerProtocol) -> Closed:
        self.tunnels.pop(tunnel, None)
        self._told.discard(tunnel)
        log.info(
            "Link from {node} at {peer} ended: {reason}",
            node=tunnel.node_id,
            peer=tunnel.peer,
            code=closed.code,
            clean=closed.clean,
            reason=closed.reason,
        )
        return closed

    # ICallAcceptor

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> ICallReceiver | None:
        """Serve a call of another node. See `ICallAcceptor.call_opened`."""
        if kind in (HTTP, TCP):
            self.parts.metrics.link_call(False)
            if self._load.share and self._load.refuses() is not None:
                tunnel.reset(call, REFUSED_BUSY, OVERLOADED)
                return None
            request = LinkRequest(self._settings, tunnel, call, self.parts.end_of_turn)
            call.receiver = request
            request.start(payload, more)
            return None if request.over else request
        if kind == CLIENT_GONE:
            take_client_gone(tunnel, call, payload, more, self._settings.router.client_gone)
            return None
        assert isinstance(tunnel, LinkServerProtocol)
        if sum(other.kind == SYNC and not other.ours for other in tunnel.session.calls()) > MAX_SYNC_CALLS:
            tunnel.reset(call, REFUSED_BUSY, "too many questions at once")
            return None
        question = SyncRequest(tunnel, call, self._answers)
        question.frame(payload, more)
        return question

    def drain_requested(self, tunnel: ITunnel) -> None:
        """The other node opens no calls on this link any more; it closes the link itself."""

    # The end

    def drain(self) -> Deferred[None]:
        """Take no new links, tell the other nodes to open no new calls, and close each link when its calls are done.

        Returns:
            A Deferred that fires when no link is left. How long that may take is for the caller to decide.
        """
        if self._drained is not None:
            waiter: Deferred[None] = Deferred()
            self._drained.chainDeferred(waiter)
            return waiter
        self.draining = True
        for connection in list(self.connections):
            if connection not in self.tunnels:
                connection.transport.abortConnection()
        for tunnel in list(self.tunnels):
            self._drain(tunnel)
        if not self.connections:
            return succeed(None)
        self._drained = Deferred()
        return self._drained

    def _drain(self, tunnel: LinkServerProtocol) -> None:
        tunnel.drain().addCallback(lambda _: self._told.add(tunnel))

    def _look(self, now: float) -> None:
        """Called by the sweep: close the links that are done."""
        for tunnel in list(self._told):
            if not tunnel.call_count:
                self._told.discard(tunnel)
                tunnel.close(CLOSE_GOING_AWAY, "node is shutting down")
        if self._drained is not None and not self.connections:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def held_bytes(self) -> int:
        """Bytes that the links make the process hold."""
        return sum(tunnel.held_bytes() for tunnel in self.tunnels if tunnel.call_count)

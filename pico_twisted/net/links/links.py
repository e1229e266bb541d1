"""Node links: how a node sends requests to other nodes, and serves theirs.

A `Link` is dialled when it is first asked for, kept, and replaced when it is gone. One that must not be dialled now,
because that was tried in vain a moment ago or its node drains, is given out too; it loses its calls. None of them has
started, so the maker of a call need not know of any of this.

After a failed attempt a node is not dialled for a moment: 0.2 s, doubling up to 2 s. A word of gossip that it lives
shortens that to the 0.2 s, so a node that came back is not waited for, and one that gossips but cannot be reached over
TCP is dialled no more than five times a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.links.handshake import ClientHandshake, LinkIdentity, link_keys
from pico_twisted.core.links.proof import NONCE_BYTES
from pico_twisted.core.links.sync_frames import encode_dial, encode_maps, encode_operate, encode_revoked
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY, CLOSE_NORMAL
from pico_twisted.core.rpc.capabilities import DIAL_BACK, OPERATIONS, REVOCATIONS
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.text import host_port
from pico_twisted.net.links.dial_back import DialledOnce
from pico_twisted.net.links.failures import DialFailures, explained
from pico_twisted.net.links.handshake import LinkClientFactory, LinkClientProtocol
from pico_twisted.net.links.link import Link
from pico_twisted.net.links.port import LinkPort
from pico_twisted.net.links.sync import Answers, Fetch
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.routing.interfaces import ILinks
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.tls.server import SniffingFactory
from pico_twisted.net.tunnel import Closed, TunnelParts

log = Logger()

DIAL_TIMEOUT_S: Final = 3.0
"""Most seconds that an attempt may take in all. Requests wait for it, and may have another node to go to."""
PROBE_S: Final = 2.0
"""Most seconds that a node that gossip believes dead may take to answer over its link, before the link is dropped."""
HANDSHAKE_LIMITS: Final = HeadLimits(head_bytes=8 * 1024)
"""What the heads of handshakes are held to: a peer that has not proven itself must cost little."""


@attrs.frozen(kw_only=True)
class LinkSettings:
    """What a node's links are made of.

    Attributes:
        cluster: the cluster's name.
        node_id: of this node.
        generation: asked for at each handshake; of this node's start.
        secrets: of the cluster; the first is used, all are accepted. `NodeLinks.set_secrets` changes them.
        address_of: gives host and port of another node's gossip port, or None when it is not known.
        answers: to the questions of other nodes.
        tls: for a cluster whose links use TLS.
        max_links: of other nodes to this one, at once.
        random: gives so many random bytes.
    """

    cluster: str
    node_id: str
    generation: Callable[[], int]
    secrets: Sequence[bytes] = attrs.field(repr=False)
    address_of: Callable[[str], tuple[str, int] | None]
    answers: Answers
    tls: LinkTls | None
    max_links: int
    random: Callable[[int], bytes] = os.urandom


@implementer(ILinks)
class NodeLinks:
    """Both roles of a node's links.

    Args:
        parts: what all tunnels share. `max_calls` bounds the calls of one link.
        settings: see there.
        reactor: dials.

    Attributes:
        port: serves the links of other nodes, for a port without TLS; see `port_factory`.
    """

    def __init__(self, parts: TunnelParts, settings: LinkSettings, *, reactor: DialReactor) -> None:
        self.parts = attrs.evolve(parts, head_limits=HANDSHAKE_LIMITS)
        self._settings = settings
        self._reactor = reactor
        self._keys = link_keys(settings.secrets, settings.cluster)
        self._links: dict[str, Link] = {}
        self._retiring: dict[Link, None] = {}
        self._failures = DialFailures(parts.clock, parts.metrics)
        self._probed: dict[Link, float] = {}  # until when each may answer
        self._stopped = False
        self.port = LinkPort(
            self.parts,
            identity=self._identity,
            nonce=self._nonce,
            max_links=settings.max_links,
            answers=settings.answers,
            reactor=reactor,
        )
        metrics = parts.metrics
        metrics.gauge("pico_links_outbound", "Open links to other nodes.", lambda: len(self.open_links()))
        metrics.gauge("pico_links_inbound", "Links of other nodes to this one.", lambda: len(self.port.tunnels))
        parts.sweep.each(self._look)

    @property
    def port_factory(self) -> IProtocolFactory:
        """What listens on the TCP side of the gossip port."""
        settings = self._settings
        if settings.tls is None:
            return self.port
        return SniffingFactory(
            self.port, settings.tls, settings.node_id, timer=self.parts.sweep, clock=self.parts.clock
        )

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Use other secrets from the next handshake on; open links stay."""
        self._keys = link_keys(secrets, self._settings.cluster)

    def _identity(self) -> LinkIdentity:
        settings = self._settings
        return LinkIdentity(
            cluster=settings.cluster, node_id=settings.node_id, generation=settings.generation(), keys=self._keys
        )

    def _nonce(self) -> bytes:
        return self._settings.random(NONCE_BYTES)

    def new_session(self) -> SessionV2:
        """A session for a link to another node (called by its `Link`)."""
        parts = self.parts
        return SessionV2(asks_always=True, max_calls=parts.max_calls, budget=parts.budget, now=parts.sweep.now)

    # ILinks

    def link(self, node_id: str) -> Link:
        """The link to another node, dialled if there is none."""
        link = self._links.get(node_id)
        if link is not None:
            return link
        link = Link(self, node_id)
        address = self._settings.address_of(node_id)
        if self._stopped or not self.usable(node_id):
            link.give_up()
        elif address is None:
            link.give_up()
            self._failures.count(node_id, "", "address", "its address is not known")
        else:
            self._links[node_id] = link
            link.dialled(self._dial(address, node_id, link.session, link))
        return link

    def load(self, node_id: str) -> int | None:
        """Our calls in flight to a node; None when calls are not likely to get there."""
        link = self._links.get(node_id)
        if link is not None:
            return link.session.call_count()
        return 0 if self.usable(node_id) else None

    def standing(self, node_id: str) -> str:
        """`open` when there is a link to a node, else why none could be opened lately; "" when none was needed."""
        link = self._links.get(node_id)
        return "open" if link is not None and link.is_open else self._failures.why(node_id)

    def usable(self, node_id: str) -> bool:
        """Whether calls to the node are likely to get there."""
        link = self._links.get(node_id)
        if link is not None and link.is_open:
            return True
        if self._failures.holds_off(node_id):
            return False
        return not self._retiring or all(link.node_id != node_id for link in self._retiring)

    def heard(self, node_id: str) -> None:
        """The node was heard of and lives: try it again soon."""
        self._failures.heard(node_id)

    def probe(self, node_id: str) -> None:
        """The node may be dead: drop the link to it unless it says something soon.

        The kernel of a machine that lost its power, or of one behind a broken wire, resets nothing, and the calls that
        wait for it could be made elsewhere. A node that lives answers the heartbeat that is sent now.
        """
        link = self._links.get(node_id)
        if link is not None:
            link.ask()
            self._probed[link] = self.parts.sweep.now + PROBE_S

    def fetch(self, node_id: str, request: bytes) -> Deferred[bytes]:
        """Ask another node for the maps of all nodes.

        Args:
            node_id: the node.
            request: the question, as gossip puts it.

        Returns:
            A Deferred of the answer. It fails with `FetchFailed` when the node cannot be reached or gives none, 10 s
            pass without a byte, or the answer is over 32 MiB. Cancelling it gives the call up.

        Raises:
            ValueError: the question is over 1 MiB.
        """
        return Fetch(self.link(node_id), encode_maps(request), self.parts.sweep).answer

    async def ask_to_dial(self, node_id: str, address: str) -> bytes | None:
        """Ask another node to dial us back.

        Args:
            node_id: the node.
            address: where we are said to be, `host:port`.

        Returns:
            The answer; None when there is no link to that node, or it does not do that.

        Raises:
            FetchFailed: as of `fetch`.
        """
        return await self._ask(node_id, DIAL_BACK, encode_dial(address))

    async def tell_revoked(self, node_id: str, revocations: bytes) -> bytes | None:
        """Tell another node what is revoked, or ask it with nothing to tell.

        Args:
            node_id: the node.
            revocations: as `core.access.revocations` writes them.

        Returns:
            The answer; None when there is no link to that node, or it knows no revocations.

        Raises:
            FetchFailed: as of `fetch`.
            ValueError: they are too long.
        """
        return await self._ask(node_id, REVOCATIONS, encode_revoked(revocations))

    async def operate(self, node_id: str, operation: bytes) -> bytes | None:
        """Have another node do what an operator asks for. The rest is as of `tell_revoked`.

        Args:
            node_id: the node.
            operation: as `core.links.operations` writes it.
        """
        return await self._ask(node_id, OPERATIONS, encode_operate(operation))

    async def _ask(self, node_id: str, capability: bytes, request: bytes) -> bytes | None:
        link = self.link(node_id)
        await link.tried()
        return await Fetch(link, request, self.parts.sweep).answer if capability in link.capabilities else None

    def dial_once(self, address: tuple[str, int], node_id: str) -> Deferred[None]:
        """Open a link to a node at an address, and close it again.

        Args:
            address: host and port.
            node_id: of the node that is expected there.

        Returns:
            A Deferred that fires when the node has proven who it is, and fails as that of `LinkClientFactory.connect`.
        """
        once = DialledOnce()
        return self._dial(address, node_id, self.new_session(), once).addCallback(once.opened)

    def _dial(
        self, address: tuple[str, int], node_id: str, session: SessionV2, caller: Link | DialledOnce
    ) -> Deferred[LinkClientProtocol]:
        dial = LinkClientFactory(
            self._reactor,
            self.parts,
            address,
            server_id=node_id,
            handshake=ClientHandshake(self._identity(), node_id, self._nonce()),
            session=session,
            acceptor=caller,
            proven=caller.proven,
        )
        return dial.connect(self._settings.tls, DIAL_TIMEOUT_S)

    # What links tell

    def link_proven(self, link: Link) -> None:
        """The other node takes our calls."""
        troubled = self._failures.forget(link.node_id)
        log.info("Link to {node} at {peer} opened", node=link.node_id, peer=link.peer, after_trouble=troubled)

    def link_failed(self, link: Link, failure: Failure) -> None:
        """A link could not be opened; its calls are lost in the next turn."""
        self._forget(link)
        self._failures.count(link.node_id, self._where(link.node_id), *explained(failure))

    def link_closed(self, link: Link, closed: Closed, proven: bool) -> None:
        """See `LinkOwner.link_closed`."""
        self._forget(link)
        if not proven:
            self._failures.count(link.node_id, self._where(link.node_id), "proof", closed.reason)
            return
        in_order = closed.by_us or (closed.clean and closed.code in (CLOSE_NORMAL, CLOSE_GOING_AWAY))
        if not in_order:
            self.parts.metrics.link_failed("lost")
        log.info(
            "Link to {node} at {address} ended: {reason}",
            node=link.node_id,
            address=self._where(link.node_id),
            code=closed.code,
            by_us=closed.by_us,
            clean=closed.clean,
            reason=closed.reason,
        )

    def link_drains(self, link: Link) -> None:
        """The other node will close a link: it gets no new calls, and is closed when it has none left."""
        if self._links.get(link.node_id) is link:
            del self._links[link.node_id]
            self._retiring[link] = None

    def _where(self, node_id: str) -> str:
        """The address of a node, for people."""
        address = self._settings.address_of(node_id)
        return host_port(*address) if address is not None else "an unknown address"

    def _forget(self, link: Link) -> None:
        self._retiring.pop(link, None)
        if self._links.get(link.node_id) is link:
            del self._links[link.node_id]

    def _look(self, now: float) -> None:
        """Called by the sweep: close the links that are done, forget old troubles."""
        for link in list(self._retiring):
            link.close_if_idle()
        for link, until in list(self._probed.items()):
            if not link.silent_since(until - PROBE_S):
                del self._probed[link]
            elif now >= until:
                del self._probed[link]
                self.parts.metrics.link_failed("lost")
                log.warn(
                    "Link to {node} at {address} dropped: it does not answer, and gossip believes it dead",
                    node=link.node_id,
                    address=self._where(link.node_id),
                )
                link.end(politely=False)
        self._failures.forget_old()

    # The end

    def drain(self) -> Deferred[None]:
        """See `LinkPort.drain`. Links to other nodes go on."""
        return self.port.drain()

    def stop(self) -> Deferred[None]:
        """Close every link in order (1001), dial no more. Fires when all connections are gone."""
        return self._end(politely=True)

    def abort(self) -> Deferred[None]:
        """Drop every link, dial no more. Fires when all connections are gone."""
        return self._end(politely=False)

    def _end(self, *, politely: bool) -> Deferred[None]:
        self._stopped = True
        self.port.draining = True
        waiting = []
        for link in (*self._links.values(), *self._retiring):
            gone = link.end(politely=politely)
            if gone is not None:
                waiting.append(gone)
        for connection in list(self.port.connections):
            if not connection.has_session:
                connection.transport.abortConnection()
                continue
            waiting.append(connection.gone)
            if politely:
                connection.close(CLOSE_GOING_AWAY, "node is shutting down")
            else:
                connection.abort()
        return DeferredList(waiting).addCallback(lambda _: None)

    # Measuring

    def open_links(self) -> list[Link]:
        """The links to other nodes that are open, those that drain included."""
        return [link for link in (*self._links.values(), *self._retiring) if link.is_open]

    def held_bytes(self) -> int:
        """Bytes that links of both roles make the process hold."""
        ours = sum(link.held_bytes() for link in (*self._links.values(), *self._retiring) if link.call_count)
        return ours + self.port.held_bytes()

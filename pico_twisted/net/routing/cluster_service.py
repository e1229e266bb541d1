"""ClusterService: what all ports of a node share.

It holds the registrations of this node's agents, the table of the other nodes, and the pending calls to both, each with
the Deferred of its response, and it answers who gets the next request. The ports are given it through `net.interfaces`
and never import it.

A request goes to a registration of this node if there is one that does not drain; else to another node that holds the
endpoint, by its registrations and our calls in flight to it; what drains is the last choice. A request that came from
another node goes to registrations of this node only (`LocalRouter`), so it hops once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY, CLOSE_NORMAL
from pico_twisted.core.routing.registry import Registry
from pico_twisted.core.routing.table import ACTIVE, DRAINING, ClusterTable
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.net.interfaces import ILinks, IRegistry, IResponseSink, IRouter
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.routing.pending_call import PendingCall
from pico_twisted.net.turn import Sweep

log = Logger()


@implementer(IRouter, IRegistry)
class ClusterService(Service):
    """The node's registry, its pending calls, and its state.

    Args:
        node_id: this node's ID.
        sweep: the process's coarse timer.
        metrics: where gauges are read from.
        budget: the process's limit on held bytes; measured here.
        head_limits: for the heads of responses.
        max_calls: pending calls at once.
        max_calls_per_session: and on one registration.
        chance: gives numbers from 0 up to 1, to choose among nodes.

    Attributes:
        registry: the registrations of this node.
        table: the other nodes.
        links: the ways to them; None in a node that has none.
        announce: called with an endpoint and how many registrations it has here, whenever that changed.
        pending: the calls in flight.
        draining: the node is shutting down.
    """

    name = "cluster"

    def __init__(
        self,
        *,
        node_id: str,
        sweep: Sweep,
        metrics: Metrics,
        budget: Budget,
        head_limits: HeadLimits,
        max_calls: int,
        max_calls_per_session: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.node_id = node_id
        self.registry: Registry[Any] = Registry()
        self.table = ClusterTable(chance)
        self.links: ILinks | None = None
        self.announce: Callable[[str, int], object] = lambda endpoint, count: None
        self.pending: set[PendingCall] = set()
        self.draining = False
        self._metrics = metrics
        self._budget = budget
        self._head_limits = head_limits
        self._max_calls = max_calls
        self._max_calls_per_session = max_calls_per_session
        self._held: list[Callable[[], int]] = []
        sweep.each(self._measure)
        metrics.gauge("pico_endpoints", "Endpoints that agents of this node serve.", self._count_endpoints)
        metrics.gauge("pico_upstream_sessions", "Sessions of agents on this node.", lambda: len(self.registry))
        metrics.gauge("pico_calls_pending", "Calls to agents in flight.", lambda: len(self.pending))
        metrics.gauge("pico_buffered_bytes", "Bytes held in memory for slow peers.", lambda: budget.held)

    # IRegistry

    def others(self) -> Collection[str]:
        """The IDs of the other nodes that are active."""
        return [node_id for node_id, node in self.table.nodes.items() if node.status == ACTIVE]

    def register(self, tunnel: Any) -> None:
        """An agent's session is open: route to it."""
        replaced = self.registry.add(tunnel)
        if replaced is None:
            self.announce(tunnel.endpoint, self.registry.count(tunnel.endpoint))
        log.info(
            "Endpoint {endpoint} registered by {agent_id}",
            endpoint=tunnel.endpoint,
            agent_id=tunnel.agent_id,
            slot=tunnel.slot,
            peer=tunnel.peer,
            protocol=f"v{tunnel.version}",
            replaces=replaced is not None,
        )
        if replaced is not None:
            replaced.close(CLOSE_NORMAL, "replaced by a newer session")

    def deregister(self, tunnel: Any) -> None:
        """The session is gone."""
        if self.registry.remove(tunnel):
            self.announce(tunnel.endpoint, self.registry.count(tunnel.endpoint))

    # IRouter

    def choose(self, endpoint: str, excluded: Collection[Any]) -> Any:
        """The registration of this node, or the link to another, for a call; or None."""
        local = self.registry.choose(endpoint, excluded)
        if self.links is None or (local is not None and not local.draining):
            return local
        return self._elsewhere(endpoint, ACTIVE, excluded) or local or self._elsewhere(endpoint, DRAINING, excluded)

    def _elsewhere(self, endpoint: str, status: str, excluded: Collection[Any]) -> Any:
        links = self.links
        assert links is not None
        # None for a registration of this node
        tried = [one.node_id for one in excluded] if excluded else ()
        node_id = self.table.choose(endpoint, status, tried, links.load)
        return None if node_id is None else links.link(node_id)

    def holds(self, endpoint: str) -> bool:
        """Whether an agent of this node holds the endpoint."""
        return self.registry.holds(endpoint)

    def not_here(self, node_id: str, endpoint: str) -> None:
        """The other node that was called says that it does not hold the endpoint."""
        self.table.not_here(endpoint, node_id)

    def full(self, registration: Any) -> bool:
        """Whether the registration has as many calls as one session may; a link may have all that there may be."""
        most = self._max_calls_per_session if registration.node_id is None else self._max_calls
        return bool(registration.call_count >= most)

    def busy(self) -> bool:
        """Whether the node takes on no more calls."""
        return self._budget.full or len(self.pending) >= self._max_calls

    def call(
        self,
        registration: Any,
        payload: bytes,
        more: bool,
        *,
        method: bytes,
        upgrade_asked: bool,
        sink: IResponseSink,
        relays: bool = False,
    ) -> PendingCall:
        """Open an http call on a registration.

        Args:
            registration: one that `choose` gave.
            payload: the request's head, perhaps with body bytes; for a v1 registration the whole message.
            more: whether the request's body goes on.
            method, upgrade_asked: of the request: what its response may be depends on them.
            sink: who takes the response's body.
            relays: an ordinary response is passed on as it came, and read in full by another node.
        """
        pending = PendingCall(
            self,
            registration,
            payload,
            more,
            self._head_limits,
            method,
            upgrade_asked,
            sink,
            relays,
        )
        self.pending.add(pending)
        node_id = registration.node_id
        if node_id is None:
            self._metrics.call_started("agent")
        else:
            node = self.table.nodes.get(node_id)
            self._metrics.call_started("node" if node is not None and node.status == ACTIVE else "draining node")
        return pending

    # Draining

    def start_draining(self) -> Deferred[None]:
        """Tell all agents that this node closes. Fires when all of them answered or are gone."""
        self.draining = True
        waiting = [tunnel.drain() for tunnel in self.registry]
        if not waiting:
            return succeed(None)
        return DeferredList(waiting).addCallback(lambda _: None)

    def close_sessions(self) -> Deferred[None]:
        """Close every session (1001). Fires when all are closed."""
        tunnels = list(self.registry)
        for tunnel in tunnels:
            tunnel.close(CLOSE_GOING_AWAY, "node is shutting down")
        return DeferredList([tunnel.gone for tunnel in tunnels]).addCallback(lambda _: None)

    # Measuring

    def holds_bytes(self, read: Callable[[], int]) -> None:
        """Count what `read` returns among the held bytes."""
        self._held.append(read)

    def _measure(self, now: float) -> None:
        self._budget.measure(sum(read() for read in self._held))

    def _count_endpoints(self) -> int:
        return len(self.registry.counts())


@implementer(IRouter)
class LocalRouter:
    """The ClusterService as other nodes' requests see it: registrations of this node, and nothing else.

    Args:
        cluster: of this node.
    """

    def __init__(self, cluster: ClusterService) -> None:
        self._cluster = cluster
        self.node_id = cluster.node_id
        self.full = cluster.full
        self.busy = cluster.busy
        self.call = partial(cluster.call, relays=True)

    @property
    def draining(self) -> bool:
        """Whether this node is shutting down."""
        return self._cluster.draining

    def choose(self, endpoint: str, excluded: Collection[Any]) -> Any:
        """The registration of this node for a call, or None."""
        return self._cluster.registry.choose(endpoint, excluded)

    def not_here(self, node_id: str, endpoint: str) -> None:
        """No other node is ever asked."""

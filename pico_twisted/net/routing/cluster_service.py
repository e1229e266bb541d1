"""ClusterService: what all ports of a node share.

It holds the registrations of this node's agents, the table of the other nodes, and the pending calls to both, each with
the Deferred of its response, and it answers who gets the next request. Ports know it as `IRouter` or `IRegistry` only.

A request goes to a registration of this node if there is one that is not the last choice, unless it is slow and another
node is much faster; else to another node that holds the endpoint, by its registrations, our calls in flight to it, and
how fast it answers (`route_watch`). What drains is the last choice, and so is an agent whose service is out. A request
that came from another node goes to registrations of this node only (`LocalRouter`), so it hops once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.config import NodeLimitsConfig
from pico_twisted.core.access.subject import Subject
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY, CLOSE_NORMAL, REPLACED
from pico_twisted.core.routing.affinity import told_of
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.routing.latency import FAR_LEVELS, MANY_CALLS, SLOW_LEVEL, TRIED_LEVEL
from pico_twisted.core.routing.other_server import OtherServer
from pico_twisted.core.routing.registry import Registry
from pico_twisted.core.routing.table import ACTIVE, DRAINING, ClusterTable
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.frames import TCP
from pico_twisted.core.rpc.service_health import ToldHealth
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.access.ceilings import NodeCeilings
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.routing.client_routes import ClientRoutes
from pico_twisted.net.routing.cluster_metrics import agent_versions, services_out
from pico_twisted.net.routing.interfaces import IDownstream, ILinks, IRoute, IRouter
from pico_twisted.net.routing.refusals import BUSY, refusal
from pico_twisted.net.routing.route_watch import RouteWatch
from pico_twisted.net.routing.routes import AgentRoute, NodeRoute, RouteParts
from pico_twisted.net.routing.service_health import ToldHealths, is_out
from pico_twisted.net.routing.sharing import other_servers
from pico_twisted.net.routing.takeovers import Takeovers
from pico_twisted.net.routing.ties import TiedRoutes
from pico_twisted.net.routing.v1 import route_to
from pico_twisted.net.tunnel.interfaces import IRegistry, ITunnel

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
        limits: of the node; its calls and those of each session are held to here.
        ceilings: of the node, that calls to agents come in under.
        table: the other nodes.
        links: the ways to them.
        announce: called with an endpoint, how many registrations it has here, how many of them drain, of how many
            others the service is out, the ID of an agent that will not share it or "", and what `affinity.told_of`
            gives, whenever that changed.
        seconds: tells the time, finer than the sweep does.
        chance: gives numbers from 0 up to 1.

    Attributes:
        registry: the registrations of this node.
        table: the other nodes.
        pending: the calls in flight.
        watch: looks after them, and knows which routes are slow.
        intake: what this node takes that is new.
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
        limits: NodeLimitsConfig,
        ceilings: NodeCeilings,
        table: ClusterTable,
        links: ILinks,
        announce: Callable[[str, int, int, int, str, str], object],
        seconds: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.node_id = node_id
        self.registry: Registry[AgentRoute] = Registry(limits.calls_per_session, chance)
        self.table = table
        self.intake = Intake.OPEN
        self._parts = RouteParts(metrics=metrics, head_limits=head_limits, ceilings=ceilings, seconds=seconds)
        self.pending = self._parts.pending
        self.watch = RouteWatch(self._parts, sweep, self.registry)
        self._routes: dict[ITunnel, AgentRoute] = {}
        self._client_routes = ClientRoutes()
        self._takeovers = Takeovers(sweep)
        self._budget = budget
        self._max_calls = limits.calls
        self._links = links
        self._ties = TiedRoutes(self._parts, self.registry, table, links, self.watch, limits.calls_per_session)
        self._announce = announce
        self._health = ToldHealths(sweep, self._tell)
        self._held: list[Callable[[], int]] = []
        self._sweep = sweep
        sweep.each(self._measure)
        metrics.gauge(
            "pico_endpoints", "Endpoints that agents of this node serve.", lambda: len(self.registry.counts())
        )
        metrics.gauge("pico_cluster_endpoints", "Endpoints that nodes of the cluster hold.", self._count_endpoints)
        metrics.gauge("pico_upstream_sessions", "Sessions of agents on this node.", lambda: len(self.registry))
        metrics.families(lambda: services_out(self.registry, self.table))
        metrics.gauge("pico_calls_pending", "Calls to agents in flight.", lambda: len(self.pending))
        metrics.gauge("pico_buffered_bytes", "Bytes held in memory for slow peers.", lambda: budget.held)
        metrics.limit("calls", limits.calls, lambda: len(self.pending))
        metrics.limit("calls_per_session", limits.calls_per_session, self.registry.most_calls)
        metrics.limit("buffered_bytes", limits.buffered_bytes, lambda: budget.held)
        metrics.families(lambda: agent_versions(route.tunnel.agent_version for route in self.registry))

    @property
    def draining(self) -> bool:
        """Whether this node is shutting down."""
        return self.intake is Intake.STOPPING

    @property
    def refused_share(self) -> float:
        """Of new requests that this node refuses since it comes late; 0 as a rule."""
        return self._parts.ceilings.load.share

    # IRegistry

    @property
    def takes_agents(self) -> bool:
        """Whether new sessions are let in."""
        return self.intake is Intake.OPEN

    def others(self) -> Collection[str]:
        """The IDs of the other nodes that are active."""
        return [node_id for node_id, node in self.table.nodes.items() if node.status == ACTIVE]

    def other_servers(
        self, endpoint: str, agent_id: str, own_nodes: Collection[str], subject: Subject | None
    ) -> Sequence[OtherServer]:
        """See `IRegistry.other_servers`."""
        held = self.registry.held(endpoint)
        return other_servers(held, self.table, endpoint, agent_id, own_nodes, subject, self._sweep.now)

    def session_of(self, endpoint: str, agent_id: str, slot: str) -> ITunnel | None:
        """See `IRegistry.session_of`."""
        route = self.registry.find(endpoint, agent_id, slot)
        return None if route is None else route.tunnel

    def register(self, tunnel: ITunnel) -> None:
        """An agent's session is open: route to it."""
        route = self._routes[tunnel] = route_to(tunnel, self._parts)
        route.registered_at = self._sweep.now
        self._parts.metrics.session_registered()
        replaced = self.registry.add(route)
        if replaced is None or replaced.resigned or is_out(replaced):
            self._tell(tunnel.endpoint)
        log.info(
            "Endpoint {endpoint} registered by {agent_id}",
            endpoint=tunnel.endpoint,
            agent_id=tunnel.agent_id,
            slot=tunnel.slot,
            peer=tunnel.peer,
            subject="" if tunnel.subject is None else tunnel.subject.name,
            protocol=f"v{tunnel.version}",
            replaces=replaced is not None,
        )
        if replaced is not None:
            self._takeovers.happened(replaced, route)
            replaced.tunnel.close(CLOSE_NORMAL, f"{REPLACED} from {tunnel.peer}")
        if self.intake.moves_agents:  # which was not so yet when the session was let in
            tunnel.drain()

    def deregister(self, tunnel: ITunnel) -> None:
        """The session is gone."""
        route = self._routes.pop(tunnel, None)
        if route is None:
            return
        self.watch.gone(route)
        if self.registry.remove(route):
            self._tell(tunnel.endpoint)

    def resign(self, tunnel: ITunnel) -> bool:
        """The agent drains: others are to send it only what nobody else can serve. See `IRegistry.resign`."""
        route = self._routes.get(tunnel)
        if route is None or route.resigned:
            return False
        route.resigned = True
        self._tell(tunnel.endpoint)
        return True

    def service_is(self, tunnel: ITunnel, told: ToldHealth) -> None:
        """The agent says how its service is. See `IRegistry.service_is`."""
        route = self._routes.get(tunnel)
        if route is not None:
            self._health.told(route, told)

    def _tell(self, endpoint: str) -> None:
        """Tell the other nodes what we hold of an endpoint."""
        held = self.registry.held(endpoint)
        owner = next((route.agent_id for route in held if route.tunnel.alone), "")
        out = sum(is_out(route) for route in held if not route.resigned)
        serving = (route for route in held if not route.resigned and not is_out(route))
        ties = told_of((route.tunnel.affinity, route.short_id) for route in serving)
        self.table.affinity.told(endpoint, "", ties)
        self._announce(endpoint, len(held), sum(route.resigned for route in held), out, owner, ties)

    def registered_for_s(self, route: AgentRoute) -> float:
        """Seconds since a route of this node was registered."""
        return self._sweep.now - route.registered_at

    def out_for_s(self, route: AgentRoute) -> float | None:
        """Seconds since the service of a route of this node went out, as its agent says; None when it is not out."""
        return round(self._sweep.now - route.out_since, 1) if is_out(route) else None

    def is_held(self, endpoint: str) -> bool:
        """Whether this node or another one that is there holds an endpoint."""
        return bool(self.registry.held(endpoint)) or self.table.is_held(endpoint)

    def _count_endpoints(self) -> int:
        table = self.table
        return table.count_endpoints() + sum(not table.is_held(endpoint) for endpoint in self.registry.counts())

    def tunnels(self) -> list[ITunnel]:
        """The sessions of agents that are routed to."""
        return [route.tunnel for route in self.registry]

    # IRouter

    def take(
        self,
        endpoint: str,
        tried: Collection[IRoute],
        request: IDownstream | None = None,
        *,
        only_here: bool = False,
    ) -> IRoute | None:
        """Choose the route of a request's next call; with `only_here` no other node is asked. See `IRouter.take`."""
        if self._budget.full or len(self.pending) >= self._max_calls:
            raise refusal(BUSY)
        client = b"" if request is None else request.client_connection
        if endpoint in self.table.affinity.endpoints and request is not None:
            if (tied := self._ties.find(request, tried, only_here)) is not None:
                if client:
                    self._client_routes.went(client, endpoint, tied)
                return tied
        if client and (last := self._last_route(endpoint, tried, client)) is not None:
            return last
        local = self.registry.take(endpoint, tried)
        route: IRoute | None = local
        if local is not None and len(local.calls) > MANY_CALLS:
            self.watch.suspect(local)
        if not only_here and self.table.nodes:
            # two ways failed: what happened to them may have happened to all sessions here, so the last try goes away
            if local is None or local.last_choice or (tried and len(tried) > 1):
                route = self._elsewhere(endpoint, ACTIVE, tried) or local or self._elsewhere(endpoint, DRAINING, tried)
            elif local.latency.held >= SLOW_LEVEL and (level := local.latency.next_level) >= TRIED_LEVEL:
                route = self._elsewhere(endpoint, ACTIVE, tried, than=level) or local
        if route is None and self.registry.has_other(endpoint, tried):
            raise refusal(BUSY)  # those that are left have as many calls as one session may
        if client and route is not None:
            self._client_routes.went(client, endpoint, route)
        return route

    def _last_route(self, endpoint: str, tried: Collection[IRoute], client: bytes) -> IRoute | None:
        """The way that the client's last call went, if that is open again."""
        last = self._client_routes.last(client, endpoint)
        if isinstance(last, AgentRoute):
            return last if self.registry.can_take(last, tried) else None
        if last is None or not self.table.holds(endpoint, last.node_id) or self._links.load(last.node_id) is None:
            return None
        if any(route.node_id == last.node_id for route in tried):
            return None
        seen = self.watch.node(endpoint, last.node_id)
        return NodeRoute(self._parts, self._links.link(last.node_id), last.node_id, self.table, seen)

    def client_gone(self, client: bytes) -> None:
        """The client's connection of that name has ended. See `IRouter.client_gone`."""
        self._client_routes.gone(client)

    def _elsewhere(
        self, endpoint: str, status: str, tried: Collection[IRoute], than: int | None = None
    ) -> IRoute | None:
        """The route to another node; with `than`, only to one that is much faster than that level."""
        links, watch = self._links, self.watch
        excluded = [route.node_id for route in tried] if tried else ()
        node_id = self.table.choose(endpoint, status, excluded, links.load, watch.node_level)
        if node_id is None or (than is not None and watch.node_level(endpoint, node_id) + FAR_LEVELS > than):
            return None
        seen = watch.node(endpoint, node_id)
        if than is not None:
            seen.latency.doubt(than)
        return NodeRoute(self._parts, links.link(node_id), node_id, self.table, seen)

    def has_other(self, endpoint: str, tried: Collection[IRoute]) -> bool:
        """Whether there is where to, here or elsewhere."""
        if self.registry.has_other(endpoint, tried):
            return True
        return self.table.has_other(endpoint, [route.node_id for route in tried], self._links.load)

    def has_living(self, endpoint: str, tried: Collection[IRoute]) -> bool:
        """Whether there is, of which it is not known that it gives no sign of life."""
        if self.registry.has_other(endpoint, tried, living=True):
            return True
        excluded = [*(route.node_id for route in tried), *self.watch.silent_nodes()]
        return self.table.has_other(endpoint, excluded, self._links.load)

    def other_node_holds(self, endpoint: str) -> bool:
        """Whether another node is said to hold an endpoint, whether it drains or not."""
        return self.table.has_other(endpoint, (), lambda node_id: 0)

    # Draining

    def start_draining(self, intake: Intake = Intake.STOPPING) -> Deferred[None]:
        """Tell all agents to go elsewhere. Fires when all of them answered or are gone.

        Args:
            intake: why: what this node takes from here on.
        """
        self.intake = intake
        waiting = [tunnel.drain() for tunnel in self.tunnels()]
        if not waiting:
            return succeed(None)
        return DeferredList(waiting).addCallback(lambda _: None)

    def cut_streams(self) -> int:
        """Cut the responses that nobody else ends. Returns how many calls are in flight without them."""
        for call in [call for call in self.pending if call.never_ends]:
            call.shut()
        return len(self.pending)

    def cut_tcp(self) -> None:
        """Cut what is left of TCP sessions, whose clients are told that this node stops."""
        for call in [call for call in self.pending if call.kind == TCP]:
            call.shut()

    def close_sessions(self) -> Deferred[None]:
        """Close every session (1001). Fires when all are closed."""
        tunnels = self.tunnels()
        for tunnel in tunnels:
            tunnel.close(CLOSE_GOING_AWAY, "node is shutting down")
        return DeferredList([tunnel.gone for tunnel in tunnels]).addCallback(lambda _: None)

    # Measuring

    def holds_bytes(self, read: Callable[[], int]) -> None:
        """Count what `read` returns among the held bytes."""
        self._held.append(read)

    def _measure(self, now: float) -> None:
        self._budget.measure(sum(read() for read in self._held))


@implementer(IRouter)
class LocalRouter:
    """The ClusterService as other nodes' requests see it: registrations of this node, and nothing else.

    Args:
        cluster: of this node.
    """

    def __init__(self, cluster: ClusterService) -> None:
        self._cluster = cluster
        self.node_id = cluster.node_id
        self.take = partial(cluster.take, only_here=True)
        self.client_gone = cluster.client_gone

    def has_other(self, endpoint: str, tried: Collection[IRoute]) -> bool:
        """See `IRouter.has_other`. Once one was tried, a silent one is none where the caller may have another node."""
        living = bool(tried) and self._cluster.other_node_holds(endpoint)
        return self._cluster.registry.has_other(endpoint, tried, living=living)

    def has_living(self, endpoint: str, tried: Collection[IRoute]) -> bool:
        """See `IRouter.has_living`."""
        registry = self._cluster.registry
        return registry.has_other(endpoint, tried, living=True) or self._cluster.other_node_holds(endpoint)

    @property
    def draining(self) -> bool:
        """Whether this node is shutting down."""
        return self._cluster.draining

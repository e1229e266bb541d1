"""Assembles a node: what its ports share, and what they serve. Nothing here listens, and nothing has begun.

The daemon (`app.node_daemon`) binds ports to it and gives it a life. Tests and benchmarks use the same parts on a clock
of their own.

The order of construction says which part knows which: gossip and links first, which need no other part; then the
ClusterService, which is given both; then the ports, which are given the ClusterService.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.server import Site

from pico_twisted import __version__
from pico_twisted.app.intake import NodeIntake
from pico_twisted.app.membership import Membership
from pico_twisted.config import Address, NodeConfig
from pico_twisted.core.access.revocations import end_of
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.protocol_limits import RESPONSE_LIMITS
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.routing.table import ClusterTable
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.net.access.access import Access
from pico_twisted.net.access.ceilings import NodeCeilings
from pico_twisted.net.admin.app import AdminApp
from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.configuration import ConfigurationRoutes
from pico_twisted.net.admin.entrance import AdminAccess
from pico_twisted.net.admin.logins import Logins
from pico_twisted.net.admin.node_status import PROXY_ADDR, NodeStatus
from pico_twisted.net.admin.node_summary import NodeBusyness
from pico_twisted.net.admin.operations import OperationRoutes, Operations
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.admin.origins import OwnHosts
from pico_twisted.net.admin.page.own_news import OwnNews
from pico_twisted.net.admin.page.routes import page_of_node
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.revocations import RevocationRoutes
from pico_twisted.net.admin.service_discovery import ServiceDiscovery
from pico_twisted.net.admin.shapes.summary import NodeSummary
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.admin.watching import Memory, Watched, WatchingRoutes
from pico_twisted.net.admin.workers import Siblings
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.busyness import Readings
from pico_twisted.net.observe.events import EventMemory
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.metrics.endpoints import EndpointCounts
from pico_twisted.net.observe.requests import RequestWatch
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.proxy.port import ProxySettings
from pico_twisted.net.proxy.resource import ReverseResource
from pico_twisted.net.proxy.revoked import RevokedClients
from pico_twisted.net.proxy.site import ProxySite
from pico_twisted.net.routing.cluster_metrics import link_states
from pico_twisted.net.routing.cluster_service import ClusterService, LocalRouter
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tls.fetch import Fetcher, HttpsPolicy
from pico_twisted.net.tunnel import TunnelParts
from pico_twisted.net.tunnel.upstream import UpstreamFactory


@attrs.frozen(kw_only=True, eq=False)
class Node:
    """The parts of a node.

    Attributes:
        config: what it is told.
        node_id: as configured, or made for this process.
        reactor: of the process.
        metrics: of the process.
        access: who may do what, at the gate of each port. Its files are to be read before a port is open.
        sweep: the process's coarse timer; not started.
        budget: how many bytes the process may hold.
        access_log: gets a line for each request.
        requests: takes those that are over.
        events: what happened lately.
        busyness: how busy the node is.
        ceilings: that requests, connections and sessions come in under.
        tunnel_parts: what all tunnels share.
        link_tls: of node links, if they use TLS. Its files are to be read before a link can be there.
        membership: gossip and links.
        cluster: routes requests.
        proxy: the factory of the proxy port.
        upstream: the factory of the upstream port.
        status: what the node says of itself.
        admin_access: who may use the admin port.
        passes: what the node shows to the admin ports of others.
        intake: what the node takes.
        operations: what its operators ask for.
        in_force: gives the configuration as far as reloads have changed it.
    """

    config: NodeConfig
    node_id: str
    reactor: Any  # a whole reactor, or as much of one as a test needs
    metrics: Metrics
    access: Access
    sweep: ReactorSweep
    budget: Budget
    access_log: AccessLog
    requests: RequestWatch
    events: EventMemory
    busyness: NodeBusyness
    ceilings: NodeCeilings
    tunnel_parts: TunnelParts
    link_tls: LinkTls | None
    membership: Membership
    cluster: ClusterService
    proxy: ProxySite
    upstream: UpstreamFactory
    status: NodeStatus
    admin_access: AdminAccess
    passes: NodePasses
    intake: NodeIntake
    operations: Operations
    in_force: Callable[[], NodeConfig]

    def admin_site(
        self, reload: Reload, siblings: Siblings | None = None, expiry: Callable[[], Mapping[str, float]] = dict
    ) -> Site:
        """The factory of an admin port, see `AdminApp`.

        Args:
            reload: has the process read its configuration again.
            siblings: the other workers that share the port.
            expiry: tells when the first certificate of each port ends, in seconds since 1970.
        """
        cluster, link_tls = self.config.cluster, self.link_tls
        policy = HttpsPolicy() if link_tls is None else HttpsPolicy(cluster.tls.ca, link_tls.revocation)
        fetcher = Fetcher(self.reactor, policy)
        asking = AskingNodes(self.status, fetcher, self.passes, {} if siblings is None else siblings.sockets)
        memory = Memory(id=self.node_id, requests=self.requests, events=self.events)

        def summary() -> NodeSummary:
            return self.busyness.summary(expiry())

        page = page_of_node(
            OwnNews(status=self.status, memory=memory, summary=summary),
            asking,
            self.admin_access.gate,
            self.reactor,
            {"node": self.node_id, "cluster": cluster.name, "version": __version__},
        )
        app = AdminApp(
            self.status,
            self.metrics,
            reload,
            self.admin_access,
            passes=self.passes,
            fetcher=fetcher,
            groups=(
                RevocationRoutes(self.membership.revocations, self.node_id, self._end_of),
                OperationRoutes(self.operations, self.membership.revocations),
                ConfigurationRoutes(self.in_force),
                ServiceDiscovery(self.status, cluster.name, "https" if self.config.admin.tls.enabled else "http"),
                WatchingRoutes(memory, Watched(summary=summary, asking=asking)),
                page,
            ),
            siblings=siblings,
            page=page.files,
        )
        return admin_site(app.resource(), self.reactor)

    def _end_of(self, jti: str) -> float:
        return end_of(jti, (*self.upstream.credentials.subjects(), *self.access.subjects()))

    def take(self, config: NodeConfig) -> None:
        """Go by what a reload has read: the secrets of the cluster, and the names of the admin port."""
        self.membership.set_secrets(config.cluster.secrets)
        self.passes.set_secrets(config.cluster.secrets)
        self.admin_access.hosts.set_names(config.admin.names)


def build_node(
    config: NodeConfig,
    reactor: Any,  # as of `Node`
    *,
    sweep: ReactorSweep,
    end_of_turn: EndOfTurn | None,
    access_log: AccessLog,
    ready: Callable[[], tuple[bool, str]],
    events: EventMemory | None = None,
    siblings: Sequence[Address] = (),
    workers: Collection[str] = (),
    in_force: Callable[[], NodeConfig] | None = None,
    rng: random.Random | None = None,
    tracer: Tracer | None = None,
    chance: Callable[[], float] = random.random,
    make_membership: Callable[..., Membership] = Membership,
) -> Node:
    """Put the parts of a node together.

    Args:
        config: what it is told.
        reactor: of the process: tells the time, dials, looks names up.
        sweep: the process's coarse timer.
        end_of_turn: gathers what tunnels send, as of `TunnelParts`.
        access_log: gets a line for each request.
        ready: whether requests may come, and if not, why.
        events: what happened lately; None where nobody tells.
        siblings: gossip ports of nodes to join besides those of `cluster.join`.
        workers: IDs of the other nodes that share the ports of this host.
        in_force: gives the configuration as far as reloads have changed it; `config` unless given.
        rng: draws secrets; a `random.SystemRandom` unless given.
        tracer: records requests; None when nobody wants that.
        chance: gives numbers from 0 up to 1, to choose among nodes.
        make_membership: called as `Membership` is.
    """
    limits, cluster_config = config.limits, config.cluster
    node_id = cluster_config.node_id or cluster_config.node_id_prefix + secrets.token_hex(4)
    head_limits = HeadLimits(head_bytes=limits.head_bytes, fields=limits.head_fields, target_bytes=limits.uri_bytes)
    metrics = Metrics("node", __version__)
    metrics.info(
        "pico_node_info", "Which node this is", node_id=node_id, cluster=cluster_config.name, version=__version__
    )
    metrics.gauge("pico_ready", "Whether requests should be sent to this node: 1, or 0.", lambda: ready()[0])
    sweep.each(lambda _: metrics.lag(sweep.lag_s))
    requests = RequestWatch(access_log, "proxy", reactor.seconds)
    readings = Readings(metrics, reactor.seconds)
    sweep.each(requests.turn)
    sweep.each(readings.turn)
    access = Access(config, reactor, metrics=metrics)
    budget = Budget(limits.buffered_bytes)
    tunnel_parts = TunnelParts(
        clock=reactor,
        sweep=sweep,
        metrics=metrics,
        budget=budget,
        head_limits=HeadLimits(),
        max_calls=limits.calls_per_session,
        version=__version__,
        end_of_turn=end_of_turn,
        v1=dialect_v1(limits.v1_body_bytes),
        tracer=tracer,
    )
    link_tls = LinkTls(cluster_config.tls) if cluster_config.tls.enabled else None
    table = ClusterTable(chance)
    membership = make_membership(
        cluster_config,
        node_id,
        siblings=siblings,
        max_links=limits.links,
        table=table,
        revocations=access.revoked,
        parts=attrs.evolve(tunnel_parts, max_calls=limits.calls),
        tls=link_tls,
        reactor=reactor,
        rng=rng or random.SystemRandom(),
        wall_ms=int(time.time() * 1000),
    )
    ceilings = NodeCeilings(sweep, metrics)
    ceilings.configure(config)
    cluster = ClusterService(
        node_id=node_id,
        sweep=sweep,
        metrics=metrics,
        budget=budget,
        head_limits=RESPONSE_LIMITS,
        limits=limits,
        ceilings=ceilings,
        table=table,
        links=membership.links,
        announce=membership.announce,
        seconds=reactor.seconds,
        chance=chance,
    )
    membership.links.port.serve(LocalRouter(cluster), requests, ceilings.load)
    routing = RoutingSettings(
        router=cluster,
        sweep=sweep,
        metrics=metrics,
        timeout_s=config.proxy.timeout,
        idle_timeout_s=config.proxy.idle_timeout,
        tracer=tracer,
    )
    proxy = ProxySite(
        ProxySettings(
            node_id=node_id,
            config=config.proxy,
            head_limits=head_limits,
            max_connections=limits.connections,
            clock=reactor,
            sweep=sweep,
            metrics=metrics,
            requests=requests,
            ceilings=ceilings,
            end_of_turn=end_of_turn,
            client_gone=cluster.client_gone,
        ),
        ReverseResource(routing, ceilings, access.proxy),
        b"pico-" + node_id.encode("ascii") if config.proxy.via else None,
    )
    sweep.lines.append(proxy.line.wait_s)
    metrics.gauge("pico_connections", "Connections of proxy clients.", lambda: len(proxy.connections))
    metrics.gauge("pico_requests_in_flight", "Requests in progress.", proxy.serving)
    metrics.limit("connections", limits.connections, lambda: len(proxy.connections))
    metrics.limit("sessions", limits.sessions, lambda: len(upstream.connections))
    metrics.limit("links", limits.links, lambda: len(membership.links.port.tunnels))
    metrics.gauge(
        "pico_cordoned",
        "Whether an operator has taken this node out: 1, or 0.",
        lambda: cluster.intake in (Intake.CORDONED, Intake.DRAINED),
    )
    metrics.families(lambda: link_states(table, membership.links.standing))
    if config.metrics.per_endpoint:
        metrics.endpoints = EndpointCounts(
            lambda: (request.endpoint for request in proxy.in_progress()), cluster.is_held
        )
    if proxy.http2 is not None:
        metrics.families(proxy.http2.metrics)

    def told() -> dict[str, str]:
        _, colon, port = str(membership.core.view.own.map.get(PROXY_ADDR) or "").rpartition(":")
        port_fields = {"x-pico-proxy": f"{'https' if config.proxy.tls.enabled else 'http'}:{port}"} if colon else {}
        public_url = proxy.names.public_url
        return {**port_fields, "x-pico-public-url": public_url} if public_url else port_fields

    upstream = UpstreamFactory(
        tunnel_parts,
        cluster,
        gate=access.upstream,
        ceilings=ceilings,
        revoked=access.revoked,
        max_sessions=limits.sessions,
        grace_s=config.grace_period,
        told=told,
        reactor=reactor,
    )
    clients = RevokedClients(proxy, access.revoked, config.grace_period)
    membership.revocations.changed += (upstream.end_revoked, clients.end)
    for part in (proxy, upstream, membership.links):
        cluster.holds_bytes(part.held_bytes)
    intake = NodeIntake(membership, cluster, proxy, upstream, sweep)
    passes = NodePasses(node_id, cluster_config.name, cluster_config.secrets, wall=time.time, nonce=secrets.token_bytes)
    admin_access = AdminAccess(
        name=f"Pico node {node_id}",
        gate=access.admin,
        hosts=OwnHosts(config.admin.names),
        logins=Logins(reactor.seconds, secrets.token_bytes),
        ports=access.gates,
        passes=passes,
    )
    status = NodeStatus(
        cluster, membership.core.view, reactor, ready, membership.links.standing, lambda: proxy.names.public_url
    )
    operations = Operations(
        status=status,
        here=intake.operate,
        tell=lambda id, data: Deferred.fromCoroutine(membership.links.operate(id, data)),
        workers=workers,
        clock=reactor,
    )
    membership.serve_operators(operations.asked)
    return Node(
        config=config,
        node_id=node_id,
        reactor=reactor,
        metrics=metrics,
        access=access,
        sweep=sweep,
        budget=budget,
        access_log=access_log,
        requests=requests,
        events=events or EventMemory(),
        busyness=NodeBusyness(
            status=status,
            cluster=cluster,
            proxy=proxy,
            readings=readings,
            near_limits=metrics.near_limits,
            requests=requests,
        ),
        ceilings=ceilings,
        tunnel_parts=tunnel_parts,
        link_tls=link_tls,
        membership=membership,
        cluster=cluster,
        proxy=proxy,
        upstream=upstream,
        status=status,
        admin_access=admin_access,
        passes=passes,
        intake=intake,
        operations=operations,
        in_force=in_force or (lambda: config),
    )

"""Assembles a node: its ports, what they share, and the order in which it starts and stops."""

from __future__ import annotations

import contextlib
import enum
import os
import random
import secrets
import time
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.cli.banner import node_banner
from pico_twisted.app.cli.exposure import warn_of_exposure
from pico_twisted.app.membership import Membership, MembershipSettings
from pico_twisted.app.process.daemon import Daemon, counted
from pico_twisted.app.process.ports import BoundPort, CannotStart, GossipPort
from pico_twisted.app.workers.cpu_affinity import usable_cores
from pico_twisted.app.workers.host import Host
from pico_twisted.app.workers.worker import Worker, worker_from
from pico_twisted.config import ConfigFaults, NodeConfig
from pico_twisted.config.common import ServerTlsConfig
from pico_twisted.config.values import duration_text
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.net.admin.app import AdminApp
from pico_twisted.net.admin.fetch import AdminTls
from pico_twisted.net.admin.node_status import ADMIN_ADDR, ADMIN_SCHEME, PROXY_ADDR, VERSION, NodeStatus
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.observe.logs import Logging
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.proxy.port import ProxySettings
from pico_twisted.net.proxy.resource import ReverseResource
from pico_twisted.net.proxy.site import ProxySite
from pico_twisted.net.routing.cluster_service import ClusterService
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.tls.certificates import UnusableCertificateError
from pico_twisted.net.tls.server import ServerContext, SniffingFactory
from pico_twisted.net.tunnel import TunnelParts
from pico_twisted.net.tunnel.upstream import UpstreamFactory
from pico_twisted.net.turn import EndOfTurn, Sweep

if TYPE_CHECKING:
    from pico_twisted.app.cli.options import NodeOptions

log = Logger()

QUIET_S = 0.5
"""A node that stops goes on listening until no request came for this long, so that clients and load balancers
notice."""
QUIET_SHARE = 0.1
"""But not for more than this share of the grace period."""
CLOSE_S = 2.0
"""What sessions get to close in order at the end."""
FAREWELL_S = 0.5
"""What other nodes get to hear that this one leaves; who did not hear waits for its silence."""
BESIDE_S = 3.0
"""What a worker gets to find another one of its host. All of them may have been started anew, or none can start."""
MAX_DATAGRAM_BYTES = 64 * 1024
"""Of a packet that is read: nodes may have another `max_packet_size`."""


class Stage(enum.Enum):
    """Where in its life a node is."""

    STARTING = "starting"
    JOINING = "joining"
    SERVING = "serving"
    DRAINING = "draining"


class Node(Daemon):
    """A running node.

    Args:
        reactor: of the process.
        config: what it is told.
        options: where the configuration is read again on SIGHUP.
        logging: of the process.
        worker: what the parent gave, when this is one of several processes that share the ports.
    """

    def __init__(
        self, reactor: Any, config: NodeConfig, options: NodeOptions, logging: Logging, worker: Worker | None = None
    ) -> None:
        super().__init__(reactor, options, config.grace_period, logging)
        self._config = config
        self._options = options
        self._worker = worker
        beside = 0 if worker is None else len(worker.seeds)
        self._others = config.cluster.join[: len(config.cluster.join) - beside]  # whom the operator wants to join
        self._reloadable: dict[str, ServerContext | LinkTls] = {}
        self._ports: dict[str, BoundPort] = {}
        self._gossip_port: GossipPort | None = None
        self._join_timer: IDelayedCall | None = None
        self._stage = Stage.STARTING
        self._beside: Any = None
        self._orphan = False
        node_id = config.cluster.node_id or config.cluster.node_id_prefix + secrets.token_hex(4)
        limits = config.limits
        head_limits = HeadLimits(head_bytes=limits.head_bytes, fields=limits.head_fields, target_bytes=limits.uri_bytes)
        self.metrics = Metrics("node", __version__)
        self.sweep = Sweep(reactor)
        self.sweep.each(lambda _: self.metrics.lag(self.sweep.lag_s))
        budget = Budget(limits.buffered_bytes)
        self.cluster = ClusterService(
            node_id=node_id,
            sweep=self.sweep,
            metrics=self.metrics,
            budget=budget,
            head_limits=head_limits.onward(),
            max_calls=limits.calls,
            max_calls_per_session=limits.calls_per_session,
        )
        via = b"pico-" + node_id.encode("ascii")
        self._access_log = logging.access_log(config.proxy.access_log, None if worker is None else worker.number)
        self.sweep.each(lambda _: logging.flush())
        self.proxy = ProxySite(
            ProxySettings(
                node_id=node_id,
                head_limits=head_limits,
                head_timeout_s=config.proxy.head_timeout,
                keepalive_timeout_s=config.proxy.keepalive_timeout,
                trusted_proxies=config.proxy.trusted_proxies,
                max_connections=limits.connections,
                sweep=self.sweep,
                metrics=self.metrics,
                access_log=self._access_log,
            ),
            ReverseResource(
                RoutingSettings(
                    router=self.cluster,
                    sweep=self.sweep,
                    metrics=self.metrics,
                    timeout_s=config.proxy.timeout,
                    idle_timeout_s=config.proxy.idle_timeout,
                ),
            ),
            via,
        )
        self.metrics.gauge("pico_connections", "Connections of proxy clients.", lambda: len(self.proxy.connections))
        self.metrics.gauge("pico_requests_in_flight", "Requests in progress.", self.proxy.serving)
        self._tunnel_parts = TunnelParts(
            clock=reactor,
            sweep=self.sweep,
            metrics=self.metrics,
            budget=budget,
            head_limits=HeadLimits(),
            max_calls=limits.calls_per_session,
            version=__version__,
            end_of_turn=EndOfTurn(reactor),
            v1=dialect_v1(limits.v1_body_bytes),
        )
        self.upstream = UpstreamFactory(self._tunnel_parts, self.cluster, max_sessions=limits.sessions, reactor=reactor)
        self.cluster.holds_bytes(self.proxy.held_bytes)
        self.cluster.holds_bytes(self.upstream.held_bytes)
        self.membership: Membership  # needs the certificates, which are read when the ports are bound
        self.status: NodeStatus

    def ready(self) -> tuple[bool, str]:
        """Whether requests may come, and if not, why."""
        if self._stage is Stage.SERVING:
            return True, ""
        return False, self._stage.value

    # Daemon

    def bind(self) -> None:
        """Read the certificates, bind all ports."""
        config = self._config
        cluster = config.cluster
        self.membership = Membership(
            MembershipSettings(
                cluster=cluster.name,
                secrets=cluster.secrets,
                seeds=[(address.host, address.port) for address in cluster.join],
                interval_s=cluster.gossip.interval,
                max_packet_bytes=cluster.gossip.max_packet_size,
                wall_ms=int(time.time() * 1000),
                max_links=config.limits.links,
                tls=self._link_tls(),
            ),
            self.cluster,
            attrs.evolve(self._tunnel_parts, max_calls=config.limits.calls),
            reactor=self.reactor,
            rng=random.SystemRandom(),
        )
        self.status = NodeStatus(self.cluster, self.membership.core.view, self.reactor, self.ready)
        admin_tls = AdminTls(cluster.tls.ca) if cluster.tls.enabled else None
        worker = self._worker
        siblings = None if worker is None else worker.siblings()
        admin = AdminApp(self.status, self.metrics, reactor=self.reactor, tls=admin_tls, siblings=siblings)
        if worker is not None:
            alone = AdminApp(self.status, self.metrics, reactor=self.reactor, tls=admin_tls)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(worker.sockets[worker.number])  # of a process that was killed
            self._beside = self.reactor.listenUNIX(
                worker.sockets[worker.number], admin_site(alone.resource(), self.reactor)
            )
        self._bind("proxy", config.proxy, self.proxy)
        if worker is not None:
            # Clients wait in its queue, for this process or for the one before: until we know who holds what.
            self._ports["proxy"].pause()
        self._bind("upstream", config.upstream, self.upstream)
        self._bind("admin", config.admin, admin_site(admin.resource(), self.reactor))
        self._ports["gossip"] = self._gossip_port = GossipPort(
            self.reactor,
            "cluster.gossip.bind_addr",
            cluster.gossip_bind_addr,
            self.membership.link_factory,
            self.membership.gossip,
            MAX_DATAGRAM_BYTES,
        )

    def _link_tls(self) -> LinkTls | None:
        tls = self._config.cluster.tls
        if not tls.enabled:
            return None
        try:
            context = self._reloadable["cluster"] = LinkTls(tls.cert, tls.key, tls.ca)
        except UnusableCertificateError as error:
            raise CannotStart(f"cluster.tls: {error}") from error
        return context

    def _bind(self, name: str, section: Any, factory: Any) -> None:
        tls: ServerTlsConfig = section.tls
        if tls.enabled:
            try:
                context = self._reloadable[name] = ServerContext(tls.cert, tls.key)
            except UnusableCertificateError as error:
                raise CannotStart(f"{name}.tls: {error}") from error
            factory = SniffingFactory(factory, context, self.cluster.node_id, timer=self.sweep, clock=self.reactor)
        self._ports[name] = BoundPort(
            self.reactor, f"{name}.bind_addr", section.bind_addr, factory, self._descriptor(name)
        )

    def _descriptor(self, name: str) -> int | None:
        return None if self._worker is None else self._worker.descriptors[name]

    def serve(self) -> None:
        """Everything is bound: begin, and join the others."""
        self.sweep.start()
        self.cluster.startService()
        self._stage = Stage.JOINING
        if self._worker is not None:
            self._worker.watch_parent(self.reactor, self._parent_ended)
        self.membership.conflict.addCallback(self.fail)
        self.membership.start(
            self.address("gossip"),
            {
                PROXY_ADDR: self.address("proxy"),
                ADMIN_ADDR: self.address("admin"),
                ADMIN_SCHEME: "https" if self._config.admin.tls.enabled else "http",
                VERSION: __version__,
            },
        )
        self._join_timer = self.reactor.callLater(self._join_timeout_s(), self._join_failed)
        self.membership.joined.addCallback(self._met)

    def _join_timeout_s(self) -> float:
        """A worker that only has to find the others of its host does not wait for one that cannot start."""
        timeout_s = self._config.cluster.join_timeout
        return timeout_s if self._worker is None or self._worker.joins_others else min(timeout_s, BESIDE_S)

    def _met(self, _: None) -> None:
        """We know what the nodes that we met know."""
        if self._worker is None or not self._worker.joins_others:
            self._joined()
        else:
            Deferred.fromCoroutine(self._meet_others(self._worker))

    async def _meet_others(self, worker: Worker) -> None:
        def met() -> bool:
            return self.membership.core.joined and not all(map(worker.is_beside, self.cluster.table.nodes))

        await self.until(lambda: met() or self._stage is not Stage.JOINING)
        self._joined()

    def _joined(self) -> None:
        self._stop_joining()
        if self._stage is not Stage.JOINING:
            return
        self._stage = Stage.SERVING
        if self._worker is not None:
            self._ports["proxy"].resume()
        if self.on_terminal(self._banner):
            return
        log.info(
            "Node {node_id} is up",
            node_id=self.cluster.node_id,
            version=__version__,
            cluster=self._config.cluster.name,
            nodes=1 + len(self.cluster.table.nodes),
            **{name: self.url(name) for name in self._ports},
        )
        if self._worker is None:
            secret = bool(self._config.cluster.secrets)
            warn_of_exposure(self.url("upstream"), self.url("gossip"), secret or self._ports["gossip"].is_loopback)

    def _stop_joining(self) -> None:
        if self._join_timer is not None and self._join_timer.active():
            self._join_timer.cancel()

    def _join_failed(self) -> None:
        if self._stage is not Stage.JOINING:
            return
        config = self._config.cluster
        if self._worker is not None and not self._worker.joins_others:
            log.warn("No node was found: serving alone, and trying on")
            self._joined()
            return
        nodes = ", ".join(map(str, self._others))
        if config.abort_if_join_fails:
            self.fail(
                f"could not join within {duration_text(config.join_timeout)}: no node of cluster {config.name} answers "
                f"at {nodes} (cluster.join). Do they run, with the same cluster.name and cluster.secrets, and is the "
                "gossip port open between the nodes, for UDP and for TCP?"
            )
        else:
            log.warn("Could not join: serving alone, and trying on", join=nodes)
            self._joined()

    def _banner(self) -> str:
        if self._worker is not None:
            return ""  # the parent prints one for all
        everywhere = [name for name, port in self._ports.items() if port.open_to_all]
        return node_banner(
            __version__,
            self.cluster.node_id,
            self.url("proxy"),
            self.url("admin"),
            self.url("upstream"),
            open_to_all=everywhere,
        )

    def url(self, name: str) -> str:
        """The URL of a port, as it is advertised; of the gossip port the address."""
        if name == "gossip":
            return self.address(name)
        scheme = "https" if getattr(self._config, name).tls.enabled else "http"
        return f"{scheme}://{self.address(name)}"

    def address(self, name: str) -> str:
        """The advertised address of a port."""
        cluster = self._config.cluster
        section: Any = cluster.gossip if name == "gossip" else getattr(self._config, name)
        return self._ports[name].advertised(section.advertise_addr, [address.host for address in self._others])

    async def drain(self) -> None:
        """Say it, wait for what is in progress, close, leave."""
        self._stage = Stage.DRAINING
        self.membership.say_draining()
        self.proxy.drain()
        self.cluster.start_draining()
        await self.until(self.proxy.quiet_for(QUIET_S, self.reactor), within_s=self.grace_s * QUIET_SHARE)
        await self._ports["proxy"].stop()
        await self.until(lambda: not self.proxy.connections and not self.cluster.pending)
        links = self.membership.links.drain()
        await self.until(lambda: links.called)
        await self._ports["upstream"].stop()
        self.cluster.close_sessions()
        await self.until(lambda: not self.upstream.connections, within_s=CLOSE_S)
        self.membership.gossip.leave()
        await self.until(lambda: self.membership.gossip.told, within_s=FAREWELL_S)
        await self._ports["admin"].stop()
        self.membership.gossip.stop()
        self.membership.links.stop()
        await self._ports["gossip"].stop()
        self.sweep.stop()
        if self._worker is not None:
            await defer.maybeDeferred(self._beside.stopListening)
            if self._orphan:
                self._worker.clean_up()

    def cut(self) -> None:
        """Drop every connection."""
        self._stage = Stage.DRAINING
        self._stop_joining()
        for channel in list(self.proxy.connections):
            channel.shut()
        for tunnel in list(self.upstream.connections):
            tunnel.transport.abortConnection()
        if self._gossip_port is not None:
            self.membership.abort()

    def reload(self) -> None:
        """Read the configuration again and take what can change while running."""
        try:
            config = self._options.reload()
        except ConfigFaults as error:
            for fault in error.faults:
                log.error("The configuration is not reloaded: {fault}", fault=str(fault))
            return
        for name, context in self._reloadable.items():
            try:
                context.reload()
            except UnusableCertificateError as error:
                log.error("The certificate of {port} is not reloaded: {reason}", port=name, reason=str(error))
        self.logging.set_level(config.log.level, config.log.subsystems)
        self._access_log.enabled = config.proxy.access_log
        self.membership.set_secrets(config.cluster.secrets)
        log.info("Configuration reloaded")

    def _parent_ended(self) -> None:
        """Nobody looks after us, nor removes what the parent made."""
        assert self._worker is not None
        self._orphan = True
        self._end()

    def _end(self) -> None:
        """A worker hears a signal to its whole group from the sender and from its parent. Only the parent cuts it."""
        if self._worker is None or not self.stopping:
            super()._end()

    def ready_state(self) -> bool:
        """As `/ready` says."""
        return self.ready()[0]

    def status_line(self) -> str:
        """How many nodes the cluster has, and how much of it is registered here."""
        if self.stopping:
            return f"draining, {counted(self.proxy.serving(), 'request')} in progress"
        ready, reason = self.ready()
        if not ready:
            return reason
        reachable = sum(row.status in (ACTIVE, DRAINING) for row in self.status.nodes())
        local = self.cluster.registry.counts()
        upstreams = counted(sum(local.values()), "upstream")
        return f"{counted(reachable, 'node')}; here {counted(len(local), 'endpoint')}, {upstreams}"


def make_node_service(options: NodeOptions) -> IService:
    """The service of a node, for twistd."""
    from twisted.internet import reactor

    worker = worker_from(os.environ)
    if worker is not None:
        options.logging.observer = worker.speaking(options.logging.observer)
        return Node(reactor, worker.configured(options.config), options, options.logging, worker)
    count = options.config.cluster.workers or len(usable_cores())
    if count > 1:
        return Host(reactor, options.config, options, options.logging, count)
    return Node(reactor, options.config, options, options.logging)

"""Assembles a node: its ports, what they share, and the order in which it starts and stops."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted import __version__
from pico_twisted.app.banner import node_banner
from pico_twisted.app.daemon import Daemon
from pico_twisted.app.ports import BoundPort, CannotStart
from pico_twisted.config import ConfigFaults, NodeConfig
from pico_twisted.config.common import ServerTlsConfig
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.net.admin.app import AdminApp
from pico_twisted.net.admin.shapes import NodeDetail, NodeRow
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.cluster import ClusterService
from pico_twisted.net.forward import ForwardSettings
from pico_twisted.net.logs import Logging
from pico_twisted.net.metrics import Metrics
from pico_twisted.net.periodic import EndOfTurn, Sweep
from pico_twisted.net.proxy.resource import ReverseResource
from pico_twisted.net.proxy.site import ProxySettings, ProxySite
from pico_twisted.net.tls import ServerContext, UnusableCertificateError, server_context, tls_sniffing
from pico_twisted.net.tunnel import TunnelParts
from pico_twisted.net.upstream import UpstreamFactory

if TYPE_CHECKING:
    from pico_twisted.app.options import NodeOptions

log = Logger()

QUIET_S = 0.5
"""A node that stops goes on listening until no request came for this long, so that clients and load balancers
notice."""
QUIET_SHARE = 0.1
"""But not for more than this share of the grace period."""
CLOSE_S = 2.0
"""What sessions get to close in order at the end."""


@implementer(INodeStatus)
class Node(Daemon):
    """A running node.

    Args:
        reactor: of the process.
        config: what it is told.
        options: where the configuration is read again on SIGHUP.
        logging: of the process.
    """

    def __init__(self, reactor: Any, config: NodeConfig, options: NodeOptions, logging: Logging) -> None:
        super().__init__(reactor, options.command, config.grace_period, logging)
        self._config = config
        self._options = options
        self._contexts: dict[str, ServerContext] = {}
        self._ports: dict[str, BoundPort] = {}
        self._ready = False
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
            v1_body_bytes=limits.v1_body_bytes,
        )
        via = b"pico-" + node_id.encode("ascii")
        self._access_log = logging.access_log(config.proxy.access_log)
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
                ForwardSettings(
                    router=self.cluster,
                    sweep=self.sweep,
                    metrics=self.metrics,
                    timeout_s=config.proxy.timeout,
                    idle_timeout_s=config.proxy.idle_timeout,
                    v1_body_bytes=limits.v1_body_bytes,
                ),
                via,
            ),
            via,
        )
        self.metrics.gauge("pico_connections", "Connections of proxy clients.", lambda: len(self.proxy.connections))
        self.metrics.gauge("pico_requests_in_flight", "Requests in progress.", self.proxy.serving)
        self.upstream = UpstreamFactory(
            TunnelParts(
                clock=reactor,
                sweep=self.sweep,
                metrics=self.metrics,
                budget=budget,
                head_limits=HeadLimits(),
                max_calls=limits.calls_per_session,
                version=__version__,
                end_of_turn=EndOfTurn(reactor),
            ),
            self.cluster,
            max_sessions=limits.sessions,
            reactor=reactor,
        )
        self.cluster.holds_bytes(self.proxy.held_bytes)
        self.cluster.holds_bytes(self.upstream.held_bytes)

    # INodeStatus

    def ready(self) -> tuple[bool, str]:
        """Whether requests may come."""
        if self._ready:
            return True, ""
        return False, "draining" if self.stopping else "starting"

    def nodes(self) -> list[NodeRow]:
        """This node alone."""
        return [self._detail().row()]

    def node(self, id: str) -> NodeDetail | None:
        """This node, by its ID or as `local`."""
        return self._detail() if id in ("local", self.cluster.node_id) else None

    def endpoints(self) -> dict[str, int]:
        """The registrations of this node."""
        return self.cluster.registry.counts()

    def _detail(self) -> NodeDetail:
        return NodeDetail(
            id=self.cluster.node_id,
            status="draining" if self.stopping else "active",
            proxy_addr=self.address("proxy"),
            admin_addr=self.address("admin"),
            version=__version__,
            endpoints=self.endpoints(),
        )

    # Daemon

    def bind(self) -> None:
        """Bind all ports."""
        config = self._config
        admin = admin_site(AdminApp(self, self.metrics).resource(), self.reactor)
        self._bind("proxy", config.proxy, self.proxy)
        self._bind("upstream", config.upstream, self.upstream)
        self._bind("admin", config.admin, admin)

    def _bind(self, name: str, section: Any, factory: Any) -> None:
        tls: ServerTlsConfig = section.tls
        if tls.enabled:
            try:
                context = self._contexts[name] = server_context(tls.cert, tls.key)
            except UnusableCertificateError as error:
                raise CannotStart(f"{name}.tls: {error}") from error
            factory = tls_sniffing(factory, context, self.cluster.node_id, timer=self.sweep, clock=self.reactor)
        self._ports[name] = BoundPort(self.reactor, f"{name}.bind_addr", section.bind_addr, factory)

    def serve(self) -> None:
        """Everything is bound: begin."""
        self.sweep.start()
        self.cluster.startService()
        self._ready = True
        urls = {name: self.url(name) for name in self._ports}
        if self.on_terminal(self._banner):
            return
        log.info(
            "Node {node_id} is up",
            node_id=self.cluster.node_id,
            version=__version__,
            proxy=urls["proxy"],
            admin=urls["admin"],
            upstream=urls["upstream"],
        )
        log.warn("Agents are not authenticated: keep the upstream port off the Internet", upstream=urls["upstream"])

    def _banner(self) -> str:
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
        """The URL of a port, as it is advertised."""
        scheme = "https" if getattr(self._config, name).tls.enabled else "http"
        return f"{scheme}://{self.address(name)}"

    def address(self, name: str) -> str:
        """The advertised address of a port."""
        return self._ports[name].advertised(getattr(self._config, name).advertise_addr)

    async def drain(self) -> None:
        """Say it, wait for what is in progress, close."""
        self._ready = False
        self.proxy.drain()
        self.cluster.start_draining()
        await self.until(self.proxy.quiet_for(QUIET_S, self.reactor), within_s=self.grace_s * QUIET_SHARE)
        await self._ports["proxy"].stop()
        await self.until(lambda: not self.proxy.connections and not self.cluster.pending)
        await self._ports["upstream"].stop()
        self.cluster.close_sessions()
        await self.until(lambda: not self.upstream.connections, within_s=CLOSE_S)
        await self._ports["admin"].stop()
        self.sweep.stop()

    def cut(self) -> None:
        """Drop every connection."""
        self._ready = False
        for channel in list(self.proxy.connections):
            channel.shut()
        for tunnel in list(self.upstream.connections):
            tunnel.transport.abortConnection()

    def reload(self) -> None:
        """Read the configuration again and take what can change while running."""
        try:
            config = self._options.reload()
        except ConfigFaults as error:
            for fault in error.faults:
                log.error("The configuration is not reloaded: {fault}", fault=str(fault))
            return
        for name, context in self._contexts.items():
            try:
                context.reload()
            except UnusableCertificateError as error:
                log.error("The certificate of {port} is not reloaded: {reason}", port=name, reason=str(error))
        self.logging.set_level(config.log.level, config.log.subsystems)
        self._access_log.enabled = config.proxy.access_log
        log.info("Configuration reloaded")


def make_node_service(options: NodeOptions) -> IService:
    """The service of a node, for twistd."""
    from twisted.internet import reactor

    return Node(reactor, options.config, options, options.logging)

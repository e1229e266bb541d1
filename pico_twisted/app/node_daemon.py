"""Runs a node: binds its ports, joins the others, serves, and ends in order."""

from __future__ import annotations

import enum
import functools
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import cast

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.cli.banner import counted
from pico_twisted.app.cli.options import NO_HTTP_2, NodeOptions
from pico_twisted.app.joining import Joining
from pico_twisted.app.membership import Membership
from pico_twisted.app.node import build_node
from pico_twisted.app.node_ports import NodePorts
from pico_twisted.app.process.advertised import AdvertisedPorts
from pico_twisted.app.process.daemon import CERTIFICATE_WARNING, Daemon
from pico_twisted.app.process.kept_revocations import keep_revocations
from pico_twisted.app.process.memory import give_memory_back
from pico_twisted.app.process.ports import Attempts, BoundPort
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.app.process.spans import LAST_S, Spans
from pico_twisted.app.workers.cpu_affinity import usable_cores
from pico_twisted.app.workers.host import Host
from pico_twisted.app.workers.worker import Worker, worker_from
from pico_twisted.config import NodeConfig
from pico_twisted.config.certificates import certificate_warnings
from pico_twisted.config.error_pages import read_error_pages
from pico_twisted.core.http2.engine import AVAILABLE
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.stopping import LAST_SHARE, awaited, of_both_kinds
from pico_twisted.net.admin.node_status import ADMIN_ADDR, ADMIN_SCHEME, PROXY_ADDR, VERSION
from pico_twisted.net.observe.logs import Logging
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep

log = Logger(namespace="pico_twisted.app.node")

_TOLD = {PROXY_ADDR: "proxy", ADMIN_ADDR: "admin"}
"""Keys of gossip that hold the address of a port, if it has one."""
QUIET_S = 0.5
"""Seconds without a new request after which clients and load balancers have noticed that a node stops."""
QUIET_SHARE = 0.1
"""Most of the grace period, as a fraction, that a node spends waiting for `QUIET_S` without a request."""
CERTIFICATES_S = 86_400.0
"""Seconds between two looks at how long certificates are good: those that nobody renews are told of every day."""
CLOSE_S = 2.0
"""Seconds that sessions get to close in order at the end."""
LAST_WORD_S = 1.0
"""Seconds before the end of the grace period in which clients of TCP sessions are told that they are cut, and why."""
FAREWELL_S = 0.5
"""Seconds that other nodes get to hear that this one leaves; those that did not hear it wait for its silence."""
SIBLINGS_S = 3.0
"""Seconds that a worker gets to find another one of its host. If all were started again, none can be found at first."""
AGENTS_S = 2.0
"""Most seconds that clients wait at a start that took the ports over, until agents are registered again."""
AGENTS_PAUSE_S = 0.3
"""Seconds without another agent after which those that wait are here."""


class Stage(enum.Enum):
    """Where in its life a node is."""

    STARTING = "starting"
    JOINING = "joining"
    SERVING = "serving"
    DRAINING = "draining"


class NodeDaemon(Daemon[NodeConfig]):
    """A running node.

    Args:
        reactor: of the process.
        config: what it is told; of a worker, what the host is told.
        options: where the configuration is read again for a reload.
        logging: of the process.
        worker: what the parent gave, when this is one of several processes that share the ports.
    """

    def __init__(
        self,
        reactor: IDaemonReactor,
        config: NodeConfig,
        options: NodeOptions,
        logging: Logging,
        worker: Worker | None = None,
    ) -> None:
        super().__init__(reactor, options, config.grace_period, logging)
        config = self.patient(config)
        self._config = config if worker is None else worker.configured(config)
        self._worker = worker
        self._ports = NodePorts(reactor, worker)
        self._stage = Stage.STARTING
        self._orphan = False
        self._certificates_due = -math.inf
        sweep = ReactorSweep(reactor)
        sweep.each(lambda _: logging.flush())
        self._spans = Spans(config.tracing.endpoint, config.tracing.ratio, reactor)
        self.node = build_node(
            self._config,
            reactor,
            sweep=sweep,
            end_of_turn=EndOfTurn(reactor),
            access_log=logging.access_log(config.proxy.access_log, None if worker is None else worker.number),
            ready=self.ready,
            events=logging.events,
            tracer=self._spans.tracer,
            siblings=() if worker is None else worker.others,
            workers=() if worker is None else worker.siblings().labels,
            in_force=lambda: self.options.config,
            make_membership=functools.partial(Membership, host="" if worker is None else worker.host_id),
        )
        self.count_in(self.node.metrics)
        sweep.each(give_memory_back(lambda: self.node.budget.held))
        ours = None if worker is None else worker.is_sibling
        self._joining = Joining(self.node.membership, reactor, random.SystemRandom(), ours)

    def ready(self) -> tuple[bool, str]:
        """Whether requests may come, and if not, why."""
        why_not = self.node.intake.why_not() if self._stage is Stage.SERVING else self._stage.value
        return not why_not, why_not

    # Daemon

    def bind(self) -> None:
        """Read the certificates and bind all ports. See `Daemon.bind`."""
        node, config = self.node, self._config
        attempts = Attempts()
        node.proxy.error_pages, _ = read_error_pages(config.proxy.error_pages)
        with attempts.each():
            node.access.prepare(config)()
            keep_revocations(node.membership.revocations, config.cluster.revocations_file, os.environ, self.reactor)
        with attempts.each():
            self._spans.check()
        self._ports.bind(node, self.reload, attempts)
        attempts.check()
        proxy = self._ports.bound["proxy"]
        if self._worker is not None or proxy.outlives:
            # Clients wait in its queue, for this process or for the one before: until we know who holds what.
            proxy.pause()
        self._look_at_certificates(self.node.sweep.now)
        if config.proxy.http2.enabled and not AVAILABLE:
            log.info(NO_HTTP_2)

    def serve(self) -> None:
        """Everything is bound: begin, and join the others."""
        node = self.node
        node.metrics.families(self._ports.certificates.expiry)
        self._spans.start("pico-node", node.node_id, node.metrics)
        self.watch(self._ports.certificates.files, self._ports.certificates.read_again)
        node.sweep.each(self._look_at_certificates)
        node.sweep.start()
        node.cluster.startService()
        self._stage = Stage.JOINING
        addresses = self._advertised.addresses
        if self._worker is not None:
            self._worker.watch_parent(self.reactor, self._parent_ended)
        node.membership.conflict.addCallback(self.fail)
        node.membership.start(
            addresses["gossip"],
            {
                **{key: addresses[port] for key, port in _TOLD.items() if addresses[port]},
                ADMIN_SCHEME: "https" if self._config.admin.tls.enabled else "http",
                VERSION: __version__,
            },
        )
        self._joining.begin(self._join_timeout_s(), self._join_failed)
        node.membership.gossip.joined.addCallback(self._met)

    def _look_at_certificates(self, now: float) -> None:
        """Called by the sweep: once a day, say which certificates will have ended soon. A reload says it, too."""
        if now >= self._certificates_due:
            self._certificates_due = now + CERTIFICATES_S
            for warning in certificate_warnings(self.options.config, datetime.now(UTC)):
                log.warn(CERTIFICATE_WARNING, reason=warning)

    def _join_timeout_s(self) -> float:
        """A worker that only has to find the others of its host does not wait for one that cannot start."""
        timeout_s = self._config.cluster.join_timeout
        return timeout_s if self._worker is None or self._worker.joins_others else min(timeout_s, SIBLINGS_S)

    def _met(self, _: None) -> None:
        """We know what the nodes that we met know."""
        if self._worker is None or not self._worker.joins_others:
            self._joined()
        else:
            Deferred.fromCoroutine(self._meet_others(self._worker))

    async def _meet_others(self, worker: Worker) -> None:
        def met() -> bool:
            return self.node.membership.core.joined and not all(map(worker.is_sibling, self.node.cluster.table.nodes))

        await self.until(lambda: met() or self._stage is not Stage.JOINING)
        await self._joining.be_reached()
        self._joined()

    def _joined(self) -> None:
        self._joining.end()
        if self._stage is not Stage.JOINING:
            return
        self._stage = Stage.SERVING
        Deferred.fromCoroutine(self._let_in(self._ports.bound["proxy"]))
        self._ports.serve()
        ports = self._advertised
        # of a host with workers the parent prints one for all
        if self.on_terminal(lambda: ports.banner(self.node.node_id) if self._worker is None else ""):
            return
        log.info(
            "Node {node_id} is up",
            node_id=self.node.node_id,
            version=__version__,
            cluster=self._config.cluster.name,
            nodes=1 + len(self.node.cluster.table.nodes),
            **ports.urls,
        )
        if self._worker is None:
            guarded = bool(self._config.cluster.secrets) or self._ports.bound["gossip"].is_loopback
            ports.warn(gossip_is_guarded=guarded)

    async def _let_in(self, proxy: BoundPort) -> None:
        """Take the clients that wait. After a restart that kept the ports agents wait, too: they go first."""
        seen, since = 0, self.reactor.seconds()

        def settled() -> bool:
            nonlocal seen, since
            count, now = sum(self.node.cluster.registry.counts().values()), self.reactor.seconds()
            if count != seen:
                seen, since = count, now
            return seen > 0 and now - since >= AGENTS_PAUSE_S

        if proxy.outlives:
            await self.until(settled, within_s=AGENTS_S)
        if not self.stopping:
            proxy.resume()

    @functools.cached_property
    def _advertised(self) -> AdvertisedPorts:
        """Found out once, before the reactor runs: names are looked up for it."""
        return AdvertisedPorts(self._config, {name: port.bound for name, port in self._ports.bound.items()})

    def _join_failed(self, why: str) -> None:
        """The time is over: serve alone, or end and say why."""
        if self._worker is not None and not self._worker.joins_others:
            log.warn("No node was found: serving alone, and trying on")
        elif self._joining.is_final or self._config.cluster.abort_if_join_fails:
            self.fail(why)
            return
        else:
            log.warn("Could not join: serving alone, and trying on", reason=why)
        self.node.membership.gossip.begin_alone()
        self._joined()

    async def drain(self) -> None:
        """Say it, wait for what is in progress, close, leave."""
        self._stage = Stage.DRAINING
        self._joining.end()
        node, clock = self.node, self.reactor
        proxy, cluster, gossip, links = node.proxy, node.cluster, node.membership.gossip, node.membership.links
        began = clock.seconds()
        last_call, streams_until = began + self.grace_s * (1 - LAST_SHARE), began + self._config.drain_streams
        cutting = clock.callLater(self.grace_s - min(LAST_WORD_S, self.grace_s / 10), cluster.cut_tcp)
        first = set(cluster.pending)
        node.intake.set(Intake.STOPPING)
        await self.until(proxy.quiet_for(QUIET_S, clock), within_s=self.grace_s * QUIET_SHARE)
        await self.until(
            lambda: not awaited(cluster.pending, first, clock.seconds() < streams_until),
            within_s=last_call - clock.seconds(),
        )
        await self._ports.stop_plain()
        await self._ports.bound["proxy"].stop()
        await self.until(lambda: not cluster.cut_streams() and not proxy.connections)
        drained = links.drain()
        await self.until(lambda: drained.called)
        if cutting.active():
            cutting.cancel()
        await self._ports.bound["upstream"].stop()
        cluster.close_sessions()
        await self.until(lambda: not node.upstream.connections, within_s=CLOSE_S)
        self._spans.stop()
        gossip.leave()
        await self.until(lambda: gossip.told, within_s=FAREWELL_S)
        await self.until(self._spans.stopped, within_s=LAST_S)
        await self._ports.bound["admin"].stop()
        node.access.stop()
        gossip.stop()
        links.stop()
        await self._ports.bound["gossip"].stop()
        node.sweep.stop()
        await self._ports.stop_local()
        if self._worker is not None and self._orphan:
            self._worker.clean_up()

    def in_progress(self) -> tuple[int, int]:
        """See `Daemon.in_progress`."""
        return of_both_kinds(self.node.cluster.pending)

    def cut(self) -> None:
        """Drop every connection."""
        started, self._stage = self._stage is not Stage.STARTING, Stage.DRAINING
        self._joining.end()
        for channel in list(self.node.proxy.connections):
            channel.shut()
        for tunnel in list(self.node.upstream.connections):
            tunnel.transport.abortConnection()
        self._ports.cut()
        if started:
            self.node.membership.abort()

    def prepare(self, config: NodeConfig) -> Callable[[], Iterable[str]]:
        """Read the certificates again, too. See `Daemon.prepare`."""
        take_certificates = self._ports.certificates.prepare(config)
        pages, _ = read_error_pages(config.proxy.error_pages)
        take_credentials = self.node.access.prepare(config)

        def take() -> Iterator[str]:
            self.node.requests.log_all(config.proxy.access_log)
            self.node.take(config)
            self.node.proxy.min_body_rate = config.proxy.min_body_rate
            yield from self.node.ceilings.configure(config)
            self.node.proxy.read_names(config.proxy)
            if pages != self.node.proxy.error_pages:
                self.node.proxy.error_pages = pages
                yield f"error pages: {', '.join(pages) or 'none'}"
            yield from take_credentials()
            yield from take_certificates()

        return take

    def _parent_ended(self) -> None:
        """End: no parent looks after this worker any more, nor removes what it made."""
        self._orphan = True
        self._end()

    def _end(self) -> None:
        """A worker hears a signal to its whole group from the sender and from its parent. Only the parent cuts it."""
        if self._worker is None or not self.stopping:
            super()._end()

    def ready_state(self) -> bool:
        """Whether `/ready` says so, but for what operators have done since."""
        return self._stage is Stage.SERVING

    def status_line(self) -> str:
        """How many nodes the cluster has, and how much of it is registered here."""
        if self.stopping:
            return f"draining, {counted(self.node.proxy.serving(), 'request')} in progress"
        ready, reason = self.ready()
        if not ready:
            return ": ".join(filter(None, (reason, "; ".join(self._joining.reasons()))))
        reachable = 1 + len(self.node.status.nodes_there())
        local = self.node.cluster.registry.counts()
        upstreams = counted(sum(local.values()), "upstream")
        return f"{counted(reachable, 'node')}; here {counted(len(local), 'endpoint')}, {upstreams}"


def make_node_service(options: NodeOptions) -> IService:
    """The service of a node, for twistd."""
    from twisted.internet import reactor as installed

    reactor = cast("IDaemonReactor", installed)

    worker = worker_from(os.environ)
    if worker is not None:
        options.logging.observer = worker.numbered(options.logging.observer)
        return NodeDaemon(reactor, options.config, options, options.logging, worker)
    count = options.config.cluster.workers or len(usable_cores())
    if count > 1:
        return Host(reactor, options.config, options, options.logging, count)
    return NodeDaemon(reactor, options.config, options, options.logging)

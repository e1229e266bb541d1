"""A node's part in the cluster: puts together gossip, node links, and the ClusterService that both serve.

What the agents of this node register is told to the others; what the others tell becomes the table by which requests
are routed; the links carry those requests, and whole maps where packets do not suffice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from pico_twisted.core.gossip import Gossip, GossipSettings
from pico_twisted.core.gossip.members import GOSSIP_ADDR, STATUS
from pico_twisted.core.gossip.sync import SyncError
from pico_twisted.core.routing.table import ACTIVE, DRAINING, endpoint_key
from pico_twisted.net.gossip.metrics import GossipMetrics
from pico_twisted.net.gossip.port import GossipParts, GossipProtocol
from pico_twisted.net.gossip.resolver import split_address
from pico_twisted.net.links.links import LinkSettings, NodeLinks
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.routing.cluster_service import ClusterService, LocalRouter
from pico_twisted.net.tunnel import TunnelParts

log = Logger()


@attrs.frozen(kw_only=True)
class MembershipSettings:
    """What a node is told of its cluster.

    Attributes:
        cluster: the cluster's name.
        secrets: of the cluster; the first is used, all are accepted.
        seeds: hosts and ports of nodes to join.
        interval_s, max_packet_bytes: of the gossip.
        wall_ms: the wall clock at the start: the node's generation.
        max_links: that other nodes may open.
        tls: of the links.
    """

    cluster: str = "pico"
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    seeds: Sequence[tuple[str, int]] = ()
    interval_s: float = 0.5
    max_packet_bytes: int = 1400
    wall_ms: int
    max_links: int = 2048
    tls: LinkTls | None = None


class Membership:
    """This node in its cluster.

    Args:
        settings: see there.
        cluster: this node's.
        parts: what all tunnels share; `max_calls` bounds the calls of one link.
        reactor: the reactor.
        rng: the source of chance; `random.SystemRandom` for a daemon.

    Attributes:
        core: decides what the gossip says.
        gossip: drives it; the protocol of the UDP port.
        links: to and from other nodes.
        conflict: fires with a message when another process has our node ID.
    """

    def __init__(
        self, settings: MembershipSettings, cluster: ClusterService, parts: TunnelParts, *, reactor: Any, rng: Any
    ) -> None:
        self._cluster = cluster
        self._reactor = reactor
        self._malformed = RepeatedWarning()
        self.conflict: Deferred[str] = Deferred()
        self.core = Gossip(
            GossipSettings(
                node_id=cluster.node_id,
                cluster=settings.cluster,
                secrets=settings.secrets,
                interval_s=settings.interval_s,
                max_packet_bytes=settings.max_packet_bytes,
            ),
            rng=rng,
            now=reactor.seconds(),
            wall_ms=settings.wall_ms,
        )
        self.links = NodeLinks(
            parts,
            LinkSettings(
                cluster=settings.cluster,
                node_id=cluster.node_id,
                generation=lambda: self.core.generation,
                secrets=[secret.encode() for secret in settings.secrets],
                router=LocalRouter(cluster),
                address_of=self._address_of,
                answer_sync=self._answer_sync,
                tls=settings.tls,
                max_links=settings.max_links,
            ),
            reactor=reactor,
        )
        metrics = GossipMetrics(self.core, parts.metrics, reactor.seconds, cluster.table.count_by_status)
        parts.sweep.each(lambda _: metrics.gather())
        self.gossip = GossipProtocol(
            GossipParts(
                clock=reactor,
                core=self.core,
                table=cluster.table,
                metrics=metrics,
                seeds=settings.seeds,
                fetch=self.links.fetch,
                heard=self.links.heard,
                doubted=self.links.probe,
                conflict=self._conflict,
            )
        )
        cluster.links = self.links
        cluster.announce = self._announce
        cluster.holds_bytes(self.links.held_bytes)

    @property
    def link_factory(self) -> IProtocolFactory:
        """For the TCP side of the gossip port."""
        return self.links.port_factory

    @property
    def joined(self) -> Deferred[None]:
        """Fires when we know what the cluster knows, or that we are alone."""
        return self.gossip.joined

    def start(self, gossip_addr: str, others: Mapping[str, str]) -> None:
        """Begin. The port is bound.

        Args:
            gossip_addr: our advertised address, which others need first.
            others: what else we say of ourselves.
        """
        now = self._reactor.seconds()
        for key, value in {GOSSIP_ADDR: gossip_addr, **others, STATUS: ACTIVE}.items():
            self.core.set(key, value, now)
        self.gossip.start()

    def set_secrets(self, secrets: tuple[str, ...]) -> None:
        """Use other secrets from now on. Open links stay."""
        self.gossip.set_secrets(secrets)
        self.links.set_secrets([secret.encode() for secret in secrets])

    def say_draining(self) -> None:
        """Others are to send us nothing that they can send elsewhere."""
        self.gossip.set(STATUS, DRAINING)

    def abort(self) -> None:
        """Drop everything. The others are told once that we leave, so that who hears it need not wait for our
        silence."""
        self.gossip.leave()
        self.gossip.stop()
        self.links.abort()

    def _announce(self, endpoint: str, registrations: int) -> None:
        if registrations:
            self.gossip.set(endpoint_key(endpoint), registrations)
        else:
            self.gossip.delete(endpoint_key(endpoint))

    def _address_of(self, node_id: str) -> tuple[str, int] | None:
        member = self.core.view.members.get(node_id)
        try:
            return split_address(member.address) if member is not None else None
        except ValueError:
            return None

    def _answer_sync(self, node_id: str, request: bytes) -> bytes:
        try:
            return self.core.sync_answer(request, self._reactor.seconds())
        except SyncError as error:
            suppressed = self._malformed.due("malformed", self._reactor.seconds())
            if suppressed is not None:
                log.warn(
                    "A question for maps is not well made: {reason}",
                    node=node_id,
                    reason=str(error),
                    suppressed=suppressed,
                )
            raise

    def _conflict(self, message: str) -> None:
        if not self.conflict.called:
            self.conflict.callback(message)

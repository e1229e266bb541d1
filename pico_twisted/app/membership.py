"""A node's part in the cluster: puts together gossip and node links, which its ClusterService is given.

What the agents of this node register is told to the others; what the others tell becomes the table by which requests
are routed; the links carry those requests, and maps where packets do not suffice.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from pico_twisted.config import Address, ClusterConfig
from pico_twisted.core.access.revocations import Revocations
from pico_twisted.core.gossip import Gossip, GossipSettings
from pico_twisted.core.gossip.members import GOSSIP_ADDR, LEFT, STATUS
from pico_twisted.core.gossip.sync import SyncError
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.routing.table import (
    ACTIVE,
    ALL_DRAIN,
    DRAINING,
    SOME_ARE_OUT,
    ClusterTable,
    affinity_key,
    alone_key,
    endpoint_key,
    last_choice_key,
)
from pico_twisted.net.access.shared import SharedParts, SharedRevocations
from pico_twisted.net.admin.node_status import INTAKE
from pico_twisted.net.gossip.metrics import GossipMetrics
from pico_twisted.net.gossip.port import GossipParts, GossipProtocol
from pico_twisted.net.gossip.resolver import split_address
from pico_twisted.net.links.dial_back import DialBack
from pico_twisted.net.links.links import LinkSettings, NodeLinks
from pico_twisted.net.links.sync import Answers
from pico_twisted.net.links.tls import LinkTls
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.tunnel import TunnelParts

log = Logger()

REVOCATIONS: Final = "revocations"
"""Key of the digest of what a node knows to be revoked."""


class Membership:
    """This node in its cluster.

    Args:
        config: of the cluster.
        node_id: of this node.
        siblings: gossip ports of nodes to join besides those of `cluster.join`.
        host: the ID of the host of which this node is one of several workers; "" when it is on its own.
        max_links: links that other nodes may have to this one.
        table: is told of the other nodes.
        revocations: of this node, to be shared with all others.
        parts: what all tunnels share; `max_calls` bounds the calls of one link.
        tls: of the links, if they use TLS.
        reactor: the reactor.
        rng: the source of chance; `random.SystemRandom` for a daemon.
        wall_ms: the wall clock at the start, in milliseconds: the node's generation.

    Attributes:
        core: decides what the gossip says.
        gossip: drives it; the protocol of the UDP port.
        links: to and from other nodes.
        revocations: of all nodes.
        conflict: fires with a message when another process took our node ID.
        in_use: the address of the process that has our node ID, and for how many seconds that has been up; None while
            no such process is known.
    """

    def __init__(
        self,
        config: ClusterConfig,
        node_id: str,
        *,
        siblings: Sequence[Address],
        host: str = "",
        max_links: int,
        table: ClusterTable,
        revocations: Revocations,
        parts: TunnelParts,
        tls: LinkTls | None,
        reactor: Any,  # a whole reactor, or as much of one as a test needs
        rng: random.Random,
        wall_ms: int,
    ) -> None:
        self._reactor = reactor
        self._malformed = RepeatedWarning()
        self._operate_here: Callable[[str, bytes], Deferred[bytes]] | None = None
        self.conflict: Deferred[str] = Deferred()
        self.in_use: tuple[str, float] | None = None
        self.core = Gossip(
            GossipSettings(
                node_id=node_id,
                cluster=config.name,
                secrets=config.secrets,
                interval_s=config.gossip.interval,
                max_packet_bytes=config.gossip.max_packet_size,
                host=host,
            ),
            rng=rng,
            now=reactor.seconds(),
            wall_ms=wall_ms,
        )
        self._dial_back = DialBack(
            reactor,
            self._answers,
            lambda address, other: maybeDeferred(self.dial_once, address, other),
        )
        self.links = NodeLinks(
            parts,
            LinkSettings(
                cluster=config.name,
                node_id=node_id,
                generation=lambda: self.core.generation,
                secrets=[secret.encode() for secret in config.secrets],
                address_of=self.address_of,
                answers=Answers(
                    maps=self.answer_sync,
                    dial_back=self._dial_back.dial,
                    revoked=self._take_revocations,
                    operate=self._operate,
                    later=functools.partial(reactor.callLater, 0),
                ),
                tls=tls,
                max_links=max_links,
            ),
            reactor=reactor,
        )
        metrics = GossipMetrics(self.core, parts.metrics, reactor.seconds, table.count_by_status)
        parts.sweep.each(lambda _: metrics.gather())
        self.gossip = GossipProtocol(
            GossipParts(
                clock=reactor,
                core=self.core,
                table=table,
                metrics=metrics,
                seeds=[(address.host, address.port) for address in (*config.join, *siblings)],
                fetch=self.links.fetch,
                heard=self.links.heard,
                doubted=self.links.probe,
                conflict=self._conflict,
                in_use=self._in_use,
            )
        )

        def others() -> dict[str, str | None]:
            nodes = {id: node for id, node in table.nodes.items() if node.status != LEFT}
            there = (ACTIVE, DRAINING)
            return {id: node.text(REVOCATIONS) if node.status in there else None for id, node in nodes.items()}

        self.revocations = SharedRevocations(
            revocations,
            SharedParts(
                clock=reactor,
                sweep=parts.sweep,
                wall=time.time,
                metrics=parts.metrics,
                others=others,
                tell=lambda node_id, data: Deferred.fromCoroutine(self.links.tell_revoked(node_id, data)),
                announce=lambda digest: self.gossip.set(REVOCATIONS, digest),
            ),
        )

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

    def announce(self, endpoint: str, registrations: int, draining: int, out: int, owner: str, ties: str) -> None:
        """Tell the others how many registrations of an endpoint this node has.

        Args:
            endpoint: its ID.
            registrations: all of them.
            draining: those of agents that drain. They count only where there are no others.
            out: of the others, those whose service is out. They count, and are the last choice like the former.
            owner: ID of an agent that will not share the endpoint; "" for none.
            ties: what ties its clients to which agents, as `affinity.told_of` says it; "" for nothing.
        """
        if registrations:
            self.gossip.set(endpoint_key(endpoint), registrations - draining or draining)
        else:
            self.gossip.delete(endpoint_key(endpoint))
        for key, value in ((alone_key(endpoint), owner), (affinity_key(endpoint), ties)):
            if value:
                self.gossip.set(key, value)
            else:
                self.gossip.delete(key)
        if 0 < draining + out == registrations:
            self.gossip.set(last_choice_key(endpoint), SOME_ARE_OUT if out else ALL_DRAIN)
        else:
            self.gossip.delete(last_choice_key(endpoint))

    def say(self, intake: Intake) -> None:
        """Tell the others what we take: unless that is all, they send us nothing that they can send elsewhere."""
        self.gossip.set(STATUS, ACTIVE if intake is Intake.OPEN else DRAINING)
        if intake in (Intake.CORDONED, Intake.DRAINED):
            self.gossip.set(INTAKE, intake.value)
        else:
            self.gossip.delete(INTAKE)

    def abort(self) -> None:
        """Drop everything. The others are told once that we leave, so that who hears it need not wait for our
        silence."""
        self.gossip.leave()
        self.gossip.stop()
        self.links.abort()

    # What links ask

    def address_of(self, node_id: str) -> tuple[str, int] | None:
        """Host and port of another node's gossip port, as far as they are known."""
        member = self.core.view.members.get(node_id)
        try:
            return split_address(member.address) if member is not None else None
        except ValueError:
            return None

    def answer_sync(self, node_id: str, request: bytes, takes_parts: bool) -> Iterator[bytes]:
        """The answer to another node's question for the maps, in pieces. See `Gossip.sync_answer`.

        Raises:
            SyncError: the question is not well made.
        """
        try:
            return self.core.sync_answer(request, self._reactor.seconds(), takes_parts=takes_parts)
        except SyncError as error:
            suppressed = self._malformed.due("malformed", self._reactor.seconds())
            if suppressed is not None:
                log.warn(
                    "A question of {node} for maps is not well made: {reason}",
                    node=node_id,
                    reason=str(error),
                    suppressed=suppressed,
                )
            raise

    def serve_operators(self, operate: Callable[[str, bytes], Deferred[bytes]]) -> None:
        """Have done what operators ask of this node through others. Called once, before any link can be there.

        Args:
            operate: as of `net.links.sync.Answers`.
        """
        self._operate_here = operate

    def _operate(self, node_id: str, operation: bytes) -> Deferred[bytes]:
        assert self._operate_here is not None
        return self._operate_here(node_id, operation)

    def _take_revocations(self, node_id: str, data: bytes) -> bytes:
        return self.revocations.take(node_id, data)

    def dial_once(self, address: str, node_id: str) -> Deferred[None]:
        """Open a link to a node at an address, and close it again. See `NodeLinks.dial_once`.

        Raises:
            ValueError: it is no address.
        """
        return self.links.dial_once(split_address(address), node_id)

    def _answers(self, address: str, node_id: str) -> Deferred[bool]:
        return self.gossip.answers.await_from(node_id, address)

    def _in_use(self, address: str, uptime_s: float) -> None:
        self.in_use = address, uptime_s

    def _conflict(self, message: str) -> None:
        if not self.conflict.called:
            self.conflict.callback(message)

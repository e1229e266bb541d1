"""The parts of a node, put together as the daemon's are, with limits and deadlines that suit tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.task import Clock

from pico_twisted.app.membership import Membership
from pico_twisted.app.node import build_node
from pico_twisted.config import (
    AdminConfig,
    ClusterConfig,
    ClusterTlsConfig,
    EndpointLimitsConfig,
    NodeConfig,
    NodeLimitsConfig,
    ProxyConfig,
    UpstreamConfig,
)
from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.core.routing.table import endpoint_key
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel import TunnelParts
from tests.doubles.said import says

STEP_S = 0.05
"""How `pass_time` moves a clock: a sweep advances at most a second for each of its turns."""

PROXY_KEYS: Mapping[str, Any] = {"timeout": 5.0, "idle_timeout": 8.0, "keepalive_timeout": 6.0, "head_timeout": 2.0}
LIMITS: Mapping[str, Any] = {
    "calls": 1000,
    "calls_per_session": 1000,
    "sessions": 100,
    "connections": 1000,
    "buffered_bytes": 64 * 1024 * 1024,
    "v1_body_bytes": 1024 * 1024,
}


def pass_time(clock: Clock, seconds: float, step_s: float = STEP_S) -> None:
    """Let time pass as it passes in a process: in many small turns of the reactor."""
    turns = round(seconds / step_s)
    for _ in range(turns):
        clock.advance(step_s)


class ToldMembership(Membership):
    """A membership that hears no gossip: the test says where other nodes are, and what is answered for the maps."""

    def __init__(
        self, *given: Any, addresses: Mapping[str, tuple[str, int]], maps: bytes = b"the maps", **named: Any
    ) -> None:
        self._addresses = addresses
        self._maps = maps
        super().__init__(*given, **named)

    def address_of(self, node_id: str) -> tuple[str, int] | None:
        """As the test says."""
        return self._addresses.get(node_id)

    def answer_sync(self, node_id: str, request: bytes, takes_parts: bool) -> Iterator[bytes]:
        """The question, and these bytes behind it, in pieces."""
        yield b"%b asks %b%b: " % (node_id.encode(), request, b"" if takes_parts else b" for whole maps")
        for at in range(0, len(self._maps), 50_000):
            yield self._maps[at : at + 50_000]


class MemoryNode:
    """A node without ports, whose coarse timer runs.

    Args:
        clock: a reactor, or a `Clock`.
        node_id: its ID.
        secrets, tls: of the cluster.
        membership: makes the membership, as of `build_node`; one of a node alone unless given.
        interval_s: of the coarse timer.
        write_log: takes the lines of the access log, which are else kept in `access`.
        endpoints: ceilings of endpoints.
        gathers: tunnels send what one turn of the reactor brings with one write, as in a daemon; else at once.
        upstream, admin: these sections. The files that they and `auth` of the proxy name are read.
        tracer: records requests.
        keys: of the sections `proxy` and `limits`, as they are called there. They may be such as no file could have.

    Attributes:
        node: as built. Its parts can be had from here, too.
        access: the lines of the access log.
    """

    def __init__(
        self,
        clock: Any,
        *,
        node_id: str = "n1",
        secrets: Sequence[bytes] = (),
        tls: ClusterTlsConfig | None = None,
        membership: Callable[..., Membership] | None = None,
        interval_s: float = 0.05,
        write_log: Callable[[str], object] | None = None,
        gathers: bool = False,
        upstream: UpstreamConfig | None = None,
        admin: AdminConfig | None = None,
        endpoints: Sequence[EndpointLimitsConfig] = (),
        tracer: Tracer | None = None,
        **keys: Any,
    ) -> None:
        self.clock = clock
        self.access: list[str] = []
        names = {field.name for field in attrs.fields(ProxyConfig)}
        with attrs.validators.disabled():
            config = NodeConfig(
                proxy=ProxyConfig(**{**PROXY_KEYS, **{key: keys[key] for key in keys if key in names}}),
                upstream=upstream or UpstreamConfig(),
                admin=admin or AdminConfig(),
                limits=NodeLimitsConfig(**{**LIMITS, **{key: keys[key] for key in keys if key not in names}}),
                cluster=ClusterConfig(
                    node_id=node_id,
                    secrets=tuple(secret.decode() for secret in secrets),
                    tls=tls or ClusterTlsConfig(),
                ),
                endpoints=tuple(endpoints),
            )
        node = self.node = build_node(
            config,
            clock,
            sweep=ReactorSweep(clock, interval_s),
            end_of_turn=EndOfTurn(clock) if gathers else None,
            access_log=AccessLog(write_log or self.access.append),
            ready=lambda: (True, ""),
            tracer=tracer,
            chance=lambda: 0.0,
            make_membership=membership or functools.partial(ToldMembership, addresses={}),
        )
        if node.link_tls is not None:
            node.link_tls.reload()
        node.access.prepare(config)()
        self.cluster, self.links, self.proxy, self.upstream = (
            node.cluster,
            node.membership.links,
            node.proxy,
            node.upstream,
        )
        self.metrics, self.sweep, self.budget = node.metrics, node.sweep, node.budget
        self.access_log, self.tunnel_parts = node.access_log, node.tunnel_parts
        self.upstream.chance = lambda: 0.0
        self.sweep.each(lambda _: self.access_log.flush())
        self.sweep.start()

    def agent_parts(self) -> TunnelParts:
        """What the tunnels of an agent in the same process share: metrics and a budget of their own."""
        return attrs.evolve(self.tunnel_parts, metrics=Metrics("agent"), budget=Budget(1 << 28))

    def tell(self, endpoint: str, holders: Sequence[str]) -> None:
        """Let this node know, as if from gossip, who holds an endpoint.

        Args:
            endpoint: in lower case.
            holders: all other nodes that hold it, those to choose first in front.
        """
        table = self.cluster.table
        key = endpoint_key(endpoint)
        for node_id in table.nodes:
            says(table, node_id, {key: None})
        for node_id in holders:
            if node_id not in table.nodes:
                table.status_changed(StatusChanged(node_id, "active"))
            says(table, node_id, {key: 1})

    def stop(self) -> None:
        """End the coarse timer."""
        self.sweep.stop()
        self.access_log.flush()

"""The parts of a node, put together as a daemon does it, with limits and deadlines that suit tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.proxy.port import ProxySettings
from pico_twisted.net.proxy.resource import ReverseResource
from pico_twisted.net.proxy.site import ProxySite
from pico_twisted.net.routing.cluster_service import ClusterService
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.tunnel import TunnelParts
from pico_twisted.net.tunnel.upstream import UpstreamFactory
from pico_twisted.net.turn import EndOfTurn, Sweep

STEP_S = 0.05
"""How `pass_time` moves a clock: a sweep advances at most a second for each of its turns."""


def pass_time(clock: Clock, seconds: float, step_s: float = STEP_S) -> None:
    """Let time pass as it passes in a process: in many small turns of the reactor."""
    turns = round(seconds / step_s)
    for _ in range(turns):
        clock.advance(step_s)


class NodeParts:
    """What a node is made of, without ports.

    Args:
        clock: a reactor, or a `Clock`.
        max_calls, max_calls_per_session, max_sessions, max_connections: the limits.
        buffered_bytes: the process's limit on held bytes.
        v1_body_bytes: of a request towards a v1 agent.
        timeout_s: to a response's head; a second more passes before the node says so.
        idle_timeout_s, keepalive_timeout_s, head_timeout_s: the others.
        trusted_proxies: networks of the `ipaddress` module.
        write_log: takes the lines of the access log, which are else kept in `access`.
        gathers: tunnels send what one turn of the reactor brings with one write, as in a daemon; else at once.

    Attributes:
        access: the lines of the access log.
    """

    def __init__(
        self,
        clock: Any,
        *,
        node_id: str = "n1",
        max_calls: int = 1000,
        max_calls_per_session: int = 1000,
        max_sessions: int = 100,
        max_connections: int = 1000,
        buffered_bytes: int = 64 * 1024 * 1024,
        v1_body_bytes: int = 1024 * 1024,
        timeout_s: float = 5.0,
        idle_timeout_s: float = 8.0,
        keepalive_timeout_s: float = 6.0,
        head_timeout_s: float = 2.0,
        trusted_proxies: tuple[Any, ...] = (),
        interval_s: float = 0.05,
        write_log: Callable[[str], object] | None = None,
        gathers: bool = False,
    ) -> None:
        self.access: list[str] = []
        self._v1_body_bytes = v1_body_bytes
        self.clock = clock
        self._end_of_turn = EndOfTurn(clock) if gathers else None
        self.metrics = Metrics("node")
        self.sweep = Sweep(clock, interval_s)
        self.budget = Budget(buffered_bytes)
        self.access_log = AccessLog(write_log or self.access.append)
        self.sweep.each(lambda _: self.access_log.flush())
        limits = HeadLimits()
        self.cluster = ClusterService(
            node_id=node_id,
            sweep=self.sweep,
            metrics=self.metrics,
            budget=self.budget,
            head_limits=limits,
            max_calls=max_calls,
            max_calls_per_session=max_calls_per_session,
        )
        self.routing_settings = RoutingSettings(
            router=self.cluster,
            sweep=self.sweep,
            metrics=self.metrics,
            timeout_s=timeout_s,
            idle_timeout_s=idle_timeout_s,
        )
        via = b"pico-" + node_id.encode("ascii")
        self.site = ProxySite(
            ProxySettings(
                node_id=node_id,
                head_limits=limits,
                head_timeout_s=head_timeout_s,
                keepalive_timeout_s=keepalive_timeout_s,
                trusted_proxies=trusted_proxies,
                max_connections=max_connections,
                sweep=self.sweep,
                metrics=self.metrics,
                access_log=self.access_log,
            ),
            ReverseResource(self.routing_settings),
            via,
        )
        self.cluster.holds_bytes(self.site.held_bytes)
        self.tunnel_parts = self.make_tunnel_parts()
        self.upstream = UpstreamFactory(self.tunnel_parts, self.cluster, max_sessions=max_sessions, reactor=clock)
        self.upstream.chance = lambda: 0.0
        self.cluster.holds_bytes(self.upstream.held_bytes)
        self.sweep.start()

    def make_tunnel_parts(self, *, metrics: Metrics | None = None, budget: Budget | None = None) -> TunnelParts:
        """What tunnels share; an agent's have metrics and a budget of their own."""
        return TunnelParts(
            clock=self.clock,
            sweep=self.sweep,
            metrics=metrics or self.metrics,
            budget=budget or self.budget,
            head_limits=HeadLimits(),
            max_calls=1000,
            version="0.0.1",
            end_of_turn=self._end_of_turn,
            v1=dialect_v1(self._v1_body_bytes),
        )

    def stop(self) -> None:
        """End the coarse timer."""
        self.sweep.stop()
        self.access_log.flush()

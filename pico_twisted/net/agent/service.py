"""The agent as one service: its listeners, each with its sessions and a forwarder, from the start to an ordered end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.logger import Logger

from pico_twisted.config import AgentConfig, ListenerConfig
from pico_twisted.core.agent.dial_plan import AgentRandom
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.net.agent.connector import ActiveConnection, DialParts
from pico_twisted.net.agent.dial_throttle import DialThrottle
from pico_twisted.net.agent.forwarder import Forwarder
from pico_twisted.net.agent.listener_connections import ListenerConnections
from pico_twisted.net.agent.local_service import LocalService
from pico_twisted.net.interfaces import ITunnel
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.tunnel import TunnelClientProtocol, TunnelParts, connect_tunnel
from pico_twisted.net.turn import EndOfTurn, Sweep

log = Logger()

LOOK_TURNS: Final = 5
"""Turns of the sweep in which each listener's connections are looked at once, which is about once a second: what they
do then takes seconds anyway. Thousands in every turn would take a tenth of a core, and take it from those that are
coming back."""
MAX_CALLS_PER_SESSION: Final = 20_000
"""Calls of a node open at once on one session. The node has its own limit; this one keeps a broken node from taking all
of our memory."""


@attrs.frozen(kw_only=True)
class Listener:
    """One endpoint and what serves it."""

    config: ListenerConfig
    connections: ListenerConnections
    service: LocalService


class AgentService(Service):
    """Registers the endpoints of the configuration and serves their calls.

    Args:
        config: of the agent.
        reactor: connects, tells the time and wakes.
        sweep: the process's coarse timer. Started and stopped with this service.
        metrics: counts.
        rng: the source of chance.
        version: told to the nodes.
        end_of_turn: gathers what tunnels send; see `TunnelParts`.

    Attributes:
        agent_id: as configured, or made for this process.
        token: shown at each handshake from now on; may be set again after a reload.
        listeners: in the order of the configuration.
        all_registered: fires when every listener has a session for the first time.
    """

    name = "agent"

    def __init__(
        self,
        config: AgentConfig,
        *,
        reactor: DialReactor,
        sweep: Sweep,
        metrics: Metrics,
        rng: AgentRandom,
        version: str,
        end_of_turn: EndOfTurn | None = None,
    ) -> None:
        self.agent_id = config.agent_id or f"agent-{rng.getrandbits(32):08x}"
        self.token = config.connect.token
        self.all_registered: Deferred[None] = Deferred()
        self._config = config
        self._reactor = reactor
        self._sweep = sweep
        self._metrics = metrics
        self._dialling = DialParts(
            urls=config.connect.url,
            clock=reactor,
            rng=rng,
            metrics=metrics,
            throttle=DialThrottle(config.connect.url, reactor),
        )
        self._budget = Budget(config.limits.buffered_bytes)
        self._limits = HeadLimits(head_bytes=config.limits.head_bytes, fields=config.limits.head_fields)
        self._parts = TunnelParts(
            clock=reactor,
            sweep=sweep,
            metrics=metrics,
            budget=self._budget,
            head_limits=self._limits,
            max_calls=MAX_CALLS_PER_SESSION,
            version=version,
            end_of_turn=end_of_turn,
            v1=dialect_v1(config.limits.v1_body_bytes),
        )
        self._stopping: Deferred[None] | None = None
        self.listeners = tuple(self._listener(index, one) for index, one in enumerate(config.listeners))
        self._turn = 0
        self._missing = list(self.listeners)  # those that had no session yet
        self._add_gauges()
        sweep.each(self._measure)

    def _listener(self, index: int, config: ListenerConfig) -> Listener:
        service = LocalService(config, self._parts, agent_id=self.agent_id, reactor=self._reactor)

        def drain_requested(tunnel: ITunnel) -> None:
            connections.drain_requested(tunnel)

        forwarder = Forwarder(service, drain_requested)
        connections = ListenerConnections(
            self._dialling,
            endpoint=config.endpoint,
            index=index,
            connections=self._config.connect.connections,
            connect=functools.partial(self._connect, config, forwarder),
            changed=self._changed,
        )
        return Listener(config=config, connections=connections, service=service)

    def _connect(
        self, config: ListenerConfig, forwarder: Forwarder, url: str, slot: str, elsewhere: Sequence[str]
    ) -> Deferred[TunnelClientProtocol]:
        connect = self._config.connect
        return connect_tunnel(
            self._reactor,
            self._parts,
            url,
            endpoint_id=config.endpoint,
            agent_id=self.agent_id,
            slot=slot,
            elsewhere=elsewhere,
            token=self.token,
            root_cas=connect.tls.root_cas,
            acceptor=forwarder,
            timeout_s=connect.timeout,
        )

    def _add_gauges(self) -> None:
        gauge = self._metrics.gauge
        gauge("pico_agent_listeners", "Listeners of the configuration.", lambda: len(self.listeners))
        gauge("pico_agent_registered", "Listeners that have a session for new calls.", self._registered_count)
        gauge(
            "pico_agent_sessions",
            "Sessions with nodes, those that are being replaced too.",
            lambda: len(self.sessions()),
        )
        gauge("pico_agent_calls", "Calls that are being served.", self.calls_in_flight)
        gauge("pico_agent_service_connections", "Connections to local services, idle ones too.", self._connection_count)
        gauge("pico_buffered_bytes", "Bytes held in memory for slow peers.", lambda: self._budget.held)

    # Service

    def startService(self) -> None:
        """Begin to register all listeners."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted gives it no types
        self._sweep.start()
        for listener in self.listeners:
            listener.connections.start()

    def stopService(self) -> Deferred[None]:
        """End in order: no new calls, those in flight finish, sessions close; what is left at the end of the grace
        period is cut.

        Returns:
            A Deferred that fires when all is done.
        """
        if self._stopping is None:
            if self.running:
                super().stopService()  # type: ignore[no-untyped-call]
            self._stopping = Deferred.fromCoroutine(self._stop())
            self._stopping.addErrback(lambda failure: log.failure("The agent could not stop in order", failure))
        waiter: Deferred[None] = Deferred()
        self._stopping.addCallback(waiter.callback)
        return waiter

    def abort(self) -> None:
        """Cut everything at once: a second signal."""
        for listener in self.listeners:
            listener.connections.abort()
            listener.service.close()

    async def _stop(self) -> None:
        if self.calls_in_flight():
            log.info("Waiting for calls in flight", calls=self.calls_in_flight(), grace_s=self._config.grace_period)
        draining = DeferredList([one.connections.drain() for one in self.listeners], consumeErrors=True)
        try:
            await draining.addTimeout(self._config.grace_period, self._reactor)
        except TimeoutError:
            log.warn("The grace period is over: cutting what is left", calls=self.calls_in_flight())
        self.abort()
        self._sweep.stop()

    # What can be asked

    @property
    def ready(self) -> bool:
        """Every listener has a session for new calls, and we are not stopping."""
        return self._stopping is None and self._registered_count() == len(self.listeners)

    def sessions(self) -> list[ActiveConnection]:
        """The sessions that there are, in the order of the listeners."""
        return [session for listener in self.listeners for session in listener.connections.sessions]

    def calls_in_flight(self) -> int:
        """Calls that are being served."""
        return sum(len(listener.service.calls) for listener in self.listeners)

    def _registered_count(self) -> int:
        return sum(bool(listener.connections.current) for listener in self.listeners)

    def _connection_count(self) -> int:
        return sum(len(listener.service.connections) for listener in self.listeners)

    def _changed(self) -> None:
        if self.all_registered.called:
            return
        missing = self._missing
        while missing and missing[-1].connections.current:
            missing.pop()  # so that all listeners are looked at once, not once for each session
        if not missing:
            if self.ready:
                self.all_registered.callback(None)
            self._missing = [listener for listener in self.listeners if not listener.connections.current]

    def _measure(self, now: float) -> None:
        held = 0
        for listener in self.listeners:
            if listener.service.calls:
                held += listener.service.held_bytes()
            held += listener.connections.held_bytes()
        self._budget.measure(held)
        for listener in self.listeners[self._turn :: LOOK_TURNS]:
            listener.connections.look(now)
        self._turn = (self._turn + 1) % LOOK_TURNS
        self._metrics.lag(self._sweep.lag_s)

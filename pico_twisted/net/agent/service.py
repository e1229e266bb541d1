"""The agent as one service: its listeners, each with its sessions and a forwarder, from the start to an ordered end."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, race
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pico_twisted.config import AgentConfig, ConnectConfig, ListenerConfig
from pico_twisted.core.agent.dial_plan import AgentRandom
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.protocol_limits import MAX_CALLS_PER_SESSION
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.core.stopping import LAST_SHARE, awaited
from pico_twisted.net.agent.active_connection import ActiveConnection
from pico_twisted.net.agent.connector import DRAIN_LOOK_S, DialParts
from pico_twisted.net.agent.dial_failures import FailedAttempt
from pico_twisted.net.agent.dial_throttle import DialThrottle
from pico_twisted.net.agent.gauges import add_gauges
from pico_twisted.net.agent.listener import Listener
from pico_twisted.net.agent.listener_changes import difference, told
from pico_twisted.net.agent.listener_connections import ListenerConnections
from pico_twisted.net.agent.other_servers import OtherServers
from pico_twisted.net.agent.own_health import OwnHealth
from pico_twisted.net.agent.serving.counts import ServiceCounts
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.inspector import IInspector
from pico_twisted.net.agent.serving.kinds import make_service
from pico_twisted.net.agent.serving.local_service import HeldCall, LocalService, Program, ServiceParts
from pico_twisted.net.agent.serving.policy import Policies
from pico_twisted.net.agent.serving.replays import tell_inspector
from pico_twisted.net.agent.shown_token import ShownToken
from pico_twisted.net.agent.told_health import tell_opened, watched
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.requests import RequestWatch, unwatched
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel import TunnelClientProtocol, TunnelParts, connect_tunnel
from pico_twisted.net.tunnel.interfaces import ITunnel

log = Logger()

LOOK_TURNS: Final = 5
"""Turns of the sweep in which each listener's connections are looked at once, about once a second: what they do then
takes seconds anyway. Thousands in every turn would take a tenth of a core from those that are coming back."""


class AgentService(Service):
    """Registers the endpoints of the configuration and serves their calls.

    Args:
        config: of the agent.
        reactor: connects, tells the time and wakes.
        sweep: the process's coarse timer. Started and stopped with this service.
        metrics, rng: counts; the source of chance.
        version: told to the nodes.
        end_of_turn: gathers what tunnels send; see `TunnelParts`.
        requests: takes calls that are over.
        policies, program: what the listeners let through; serves all of them in this process, not their addresses.
        failed: called for each attempt to register that came to nothing; see `DialParts`.
        proxies: through which nodes are reached; None for those of the configuration alone.
        tracer, inspector: record calls; None when nobody wants that.

    Attributes:
        agent_id, token: as configured, or made for this process; shown to nodes.
        listeners: in the order of the configuration; see `set_listeners`.
        all_registered: fires when every listener has a session for the first time.
    """

    name = "agent"

    def __init__(
        self,
        config: AgentConfig,
        *,
        reactor: DialReactor,
        sweep: ReactorSweep,
        metrics: Metrics,
        rng: AgentRandom,
        version: str,
        end_of_turn: EndOfTurn | None = None,
        requests: RequestWatch | None = None,
        policies: Policies | None = None,
        program: Program | None = None,
        failed: Callable[[FailedAttempt], None] | None = None,
        proxies: ForwardProxies | None = None,
        tracer: Tracer | None = None,
        inspector: IInspector | None = None,
    ) -> None:
        self._proxies = proxies or ForwardProxies(config.connect.proxy, {})
        self._policies = policies
        self._program = program
        self._requests = requests or unwatched()
        self._inspector = inspector
        self.agent_id = config.agent_id or f"agent-{rng.getrandbits(32):08x}"
        self.token = ShownToken(config.connect.token, reactor)
        self._tls = config.connect.tls
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
            failed=failed,
        )
        self.budget = Budget(config.limits.buffered_bytes)
        self._parts = TunnelParts(
            clock=reactor,
            sweep=sweep,
            metrics=metrics,
            budget=self.budget,
            head_limits=HeadLimits(head_bytes=config.limits.head_bytes, fields=config.limits.head_fields),
            max_calls=MAX_CALLS_PER_SESSION,
            version=version,
            end_of_turn=end_of_turn,
            v1=dialect_v1(config.limits.v1_body_bytes),
            tracer=tracer,
        )
        self._stopping: Deferred[None] | None = None
        self._counts = ServiceCounts(metrics)
        self._own_health = OwnHealth(sweep)
        self._indices = itertools.count()
        self.listeners = [self._listener(one) for one in config.listeners]
        self._others = OtherServers()
        self._leaving: dict[Listener, Deferred[None]] = {}  # those that are no more, until their last call is over
        self._retired: list[LocalService] = []  # of listeners that have another one now, likewise
        self._turn = 0
        self._missing = list(self.listeners)  # those that had no session yet
        add_gauges(self, metrics)
        sweep.each(self._measure)

    def _service(self, config: ListenerConfig) -> LocalService:
        parts = ServiceParts(
            config=config,
            tunnel=self._parts,
            agent_id=self.agent_id,
            reactor=self._reactor,
            program=self._program,
            requests=self._requests,
            policy=None if self._policies is None else self._policies.of(config),
            inspector=self._inspector,
        )
        return make_service(tell_inspector(watched(parts, self._dialling.rng, self._counts)))

    def _listener(self, config: ListenerConfig) -> Listener:
        def drain_requested(tunnel: ITunnel) -> None:
            connections.drain_requested(tunnel)

        def connect(url: str, slot: str, elsewhere: Sequence[str]) -> Deferred[TunnelClientProtocol]:
            return self._connect(listener, url, slot, elsewhere)

        forwarder = Forwarder(self._service(config), self._own_health, drain_requested)
        connections = ListenerConnections(
            self._dialling,
            endpoint=config.endpoint,
            index=next(self._indices),
            connections=self._config.connect.connections,
            connect=connect,
            changed=self._changed,
        )
        listener = Listener(config=config, connections=connections, forwarder=forwarder)
        listener.begin()
        return listener

    def _connect(
        self, listener: Listener, url: str, slot: str, elsewhere: Sequence[str]
    ) -> Deferred[TunnelClientProtocol]:
        config, connect, token = listener.config, self._config.connect, self.token.token
        return connect_tunnel(
            self._reactor,
            self._parts,
            url,
            endpoint_id=config.endpoint,
            agent_id=self.agent_id,
            slot=slot,
            elsewhere=elsewhere,
            token=token,
            share=config.share,
            speaks=config.protocol,
            affinity=config.affinity,
            tls=self._tls,
            proxy=self._proxies.for_url(url),
            acceptor=listener.forwarder,
            timeout_s=connect.timeout,
        ).addCallback(self._opened, listener, token)

    def _opened(self, tunnel: TunnelClientProtocol, listener: Listener, token: str) -> TunnelClientProtocol:
        self.token.opened(tunnel, token)
        tell_opened(tunnel, listener.health)
        self._others.session_opened(tunnel, listener.config)
        return tunnel

    def show(self, connect: ConnectConfig, *, other_certificate: bool = False) -> None:
        """Show nodes what a section says now: the token at once, a certificate from the next handshake on.

        Args:
            connect: the section of a configuration that was read again. Only its credentials are taken.
            other_certificate: the files that it names hold another certificate.
        """
        before, self._tls = self._tls, attrs.evolve(self._tls, cert=connect.tls.cert, key=connect.tls.key)
        other_certificate = other_certificate or before != self._tls
        other_token = connect.token != self.token.token
        if other_token:
            self.token.change(connect.token)
        if other_token or other_certificate:
            for listener in self.listeners:
                listener.connections.credential_changed(renew=other_certificate)

    # Its listeners

    def set_listeners(self, wanted: Sequence[ListenerConfig]) -> list[str]:
        """Serve these endpoints from now on. Listeners that are the same are left alone; one whose endpoint stays keeps
        its sessions, and only new calls go where it says now; one that is gone serves its last calls.

        Args:
            wanted: the listeners of a configuration that was read again.

        Returns:
            What that changed, in words.
        """
        same: defaultdict[ListenerConfig, list[Listener]] = defaultdict(list)
        for listener in reversed(self.listeners):
            same[listener.config].append(listener)
        places = [same[one].pop() if same[one] else None for one in wanted]
        left: defaultdict[str, list[Listener]] = defaultdict(list)
        for listener in reversed([one for ones in same.values() for one in ones]):
            left[listener.config.endpoint].append(listener)
        changed, added = [], []
        for at, config in enumerate(wanted):
            if places[at] is not None:
                continue
            if left[config.endpoint]:
                places[at] = listener = left[config.endpoint].pop()
                changed.append(difference(listener.config, config))
                self._change(listener, config)
            else:
                places[at] = self._listener(config)
                added.append(config.endpoint)
        removed = [listener for ones in left.values() for listener in ones]
        known = set(self.listeners)
        self.listeners = [one for one in places if one is not None]
        for listener in removed:
            leaving = Deferred.fromCoroutine(self._leave(listener))
            if not leaving.called:
                self._leaving[listener] = leaving
        for listener in self.listeners:
            if listener not in known and self.running:
                listener.connections.start()
        self._missing = list(self.listeners)
        self._changed()
        news = (("added", added), ("changed", changed), ("removed", [one.config.endpoint for one in removed]))
        return [told(verb, texts) for verb, texts in news if texts]

    def _change(self, listener: Listener, config: ListenerConfig) -> None:
        if (config.protocol, config.affinity) != (listener.config.protocol, listener.config.affinity):
            listener.connections.credential_changed(renew=True)  # nodes are told on new sessions
        self._retired.append(listener.change(config, self._service(config)))

    async def _leave(self, listener: Listener) -> None:
        """Serve the last calls of a listener, for as long as at a stop, and forget it."""
        draining = DeferredList([listener.connections.drain()], consumeErrors=True)
        first, _ = await race([draining, deferLater(self._reactor, self._config.grace_period)])
        if first != 0:
            log.warn("Cutting the last calls of a listener that is removed", endpoint=listener.config.endpoint)
        listener.connections.abort()
        listener.close()
        self._leaving.pop(listener, None)

    def _all(self) -> list[Listener]:
        """The listeners, and those that are leaving."""
        return [*self.listeners, *self._leaving]

    def _services(self) -> list[LocalService]:
        return [*(one.service for one in self._all()), *self._retired]

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
        for listener in self._all():
            listener.connections.abort()
            listener.close()
        for service in self._retired:
            service.close()

    async def _stop(self) -> None:
        config, clock = self._config, self._reactor
        first, now = set(self.calls()), clock.seconds()
        streams_until, end = now + config.drain_streams, now + config.grace_period
        if first:
            log.info("Waiting for calls in flight", calls=len(first), grace_s=config.grace_period)
        for listener in self.listeners:
            listener.connections.resign()
        last_call = end - config.grace_period * LAST_SHARE
        while clock.seconds() < last_call and awaited(self.calls(), first, clock.seconds() < streams_until):
            await deferLater(clock, DRAIN_LOOK_S)
        leaving = list(self._leaving.values())
        draining = DeferredList([*(one.connections.drain() for one in self.listeners), *leaving], consumeErrors=True)
        while not draining.called and clock.seconds() < end:
            for call in [call for call in self.calls() if call.never_ends]:
                call.shut()
            await deferLater(clock, DRAIN_LOOK_S)
        if not draining.called:
            log.warn("The grace period is over: cutting what is left", calls=self.calls_in_flight())
            draining.cancel()
        self.abort()
        self._sweep.stop()

    # What can be asked

    @property
    def ready(self) -> bool:
        """Every listener has a session for new calls, and we are not stopping."""
        return self._stopping is None and self.registered_count() == len(self.listeners)

    @property
    def stopping(self) -> bool:
        """Whether an ordered stop has begun."""
        return self._stopping is not None

    def sessions(self) -> list[ActiveConnection]:
        """The sessions that there are, in the order of the listeners."""
        return [session for listener in self._all() for session in listener.connections.sessions]

    def calls(self) -> Iterator[HeldCall]:
        """Calls that are being served."""
        return itertools.chain.from_iterable(service.calls for service in self._services())

    def calls_in_flight(self) -> int:
        """Calls that are being served."""
        return sum(len(service.calls) for service in self._services())

    def registered_count(self) -> int:
        """Listeners that have a session for new calls."""
        return sum(bool(listener.connections.current) for listener in self.listeners)

    def connection_count(self) -> int:
        """Connections to local services, idle ones too."""
        return sum(service.connection_count for service in self._services())

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
        held = sum(service.held_bytes() for service in self._services() if service.calls)
        self.budget.measure(held + sum(listener.connections.held_bytes() for listener in self._all()))
        self._retired = [service for service in self._retired if service.busy]
        for listener in self.listeners[self._turn :: LOOK_TURNS]:
            listener.connections.look(now)
        if self._turn == 0:
            self.token.look()
        self._turn = (self._turn + 1) % LOOK_TURNS
        self._metrics.lag(self._sweep.lag_s)

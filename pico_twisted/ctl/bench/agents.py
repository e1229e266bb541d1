"""The agents of a bench: each registers one endpoint, keeps it registered, and may leave and come back."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted import __version__
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.ctl.bench.echo import EchoService, body_of
from pico_twisted.ctl.bench.latencies import Latencies
from pico_twisted.ctl.bench.messages import message_of
from pico_twisted.ctl.bench.plan import MAX_HELD_BYTES, BenchPlan
from pico_twisted.ctl.bench.record import Churn
from pico_twisted.ctl.exits import NoAnswer
from pico_twisted.net.agent.connector import Connector, DialParts, explain_failure
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.tunnel import TunnelClientProtocol, TunnelParts, connect_tunnel
from pico_twisted.net.turn import EndOfTurn, Sweep

log = Logger()

START_TOGETHER: Final = 64
"""Agents that come at the same time: a node should be measured, and not run over."""
LEAVE_S: Final = 5.0
"""How long all agents may take to leave in order at the end."""
WEBSOCKET_GRACE_S: Final = 0.1
"""What an agent that leaves gives to WebSockets, which do not end by themselves."""
LOOK_S: Final = 0.02


class Agent:
    """One agent with one endpoint, and one session for it.

    Args:
        endpoint: its ID.
        agent_id: its own.
        url: of an upstream port.
        agents: who it belongs to.
    """

    def __init__(self, endpoint: str, agent_id: str, url: str, agents: Agents) -> None:
        self.endpoint = endpoint
        self.url = url
        self._agent_id = agent_id
        self._agents = agents
        self._connector: Connector | None = None
        self._left_at = math.nan

    @property
    def registered(self) -> bool:
        """Whether new calls may come."""
        return self._connector is not None and self._connector.current is not None

    def come(self) -> None:
        """Register, and stay registered."""
        agents = self._agents
        connector = self._connector = Connector(
            DialParts(urls=[self.url], clock=agents.reactor, rng=agents.rng, metrics=agents.metrics),
            endpoint=self.endpoint,
            slot="0",
            connect=self._connect,
            changed=self._changed,
        )
        self._service = EchoService(agents.body, agents.message, connector.drain_requested)
        connector.start()

    def leave(self, grace_s: float) -> Deferred[None]:
        """End in order, after the calls in progress or after `grace_s`. Fires when the session is gone."""
        connector, self._connector = self._connector, None
        if connector is None:
            return succeed(None)
        leaving = connector.drain().addTimeout(grace_s, self._agents.reactor)
        return leaving.addBoth(lambda _: connector.abort())

    def leave_and_come_back(self) -> None:
        """Leave as an agent that is started anew."""
        self._left_at = time.perf_counter()
        plan = self._agents.plan
        leaving = self.leave(WEBSOCKET_GRACE_S if plan.websocket else plan.timeout_s)
        leaving.addCallback(self._come_back)
        leaving.addErrback(lambda failure: log.failure("An agent could not come back", failure))

    def _come_back(self, _: None) -> None:
        if not self._agents.stopped:
            self.come()

    def _connect(self, url: str, slot: str, elsewhere: Sequence[str]) -> Deferred[TunnelClientProtocol]:
        agents = self._agents
        opening = connect_tunnel(
            agents.reactor,
            agents.parts,
            url,
            endpoint_id=self.endpoint,
            agent_id=self._agent_id,
            slot=slot,
            token=agents.plan.token,
            root_cas=agents.plan.ca,
            acceptor=self._service,
            timeout_s=agents.plan.timeout_s,
        )
        return opening.addErrback(partial(agents.not_registered, url))

    def _changed(self) -> None:
        if self.registered and not math.isnan(self._left_at):
            self._agents.back(time.perf_counter() - self._left_at)
            self._left_at = math.nan


class Agents:
    """All of them.

    Args:
        reactor: connects and tells the time.
        plan: what is wanted.

    Attributes:
        endpoints: the IDs that are registered: this run's own, so that no two runs meet.
        stopped: they are on their way out.
    """

    def __init__(self, reactor: Any, plan: BenchPlan) -> None:
        self.reactor = reactor
        self.plan = plan
        self.rng = random.SystemRandom()
        self.metrics = Metrics("agent", __version__)
        self.sweep = Sweep(reactor)
        self.stopped = False
        self.parts = TunnelParts(
            clock=reactor,
            sweep=self.sweep,
            metrics=self.metrics,
            budget=Budget(MAX_HELD_BYTES),
            head_limits=HeadLimits(),
            max_calls=plan.connections + 1,
            version=__version__,
            end_of_turn=EndOfTurn(reactor),
        )
        self.body = None if plan.response_bytes is None else body_of(plan.response_bytes)
        self.message = message_of(body_of(plan.request_bytes))
        run = f"bench-{self.rng.getrandbits(32):08x}"
        self.endpoints = [f"{run}-{number}" for number in range(plan.endpoints)]
        self._agents = [
            Agent(endpoint, f"{endpoint}-{place}", plan.upstreams[(number + place) % len(plan.upstreams)], self)
            for place in range(plan.agents)
            for number, endpoint in enumerate(self.endpoints)
        ]
        self._trouble: dict[str, str] = {}
        self._churn_call: IDelayedCall | None = None
        self._churn_at = 0.0
        self._turn = 0
        self._left = 0
        self._away = Latencies()

    @property
    def registered(self) -> int:
        """How many are registered."""
        return sum(agent.registered for agent in self._agents)

    async def start(self) -> None:
        """Register all of them, some at a time.

        Raises:
            NoAnswer: one could not be registered in time.
        """
        self.sweep.start()
        waiting = iter(self._agents)
        while group := list(islice(waiting, START_TOGETHER)):
            for agent in group:
                agent.come()
            until = self.reactor.seconds() + self.plan.timeout_s
            while late := [agent for agent in group if not agent.registered]:
                if self.reactor.seconds() > until:
                    raise NoAnswer(self._why_not(late[0].url))
                await deferLater(self.reactor, LOOK_S)

    def _why_not(self, url: str) -> str:
        words = self._trouble.get(url, f"no session within {self.plan.timeout_s:g} s")
        return f"no agent can register at {url}: {words}. Another upstream port: --upstream URL"

    def not_registered(self, url: str, failure: Failure) -> Failure:
        """An attempt failed: remember why, for whoever waits."""
        if not isinstance(failure.value, CancelledError):
            self._trouble[url] = explain_failure(failure)[2]
        return failure

    # Churn

    def start_churn(self) -> None:
        """Let agents leave and come back, one after the other, from now on and at the rate of the plan."""
        self._left = 0
        self._away = Latencies()
        if self.plan.churn:
            self._churn_at = self.reactor.seconds()
            self._next_churn()

    def end_churn(self) -> Churn:
        """What came of it."""
        if self._churn_call is not None:
            self._churn_call.cancel()
            self._churn_call = None
        return Churn(left=self._left, away=self._away)

    def back(self, seconds: float) -> None:
        """One is registered again."""
        self._away.add(seconds)

    def _next_churn(self) -> None:
        self._churn_at += 1 / self.plan.churn
        self._churn_call = self.reactor.callLater(max(0.0, self._churn_at - self.reactor.seconds()), self._churn)

    def _churn(self) -> None:
        self._next_churn()
        for _ in self._agents:
            agent = self._agents[self._turn % len(self._agents)]
            self._turn += 1
            if agent.registered:
                self._left += 1
                agent.leave_and_come_back()
                return

    # The end

    async def stop(self) -> None:
        """Let all of them leave in order; what is left after a while is cut."""
        self.stopped = True
        self.end_churn()
        await gatherResults([agent.leave(LEAVE_S) for agent in self._agents], consumeErrors=True)
        self.sweep.stop()

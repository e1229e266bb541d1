"""The agents of a bench: each registers one endpoint, keeps it registered, and may leave and come back."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted import __version__
from pico_twisted.config import ClientTlsConfig
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.ctl.bench.echo import EchoService
from pico_twisted.ctl.bench.latencies import Latencies
from pico_twisted.ctl.bench.messages import Content
from pico_twisted.ctl.bench.plan import MAX_HELD_BYTES, BenchPlan
from pico_twisted.ctl.exits import NoAnswer
from pico_twisted.net.agent.connector import Connector, DialParts
from pico_twisted.net.agent.dial_failures import explain_failure
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel import TunnelClientProtocol, TunnelParts, connect_tunnel

log = Logger()

START_TOGETHER: Final = 64
"""Agents that come at the same time: a node should be measured, and not run over."""
LEAVE_S: Final = 5.0
"""The seconds that all agents may take to leave in order at the end."""
WEBSOCKET_GRACE_S: Final = 0.1
"""The seconds that an agent that leaves gives to WebSockets, which do not end by themselves."""


class Agent:
    """One agent with one endpoint, and one session for it.

    Args:
        endpoint_id: of its endpoint.
        agent_id: its own.
        url: of an upstream port.
        agents: who it belongs to.
    """

    def __init__(self, endpoint_id: str, agent_id: str, url: str, agents: Agents) -> None:
        self.url = url
        self._endpoint_id = endpoint_id
        self._agent_id = agent_id
        self._agents = agents
        self._connector: Connector | None = None
        self._came: Deferred[None] = Deferred()

    @property
    def registered(self) -> bool:
        """Whether new calls may come."""
        return self._connector is not None and self._connector.current is not None

    def come(self) -> Deferred[None]:
        """Register, and stay registered. Fires when it is registered for the first time."""
        agents = self._agents
        came = self._came = Deferred()
        connector = self._connector = Connector(
            DialParts(urls=[self.url], clock=agents.reactor, rng=agents.rng, metrics=agents.parts.metrics),
            endpoint=self._endpoint_id,
            slot="0",
            connect=self._connect,
            changed=self._changed,
        )
        self._service = EchoService(agents.content, connector.drain_requested)
        connector.start()
        return came

    def leave(self, grace_s: float) -> Deferred[None]:
        """End in order, after the calls in progress or after `grace_s`. Fires when the session is gone."""
        connector, self._connector = self._connector, None
        if connector is None:
            return succeed(None)
        leaving = connector.drain().addTimeout(grace_s, self._agents.reactor)
        return leaving.addBoth(lambda _: connector.abort())

    def _connect(self, url: str, slot: str, elsewhere: Sequence[str]) -> Deferred[TunnelClientProtocol]:
        agents = self._agents
        opening = connect_tunnel(
            agents.reactor,
            agents.parts,
            url,
            endpoint_id=self._endpoint_id,
            agent_id=self._agent_id,
            slot=slot,
            token=agents.plan.token,
            tls=ClientTlsConfig(root_cas=agents.plan.ca),
            acceptor=self._service,
            timeout_s=agents.plan.timeout_s,
        )
        return opening.addErrback(partial(agents.not_registered, url))

    def _changed(self) -> None:
        if self.registered and not self._came.called:
            self._came.callback(None)


class Agents:
    """All of them.

    Args:
        reactor: connects and tells the time.
        plan: what is wanted.
        content: what their services answer.

    Attributes:
        endpoint_ids: those that are registered: this run's own, so that no two runs meet.
        stopped: they are on their way out.
    """

    def __init__(self, reactor: Any, plan: BenchPlan, content: Content) -> None:
        self.reactor = reactor
        self.plan = plan
        self.content = content
        self.rng = random.SystemRandom()
        self.sweep = ReactorSweep(reactor)
        self.parts = TunnelParts(
            clock=reactor,
            sweep=self.sweep,
            metrics=Metrics("agent", __version__),
            budget=Budget(MAX_HELD_BYTES),
            head_limits=HeadLimits(),
            max_calls=plan.connections + 1,
            version=__version__,
            end_of_turn=EndOfTurn(reactor),
        )
        run = f"bench-{self.rng.getrandbits(32):08x}"
        self.endpoint_ids = [f"{run}-{number}" for number in range(plan.endpoints)]
        self._agents = [
            Agent(endpoint_id, f"{endpoint_id}-{place}", plan.upstreams[(number + place) % len(plan.upstreams)], self)
            for place in range(plan.agents)
            for number, endpoint_id in enumerate(self.endpoint_ids)
        ]
        self.stopped = False
        self._left = 0
        self._away = Latencies()
        self._trouble: dict[str, str] = {}
        self._turns = itertools.cycle(self._agents)
        self._churning = LoopingCall.withCount(self._churn)
        self._churning.clock = reactor

    async def start(self) -> None:
        """Register all of them, some at a time.

        Raises:
            NoAnswer: one could not be registered in time.
        """
        self.sweep.start()
        for first in range(0, len(self._agents), START_TOGETHER):
            group = self._agents[first : first + START_TOGETHER]
            until = self.reactor.seconds() + self.plan.timeout_s
            for agent, came in [(agent, agent.come()) for agent in group]:
                try:
                    await came.addTimeout(max(0.0, until - self.reactor.seconds()), self.reactor)
                except TimeoutError:
                    raise NoAnswer(self._why_not(agent.url)) from None

    def _why_not(self, url: str) -> str:
        words = self._trouble.get(url, f"no session within {self.plan.timeout_s:g} s")
        return f"no agent can register at {url}: {words}. Another upstream port: --upstream URL"

    def not_registered(self, url: str, failure: Failure) -> Failure:
        """An attempt failed: remember why, for those who wait."""
        if not failure.check(CancelledError):
            self._trouble[url] = explain_failure(failure)[2]
        return failure

    def start_churn(self) -> None:
        """Let agents leave and come back, one after the other, from now on and at the rate of the plan."""
        if self.plan.churn:
            self._churning.start(1 / self.plan.churn, now=False)

    def end_churn(self) -> tuple[int, Latencies]:
        """Let none leave any more.

        Returns:
            How often one left, and the time from leaving to being registered again of each that is back.
        """
        if self._churning.running:
            self._churning.stop()
        return self._left, self._away

    def _churn(self, count: int) -> None:
        for _ in range(count):
            agent = next((agent for agent in islice(self._turns, len(self._agents)) if agent.registered), None)
            if agent is not None:
                self._left += 1
                leaving = Deferred.fromCoroutine(self._leave_and_come_back(agent))
                leaving.addErrback(lambda failure: log.failure("An agent could not come back", failure))

    async def _leave_and_come_back(self, agent: Agent) -> None:
        """Leave as an agent that is restarted."""
        left_at = time.perf_counter()
        await agent.leave(WEBSOCKET_GRACE_S if self.plan.websocket else self.plan.timeout_s)
        if not self.stopped:
            await agent.come()
            self._away.add(time.perf_counter() - left_at)

    async def stop(self) -> None:
        """Let all of them leave in order; what is left after a while is cut."""
        self.stopped = True
        self.end_churn()
        await gatherResults([agent.leave(LEAVE_S) for agent in self._agents], consumeErrors=True)
        self.sweep.stop()

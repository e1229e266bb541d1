"""Assembles an agent: its listeners, and what its admin port serves. Nothing here listens, and nothing has begun."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.web.server import Site
from zope.interface import implementer

from pico_twisted import __version__
from pico_twisted.config import AgentConfig
from pico_twisted.config.credentials import read_users
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.core.public_url import endpoint_url
from pico_twisted.net.access.access import Access
from pico_twisted.net.admin.app import AgentAdminApp
from pico_twisted.net.admin.entrance import AdminAccess
from pico_twisted.net.admin.logins import Logins
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.admin.origins import OwnHosts
from pico_twisted.net.admin.shapes.agents import AgentDetail, ListenerRow, SessionRow
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.admin.status import IAgentStatus
from pico_twisted.net.admin.watching import Memory, WatchingRoutes
from pico_twisted.net.agent.dial_failures import FailedAttempt
from pico_twisted.net.agent.listener import Listener
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.agent.serving.inspector import IInspector
from pico_twisted.net.agent.serving.local_service import Program
from pico_twisted.net.agent.serving.policy import Policies
from pico_twisted.net.observe.access_log import RequestLog
from pico_twisted.net.observe.events import EventMemory
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.requests import RequestWatch
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep


@implementer(IAgentStatus)
class AgentStatus:
    """What the admin port shows of an agent.

    Args:
        service: of the agent.
        clock: tells the time.
    """

    def __init__(self, service: AgentService, clock: IReactorTime) -> None:
        self._service = service
        self._clock = clock

    def ready(self) -> tuple[bool, str]:
        """Whether at least one listener is registered, and the agent does not stop; and if not, why."""
        if self._service.stopping:
            return False, "draining"
        registered = any(listener.connections.current for listener in self._service.listeners)
        return registered, "" if registered else "no listener is registered"

    def detail(self) -> AgentDetail:
        """The listeners and their sessions."""
        ready, reason = self.ready()
        listeners = tuple(self._row(listener) for listener in self._service.listeners)
        return AgentDetail(
            id=self._service.agent_id, version=__version__, ready=ready, reason=reason, listeners=listeners
        )

    def _row(self, listener: Listener) -> ListenerRow:
        current, now = listener.connections.current, self._clock.seconds()
        sessions = tuple(
            SessionRow(
                node=session.tunnel.node_id or "",
                url=session.url,
                current=session in current,
                age_s=round(now - session.opened_at, 3),
                rtt_s=round(session.tunnel.rtt_s or session.handshake_s / 2, 6),
                credential_until=session.tunnel.credential_until,
            )
            for session in listener.connections.sessions
        )
        config, health = listener.config, listener.health
        urls = (endpoint_url(session.tunnel.public_url, config.endpoint, config.protocol) for session in current)
        return ListenerRow(
            endpoint=config.endpoint,
            service=str(config.addr),
            protocol=config.protocol,
            url=next(filter(None, urls), ""),
            registered=bool(current),
            in_flight=len(listener.service.calls),
            out_for_s=None if health is None or health.out_for_s is None else round(health.out_for_s, 1),
            why_out="" if health is None else health.why,
            sessions=sessions,
        )


@attrs.frozen(kw_only=True, eq=False)
class Agent:
    """The parts of an agent.

    Attributes:
        reactor: of the process.
        metrics: of the process.
        service: registers the listeners and serves their calls.
        requests: takes calls that are over.
        events: what happened lately.
        access: who may use the admin port. Its files are to be read before that is open.
        admin_access: the same, as the port asks it.
        policies: what the listeners let through.
    """

    reactor: Any  # a whole reactor, or as much of one as a test needs
    metrics: Metrics
    service: AgentService
    requests: RequestWatch
    events: EventMemory
    access: Access
    admin_access: AdminAccess
    policies: Policies

    def admin_site(self, reload: Reload) -> Site:
        """The factory of an admin port; see `AgentAdminApp`."""
        status = AgentStatus(self.service, self.reactor)
        watching = WatchingRoutes(Memory(id=self.service.agent_id, requests=self.requests, events=self.events))
        app = AgentAdminApp(status, self.metrics, reload, self.admin_access, (watching,))
        return admin_site(app.resource(), self.reactor)


# `reactor` as of `Agent`
def build_agent(
    config: AgentConfig,
    reactor: Any,
    *,
    sweep: ReactorSweep,
    end_of_turn: EndOfTurn | None,
    access_log: RequestLog | None = None,
    events: EventMemory | None = None,
    proxies: ForwardProxies | None = None,
    tracer: Tracer | None = None,
    inspector: IInspector | None = None,
    program: Program | None = None,
    failed: Callable[[FailedAttempt], None] | None = None,
) -> Agent:
    """Put the parts of an agent together.

    Args:
        config: what it is told.
        reactor: of the process: tells the time, dials.
        sweep: the process's coarse timer.
        end_of_turn: gathers what tunnels send, as of `TunnelParts`.
        access_log: gets a line for each request.
        events: what happened lately; None where nobody tells.
        proxies: through which nodes are reached; None for those of the configuration alone.
        tracer: records requests; None when nobody wants that.
        inspector: looks at the calls; None when nobody does.
        program: serves all listeners in this process, instead of their addresses.
        failed: called for each attempt to register that came to nothing; see `DialParts`.
    """
    metrics = Metrics("agent", __version__)
    requests = RequestWatch(access_log, "tunnel", reactor.seconds)
    sweep.each(requests.turn)
    policies = Policies(lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work), metrics, sweep)
    policies.basic_auth.users, _ = read_users(config.listeners)
    service = AgentService(
        config,
        reactor=reactor,
        sweep=sweep,
        metrics=metrics,
        rng=random.SystemRandom(),
        version=__version__,
        end_of_turn=end_of_turn,
        requests=requests,
        policies=policies,
        proxies=proxies,
        tracer=tracer,
        inspector=inspector,
        program=program,
        failed=failed,
    )
    access = Access(config, reactor, metrics=metrics)
    admin_access = AdminAccess(
        name=f"Pico agent {service.agent_id}",
        gate=access.admin,
        hosts=OwnHosts(config.admin.names),
        logins=Logins(reactor.seconds, secrets.token_bytes),
        ports=access.gates,
    )
    metrics.info("pico_agent_info", "Which agent this is", agent_id=service.agent_id, version=__version__)
    return Agent(
        reactor=reactor,
        metrics=metrics,
        service=service,
        requests=requests,
        events=events or EventMemory(),
        access=access,
        admin_access=admin_access,
        policies=policies,
    )

"""Assembles an agent: its listeners, and what its admin port serves. Nothing here listens, and nothing has begun."""

from __future__ import annotations

import random
from typing import Any

import attrs
from twisted.web.server import Site

from pico_twisted import __version__
from pico_twisted.config import AgentConfig
from pico_twisted.net.admin.app import AgentAdminApp
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.turn import EndOfTurn, Sweep


@attrs.frozen(kw_only=True, eq=False)
class Agent:
    """The parts of an agent.

    Attributes:
        reactor: of the process.
        metrics: of the process.
        service: registers the listeners and serves their calls.
    """

    reactor: Any  # a whole reactor, or as much of one as a test needs
    metrics: Metrics
    service: AgentService

    def admin_site(self, reload: Reload) -> Site:
        """The factory of an admin port; see `AgentAdminApp`."""
        return admin_site(AgentAdminApp(self.metrics, reload).resource(), self.reactor)


# `reactor` as of `Agent`
def build_agent(
    config: AgentConfig,
    reactor: Any,
    *,
    sweep: Sweep,
    end_of_turn: EndOfTurn | None,
    access_log: AccessLog | None = None,
) -> Agent:
    """Put the parts of an agent together.

    Args:
        config: what it is told.
        reactor: of the process: tells the time, dials.
        sweep: the process's coarse timer.
        end_of_turn: gathers what tunnels send, as of `TunnelParts`.
        access_log: gets a line for each request.
    """
    metrics = Metrics("agent", __version__)
    service = AgentService(
        config,
        reactor=reactor,
        sweep=sweep,
        metrics=metrics,
        rng=random.SystemRandom(),
        version=__version__,
        end_of_turn=end_of_turn,
        access_log=access_log,
    )
    return Agent(reactor=reactor, metrics=metrics, service=service)

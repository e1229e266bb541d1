"""What can be seen of an agent in its metrics, beside what its calls count."""

from __future__ import annotations

from typing import Protocol

from pico_twisted.core.rpc.budget import Budget
from pico_twisted.net.agent.active_connection import ActiveConnection
from pico_twisted.net.agent.listener import Listener
from pico_twisted.net.agent.shown_token import ShownToken
from pico_twisted.net.observe.metrics import Metrics


class Measured(Protocol):
    """An agent, as far as it is measured: see `service.AgentService`."""

    budget: Budget
    listeners: list[Listener]
    token: ShownToken

    def sessions(self) -> list[ActiveConnection]:
        """The sessions that there are."""

    def registered_count(self) -> int:
        """Listeners that have a session for new calls."""

    def calls_in_flight(self) -> int:
        """Calls that are being served."""

    def connection_count(self) -> int:
        """Connections to local services, idle ones too."""


def add_gauges(agent: Measured, metrics: Metrics) -> None:
    """Show an agent in the metrics of its process."""
    gauge = metrics.gauge
    gauge("pico_agent_listeners", "Listeners of the configuration.", lambda: len(agent.listeners))
    gauge("pico_agent_registered", "Listeners that have a session for new calls.", agent.registered_count)
    gauge(
        "pico_agent_sessions", "Sessions with nodes, those that are being replaced too.", lambda: len(agent.sessions())
    )
    metrics.families(agent.token.expiry)
    gauge("pico_agent_calls", "Calls that are being served.", agent.calls_in_flight)
    gauge("pico_agent_service_connections", "Connections to local services, idle ones too.", agent.connection_count)
    gauge("pico_buffered_bytes", "Bytes held in memory for slow peers.", lambda: agent.budget.held)
    gauge(
        "pico_agent_services_out",
        "Listeners whose service is out.",
        lambda: sum(one.health is not None and one.health.out_for_s is not None for one in agent.listeners),
    )
    gauge(
        "pico_agent_service_waiting",
        "Requests that wait for a connection or a stream of their service.",
        lambda: sum(one.service.waiting for one in agent.listeners),
    )
    metrics.limit("buffered_bytes", agent.budget.limit, lambda: agent.budget.held)

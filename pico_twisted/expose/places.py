"""Where things are reached, as far as the agent and its nodes know."""

from __future__ import annotations

from collections.abc import Sequence

from pico_twisted.app.cli.banner import forwarding, proxy_url, ways_to_try
from pico_twisted.expose.own_node import OwnNode
from pico_twisted.expose.plan import ExposePlan, Target
from pico_twisted.expose.report import Place
from pico_twisted.net.agent.listener import Listener
from pico_twisted.net.agent.reached import reached_at
from pico_twisted.net.agent.service import AgentService


class Places:
    """Asks the agent of a run.

    Args:
        plan: of the run.
        service: the agent, whose listeners are the targets of the plan.
        own: the node in this process; None when it is another one.
    """

    def __init__(self, plan: ExposePlan, service: AgentService, own: OwnNode | None) -> None:
        self._plan = plan
        self._service = service
        self._own = own

    @property
    def registered(self) -> bool:
        """Whether all can be reached now."""
        return all(listener.connections.current for listener in self._service.listeners)

    def all(self) -> Sequence[Place]:
        """Where each target is reached."""
        return [self._of(*pair) for pair in zip(self._service.listeners, self._plan.targets, strict=True)]

    def _of(self, listener: Listener, target: Target) -> Place:
        endpoint, sessions = listener.config.endpoint, listener.connections.current
        if self._own is None:
            proxy = next(filter(None, (proxy_url(one.url, one.tunnel.proxy) for one in sessions)), "")
            public_url = next((one.tunnel.public_url for one in sessions), "")
        else:
            proxy, public_url = self._own.proxy_url, ""
        url = otherwise = ""
        if self._plan.protocol == "tcp":
            otherwise = forwarding(endpoint, proxy, public_url)
        elif not (url := reached_at(sessions, endpoint, "http")):
            otherwise = ways_to_try(endpoint, proxy, public_url)[-1]
        return Place(endpoint=endpoint, service=target.shown, url=url, otherwise=otherwise.strip())

    def nodes(self) -> str:
        """Which nodes it is registered at, for people."""
        if self._own is not None:
            return "a node in this process"
        ids = dict.fromkeys(session.tunnel.node_id or session.url for session in self._service.sessions())
        return f"{'node' if len(ids) == 1 else 'nodes'} {', '.join(ids)}"

    def round_trip_s(self) -> float:
        """The seconds to the nearest of them and back; 0 for one in this process."""
        if self._own is not None:
            return 0.0
        times = [session.tunnel.rtt_s or session.handshake_s / 2 for session in self._service.sessions()]
        return min(times, default=0.0)

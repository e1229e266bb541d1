"""What agents tell of their services, at the node: where it is kept, and how often other nodes hear of it.

A service that comes and goes makes its agent tell a few times a minute, but nobody has to be such an agent. What it
tells counts here at once, as it costs nothing. To other nodes an endpoint is told at most once a second for this: what
changes within that time is told at the end of it, as it is then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from pico_twisted.core.rpc.service_health import Standing, ToldHealth
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.routing.routes import AgentRoute

log = Logger()

APART_S: Final = 1.0
"""Seconds between two times that other nodes are told of the services of an endpoint."""


def is_out(route: AgentRoute) -> bool:
    """Whether the service of a registration is out, or on trial, which other nodes take for the same."""
    return route.standing is not Standing.UP


class ToldHealths:
    """Takes what agents tell of their services.

    Args:
        sweep: the process's coarse timer.
        changed: called with an endpoint whose registrations other nodes are to be told of.
    """

    def __init__(self, sweep: Sweep, changed: Callable[[str], object]) -> None:
        self._sweep = sweep
        self._changed = changed
        self._told_at: dict[str, float] = {}  # endpoints that were told within the last `APART_S`, the oldest first
        self._waiting: dict[str, None] = {}  # those of them of which there is more to tell
        self._warnings = RepeatedWarning()
        sweep.each(self._look)

    def told(self, route: AgentRoute, told: ToldHealth) -> None:
        """An agent says how the service of a registration is."""
        was_out, route.standing = is_out(route), told.standing
        now = self._sweep.now
        route.out_since = now - told.out_for_s
        if was_out == is_out(route):
            return
        self._log(route, now)
        endpoint = route.endpoint
        if endpoint in self._told_at:
            self._waiting[endpoint] = None
        else:
            self._told_at[endpoint] = now
            self._changed(endpoint)

    def _log(self, route: AgentRoute, now: float) -> None:
        out = is_out(route)
        suppressed = self._warnings.due(f"{route.endpoint} {route.agent_id} {out}", now)
        if suppressed is None:
            return
        facts = {"endpoint": route.endpoint, "agent_id": route.agent_id, "slot": route.slot, "suppressed": suppressed}
        if out:
            log.warn("The service of {endpoint} at {agent_id} is out: it is the last choice", **facts)
        else:
            log.info("The service of {endpoint} at {agent_id} is back", **facts)

    def _look(self, now: float) -> None:
        """Called in every turn of the sweep."""
        for endpoint, told_at in list(self._told_at.items()):
            if now - told_at < APART_S:
                return
            del self._told_at[endpoint]
            if endpoint in self._waiting:
                del self._waiting[endpoint]
                self._told_at[endpoint] = now
                self._changed(endpoint)

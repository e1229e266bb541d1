"""Which ways to an endpoint are unwell, as it is told: by the log, the metrics, and the status.

`core.routing.latency` says what a call costs on a way, for which one slow answer is enough. To be *named* slow takes
more: answers that are slow in the mean, or slower than they used to be while the agent itself says that it lacks CPU
(`agent_health`). Either way they are compared with those of the others, and found so several times in turn. What the
way to an agent takes on the network is no fault of the agent's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import attrs
from prometheus_client.core import Metric
from twisted.logger import Logger

from pico_twisted.core.routing.latency import Latency, level_of
from pico_twisted.core.routing.registry import Registry
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.metrics import levels
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.routing.agent_health import AgentHealth
from pico_twisted.net.routing.routes import AgentRoute, RouteParts
from pico_twisted.net.tunnel.interfaces import ITunnel

log = Logger()

NAMED_AFTER: Final = 3
"""How many looks in turn have to find a way slow, before that is told."""
NAMED_LEVEL: Final = 4
"""The level of the mean, 64 ms, from which on a way can be told to be slow."""
NAMED_LEVELS: Final = 2
"""How many levels, 4 times, it has to be slower than the best other one."""

SLOW: Final = "slow"
"""It answers, much later than others do."""
STALLED: Final = "stalled"
"""Calls wait, and none is answered."""
SILENT: Final = "silent"
"""Its session gives no sign of life."""


@attrs.frozen(kw_only=True)
class _Compared:
    """A way beside the others.

    Attributes:
        tunnel: the agent's session; None of the way to another node.
        best_s: what the best other one takes in the mean; None when nothing was measured of any.
    """

    tunnel: ITunnel | None
    best_s: float | None


class RouteStandings:
    """Judges the ways that do not answer well, once a second, and tells which are unwell.

    Args:
        parts: shared by all routes.
        sweep: the process's coarse timer.
        registry: the registrations of this node.
        nodes: what is seen of other nodes for an endpoint.
    """

    def __init__(
        self,
        parts: RouteParts,
        sweep: Sweep,
        registry: Registry[AgentRoute],
        nodes: Callable[[str], Iterable[Latency]],
    ) -> None:
        self._parts = parts
        self._sweep = sweep
        self._registry = registry
        self._nodes = nodes
        self._health = AgentHealth()
        self._found: Counter[Latency] = Counter()  # how many looks in turn found them to stand differently
        self._named: dict[Latency, str] = {}
        self._warnings = RepeatedWarning()
        parts.metrics.families(self._families)

    def of(self, latency: Latency) -> str:
        """What is told of a way: `SLOW`, `STALLED` or `SILENT`; empty when it is well."""
        return self._named.get(latency, "")

    def forget(self, latency: Latency) -> None:
        """A way is gone."""
        self._named.pop(latency, None)
        self._found.pop(latency, None)
        self._health.forget(latency)

    def look(self, seconds: float) -> None:
        """Judge all that did not answer well; called about once a second."""
        for latency in {**self._parts.unwell, **self._named}:
            compared = self._compared(latency)
            if not latency.held:
                self._health.forget(latency)
            elif compared.tunnel is not None and compared.best_s is not None:
                self._health.look(latency, compared.tunnel, compared.best_s, seconds)
            self._tell(latency, self._judged(latency, compared), compared.best_s or 0.0)

    def _compared(self, latency: Latency) -> _Compared:
        tunnel = None
        others = [one.usual_s for one in self._nodes(latency.endpoint) if one is not latency and _measured(one)]
        for route in self._registry.held(latency.endpoint):
            if route.latency is latency:
                tunnel = route.tunnel
            elif _measured(route.latency):
                others.append(_answers_in_s(route.latency, route.tunnel))
        return _Compared(tunnel=tunnel, best_s=min(others, default=None))

    def _judged(self, latency: Latency, compared: _Compared) -> str:
        if latency.silent:
            return SILENT
        if compared.best_s is None or not latency.held:
            return ""
        if latency.stalled:
            return STALLED
        best = level_of(compared.best_s)
        level = level_of(_answers_in_s(latency, compared.tunnel))
        in_the_mean = level >= max(NAMED_LEVEL, best + NAMED_LEVELS)
        return SLOW if in_the_mean or (latency.held > best and self._health.lacked_s(latency)) else ""

    def _tell(self, latency: Latency, found: str, others_s: float) -> None:
        named = self._named.get(latency, "")
        if found == named:
            self._found.pop(latency, None)
            return
        self._found[latency] += 1
        if self._found[latency] < NAMED_AFTER:
            return
        del self._found[latency]
        where = {"endpoint": latency.endpoint, "name": latency.name}
        suppressed = self._warnings.due(f"{latency.name} {latency.endpoint} {found}", self._sweep.now)
        if not found:
            del self._named[latency]
            if suppressed is not None:
                log.info("{name} is well again for {endpoint}", **where)
            return
        self._named[latency] = found
        if suppressed is not None:
            log.warn(
                "{name} is {standing} for {endpoint}: it gets few requests until it is well",
                standing=found,
                first_byte_s=round(latency.told_s, 3),
                others_s=round(others_s, 3),
                no_cpu_s=self._health.lacked_s(latency),
                suppressed=suppressed,
                **where,
            )

    def _families(self) -> Iterator[Metric]:
        counts = Counter(self._named.values())
        yield levels(
            "pico_routes_unwell",
            "Ways to an endpoint that get few requests: slow, stalled (answer nothing) or silent (no sign of life).",
            "standing",
            {standing: counts[standing] for standing in (SLOW, STALLED, SILENT)},
        )


def _measured(latency: Latency) -> bool:
    return latency.answered_at != -math.inf


def _answers_in_s(latency: Latency, tunnel: ITunnel | None) -> float:
    """The mean time to the first byte, without what the way to the agent takes."""
    return max(0.0, latency.usual_s - (0.0 if tunnel is None else tunnel.near_rtt_s))

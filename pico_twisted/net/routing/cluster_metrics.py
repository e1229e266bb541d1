"""What the metrics say of the other nodes and of the agents of this one, beside what is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from pico_twisted.core.routing.registry import Registry
from pico_twisted.core.routing.table import ACTIVE, DRAINING, ClusterTable
from pico_twisted.net.observe.metrics import levels
from pico_twisted.net.observe.metrics.labels import OTHER
from pico_twisted.net.routing.routes import AgentRoute
from pico_twisted.net.routing.service_health import is_out

MOST_VERSIONS: Final = 16
"""Most versions of agents with a series of their own: those with the most sessions. Agents tell what they like."""

LINK_STATES: Final = ("open", "failing", "idle")
"""How links to other nodes stand: open, not to be opened lately, not needed yet."""


def link_states(table: ClusterTable, standing: Callable[[str], str]) -> Iterator[Metric]:
    """How many links to other nodes that are there stand how.

    Args:
        table: the other nodes.
        standing: how the link to one stands, as of `Links.standing`.
    """
    counts = Counter(
        {"open": "open", "": "idle"}.get(standing(node_id), "failing")
        for node_id, node in table.nodes.items()
        if node.status in (ACTIVE, DRAINING)
    )
    yield levels(
        "pico_links",
        "Links to other nodes that are there: open, failing, or idle because none was needed.",
        "state",
        {state: counts[state] for state in LINK_STATES},
    )


def services_out(registry: Registry[AgentRoute], table: ClusterTable) -> Iterator[Metric]:
    """How many sessions of agents there are whose service is out, and how many endpoints nobody serves for that.

    Such an endpoint has agents at this node, and the service is out at all of them, as it is at those of other nodes.
    Each node that has agents of it counts it.

    Args:
        registry: the registrations of this node.
        table: the other nodes.
    """
    out = Counter(route.endpoint for route in registry if is_out(route))
    yield GaugeMetricFamily(
        "pico_upstream_sessions_out", "Sessions of agents on this node whose service is out.", value=out.total()
    )
    served = (len(registry.held(endpoint)) > count or table.has_service(endpoint) for endpoint, count in out.items())
    yield GaugeMetricFamily(
        "pico_endpoints_out",
        "Endpoints with agents on this node whose service is out at all agents, at this node and others.",
        value=len(out) - sum(served),
    )


def agent_versions(versions: Iterable[str]) -> Iterator[Metric]:
    """How many sessions there are of agents of each version, and which is the oldest one.

    Args:
        versions: of the agents, one for each session.
    """
    counts = Counter(versions)
    shown = dict(counts.most_common(MOST_VERSIONS - 1 if len(counts) > MOST_VERSIONS else MOST_VERSIONS))
    if len(counts) > len(shown):
        shown[OTHER] = counts.total() - sum(shown.values())
    yield levels(
        "pico_upstream_sessions_by_version",
        "Sessions of agents on this node, by what the agent says its version is.",
        "version",
        shown,
    )
    oldest = GaugeMetricFamily(
        "pico_upstream_oldest_version_info", "The oldest version of an agent with a session here.", labels=("version",)
    )
    if counts:
        oldest.add_metric((min(counts, key=_age),), 1)
    yield oldest


def _age(version: str) -> tuple[int, ...]:
    """What versions are put in order by: their numbers. One without any is the oldest of all."""
    return tuple(int(number) for number in re.findall(r"[0-9]{1,9}", version))

"""Rows of the page's tables, out of what nodes tell: small, and the same as before while what is read is the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from pico_twisted.net.admin.page.tables import Row, Table
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.nodes import NodeRow
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.summary import NodeSummary

_NOT_IN_A_ROW: Final = ("id", "status", "version", "at_s", "over_s", "endpoints", "cordoned")
_ALIKE_S: Final = 2.0  # two accounts of one moment, by a clock that was read twice


def at(seconds: float) -> float:
    """A time as it is told."""
    return round(seconds, 3)


def _figure(value: float | None) -> float | None:
    """A figure with as many digits as are shown, and one more."""
    return None if value is None else float(f"{value:.4g}")


def node_rows(nodes: Iterable[NodeRow], summaries: Mapping[str, NodeSummary], whys: Mapping[str, str]) -> Table:
    """The nodes by their IDs.

    Args:
        nodes: as this node knows them.
        summaries: what they told of themselves, by node ID.
        whys: why others told nothing, by node ID.
    """
    rows: dict[str, Row] = {}
    for node in nodes:
        row: dict[str, Any] = to_json(node)  # what JSON can hold
        del row["id"]
        row["state"] = row.pop("intake") or row.pop("status")
        row["why"] = whys.get(node.id, "")
        if (summary := summaries.get(node.id)) is not None:
            told = to_json(attrs.evolve(summary, endpoints={}))  # which have a table of their own
            for name in _NOT_IN_A_ROW:
                del told[name]
            row.update((name, _figure(value) if isinstance(value, float) else value) for name, value in told.items())
            row["started_at_s"] = round(summary.started_at_s)
        row.pop("status", None)
        rows[node.id] = row
    return rows


def rate_rows(summaries: Mapping[str, NodeSummary]) -> Table:
    """How often endpoints are asked for at nodes, by `node endpoint`; those without a request are left out."""
    return {
        f"{node} {endpoint}": {
            "requests_per_s": _figure(rate.requests_per_s),
            "failed_per_s": _figure(rate.failed_per_s),
            "p50_s": _figure(rate.p50_s),
            "p99_s": _figure(rate.p99_s),
            "first_byte_p99_s": _figure(rate.first_byte_p99_s),
            "in_flight": rate.in_flight,
        }
        for node, summary in summaries.items()
        for endpoint, rate in summary.endpoints.items()
        if rate.requests_per_s or rate.in_flight
    }


def session_rows(agents: Agents, at_s: float, before: Table) -> Table:
    """Sessions of agents at one node, by `agent node endpoint`, and a number when there are several.

    Args:
        agents: as the node told them.
        at_s: when that was.
        before: what this returned for the node the last time.
    """
    rows: dict[str, Row] = {}
    for session in agents.sessions:
        key = alone = f"{session.agent} {session.node} {session.endpoint}"
        number = 1
        while key in rows:
            number += 1
            key = f"{alone} {number}"
        rows[key] = {
            "address": session.address,
            "version": session.version,
            "protocol": session.protocol,
            "url": session.url,
            "since_s": _steady(session.since_s, at_s, before.get(key, {}).get("since_s")),
            "rtt_s": _figure(session.rtt_s),
            "in_flight": session.in_flight,
            "draining": session.draining,
            "out_since_s": _steady(session.out_for_s, at_s, before.get(key, {}).get("out_since_s")),
            "standing": session.standing,
            "first_byte_s": _figure(session.first_byte_s),
            "subject": session.subject,
        }
    return rows


def _steady(for_s: float | None, at_s: float, before: float | None) -> float | None:
    """When something began that goes on for so long; as told before where that is about the same."""
    if for_s is None:
        return None
    since_s = round(at_s - for_s)
    return before if before is not None and abs(before - since_s) < _ALIKE_S else since_s

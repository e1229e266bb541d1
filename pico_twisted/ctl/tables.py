"""Status shapes as text for people: tables whose columns stand in line, however wide they get.

A cell is never empty and never cut. Where a node's ports are on one host, the host is written once: so the list of
nodes fits a terminal of 80 columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from pico_twisted.core.text import escaped
from pico_twisted.net.admin.shapes import GossipDetail, GossipRow, ListenerRow, NodeDetail, NodeRow

NOTHING: Final = "-"
"""Stands for what is not known or does not apply, so that no column is missing in a line."""

MINUTE_S: Final = 60
HOUR_S: Final = 3600


def nodes_table(nodes: Iterable[NodeRow]) -> str:
    """The list of nodes."""
    rows = [
        _node_facts(node)
        | {"admin": _beside(node.admin_addr, node.proxy_addr), "gossip": _beside(node.gossip_addr, node.proxy_addr)}
        for node in nodes
    ]
    columns = ("id", "status", "proxy", "admin", "gossip", "version", "endpoints", "upstreams")
    return _table(columns, rows, numbers=("endpoints", "upstreams"))


def node_page(node: NodeDetail) -> str:
    """One node with its endpoints."""
    page = _facts(_node_facts(node.row()))
    return f"{page}\n\n{endpoints_table(node.endpoints)}" if node.endpoints else page


def endpoints_table(endpoints: Mapping[str, int]) -> str:
    """Endpoint IDs with the number of their registrations."""
    rows = [{"endpoint": endpoint, "upstreams": count} for endpoint, count in sorted(endpoints.items())]
    return _table(("endpoint", "upstreams"), rows, numbers=("upstreams",))


def listeners_table(listeners: Iterable[ListenerRow]) -> str:
    """The listeners of an agent, with the nodes that send them requests."""
    rows = [
        {
            "endpoint": one.endpoint,
            "service": one.service,
            "nodes": ", ".join(session.node or session.url for session in one.sessions if session.current),
            "rtt": ", ".join(f"{session.rtt_s * 1000:.1f}ms" for session in one.sessions if session.current),
            "in flight": one.in_flight,
        }
        for one in listeners
    ]
    return _table(("endpoint", "service", "nodes", "rtt", "in flight"), rows, numbers=("in flight",))


def gossip_table(nodes: Iterable[GossipRow]) -> str:
    """What gossip knows of the nodes. Floors and tombstones are left to the page of one node."""
    columns = ("id", "status", "generation", "heartbeat", "version", "entries", "suspicion", "heard")
    return _table(columns, map(_gossip_facts, nodes), numbers=columns[2:])


def gossip_page(node: GossipDetail) -> str:
    """What gossip knows of one node, with its keys."""
    page = _facts(_gossip_facts(node.row()))
    rows = [{"key": key, "value": entry.value, "version": entry.version} for key, entry in sorted(node.keys.items())]
    return f"{page}\n\n{_table(('key', 'value', 'version'), rows, numbers=('version',))}" if rows else page


def count_of(statuses: Iterable[str]) -> str:
    """How many nodes there are, and how they are: `3 active nodes`, or `3 nodes: 2 active, 1 draining`."""
    counts = Counter(map(escaped, statuses))
    total = counts.total()
    nodes = "node" if total == 1 else "nodes"
    if len(counts) == 1:
        return f"{total} {counts.most_common()[0][0]} {nodes}"
    return f"{total} {nodes}: {', '.join(f'{count} {status}' for status, count in counts.most_common())}"


def _node_facts(node: NodeRow) -> dict[str, object]:
    return {name.removesuffix("_addr"): value for name, value in attrs.asdict(node).items()}


def _gossip_facts(node: GossipRow) -> dict[str, object]:
    facts = attrs.asdict(node) | {"suspicion": f"{node.suspicion:.1f}", "heard": _heard(node)}
    return {name: value for name, value in facts.items() if name not in ("local", "heard_s")}


def _beside(address: str, other: str) -> str:
    """An address without its host, when the other one has told that."""
    host, colon, port = address.rpartition(":")
    return colon + port if colon and host == other.rpartition(":")[0] else address


def _heard(node: GossipRow) -> str:
    if node.local:
        return "local"
    return NOTHING if node.heard_s is None else _span(node.heard_s)


def _span(seconds: float) -> str:
    """A time as short as can be, which is enough to compare it by."""
    if seconds < 100:
        return f"{seconds:.1f}s"
    if seconds < 100 * MINUTE_S:
        return f"{seconds / MINUTE_S:.0f}m"
    return f"{seconds / HOUR_S:.0f}h"


def _facts(facts: Mapping[str, object]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in facts.items())


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, object]], numbers: Sequence[str]) -> str:
    """Lines with two blanks between the columns; those of numbers are set to the right."""
    cells = {column: [column.upper()] for column in columns}
    for row in rows:
        for column in columns:
            cells[column].append(_cell(row[column]))
    for column, found in cells.items():
        width = max(map(len, found))
        cells[column] = [cell.rjust(width) if column in numbers else cell.ljust(width) for cell in found]
    return "\n".join("  ".join(line).rstrip() for line in zip(*cells.values(), strict=True))


def _cell(value: object) -> str:
    return escaped(str(value)) or NOTHING

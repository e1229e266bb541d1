"""Status shapes as text for people: tables whose columns stand in line, however wide they get.

A cell is never empty and never cut. Where a node's ports are on one host, the host is written once: so the list of
nodes fits a terminal of 80 columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pico_twisted.core.text import escaped
from pico_twisted.net.admin.shapes import GossipDetail, GossipRow, NodeDetail, NodeRow

NOTHING: Final = "-"
"""Stands for what is not known or does not apply, so that no column is missing in a line."""

MINUTE_S: Final = 60
HOUR_S: Final = 3600


def nodes_table(nodes: Iterable[NodeRow]) -> str:
    """The list of nodes."""
    rows = [
        (
            node.id,
            node.status,
            node.proxy_addr,
            _beside(node.admin_addr, node.proxy_addr),
            _beside(node.gossip_addr, node.proxy_addr),
            node.version,
            str(node.endpoints),
            str(node.upstreams),
        )
        for node in nodes
    ]
    headings = ("ID", "STATUS", "PROXY", "ADMIN", "GOSSIP", "VERSION", "ENDPOINTS", "UPSTREAMS")
    return _table(headings, rows, numbers=("ENDPOINTS", "UPSTREAMS"))


def node_page(node: NodeDetail) -> str:
    """One node with its endpoints."""
    row = node.row()
    facts = {
        "id": node.id,
        "status": node.status,
        "proxy": node.proxy_addr,
        "admin": node.admin_addr,
        "gossip": node.gossip_addr,
        "version": node.version,
        "endpoints": str(row.endpoints),
        "upstreams": str(row.upstreams),
    }
    return _facts(facts) + ("\n\n" + endpoints_table(node.endpoints) if node.endpoints else "")


def endpoints_table(endpoints: Mapping[str, int]) -> str:
    """Endpoint IDs with the number of their registrations."""
    rows = [(endpoint, str(count)) for endpoint, count in sorted(endpoints.items())]
    return _table(("ENDPOINT", "UPSTREAMS"), rows, numbers=("UPSTREAMS",))


def gossip_table(nodes: Iterable[GossipRow]) -> str:
    """What gossip knows of the nodes. Floors and tombstones are left to the page of one node."""
    rows = [
        (
            node.id,
            node.status,
            str(node.generation),
            str(node.heartbeat),
            str(node.version),
            str(node.entries),
            f"{node.suspicion:.1f}",
            _heard(node),
        )
        for node in nodes
    ]
    headings = ("ID", "STATUS", "GENERATION", "HEARTBEAT", "VERSION", "ENTRIES", "SUSPICION", "HEARD")
    return _table(headings, rows, numbers=headings[2:])


def gossip_page(node: GossipDetail) -> str:
    """What gossip knows of one node, with its keys."""
    row = node.row()
    facts = {
        "id": node.id,
        "generation": str(node.generation),
        "status": node.status,
        "heartbeat": str(node.heartbeat),
        "version": str(node.version),
        "floor": str(node.floor),
        "entries": str(row.entries),
        "tombstones": str(node.tombstones),
        "suspicion": f"{node.suspicion:.1f}",
        "heard": _heard(row),
    }
    rows = [(key, str(entry.value), str(entry.version)) for key, entry in sorted(node.keys.items())]
    return _facts(facts) + ("\n\n" + _table(("KEY", "VALUE", "VERSION"), rows, numbers=("VERSION",)) if rows else "")


def count_of(statuses: Iterable[str]) -> str:
    """How many nodes there are, and how they are: `3 active nodes`, or `3 nodes: 2 active, 1 draining`."""
    counts = Counter(map(escaped, statuses))
    total = counts.total()
    nodes = "node" if total == 1 else "nodes"
    if len(counts) == 1:
        return f"{total} {counts.most_common()[0][0]} {nodes}"
    return f"{total} {nodes}: {', '.join(f'{count} {status}' for status, count in counts.most_common())}"


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


def _facts(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in facts.items())


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str]) -> str:
    """Lines with two blanks between the columns; those of numbers are set to the right."""
    lines = [tuple(headings), *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    justify = [str.rjust if heading in numbers else str.ljust for heading in headings]
    return "\n".join(
        "  ".join(place(cell, width) for place, cell, width in zip(justify, line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: str) -> str:
    return escaped(value) or NOTHING

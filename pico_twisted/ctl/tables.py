"""Status shapes as text for people: tables whose columns stand in line, however wide they get.

A cell is never empty and never cut. Where a node's ports are on one host, the host is written once. A table that is
too wide for the terminal is written as a block of lines for each row, so nothing wraps in the middle of a word.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.public_url import endpoint_url
from pico_twisted.core.routing.table import DRAINING
from pico_twisted.core.text import escaped, milliseconds, span_text
from pico_twisted.ctl.versions import older
from pico_twisted.net.admin.shapes.access import KnownAs
from pico_twisted.net.admin.shapes.agents import AgentSession, ListenerRow
from pico_twisted.net.admin.shapes.gossip import GossipDetail, GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow
from pico_twisted.net.admin.shapes.revocations import RevocationRow, Revoked

NOTHING: Final = "-"
"""Stands for what is not known or does not apply, so that no column is missing in a line."""

MINUTE_S: Final = 60
HOUR_S: Final = 3600


def nodes_table(nodes: Sequence[NodeRow]) -> str:
    """The list of nodes, of which the first one is the one that was asked."""
    rows = [
        _node_facts(node)
        | {"admin": _beside(node.admin_addr, node.proxy_addr), "gossip": _beside(node.gossip_addr, node.proxy_addr)}
        for node in nodes
    ]
    columns = ("id", "status", "proxy", "admin", "gossip", "version", "endpoints", "upstreams", "link")
    heading = count_of(map(stands, nodes)) + (f", seen by {escaped(nodes[0].id)}" if nodes else "")
    return f"{heading}\n{table(columns, rows, numbers=('endpoints', 'upstreams'))}"


def node_page(node: NodeDetail) -> str:
    """One node with its endpoints."""
    facts = _node_facts(node.row())
    page = _facts(facts | {"public url": node.public_url} if node.public_url else facts)
    if not node.endpoints:
        return page
    return f"{page}\n\nendpoints of node {escaped(node.id)}\n{endpoints_table(node.endpoints, node.public_url)}"


def endpoints_table(endpoints: Mapping[str, int], public_url: str) -> str:
    """Endpoint IDs with the number of their registrations, and with their URLs where there are any."""
    rows = [
        {"endpoint": endpoint, "upstreams": count, "url": endpoint_url(public_url, endpoint)}
        for endpoint, count in sorted(endpoints.items())
    ]
    return table(("endpoint", "upstreams", *_if_any("url", rows)), rows, numbers=("upstreams",))


def listeners_table(listeners: Iterable[ListenerRow]) -> str:
    """The listeners of an agent, with the nodes that send them requests."""
    rows = [
        {
            "endpoint": one.endpoint,
            "service": one.service,
            "protocol": one.protocol,
            "nodes": ", ".join(session.node or session.url for session in one.sessions if session.current),
            "rtt": ", ".join(f"{session.rtt_s * 1000:.1f}ms" for session in one.sessions if session.current),
            "in flight": one.in_flight,
            "service out": "" if one.out_for_s is None else f"for {span_text(one.out_for_s)}: {one.why_out}",
            "credential until": _moment(
                min((at for session in one.sessions if (at := session.credential_until)), default=0)
            ),
            "url": one.url,
        }
        for one in listeners
    ]
    more = (*_if_any("service out", rows), *_if_any("credential until", rows), *_if_any("url", rows))
    columns = ("endpoint", "service", *_unless_http(rows), "nodes", "rtt", "in flight", *more)
    return table(columns, rows, numbers=("in flight",))


def _moment(seconds: float) -> str:
    """A time in seconds since 1970, for people; nothing for 0."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else ""
    except (ValueError, OverflowError, OSError):  # a server may say anything
        return "far away"


def held_table(held: Mapping[str, Mapping[str, int]], public_url: str) -> str:
    """The endpoints of the cluster: the number of their registrations, the nodes that hold them, and their URLs."""
    rows = [
        {
            "endpoint": endpoint,
            "upstreams": sum(nodes.values()),
            "nodes": _list(nodes),
            "url": endpoint_url(public_url, endpoint),
        }
        for endpoint, nodes in sorted(held.items())
    ]
    return table(("endpoint", "upstreams", "nodes", *_if_any("url", rows)), rows, numbers=("upstreams",))


def agents_table(sessions: Iterable[AgentSession], latest: str = "") -> str:
    """The agents of the cluster, each in one line, by their IDs. What is older than `latest` is marked."""
    by_agent: dict[str, list[AgentSession]] = {}
    for session in sessions:
        by_agent.setdefault(session.agent, []).append(session)
    if not by_agent:
        return "no agent has registered an endpoint at a node that answers"
    rows = [
        {
            "agent": agent,
            "address": _list(one.address.rpartition(":")[0] for one in found),
            "version": _list(_marked(one.version, latest) for one in found),
            "since": span_text(max(one.since_s for one in found)),
            "rtt": _round_trip(min((one.rtt_s for one in found if one.rtt_s is not None), default=None)),
            "nodes": _list(one.node for one in found),
            "endpoints": _list(_with_state(one) for one in found),
            "subject": _list(one.subject for one in found),
        }
        for agent, found in sorted(by_agent.items())
    ]
    columns = ("agent", "address", "version", "since", "rtt", "nodes", "endpoints", *_if_any("subject", rows))
    return f"agents of the cluster\n{table(columns, rows, numbers=('since', 'rtt'))}"


def _marked(version: str, latest: str) -> str:
    return f"{version} (old)" if older(version, latest) else version


def _with_state(session: AgentSession) -> str:
    """Where clients reach the endpoint of a session, and that its service is out, or that it is slow, if it is."""
    state = session.standing if session.out_for_s is None else "service out"
    return f"{session.url or _named(session)}{f' ({state})' if state else ''}"


def _state(session: AgentSession) -> str:
    if session.draining:
        return "draining"
    if session.out_for_s is not None:
        return f"service out for {span_text(session.out_for_s)}"
    if session.standing and session.first_byte_s is not None:
        return f"{session.standing} ({session.first_byte_s * 1000:.0f} ms to the first byte)"
    return "active"


def _named(session: AgentSession) -> str:
    """An endpoint that has no URL, with what it speaks if that is not HTTP."""
    return session.endpoint if session.protocol == "http" else f"{session.endpoint} ({session.protocol})"


def sessions_table(endpoint: str, sessions: Sequence[AgentSession]) -> str:
    """Who serves one endpoint: a line for each session."""
    if not sessions:
        return f"no agent serves {escaped(endpoint)}"
    rows = [
        {
            "agent": one.agent,
            "address": one.address,
            "version": one.version,
            "since": span_text(one.since_s),
            "rtt": _round_trip(one.rtt_s),
            "node": one.node,
            "protocol": one.protocol,
            "in flight": one.in_flight,
            "state": _state(one),
            "subject": one.subject,
        }
        for one in sorted(sessions, key=lambda one: (one.agent, one.node))
    ]
    more = (*_unless_http(rows), "in flight", "state", *_if_any("subject", rows))
    columns = ("agent", "address", "version", "since", "rtt", "node", *more)
    numbers = ("since", "rtt", "in flight")
    url = next((f", {escaped(one.url)}" for one in sessions if one.url), "")
    return f"agents that serve {escaped(endpoint)}{url}\n{table(columns, rows, numbers=numbers)}"


def known_table(known: Mapping[str, KnownAs]) -> str:
    """Who a credential is of at each port."""
    rows = []
    for port, one in sorted(known.items()):
        if not one.authenticates:
            told = "all, to everybody"
        else:
            told = " ".join(one.rules) or one.refused or "nothing"
        expires = "" if not one.subject else "never" if one.expires_at is None else _moment(one.expires_at)
        rows.append({"port": port, "subject": one.subject, "kind": one.kind, "expires": expires, "allowed": told})
    return table(("port", "subject", "kind", "expires", "allowed"), rows, numbers=())


def tokens_table(tokens: Iterable[Subject]) -> str:
    """Tokens, with their rules."""
    rows = [{"name": one.name, "rules": " ".join(map(str, one.rules))} for one in tokens]
    return table(("name", "rules"), rows, numbers=())


def _if_any(column: str, rows: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    """The column, when a row has something in it."""
    return (column,) if any(row[column] for row in rows) else ()


def _unless_http(rows: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    """The column of protocols, when there is another one than HTTP."""
    return ("protocol",) if any(row["protocol"] != "http" for row in rows) else ()


def revocations_table(rows: Iterable[RevocationRow], now_s: float) -> str:
    """Who is revoked, since when and for how long."""
    shown = [
        {
            "kind": "agent" if row.kind == "agent" else "credential",
            "name": row.name,
            "since": span_text(max(0.0, now_s - row.at_s)),
            "ends in": span_text(max(0.0, row.until_s - now_s)) if row.until_s else NOTHING,
            "by": row.by,
        }
        for row in rows
    ]
    return table(("kind", "name", "since", "ends in", "by"), shown, numbers=("since", "ends in"))


def revoked_words(found: Revoked) -> str:
    """What came of a revocation."""
    done = "is revoked" if found.revoked else "is no longer revoked"
    places = (
        f"node {_list(found.nodes)}" if len(found.nodes) == 1 else f"{len(found.nodes)} nodes: {_list(found.nodes)}"
    )
    text = escaped(f"{found.name} {done} at {places}")
    return f"{text}\nsessions and requests that this ends: {found.ended or 'none'}" if found.revoked else text


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted({name for name in names if name}))


def _round_trip(seconds: float | None) -> str:
    return NOTHING if seconds is None else milliseconds(seconds)


def gossip_table(nodes: Sequence[GossipRow]) -> str:
    """What gossip knows of the nodes. Floors and tombstones are left to the page of one node."""
    columns = ("id", "status", "generation", "heartbeat", "written", "entries", "suspicion", "heard")
    heading = f"nodes as the gossip of node {escaped(nodes[0].id)} knows them" if nodes else "no node"
    return f"{heading}\n{table(columns, map(_gossip_facts, nodes), numbers=columns[2:])}"


def gossip_page(node: GossipDetail) -> str:
    """What gossip knows of one node, with its keys."""
    page = _facts(_gossip_facts(node.row()))
    rows = [{"key": key, "value": entry.value, "written": entry.version} for key, entry in sorted(node.keys.items())]
    return f"{page}\n\n{table(('key', 'value', 'written'), rows, numbers=('written',))}" if rows else page


def count_of(statuses: Iterable[str]) -> str:
    """How many nodes there are, and how they are: `3 active nodes`, or `3 nodes: 2 active, 1 draining`."""
    counts = Counter(map(escaped, statuses))
    total = counts.total()
    nodes = "node" if total == 1 else "nodes"
    if len(counts) == 1:
        return f"{total} {counts.most_common()[0][0]} {nodes}"
    return f"{total} {nodes}: {', '.join(f'{count} {status}' for status, count in counts.most_common())}"


def stands(node: NodeRow) -> str:
    """The status of a node for people: who took it out, they know as well, says more than that it drains."""
    return node.intake if node.intake and node.status == DRAINING else node.status


def _node_facts(node: NodeRow) -> dict[str, object]:
    facts = {name.removesuffix("_addr"): value for name, value in attrs.asdict(node).items() if name != "intake"}
    return facts | {"status": stands(node)}


def _gossip_facts(node: GossipRow) -> dict[str, object]:
    facts = attrs.asdict(node) | {"suspicion": f"{node.suspicion:.1f}", "heard": _heard(node)}
    shown = {name: value for name, value in facts.items() if name not in ("local", "heard_s")}
    # a version is a program's, everywhere; here it is how far the writes of its map are known
    return {"written" if name == "version" else name: value for name, value in shown.items()}


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


def table(columns: Sequence[str], rows: Iterable[Mapping[str, object]], numbers: Sequence[str]) -> str:
    """Lines with two blanks between the columns; those of numbers are set to the right. A block for each row where the
    lines do not fit."""
    rows = list(rows)
    cells = {column: [column.upper()] for column in columns}
    for row in rows:
        for column in columns:
            cells[column].append(_cell(row[column]))
    for column, found in cells.items():
        width = max(map(len, found))
        cells[column] = [cell.rjust(width) if column in numbers else cell.ljust(width) for cell in found]
    lines = ["  ".join(line).rstrip() for line in zip(*cells.values(), strict=True)]
    if max(map(len, lines)) > terminal_columns():
        return "\n\n".join(_facts({column: row[column] for column in columns}) for row in rows)
    return "\n".join(lines)


def terminal_columns() -> int:
    """How wide the terminal is; what is no terminal takes any width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _cell(value: object) -> str:
    return escaped(str(value)) or NOTHING

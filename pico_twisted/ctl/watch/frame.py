"""One frame of `picoctl top`: how busy nodes and endpoints are, who serves, and what failed last.

A frame has as many lines and columns as the terminal. What is too long is cut, and what is too much is left out: the
nodes, then the busiest endpoints, then agents and failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import attrs

from pico_twisted.core.text import escaped, milliseconds, short_size
from pico_twisted.ctl.attention import limits_told, overloaded, uses
from pico_twisted.ctl.watch.lines import clock, silent
from pico_twisted.net.admin.shapes.agents import Agents, AgentSession
from pico_twisted.net.admin.shapes.requests import RequestRow, Requests
from pico_twisted.net.admin.shapes.summary import EndpointSummary, Summary

LEAST_COLUMNS: Final = 40
"""Columns of the narrowest frame."""
FAILURES: Final = 5
"""Failures that are shown."""
_MOST_NEAR: Final = 4
_MOST_NODES: Final = 8
_MOST_AGENTS: Final = 6
_ID_COLUMNS: Final = 20  # more than an ID of ours has; it is of no use when it is cut
_CUT: Final = "…"


@attrs.frozen(kw_only=True)
class BusyEndpoint:
    """How busy an endpoint is at all nodes together.

    Attributes:
        id: the endpoint ID.
        requests_per_s, failed_per_s, in_flight: sums over the nodes.
        p99_s, first_byte_p50_s: of the slowest node; None where no request ended.
    """

    id: str
    requests_per_s: float
    failed_per_s: float
    p99_s: float | None
    first_byte_p50_s: float | None
    in_flight: int


ORDERS: Final[Mapping[str, tuple[str, Callable[[BusyEndpoint], object]]]] = {
    "r": ("requests", lambda one: (-one.requests_per_s, one.id)),
    "f": ("failed", lambda one: (-one.failed_per_s, -one.requests_per_s, one.id)),
    "p": ("p99", lambda one: (-(one.p99_s or 0.0), one.id)),
    "i": ("in flight", lambda one: (-one.in_flight, one.id)),
    "n": ("name", lambda one: one.id),
}
"""Key -> by what it sorts the endpoints, and how."""


@attrs.frozen(kw_only=True)
class Seen:
    """What nodes told."""

    summary: Summary
    agents: Agents
    failures: Requests


def busy_endpoints(summary: Summary) -> list[BusyEndpoint]:
    """The endpoints of all nodes."""
    by_id: dict[str, list[EndpointSummary]] = {}
    for node in summary.nodes:
        for id, one in node.endpoints.items():
            by_id.setdefault(id, []).append(one)
    return [
        BusyEndpoint(
            id=id,
            requests_per_s=sum(one.requests_per_s for one in found),
            failed_per_s=sum(one.failed_per_s for one in found),
            p99_s=max((one.p99_s for one in found if one.p99_s is not None), default=None),
            first_byte_p50_s=max(
                (one.first_byte_p50_s for one in found if one.first_byte_p50_s is not None), default=None
            ),
            in_flight=sum(one.in_flight for one in found),
        )
        for id, found in by_id.items()
    ]


def frame(seen: Seen, order: str, columns: int, lines: int) -> list[str]:
    """The lines of a frame.

    Args:
        seen: what nodes told.
        order: a key of `ORDERS`.
        columns: of the terminal.
        lines: of the terminal.
    """
    columns = max(columns, LEAST_COLUMNS)
    head = [_heading(seen.summary), *_near(seen.summary)]
    nodes = _nodes(seen.summary, columns)
    agents = _agents(seen.agents.sessions, columns)
    failures = _failures(seen.failures, columns)
    missing = list(silent(seen.summary.unanswered))
    taken = len(head) + len(nodes) + len(agents) + len(failures) + len(missing) + 4  # the last line, and empty ones
    endpoints = _endpoints(seen.summary, order, columns, max(1, lines - taken - 1))
    parts = [part for part in (head, nodes, endpoints, agents, failures, missing) if part]
    found = [line for part in parts for line in (*part, "")][:-1]
    keys = "  ".join(f"{key} {by}" for key, (by, _) in ORDERS.items())
    return [_cut(line, columns) for line in (*found[: lines - 1], f"{keys}  q ends")]


def _heading(summary: Summary) -> str:
    nodes = summary.nodes
    slowest = max((node.first_byte_p99_s for node in nodes if node.first_byte_p99_s is not None), default=None)
    return (
        f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}  {_rate(sum(one.requests_per_s for one in nodes))} req/s  "
        f"{_rate(sum(one.failed_per_s for one in nodes))} failed/s  p99 {_time(slowest)}  "
        f"{clock(max((node.at_s for node in nodes), default=0.0))}"
    )


def _near(summary: Summary) -> list[str]:
    """The nodes that are overloaded, and the limits that are near, the fullest first."""
    found = [
        (1.0 + node.refused_share, overloaded(node.id, node.refused_share))
        for node in summary.nodes
        if node.refused_share > 0
    ]
    found += [
        (used / most, uses(node.id, name, used, most))
        for node in summary.nodes
        for name, used, most in limits_told(node)
    ]
    return [f"! {words}" for _, words in sorted(found, reverse=True)[:_MOST_NEAR]]


def _nodes(summary: Summary, columns: int) -> list[str]:
    rows = [
        (
            node.id,
            f"{node.status}{' cordoned' if node.cordoned and node.status == 'active' else ''}",
            _rate(node.requests_per_s),
            _rate(node.failed_per_s),
            _time(node.first_byte_p99_s),
            f"{node.cpu:.0%}",
            short_size(node.memory_bytes),
            str(node.sessions),
        )
        for node in summary.nodes[:_MOST_NODES]
    ]
    return _block(("NODE", "STATUS", "REQ/S", "FAIL/S", "P99", "CPU", "MEMORY", "AGENTS"), rows, columns, texts=2)


def _endpoints(summary: Summary, order: str, columns: int, most: int) -> list[str]:
    found = sorted(busy_endpoints(summary), key=ORDERS[order][1])  # type: ignore[arg-type]  # each order has a key of one type
    rows = [
        (
            one.id,
            _rate(one.requests_per_s),
            _rate(one.failed_per_s),
            _time(one.first_byte_p50_s),
            _time(one.p99_s),
            str(one.in_flight),
        )
        for one in found[:most]
    ]
    return _block(("ENDPOINT", "REQ/S", "FAIL/S", "FIRST", "P99", "CALLS"), rows, columns, texts=1)


def _agents(sessions: Iterable[AgentSession], columns: int) -> list[str]:
    by_agent: dict[str, list[AgentSession]] = {}
    for session in sessions:
        by_agent.setdefault(session.agent, []).append(session)
    rows = [
        (
            agent,
            found[0].address.rpartition(":")[0],
            ",".join(sorted({one.node for one in found})),
            ",".join(sorted({one.endpoint for one in found})),
            _time(min((one.rtt_s for one in found if one.rtt_s is not None), default=None)),
        )
        for agent, found in sorted(by_agent.items())[:_MOST_AGENTS]
    ]
    return _block(("AGENT", "ADDRESS", "NODES", "ENDPOINTS", "RTT"), rows, columns, texts=4)


def _failures(failures: Requests, columns: int) -> list[str]:
    rows = [
        (row.endpoint, clock(row.at_s), str(row.status or "-"), row.error or row.hop, _cut(row.request_id, _ID_COLUMNS))
        for row in reversed([row for row in failures.rows if row.port == "proxy" and not _refused(row)][-FAILURES:])
    ]
    return _block(("LAST FAILURES", "AT", "", "CODE", "ID"), rows, columns, texts=4)


def _refused(row: RequestRow) -> bool:
    """Whether it was the client's own fault: strangers would fill the frame with these."""
    return 400 <= row.status < 499


def _block(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int, texts: int) -> list[str]:
    """Lines of columns, of which the first `texts` hold text, the others numbers. What is too wide is taken from the
    widest text."""
    if not rows:
        return []
    cells = [list(heads), *([escaped(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(heads))]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        place = max(range(texts), key=lambda place: widths[place])
        if widths[place] <= 4:
            break
        widths[place] -= 1
    return [
        "  ".join(
            _cut(cell, width).ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + _CUT


def _rate(a_second: float) -> str:
    return f"{a_second:.0f}" if a_second >= 99.5 or not a_second else f"{a_second:.1f}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else milliseconds(seconds)

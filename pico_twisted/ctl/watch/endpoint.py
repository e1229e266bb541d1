"""How an endpoint does: its rates, how long its requests take and of what, and what failed last."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import attrs

from pico_twisted.core.text import escaped, milliseconds
from pico_twisted.ctl.asking import get, get_if_there
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import ExitWithMessage
from pico_twisted.ctl.tables import NOTHING, table
from pico_twisted.ctl.watch.lines import clock
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.requests import CLUSTER_REQUESTS_PATH, Requests
from pico_twisted.net.admin.shapes.summary import CLUSTER_SUMMARY_PATH, EndpointSummary, Summary

FAILURES: Final = 5
"""Failures that are shown."""
COUNT_S: Final = 2.0
"""Seconds that nodes get to count requests, when nobody has looked lately."""


@attrs.frozen(kw_only=True)
class HowItDoes:
    """How an endpoint does.

    Attributes:
        text: for people.
        data: as JSON can hold it: `requests` by node, and `failures`.
    """

    text: str
    data: Mapping[str, Any]  # that is what JSON is


def how_it_does(port: AdminPort, endpoint: str) -> HowItDoes | None:
    """Ask all nodes how an endpoint does.

    Args:
        port: of the node that is asked.
        endpoint: its ID.

    Returns:
        None where the node is of an earlier version, which does not tell.
    """
    asked = get_if_there(port, CLUSTER_SUMMARY_PATH, Summary)
    if isinstance(asked, ExitWithMessage):
        return None
    summary = asked[1]
    if not all(node.endpoints_over_s >= COUNT_S for node in summary.nodes):
        time.sleep(COUNT_S)
        _, summary = get(port, CLUSTER_SUMMARY_PATH, Summary)
    path = f"{CLUSTER_REQUESTS_PATH}?endpoint={quote(endpoint, safe='')}&failed=1&limit=100"
    _, requests = get(port, path, Requests)
    id = endpoint.lower()
    by_node = {node.id: node.endpoints[id] for node in summary.nodes if id in node.endpoints}
    failures = [row for row in requests.rows if row.port == "proxy"][-FAILURES:]
    shown = [
        {
            "at": clock(row.at_s, date=True),
            "node": row.node,
            "status": row.status or NOTHING,
            "code": row.error,
            "hop": row.hop,
            "request id": row.request_id,
        }
        for row in reversed(failures)
    ]
    columns = ("at", "node", "status", "code", "hop", "request id")
    failed = f"last failures\n{table(columns, shown, numbers=())}" if shown else "no failure is remembered"
    return HowItDoes(
        text=f"{_requests_table(by_node)}\n\n{failed}",
        data={"requests": to_json(by_node), "failures": to_json(failures)},
    )


def _requests_table(by_node: Mapping[str, EndpointSummary]) -> str:
    """What came to each node's proxy port for the endpoint, and the calls to agents there."""
    rows = [
        {
            "node": escaped(id),
            "req/s": f"{one.requests_per_s:.1f}",
            "failed/s": f"{one.failed_per_s:.1f}",
            "first byte p50": _time(one.first_byte_p50_s),
            "first byte p99": _time(one.first_byte_p99_s),
            "whole p50": _time(one.p50_s),
            "whole p99": _time(one.p99_s),
            "calls to agents": one.in_flight,
        }
        for id, one in sorted(by_node.items())
    ]
    if not rows:
        return "no requests lately"
    columns = tuple(rows[0])
    return f"requests of the last seconds\n{table(columns, rows, numbers=columns[1:])}"


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else milliseconds(seconds)

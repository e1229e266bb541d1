"""`picoctl tail`: requests of all nodes, as they end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import click

from pico_twisted.ctl.asking import get
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import emit
from pico_twisted.ctl.options import admin_options, admin_port, complete_endpoint_id, wants_json
from pico_twisted.ctl.watch.follow import Newness, follow
from pico_twisted.ctl.watch.lines import request_line, silent
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.requests import CLUSTER_REQUESTS_PATH, RequestRow, Requests

MOST: Final = 300
"""Most requests that are asked for at once: more than can be read, and nodes have other things to do."""


@click.command(short_help="Show requests as they end.")
@click.argument("endpoint", required=False, default="", shell_complete=complete_endpoint_id)
@click.option("--failed", "only_failed", is_flag=True, help="Only requests that failed or were refused.")
@admin_options()
@click.pass_context
def tail(context: click.Context, endpoint: str, only_failed: bool) -> None:
    """The requests of all nodes, or of one ENDPOINT, a line for each as it ends, until Ctrl-C. It does not matter
    whether the nodes write access logs.

    Nodes are asked once a second, and tell at most 300 requests: what is left out is said.
    """
    port = admin_port(context)
    query = {"endpoint": endpoint, "failed": "1" if only_failed else "", "limit": str(MOST)}
    now = _ask(port, {**query, "limit": "1"}, 0.0)  # which has nodes keep what ends from here on
    told: dict[str, str] = {}

    def show(found: Requests, newness: Newness) -> None:
        since_s = newness.since_s
        fresh = newness.of(found.rows, [reach.now_s for reach in found.reach.values()])
        for row in sorted(filter(_at_proxy, fresh), key=lambda row: row.at_s):
            line = request_line(row, endpoint=not endpoint)
            emit(json.dumps(to_json(row)) if wants_json(context) else line)
        for line in (*_left_out(found, since_s, only_failed), *silent(_new(found.unanswered, told))):
            click.echo(f"picoctl: {line}", err=True)

    began_s = min((reach.now_s for reach in now.reach.values()), default=0.0)
    follow(lambda since_s: _ask(port, query, since_s), began_s, show)


def _ask(port: AdminPort, query: Mapping[str, str], since_s: float) -> Requests:
    given = {name: value for name, value in (*query.items(), ("since", repr(since_s))) if value}
    return get(port, f"{CLUSTER_REQUESTS_PATH}?{urlencode(given)}", Requests)[1]


def _at_proxy(row: RequestRow) -> bool:
    """Whether a client of the cluster would know the request: what crosses a link is told by both nodes."""
    return row.port == "proxy"


def _left_out(found: Requests, since_s: float, only_failed: bool) -> list[str]:
    """What was too much to be told."""
    if found.more:
        return [f"{found.more} more requests ended, too many to be shown"]
    reach = found.reach.values()
    since = [one.failed_since_s if only_failed else one.all_since_s or one.now_s for one in reach]
    return ["more requests ended than nodes remember"] if any(one > since_s + 1 for one in since) else []


def _new(unanswered: Mapping[str, str], told: dict[str, str]) -> dict[str, str]:
    """The nodes that have just begun to give no answer."""
    fresh = {id: why for id, why in unanswered.items() if id not in told}
    told.clear()
    told.update(unanswered)
    return fresh

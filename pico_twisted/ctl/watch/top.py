"""`picoctl top`: how busy a cluster is, on the whole screen of a terminal."""

from __future__ import annotations

import shutil
import time
from typing import Final

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.asking import emit_json, get
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import OK, NoAnswer, emit
from pico_twisted.ctl.options import admin_options, admin_port, wants_json
from pico_twisted.ctl.watch.frame import FAILURES, ORDERS, Seen, frame
from pico_twisted.ctl.watch.screen import Screen, can_be_opened, opened
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.requests import CLUSTER_REQUESTS_PATH, Requests
from pico_twisted.net.admin.shapes.summary import CLUSTER_SUMMARY_PATH, Summary

LOOK_S: Final = 2.0
"""Seconds between two looks."""
_AGENTS_PATH: Final = "/status/cluster/agents"


@click.command(short_help="Show how busy the cluster is, live.")
@click.option("--sort", type=click.Choice([by for by, _ in ORDERS.values()]), default="requests", help="Endpoints by.")
@admin_options()
@click.pass_context
def top(context: click.Context, sort: str) -> None:
    """How busy nodes and endpoints are, which agents serve, and what failed last; again every two seconds. Limits that
    are near stand first. The keys in the last line sort the endpoints; q ends. Without a terminal, or with --json, it
    is shown once.

    Rates are those of the last five to ten seconds. FIRST is how long half of the answers took to begin, P99 how long
    99 of 100 requests took; of nodes it is how long 99 of 100 answers took to begin.
    """
    port = admin_port(context)
    order = next(key for key, (by, _) in ORDERS.items() if by == sort)
    if wants_json(context):
        emit_json(to_json(look_for_rates(port)))
    elif not can_be_opened():
        columns, _ = shutil.get_terminal_size()
        seen = look_for_rates(port)
        emit("\n".join(frame(seen, order, columns, _lines_for(seen))[:-1]))
    else:
        with opened() as screen:
            _run(port, screen, order)


def look(port: AdminPort) -> Seen:
    """Ask all nodes once."""
    _, summary = get(port, CLUSTER_SUMMARY_PATH, Summary)
    _, agents = get(port, _AGENTS_PATH, Agents)
    _, failures = get(port, f"{CLUSTER_REQUESTS_PATH}?failed=1&limit={20 * FAILURES}", Requests)
    return Seen(summary=summary, agents=agents, failures=failures)


def look_for_rates(port: AdminPort) -> Seen:
    """Ask all nodes once; twice, where nobody has looked lately and so nothing was counted of endpoints."""
    seen = look(port)
    if all(node.endpoints_over_s >= LOOK_S for node in seen.summary.nodes):
        return seen
    time.sleep(LOOK_S)
    return look(port)


def _lines_for(seen: Seen) -> int:
    """As many as all need."""
    return 60 + sum(len(node.endpoints) for node in seen.summary.nodes)


def _run(port: AdminPort, screen: Screen, order: str) -> None:
    try:
        while True:
            try:
                seen, why = look(port), ""
            except NoAnswer as error:  # the node may be starting again
                seen, why = None, error.message
            until = time.monotonic() + LOOK_S
            while (left_s := until - time.monotonic()) > 0:
                columns, lines = screen.size
                screen.show(
                    [f"picoctl: {escaped(why)}"[:columns]] if seen is None else frame(seen, order, columns, lines)
                )
                key = screen.key(left_s)
                if key == "q":
                    return
                order = key if key in ORDERS else order
    except KeyboardInterrupt:
        raise click.exceptions.Exit(OK) from None

"""`picoctl events`: what happened in the cluster lately."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.asking import Page, get, get_if_there, present
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import ExitWithMessage, emit
from pico_twisted.ctl.options import admin_port, status_options, wants_json
from pico_twisted.ctl.watch.follow import Newness, follow
from pico_twisted.ctl.watch.lines import clock, event_line, joined, silent
from pico_twisted.ctl.watch.since import Since
from pico_twisted.net.admin.shapes.events import CLUSTER_EVENTS_PATH, EVENTS_PATH, Events
from pico_twisted.net.admin.shapes.reading import to_json

MOST: Final = 1000
"""Most events that are shown at once."""
SHOWN: Final = 50
"""Events that are shown when nobody says since when."""


@click.command(short_help="Show what happened lately.")
@click.option("--since", "since_s", type=Since(), help="Since when: 3:02, 10m, or 2026-11-29T03:02:00Z.")
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@status_options()
@click.pass_context
def events(context: click.Context, since_s: float | None, follows: bool) -> None:
    """What happened at all nodes: agents that registered or went, nodes that joined, left or fell silent, links,
    reloads, drains, certificates, and all else that nodes log at level info or above. The newest is the last.

    Nodes remember the newest thousand lines of their logs, since their start.
    """
    port = admin_port(context)
    if follows:
        _follow(context, port, since_s)
        return

    def page(port: AdminPort) -> Page:
        data, found = _ask(port, since_s or 0.0, SHOWN if since_s is None else MOST)
        lines = map(event_line, found.rows) if found.rows else ["nothing has happened"]
        return Page(joined(lines, _left_out(found, since_s), silent(found.unanswered)), data)

    present(context, page)


def _ask(port: AdminPort, since_s: float, limit: int) -> tuple[object, Events]:
    """What all nodes remember; what an agent does, if it is one that is asked."""
    query = f"?limit={limit}" + (f"&since={since_s!r}" if since_s else "")
    found = get_if_there(port, CLUSTER_EVENTS_PATH + query, Events)
    return get(port, EVENTS_PATH + query, Events) if isinstance(found, ExitWithMessage) else found


def _left_out(found: Events, since_s: float | None) -> Iterator[str]:
    if found.more and since_s is not None:
        yield f"and {found.more} more before these"
    for id, reach in sorted(found.reach.items()):
        if since_s is not None and reach.since_s > since_s:
            yield f"node {escaped(id)} remembers nothing before {clock(reach.since_s, date=True)}"


def _follow(context: click.Context, port: AdminPort, since_s: float | None) -> None:
    if since_s is None:
        _, now = _ask(port, 0.0, 1)
        since_s = min((reach.now_s for reach in now.reach.values()), default=0.0)

    def show(found: Events, newness: Newness) -> None:
        for row in newness.of(found.rows, [reach.now_s for reach in found.reach.values()]):
            emit(json.dumps(to_json(row)) if wants_json(context) else event_line(row))

    follow(lambda since_s: _ask(port, since_s, MOST)[1], since_s, show)

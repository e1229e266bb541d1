"""`picoctl agents` and `picoctl endpoint`: who serves what, in the whole cluster."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl import tables
from pico_twisted.ctl.asking import Page, get, present
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.options import complete_endpoint_id, status_options
from pico_twisted.ctl.watch.endpoint import how_it_does
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.nodes import NodeDetail

PATH: Final = "/status/cluster/agents"
"""Path of the route that tells the agents of all nodes."""


@click.command(short_help="Show the agents of the cluster.")
@status_options()
@click.pass_context
def agents(context: click.Context) -> None:
    """The agents of all nodes: where each connects from, since when, and which endpoints it serves at which nodes. One
    whose version is older than that of the node asked is marked.

    The node asked asks the others. One that does not answer is named below the table.
    """

    def page(port: AdminPort) -> Page:
        data, found = get(port, PATH, Agents)
        _, local = get(port, "/status/cluster/nodes/local", NodeDetail)
        return Page(_with_silent(tables.agents_table(found.sessions, local.version), found), data)

    present(context, page)


@click.command(short_help="Show who serves an endpoint.")
@click.argument("id", shell_complete=complete_endpoint_id)
@status_options()
@click.pass_context
def endpoint(context: click.Context, id: str) -> None:
    """The agents that serve one endpoint, session by session; how many requests it gets and how long they take; and
    what failed last. Status 1 when no agent serves it.

    What is slow: the time to the first byte is that of the service, of the round trip to its agent, and of a link
    between two nodes. An answer that begins late at a short round trip is late because of the service.
    """

    def page(port: AdminPort) -> Page:
        data, found = get(port, f"{PATH}?endpoint={quote(id, safe='')}", Agents)
        nobody = not found.sessions and not found.unanswered
        text = _with_silent(tables.sessions_table(id, found.sessions), found)
        how = how_it_does(port, id)
        if how is not None:
            text, data = f"{text}\n\n{how.text}", {**data, **how.data}
        return Page(text, data, no=nobody)

    present(context, page)


def _with_silent(text: str, found: Agents) -> str:
    """The text, what was left out of it, and which nodes did not tell their agents."""
    silent = [f"and {found.more} more sessions"] if found.more else []
    silent += [f"node {escaped(id)} is missing: {escaped(why)}" for id, why in sorted(found.unanswered.items())]
    return "\n".join([text, *([""] if silent else []), *silent])

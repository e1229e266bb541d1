"""`picoctl kick`: ends the sessions of an agent, and may keep it away for a while."""

from __future__ import annotations

import time

import click

from pico_twisted.core.text import escaped, span
from pico_twisted.ctl.exits import NO
from pico_twisted.ctl.options import admin_options, complete_agent_id, duration
from pico_twisted.ctl.telling_nodes import tell_all_nodes
from pico_twisted.net.admin.shapes.operations import KICK_PATH, Kicked

MOST_FOR_S = 7 * 86_400.0


@click.command(short_help="End the sessions of an agent at all nodes.")
@click.argument("agent", shell_complete=complete_agent_id)
@click.option("--for", "for_s", help="Keep it away for so long, at most 7 days.", type=duration(1.0, MOST_FOR_S))
@admin_options()
@click.pass_context
def kick(context: click.Context, agent: str, for_s: float | None) -> None:
    """End the sessions of AGENT, an agent's ID, at all nodes. No request begins on them any more; what is in progress
    has the node's grace_period. The agent may come again at once, unless --for keeps it away. That ends on a full
    minute, from an hour on within ten minutes; `picoctl revoke --agent AGENT --undo` ends it before.

    Status 1 when it has no session anywhere.
    """
    query = {"agent": agent} if for_s is None else {"agent": agent, "for": str(max(1, round(for_s)))}
    found = tell_all_nodes(context, KICK_PATH, query, Kicked, lambda kicked: kicked_words(kicked, time.time()))
    if not found.ended and not found.until_s:
        raise click.exceptions.Exit(NO)


def kicked_words(found: Kicked, now_s: float) -> str:
    """What came of it, in one line."""
    agent = escaped(found.agent)
    sessions = f"{found.ended or 'no'} session{'' if found.ended == 1 else 's'}"
    if found.until_s:
        return f"agent {agent} is kept away for {span(found.until_s - now_s)}: {sessions} ended"
    return (
        f"agent {agent} had {sessions}, which end{'s' if found.ended == 1 else ''}"
        if found.ended
        else (f"agent {agent} has no session at any node")
    )

"""`picoctl revoke`: refuses a credential or an agent at all nodes, at once, and ends its sessions."""

from __future__ import annotations

import time

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl import tables
from pico_twisted.ctl.asking import Page, get, present
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.options import complete_agent_id, duration, status_options, wants_watch
from pico_twisted.ctl.telling_nodes import tell_all_nodes
from pico_twisted.net.admin.shapes.revocations import REVOCATIONS_PATH, REVOKE_PATH, RevocationRow, Revoked

MOST_FOR_S = 10 * 365 * 86_400.0


@click.command(short_help="Refuse a credential or an agent at all nodes.")
@click.argument("name", required=False)
@click.option(
    "--agent", help="Revoke the agent with this ID, whatever it shows.", metavar="ID", shell_complete=complete_agent_id
)
@click.option("--for", "for_s", help="How long that lasts.  [default: for ever]", type=duration(1.0, MOST_FOR_S))
@click.option("--undo", is_flag=True, help="Take a revocation back.")
@click.option("--list", "listing", is_flag=True, help="Show who is revoked.")
@status_options()
@click.pass_context
def revoke(
    context: click.Context, name: str | None, agent: str | None, for_s: float | None, undo: bool, listing: bool
) -> None:
    """Revoke NAME: a token's or a client certificate's name, or the jti or sub of a JWT. All nodes refuse it at once,
    and end its sessions; what is in progress has the node's grace_period. A node that cannot be reached hears of it
    when it can. It lasts for ever, that of a jti until the JWT has expired, unless --for says how long.

    \b
    Examples:
      picoctl revoke ci
      picoctl revoke --agent agent-7f3a0c21 --for 1h
      picoctl revoke ci --undo
      picoctl revoke --list
    """
    if listing:
        if name is not None or agent is not None or undo or for_s is not None:
            raise click.UsageError("--list takes no name")
        present(context, _listed)
        return
    if wants_watch(context):
        raise click.UsageError("--watch shows a --list again and again")
    if (name is None) == (agent is None):
        raise click.UsageError("expected the NAME of a credential, or --agent ID")
    query = {"name": name or ""} if agent is None else {"agent": agent}
    if undo:
        query["undo"] = "1"
    elif for_s is not None:
        query["until"] = str(int(time.time() + for_s))
    found = tell_all_nodes(context, REVOKE_PATH, query, Revoked, tables.revoked_words)
    if found.revoked and not found.kept:
        click.echo(
            f"picoctl: warning: node {escaped(found.nodes[0])} forgets it if it starts again and finds no other node: "
            "set cluster.revocations_file",
            err=True,
        )


def _listed(port: AdminPort) -> Page:
    data, rows = get(port, REVOCATIONS_PATH, list[RevocationRow])
    return Page(tables.revocations_table(rows, time.time()) if rows else "nobody is revoked", data)

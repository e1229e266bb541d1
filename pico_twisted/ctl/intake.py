"""`picoctl cordon`, `drain` and `uncordon`: take a node out, and put it back."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.asking import emit_json
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import NoAnswer, SaidNo, emit
from pico_twisted.ctl.options import admin_options, admin_port, complete_node_id, duration, wants_json
from pico_twisted.net.admin.shapes.operations import CORDON_PATH, DRAIN_PATH, INTAKE_PATH, UNCORDON_PATH, Operated

LOOK_S: Final = 0.5
"""Seconds between two looks at what is in progress."""
WITHIN_S: Final = 60.0
"""Seconds that are waited unless said otherwise."""


def _id_argument(context: click.Context, argument: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("found nothing, expected the ID of a node, or local")
    return value


_node = click.argument("node", callback=_id_argument, shell_complete=complete_node_id)


@click.command(short_help="Have a node take no new agents, and balancers leave it.")
@_node
@admin_options()
@click.pass_context
def cordon(context: click.Context, node: str) -> None:
    """Have NODE take no new sessions of agents; those that are there stay. Its /ready says 503 `cordoned`, so that load
    balancers leave it, and the other nodes send it only what nobody else serves.

    Any node can be asked. Of a host with workers all are cordoned. It lasts until `picoctl uncordon`, or until the node
    starts again.
    """
    _emit(context, *_change(admin_port(context), CORDON_PATH, node))


@click.command(short_help="Put a node back that was cordoned or drained.")
@_node
@admin_options()
@click.pass_context
def uncordon(context: click.Context, node: str) -> None:
    """Put NODE back that was cordoned or drained. Agents that went elsewhere stay there until they connect again."""
    _emit(context, *_change(admin_port(context), UNCORDON_PATH, node))


@click.command(short_help="Have a node's agents and clients go elsewhere.")
@_node
@click.option("--wait", is_flag=True, help="Wait until nothing is in progress there. Status 1 when something still is.")
@click.option(
    "--within",
    help=f"How long to wait at most.  [default: {WITHIN_S:g}s]",
    type=duration(1.0, 86_400.0),
    default=None,
)
@admin_options()
@click.pass_context
def drain(context: click.Context, node: str, wait: bool, within: float | None) -> None:
    """Have the agents and clients of NODE go elsewhere, as when it stops, but let it run on. It is cordoned, too. What
    is in progress there goes on, and nothing is cut. An agent whose endpoint nobody else serves stays.

    `picoctl uncordon` takes it back; so does a start of the node.

    \b
    Examples:
      picoctl drain n3 --wait && ssh n3 systemctl restart pico
      picoctl drain n3 --wait --within 10m
    """
    if within is not None and not wait:
        raise click.UsageError("--within says how long --wait waits")
    port = admin_port(context)
    data, found = _change(port, DRAIN_PATH, node)
    if wait:
        until = time.monotonic() + (WITHIN_S if within is None else within)
        while not found.idle and time.monotonic() < until:
            time.sleep(LOOK_S)
            data, found = _ask(port, INTAKE_PATH, node, change=False)
            if found.intake not in ("drained", "stopping"):
                raise SaidNo(f"{node} is {found.intake}: somebody has put it back, or it has started again")
    _emit(context, data, found)
    if wait and not found.idle:
        raise SaidNo("it is not idle yet")


def _change(port: AdminPort, path: str, node: str) -> tuple[object, Operated]:
    return _ask(port, path, node, change=True)


def _ask(port: AdminPort, path: str, node: str, *, change: bool) -> tuple[object, Operated]:
    answer = port.ask(f"{path}?{urlencode({'node': node})}", change=change)
    if answer.status == HTTPStatus.BAD_GATEWAY and answer.error:
        raise NoAnswer(answer.error)
    if answer.status != HTTPStatus.OK:
        raise port.refusal(answer)
    return answer.data, port.shaped(answer, Operated)


def _emit(context: click.Context, data: object, found: Operated) -> None:
    if wants_json(context):
        emit_json(data)
    else:
        emit(operated_words(found))
    if found.silent:
        click.echo(f"picoctl: warning: {found.silent} of its workers did not answer", err=True)


def operated_words(found: Operated) -> str:
    """How a node stands, in one line."""
    parts = [_counted(found.requests, "request"), _counted(found.streams, "stream")]
    busy = " and ".join(part for part in parts if part)
    words = [f"node {escaped(found.node)} is {escaped(found.intake)}: {busy or 'nothing'} in progress"]
    if found.sessions:
        words.append(f"{_counted(found.sessions, 'session')} of agents")
        if not found.elsewhere and found.intake == "drained":
            words[-1] += ", which stay: there is no other node"
    return ", ".join(words)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""

"""`picoctl status`: what a node knows of itself, of the cluster and of the endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from itertools import islice
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl import tables
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import NO, emit
from pico_twisted.ctl.options import admin_options, admin_port, wants_json
from pico_twisted.net.admin.shapes import (
    AGENT_PATH,
    AgentDetail,
    GossipDetail,
    GossipRow,
    NodeDetail,
    NodeRow,
    ShapeError,
    read,
)

T = TypeVar("T")

MAX_LISTED: Final = 20
"""Endpoints in the overview; the rest is only counted."""

_NO_ENDPOINTS: Final = "no agent has registered an endpoint at this node"


@click.group(invoke_without_command=True, short_help="Show nodes, endpoints and gossip.")
@admin_options()
@click.pass_context
def status(context: click.Context) -> None:
    """Show what a node knows. Without a subcommand: whether it is ready, the nodes, and its endpoints; of an agent its
    listeners.

    That overview ends with status 1 when the node or agent is not ready.
    """
    if context.invoked_subcommand is None:
        _overview(context)


def _overview(context: click.Context) -> None:
    port = admin_port(context)
    agent = port.ask(AGENT_PATH)
    if agent.status == HTTPStatus.OK:
        _show_agent(context, agent.data, _understood(port, agent.data, AgentDetail))
        return
    ready, reason = _readiness(port)
    nodes_data, nodes_known = _get(port, "/status/cluster/nodes", list[NodeRow])
    _, local = _get(port, "/status/cluster/nodes/local", NodeDetail)
    if wants_json(context):
        own = dict(local.endpoints)
        emit_json({"id": local.id, "ready": ready, "reason": reason, "nodes": nodes_data, "endpoints": own})
    else:
        state = "ready" if ready else f"not ready: {escaped(reason)}"
        parts = [
            f"node {escaped(local.id)} is {state}",
            tables.count_of(node.status for node in nodes_known),
            tables.nodes_table(nodes_known),
            _endpoints_table(dict(islice(sorted(local.endpoints.items()), MAX_LISTED))),
        ]
        if (more := len(local.endpoints) - MAX_LISTED) > 0:
            parts.append(f"and {more} more endpoints: picoctl status endpoints")
        emit("\n\n".join(parts))
    if not ready:
        raise click.exceptions.Exit(NO)


def _show_agent(context: click.Context, data: object, agent: AgentDetail) -> None:
    """The overview of an agent."""
    if wants_json(context):
        emit_json(data)
    else:
        state = "ready" if agent.ready else f"not ready: {escaped(agent.reason)}"
        emit(f"agent {escaped(agent.id)} is {state}\n\n{tables.listeners_table(agent.listeners)}")
    if not agent.ready:
        raise click.exceptions.Exit(NO)


def _readiness(port: AdminPort) -> tuple[bool, str]:
    answer = port.ask("/ready")
    if answer.status == HTTPStatus.OK:
        return True, ""
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.error:
        return False, answer.error
    raise port.refusal(answer)


@status.command()
@admin_options()
@click.pass_context
def nodes(context: click.Context) -> None:
    """The nodes of the cluster, as the node asked sees them."""
    _show(context, "/status/cluster/nodes", list[NodeRow], tables.nodes_table)


@status.command()
@click.argument("id", callback=lambda context, argument, value: _node_id(value))
@admin_options()
@click.pass_context
def node(context: click.Context, id: str) -> None:
    """One node with its endpoints. ID may be local: the node asked."""
    _show(context, f"/status/cluster/nodes/{quote(id, safe='')}", NodeDetail, tables.node_page)


@status.command()
@admin_options()
@click.pass_context
def endpoints(context: click.Context) -> None:
    """The endpoints that agents registered at the node asked."""
    _show(context, "/status/upstream/endpoints", dict[str, int], _endpoints_table)


@status.command(short_help="What gossip knows, of each node or of one.")
@click.argument("id", required=False, callback=lambda context, argument, value: _node_id(value))
@admin_options()
@click.pass_context
def gossip(context: click.Context, id: str | None) -> None:
    """What gossip knows of each node; with ID, or local, all keys of that one."""
    if id is None:
        _show(context, "/status/gossip/nodes", list[GossipRow], tables.gossip_table)
    else:
        _show(context, f"/status/gossip/nodes/{quote(id, safe='')}", GossipDetail, tables.gossip_page)


def _endpoints_table(counts: dict[str, int]) -> str:
    return tables.endpoints_table(counts) if counts else _NO_ENDPOINTS


def _node_id(value: str | None) -> str | None:
    if value is not None and (not value or "/" in value):
        raise click.BadParameter(f"found {value!r}, expected the ID of a node, or local")
    return value


def _show(context: click.Context, path: str, kind: type[T], render: Callable[[T], str]) -> None:
    """Ask for a path, and print the answer as it is wanted."""
    data, value = _get(admin_port(context), path, kind)
    if wants_json(context):
        emit_json(data)
    else:
        emit(render(value))


def _get(port: AdminPort, path: str, kind: type[T]) -> tuple[Any, T]:
    """The answer for a path: as JSON has it, and as a shape.

    Raises:
        ExitWithMessage: there is no such answer.
    """

    answer = port.ask(path)
    if answer.status != HTTPStatus.OK:
        raise port.refusal(answer)
    return answer.data, _understood(port, answer.data, kind)


def _understood(port: AdminPort, data: object, kind: type[T]) -> T:
    """An answer as a shape.

    Raises:
        ExitWithMessage: it is something else.
    """
    try:
        return read(data, kind)
    except ShapeError:
        raise port.no_admin_port("it answers with something else than was asked for") from None


def emit_json(data: object) -> None:
    """Print an answer as JSON."""
    # Of the control characters JSON escapes all but this one.
    emit(json.dumps(data, indent=2).replace("\x7f", "\\u007f"))

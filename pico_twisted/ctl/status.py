"""`picoctl status`: what a node knows of itself, of the cluster and of the endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Final, TypeVar
from urllib.parse import quote

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl import tables
from pico_twisted.ctl.agents import agents, endpoint
from pico_twisted.ctl.asking import Page, get, get_if_there, present
from pico_twisted.ctl.attention import problems
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import ExitWithMessage
from pico_twisted.ctl.options import complete_node_id, status_options, wants_json
from pico_twisted.net.admin.shapes.agents import AgentDetail
from pico_twisted.net.admin.shapes.gossip import GossipDetail, GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow
from pico_twisted.net.admin.shapes.paths import AGENT_PATH

T = TypeVar("T")

MAX_LISTED: Final = 20
"""Endpoints in the overview; the rest is only counted."""

Held = Mapping[str, Mapping[str, int]]
"""For each endpoint ID the nodes that hold it, with their registrations."""


@click.group(invoke_without_command=True, short_help="Show nodes, endpoints, agents and gossip.")
@status_options()
@click.pass_context
def status(context: click.Context) -> None:
    """Show what a node knows. Without a subcommand: whether it is ready, the nodes, and the endpoints of the cluster;
    of an agent its listeners. What needs somebody stands first: nodes that are unreachable, taken out or overloaded,
    certificates that expire within two weeks, limits that are near.

    That overview ends with status 1 when the node or agent is not ready.
    """
    if context.invoked_subcommand is None:
        present(context, _overview)


status.add_command(agents)
status.add_command(endpoint)


def _overview(port: AdminPort) -> Page:
    agent = get_if_there(port, AGENT_PATH, AgentDetail)
    if not isinstance(agent, ExitWithMessage):
        return _agent_page(*agent)
    ready, reason = _readiness(port)
    nodes_data, nodes_known = get(port, "/status/cluster/nodes", list[NodeRow])
    _, local = get(port, "/status/cluster/nodes/local", NodeDetail)
    held, alone = _endpoints(port)
    state = "ready" if ready else f"not ready: {escaped(reason)}"
    found = problems(port, nodes_known)
    parts = [
        "\n".join([f"node {escaped(local.id)} is {state}", *(f"! {problem}" for problem in found)]),
        tables.nodes_table(nodes_known),
        _endpoints_text(dict(islice(sorted(held.items()), MAX_LISTED)), alone, local.public_url),
    ]
    if (more := len(held) - MAX_LISTED) > 0:
        parts.append(f"and {more} more endpoints: picoctl status endpoints")
    data = {"id": local.id, "ready": ready, "reason": reason, "problems": found, "nodes": nodes_data, "endpoints": held}
    return Page("\n\n".join(parts), data, no=not ready)


def _agent_page(data: object, agent: AgentDetail) -> Page:
    """The overview of an agent."""
    state = "ready" if agent.ready else f"not ready: {escaped(agent.reason)}"
    text = f"agent {escaped(agent.id)} is {state}\n\n{tables.listeners_table(agent.listeners)}"
    return Page(text, data, no=not agent.ready)


def _readiness(port: AdminPort) -> tuple[bool, str]:
    answer = port.ask("/ready")
    if answer.status == HTTPStatus.OK:
        return True, ""
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.error:
        return False, answer.error
    raise port.refusal(answer)


def _endpoints(port: AdminPort) -> tuple[Held, str]:
    """The endpoints of the cluster, and ""; of a node of an earlier version its own, and its ID."""
    found = get_if_there(port, "/status/cluster/endpoints", dict[str, dict[str, int]])
    if not isinstance(found, ExitWithMessage):
        return found[1], ""
    _, local = get(port, "/status/cluster/nodes/local", NodeDetail)
    return {endpoint: {local.id: count} for endpoint, count in local.endpoints.items()}, local.id


def _endpoints_text(held: Held, alone: str, public_url: str) -> str:
    of = f"node {escaped(alone)}, which is of an earlier version and tells only its own" if alone else "the cluster"
    return f"endpoints of {of}\n{tables.held_table(held, public_url) if held else 'no agent has registered one'}"


@status.command()
@status_options()
@click.pass_context
def nodes(context: click.Context) -> None:
    """The nodes of the cluster, as the node asked sees them."""
    _show(context, "/status/cluster/nodes", list[NodeRow], tables.nodes_table)


@status.command()
@click.argument("id", callback=lambda context, argument, value: _node_id(value), shell_complete=complete_node_id)
@status_options()
@click.pass_context
def node(context: click.Context, id: str) -> None:
    """One node with its endpoints. ID may be local: the node asked."""
    _show(context, f"/status/cluster/nodes/{quote(id, safe='')}", NodeDetail, tables.node_page)


@status.command()
@status_options()
@click.pass_context
def endpoints(context: click.Context) -> None:
    """The endpoints of the cluster, and which nodes hold them. Those of one node: picoctl status node."""

    def page(port: AdminPort) -> Page:
        held, alone = _endpoints(port)
        if wants_json(context):
            return Page("", held)
        _, local = get(port, "/status/cluster/nodes/local", NodeDetail)
        return Page(_endpoints_text(held, alone, local.public_url), held)

    present(context, page)


@status.command(short_help="What gossip knows, of each node or of one.")
@click.argument(
    "id",
    required=False,
    callback=lambda context, argument, value: _node_id(value),
    shell_complete=complete_node_id,
)
@status_options()
@click.pass_context
def gossip(context: click.Context, id: str | None) -> None:
    """What gossip knows of each node; with ID, or local, all keys of that one."""
    if id is None:
        _show(context, "/status/gossip/nodes", list[GossipRow], tables.gossip_table)
    else:
        _show(context, f"/status/gossip/nodes/{quote(id, safe='')}", GossipDetail, tables.gossip_page)


def _node_id(value: str | None) -> str | None:
    if value is not None and (not value or "/" in value):
        raise click.BadParameter(f"found {value!r}, expected the ID of a node, or local")
    return value


def _show(context: click.Context, path: str, kind: type[T], render: Callable[[T], str]) -> None:
    """Ask for a path, and present the answer."""

    def page(port: AdminPort) -> Page:
        data, value = get(port, path, kind)
        return Page(render(value), data)

    present(context, page)

"""`picoctl who`: which way a request went, and where it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

import click

from pico_twisted.core.text import escaped, milliseconds
from pico_twisted.ctl.asking import Page, get, get_if_there, present
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import ExitWithMessage
from pico_twisted.ctl.options import status_options
from pico_twisted.ctl.watch.advice import advice
from pico_twisted.ctl.watch.lines import clock, joined, silent
from pico_twisted.net.admin.shapes.requests import CLUSTER_REQUESTS_PATH, REQUESTS_PATH, RequestRow, Requests

_PORTS: Final = ("proxy", "link", "tunnel")  # in the order in which a request comes to them


@click.command(short_help="Show which way a request went, and where it failed.")
@click.argument("request_id")
@status_options()
@click.pass_context
def who(context: click.Context, request_id: str) -> None:
    """Which way the request with this REQUEST_ID went, hop by hop, and where it failed. The ID is in the x-request-id
    of the response, on the error page, and in access logs.

    Nodes remember requests that failed; all of them while the access log is on, or somebody looks. Status 1 when no
    node remembers it. An agent is asked with --admin, at its own admin port.
    """
    query = f"?id={quote(request_id, safe='')}&limit=1000"

    def page(port: AdminPort) -> Page:
        found = get_if_there(port, CLUSTER_REQUESTS_PATH + query, Requests)
        data, requests = get(port, REQUESTS_PATH + query, Requests) if isinstance(found, ExitWithMessage) else found
        lines = _way(request_id, requests.rows) if requests.rows else _nobody(request_id, requests)
        return Page(joined(lines, silent(requests.unanswered)), data, no=not requests.rows)

    present(context, page)


def _way(request_id: str, rows: Sequence[RequestRow]) -> Iterator[str]:
    """The hops of a request, and where it failed."""
    order = {port: place for place, port in enumerate(_PORTS)}
    hops = sorted(rows, key=lambda row: (order.get(row.port, len(order)), row.at_s))
    yield f"request {escaped(request_id)}, {clock(hops[0].at_s, date=True)}: {_what(hops[0])}"
    for row in hops:
        yield f"  {_from(row)} -> {_at(row)} -> {_to(row)}"
        yield f"      {_outcome(row)}"
    failed = [row for row in hops if row.hop]
    if not failed:
        yield "it did not fail"
    else:
        last = failed[-1]  # the farthest hop knows most
        words, to_do = advice(last.hop, last.error)
        yield f"failed at the {escaped(last.hop)}: {words}"
        yield f"to do: {to_do}"
    for agent in _agents_to_ask(hops):
        yield f"agent {agent} may know more: picoctl who {escaped(request_id)} --admin URL-OF-ITS-ADMIN-PORT"


def _nobody(request_id: str, found: Requests) -> Iterator[str]:
    yield f"nobody remembers a request {escaped(request_id)}"
    for id, reach in sorted(found.reach.items()):
        line = f"  {escaped(id)} knows what failed since {clock(reach.failed_since_s, date=True)}"
        yield line + (f", and all since {clock(reach.all_since_s)}" if reach.all_since_s is not None else "")


def _what(row: RequestRow) -> str:
    return escaped(f"{row.method or '?'} {row.target}{f' for {row.endpoint}' if row.endpoint else ''}")


def _from(row: RequestRow) -> str:
    """Who sent it there."""
    if row.port == "link":
        return f"node {escaped(row.client) or '?'}"
    return "a node" if row.port == "tunnel" else f"client {escaped(row.client) or '?'}"


def _at(row: RequestRow) -> str:
    place = {"proxy": "proxy port", "link": "link"}.get(row.port)
    return f"node {escaped(row.node)} ({place})" if place else f"agent {escaped(row.node)}"


def _to(row: RequestRow) -> str:
    """Where it was sent on."""
    if not row.upstream:
        return "nowhere"
    if row.port == "tunnel":
        return f"service {escaped(row.upstream)}"
    return f"{'node' if row.sent_to_node else 'agent'} {escaped(row.upstream)}"


def _outcome(row: RequestRow) -> str:
    began = "" if row.first_byte_s is None else f", the answer began after {milliseconds(row.first_byte_s)}"
    return f"{row.status or '-'} {escaped(row.error)}".rstrip() + f" after {milliseconds(row.duration_s)}{began}"


def _agents_to_ask(hops: Sequence[RequestRow]) -> Iterator[str]:
    """The agents that had the request, and did not tell."""
    told = {row.node for row in hops if row.port == "tunnel"}
    asked = {row.upstream for row in hops if row.port != "tunnel" and row.upstream and not row.sent_to_node}
    return map(escaped, sorted(asked - told))

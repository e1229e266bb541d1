"""Asks for changes that one node makes and tells to all others, and presents what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlencode

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.asking import emit_json
from pico_twisted.ctl.exits import SaidNo, emit
from pico_twisted.ctl.options import admin_port, wants_json
from pico_twisted.net.admin.shapes.operations import Kicked
from pico_twisted.net.admin.shapes.revocations import Revoked

Told = TypeVar("Told", Kicked, Revoked)


def tell_all_nodes(
    context: click.Context, path: str, query: Mapping[str, str], kind: type[Told], words: Callable[[Told], str]
) -> Told:
    """Have a node change something at all nodes. Print what came of it, and a warning for each node that may not know.

    Args:
        context: of the command.
        path: of the route.
        query: who is meant, and what is wanted.
        kind: the shape of its answer.
        words: the answer for people.

    Raises:
        ExitWithMessage: nothing was changed.
    """
    port = admin_port(context)
    answer = port.ask(f"{path}?{urlencode(query)}", change=True)
    if answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT) and answer.error:
        raise SaidNo(answer.error)
    if answer.status != HTTPStatus.OK:
        raise port.refusal(answer)
    found = port.shaped(answer, kind)
    if wants_json(context):
        emit_json(answer.data)
    else:
        emit(words(found))
    for node, why in found.unaware.items():
        click.echo(f"picoctl: warning: node {escaped(node)}: {escaped(why)}", err=True)
    return found

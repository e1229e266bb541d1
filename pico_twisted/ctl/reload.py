"""`picoctl reload`: has a node or an agent read its configuration again, and says what came of it."""

from __future__ import annotations

from http import HTTPStatus

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.asking import emit_json
from pico_twisted.ctl.exits import SaidNo, emit
from pico_twisted.ctl.options import admin_options, admin_port, wants_json
from pico_twisted.net.admin.shapes.paths import RELOAD_PATH
from pico_twisted.net.admin.shapes.reload import Reloaded


@click.command(short_help="Have a node or an agent read its configuration again.")
@admin_options()
@click.pass_context
def reload(context: click.Context) -> None:
    """Have the node or agent whose admin port is asked read its configuration again, with its secrets and certificates.

    All of it is taken, or nothing when anything is wrong: then each fault is one line on stderr, and the status is 1.
    It can only be asked on the machine that it runs on.
    """
    port = admin_port(context)
    answer = port.ask(RELOAD_PATH, change=True)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.UNPROCESSABLE_ENTITY):
        raise port.refusal(answer)
    reloaded = port.shaped(answer, Reloaded)
    if wants_json(context):
        emit_json(answer.data)
    if reloaded.faults:
        raise SaidNo("not reloaded: " + "\nnot reloaded: ".join(reloaded.faults))
    for warning in reloaded.warnings:
        click.echo(f"picoctl: warning: {escaped(warning)}", err=True)
    if not wants_json(context):
        emit(f"reloaded: {escaped(reloaded.line())}")

"""`picoctl whoami`: who a credential is of at each port of a node, and what it allows."""

from __future__ import annotations

import click

from pico_twisted.ctl.asking import Page, get, present
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.options import status_options
from pico_twisted.ctl.tables import known_table
from pico_twisted.net.admin.shapes.access import KnownAs
from pico_twisted.net.admin.shapes.paths import WHOAMI_PATH


@click.command(short_help="Show who a credential is of, and what it allows.")
@status_options()
@click.pass_context
def whoami(context: click.Context) -> None:
    """Show who the credential is of at each port of the node that is asked, its rules, and when it ends.

    It needs no rule for the admin port. A client certificate counts there alone. The exit status is 1 when the
    credential allows nothing at any port that asks for one.
    """

    def page(port: AdminPort) -> Page:
        if port.forward:
            raise click.BadParameter("each node is asked itself: --admin URL", param_hint="--forward")
        data, known = get(port, WHOAMI_PATH, dict[str, KnownAs])
        return Page(known_table(known), data, no=not any(one.rules for one in known.values()))

    present(context, page)

"""`picoctl version`: which version this is."""

from __future__ import annotations

import click

from pico_twisted import __version__
from pico_twisted.ctl.exits import emit


@click.command(short_help="Show the version of picoctl.")
def version() -> None:
    """Show the version of picoctl, as `picoctl -V` does. That of each node: picoctl status."""
    emit(f"picoctl {__version__}")

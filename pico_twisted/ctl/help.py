"""`picoctl help`: the help of picoctl, or of a subcommand."""

from __future__ import annotations

import click

from pico_twisted.ctl.exits import emit


@click.command(short_help="Show help.")
@click.argument("command", nargs=-1)
@click.pass_context
def help(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of picoctl or of a COMMAND, as its --help does."""
    shown = context.parent
    assert shown is not None
    for name in command:
        group = shown.command
        found = group.get_command(shown, name) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"No such command '{name}'.", shown)
        shown = click.Context(found, info_name=name, parent=shown, max_content_width=shown.max_content_width)
    emit(shown.get_help())

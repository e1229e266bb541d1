"""The commands: take a snapshot, and compare two."""

from __future__ import annotations

import time

import click

from pico_twisted.core.text import escaped, span
from pico_twisted.ctl.asking import emit_json
from pico_twisted.ctl.exits import emit
from pico_twisted.ctl.options import admin_options, admin_port, complete_file, json_option, wants_json
from pico_twisted.ctl.snapshot.archive import ABOUT


class _FileOrCommand(click.Group):
    """A group whose first word may be the name of a file."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "take", self.commands["take"], args
        return super().resolve_command(ctx, args)


@click.group(
    cls=_FileOrCommand,
    invoke_without_command=True,
    short_help="Put all that support needs into one file.",
    subcommand_metavar="[FILE.tar.gz | compare BEFORE AFTER]",
)
@admin_options()
@click.pass_context
def snapshot(context: click.Context) -> None:
    """Ask all nodes for what they know, and write it into one file: nodes, agents, endpoints, gossip, events, requests
    that failed, metrics, configurations, versions, and what the doctor says. It holds no secrets; it does hold
    addresses, names, and paths of requests. Only its owner can read it.

    With compare, show what is different in a later one: nodes, agents, endpoints, versions, configuration, and how
    fast counters rose.

    \b
    Examples:
      picoctl snapshot
      picoctl snapshot before.tar.gz
      picoctl snapshot compare before.tar.gz after.tar.gz
    """
    if context.invoked_subcommand is None:
        context.invoke(take)


@snapshot.command(hidden=True)
@click.argument("file", required=False, shell_complete=complete_file)
@admin_options()
@click.pass_context
def take(context: click.Context, file: str | None = None) -> None:
    """Write a snapshot."""
    from pico_twisted.ctl.doctor.command import as_json, diagnosis
    from pico_twisted.ctl.snapshot import taking
    from pico_twisted.ctl.snapshot.archive import write

    port = admin_port(context)
    file = file or time.strftime("pico-snapshot-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime())
    port.text("/health")  # before anything takes its time
    found = taking.take(port, [as_json(line) for line in diagnosis(port, None, None)])
    write(found, file)
    missing = found.mapping(ABOUT)["missing"]
    if wants_json(context):
        emit_json({"file": file, "missing": missing})
    else:
        emit(f"{file}: {len(found.nodes('ready.json'))} nodes, {len(found.parts)} parts")
    for name, why in missing.items():
        click.echo(f"picoctl: warning: {escaped(name)} is missing: {escaped(why)}", err=True)


@snapshot.command(short_help="Show what is different in a later snapshot.")
@click.argument("before", type=click.Path(exists=True, dir_okay=False))
@click.argument("after", type=click.Path(exists=True, dir_okay=False))
@json_option()
@click.pass_context
def compare(context: click.Context, before: str, after: str) -> None:
    """Show what is different in AFTER, a snapshot that was taken later than BEFORE."""
    from pico_twisted.ctl.snapshot.archive import read
    from pico_twisted.ctl.snapshot.comparing import differences

    old, new = read(before), read(after)
    found = dict(differences(old, new))
    if wants_json(context):
        emit_json(found)
        return
    blocks = ["\n".join((title, *(f"  {line}" for line in lines))) for title, lines in found.items()]
    elapsed = new.at_s - old.at_s
    when = f"{span(elapsed)} later" if elapsed >= 0 else f"taken {span(-elapsed)} before the first one"
    emit("\n\n".join([f"{escaped(after)}: {when}{'' if blocks else ', nothing changed'}", *blocks]))

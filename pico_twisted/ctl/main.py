"""The command line of picoctl."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Final

import click

from pico_twisted import __version__
from pico_twisted.ctl.exits import INTERRUPTED, OK
from pico_twisted.ctl.options import admin_options

COMMANDS: Final = {
    "agents": "pico_twisted.ctl.agents",
    "bench": "pico_twisted.ctl.bench.command",
    "check": "pico_twisted.ctl.check",
    "cluster": "pico_twisted.ctl.cluster.command",
    "completion": "pico_twisted.ctl.completion.command",
    "cordon": "pico_twisted.ctl.intake",
    "doctor": "pico_twisted.ctl.doctor.command",
    "drain": "pico_twisted.ctl.intake",
    "endpoint": "pico_twisted.ctl.agents",
    "events": "pico_twisted.ctl.watch.events",
    "file": "pico_twisted.expose.command",
    "forward": "pico_twisted.ctl.forward.command",
    "help": "pico_twisted.ctl.help",
    "http": "pico_twisted.expose.command",
    "kick": "pico_twisted.ctl.kick",
    "reload": "pico_twisted.ctl.reload",
    "revoke": "pico_twisted.ctl.revoke",
    "service": "pico_twisted.ctl.service.command",
    "snapshot": "pico_twisted.ctl.snapshot.command",
    "status": "pico_twisted.ctl.status",
    "tail": "pico_twisted.ctl.watch.tail",
    "tcp": "pico_twisted.expose.command",
    "token": "pico_twisted.ctl.token",
    "top": "pico_twisted.ctl.watch.top",
    "uncordon": "pico_twisted.ctl.intake",
    "version": "pico_twisted.ctl.version",
    "who": "pico_twisted.ctl.watch.who",
    "whoami": "pico_twisted.ctl.whoami",
}
"""The name of each subcommand, and the module that has it under this name. Those of `expose` run an agent: they stand
above picoctl, and are known to it by name only."""
_WIDTH = 100  # of help on wide terminals


class _Commands(click.Group):
    """Subcommands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        command: click.Command | None = getattr(import_module(module), cmd_name) if module is not None else None
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH})
@click.version_option(__version__, "-V", "--version", message="picoctl %(version)s")
@admin_options(hidden=True)
def cli() -> None:
    """Ask a Pico node about itself and its cluster, change what it does, check files, and measure.

    \b
    Exit status, for scripts:
      0  all is well
      1  the answer is no: no such node, not ready, nobody serves an endpoint,
         an invalid configuration, also one that is not reloaded, a name that is
         taken or not there,
         requests of a bench that failed
      2  the command line does not make sense
      3  no answer: a port cannot be reached or does not answer properly

    \b
    Examples:
      picoctl status
      picoctl status node n2 --admin https://10.0.0.1:8001 --ca ca.pem
      picoctl endpoint my-endpoint
      picoctl agents --watch
      picoctl status --forward n2 --json
      picoctl check /etc/pico/pico.yaml
      picoctl reload
      picoctl http 3000
      picoctl token create ci --rule 'listen:ci-*' --file /etc/pico/tokens
      picoctl revoke ci
      picoctl drain n3 --wait
      picoctl bench --connections 64 --duration 30s
    """


def run(arguments: Sequence[str]) -> int:
    """Run picoctl.

    Args:
        arguments: those behind its name.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ID that the terminal's encoding does not have
    try:
        result = cli.main(args=list(arguments), prog_name="picoctl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else OK


def main() -> None:
    """Run picoctl with the arguments of the process, and end it."""
    sys.exit(run(sys.argv[1:]))

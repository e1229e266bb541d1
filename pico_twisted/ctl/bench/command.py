"""The command line of `picoctl bench`. What it needs of Twisted is imported when it is called, and not before."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.bench.plan import plan_options, read_plan
from pico_twisted.ctl.exits import NO, emit
from pico_twisted.ctl.options import wants_json


@click.command(short_help="Measure a cluster under load.")
@plan_options
@click.option("--json", "as_json_too", is_flag=True, help="Print the figures as JSON.")
@click.pass_context
def bench(context: click.Context, /, as_json_too: bool, **given: Any) -> None:  # as click read them
    """Measure a cluster: register endpoints whose services echo, send requests, and tell how it went.

    All of it happens in this process: agents with real sessions, and clients. It ends with status 1 when requests
    failed, and with 3 when the cluster cannot be reached. Ctrl-C ends it early, with the figures up to then.
    """
    plan = read_plan(given)
    from pico_twisted.ctl.bench import report
    from pico_twisted.ctl.bench.run import run_bench

    outcome = run_bench(plan, _progress)
    as_json = as_json_too or wants_json(context)
    emit(json.dumps(report.as_json(outcome), indent=2) if as_json else report.as_text(outcome))
    if failed := outcome.record.errors.total():
        click.echo(f"picoctl: {failed} of {outcome.record.begun} failed", err=True)
        raise click.exceptions.Exit(NO)


def _progress(text: str) -> None:
    """Show a line on a terminal, in the place of the one before."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + escaped(text))
        sys.stderr.flush()

"""The command line of `picoctl bench`. What it needs of Twisted is imported when it is called, and not before."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Final

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.bench.plan import (
    BODIES,
    MAX_BODY_BYTES,
    MAX_CHURN,
    MAX_CONNECTIONS,
    MAX_RATE,
    MAX_REGISTRATIONS,
    METHODS,
    SMALL_BYTES,
    BenchPlan,
)
from pico_twisted.ctl.exits import NO, emit, end
from pico_twisted.ctl.options import Text, count, duration, wants_json

MAX_REQUESTS: Final = 1_000_000_000
"""The requests that one bench may make."""
DAY_S: Final = 86_400.0
"""The seconds that a measurement may take, and the load before it."""
DURATION_S: Final = 10.0
"""The seconds of a measurement for which nothing was said."""
MAX_TIMEOUT_S: Final = 600.0
"""The seconds that may be waited for one request."""
_SIZE: Final = Text(lambda kinds: kinds.size(least=0, most=MAX_BODY_BYTES))


def _proxy_urls(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    from pico_twisted.ctl.client import read_url

    return tuple(read_url(text, "--proxy") for text in texts)


def _token(context: click.Context, option: click.Parameter, file: str | None) -> str:
    if file is None:
        return ""
    try:
        with open(file, encoding="ascii") as opened:
            token = opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}", param_hint="--token-file") from None
    if not token or not token.isprintable() or " " in token:
        raise click.BadParameter(f"{file} holds no token", param_hint="--token-file")
    return token


class _Rate(click.FloatRange):
    """A number in decimal digits, perhaps with a fraction: float() would take `nan` and `1_0` too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", value):
            self.fail(f"{value!r} is not a number", param, ctx)
        return super().convert(value, param, ctx)


@click.command(short_help="Measure a cluster under load.")
@click.option(
    "--proxy", "proxies", callback=_proxy_urls, metavar="URL", multiple=True, default=("http://localhost:8000",),
    show_default=True, help="A proxy port; may be given several times, connections are shared out.",
)  # fmt: skip
@click.option(
    "--upstream", "upstreams", type=Text(lambda kinds: kinds.NODE_URL), metavar="URL", multiple=True,
    default=("http://localhost:8002",), show_default=True,
    help="An upstream port; may be given several times, agents are shared out.",
)  # fmt: skip
@click.option("--token-file", "token", callback=_token, metavar="FILE", help="Holds the token that the agents show.")
@click.option("--ca", metavar="FILE", default="", help="Trust the authorities in this PEM file, for https.")
@click.option(
    "--endpoints", type=count(1, MAX_REGISTRATIONS), default=1, show_default=True, metavar="N",
    help="Endpoints to register. Their IDs are new ones.",
)  # fmt: skip
@click.option(
    "--agents", type=count(1, 1000), default=2, show_default=True, metavar="N",
    help="Agents for each endpoint.",
)  # fmt: skip
@click.option(
    "--connections", type=count(1, MAX_CONNECTIONS), default=32, show_default=True, metavar="N",
    help="Connections of clients.",
)  # fmt: skip
@click.option(
    "--duration", "duration_s", type=duration(0.1, DAY_S), metavar="DURATION",
    help="How long to measure.  [default: 10s]",
)  # fmt: skip
@click.option("--requests", type=count(1, MAX_REQUESTS), metavar="N", help="How many, in place of --duration.")
@click.option(
    "--rate", type=_Rate(0.1, MAX_RATE), metavar="R",
    help="Begin R requests a second, however slow the answers, and count latency from when each was due, so that a "
    "stall is seen in full. Without it each connection sends again when it has its answer.",
)  # fmt: skip
@click.option(
    "--warm-up", "warm_up_s", type=duration(0.0, DAY_S), metavar="DURATION", default="1s", show_default=True,
    help="Load before the measurement.",
)  # fmt: skip
@click.option(
    "--churn", type=_Rate(0.0, MAX_CHURN), default=0.0, metavar="R",
    help="Agents a second that leave and come back.",
)  # fmt: skip
@click.option("--websocket", is_flag=True, help="Send messages over WebSockets, and wait for each to come back.")
@click.option("--method", type=click.Choice(METHODS), help="Of the requests.  [default: GET; with a body POST]")
@click.option(
    "--request-size", "request_bytes", type=_SIZE, metavar="SIZE",
    help="Of the body or message, such as 16KiB.  [default: 0; 128B]",
)  # fmt: skip
@click.option(
    "--response-size", "response_bytes", type=_SIZE, metavar="SIZE",
    help="Of the answer.  [default: the request's own body; else 128B]",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=duration(0.1, MAX_TIMEOUT_S), metavar="DURATION", default="10s", show_default=True,
    help="For a request, and for the start.",
)  # fmt: skip
@click.option("--json", "as_json_too", is_flag=True, help="Print the figures as JSON.")
@click.pass_context
def bench(context: click.Context, /, as_json_too: bool, **given: Any) -> None:  # as click read them
    """Measure a cluster: register endpoints whose services echo, send requests, and tell how it went.

    All of it happens in this process: agents with real sessions, and clients. It ends with status 1 when requests
    failed, and with 3 when the cluster cannot be reached. Ctrl-C ends it early, with the figures up to then.
    """
    plan = _plan(given)
    from pico_twisted.ctl.bench.run import run_bench

    outcome = run_bench(plan, _progress)
    from pico_twisted.ctl.bench import report

    if as_json_too or wants_json(context):
        emit(json.dumps(report.as_json(outcome), indent=2))
    else:
        emit(report.as_text(outcome))
    if failed := outcome.record.errors.total():
        click.echo(f"picoctl: {failed} of {outcome.record.begun} failed", err=True)
        end(NO)


def _plan(given: dict[str, Any]) -> BenchPlan:
    """What is wanted.

    Raises:
        click.UsageError: it does not make sense.
    """
    if given["duration_s"] is not None and given["requests"] is not None:
        raise click.UsageError("--duration and --requests: one of them ends the measurement")
    if given["websocket"] and (given["method"] or given["response_bytes"] is not None):
        raise click.UsageError("--websocket: messages come back as they are; no --method and no --response-size")
    plan = BenchPlan(**given | _settled(given))
    if plan.request_bytes and not plan.websocket and plan.method not in BODIES:
        raise click.UsageError(f"--request-size: a {plan.method} has no body; --method {' or '.join(BODIES)}")
    if plan.ca:
        from pico_twisted.ctl.client import read_trust

        if not any(url.startswith(("https:", "wss:")) for url in (*plan.proxies, *plan.upstreams)):
            raise click.BadParameter("is for https, and no URL is", param_hint="--ca")
        read_trust("https:", plan.ca)
    if fault := plan.fault():
        raise click.UsageError(fault)
    return plan


def _settled(given: dict[str, Any]) -> dict[str, Any]:
    """What the options that were not given stand for, where that depends on others."""
    websocket, request_bytes, response_bytes = (given[key] for key in ("websocket", "request_bytes", "response_bytes"))
    if request_bytes is None:
        request_bytes = SMALL_BYTES if websocket else 0
    if response_bytes is None and not request_bytes and not websocket:
        response_bytes = SMALL_BYTES
    return {
        "duration_s": given["duration_s"] or (DURATION_S if given["requests"] is None else None),
        "method": given["method"] or ("POST" if request_bytes and not websocket else "GET"),
        "request_bytes": request_bytes,
        "response_bytes": response_bytes,
    }


def _progress(text: str) -> None:
    """Show a line on a terminal, in the place of the one before."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + escaped(text))
        sys.stderr.flush()

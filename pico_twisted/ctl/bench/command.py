"""The command line of `picoctl bench`. What it needs of Twisted is imported when it is called, and not before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.bench.plan import (
    MAX_BODY_BYTES,
    MAX_CHURN,
    MAX_CONNECTIONS,
    MAX_RATE,
    MAX_REGISTRATIONS,
    METHODS,
    SMALL_BYTES,
    BenchPlan,
)
from pico_twisted.ctl.ends import NO, SaidNo, emit, end
from pico_twisted.ctl.options import wants_json

MAX_REQUESTS: Final = 1_000_000_000
DAY_S: Final = 86_400.0
MAX_TIMEOUT_S: Final = 600.0
_BODIES: Final = ("POST", "PUT", "PATCH")


@click.command(short_help="Measure a cluster under load.")
@click.option(
    "--proxy", "proxies", metavar="URL", multiple=True, default=("http://localhost:8000",), show_default=True,
    help="A proxy port; may be given several times, connections are shared out.",
)  # fmt: skip
@click.option(
    "--upstream", "upstreams", metavar="URL", multiple=True, default=("http://localhost:8002",), show_default=True,
    help="An upstream port; may be given several times, agents are shared out.",
)  # fmt: skip
@click.option("--token-file", metavar="FILE", help="Holds the token that the agents show.")
@click.option("--ca", metavar="FILE", help="Trust the authorities in this PEM file, for https.")
@click.option(
    "--endpoints", type=click.IntRange(1, MAX_REGISTRATIONS), default=1, show_default=True, metavar="N",
    help="Endpoints to register. Their IDs are new ones.",
)  # fmt: skip
@click.option(
    "--agents", type=click.IntRange(1, 1000), default=2, show_default=True, metavar="N",
    help="Agents for each endpoint.",
)  # fmt: skip
@click.option(
    "--connections", type=click.IntRange(1, MAX_CONNECTIONS), default=32, show_default=True, metavar="N",
    help="Connections of clients.",
)  # fmt: skip
@click.option("--duration", metavar="DURATION", help="How long to measure.  [default: 10s]")
@click.option("--requests", type=click.IntRange(1, MAX_REQUESTS), metavar="N", help="How many, in place of --duration.")
@click.option(
    "--rate", type=click.FloatRange(0.1, MAX_RATE), metavar="R",
    help="Begin R requests a second, however slow the answers, and count latency from when each was due, so that a "
    "stall is seen in full. Without it each connection sends again when it has its answer.",
)  # fmt: skip
@click.option("--warm-up", metavar="DURATION", default="1s", show_default=True, help="Load before the measurement.")
@click.option(
    "--churn", type=click.FloatRange(0.0, MAX_CHURN), default=0.0, metavar="R",
    help="Agents a second that leave and come back.",
)  # fmt: skip
@click.option("--websocket", is_flag=True, help="Send messages over WebSockets, and wait for each to come back.")
@click.option("--method", type=click.Choice(METHODS), help="Of the requests.  [default: GET; with a body POST]")
@click.option("--request-size", metavar="SIZE", help="Of the body or message, such as 16KiB.  [default: 0; 128B]")
@click.option("--response-size", metavar="SIZE", help="Of the answer.  [default: the request's own body; else 128B]")
@click.option(
    "--timeout", metavar="DURATION", default="10s", show_default=True, help="For a request, and for the start."
)
@click.option("--json", "as_json_too", is_flag=True, help="Print the figures as JSON.")
@click.option("--plot", metavar="FILE", help="Draw the latencies into a .png or .svg file.")
@click.pass_context
def bench(context: click.Context, as_json_too: bool, plot: str | None, **given: Any) -> None:
    """Measure a cluster: register endpoints whose services echo, send requests, and tell how it went.

    All of it happens in this process: agents with real sessions, and clients. It ends with status 1 when requests
    failed, and with 3 when the cluster cannot be reached. Ctrl-C ends it early, with the figures up to then.
    """
    plan = _plan(given)
    if plot is not None:
        from pico_twisted.ctl.bench.plot import find_fault

        if fault := find_fault(plot):
            raise click.BadParameter(fault, param_hint="--plot")
    from pico_twisted.ctl.bench.run import run_bench

    outcome = run_bench(plan, _progress())
    from pico_twisted.ctl.bench import report

    if as_json_too or wants_json(context):
        emit(json.dumps(report.as_json(outcome), indent=2))
    else:
        emit(report.as_text(outcome))
    if plot is not None and outcome.record.latencies.count:
        from pico_twisted.ctl.bench.plot import write_plot

        write_plot(outcome, report.title(plan), plot)
    elif plot is not None:
        raise SaidNo("no request succeeded: there is nothing to plot")
    if failed := outcome.record.errors.total():
        click.echo(f"picoctl: {failed} of {outcome.record.begun} failed", err=True)
        end(NO)


def _plan(given: dict[str, Any]) -> BenchPlan:
    """What is wanted.

    Raises:
        click.UsageError: it does not make sense.
    """
    from pico_twisted.config import kinds
    from pico_twisted.ctl.client import read_trust, read_url

    if given["duration"] is not None and given["requests"] is not None:
        raise click.UsageError("--duration and --requests: one of them ends the measurement")
    websocket = given["websocket"]
    if websocket and (given["method"] or given["response_size"]):
        raise click.UsageError("--websocket: messages come back as they are; no --method and no --response-size")
    size = kinds.size(least=0, most=MAX_BODY_BYTES)
    request_bytes = _read(size, "--request-size", given["request_size"])
    if request_bytes is None:
        request_bytes = SMALL_BYTES if websocket else 0
    method = given["method"] or ("POST" if request_bytes and not websocket else "GET")
    if request_bytes and not websocket and method not in _BODIES:
        raise click.UsageError(f"--request-size: a {method} has no body; --method {' or '.join(_BODIES)}")
    response_bytes = _read(size, "--response-size", given["response_size"])
    if response_bytes is None and not request_bytes and not websocket:
        response_bytes = SMALL_BYTES
    time = kinds.duration(least_s=0.1, most_s=DAY_S)
    duration_s = None if given["requests"] is not None else _read(time, "--duration", given["duration"] or "10s")
    proxies = tuple(read_url(url, "--proxy") for url in given["proxies"])
    upstreams = tuple(_read(kinds.NODE_URL, "--upstream", url) for url in given["upstreams"])
    if given["ca"] is not None:
        secure = next((url for url in (*proxies, *upstreams) if url.startswith(("https:", "wss:"))), None)
        if secure is None:
            raise click.BadParameter("is for https, and no URL is", param_hint="--ca")
        read_trust("https:", given["ca"])
    plan = BenchPlan(
        proxies=proxies,
        upstreams=upstreams,
        token=_token(given["token_file"]),
        ca=given["ca"] or "",
        endpoints=given["endpoints"],
        agents=given["agents"],
        connections=given["connections"],
        duration_s=duration_s,
        requests=given["requests"],
        rate=given["rate"],
        warm_up_s=_read(kinds.duration(least_s=0.0, most_s=DAY_S), "--warm-up", given["warm_up"]),
        churn=given["churn"],
        websocket=websocket,
        method=method,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        timeout_s=_read(kinds.duration(least_s=0.1, most_s=MAX_TIMEOUT_S), "--timeout", given["timeout"]),
    )
    if fault := plan.fault():
        raise click.UsageError(fault)
    return plan


def _read(kind: Any, option: str, text: str | None) -> Any:
    """The value of an option's text, as the configuration reads such values; None for none."""
    from pico_twisted.config.faults import Unfit

    if text is None:
        return None
    try:
        return kind.parse(text)
    except Unfit as misfit:
        raise click.BadParameter(str(misfit), param_hint=option) from None


def _token(file: str | None) -> str:
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


def _progress() -> Callable[[str], None] | None:
    """What shows a line that takes the place of the one before; None when nobody would see it."""
    stream = sys.stderr
    if not stream.isatty():
        return None

    def show(text: str) -> None:
        stream.write("\r\x1b[K" + escaped(text))
        stream.flush()

    return show

"""The command line of `picoctl forward`. What it needs of Twisted is imported when it is called, and not before."""

from __future__ import annotations

import os

import click

from pico_twisted.ctl.client import read_tls
from pico_twisted.ctl.forward.plan import (
    DEFAULT_PATIENCE_S,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    PROXY_URL,
    ForwardPlan,
    is_https,
    read_pairs,
    read_urls,
)
from pico_twisted.ctl.options import connection_options, duration, given_option, shown_token


@click.command(short_help="Forward local ports to TCP endpoints.")
@click.argument("pairs", nargs=-1, metavar="LOCAL ENDPOINT [LOCAL ENDPOINT ...]")
@click.option(
    "--url",
    "urls",
    multiple=True,
    metavar="URL",
    help="The proxy port of a node (http, https, ws or wss); may be given several times, or with commas: "
    f"connections are shared out, and go elsewhere while one is away. Also from {PROXY_URL}.  "
    f"[default: {DEFAULT_URL}]",
)
@click.option(
    "--patience",
    type=duration(0.0, 3600.0),
    help="How long a local connection waits for a node, and for an agent that serves the endpoint.  "
    f"[default: {DEFAULT_PATIENCE_S:g}s]",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but why nothing can be forwarded at all.")
@connection_options(DEFAULT_TIMEOUT_S)
@click.pass_context
def forward(
    context: click.Context, /, pairs: tuple[str, ...], urls: tuple[str, ...], patience: float | None, quiet: bool
) -> None:
    """Forward connections of this machine to TCP endpoints, whose agents and services may be anywhere.

    \b
    LOCAL is where local programs connect to:
      5432                a port of 127.0.0.1; 0 is any free one
      0.0.0.0:5432        an address, also [::1]:5432; :5432 is all of them
      unix:/run/db        a unix socket, for this user alone
      -                   stdin and stdout, as ssh's ProxyCommand wants it

    ENDPOINT is the ID of an endpoint whose listener has `protocol: tcp`.

    It runs until Ctrl-C or SIGTERM, whatever nodes do meanwhile: each local connection is a new try. One that cannot be
    forwarded, or is cut, is reset, and the reason is told on stderr.

    \b
    Examples:
      picoctl forward 5432 db --url https://pico.example.com
      picoctl forward 5432 db 6379 cache --url http://n1:8000 --url http://n2:8000
      ssh -o ProxyCommand='picoctl forward - ssh --url https://pico.lan' host
    """
    token, token_file = shown_token(context)
    ca, cert, key = (given_option(context, name) for name in ("ca", "cert", "key"))
    read = read_urls(urls, os.environ.get(PROXY_URL) or DEFAULT_URL)
    # What is shown is checked here, while the command line can still be refused.
    read_tls(next(filter(is_https, read), read[0]), ca, cert, key)
    plan = ForwardPlan(
        pairs=read_pairs(pairs),
        urls=read,
        token=token,
        token_file=token_file,
        ca=ca or "",
        cert=cert or "",
        key=key or "",
        timeout_s=given_option(context, "timeout") or DEFAULT_TIMEOUT_S,
        patience_s=DEFAULT_PATIENCE_S if patience is None else patience,
        quiet=quiet,
    )
    from pico_twisted.ctl.forward.run import run_forward

    raise click.exceptions.Exit(run_forward(plan))

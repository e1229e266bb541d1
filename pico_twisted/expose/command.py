"""The command lines of `picoctl http`, `tcp` and `file`. What they need of Twisted is imported when one is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
import click

from pico_twisted.config import ConfigFaults, Fault
from pico_twisted.config.faults import Unfit
from pico_twisted.config.kinds import NETWORK
from pico_twisted.config.port_kinds import HOST_HEADER, LOOPBACK_ADDRESS
from pico_twisted.ctl.options import Text, connection_options, duration, given_option, shown_token
from pico_twisted.expose.kept import config_folder
from pico_twisted.expose.plan import (
    REWRITE,
    USERS,
    ExposePlan,
    Guard,
    Shown,
    read_folder,
    read_targets,
    read_users,
)
from pico_twisted.expose.upstream import DEFAULT_URL, URL_VARIABLE, KeptUpstream, Upstream, choose, node_answers

F = TypeVar("F", bound=Callable[..., Any])  # a command, whatever its parameters

TIMEOUT_S: Final = 10.0
"""The seconds for one attempt to connect to a node."""

_OPTIONS: Final[Mapping[str, str]] = {
    "connect.url": "--to",
    "connect.token": "--token",
    "connect.token_file": "--token-file",
    "connect.tls.root_cas": "--ca",
    "connect.tls.cert": "--cert",
    "connect.tls.key": "--key",
    "addr": "SERVICE",
    "basic_auth_file": "--basic-auth-file",
    "tls.ca": "--service-ca",
    "rewrite_host": "--host-header",
    "host_header": "--host-header",
}
"""What a person calls the keys of the agent's configuration, those of a listener by their ends."""


def _options_of_all() -> Callable[[F], F]:
    """The options that all three commands have."""
    options = (
        click.option(
            "--to",
            multiple=True,
            metavar="URL",
            help="The upstream port of a node (https, http, wss or ws); may be given several times, or with commas. "
            f"It is remembered. Also from {URL_VARIABLE}.  "
            f"[default: the last one; else {DEFAULT_URL}; else a node in this process]",
        ),
        click.option("--local", is_flag=True, help="Use a node in this process, which this machine alone reaches."),
        click.option("--share", is_flag=True, help="Others may serve the same name: requests are shared out."),
        click.option(
            "--allow",
            multiple=True,
            type=Text("network", lambda _: NETWORK),
            metavar="CIDR",
            help="Let in clients of this network alone; may be given several times.",
        ),
        click.option(
            "--patience",
            type=duration(0.0, 3600.0),
            help="How long to wait at the start for a node that does not answer.  [default: 0s]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, an object in each line."),
        click.option("-q", "--quiet", is_flag=True, help="Print where it is reached, and no requests."),
    )
    return _all(options)


def _options_of_http() -> Callable[[F], F]:
    """Those of `http` and `file`."""
    options = (
        click.option(
            USERS,
            "users",
            multiple=True,
            metavar="USER:PASSWORD",
            help="Let in who knows this alone; may be given several times. Others of this machine see it in the list "
            "of processes.",
        ),
        click.option(
            "--basic-auth-file",
            "users_file",
            metavar="FILE",
            default="",
            help="The same from a file that `htpasswd -B` writes.",
        ),
        click.option("--qr", is_flag=True, help="Show the URL as a QR code, too."),
        click.option("--no-inspect", is_flag=True, help="Keep no requests, and show them at no local URL."),
        click.option(
            "--inspect",
            type=Text("address", lambda _: LOOPBACK_ADDRESS),
            metavar="ADDR",
            default="127.0.0.1:4040",
            help="Where the inspector listens, or at the next free port.  [default: 127.0.0.1:4040]",
        ),
    )
    return _all(options)


def _all(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command(short_help="Make a local HTTP service reachable.")
@click.argument("services", nargs=-1, metavar="[NAME=]SERVICE ...")
@click.option(
    "--host-header",
    is_flag=False,
    flag_value=REWRITE,
    metavar="[HOST]",
    default="",
    help="Send services this Host; without a value their own, such as localhost:3000, which development servers want. "
    "Else they get what the client asked for.",
)
@click.option("--insecure", is_flag=True, help="Do not check the certificates of https services.")
@click.option("--service-ca", metavar="FILE", default="", help="Trust the authorities in this PEM file for them.")
@_options_of_http()
@_options_of_all()
@connection_options(TIMEOUT_S)
@click.pass_context
def http(context: click.Context, /, services: tuple[str, ...], **given: Any) -> None:
    """Make a local HTTP service reachable through a node of Pico, for as long as this command runs.

    \b
    SERVICE is where it listens:
      3000                   a port of this machine
      10.0.0.7:8080          a host and a port
      https://10.0.0.7       a URL of http, https or h2c
      unix:/run/app.sock     a unix socket

    NAME is what it is called at the node, and in its URL; else it gets a name that is the same the next time.
    Each request is a line. Closing the terminal or Ctrl-C ends it.

    \b
    Examples:
      picoctl http 3000
      picoctl http shop=3000 api=8080 --to https://pico.example.com:8002
      picoctl http 5173 --host-header --qr
      picoctl http 3000 --basic-auth alice:secret --json
    """
    _expose(context, ExposePlan(targets=read_targets(services, "http"), upstream=Upstream()), given)


@click.command(short_help="Make a local TCP service reachable.")
@click.argument("services", nargs=-1, metavar="[NAME=]SERVICE ...")
@_options_of_all()
@connection_options(TIMEOUT_S)
@click.pass_context
def tcp(context: click.Context, /, services: tuple[str, ...], **given: Any) -> None:
    """Make a local TCP service reachable through a node of Pico, for as long as this command runs.

    SERVICE is a port of this machine, host:port, or unix:/path. Clients reach it with `picoctl forward`.

    \b
    Examples:
      picoctl tcp 5432
      picoctl tcp db=5432 cache=6379 --to https://pico.example.com:8002
    """
    _expose(context, ExposePlan(targets=read_targets(services, "tcp"), protocol="tcp", upstream=Upstream()), given)


@click.command(short_help="Make a folder reachable.")
@click.argument("folder", metavar="[NAME=]FOLDER")
@click.option("--hidden", is_flag=True, help="Serve files whose names begin with a dot, too.")
@_options_of_http()
@_options_of_all()
@connection_options(TIMEOUT_S)
@click.pass_context
def file(context: click.Context, /, folder: str, **given: Any) -> None:
    """Make the files of a folder reachable through a node of Pico, for as long as this command runs.

    They can be read, and not written. What links lead out of the folder to is not served, nor are files whose names
    begin with a dot.

    \b
    Examples:
      picoctl file ./photos --qr
      picoctl file docs=./build/html --basic-auth alice:secret
    """
    _expose(context, ExposePlan(targets=(read_folder(folder),), upstream=Upstream()), given)


def _expose(context: click.Context, plan: ExposePlan, given: Mapping[str, Any]) -> None:
    """Complete a plan with what was given, and carry it out until it ends.

    Raises:
        click.exceptions.Exit: it has ended.
        click.UsageError: what was given does not make sense.
        ExitWithMessage: the services cannot be made reachable.
    """
    if given["to"] and given["local"]:
        raise click.UsageError("--local is a node of this process, and --to another one")
    if given.get("users") and given.get("users_file"):
        raise click.UsageError(f"{USERS} is given beside --basic-auth-file: one of the two is enough")
    if (given.get("insecure") or given.get("service_ca")) and not any(target.is_https for target in plan.targets):
        raise click.UsageError("--insecure and --service-ca are for https services, as in https://localhost:8443")
    plan = attrs.evolve(
        plan,
        upstream=_upstream(context, given),
        share=given["share"],
        host_header=_host_header(given.get("host_header") or ""),
        service_ca=os.path.abspath(given["service_ca"]) if given.get("service_ca") else "",
        verify=not given.get("insecure"),
        hidden=bool(given.get("hidden")),
        guard=Guard(
            users=read_users(given.get("users", ())), users_file=given.get("users_file", ""), allow=given["allow"]
        ),
        patience_s=given["patience"] or 0.0,
        timeout_s=given_option(context, "timeout") or TIMEOUT_S,
        shown=Shown(json=given["as_json"], quiet=given["quiet"], qr=bool(given.get("qr"))),
        inspect=None if plan.protocol == "tcp" or given["no_inspect"] else given["inspect"],
    )
    from pico_twisted.app.process.reactor import install_reactor

    install_reactor()  # before anything else brings another one
    from pico_twisted.expose.run import run_expose

    try:
        status = run_expose(plan)
    except ConfigFaults as error:
        raise click.UsageError("\n".join(map(_words, error.faults))) from None
    raise click.exceptions.Exit(status)


def _upstream(context: click.Context, given: Mapping[str, Any]) -> Upstream:
    token, token_file = shown_token(context)
    ca, cert, key = (given_option(context, name) or "" for name in ("ca", "cert", "key"))
    shown = Upstream(token=token, token_file=token_file, ca=ca, cert=cert, key=key)
    if given["local"]:
        return shown
    notes: list[str] = []
    kept = KeptUpstream(config_folder(), notes.append).read()
    chosen = choose(given["to"], os.environ, kept, shown, node_answers)
    for note in notes:
        click.echo(f"picoctl: {note}", err=True)
    return chosen


def _host_header(text: str) -> str:
    if text == REWRITE:
        return text
    try:
        return HOST_HEADER.parse(text) or ""
    except Unfit as misfit:
        raise click.BadParameter(str(misfit), param_hint="--host-header") from None


def _words(fault: Fault) -> str:
    path = fault.path.partition("[")[0] if fault.path.startswith("connect") else fault.path.partition("].")[2]
    return f"{_OPTIONS.get(path, path)}: found {fault.found}, expected {fault.expected}"

"""The options that say which admin port is asked and how. They may stand before or behind a subcommand's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from pico_twisted.ctl.client import AdminPort

F = TypeVar("F", bound=Callable[..., Any])

ADMIN: Final = "PICO_ADMIN"
DEFAULT_URL: Final = "http://localhost:8001"
DEFAULT_TIMEOUT: Final = "10s"
"""Longer than a node waits for another one, so that its words about that one are seen."""

_KEY: Final = "pico_twisted.ctl."


def _keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Remember what was given; the innermost subcommand is read last, and so it wins."""
    assert option.name is not None
    if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
        context.meta[_KEY + option.name] = value


def admin_options(*, hidden: bool = False) -> Callable[[F], F]:
    """Give a command these options.

    Args:
        hidden: leave them out of its help.
    """
    options = (
        click.option(
            "--admin",
            metavar="URL",
            help=f"The admin port to ask; also from {ADMIN}.  [default: {DEFAULT_URL}]",
            **_common(hidden),
        ),
        click.option("--forward", metavar="ID", help="Let this node answer, through the one asked.", **_common(hidden)),
        click.option("--json", is_flag=True, help="Print the answer as JSON.", **_common(hidden)),
        click.option(
            "--ca", metavar="FILE", help="Trust the authorities in this PEM file, for https.", **_common(hidden)
        ),
        click.option(
            "--timeout",
            metavar="DURATION",
            help=f"How long to wait for an answer, such as 500ms or 1m.  [default: {DEFAULT_TIMEOUT}]",
            **_common(hidden),
        ),
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _common(hidden: bool) -> dict[str, Any]:
    return {"expose_value": False, "callback": _keep, "hidden": hidden}


def wants_json(context: click.Context) -> bool:
    """Whether the answer is to be printed as JSON."""
    return bool(context.meta.get(_KEY + "json"))


def admin_port(context: click.Context) -> AdminPort:
    """The admin port to ask.

    Raises:
        click.BadParameter: an option or `PICO_ADMIN` does not make sense.
    """
    from pico_twisted.ctl.client import AdminPort, read_trust, read_url

    given = {name: context.meta.get(_KEY + name) for name in ("admin", "forward", "ca", "timeout")}
    if given["admin"] is not None:
        url = read_url(given["admin"], "--admin")
    else:
        url = read_url(os.environ.get(ADMIN) or DEFAULT_URL, ADMIN)
    if given["forward"] == "":
        raise click.BadParameter("found nothing, expected the ID of a node", param_hint="--forward")
    return AdminPort(
        url=url,
        forward=given["forward"] or "",
        timeout_s=_read_timeout(given["timeout"] or DEFAULT_TIMEOUT),
        tls=read_trust(url, given["ca"]),
    )


def _read_timeout(text: str) -> float:
    if text == DEFAULT_TIMEOUT:
        return 10.0  # without the imports
    from pico_twisted.config.faults import Unfit
    from pico_twisted.config.kinds import duration

    try:
        seconds = duration(least_s=0.1, most_s=3600.0).parse(text)
    except Unfit as misfit:
        raise click.BadParameter(str(misfit), param_hint="--timeout") from None
    assert seconds is not None
    return seconds

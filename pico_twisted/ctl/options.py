"""The options that say which admin port is asked and how. They may stand before or behind a subcommand's name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pico_twisted.ctl.client import AdminPort

F = TypeVar("F", bound=Callable[..., Any])  # a command, whatever its parameters

ADMIN: Final = "PICO_ADMIN"
"""The name of the environment's variable for the admin port's URL."""
TOKEN: Final = "PICO_TOKEN"
"""The name of the environment's variable for the token that is shown."""
TOKEN_FILE: Final = "PICO_TOKEN_FILE"
"""The name of the environment's variable for the file with that token."""
DEFAULT_URL: Final = "http://localhost:8001"
"""The admin port of a node on this machine with its default ports."""
COMPLETE_S: Final = 1.0
"""Seconds that the completion of a word waits for a node."""
DEFAULT_TIMEOUT_S: Final = 10.0
"""The seconds for an answer: longer than a node waits for another one, so that its words about that one are seen."""

_KEY: Final = "pico_twisted.ctl."


class Text(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """An option whose text is read as the configuration reads such a value, once it is given.

    Args:
        name: what help calls such a value.
        kind: the kind of the value, of the module `config.kinds`, which is imported for it.
    """

    def __init__(self, name: str, kind: Callable[[Any], Any]) -> None:  # the module has no type of its own
        self.name = name
        self._kind = kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """The value of what was given (called by click)."""
        if not isinstance(value, str):
            return value
        from pico_twisted.config import kinds
        from pico_twisted.config.faults import Unfit

        try:
            return self._kind(kinds).parse(value)
        except Unfit as misfit:
            self.fail(str(misfit), param, ctx)


def count(least: int, most: int) -> Text:
    """An option that is a whole number, within these bounds."""
    return Text("n", lambda kinds: kinds.count(least=least, most=most))


def duration(least_s: float, most_s: float) -> Text:
    """An option that is a time, within these bounds in seconds."""
    return Text("duration", lambda kinds: kinds.duration(least_s=least_s, most_s=most_s))


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Remember what was given; the innermost subcommand is read last, and so it wins."""
    assert option.name is not None
    if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
        context.meta[_KEY + option.name] = value


def json_option() -> Callable[[F], F]:
    """Give a command that asks no admin port the option to print its answer as JSON."""
    return click.option("--json", help="Print the answer as JSON.", is_flag=True, expose_value=False, callback=_keep)


def complete_file(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file. Called by click."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type="file")]


def complete_node_id(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The IDs of nodes that begin so, for a shell that completes a word. Called by click."""
    return _completed(context, "/status/cluster/nodes", lambda found: [row["id"] for row in found], begun)


def complete_agent_id(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Those of agents."""
    path = "/status/cluster/agents"
    return _completed(context, path, lambda found: [row["agent"] for row in found["sessions"]], begun)


def complete_endpoint_id(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Those of endpoints."""
    return _completed(context, "/status/cluster/endpoints", list, begun)


def _completed(
    context: click.Context,
    path: str,
    ids: Callable[[Any], list[str]],  # is given what was decoded
    begun: str,
) -> list[str]:
    try:
        answer = attrs.evolve(admin_port(context), timeout_s=COMPLETE_S).ask(path)
        return sorted({id for id in ids(answer.data) if id.startswith(begun)})
    except (click.ClickException, AttributeError, LookupError, TypeError):  # there is no answer, or none of ours
        return []


def admin_options(*, hidden: bool = False) -> Callable[[F], F]:
    """Give a command these options.

    Args:
        hidden: leave them out of its help.
    """

    options = (
        _kept("--admin", f"The admin port to ask; also from {ADMIN}.  [default: {DEFAULT_URL}]", hidden, metavar="URL"),
        _kept(
            "--forward",
            "Let this node answer, through the one asked.",
            hidden,
            metavar="ID",
            shell_complete=complete_node_id,
        ),
        _kept("--json", "Print the answer as JSON.", hidden, is_flag=True),
        connection_options(DEFAULT_TIMEOUT_S, hidden=hidden),
    )
    return _all_of(options)


def connection_options(timeout_s: float, *, hidden: bool = False) -> Callable[[F], F]:
    """Give a command the options that say how a port is reached, and what it is shown.

    Args:
        timeout_s: the seconds for an answer of which nothing is said.
        hidden: leave them out of its help.
    """
    return _all_of(
        (
            _kept("--token-file", f"Show the token in this file; also from {TOKEN_FILE}.", hidden, metavar="FILE"),
            _kept("--token", f"Show this token, which others see in the list of processes; also from {TOKEN}.", hidden),
            _kept("--ca", "Trust the authorities in this PEM file, for https.", hidden, metavar="FILE"),
            _kept("--cert", "Show this certificate, a PEM file, for https.", hidden, metavar="FILE"),
            _kept("--key", "The key of that certificate, if it is not in the same file.", hidden, metavar="FILE"),
            _kept(
                "--timeout",
                f"How long to wait for an answer, such as 500ms or 1m.  [default: {timeout_s:g}s]",
                hidden,
                type=duration(0.1, 3600.0),
            ),
        )
    )


def _kept(name: str, text: str, hidden: bool, **details: Any) -> Callable[[F], F]:  # details as click.option takes them
    if details.get("metavar") == "FILE":
        details["shell_complete"] = complete_file
    return click.option(name, help=text, expose_value=False, callback=_keep, hidden=hidden, **details)


def _all_of(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def status_options() -> Callable[[F], F]:
    """Give a command that shows status those options, and the one to show it again and again."""

    def decorate(command: F) -> F:
        watch = click.option(
            "--watch",
            help="Show it again every two seconds, until Ctrl-C.",
            is_flag=True,
            expose_value=False,
            callback=_keep,
        )
        return watch(admin_options()(command))

    return decorate


def wants_watch(context: click.Context) -> bool:
    """Whether the answer is to be shown again and again."""
    return bool(context.meta.get(_KEY + "watch"))


def wants_json(context: click.Context) -> bool:
    """Whether the answer is to be printed as JSON."""
    return bool(context.meta.get(_KEY + "json"))


def admin_port(context: click.Context) -> AdminPort:
    """The admin port to ask.

    Raises:
        click.BadParameter: an option or a variable of the environment does not make sense.
    """
    from pico_twisted.ctl.client import AdminPort, read_tls, read_url

    names = ("admin", "forward", "ca", "cert", "key", "timeout")
    given = {name: context.meta.get(_KEY + name) for name in names}
    if given["admin"] is not None:
        url = read_url(given["admin"], "--admin")
    else:
        url = read_url(os.environ.get(ADMIN) or DEFAULT_URL, ADMIN)
    if given["forward"] == "":
        raise click.BadParameter("found nothing, expected the ID of a node", param_hint="--forward")
    return AdminPort(
        url=url,
        forward=given["forward"] or "",
        timeout_s=given["timeout"] or DEFAULT_TIMEOUT_S,
        tls=read_tls(url, given["ca"], given["cert"], given["key"]),
        token=shown_token(context)[0],
    )


def given_option(context: click.Context, name: str) -> Any:  # as the option's type reads it
    """The value of an option of `connection_options`; None when it was not given."""
    return context.meta.get(_KEY + name)


def shown_token(context: click.Context) -> tuple[str, str]:
    """The token to show, and the file that it is from. What is on the command line counts before the environment.

    Returns:
        Both empty when none is given, the file empty when it is not from one.

    Raises:
        click.BadParameter: there is none where one should be.
    """
    token, path = context.meta.get(_KEY + "token"), context.meta.get(_KEY + "token_file")
    if token is not None and path is not None:
        raise click.BadParameter("is given beside --token: one of the two is enough", param_hint="--token-file")
    hint = "--token" if path is None else "--token-file"
    if token is None and path is None:
        token, path = os.environ.get(TOKEN) or None, os.environ.get(TOKEN_FILE) or None
        hint = TOKEN_FILE if token is None else TOKEN
    if token is None and path is None:
        return "", ""
    from pico_twisted.config.checks import read_secret
    from pico_twisted.config.faults import whose
    from pico_twisted.config.kinds import SECRET

    found = token if token is not None else read_secret(str(path))
    if found and SECRET.fits(found):
        return found, "" if token is not None else str(path)
    what = (
        "what is given is no token"
        if token is not None
        else f"{path} holds no token that can be read{whose(str(path))}"
    )
    raise click.BadParameter(f"{what}: {SECRET.expected} are needed", param_hint=hint)

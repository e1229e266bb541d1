"""`picoctl token`: makes tokens, lists them, and takes them away. Nothing is asked: only a file is read and changed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence

import click

from pico_twisted.config.replacing import NEW_MODE
from pico_twisted.core.access.credentials_file import TOKEN_PREFIX, hash_of, read_tokens
from pico_twisted.core.access.rules import BadRule, Rule
from pico_twisted.core.access.subject import Subject
from pico_twisted.core.text import NAME_PATTERN
from pico_twisted.ctl.asking import emit_json
from pico_twisted.ctl.exits import SaidNo, emit
from pico_twisted.ctl.options import json_option, wants_json
from pico_twisted.ctl.tables import tokens_table
from pico_twisted.ctl.tokens_file import change_file, read_file

_FILE = click.option("--file", "path", required=True, help="The `tokens_file` of a port.", metavar="FILE")


def _name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not NAME_PATTERN.fullmatch(value):
        raise click.BadParameter("a name has 1 to 64 letters, digits, dots, dashes or underscores")
    return value


def _rules(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[Rule, ...]:
    try:
        return tuple(map(Rule.read, values))
    except BadRule as error:
        raise click.BadParameter(str(error)) from None


@click.group(short_help="Make tokens, list them, and take them away.")
def token() -> None:
    """Tokens of the ports that have a `tokens_file` in their section `auth`. The file has a line for each token: its
    name, its hash and its rules. The token itself is shown once, when it is made.
    """


@token.command(short_help="Make a token.")
@click.argument("name", callback=_name)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    required=True,
    callback=_rules,
    metavar="RULE",
    help="What it allows: listen:PATTERN, connect:PATTERN, admin:read or admin:operate; several times for several.",
)
@_FILE
@click.option("--token-file", "out", help="Write the token to this new file, and do not print it.", metavar="FILE")
@json_option()
@click.pass_context
def create(context: click.Context, name: str, rules: tuple[Rule, ...], path: str, out: str | None) -> None:
    """Make the token NAME, add its line to the file, and print the token. The file is made if it is not there.

    A pattern is an endpoint ID, or the beginning of some with a * behind it; limits may follow:

    \b
      picoctl token create ci --rule 'listen:ci-*' --file /etc/pico/tokens
      picoctl token create app --rule 'connect:shop;rate=9/s' --file tokens
    """
    made = TOKEN_PREFIX + secrets.token_hex(32)
    texts = list(map(str, rules))
    line = " ".join([name, f"sha256:{hash_of(made.encode()).hex()}", *texts]) + "\n"

    def add(text: str) -> str:
        if any(subject.name == name for subject in _read(path, text).values()):
            raise SaidNo(f"{path} has a token {name} already: choose another name, or revoke that one first")
        return text + ("\n" if text and not text.endswith("\n") else "") + line

    with contextlib.ExitStack() as undo:
        if out is not None:
            _write_new(out, made + "\n")
            undo.callback(os.unlink, out)
        new = change_file(path, add, make=True)
        undo.pop_all()
    if new:
        click.echo(f"picoctl: {path} is new: let the daemon's user read it, such as with chown pico {path}", err=True)
    click.echo("picoctl: nodes take it with their next reload: picoctl reload", err=True)
    if wants_json(context):
        emit_json({"name": name, "rules": texts, "file": path, **({"token": made} if out is None else {})})
    elif out is None:
        emit(made)


@token.command("list", short_help="List tokens and their rules.")
@_FILE
@json_option()
@click.pass_context
def list_(context: click.Context, path: str) -> None:
    """The names and rules of the tokens in the file. The tokens themselves are nowhere."""
    found = sorted(_read(path, read_file(path)).values(), key=lambda subject: subject.name)
    if wants_json(context):
        emit_json([{"name": subject.name, "rules": list(map(str, subject.rules))} for subject in found])
    else:
        emit(tokens_table(found) if found else f"{path} has no tokens")


@token.command(short_help="Take a token away.")
@click.argument("name", callback=_name)
@_FILE
def revoke(name: str, path: str) -> None:
    """Take the line of the token NAME out of the file. It counts until the nodes are reloaded.

    To refuse it at all nodes at once: picoctl revoke NAME.
    """

    def take_out(text: str) -> str:
        lines = text.split("\n")
        kept = [line for line in lines if line.split()[:1] != [name]]
        if len(kept) == len(lines):
            raise SaidNo(f"{path} has no token {name}")
        return "\n".join(kept)

    change_file(path, take_out, make=False)
    click.echo(
        f"picoctl: nodes take it with their next reload: picoctl reload. At all nodes at once: picoctl revoke {name}",
        err=True,
    )


def _read(path: str, text: str) -> Mapping[bytes, Subject]:
    """The tokens of a file in which nothing is wrong."""
    found, faults = read_tokens(text)
    if faults:
        words = (f"{path}:{fault.line}: found {fault.found}, expected {fault.expected}" for fault in faults)
        raise SaidNo("\n".join(words))
    return found


def _write_new(path: str, text: str) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_MODE), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise SaidNo(f"{path} is there already, and is not written over") from None
    except OSError as error:
        raise SaidNo(f"{path} cannot be written: {error.strerror}") from None

"""The commands in a block of the documentation, and whether those of ours have the options that it gives them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import click

from pico_twisted.app.cli.options import AgentOptions, DaemonOptions, NodeOptions
from pico_twisted.ctl.main import cli
from tests.pages.blocks import Block

DAEMONS: Final[dict[str, type[DaemonOptions[Any]]]] = {
    "pico": NodeOptions,
    "pico-node": NodeOptions,
    "pico-agent": AgentOptions,
}
"""The options of the daemons, by the words that start them."""

_HERE_DOCUMENT: Final = re.compile(r"<<'?(\w+)'?")
_ASSIGNMENT: Final = re.compile(r"\w+=")
_PUNCTUATION: Final = frozenset("();<>|&")


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block: of a session only what is typed, not what is answered."""
    until = ""
    for line in _lines(block):
        if until:
            until = "" if line == until else until
            continue
        if here := _HERE_DOCUMENT.search(line):
            until = here[1]
        yield from _split(line)


def _lines(block: Block) -> Iterator[str]:
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language != "console":
            yield line
        elif line.startswith("$ "):
            yield line[2:]


def _split(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of the shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= _PUNCTUATION and not set(word) & set("<>"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def wrong_option(words: Sequence[str]) -> str:
    """What is wrong with a command of ours; empty when nothing is, or when it is not ours."""
    rest = list(itertools.dropwhile(_ASSIGNMENT.match, words))
    if not rest:
        return ""
    name, arguments = rest[0].rpartition("/")[2], rest[1:]
    if name == "picoctl":
        return _wrong_of_picoctl(arguments)
    if name == "twistd":  # what stands before the name of the plugin is for twistd itself
        plugin = next((at for at, word in enumerate(arguments) if word in DAEMONS), len(arguments))
        name, arguments = " ".join(arguments[plugin : plugin + 1]), arguments[plugin + 1 :]
    return _wrong_of_daemon(DAEMONS[name], arguments) if name in DAEMONS else ""


def _wrong_of_picoctl(words: list[str]) -> str:
    command: click.Command = cli
    context = click.Context(cli, info_name="picoctl")
    known = _options_of(cli)
    for word in words:
        if word.startswith("-") and len(word) > 1:
            if word.partition("=")[0] not in known:
                return f"{context.command_path} has no option {word}"
        elif isinstance(command, click.Group) and (found := command.get_command(context, word)):
            command, context = found, click.Context(found, info_name=word, parent=context)
            known = known | _options_of(found)
    if isinstance(command, click.Group) and command is cli and words and not words[0].startswith("-"):
        return f"picoctl has no command {words[0]}"
    return ""


def _options_of(command: click.Command) -> frozenset[str]:
    own = (name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))
    return frozenset((*own, *command.context_settings.get("help_option_names", ()), "--help", "-h"))


def _wrong_of_daemon(options: type[DaemonOptions[Any]], words: Sequence[str]) -> str:
    known = flags(options)
    for word in words:
        if word.startswith("--") and word[2:].partition("=")[0] not in known:
            return f"{options.command} has no flag {word}"
    return ""


@cache
def flags(options: type[DaemonOptions[Any]]) -> frozenset[str]:
    """The flags of a daemon, without their dashes."""
    return frozenset(flag.rstrip("=") for flag in options().longOpt)

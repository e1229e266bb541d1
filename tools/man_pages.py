"""Writes the man pages and the completions of shells that packages install, from picoctl and the configuration classes.

Run as `python -m tools.man_pages [DIRECTORY]`, where the directory is that of the project; with `--check` nothing is
written, and the status is 1 when a file is stale. `make man-pages` does the first, a test of the suite the second.

The pages are in the `man` macros, which all formatters know. One writer makes all three kinds: commands out of click,
daemons out of their options, files out of their keys.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pico_twisted import __version__
from pico_twisted.app.cli.options import AgentOptions, DaemonOptions, NodeOptions
from pico_twisted.config import AgentConfig, NodeConfig
from pico_twisted.config.command_line import daemon_flags
from pico_twisted.config.fields import Key, all_keys, own_keys
from pico_twisted.ctl.completion.command import SHELLS, scripts
from pico_twisted.ctl.main import COMMANDS, cli

_MAN = "etc/man"
_COMPLETIONS = "etc/completions"
_HEAD = '.\\" Written by tools/man_pages.py: change what it reads, and run `make man-pages`.\n'
_CODE = re.compile(r"`([^`]+)`")
_DAEMONS: dict[str, type[DaemonOptions[Any]]] = {"pico-node": NodeOptions, "pico-agent": AgentOptions}
_SEE_ALSO = ("picoctl(1)", "pico.yaml(5)", "pico-agent.yaml(5)", "pico-node(8)", "pico-agent(8)")
_SIGNALS = {
    "SIGTERM, SIGINT": "Stop in order: requests in progress have grace_period. The second one ends at once.",
    "SIGHUP": "Read the configuration, its secrets and certificates again, and open log files again.",
    "SIGUSR1": "Open log files again.",
}
_ENVIRONMENT = {
    "PICO_ADMIN": "URL of the admin port that is asked, or unix: and the path of a socket.",
    "PICO_TOKEN, PICO_TOKEN_FILE": "The token that is shown there, or the file that holds it.",
}


def escaped(text: str) -> str:
    """A text as roff reads it: no character of it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def prose(text: str) -> str:
    """A paragraph; what stands in backticks is bold."""
    joined = " ".join(text.split())
    parts = _CODE.split(joined)
    marked = [part if at % 2 == 0 else f"\x01{part}\x02" for at, part in enumerate(parts)]
    return escaped("".join(marked)).replace("\x01", "\\fB").replace("\x02", "\\fR")


class Page:
    """A man page that is being written.

    Args:
        name: what it is of.
        section: of the manual.
        what: it in a few words.
    """

    def __init__(self, name: str, section: int, what: str) -> None:
        title = f'.TH {escaped(name.upper())} {section} "" "pico_twisted {__version__}" "Pico"'
        self._lines = [title, ".nh", ".ad l"]
        self.section("NAME")
        self._lines.append(f"{escaped(name)} \\- {escaped(what[:1].lower() + what[1:].rstrip('.'))}")
        self._name, self._number = name, section

    def section(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {title}")

    def part(self, title: str) -> None:
        """Begin a part of a section."""
        self._lines.append(f'.SS "{escaped(title)}"')

    def paragraph(self, text: str) -> None:
        """A paragraph."""
        self._lines += [".PP", prose(text)]

    def block(self, text: str) -> None:
        """Lines that stay as they are."""
        self._lines += [".PP", ".nf", escaped(text), ".fi"]

    def item(self, term: str, *texts: str) -> None:
        """A term, and what is said of it."""
        self._lines += [".TP", f"\\fB{escaped(term)}\\fR", *map(prose, texts)]

    def help(self, text: str) -> None:
        """The help of a click command: paragraphs, and blocks that begin with a backspace."""
        for piece in re.split(r"\n\s*\n", text.strip("\n")):
            lines = piece.split("\n")
            if lines[0].strip() == "\b":
                self.block("\n".join(lines[1:]))
            else:
                self.paragraph(piece)

    def written(self) -> str:
        """The page."""
        self.section("SEE ALSO")
        own = f"{self._name}({self._number})"
        self._lines.append(", ".join(escaped(other) for other in _SEE_ALSO if other != own))
        return _HEAD + "\n".join(self._lines) + "\n"


# Commands


def command_page(name: str, command: click.Command) -> str:
    """The page of picoctl, or of one of its commands with those below it."""
    root = _root()
    context = root if command is cli else click.Context(command, info_name=name.partition("-")[2], parent=root)
    page = Page(name, 1, _short(command))
    page.section("SYNOPSIS")
    page.paragraph(_synopsis(context))
    page.section("DESCRIPTION")
    page.help(command.help or "")
    _options(page, context)
    for sub_name, inner in _subcommands(command, context):
        if command is cli:
            continue
        below = click.Context(inner, info_name=sub_name, parent=context)
        page.section(f'"{escaped(f"{context.command_path} {sub_name}".upper())}"')
        page.paragraph(_synopsis(below))
        page.help(inner.help or "")
        _options(page, below, ".SS")
    if command is cli:
        page.section("COMMANDS")
        for sub_name, inner in _subcommands(command, context):
            page.item(f"picoctl-{sub_name}(1)", _short(inner))
        page.section("ENVIRONMENT")
        for variable, what in _ENVIRONMENT.items():
            page.item(variable, what)
    return page.written()


def _root() -> click.Context:
    """The context of picoctl, as its own `main` makes it: the names of its help option are of it."""
    return click.Context(cli, info_name="picoctl", **{**cli.context_settings, "max_content_width": 1000})


def _short(command: click.Command) -> str:
    return command.get_short_help_str(limit=200) if command is not cli else "Ask and change Pico nodes"


def _synopsis(context: click.Context) -> str:
    words = [context.command_path, *context.command.collect_usage_pieces(context)]
    return " ".join(f"`{word}`" if at == 0 else word for at, word in enumerate(words))


def _subcommands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield name, found


def _options(page: Page, context: click.Context, level: str = ".SH") -> None:
    # click keeps the help option as whoever asked first had it: it is told by its names here.
    params = [param for param in context.command.params if not isinstance(param, click.Option) or not param.hidden]
    records = [param.get_help_record(context) for param in params]
    told = [record for record in records if record is not None]
    told.append((", ".join(sorted(context.help_option_names, key=len)), "Show this message and exit."))
    page.section("OPTIONS") if level == ".SH" else page.part("Options")
    for term, text in told:
        page.item(term, text or "")


# Daemons


def daemon_page(name: str, options: type[DaemonOptions[Any]]) -> str:
    """The page of a daemon."""
    kind = "agent" if options is AgentOptions else "node"
    page = Page(name, 8, f"Runs a Pico {kind}")
    page.section("SYNOPSIS")
    page.paragraph(f"`{name}` {options.synopsis}")
    page.section("DESCRIPTION")
    for paragraph in options.about:
        page.paragraph(_as_script(paragraph, name))
    page.section("OPTIONS")
    for flag in daemon_flags(options.config_class):
        page.item(f"--{flag.name}" + (f" {flag.kind.upper()}" if flag.kind else ""), flag.help, *_default(flag.default))
    page.section("EXAMPLES")
    for remark, line in options.examples:
        page.paragraph(f"{remark}:")
        page.block("    " + _as_script(line, name))
    page.section("SIGNALS")
    for signal, what in _SIGNALS.items():
        page.item(signal, what)
    page.section('"EXIT STATUS"')
    page.paragraph("0 after a stop, 1 when it could not start or cannot go on: the reason is on stderr.")
    return page.written()


def _as_script(text: str, name: str) -> str:
    """What is said of a daemon under twistd, of its own command."""
    command = "pico-agent" if name == "pico-agent" else "pico"
    text = re.sub(rf"twistd (?:-n --pidfile= )?{command}\b", name, text)
    return re.sub(r" With -n before pico(-agent)? the (node|agent) stays in the foreground\.", "", text)


def _default(text: str) -> Iterator[str]:
    if text:
        yield f"Default: `{text}`."


# Files


def file_page(name: str, config: type[Any], of: str) -> str:
    """The page of a configuration file."""
    page = Page(name, 5, f"Configuration of a Pico {of}")
    page.section("DESCRIPTION")
    page.paragraph(
        f"A YAML file that `pico-{of}` reads with `--config`. Every key may be left out, and every key is a flag too: "
        "`proxy.bind_addr` would be `--proxy.bind-addr`. Flags beat the file, and the file beats the defaults. A "
        f"commented sample with every key comes with the package. `picoctl check` says what is wrong with a file."
    )
    page.section("KEYS")
    for key in all_keys(config):
        if key.section is not None or key.item is not None:
            page.part(key.dotted)
            page.paragraph(key.help)
            for inner in own_keys(key.item, (f"{key.dotted}[]",)) if key.item is not None else ():
                _key(page, inner)
        else:
            _key(page, key)
    return page.written()


def _key(page: Page, key: Key) -> None:
    if key.section is not None:
        page.part(key.dotted)
        page.paragraph(key.help)
        for inner in own_keys(key.section, key.path):
            _key(page, inner)
    elif key.kind is not None:
        page.item(f"{key.dotted}: {key.kind.name}", key.help, *_default(key.default_text))


# All of them


def files() -> Iterator[tuple[str, str]]:
    """The name and the text of each file."""
    yield f"{_MAN}/picoctl.1", command_page("picoctl", cli)
    context = _root()
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield f"{_MAN}/picoctl-{name}.1", command_page(f"picoctl-{name}", command)
    for name, options in _DAEMONS.items():
        yield f"{_MAN}/{name}.8", daemon_page(name, options)
    yield f"{_MAN}/pico.yaml.5", file_page("pico.yaml", NodeConfig, "node")
    yield f"{_MAN}/pico-agent.yaml.5", file_page("pico-agent.yaml", AgentConfig, "agent")
    for shell in SHELLS:
        for command_name, text in scripts(shell, cli).items():
            file = {"bash": command_name, "zsh": f"_{command_name}", "fish": f"{command_name}.fish"}[shell]
            yield f"{_COMPLETIONS}/{shell}/{file}", text


def stale(directory: Path) -> list[str]:
    """The files that are not as they would be written, those that nothing writes any more included."""
    wanted = dict(files())
    there = {
        str(path.relative_to(directory))
        for folder in (_MAN, _COMPLETIONS)
        for path in (directory / folder).rglob("*")
        if path.is_file()
    }

    def differs(name: str) -> bool:
        path = directory / name
        return not path.exists() or path.read_text(encoding="utf-8") != wanted[name]

    return sorted([*(name for name in wanted if differs(name)), *(there - wanted.keys())])


def main(arguments: Sequence[str]) -> int:
    """Write the files, or check them. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, default=Path())
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when a file is stale")
    given = parser.parse_args(arguments)
    found = stale(given.directory)
    for name in found:
        print(f"stale: {name}" if given.check else f"written: {name}")
    if given.check:
        return 1 if found else 0
    wanted = dict(files())
    for name in found:
        path = given.directory / name
        if name not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Completions of the daemons' flags, for bash, zsh and fish, from the classes of their configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pico_twisted.config.command_line import DAEMONS, Flag, daemon_flags

PLUGINS: Final = {"pico": "pico-node", "pico-agent": "pico-agent"}
"""The words behind `twistd` that start the daemons, and the commands that do the same."""


def bash(command: str) -> str:
    """The completion of one daemon."""
    flags = list(daemon_flags(DAEMONS[command]))
    function = f"_{command.replace('-', '_')}_flags"
    lines = [
        f"{function}() {{",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '  [ "$word" = "=" ] && word=""',
        '  [ "$before" = "=" ] && before="${COMP_WORDS[COMP_CWORD-2]}"',
        '  case "$before" in',
        f"    {_alternatives(flag for flag in flags if flag.file)})",
        '      mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;',
        f"    {_alternatives(flag for flag in flags if flag.kind == 'boolean')})",
        '      mapfile -t COMPREPLY < <(compgen -W "true false" -- "$word"); return ;;',
        f"    {_alternatives(flag for flag in flags if flag.kind and not flag.file and flag.kind != 'boolean')})",
        "      COMPREPLY=(); return ;;",
        "  esac",
        f'  mapfile -t COMPREPLY < <(compgen -W "{" ".join("--" + flag.name for flag in flags)}" -- "$word")',
        "}",
        f"complete -o filenames -F {function} {command}",
    ]
    return "\n".join(lines) + "\n"


def bash_twistd() -> str:
    """The completions of both daemons, and of twistd, whose own options are its business."""
    cases = [f"      {word}) _{command.replace('-', '_')}_flags; return ;;" for word, command in PLUGINS.items()]
    lines = [
        *map(bash, DAEMONS),
        "_pico_twistd() {",
        "  local word",
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '    case "$word" in',
        *cases,
        "    esac",
        "  done",
        f'  mapfile -t COMPREPLY < <(compgen -W "{" ".join(PLUGINS)}" -- "${{COMP_WORDS[COMP_CWORD]}}")',
        "}",
        "complete -o default -F _pico_twistd twistd",
    ]
    return "\n".join(lines) + "\n"


def zsh(command: str) -> str:
    """The completion of one daemon. That of twistd comes with zsh and asks twistd, which knows our flags."""
    function = f"_{command.replace('-', '_')}"
    specs = [f"    {_quoted(_zsh_spec(flag))} \\" for flag in daemon_flags(DAEMONS[command])]
    lines = [
        f"#compdef {command}",
        f"{function}() {{",
        "  _arguments -s \\",
        *specs,
        "    && return 0",
        "}",
        'if [[ "$zsh_eval_context[-1]" == loadautofunc ]]; then',
        f'  {function} "$@"',
        "else",
        f"  compdef {function} {command}",
        "fi",
    ]
    return "\n".join(lines) + "\n"


def _zsh_spec(flag: Flag) -> str:
    told = _first_sentence(flag.help).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    if not flag.kind:
        return f"--{flag.name}[{told}]"
    values = "_files" if flag.file else "(true false)" if flag.kind == "boolean" else " "
    kind = flag.kind.replace(":", "\\:")
    return f"*--{flag.name}=[{told}]:{kind}:{values}"


def fish(command: str) -> str:
    """The completion of one daemon."""
    return "\n".join([f"complete -c {command} -f", *_fish_flags(command, f"-c {command}")]) + "\n"


def fish_twistd() -> str:
    """The completion of the words behind twistd that start the daemons."""
    lines = []
    for word, command in PLUGINS.items():
        lines.append(f"complete -c twistd -n __fish_use_subcommand -a {word}")
        lines += _fish_flags(command, f"-c twistd -n '__fish_seen_subcommand_from {word}'")
    return "\n".join(lines) + "\n"


def _fish_flags(command: str, where: str) -> Iterator[str]:
    for flag in daemon_flags(DAEMONS[command]):
        values = " -r -F" if flag.file else " -x -a 'true false'" if flag.kind == "boolean" else " -x" * bool(flag.kind)
        yield f"complete {where} -l {flag.name}{values} -d {_quoted(_first_sentence(flag.help))}"


def _alternatives(flags: Iterator[Flag]) -> str:
    return "|".join(f"--{flag.name}" for flag in flags)


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _quoted(text: str) -> str:
    """A word for a shell, whatever is in it."""
    return "'" + text.replace("'", "'\\''") + "'"

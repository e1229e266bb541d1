"""The command: prints what a shell needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click

from pico_twisted.ctl.exits import emit

PROGRAM: Final = "picoctl"
VARIABLE: Final = "_PICOCTL_COMPLETE"
"""The variable of the environment by which a shell asks picoctl for words."""
SHELLS: Final = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what bash, zsh or fish needs to complete picoctl, pico-node, pico-agent, and both words behind twistd.
    picoctl asks the node for IDs of nodes, agents and endpoints.

    \b
    For this shell:     eval "$(picoctl completion bash)"
    For each, of bash:  picoctl completion bash > /etc/bash_completion.d/picoctl
              of zsh:   picoctl completion zsh > ~/.picoctl.zsh; then source it in ~/.zshrc, behind compinit
              of fish:  picoctl completion fish > ~/.config/fish/completions/picoctl.fish
    """
    found = scripts(shell, context.find_root().command)
    if shell == "bash":  # that of twistd has those of the daemons
        found = {command: found[command] for command in (PROGRAM, "twistd")}
    emit("\n".join(found.values()).rstrip("\n"))


def scripts(shell: str, cli: click.Command) -> dict[str, str]:
    """The completions for a shell.

    Args:
        shell: one of `SHELLS`.
        cli: picoctl.

    Returns:
        For each command the script.
    """
    from click.shell_completion import get_completion_class

    from pico_twisted.config.command_line import DAEMONS
    from pico_twisted.ctl.completion import daemons

    kind = get_completion_class(shell)
    assert kind is not None
    own = _without_check(kind)(cli, {}, PROGRAM, VARIABLE).source()
    of: Callable[[str], str] = {"bash": daemons.bash, "zsh": daemons.zsh, "fish": daemons.fish}[shell]
    found = {PROGRAM: own.strip() + "\n"} | {command: of(command) for command in DAEMONS}
    if shell == "bash":
        found["twistd"] = daemons.bash_twistd()
    elif shell == "fish":
        found["twistd"] = daemons.fish_twistd()
    return found


def _without_check(kind: type) -> type:
    """The class of a shell's completion that asks no shell for its version: it may be for another machine."""
    return type(kind.__name__, (kind,), {"_check_version": staticmethod(lambda: None)})

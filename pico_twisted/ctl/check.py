"""`picoctl check`: whether a daemon would start with a file."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from typing import Any

import attrs
import click

from pico_twisted.config import AgentConfig, ConfigFaults, NodeConfig, load_agent, load_node
from pico_twisted.config.certificates import certificate_warnings
from pico_twisted.config.document import parse_document
from pico_twisted.config.fields import all_keys
from pico_twisted.core.text import escaped
from pico_twisted.ctl.allowed import show_allowed
from pico_twisted.ctl.exits import SaidNo, emit
from pico_twisted.ctl.options import complete_file


@click.command(short_help="Check a configuration file.")
@click.argument("file", shell_complete=complete_file)
@click.option("--agent", is_flag=True, help="The file is for pico-agent, not for pico.")
@click.option("--as", "user", help="Check as this user, who will run the daemon. Only root can.", metavar="USER")
@click.option("--expand-env", is_flag=True, help="Replace ${VAR} and ${VAR:default}, as --config.expand-env does.")
@click.option("--token-file", help="Show what the token or JWT in this file may do at each port.", metavar="FILE")
@click.option("--endpoint", help="With --token-file: which rule lets it use or serve this endpoint.", metavar="ID")
def check(
    file: str, agent: bool, user: str | None, expand_env: bool, token_file: str | None, endpoint: str | None
) -> None:
    """Check a configuration file as `twistd pico --check` does, without starting anything.

    Certificates, keys and files of tokens are opened as the daemon would. Each fault is one line on stderr, with its
    line in the file, what was found and what was expected. A certificate that expires within two weeks is a warning.
    """
    if endpoint is not None and (token_file is None or agent):
        raise click.BadParameter("is for the token of a --token-file, and for a node", param_hint="--endpoint")
    now = datetime.now(UTC)
    if user is not None:
        _become(user)
    config: NodeConfig | AgentConfig
    try:
        config = (load_agent if agent else load_node)(file, environ=os.environ, expand_env=expand_env, now=now)
    except ConfigFaults as error:
        kinds = (AgentConfig, NodeConfig) if agent else (NodeConfig, AgentConfig)
        if foreign := only_the_others(file, *kinds):
            of, flag = ("pico", "") if agent else ("pico-agent", "--agent ")
            words = f"{file} is a file of {of} (it has {', '.join(foreign)}): picoctl check {flag}{file}"
            raise SaidNo(words) from None
        # A daemon's words for a file that it cannot read name its own flag.
        faults = [attrs.evolve(fault, where="") if fault.where == "--config" else fault for fault in error.faults]
        raise SaidNo("\n".join(map(str, faults))) from None
    for warning in certificate_warnings(config, now):
        click.echo(f"picoctl: warning: {escaped(warning)}", err=True)
    if token_file is None:
        emit("configuration is valid")
    else:
        show_allowed(config, token_file, endpoint)


def _become(user: str) -> None:
    """Be this user from here on, with the groups that a daemon of theirs would have."""
    from pico_twisted.config import pem  # noqa: F401 - while what is installed can be read

    try:
        found = pwd.getpwnam(user)
        if found.pw_uid != os.geteuid():
            os.initgroups(user, found.pw_gid)
            os.setgid(found.pw_gid)
            os.setuid(found.pw_uid)
    except (KeyError, ValueError):
        raise click.BadParameter(f"there is no user {user!r}", param_hint="--as") from None
    except PermissionError:
        raise click.BadParameter("only root can check as another user", param_hint="--as") from None


def only_the_others(file: str, kind: type[Any], other: type[Any]) -> list[str]:
    """The keys of the other daemon's configuration in a file that has none of this one's own; else nothing."""

    def sections(of: type[Any]) -> set[str]:
        return {key.path[0] for key in all_keys(of)}

    try:
        with open(file, "rb") as opened:
            lines = parse_document(opened.read(), file_name=file, environ=None).lines
    except (OSError, ValueError):
        return []
    own, others = sections(kind), sections(other)
    if lines.keys() & (own - others):
        return []
    return sorted(lines.keys() & (others - own))

"""The command: what is looked at, in which order, and how that ends."""

from __future__ import annotations

import getpass
import os
import pwd
import ssl
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.asking import Page, emit_json, get, present
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.doctor.lines import Line, Verdict, red, worst_first
from pico_twisted.ctl.exits import NO, ExitWithMessage, emit
from pico_twisted.ctl.options import admin_port, complete_file, given_option, status_options, wants_json, wants_watch
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow

DEFAULT_FILE: Final = "/etc/pico/pico.yaml"
"""The configuration that is looked at when none is named and no other machine is asked, if it is there."""


@click.command(short_help="Look for what is wrong: one line for each check.")
@click.option(
    "--config",
    "file",
    help=f"Look at this node's or agent's file, too.  [default: {DEFAULT_FILE}]",
    metavar="FILE",
    shell_complete=complete_file,
)
@click.option("--expand-env", is_flag=True, help="Replace ${VAR} in it, as --config.expand-env does.")
@click.option("--as", "user", help="Who runs the daemon.  [default: the user of its unit]", metavar="USER")
@status_options()
@click.pass_context
def doctor(context: click.Context, file: str | None, expand_env: bool, user: str | None) -> None:
    """Look at names, ports, clocks, secrets, certificates, file rights, limits, the kernel, versions and disks, and say
    how each is: green, yellow or red, and what to do. The status is 1 when anything is red.

    The node at the admin port is asked about itself and, through it, about all others. With a configuration what
    that names is tried from this machine: the nodes to join, or an agent's nodes, token and services. Nothing is
    changed, no session is opened, and each question has its time.

    \b
    Examples:
      picoctl doctor
      picoctl doctor --config /etc/pico/pico-agent.yaml
      picoctl doctor --admin https://10.0.0.1:8001 --ca ca.pem --json
    """
    if file is None and given_option(context, "admin") is None and os.path.exists(DEFAULT_FILE):
        file = DEFAULT_FILE
    if wants_watch(context):
        present(context, lambda port: _page(list(diagnosis(port, file, user, expand_env=expand_env))))
    lines = diagnosis(admin_port(context), file, user, expand_env=expand_env)
    if wants_json(context):
        found = list(lines)
        emit_json([as_json(line) for line in found])
    else:
        found = _emitted(lines)
    if any(line.verdict is Verdict.RED for line in found):
        raise click.exceptions.Exit(NO)


def diagnosis(port: AdminPort, file: str | None, user: str | None, *, expand_env: bool = False) -> Iterator[Line]:
    """Look at everything.

    Args:
        port: the admin port of a node.
        file: a configuration; None for none.
        user: who runs the daemon; None for the user of its unit.
        expand_env: whether `${VAR}` in the file is replaced.
    """
    from pico_twisted.ctl.doctor.machine import disk_lines, kernel_lines

    is_agents, directories, config = False, {"/var/log", "/var/lib/pico"}, None
    if file is not None:
        from pico_twisted.config import AgentConfig
        from pico_twisted.ctl.doctor.configuration import named_files, read_configuration, written_in
        from pico_twisted.ctl.doctor.machine import rights_lines

        config, lines = read_configuration(file, datetime.now(UTC), expand_env=expand_env)
        yield from lines
        if config is not None:
            is_agents = isinstance(config, AgentConfig)
            directories = written_in(config)
            runs_as = user or _user_of("pico-agent" if is_agents else "pico")
            yield from rights_lines([(file, False), *named_files(config)], runs_as)
            yield from _outside(config)
    yield from kernel_lines()
    yield from disk_lines(directories)
    if not is_agents:
        yield from _asked(port, config)


def _outside(config: object) -> Iterator[Line]:
    """What a configuration names outside its machine."""
    from pico_twisted.config import AgentConfig, NodeConfig

    if isinstance(config, AgentConfig):
        from pico_twisted.ctl.doctor.agent import agent_lines

        yield from agent_lines(config, os.environ)
    elif isinstance(config, NodeConfig):
        from pico_twisted.ctl.doctor.node import node_lines

        yield from node_lines(config)


def _user_of(unit: str) -> str:
    """Who runs a daemon: the user of its unit, where there is one, else whoever asks."""
    try:
        return pwd.getpwnam(unit).pw_name
    except KeyError:
        return getpass.getuser()


def _asked(port: AdminPort, config: object) -> Iterator[Line]:
    """What a node tells; with its configuration, whether this machine reaches the nodes that it tells of."""
    from pico_twisted.config import NodeConfig
    from pico_twisted.ctl.doctor.cluster import cluster_lines
    from pico_twisted.ctl.doctor.node import gossip_lines, public_lines

    try:
        yield from cluster_lines(port)
        _, own = get(port, "/status/cluster/nodes/local", NodeDetail)
        if isinstance(config, NodeConfig):
            yield from gossip_lines(config, get(port, "/status/cluster/nodes", list[NodeRow])[1])
    except ExitWithMessage as error:
        cure = "systemctl status pico; another address: --admin URL; who may ask: --token-file FILE"
        yield red("admin port", error.message, cure)
        return
    if own.public_url:
        yield from public_lines(own.public_url, port.tls or ssl.create_default_context())


def as_json(line: Line) -> dict[str, str]:
    """A line, as JSON can hold it."""
    return {"check": line.check, "verdict": line.verdict.value, "words": line.words, "cure": line.cure}


def _emitted(lines: Iterable[Line]) -> list[Line]:
    """Print lines as they come, since some take seconds, and a count below."""
    found = []
    for line in lines:
        found.append(line)
        emit(_text(line))
        sys.stdout.flush()
    emit(_count(found))
    return found


def _page(lines: list[Line]) -> Page:
    text = "\n".join([*map(_text, worst_first(lines)), _count(lines)])
    return Page(text, [as_json(line) for line in lines])


def _text(line: Line) -> str:
    verdict = line.verdict.value
    shown = click.style(f"{verdict:6}", fg=verdict, bold=line.verdict is Verdict.RED)
    return f"{shown}  {line.check:15}  {escaped(line.words)}" + (f" -> {escaped(line.cure)}" if line.cure else "")


def _count(lines: list[Line]) -> str:
    counts = {verdict: sum(line.verdict is verdict for line in lines) for verdict in Verdict}
    return ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)

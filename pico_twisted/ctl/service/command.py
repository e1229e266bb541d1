"""`picoctl service`: installs and removes services of this machine. No admin port is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

import click

from pico_twisted.ctl.exits import SaidNo, emit
from pico_twisted.ctl.service.daemons import DAEMONS
from pico_twisted.ctl.service.home import check_home, check_plain, this_home, unseen
from pico_twisted.ctl.service.install import Change, Plan
from pico_twisted.ctl.service.machine import Machine
from pico_twisted.ctl.service.remove import left_behind, removal
from pico_twisted.ctl.service.unit import SAMPLE_DIRECTORY, unit_text

_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_KIND = click.argument("kind", type=click.Choice(list(DAEMONS)))
_PRINT = click.option("--print", "dry", is_flag=True, help="Only show what would be done.")


@click.group(short_help="Make a node or an agent a service of this machine.")
def service() -> None:
    """A node or an agent as a service of this machine, under systemd."""


@service.command(short_help="Install, start, and wait until it is ready.")
@_KIND
@click.option("--config", help="Its configuration; the sample is written there if there is none.", metavar="FILE")
@click.option("--user", help="Who it runs as; made if not there.  [default: pico, or pico-agent]", metavar="USER")
@_PRINT
def install(kind: str, config: str | None, user: str | None, dry: bool) -> None:
    """Make a node or an agent a service: its user, its configuration, its unit, and a link to picoctl; then start it,
    and wait until it is ready. What is there already is left as it is, so this may be run again, such as after an
    upgrade. Needs root; `--print` does not.
    """
    daemon = DAEMONS[kind]
    config = os.path.abspath(config) if config is not None else f"{SAMPLE_DIRECTORY}/{daemon.config}"
    user = user if user is not None else daemon.unit
    if not _USER.fullmatch(user) or user == "root":
        raise click.BadParameter(f"found {user!r}, expected the name of a user who is not root", param_hint="--user")
    if why := unseen(config):
        raise click.BadParameter(f"{config} is where a service sees nothing ({why})", param_hint="--config")
    check_plain((config,))
    home, machine = this_home(), Machine()
    check_home(home, kind)
    if not dry:
        _check_rights(machine, f"service install {kind}")
    plan = Plan(machine=machine, home=home, daemon=daemon, config=config, user=user)
    _make(plan.changes(dry=dry), dry, f"{plan.service} is installed and runs")
    if dry:
        sample = home.sample(f"systemd/{plan.service}")
        emit(f"\nThe unit:\n\n{unit_text(sample, daemon, bin_directory=home.bin, config=config, user=user).rstrip()}")
    else:
        emit("\n" + daemon.next_steps.format(config=config))


@service.command(short_help="Stop it, and take it away.")
@_KIND
@_PRINT
def remove(kind: str, dry: bool) -> None:
    """Stop a service in order and remove its unit. Configuration, state and user are left, and named."""
    daemon = DAEMONS[kind]
    machine = Machine()
    if not dry:
        _check_rights(machine, f"service remove {kind}")
    _make(removal(machine, this_home(), daemon), dry, f"{daemon.unit}.service is not installed here")
    if left := left_behind(machine, daemon):
        emit(f"\nleft: {', '.join(left)}")


def _check_rights(machine: Machine, command: str) -> None:
    if os.geteuid() != 0:
        raise SaidNo(f"this needs root: sudo picoctl {command}. What it would do: picoctl {command} --print")
    if not machine.has_systemd():
        raise SaidNo("systemd does not run this machine, and there is nothing here that would start a service")


def _make(changes: Iterable[Change], dry: bool, nothing: str) -> None:
    """Tell each change, and make it."""
    count = 0
    for change in changes:
        emit(("would " if dry and change.do is not None else "") + change.words)
        if change.do is not None:
            count += 1
            if not dry:
                try:
                    change.do()
                except OSError as error:
                    raise SaidNo(f"cannot {change.words}: {error.strerror}") from None
    if not count:
        emit(f"{nothing}: nothing to change")

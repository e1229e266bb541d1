"""Takes a service away, and leaves what an operator wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pico_twisted.ctl.service.daemons import DAEMONS, Daemon
from pico_twisted.ctl.service.home import Home
from pico_twisted.ctl.service.install import Change
from pico_twisted.ctl.service.machine import LINK, UNITS, Machine
from pico_twisted.ctl.service.unit import is_ours


def removal(machine: Machine, home: Home, daemon: Daemon) -> Iterator[Change]:
    """What is to be done, in order, for a service to be gone.

    Args:
        machine: where.
        home: the installation that is asked.
        daemon: of which kind the service is.

    Raises:
        SaidNo: a command failed.
    """
    service = f"{daemon.unit}.service"
    path = f"{UNITS}/{service}"
    there = machine.read(path)
    if there is None:
        return
    stop = ("systemctl", "disable", "--now", service)
    yield Change(f"stop it, and have it started no more: {' '.join(stop)}", lambda: machine.must(*stop))
    if is_ours(there, home.sample(f"systemd/{service}")):
        yield Change(f"remove {path}", lambda: _remove_unit(machine, path))
        yield from _link(machine, home, daemon)
    else:
        yield Change(f"(leave {path}, since somebody wrote it: rm {path}; systemctl daemon-reload)")


def left_behind(machine: Machine, daemon: Daemon) -> list[str]:
    """What is on the machine still, and is the operator's: a line for each."""
    places = (
        f"{UNITS}/{daemon.unit}.service.d",
        f"{UNITS}/{daemon.unit}.socket",
        "/etc/pico",
        f"/var/lib/{daemon.unit}",
    )
    found = [place for place in places if os.path.lexists(machine.path(place))]
    return found + ([f"the user {daemon.unit}"] if machine.user(daemon.unit) is not None else [])


def _remove_unit(machine: Machine, path: str) -> None:
    machine.path(path).unlink()
    machine.must("systemctl", "daemon-reload")


def _link(machine: Machine, home: Home, daemon: Daemon) -> Iterator[Change]:
    """The link to picoctl goes with the last of the services."""
    others = (other for other in DAEMONS.values() if other is not daemon)
    link = machine.path(LINK)
    own = os.path.join(home.bin, "picoctl")
    last = not any(machine.path(f"{UNITS}/{other.unit}.service").exists() for other in others)
    if last and link.is_symlink() and os.readlink(link) == own:
        yield Change(f"remove the link {LINK}", link.unlink)

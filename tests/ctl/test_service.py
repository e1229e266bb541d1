"""`picoctl service`: what is done to a machine, in which order, and what is left alone. The machine is a directory, and
its commands are noted down; a real one boots for `make systemd`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from pico_twisted.ctl.exits import SaidNo
from pico_twisted.ctl.service.daemons import DAEMONS
from pico_twisted.ctl.service.home import Home, check_home, check_plain, unseen
from pico_twisted.ctl.service.install import Plan
from pico_twisted.ctl.service.machine import LINK, Machine, Said
from pico_twisted.ctl.service.remove import left_behind, removal
from pico_twisted.ctl.service.unit import is_ours, unit_text
from tests.ctl.harness import picoctl
from tools.stage.processes import ROOT

UNIT = "/etc/systemd/system/pico.service"
CONFIG = "/etc/pico/pico.yaml"
BIN = "/srv/pico/bin"


@attrs.define
class Commands:
    """Stands for the commands of a machine.

    Attributes:
        done: those that changed something, in order.
        enabled: whether the service is started at boot.
        active: whether it runs.
        users: those that the machine has.
        faults: what `picoctl check` says.
    """

    done: list[str] = attrs.field(factory=list)
    enabled: bool = False
    active: bool = False
    users: set[str] = attrs.field(factory=set)
    faults: str = ""

    def run(self, command: Sequence[str]) -> Said:
        """One of the commands that are known here."""
        match list(command):
            case ["systemctl", "is-enabled", "--quiet", "pico.service"]:
                return Said(0 if self.enabled else 1, "")
            case ["systemctl", "is-active", "--quiet", "pico.service"]:
                return Said(0 if self.active else 3, "")
            case [program, "check", "--as", "pico", _] if program == f"{BIN}/picoctl":
                return Said(1 if self.faults else 0, self.faults)
            case ["useradd", *_, user]:
                self.users.add(user)
            case ["systemctl", "enable", _]:
                self.enabled = True
            case ["systemctl", "start", _]:
                self.active = True
            case ["systemctl", "disable", "--now", _]:
                self.enabled = self.active = False
        self.done.append(" ".join(command))
        return Said(0, "")

    def user(self, name: str) -> tuple[int, int] | None:
        """All users have this process's numbers, since only root gives files to others."""
        return (os.getuid(), os.getgid()) if name in self.users else None


@pytest.fixture
def commands() -> Commands:
    """The machine's commands."""
    return Commands()


@pytest.fixture
def plan(tmp_path: Path, commands: Commands) -> Plan:
    """A node to be installed on a machine that has nothing."""
    for directory in ("etc/systemd/system", "run/systemd/system", "usr/local/bin"):
        (tmp_path / directory).mkdir(parents=True)
    machine = Machine(root=tmp_path, run=commands.run, user=commands.user)
    home = Home(prefix=os.path.dirname(BIN), python="/usr/bin/python3.11", package=str(ROOT / "pico_twisted"))
    return Plan(machine=machine, home=home, daemon=DAEMONS["node"], config=CONFIG, user="pico")


def install(plan: Plan) -> list[str]:
    """Install it. Returns what was changed."""
    words = []
    for change in plan.changes(dry=False):
        words.append(change.words)
        if change.do is not None:
            change.do()
    return words


def test_a_bare_machine(plan: Plan, commands: Commands) -> None:
    """The user, the configuration, the unit with the paths of this installation, and the link are made; the
    configuration is checked before anything is started, and starting waits, since the unit tells when it is ready."""
    mask = os.umask(0o077)
    try:
        install(plan)
    finally:
        os.umask(mask)
    assert commands.done == [
        "useradd --system --no-create-home --shell /usr/sbin/nologin pico",
        f"{BIN}/twistd --help",
        "systemctl daemon-reload",
        "systemctl enable pico.service",
        "systemctl start pico.service",
    ]
    config = plan.machine.path(CONFIG)
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o755
    assert config.read_text() == (ROOT / "etc/pico.yaml").read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    unit = plan.machine.path(UNIT).read_text()
    assert f"\nExecStart={BIN}/twistd -n --pidfile= pico --config {CONFIG}\n" in unit
    assert f"\nExecReload={BIN}/picoctl reload" in unit and "/opt/pico" not in unit
    assert os.readlink(plan.machine.path(LINK)) == f"{BIN}/picoctl"


def test_once_more(plan: Plan, commands: Commands) -> None:
    """Where all is there, nothing is changed."""
    install(plan)
    commands.done.clear()
    assert install(plan) == []
    assert commands.done == [f"{BIN}/twistd --help"]


def test_what_an_operator_wrote_stays(plan: Plan, commands: Commands) -> None:
    """A configuration, a changed unit and another picoctl are left, and a person is told."""
    install(plan)
    unit, config, link = (plan.machine.path(name) for name in (UNIT, CONFIG, LINK))
    unit.write_text(unit.read_text() + "# mine\n")
    config.write_text("cluster: {node_id: n7}\n")
    link.unlink()
    link.write_text("mine")
    told = install(plan)
    assert len(told) == 2 and all(words.startswith("(leave ") for words in told)
    assert unit.read_text().endswith("# mine\n")
    assert config.read_text() == "cluster: {node_id: n7}\n"
    assert link.read_text() == "mine"


def test_an_older_unit_of_ours_is_replaced(plan: Plan, commands: Commands) -> None:
    """Also one that was installed by hand. A service that runs is not cut: a person is told to restart it."""
    install(plan)
    unit = plan.machine.path(UNIT)
    new = unit.read_text()
    unit.write_text((ROOT / "etc/systemd/pico.service").read_text())
    commands.done.clear()
    told = install(plan)
    assert unit.read_text() == new
    assert commands.done == [f"{BIN}/twistd --help", "systemctl daemon-reload"]
    assert "restart pico" in told[-1]


def test_a_faulty_configuration_starts_nothing(plan: Plan, commands: Commands) -> None:
    """The faults are told, and what to do."""
    commands.faults = "picoctl: log.level: found nonsense"
    with pytest.raises(SaidNo, match=r"(?s)found nonsense.*nothing was started"):
        install(plan)
    assert not plan.machine.path(UNIT).exists()
    assert not any("start" in command for command in commands.done)


def test_files_of_an_unpacked_archive_are_for_the_daemon(plan: Plan) -> None:
    """Those that the configuration names, and that are root's alone (here: of who runs this). No other file changes."""
    directory = plan.machine.path("/etc/pico")
    directory.mkdir()
    for name, mode in (("pico.yaml", 0o600), ("secret", 0o600), ("other", 0o600), ("open", 0o644)):
        (directory / name).write_text("")
        (directory / name).chmod(mode)
    text = "cluster: {secret_files: [/etc/pico/secret, /etc/pico/open, /etc/passwd, /etc/pico/missing]}\n"
    (directory / "pico.yaml").write_text(text)
    install(plan)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"pico.yaml": 0o640, "secret": 0o640, "other": 0o600, "open": 0o644}


def test_removal(plan: Plan, commands: Commands) -> None:
    """It is stopped, and the unit and the link go; configuration and user stay, and are named."""
    install(plan)
    commands.done.clear()
    for change in removal(plan.machine, plan.home, plan.daemon):
        assert change.do is not None
        change.do()
    assert commands.done == ["systemctl disable --now pico.service", "systemctl daemon-reload"]
    assert not plan.machine.path(UNIT).exists() and not os.path.lexists(plan.machine.path(LINK))
    assert left_behind(plan.machine, plan.daemon) == ["/etc/pico", "the user pico"]
    assert not list(removal(plan.machine, plan.home, plan.daemon))


@pytest.mark.parametrize("kind", DAEMONS)
def test_units(kind: str) -> None:
    """The sample of each kind becomes a unit, whose changes are noticed."""
    daemon = DAEMONS[kind]
    sample = (ROOT / "etc" / "systemd" / f"{daemon.unit}.service").read_text()
    text = unit_text(sample, daemon, bin_directory="/x/bin", config="/y/z.yaml", user="somebody")
    assert "/x/bin/twistd" in text and "--config /y/z.yaml\n" in text and "\nUser=somebody\n" in text
    assert is_ours(text, sample) and is_ours(sample, sample)
    assert not is_ours(text.replace("somebody", "root"), sample) and not is_ours("", sample)
    with pytest.raises(SaidNo, match="another version"):
        unit_text(sample.replace("User=", "Group="), daemon, bin_directory="/x", config="/y", user="z")


@pytest.mark.parametrize("place", ["/root/.pyenv/bin/python3", "/home/ann/venv/bin/python3", "/tmp/venv/bin/python3"])
def test_where_a_service_sees_nothing(place: str) -> None:
    """A Python below /home or /root would end with 203/EXEC: it is refused with the reason and the way out."""
    home = Home(prefix="/opt/pico/venv", python=place, package="/opt/pico/venv/lib/pico_twisted")
    with pytest.raises(SaidNo, match=r"(?s)sees nothing \((ProtectHome|PrivateTmp)=yes.*/usr/bin/python3 -m venv"):
        check_home(home, "node")


def test_where_only_the_owner_gets(tmp_path: Path) -> None:
    """A directory that only its owner may pass is refused, too; and what a unit would not take for a path."""
    assert unseen("/opt/pico") == "" and unseen("/homes/x") == ""
    with pytest.raises(SaidNo, match="letters, digits"):
        check_plain(["/etc/pi co.yaml"])


@pytest.mark.parametrize(
    "options",
    [("other",), ("node", "--user", "root"), ("node", "--user", "a b"), ("node", "--config", "/root/pico.yaml")],
)
def test_what_makes_no_sense(options: tuple[str, ...]) -> None:
    """It is status 2, before the machine is looked at."""
    assert picoctl("service", "install", *options).returncode == 2

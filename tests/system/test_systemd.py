"""Under systemd: what the daemons tell it, and the unit files. The tests stand in for systemd itself."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pico_twisted.config import AgentConfig, NodeConfig
from pico_twisted.config.values import read_duration
from tests.system.service import Service
from tools.stage.asking import Admin
from tools.stage.kernel import state
from tools.stage.ports import Ports, free_port
from tools.stage.processes import ROOT
from tools.stage.stage import Stage
from tools.stage.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.parametrize("stage", ["plain"], indirect=True)
UNITS = ROOT / "etc" / "systemd"
WATCHDOG_S = 0.6
MAX_EXPOSURE = 2.5
Check = Callable[[list[str]], bool]


class Listener:
    """The socket that the daemons tell.

    Args:
        directory: where it lies.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._told: list[str] = []
        self.env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1_000_000))}

    @property
    def told(self) -> list[str]:
        """All lines so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._told += self._socket.recv(4096).decode().split("\n")
        return self._told

    def wait(self, line: str, count: int = 1) -> None:
        """Wait until a line was told so many times."""
        wait_until(lambda: self.told.count(line) >= count, f"{line!r} {count} times, told was {self._told[-20:]}")

    def beats(self) -> int:
        """Signs of life so far."""
        return self.told.count("WATCHDOG=1")

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    """It listens."""
    made = Listener(tmp_path)
    yield made
    made.close()


def test_a_node_from_its_start_to_its_end(stage: Stage, systemd: Listener) -> None:
    """READY when /ready says so, signs of life, RELOADING and READY around a reload, STOPPING at once, status 0."""
    ports = Ports.pick()
    node = stage.command("node", "pico", *ports.flags(), env=systemd.env)
    systemd.wait("READY=1")
    assert Admin(ports.admin, None).status("/ready") == 200
    systemd.wait("STATUS=1 node; here 0 endpoints, 0 upstreams")
    systemd.wait("WATCHDOG=1", systemd.beats() + 3)
    node.signal(signal.SIGHUP)
    systemd.wait("READY=1", 2)
    told = [line for line in systemd.told if not line.startswith(("STATUS=", "WATCHDOG="))]
    assert told[0] == "READY=1" and told[1] == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", told[2]) and told[3:] == ["READY=1"]
    node.terminate()
    assert node.wait_exit() == 0
    told = systemd.told[systemd.told.index("STOPPING=1") :]
    assert told.count("STOPPING=1") == 1 and "READY=1" not in told
    assert any(line.startswith("STATUS=draining") for line in told)


def test_the_status_follows_the_registrations(stage: Stage, systemd: Listener, service: Service) -> None:
    """`systemctl status` shows what is registered at the node, and at the agent."""
    ports = Ports.pick()
    stage.command("node", "pico", *ports.flags(), env=systemd.env)
    systemd.wait("READY=1")
    url = f"http://127.0.0.1:{ports.upstream}"
    stage.agent(url, {"one": service.address, "two": service.address}, env=systemd.env)
    systemd.wait("STATUS=1 node; here 2 endpoints, 2 upstreams")
    systemd.wait("STATUS=2 of 2 listeners registered")


def test_an_agent_without_a_node_is_ready(stage: Stage, systemd: Listener) -> None:
    """systemd must not end an agent because its node is away; the status tells."""
    agent = stage.agent(f"http://127.0.0.1:{free_port()}", {"web": "3000"}, env=systemd.env)
    systemd.wait("READY=1")
    systemd.wait("STATUS=0 of 1 listener registered")
    systemd.wait("WATCHDOG=1", 3)
    agent.terminate()
    systemd.wait("STOPPING=1")
    assert agent.wait_exit() == 0


def test_a_process_that_is_stuck_gives_no_signs_of_life(stage: Stage, systemd: Listener) -> None:
    """So systemd restarts it. One that goes on gives them again."""
    node = stage.command("node", "pico", *Ports.pick().flags(), env=systemd.env)
    systemd.wait("WATCHDOG=1", 2)
    node.signal(signal.SIGSTOP)
    wait_until(lambda: state(node.pid) == "T", "the node to stand still")
    beats = systemd.beats()
    with pytest.raises(TimeoutError):
        wait_until(lambda: systemd.beats() > beats, "a sign of life", 4 * WATCHDOG_S)
    node.signal(signal.SIGCONT)
    systemd.wait("WATCHDOG=1", beats + 2)


def test_a_node_that_cannot_start_says_why(stage: Stage, systemd: Listener) -> None:
    """In the status, and READY is not told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = Ports(taken.getsockname()[1], 0, 0, 0)
        node = stage.command("node", "pico", *ports.flags(), env=systemd.env)
        assert node.wait_exit() == 1
    address = f"127.0.0.1:{ports.proxy}"
    assert systemd.told == [f"STATUS=cannot listen on {address} (proxy.bind_addr): Address already in use"]


def unit_settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit file."""
    settings: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


def analysed(verb: str, name: str, directory: Path, *options: str) -> str:
    """What systemd-analyze says of a unit whose program is there: that of the documentation is not."""
    for program in ("twistd", "picoctl"):
        (directory / program).write_text("#!/bin/sh\n")
        (directory / program).chmod(0o755)
    text = (UNITS / name).read_text()
    (directory / name).write_text(text.replace("/opt/pico/venv/bin", str(directory)))
    command = ["systemd-analyze", verb, *options, str(directory / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["pico.service", "pico-agent.service", "pico-forward.service"])
class TestUnitFiles:
    """The unit files, without a process."""

    def test_nothing_is_wrong_with_it(self, stage: Stage, name: str, tmp_path: Path) -> None:
        """systemd knows every setting."""
        assert analysed("verify", name, tmp_path) == ""

    def test_it_is_hardened(self, stage: Stage, name: str, tmp_path: Path) -> None:
        """Whoever takes over the process gets little."""
        said = analysed("security", name, tmp_path, "--offline=true", "--no-pager")
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert level is not None, said
        assert float(level[1]) < MAX_EXPOSURE


@pytest.mark.parametrize("name", ["pico.service", "pico-agent.service"])
class TestUnitFilesOfDaemons:
    """Those of the daemons."""

    def test_what_it_asks_for_is_what_the_daemon_does(self, stage: Stage, name: str, tmp_path: Path) -> None:
        """Notification, a reload with a verdict, and time enough for the defaults of the configuration."""
        settings = unit_settings(name)
        command = name.removesuffix(".service")
        (started,) = settings["ExecStart"]
        assert started == f"/opt/pico/venv/bin/twistd -n --pidfile= {command} --config /etc/pico/{command}.yaml"
        assert settings["ExecReload"] == [f"/opt/pico/venv/bin/picoctl reload --admin unix:/run/{command}/admin"]
        assert settings["RuntimeDirectory"] == [command]
        assert settings.get("StateDirectory") == ([command] if command == "pico" else None)
        assert (settings["Type"], settings["NotifyAccess"]) == (["notify"], ["main"])
        config = NodeConfig() if command == "pico" else AgentConfig()
        assert read_duration(settings["TimeoutStopSec"][0]) > config.grace_period
        if isinstance(config, NodeConfig):
            assert read_duration(settings["TimeoutStartSec"][0]) > config.cluster.join_timeout
        # The callbacks of Python's TLS need memory that can be written and executed.
        assert "MemoryDenyWriteExecute" not in settings

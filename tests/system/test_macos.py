"""The agent and picoctl need no Linux: they run on the reactors that other systems have, and where Python has no epoll
and none of Linux's names. Nodes are for Linux."""

from __future__ import annotations

import importlib
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.system.macos import MISSING, PRELUDE
from tests.system.requesting import client_of
from tests.system.service import Connection, Service, answer
from tests.system.tcp import Session
from tools.stage.processes import environment
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

BODY = bytes(range(256)) * 8192  # 2 MiB
POST = b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: %d\r\n\r\n" % len(BODY)
PROGRAM = """
import pkgutil, sys
import pico_twisted.app.pico_agent, pico_twisted.app.agent, pico_twisted.app.agent_daemon, pico_twisted.ctl
from pico_twisted.ctl.main import COMMANDS, run
from importlib import import_module
for module in COMMANDS.values():
    import_module(module)
import pico_twisted.ctl.forward.run, pico_twisted.ctl.bench.run
from twisted.internet import reactor
print(sys.platform, type(reactor).__name__, run(["version"]))
"""


def sends_back(connection: Connection) -> None:
    """A script: answers with the body that came."""
    while True:
        connection.send(answer(connection.read_request().body))


def run_there(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program where all names of Linux are missing."""
    command = [sys.executable, "-c", f"{PRELUDE}\n{program}"]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def test_all_of_it_is_imported_without_names_of_linux() -> None:
    """The agent, all commands of picoctl and what they run import, and Twisted's own reactor is installed."""
    done = run_there(PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["darwin", "SelectReactor", "0"]


def test_the_names_are_linuxs() -> None:
    """What is taken away for these tests is there without: else they would prove nothing."""
    assert hasattr(importlib.import_module("select"), "epoll")
    assert all(hasattr(socket, name) for name in MISSING["socket"] if "*" not in name and name.startswith("SO"))
    assert "epoll" not in run_there("import select; print(dir(select))").stdout


@pytest.mark.parametrize("stage", ["tls"], indirect=True)
@pytest.mark.parametrize(
    ("options", "prelude"),
    [(["--reactor=select"], ""), (["--reactor=poll"], ""), ([], PRELUDE)],
    ids=["select", "poll", "macos"],
)
def test_an_agent_on_another_reactor(stage: Stage, options: list[str], prelude: str) -> None:
    """It serves large bodies both ways, a TCP session and a service at a Unix socket, reloads, and stops in order."""
    service = Service(sends_back)
    with tempfile.TemporaryDirectory() as short, socket.create_server(("127.0.0.1", 0)) as database:
        path = str(Path(short, "web"))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            node = stage.node()
            agent = stage.agent(
                node,
                {
                    "web": service.address,
                    "local": f"unix:{path}",
                    "db": {"addr": f"127.0.0.1:{database.getsockname()[1]}", "protocol": "tcp"},
                },
                prelude=prelude,
                options=options,
            )
            client = client_of(stage, node)
            client.send(POST + BODY)
            assert client.read_response().body == BODY
            client.send(POST.replace(b"web.example", b"local.example").replace(b"%d" % len(BODY), b"0"))
            accepted, _ = listening.accept()
            accepted.recv(65536)
            accepted.sendall(answer(b"local"))
            assert client.read_response().body == b"local"
            accepted.close()
            client.close()
        session = Session(node, "db")
        ours, _ = database.accept()
        session.send(b"question")
        assert ours.recv(100) == b"question"
        ours.sendall(b"answer")
        assert session.read(6) == b"answer"
        session.drop()
        ours.close()
        agent.signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in agent.output.lower(), "the agent to reload")
        agent.terminate()
        assert agent.wait_exit() == 0
    assert not service.errors()
    service.close()

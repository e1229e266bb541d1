"""Daemons that a person started on a terminal: what Ctrl-C says, and what the end of the terminal means."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.requesting import GET, ask
from tests.system.service import Service
from tests.system.terminal import Terminal
from tests.system.test_restart import PLAIN, ends, opened, streams
from tools.stage.nodes import Node
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until


def daemon(*arguments: str, twistd: tuple[str, ...] = ("-n", "--pidfile=")) -> Terminal:
    """A terminal with a daemon, in its foreground unless twistd is told otherwise."""
    run = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
    return Terminal([sys.executable, "-c", run, *twistd, *arguments])


@pytest.fixture
def node(stage: Stage) -> Node:
    """That an agent on a terminal connects to."""
    return stage.node()


@pytest.fixture
def terminal(node: Node, service: Service) -> Iterator[Terminal]:
    """With an agent that serves `web` and would give streams an hour."""
    service.script = streams
    flags = ("--connect.url", node.upstream_url, "--listen", f"web={service.address}", "--drain-streams", "1h")
    made = daemon("pico-agent", *flags)
    made.wait("or closing this terminal, stops the agent")
    yield made
    made.close()


@PLAIN
@pytest.mark.parametrize("how", ["Ctrl-C", "the window is closed"])
def test_the_end_of_an_agent(stage: Stage, node: Node, terminal: Terminal, how: str) -> None:
    """It waits two seconds for streams and says so, whatever the configuration gives them; then nothing is served."""
    assert ask(stage, node, GET).status == 200
    clients = opened(node)
    if how == "Ctrl-C":
        terminal.press(b"\x03")
        terminal.wait("Ctrl-C again to stop now (2 WebSocket or event streams open)")
    else:
        terminal.end()
    ends(clients)
    assert terminal.exit_status() == 0
    node.wait_endpoint("web", 0)


@PLAIN
def test_ctrl_c_twice(node: Node, terminal: Terminal) -> None:
    """The second one cuts what is open, at once."""
    clients = opened(node)
    terminal.press(b"\x03")
    terminal.wait("Ctrl-C again")
    terminal.press(b"\x03")
    terminal.wait("second signal")
    ends(clients)
    assert terminal.exit_status() == 0


@PLAIN
def test_nothing_open(terminal: Terminal) -> None:
    """Nothing is said of what is open when nothing is."""
    terminal.press(b"\x03")
    assert terminal.exit_status() == 0
    assert "Ctrl-C again" not in terminal.text


@PLAIN
def test_sighup_without_a_terminal(stage: Stage, node: Node, service: Service) -> None:
    """A daemon that no terminal shows reads its configuration again at SIGHUP, and serves on."""
    agent = stage.agent(node, {"web": service.address})
    agent.signal(signal.SIGHUP)
    agent.wait_output("Configuration reloaded")
    assert ask(stage, node, GET).status == 200


@PLAIN
def test_sighup_in_the_background(node: Node, service: Service, tmp_path: Path) -> None:
    """A daemon that left the terminal it was started from does not end with it: SIGHUP is a reload there."""
    log, pid = tmp_path / "agent.log", tmp_path / "agent.pid"
    flags = ("--connect.url", node.upstream_url, "--listen", f"web={service.address}")
    terminal = daemon("pico-agent", *flags, twistd=("--pidfile", str(pid), "--logfile", str(log)))
    try:
        assert terminal.exit_status() == 0
        node.wait_endpoint("web")
        terminal.end()
        os.kill(int(pid.read_text()), signal.SIGHUP)
        wait_until(lambda: "Configuration reloaded" in log.read_text(), "the reload")
        node.wait_endpoint("web")
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
        wait_until(lambda: not pid.exists(), "the end")
        terminal.close()

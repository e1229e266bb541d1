"""Where the lines of real processes go: to readers that stand still, and to files that are rotated."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.requesting import GET, ask
from tests.system.service import Service
from tools.stage.nodes import Node, Settings, merged
from tools.stage.ports import Ports
from tools.stage.processes import ROOT, find_program
from tools.stage.stage import Stage
from tools.stage.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.parametrize("stage", ["plain"], indirect=True)

LONG = 7000
"""Characters of a target that make few requests many bytes of log."""
UNREAD_REQUESTS = 200
"""Requests with such a target whose lines are more than a pipe and the daemon hold."""
STDERR = "import os; os.dup2(os.open({path!r}, os.O_WRONLY), 2); "
"""A prelude: stderr is this file."""
JOURNAL = "import os; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = str(s.st_dev) + ':' + str(s.st_ino); "
"""A prelude: what stderr is, is the journal of systemd."""


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Path]:
    """A pipe that takes 64 KiB, and that nobody reads: as a disk that hangs, or a supervisor that does."""
    path = tmp_path / "unread"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    yield path
    os.close(descriptor)


def lost(node: Node) -> float:
    """How many lines a node has lost."""
    return node.admin.metric("pico_log_lines_lost_total")


def registered(stage: Stage, service: Service, node: Node) -> None:
    """Start an agent, and wait until it is known to all workers of a node."""
    stage.agent(node, {"web": service.address})
    wait_until(lambda: all(ask(stage, node).status == 200 for _ in range(10)), "answers of all workers")


@pytest.mark.parametrize("where", ["stderr", "log file", "access log file", "worker's stderr"])
def test_a_reader_that_stands_still_stops_nothing(stage: Stage, service: Service, unread: Path, where: str) -> None:
    """Whatever lines go to may hang: requests are served, lines that are lost are counted, SIGTERM ends it in order."""
    workers = {"cluster": {"workers": 2}} if where.startswith("worker") else {}
    access = {"proxy": {"access_log_file": str(unread)}} if where == "access log file" else {}
    node = stage.node(
        settings={**workers, **access},
        prelude=STDERR.format(path=str(unread)) if "stderr" in where else "",
        options=["--logfile", str(unread)] if where == "log file" else [],
    )
    registered(stage, service, node)
    for number in range(UNREAD_REQUESTS * (2 if workers else 1)):
        head = GET.replace(b"/ ", b"/%d%s " % (number, b"x" * LONG), 1)
        assert ask(stage, node, head).status == 200
    wait_until(lambda: lost(node) > 0, "lost lines to be counted")
    node.terminate()
    assert node.wait_exit() == 0


def test_a_reader_that_goes_on_is_told_what_it_missed(stage: Stage, service: Service, unread: Path) -> None:
    """When the pipe is read again one line says how many were lost, and all that came before and behind it is whole."""
    node = stage.node(prelude=STDERR.format(path=str(unread)))
    stage.agent(node, {"web": service.address})
    while lost(node) == 0:
        assert ask(stage, node, GET.replace(b"/ ", b"/%s " % (b"x" * LONG), 1)).status == 200
    with open(os.open(unread, os.O_RDONLY), "rb", buffering=0) as reader:
        text = b""
        while b"are lost" not in text or not text.endswith(b"\n"):
            text += reader.read(1 << 16)
    records = [json.loads(line) for line in text.splitlines()]
    (told,) = [record for record in records if "lost" in record]
    assert told["level"] == "warn" and told["lost"] == lost(node)


@pytest.mark.parametrize("workers", [1, 2])
def test_lines_for_the_journal(stage: Stage, service: Service, workers: int) -> None:
    """Where systemd reads stderr each line has its level in front, for `journalctl -p`, and the time is left to it."""
    ports = Ports.pick()
    everywhere = {"upstream": {"bind_addr": f":{ports.upstream}"}}
    node = stage.node(settings={"cluster": {"workers": workers}, **everywhere}, ports=ports, prelude=JOURNAL)
    registered(stage, service, node)
    node.wait_output("GET / status=200")
    node.terminate()
    assert node.wait_exit() == 0
    lines = node.output.splitlines()
    assert all(re.match(r"<[2467]>[a-z][a-z._]+: ", line) for line in lines), lines
    assert "<4>app.cli.banner: Agents are not authenticated: keep the upstream port off the Internet" in node.output


# -- rotation


def targets(path: Path) -> list[str]:
    """The targets in the access lines of a file, as far as they were served, without those of `registered`."""
    with contextlib.suppress(FileNotFoundError):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return [one["target"] for one in records if one.get("target", "/") != "/" and one["status"] == 200]
    return []


def asked(stage: Stage, node: Node, target: bytes) -> None:
    """Make one request that is served: a worker that has not heard of the agent yet is asked again."""
    wait_until(lambda: ask(stage, node, GET.replace(b"/ ", target + b" ", 1)).status == 200, "an answer")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
@pytest.mark.parametrize("where", ["log file", "access log file", "access log file of workers"])
def test_a_renamed_file_is_let_go(
    stage: Stage, service: Service, tmp_path: Path, number: signal.Signals, where: str
) -> None:
    """After a rename and SIGUSR1, or SIGHUP, lines go to a new file with the old name; none is lost, and nothing ends.
    Signals that other daemons know do nothing."""
    path, old = tmp_path / "lines", tmp_path / "lines.1"
    settings: Settings = {} if where == "log file" else {"proxy": {"access_log_file": str(path)}}
    if where.endswith("workers"):
        settings = merged(settings, {"cluster": {"workers": 2}})
    node = stage.node(settings=settings, options=["--logfile", str(path)] if where == "log file" else [])
    stage.agent(node, {"web": service.address})
    for signal_number in (signal.SIGUSR2, signal.SIGALRM):
        node.signal(signal_number)
    asked(stage, node, b"/before")
    wait_until(lambda: targets(path) == ["/before"], "the first line")
    path.rename(old)
    node.signal(number)
    wait_until(path.exists, "the new file")
    seen = 0
    while not targets(path):  # the other worker may open it again a moment later
        asked(stage, node, b"/behind")
        seen += 1
    wait_until(lambda: (targets(old) + targets(path)).count("/behind") == seen, "every line")
    assert targets(old)[0] == "/before"
    node.terminate()
    assert node.wait_exit() == 0


def test_a_daemon_in_the_background(stage: Stage, tmp_path: Path) -> None:
    """A daemon that left the terminal opens its log again too, and ends in order."""
    pidfile, path = tmp_path / "pid", tmp_path / "agent.log"
    options = ["--pidfile", str(pidfile), "--logfile", str(path)]
    code = "from twisted.scripts.twistd import run; run()"
    flags = ["--listen", "web=1", "--connect.url", "http://127.0.0.1:1"]
    command = [sys.executable, "-c", code, *options, "pico-agent", *flags]
    assert os.spawnv(os.P_WAIT, sys.executable, command) == 0
    pid = int(pidfile.read_text())
    try:
        wait_until(lambda: "starts" in path.read_text(), "the first line")
        path.rename(tmp_path / "agent.log.1")
        os.kill(pid, signal.SIGUSR1)
        wait_until(path.exists, "the new file")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: "Stopped" in path.read_text(), "the last line")
        wait_until(lambda: not pidfile.exists(), "the end")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_file_that_was_copied_and_truncated(stage: Stage, service: Service, tmp_path: Path) -> None:
    """After `copytruncate` lines go on at the top of the file: no hole, and nobody has to tell the daemon."""
    path = tmp_path / "lines"
    node = stage.node(options=["--logfile", str(path)])
    stage.agent(node, {"web": service.address})
    asked(stage, node, b"/before")
    wait_until(lambda: "/before" in targets(path), "the first line")
    os.truncate(path, 0)
    asked(stage, node, b"/behind")
    wait_until(lambda: targets(path) == ["/behind"], "a file that begins with the new line")


def test_the_recipe_for_logrotate(stage: Stage, service: Service, tmp_path: Path) -> None:
    """The recipe that comes with the package is one that logrotate takes, and with it no line is lost."""
    path, bin_path = tmp_path / "access.log", tmp_path / "bin"
    node = stage.node(settings={"proxy": {"access_log_file": str(path)}})
    stage.agent(node, {"web": service.address})
    asked(stage, node, b"/before")
    wait_until(lambda: targets(path) == ["/before"], "the first line")
    # systemd's part: the signal goes to the main process
    bin_path.mkdir()
    (bin_path / "systemctl").write_text(f"#!/bin/sh\necho $* > {bin_path}/asked\nkill -USR1 {node.pid}\n")
    (bin_path / "systemctl").chmod(0o755)
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    recipe = (ROOT / "etc" / "logrotate" / "pico").read_text()
    recipe = recipe.replace("/var/log/pico/*.log", str(path)).replace("0640 pico pico", f"0640 {user} {group}")
    (tmp_path / "recipe").write_text(recipe)
    (tmp_path / "recipe").chmod(0o644)
    command = [find_program("logrotate", "logrotate"), "-f", "-s", str(tmp_path / "state"), str(tmp_path / "recipe")]
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": f"{bin_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (bin_path / "asked").read_text().split() == [
        "kill",
        "--kill-who=main",
        "--signal=USR1",
        "pico.service",
        "pico-agent.service",
    ]
    while not targets(path):
        asked(stage, node, b"/behind")
    assert targets(tmp_path / "access.log.1")[0] == "/before"

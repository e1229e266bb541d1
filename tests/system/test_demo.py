"""`make demo` does what it says, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys

import pytest

from tools.stage.kernel import runs
from tools.stage.processes import ROOT
from tools.stage.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.together  # each demo tries the same ports

COMMAND = [sys.executable, "-m", "demo.run"]


def processes_of(output: str) -> list[int]:
    """The IDs of the processes that the demo said it started."""
    return [int(number) for number in re.findall(r"process (\d+)", output)]


def wait_ended(pids: list[int]) -> None:
    """Wait until all of these have gone. One that is left as a zombie, because nobody here reaps orphans, has."""
    wait_until(lambda: not any(map(runs, pids)), f"the end of {pids}")


def run_demo() -> str:
    """Run the whole demo without a terminal; what it printed, which must be a success."""
    run = subprocess.run(
        COMMAND, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    return run.stdout


@pytest.mark.long
def test_without_a_terminal_it_ends_by_itself() -> None:
    """Requests cross two nodes and are answered by the right service; while a node is killed none fails; the cluster is
    shown before and after; the commands to try are printed, and all other processes end with 0."""
    output = run_demo()
    assert output.count("200 OK") == 2
    assert "| Hello from service-3." in output
    assert "GET /by-header" in output and "GET /by-host" in output
    ways = re.findall(r"^   (n\d) took the request, (n\d) holds the tunnel of (agent-\d)\.$", output, re.MULTILINE)
    assert len(ways) == 2
    for asked, holder, agent in ways:
        assert asked != holder
        assert f"{agent} is registered at {holder} after" in output
    assert "| 3 active nodes, seen by " in output and "| 3 nodes: 2 active, 1 unreachable, seen by " in output

    killed = re.search(r"^\d  kill -9 for (n\d), while requests for my-endpoint go on through", output, re.MULTILINE)
    assert killed is not None, output
    assert re.search(rf"^   After \d+\.\d s: n\d and n\d call {killed[1]} unreachable\.$", output, re.MULTILINE)
    assert re.search(r"^   After \d+\.\d s: agent-1.* registered elsewhere\.$", output, re.MULTILINE)
    assert re.search(rf"\| {killed[1]} +unreachable ", output)
    sent = re.search(r"^   (\d+) requests in all: none failed, and the slowest took \d+ ms\.$", output, re.MULTILINE)
    assert sent is not None and int(sent[1]) >= 40, output

    curls = re.findall(r"curl -H 'x-pico-endpoint: my-endpoint' http://127\.0\.0\.1:\d+/$", output, re.MULTILINE)
    assert len(curls) == 2
    assert re.search(r"curl --resolve my-endpoint\.example\.com:\d+:127\.0\.0\.1 ", output)
    last_words = output.rpartition("Ended: ")[2].split()
    left = [name for name in ("n1", "n2", "n3") if name != killed[1]]
    names = [*(f"agent-{number}" for number in (1, 2, 3)), *left, *(f"service-{number}" for number in (1, 2, 3))]
    assert " ".join(last_words) == ", ".join(f"{name} status 0" for name in names) + "."
    own = [line for line in output.splitlines() if not line.startswith("     |")]  # behind it, a command's output
    assert [line for line in own if len(line) > 100] == []
    pids = processes_of(output)
    assert len(set(pids)) == 9 and not any(map(runs, pids))


@pytest.mark.long
def test_ports_that_are_taken() -> None:
    """With a default port in use the demo takes others, says so, and works."""
    with socket.socket() as holder:
        with contextlib.suppress(OSError):  # then somebody else holds it, which is as good
            holder.bind(("127.0.0.1", 8000))
            holder.listen()
        output = run_demo()
    used = re.search(r"Port 8000 is taken, so n1 begins at port (\d+)\.", output)
    assert used is not None and int(used[1]) != 8000, output
    assert f"--proxy.bind-addr 127.0.0.1:{used[1]} " in output


def test_interrupted_while_it_starts() -> None:
    """Ctrl-C before the requests leaves no process, and is no success."""
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        output = ""
        while "process" not in output:
            line = demo.stdout.readline()
            assert line, output
            output += line
        demo.send_signal(signal.SIGINT)
        output += demo.stdout.read()
        assert demo.wait(PATIENCE_S) == 130, output
    pids = processes_of(output)
    assert pids and not any(map(runs, pids))


def test_killed() -> None:
    """Even a demo that is killed with SIGKILL takes its processes with it."""
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        output = ""
        while "agent-3 is registered" not in output:
            line = demo.stdout.readline()
            assert line, output
            output += line
        demo.kill()
    pids = processes_of(output)
    assert len(pids) == 9
    wait_ended(pids)


def test_on_a_terminal_it_follows_the_logs() -> None:
    """On a terminal the logs of all are shown as lines for people until Ctrl-C, which is a success."""
    ours, its = pty.openpty()
    output = ""

    def read_until(pattern: str) -> None:
        nonlocal output
        while not re.search(pattern, output, re.MULTILINE):
            readable, _, _ = select.select([ours], [], [], PATIENCE_S)
            assert readable, output
            output += os.read(ours, 65536).decode().replace("\r\n", "\n")

    demo = subprocess.Popen(COMMAND, cwd=ROOT, stdin=its, stdout=its, stderr=its, start_new_session=True)
    try:
        os.close(its)
        read_until("Ctrl-C ends everything")
        port = re.search(r"curl -H 'x-pico-endpoint: my-endpoint' http://127\.0\.0\.1:(\d+)/$", output, re.MULTILINE)
        assert port is not None
        with socket.create_connection(("127.0.0.1", int(port[1])), PATIENCE_S) as client:
            client.sendall(b"GET /seen-in-logs HTTP/1.1\r\nHost: my-endpoint.test\r\nConnection: close\r\n\r\n")
            read_until(r"^\d\d:\d\d:\d\d  n\d +GET /seen-in-logs -> 200 in ")
            read_until(r'^\d\d:\d\d:\d\d  service-[12] +"GET /seen-in-logs ')
        demo.send_signal(signal.SIGINT)
        read_until("Ended: .*$")
        assert demo.wait(PATIENCE_S) == 0, output
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        os.close(ours)
    assert not any(map(runs, processes_of(output)))

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
from pathlib import Path

from tests.system.harness import PATIENCE_S, ROOT, wait_until

COMMAND = [sys.executable, str(ROOT / "demo" / "run.py")]


def processes_of(output: str) -> list[int]:
    """The IDs of the processes that the demo said it started."""
    return [int(number) for number in re.findall(r"process (\d+)", output)]


def ended(pid: int) -> bool:
    """Has this process gone? One that is left as a zombie, because nobody here reaps orphans, has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def wait_ended(pids: list[int]) -> None:
    """Wait until all of these have gone."""
    wait_until(lambda: all(ended(pid) for pid in pids), f"the end of {pids}")


def test_without_a_terminal_it_ends_by_itself() -> None:
    """Both requests are answered by the service, the commands to try are printed, and all processes end with 0."""
    run = subprocess.run(
        COMMAND, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert run.stdout.count("200 OK") == 2
    assert "| Hello from the web service." in run.stdout
    assert "GET /by-header" in run.stdout and "GET /by-host" in run.stdout
    assert re.search(r"curl -H 'x-pico-endpoint: my-endpoint' http://127\.0\.0\.1:\d+/$", run.stdout, re.MULTILINE)
    assert re.search(r"curl --resolve my-endpoint\.example\.com:\d+:127\.0\.0\.1 ", run.stdout)
    assert run.stdout.endswith("Ended: agent status 0, node status 0, web service status 0.\n")
    assert all(len(line) <= 100 for line in run.stdout.splitlines())
    pids = processes_of(run.stdout)
    assert len(pids) == 3 and all(ended(pid) for pid in pids)


def test_ports_that_are_taken() -> None:
    """With a default port in use the demo takes another one, and says so."""
    with socket.socket() as holder:
        with contextlib.suppress(OSError):  # then somebody else holds it, which is as good
            holder.bind(("127.0.0.1", 8000))
            holder.listen()
        run = subprocess.run(
            COMMAND, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
        )
    assert run.returncode == 0, run.stdout + run.stderr
    used = re.search(r"Port 8000 is taken, so this demo uses (\d+) as the proxy port\.", run.stdout)
    assert used is not None, run.stdout
    assert f"http://127.0.0.1:{used[1]}/by-header" in run.stdout


def test_interrupted_while_it_starts() -> None:
    """Ctrl-C before the requests leaves no process, and is no success."""
    with subprocess.Popen(COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
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
    assert pids and all(ended(pid) for pid in pids)


def test_killed() -> None:
    """Even a demo that is killed with SIGKILL takes its processes with it."""
    with subprocess.Popen(COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        output = ""
        while "Registered" not in output:
            line = demo.stdout.readline()
            assert line, output
            output += line
        demo.kill()
    pids = processes_of(output)
    assert len(pids) == 3
    wait_ended(pids)


def test_on_a_terminal_it_follows_the_logs() -> None:
    """On a terminal the logs of all three are shown as lines for people until Ctrl-C, which is a success."""
    ours, its = pty.openpty()
    output = ""

    def read_until(pattern: str) -> None:
        nonlocal output
        while not re.search(pattern, output, re.MULTILINE):
            readable, _, _ = select.select([ours], [], [], PATIENCE_S)
            assert readable, output
            output += os.read(ours, 65536).decode().replace("\r\n", "\n")

    demo = subprocess.Popen(COMMAND, stdin=its, stdout=its, stderr=its, start_new_session=True)
    try:
        os.close(its)
        read_until("Ctrl-C ends everything")
        port = re.search(r"http://127\.0\.0\.1:(\d+)/by-header", output)
        assert port is not None
        with socket.create_connection(("127.0.0.1", int(port[1])), PATIENCE_S) as client:
            client.sendall(b"GET /seen-in-logs HTTP/1.1\r\nHost: my-endpoint.test\r\nConnection: close\r\n\r\n")
            read_until(r"^\d\d:\d\d:\d\d  node +GET /seen-in-logs -> 200 in ")
            read_until(r'^\d\d:\d\d:\d\d  web service +"GET /seen-in-logs ')
        demo.send_signal(signal.SIGINT)
        read_until("Ended: .*$")
        assert demo.wait(PATIENCE_S) == 0, output
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        os.close(ours)
    assert all(ended(pid) for pid in processes_of(output))

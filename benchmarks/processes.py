"""Processes that a run starts and ends: their output, the CPU that they used, their memory. For Linux."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_S = 30.0
"""What anything may take to be ready: a machine with two slow cores may be busy with something else."""
STOP_S = 20.0
_POLL_S = 0.02
_PORTS = range(12000, 32000)
"""Below Linux's ephemeral ports, so that no outgoing connection takes one between pick and bind."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SET_PARENT_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None)


class RunFailed(Exception):
    """The run has no result; the text says why."""


def find_program(name: str, package: str) -> str:
    """The path of a program on PATH, or where Debian puts those of administrators.

    Raises:
        RunFailed: it is not installed.
    """
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if path is None:
        raise RunFailed(f"{name} is not installed (on Debian: apt-get install {package})")
    return path


def environment() -> dict[str, str]:
    """What processes inherit: this checkout's code, and no proxy between us and 127.0.0.1."""
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    env["PYTHONPATH"] = str(ROOT)
    return env


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    for _ in range(200):
        port = random.choice(_PORTS)
        with contextlib.closing(socket.socket()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port
    raise RunFailed("no free port was found")


def fetch(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of a GET from 127.0.0.1; status 0 when nobody answers."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)) as connection:
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


class Process:
    """A process that runs in the foreground and dies with us.

    Args:
        name: for messages.
        command: with its arguments.
        directory: where it runs, and where its output goes.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.output_path = directory / f"{name}.log"
        with self.output_path.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for us alone; we end the others in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (there are no threads here)
            )
        self.pid = self._popen.pid

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """The last of what it wrote."""
        return self.output_path.read_text("utf-8", "replace")[-3000:]

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for a condition.

        Raises:
            RunFailed: the process ended, or took too long.
        """
        deadline = time.monotonic() + START_S
        while not ready():
            if not self.running:
                raise RunFailed(f"{self.name} ended with status {self._popen.returncode}; it wrote\n{self.output}")
            if time.monotonic() > deadline:
                raise RunFailed(f"waited {START_S:.0f} s for {what}; {self.name} wrote\n{self.output}")
            time.sleep(_POLL_S)

    def cpu_s(self) -> float:
        """CPU seconds that it used so far, in user and system mode, all threads."""
        return _cpu_s(self.pid)

    def memory_mib(self, field: str = "VmRSS") -> float:
        """A figure of /proc/PID/status; `VmHWM` is the peak of `VmRSS`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise RunFailed(f"{self.name} has no {field}")

    def reset_peak(self) -> None:
        """Let VmHWM start again from what is used now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def stop(self) -> str | None:
        """End it in order if it runs. Returns what was wrong with its end, if anything."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
        try:
            status = self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name} did not end within {STOP_S:.0f} s of SIGTERM"
        return None if status == 0 else f"{self.name} ended with status {status}"

    def kill(self) -> None:
        """End it at once. Idempotent."""
        if self.running:
            self._popen.kill()
        self._popen.wait()


class Family(Process):
    """A process that starts others, which share its work."""

    def cpu_s(self) -> float:
        """What it and the processes that it has now used so far."""
        return super().cpu_s() + sum(_cpu_s(pid) for pid in self.children())

    def children(self) -> list[int]:
        """The IDs of the processes that it has now."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


def _cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid() makes of a process ID
    except OSError:
        # Some sandboxes have no such clock: the same sum, in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _die_with_parent() -> None:
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)

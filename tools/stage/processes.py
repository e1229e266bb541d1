"""Processes that die with us: their output, their life, and what they use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tools.stage import kernel
from tools.stage.forking import Forked, ForkServer
from tools.stage.waiting import PATIENCE_S, Pause, StageFailed, StartFailed, Value, WaitedInVain, wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""
CLOCK_BACK: Final = "import time; now = time.time; time.time = lambda: now() - 3600; "
"""A prelude: for this process the wall clock is an hour slow, from the start on."""

# A promise of the kernel: when the process that started this one dies, however it dies, this one is killed.
_DIES_WITH_PARENT: Final = "import ctypes, sys; ctypes.CDLL(None).prctl(1, 9); "
_EXEC: Final = _DIES_WITH_PARENT + "import os; os.execvp(sys.argv[1], sys.argv[1:])"
_TWISTD: Final = _DIES_WITH_PARENT + "sys.argv[0] = 'twistd'; {prelude}from twisted.scripts.twistd import run; run()"


def environment(**more: str) -> dict[str, str]:
    """What processes inherit: the checkout's own code, and proxies in the environment that must not be used."""
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:1")
    return {**env, **proxies, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def faults(lines: Iterable[str]) -> list[str]:
    """Those that speak of an exception which nobody handled."""
    signs = ("Traceback", "Unhandled", "unhandled", "Exception ignored", "most recent call last")
    return [line for line in lines if any(sign in line for sign in signs)]


def find_program(name: str, package: str) -> str:
    """The path of a program on PATH, or where Debian puts those of administrators.

    Raises:
        StageFailed: it is not installed.
    """
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if path is None:
        raise StageFailed(f"{name} is not installed (on Debian: apt-get install {package})")
    return path


class Process:
    """A program that runs.

    Args:
        name: for messages and for the log file's name.
        command: with its arguments.
        directory: where it runs and where its output goes.
        env: more for its environment.
        terminal: a descriptor for its output, instead of the log file.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        env: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> None:
        self.name = name
        self.log_path = directory / f"{name}-{time.monotonic_ns()}.log"
        self._followed = 0
        with self.log_path.open("wb") as log:
            output = log.fileno() if terminal is None else terminal
            self._popen = self._start(command, directory, environment(**(env or {})), output)
        self.pid = self._popen.pid

    def _start(
        self, command: Sequence[str], directory: Path, env: Mapping[str, str], output: int
    ) -> subprocess.Popen[bytes] | Forked:
        return subprocess.Popen(
            self._launched(command),
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for us alone, who end the others in order
        )

    def _launched(self, command: Sequence[str]) -> list[str]:
        return [sys.executable, "-ISc", _EXEC, *command]

    # -- its output

    @property
    def output(self) -> str:
        """All that it wrote so far."""
        return self.log_path.read_text("utf-8", "replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its log lines; one that is no JSON object stands as {"raw": line}."""
        records = []
        for line in self.output.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            records.append(record if isinstance(record, dict) else {"raw": line})
        return records

    def new_lines(self) -> list[str]:
        """The whole lines that it wrote since this was last asked."""
        lines, self._followed = self.lines_from(self._followed)
        return lines

    def lines_from(self, place: int) -> tuple[list[str], int]:
        """The whole lines of its output that stand behind a place, in bytes, and the place behind them."""
        with self.log_path.open("rb") as log:
            log.seek(place)
            text, end, _ = log.read().rpartition(b"\n")
        return text.decode("utf-8", "replace").splitlines(), place + len(text) + len(end)

    def wait_output(self, wanted: str | Callable[[str], bool], timeout: float = PATIENCE_S) -> str:
        """Wait for a text in its output, or for output that pleases a function."""
        check = (lambda output: wanted in output) if isinstance(wanted, str) else wanted
        wait_until(lambda: check(self.output), f"{wanted!r} in the output of {self.name}", timeout)
        return self.output

    def wait_count(self, text: str, count: int, timeout: float = PATIENCE_S) -> None:
        """Wait until a text stands so many times in its output."""
        what = f"{text!r} {count} times in the output of {self.name}"
        wait_until(lambda: self.output.count(text) >= count, what, timeout)

    def faults(self) -> list[str]:
        """Lines of its output that speak of an exception which nobody handled."""
        return faults(self.output.splitlines())

    # -- its life

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._popen.poll() is None

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._popen.poll()

    def wait_until(
        self, ready: Callable[[], Value | None], what: str, timeout: float = PATIENCE_S, pause: Pause | None = None
    ) -> Value:
        """Wait for a condition that only a process which runs can bring about.

        Args:
            ready: the condition.
            what: it, in words.
            timeout: seconds.
            pause: as `tools.stage.waiting.wait_until` has it.

        Raises:
            StartFailed: it ended, or the condition did not come true in time.
        """

        def look() -> Value | None:
            if not self.running:
                raise StartFailed(f"{self.name} ended with {self.exit_status} before {what}; it wrote\n{self.output}")
            return ready()

        try:
            return wait_until(look, what, timeout) if pause is None else wait_until(look, what, timeout, pause)
        except WaitedInVain as error:
            raise StartFailed(f"{error}; {self.name} wrote\n{self.output}") from None

    def wait_exit(self, timeout: float = PATIENCE_S) -> int:
        """Wait for its end; the exit status."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise WaitedInVain(f"{self.name} does not end; it wrote\n{self.output}") from None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self.signal(signal.SIGTERM)

    def stop(self) -> str | None:
        """End it in order if it runs. Returns what was wrong with its end, if anything."""
        self.terminate()
        try:
            status = self.wait_exit()
        except WaitedInVain as error:
            self.kill()
            return str(error)
        return None if status == 0 else f"{self.name} ended with status {status}; it wrote\n{self.output}"

    def kill(self) -> None:
        """SIGKILL if it runs, and wait until the kernel has cleaned up. Idempotent."""
        self._popen.kill()
        self._popen.wait(PATIENCE_S)

    def close(self) -> None:
        """End it whatever it does. Idempotent."""
        self.kill()

    # -- what it uses

    def memory_mib(self, field: str = "VmRSS") -> float:
        """A memory figure in MiB; `VmHWM` is the peak of `VmRSS`."""
        return kernel.memory_mib(self.pid, field)

    def reset_peak(self) -> None:
        """Start the peak of the memory (VmHWM) again from what is used now."""
        kernel.reset_peak(self.pid)

    def cpu_s(self) -> float:
        """CPU seconds that it used so far, and that the processes which it started and that run used."""
        return sum(map(kernel.cpu_s, (self.pid, *kernel.children(self.pid))))


class Twistd(Process):
    """A twistd command that runs.

    Args:
        name: for messages and for the log file's name.
        arguments: behind `twistd -n --pidfile=`.
        directory: where it runs and where its output goes.
        env: more for its environment.
        terminal: a descriptor for its output, instead of the log file.
        prelude: Python that the process runs before anything else.

    Attributes:
        forks: where those that are started from now on are forked, which saves them their imports; not those with a
            prelude or a terminal. Measurements leave it None.
    """

    forks: ForkServer | None = None

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        env: Mapping[str, str] | None = None,
        terminal: int | None = None,
        prelude: str = "",
    ) -> None:
        self._prelude = prelude
        self._may_fork = not prelude and terminal is None
        super().__init__(name, arguments, directory, env, terminal)

    def _start(
        self, command: Sequence[str], directory: Path, env: Mapping[str, str], output: int
    ) -> subprocess.Popen[bytes] | Forked:
        if self.forks is not None and self._may_fork:
            return self.forks.start(self._arguments(command), directory, env, output)
        return super()._start(command, directory, env, output)

    def _launched(self, command: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", _TWISTD.format(prelude=self._prelude), *self._arguments(command)]

    def _arguments(self, command: Sequence[str]) -> list[str]:
        return ["-n", "--pidfile=", *command]

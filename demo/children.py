"""The processes of the demo: started, listened to, and ended in order."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_S = 30.0
STOP_S = 15.0
_POLL_S = 0.05
_KEPT_LINES = 200
# Runs a program with a promise of the kernel: when the demo dies, however it dies, its processes get SIGTERM.
_LAUNCH = """\
import ctypes, runpy, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
del sys.argv[0]
if sys.argv[0] == "twistd":
    from twisted.scripts.twistd import run
    run()
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


class DemoFailed(Exception):
    """Something did not work; the text says what."""


class Interrupted(Exception):
    """A signal asks for the end."""


class Signals:
    """Ctrl-C and its like. They only set flags, so that no step is torn apart: every wait looks at them."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._came)

    def _came(self, number: int, frame: object) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

    def check(self) -> None:
        """Raise Interrupted after a signal."""
        if self.stop.is_set():
            raise Interrupted


def environment() -> dict[str, str]:
    """The environment of every process: this checkout, and no proxy on the way to 127.0.0.1."""
    return {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")} | {
        "PYTHONPATH": str(ROOT)
    }


class Child:
    """A process of the demo.

    Args:
        name: what it is called in what is printed.
        command: `twistd` or a file of Python, and its arguments.
        signals: of the demo.
        said: gets each line that the process writes, with its name.
    """

    def __init__(
        self, name: str, command: Sequence[str], signals: Signals, said: queue.SimpleQueue[tuple[str, str]]
    ) -> None:
        self.name = name
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._signals = signals
        self._said = said
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *command],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # Ctrl-C is for the demo alone, which ends the others in order
        )
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.lines.append(line.rstrip("\n"))
            self._said.put((self.name, line.rstrip("\n")))

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._popen.poll()

    def wait_until(self, ready: Callable[[], bool], what: str) -> float:
        """Wait for a condition; the seconds that it took.

        Raises:
            DemoFailed: the process ended, or it took too long.
            Interrupted: a signal came.
        """
        begin = time.monotonic()
        while not ready():
            if self.status is not None:
                self._reader.join(STOP_S)
                raise DemoFailed(f"{self.name} ended with status {self.status} before it was ready")
            if time.monotonic() - begin > START_S:
                raise DemoFailed(f"waited {START_S:.0f} s in vain for {what}")
            self._signals.stop.wait(_POLL_S)
            self._signals.check()
        return time.monotonic() - begin

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join(STOP_S)

    def terminate(self) -> None:
        """Ask it to end, with SIGTERM."""
        if self.status is None:
            self._popen.send_signal(signal.SIGTERM)

    def wait_end(self) -> int | None:
        """Wait for the end that was asked for. Its status; None when it had to be killed."""
        deadline = time.monotonic() + STOP_S
        while self.status is None and time.monotonic() < deadline and not self._signals.hurry.wait(_POLL_S):
            pass
        status = self.status
        if status is None:
            self._popen.kill()
            self._popen.wait()
        self._reader.join(STOP_S)
        return status

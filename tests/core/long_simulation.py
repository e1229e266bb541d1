"""A run of the simulator beside the tests."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

COMMAND = ("--nodes", "100", "--endpoints", "10000", "--loss", "0.1", "--minutes", "5", "--seed", "1")
ROOT = Path(__file__).resolve().parents[2]
_SET_PARENT_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None)


class Simulation:
    """A run of the simulator in a process of its own, which takes only the time that nobody else wants."""

    def __init__(self) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pico_twisted.testing.simulator", *COMMAND],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            preexec_fn=_in_the_background,
        )

    def wait(self) -> tuple[int, str]:
        """Its exit status and its report."""
        status = self._process.wait()
        self._output.seek(0)
        return status, self._output.read().decode()

    def end(self) -> None:
        """Not waited for any more. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.close()


def _in_the_background() -> None:
    os.nice(19)
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)

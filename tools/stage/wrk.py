"""Load by wrk, which counts every failed request."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.stage.processes import find_program
from tools.stage.waiting import StageFailed

TIMEOUT_S: Final = 10
"""The seconds that an answer may take; a request that takes longer has failed."""
_REPORT: Final = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class WrkResult:
    """What wrk counted.

    Attributes:
        failed: answers other than 2xx and 3xx, and socket errors of every kind.
        output: all that it wrote.
    """

    requests: int
    failed: int
    seconds: float
    received_bytes: int
    p50_ms: float
    p99_ms: float
    output: str


class Wrk:
    """A run of wrk in the background: kept connections, each with the next request as soon as the last is answered.

    Args:
        url: what is asked for.
        endpoint: the endpoint ID that is named in the header.
        seconds: how long.
        connections: how many.
        threads: of wrk.
        fields: further lines of each request's head.
    """

    def __init__(
        self,
        url: str,
        endpoint: str,
        *,
        seconds: float,
        connections: int = 16,
        threads: int = 1,
        fields: Sequence[str] = (),
    ) -> None:
        self._seconds = max(1, round(seconds))
        command = [find_program("wrk", "wrk"), f"-t{min(threads, connections)}", f"-c{connections}"]
        command += [f"-d{self._seconds}s", "--timeout", f"{TIMEOUT_S}s", "--latency", "-s", str(_REPORT)]
        for line in (f"x-pico-endpoint: {endpoint}", *fields):
            command += ["-H", line]
        self._popen = subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def result(self) -> WrkResult:
        """Wait for the end of the run.

        Raises:
            StageFailed: it did not end in time, or without a report.
        """
        try:
            output = self._popen.communicate(timeout=self._seconds + 6 * TIMEOUT_S)[0].decode()
        except subprocess.TimeoutExpired:
            self.close()
            raise StageFailed("wrk did not end in time") from None
        line = next((line for line in output.splitlines() if line.startswith("{")), None)
        if line is None or self._popen.returncode != 0:
            raise StageFailed(f"wrk ended with status {self._popen.returncode}; it wrote\n{output}")
        report = json.loads(line)
        return WrkResult(
            requests=report["requests"],
            failed=report["failed"],
            seconds=report["us"] / 1e6,
            received_bytes=report["bytes"],
            p50_ms=report["p50_us"] / 1e3,
            p99_ms=report["p99_us"] / 1e3,
            output=output,
        )

    def close(self) -> None:
        """End it if it still runs."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.communicate()

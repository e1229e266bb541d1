"""Load by wrk, which counts every failed request; and a balancer before nodes."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from dataclasses import dataclass

from tests.peers.pipe import PATIENCE_S, Ended, Listener, Pipe, dial


@dataclass(frozen=True)
class WrkResult:
    """What wrk counted.

    Attributes:
        failed: answers other than 2xx and 3xx, and socket errors of every kind.
    """

    requests: int
    failed: int
    per_second: float
    output: str


class Wrk:
    """A run of wrk in the background."""

    def __init__(self, url: str, endpoint: str, *, seconds: int, connections: int = 16, threads: int = 1) -> None:
        self._popen = subprocess.Popen(
            [
                "wrk",
                f"-t{threads}",
                f"-c{connections}",
                f"-d{seconds}s",
                "--timeout",
                "10s",
                "-H",
                f"x-pico-endpoint: {endpoint}",
                url,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._seconds = seconds

    def result(self) -> WrkResult:
        """Wait for the end of the run."""
        output = self._popen.communicate(timeout=self._seconds + 60)[0].decode()
        assert self._popen.returncode == 0, output
        requests = re.search(r"(\d+) requests in", output)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        assert requests is not None and rate is not None, output
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        failed = (int(bad[1]) if bad else 0) + (sum(int(item) for item in sockets.groups()) if sockets else 0)
        return WrkResult(int(requests[1]), failed, float(rate[1]), output)

    def close(self) -> None:
        """End it if it still runs."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.communicate()


class Balancer:
    """A TCP load balancer: each connection goes to the first address that takes it."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._listener = Listener(self._relay)
        self.port = self._listener.port

    def _relay(self, client: Pipe) -> None:
        for address in self._addresses:
            try:
                server = dial(address)
                break
            except OSError:
                continue
        else:
            return
        back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
        back.start()
        self._copy(client, server)
        back.join(PATIENCE_S)
        server.close()

    @staticmethod
    def _copy(source: Pipe, target: Pipe) -> None:
        with contextlib.suppress(Ended, TimeoutError):
            while True:
                target.send(source.recv(3600))
        with contextlib.suppress(Ended):
            target.half_close()

    def close(self) -> None:
        """The end."""
        self._listener.close()

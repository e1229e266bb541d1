"""The demo's client: single requests, and many one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

from tools.stage import asking

REQUEST_S = 10.0
_PAUSE_S = 0.02


def get(port: int, path: str, fields: Mapping[str, str]) -> tuple[int, str, str]:
    """Status, reason and body of a GET.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    answer = asking.get(port, path, {"User-Agent": "pico-demo", **fields}, timeout=REQUEST_S)
    return answer.status, answer.reason, answer.body.decode("utf-8", "replace")


def field(body: str, name: str) -> list[str]:
    """The values of a header field that the demo's web service says it got."""
    lines = [line.strip().partition(": ") for line in body.splitlines()]
    return [value for found, _, value in lines if found.lower() == name]


class Traffic:
    """Requests one after the other, each over a connection of its own, to some ports in turn, in a thread.

    Args:
        ports: proxy ports.
        headers: of each request.
        is_right: whether a body is an answer of the service.

    Attributes:
        sent: how many requests are over.
        failures: for each that failed, what was wrong.
        slowest_s: what the slowest took.
    """

    def __init__(self, ports: Sequence[int], headers: Mapping[str, str], is_right: Callable[[str], bool]) -> None:
        self.sent = 0
        self.failures: list[str] = []
        self.slowest_s = 0.0
        self._ports = ports
        self._headers = headers
        self._is_right = is_right
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Let the last request end, and send no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for port in cycle(self._ports):
            if self._stop.wait(_PAUSE_S):
                return
            begin = time.monotonic()
            fault = self._send(port)
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
            if fault:
                self.failures.append(fault)
            self.sent += 1

    def _send(self, port: int) -> str:
        try:
            status, reason, body = get(port, "/again", self._headers)
        except asking.NO_ANSWER as error:
            return repr(error)
        return "" if status == 200 and self._is_right(body) else f"{status} {reason}: {body.strip()}"

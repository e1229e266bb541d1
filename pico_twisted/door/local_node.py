"""A node and agents of this machine for a program's own tests: processes on free ports, which end with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

START_S: Final = 30.0
"""Most seconds until a node, or an agent, is there: one takes a second, on a machine with much to do several."""
STOP_S: Final = 5.0
"""Seconds that one may take to end: requests that a test has left open are cut then."""
ENDPOINT: Final = "test"
"""The endpoint of all that is exposed; each node has it once."""

_LOOK_S: Final = 0.02
# It ends when the process that started it is gone, however that ended: nobody else holds the pipe that is its stdin.
# (PR_SET_PDEATHSIG of prctl(2) would end it with the thread, and a test may ask for a node in one of its own.)
_RUN: Final = """
import os, threading
threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
from pico_twisted.app.cli.commands import {0}
{0}()
"""
_NODE_FLAGS: Final = (
    "--proxy.bind-addr=127.0.0.1:0",
    "--admin.bind-addr=127.0.0.1:0",
    "--upstream.bind-addr=127.0.0.1:0",
    "--cluster.gossip.bind-addr=127.0.0.1:0",
    f"--proxy.hosts=127.0.0.1={ENDPOINT},localhost={ENDPOINT}",
    "--log.format=json",
)

V = TypeVar("V")


class Daemon:
    """A node or an agent that runs.

    Args:
        kind: `node` or `agent`.
        flags: of its command.
        log: file for what it writes.
    """

    def __init__(self, kind: str, flags: tuple[str, ...], log: Path) -> None:
        self._kind = kind
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN.format(kind), *flags],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for the tests, which end it in order
            )

    def wait(self, found: Callable[[dict[str, Any]], V | None]) -> V:
        """Wait for a line of its log.

        Args:
            found: given a line, what is wanted of it; None for the other ones.

        Raises:
            RuntimeError: it ended, or the line did not come in time.
        """
        until = time.monotonic() + START_S
        while True:
            over = self._process.poll() is not None or time.monotonic() > until
            for line in self._log.read_text("utf-8", "replace").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and (wanted := found(record)) is not None:
                    return wanted
            if over:
                tail = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-20:])
                raise RuntimeError(f"a Pico {self._kind} for the tests did not start; it wrote\n{tail}")
            time.sleep(_LOOK_S)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it. Idempotent."""
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None  # a pipe
        self._process.stdin.close()


class LocalNode:
    """A node that gives all requests to one endpoint.

    Args:
        directory: for logs.

    Attributes:
        url: of its proxy port.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._daemon = Daemon("node", _NODE_FLAGS, directory / "node.log")
        try:
            self.url, self._upstream = self._daemon.wait(_addresses)
        except BaseException:
            self._daemon.stop()
            raise

    def expose(self, target: int | str) -> Daemon:
        """Start an agent for a service, and wait until requests reach it."""
        self._count += 1
        flags = (f"--connect.url={self._upstream}", f"--listen={ENDPOINT}={target}", "--log.format=json")
        agent = Daemon("agent", flags, self._directory / f"agent-{self._count}.log")
        try:
            agent.wait(lambda record: True if record.get("message") == "All listeners are registered" else None)
        except BaseException:
            agent.stop()
            raise
        return agent

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._daemon.runs

    def stop(self) -> None:
        """End it. Idempotent."""
        self._daemon.stop()


def _addresses(record: dict[str, Any]) -> tuple[str, str] | None:
    proxy, upstream = record.get("proxy"), record.get("upstream")
    if not (isinstance(proxy, str) and isinstance(upstream, str) and "is up" in str(record.get("message"))):
        return None
    return f"http://127.0.0.1:{urlsplit(proxy).port}", f"http://127.0.0.1:{urlsplit(upstream).port}"


class LocalNodes:
    """The nodes of a run of tests: as many as are used at a time, and kept for the tests that follow. Any thread may
    ask for one, as tests that have an event loop do.

    Args:
        directory: makes a directory for the logs of one.
    """

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._nodes: list[LocalNode] = []
        self._used: dict[LocalNode, Daemon] = {}
        self._lock = threading.Lock()

    def expose(self, target: int | str) -> LocalNode:
        """Make a service reachable through a node of its own; see `LocalNode.url`."""
        with self._lock:
            node = next((one for one in self._nodes if one.runs and one not in self._used), None)
            if node is None:
                node = LocalNode(self._directory())
                self._nodes.append(node)
            self._used[node] = node.expose(target)
            return node

    def release(self, node: LocalNode) -> None:
        """Nobody needs what was exposed there any more."""
        with self._lock:
            self._used.pop(node).stop()

    def stop(self) -> None:
        """End all."""
        for node in list(self._used):
            self.release(node)
        for node in self._nodes:
            node.stop()

"""Starts the demo's processes, tells about it, and ends them in order."""

from __future__ import annotations

import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from demo.signals import Signals
from demo.telling import WIDTH, say, show_command, show_log_line
from tools.stage.asking import Admin
from tools.stage.ports import HOST, Ports, is_free
from tools.stage.processes import Process, Twistd
from tools.stage.stage import Stage
from tools.stage.waiting import StageFailed, WaitedInVain, wait_until

STOP_S = 15.0
"""The seconds that a process gets to end in order."""
STEP = 10
"""How far the first ports of two nodes are apart, and those of two services."""
_FOLLOW_POLL_S = 0.2
_SHOWN_LINES = 20
_TRIES = 100


class Service(NamedTuple):
    """A web service that runs."""

    name: str
    port: int
    process: Process


class Node(NamedTuple):
    """A node that runs. Its ports follow each other, as the default ones do."""

    name: str
    ports: Ports
    process: Process

    @property
    def admin(self) -> Admin:
        """Asks the port for operators."""
        return Admin(self.ports.admin)

    def registrations(self, endpoint: str) -> int:
        """How many agents serve an endpoint here, by its own word; none when it does not answer."""
        return self.admin.endpoints().get(endpoint, 0)


class Agent(NamedTuple):
    """An agent that runs, and the node that it registered at when it was started."""

    name: str
    service: Service
    node: Node
    process: Process


class Cluster:
    """All processes of one run.

    Args:
        directory: for what they write.
        signals: that end it early.

    Attributes:
        services, nodes, agents: those that run.
    """

    def __init__(self, directory: Path, signals: Signals) -> None:
        self.services: list[Service] = []
        self.nodes: list[Node] = []
        self.agents: list[Agent] = []
        self._stage = Stage(directory)
        self._signals = signals
        self._service_ports = _rows(3000, 1)
        self._node_ports = _rows(8000, 4, udp=3)

    # -- starting

    def start_service(self, name: str) -> Service:
        """Start a web service and wait until it listens."""
        program = str(Path(__file__).with_name("service.py"))

        def start(port: int) -> Process:
            return Process(name, [sys.executable, program, str(port), name], self._stage.directory)

        port, process, _ = self._start(
            name, self._service_ports, start, lambda _, process: "listening" in process.output
        )
        self.services.append(Service(name, port, process))
        say(f"   {name} listens on {HOST}:{port}, process {process.pid}.")
        return self.services[-1]

    def start_node(self, name: str) -> Node:
        """Start a node that joins those that run, and wait until it is ready."""
        join = [f"{HOST}:{node.ports.gossip}" for node in self.nodes]
        more = [*(["--cluster.join", ",".join(join)] if join else []), "--grace-period", "10s"]

        def arguments(first: int) -> list[str]:
            flags = [part for flag in _ports(first).flags() for part in flag.split("=")]
            return ["pico", "--cluster.node-id", name, *flags, *more]

        def start(first: int) -> Process:
            return Twistd(name, arguments(first), self._stage.directory)

        def ready(first: int, process: Process) -> bool:
            # Its own word first: on a port that it did not get, a node of another cluster may answer.
            return f"Node {name} is up" in process.output and Admin(_ports(first).admin).status("/ready") == 200

        first, process, took_s = self._start(name, self._node_ports, start, ready)
        self.nodes.append(Node(name, _ports(first), process))
        show_command(["twistd", "-n", "--pidfile=", *arguments(first)])
        say(f"   {name} is ready after {took_s:.1f} s, process {process.pid}.")
        return self.nodes[-1]

    def start_agent(self, name: str, endpoint: str, service: Service, nodes: Sequence[Node]) -> Agent:
        """Start an agent and wait until one of these nodes has its endpoint."""
        arguments = ["pico-agent", "--agent-id", name]
        for node in nodes:
            arguments += ["--connect.url", f"http://{HOST}:{node.ports.upstream}"]
        arguments += ["--connect.connections", "1", "--listen", f"{endpoint}={HOST}:{service.port}"]
        arguments += ["--grace-period", "10s"]
        show_command(["twistd", "-n", "--pidfile=", *arguments])
        before = [node.registrations(endpoint) for node in nodes]
        self._signals.check()
        begun_at = time.monotonic()
        process = self._stage.add(Twistd(name, arguments, self._stage.directory))

        def found() -> Node | None:
            now = [node.registrations(endpoint) for node in nodes]
            return next((node for node, then, here in zip(nodes, before, now, strict=True) if here > then), None)

        node = process.wait_until(found, f"{name} to register", pause=self._signals.pause)
        self.agents.append(Agent(name, service, node, process))
        say(f"   {name} is registered at {node.name} after {time.monotonic() - begun_at:.1f} s, process {process.pid}.")
        return self.agents[-1]

    def _start(
        self,
        name: str,
        rows: Iterator[tuple[int, int | None]],
        start: Callable[[int], Process],
        ready: Callable[[int, Process], bool],
    ) -> tuple[int, Process, float]:
        """Start a process on free ports, and wait until it is ready; the first port, the process, the seconds."""
        first, begun_at = 0, 0.0

        def begin() -> Process:
            nonlocal first, begun_at
            self._signals.check()
            first, held = next(rows)
            if held is not None:
                say(f"   Port {held} is taken, so {name} begins at port {first}.")
            begun_at = time.monotonic()
            return start(first)

        def wait(process: Process) -> None:
            process.wait_until(lambda: ready(first, process), f"{name} to be ready", pause=self._signals.pause)

        process = self._stage.started(begin, wait)
        return first, process, time.monotonic() - begun_at

    # -- while they run

    def kill(self, node: Node) -> None:
        """End a node with SIGKILL."""
        self.nodes.remove(node)
        self._stage.remove(node.process)

    def follow(self) -> None:
        """Show what the processes log until a signal comes.

        Raises:
            StageFailed: one of them ended by itself.
        """
        for process in self._stage.processes:
            process.new_lines()
        say()
        say("Their logs from here on. Ctrl-C ends everything.")
        say()
        while not self._signals.stop.wait(_FOLLOW_POLL_S):
            for process in self._stage.processes:
                for line in process.new_lines():
                    show_log_line(process.name, line)
                if not process.running and not self._signals.stop.is_set():
                    raise StageFailed(f"{process.name} ended by itself with status {process.exit_status}")

    # -- the end

    def stop(self) -> bool:
        """End everything: the agents, then the nodes, then the services. Returns whether all ended in order.
        Idempotent."""
        left = list(self._stage.processes)
        if not left:
            return True
        words: list[str] = []
        in_order = True
        groups = [[one.process for one in kind] for kind in (self.agents, self.nodes, self.services)]
        begun = [process for process in left if all(process not in group for group in groups)]
        for some in (*groups, begun):
            for process in some:
                process.terminate()
            for process in some:
                status = self._wait_end(process)
                words.append(f"{process.name} {'killed' if status is None else f'status {status}'}")
                in_order = in_order and status == 0
        for process in left:
            self._stage.remove(process)
        say()
        say(textwrap.fill("Ended: " + ", ".join(words) + ".", WIDTH, subsequent_indent="  "))
        return in_order

    def _wait_end(self, process: Process) -> int | None:
        """Wait for the end that was asked for. The status; None when it was too late, or the demo was in a hurry."""

        def look() -> bool:
            return not process.running or self._signals.hurry.is_set()

        try:
            wait_until(look, f"the end of {process.name}", STOP_S)
        except WaitedInVain:
            pass
        return process.exit_status

    def show_logs(self) -> None:
        """Print the last lines of every process, for a demo that failed."""
        for process in self._stage.processes:
            say()
            say(f"{process.name} (process {process.pid}) wrote:")
            for line in process.output.splitlines()[-_SHOWN_LINES:] or ["nothing"]:
                say(f"  {line}")


def _ports(first: int) -> Ports:
    return Ports(first, first + 1, first + 2, first + 3)


def _rows(first: int, count: int, udp: int | None = None) -> Iterator[tuple[int, int | None]]:
    """Rows of free ports that begin ten apart.

    Args:
        first: the first port of the first row.
        count: the ports of a row.
        udp: which of them, counted from 0, has to be free for UDP too.

    Yields:
        The first port of a row, and a port for whose sake one was left out, if one was.
    """
    held = None
    for start in range(first, first + _TRIES * STEP, STEP):
        taken = [
            start + offset
            for offset in range(count)
            if not is_free(start + offset, *([] if offset == udp else [socket.SOCK_STREAM]))
        ]
        if taken:
            held = held or taken[0]
        else:
            yield start, held
            held = None
    raise StageFailed(f"found no free ports up to {first + _TRIES * STEP}")

"""Starts the demo's processes, and ends them in order."""

from __future__ import annotations

import queue
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from demo.asking import try_get, try_json
from demo.children import Child, DemoFailed, Signals
from demo.ports import Blocks
from demo.service import HOST
from demo.telling import WIDTH, say, show_command, show_log_line

ATTEMPTS = 5
"""A port can be taken by somebody else between our look at it and its use."""
_FOLLOW_POLL_S = 0.2
_SHOWN_LINES = 20


T = TypeVar("T")


class Service(NamedTuple):
    """A web service that runs."""

    name: str
    port: int
    child: Child


class Node(NamedTuple):
    """A node that runs. Its ports follow each other, as the default ones do."""

    name: str
    proxy: int
    child: Child

    @property
    def admin(self) -> int:
        """The port for operators."""
        return self.proxy + 1

    @property
    def upstream(self) -> int:
        """The port for agents."""
        return self.proxy + 2

    @property
    def gossip(self) -> int:
        """The port for other nodes, TCP and UDP."""
        return self.proxy + 3

    def registrations(self, endpoint: str) -> int:
        """How many agents serve an endpoint here, by its own word; none when it does not answer."""
        counts: dict[str, int] = try_json(self.admin, "/status/upstream/endpoints") or {}
        return counts.get(endpoint, 0)

    def view(self) -> dict[str, str]:
        """What status each node of the cluster has, as this one sees it; empty when it does not answer."""
        return {row["id"]: row["status"] for row in try_json(self.admin, "/status/cluster/nodes") or ()}


class Agent(NamedTuple):
    """An agent that runs, and the node that it registered at when it was started."""

    name: str
    service: Service
    node: Node
    child: Child


class Stage:
    """All processes of one run.

    Args:
        signals: that end it early.

    Attributes:
        services, nodes, agents: those that run.
    """

    def __init__(self, signals: Signals) -> None:
        self.services: list[Service] = []
        self.nodes: list[Node] = []
        self.agents: list[Agent] = []
        self._signals = signals
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._children: list[Child] = []
        self._service_ports = Blocks(3000, 1)
        self._node_ports = Blocks(8000, 4, udp=3)

    # Starting

    def start_service(self, name: str) -> Service:
        """Start a web service and wait until it listens."""

        def begin() -> Service:
            port = self._take(self._service_ports, name)
            child = self._child(name, [str(Path(__file__).with_name("service.py")), str(port), name])
            child.wait_until(lambda: any(line.startswith("listening") for line in child.lines), f"{name} to listen")
            return Service(name, port, child)

        service = self._until_ports_are_ours(begin)
        self.services.append(service)
        say(f"   {name} listens on {HOST}:{service.port}, process {service.child.pid}.")
        return service

    def start_node(self, name: str) -> Node:
        """Start a node that joins those that run, and wait until it is ready."""
        took_s = 0.0
        command: list[str] = []

        def begin() -> Node:
            nonlocal took_s, command
            first = self._take(self._node_ports, name)
            command = ["twistd", "-n", "--pidfile=", "pico", "--cluster.node-id", name]
            for offset, port in enumerate(("proxy", "admin", "upstream", "cluster.gossip")):
                command += [f"--{port}.bind-addr", f"{HOST}:{first + offset}"]
            if self.nodes:
                command += ["--cluster.join", ",".join(f"{HOST}:{node.gossip}" for node in self.nodes)]
            node = Node(name, first, self._child(name, [*command, "--grace-period", "10s"]))

            def ready() -> bool:
                # Its own word first: on a port that it did not get, somebody else's node may answer.
                said = any(f"Node {name} is up" in line for line in node.child.lines)
                return said and try_get(node.admin, "/ready")[0] == 200

            took_s = node.child.wait_until(ready, f"{name} to be ready")
            return node

        node = self._until_ports_are_ours(begin)
        self.nodes.append(node)
        show_command(command)
        say(f"   {name} is ready after {took_s:.1f} s, process {node.child.pid}.")
        return node

    def start_agent(self, name: str, endpoint: str, service: Service, nodes: Sequence[Node]) -> Agent:
        """Start an agent and wait until one of these nodes has its endpoint."""
        command = ["twistd", "-n", "--pidfile=", "pico-agent", "--agent-id", name]
        for node in nodes:
            command += ["--connect.url", f"http://{HOST}:{node.upstream}"]
        command += ["--connect.connections", "1", "--listen", f"{endpoint}={HOST}:{service.port}"]
        show_command(command)
        before = [node.registrations(endpoint) for node in nodes]
        child = self._child(name, [*command, "--grace-period", "10s"])
        found: list[Node] = []

        def registered() -> bool:
            now = [node.registrations(endpoint) for node in nodes]
            found[:] = [node for node, then, here in zip(nodes, before, now, strict=True) if here > then]
            return bool(found)

        took_s = child.wait_until(registered, f"{name} to register")
        agent = Agent(name, service, found[0], child)
        self.agents.append(agent)
        say(f"   {name} is registered at {agent.node.name} after {took_s:.1f} s, process {child.pid}.")
        return agent

    # While they run

    def kill(self, node: Node) -> None:
        """End a node with SIGKILL."""
        self.nodes.remove(node)
        self._children.remove(node.child)
        node.child.kill()

    def follow(self) -> None:
        """Show what the processes log until a signal comes.

        Raises:
            DemoFailed: one of them ended by itself.
        """
        say()
        say("Their logs from here on. Ctrl-C ends everything.")
        say()
        while not self._said.empty():
            self._said.get()
        while not self._signals.stop.is_set():
            try:
                show_log_line(*self._said.get(timeout=_FOLLOW_POLL_S))
            except queue.Empty:
                pass
            for child in self._children:
                if child.status is not None and not self._signals.stop.is_set():
                    raise DemoFailed(f"{child.name} ended by itself with status {child.status}")

    # The end

    def stop(self) -> bool:
        """End everything: the agents, then the nodes, then the services. Returns whether all ended in order.
        Idempotent."""
        children, self._children = self._children, []
        if not children:
            return True
        ends: list[tuple[str, int | None]] = []
        for kind in (self.agents, self.nodes, self.services):
            some = [one.child for one in kind]
            ends += _end([child for child in children if child in some])
            children = [child for child in children if child not in some]
        ends += _end(children)  # what had only begun to start
        words = [f"{name} {'killed' if status is None else f'status {status}'}" for name, status in ends]
        say()
        say(textwrap.fill("Ended: " + ", ".join(words) + ".", WIDTH, subsequent_indent="  "))
        return all(status == 0 for _, status in ends)

    def show_logs(self) -> None:
        """Print the last lines of every process, for a demo that failed."""
        for child in self._children:
            say()
            say(f"{child.name} (process {child.pid}) wrote:")
            for line in list(child.lines)[-_SHOWN_LINES:] or ["nothing"]:
                say(f"  {line}")

    # Inside

    def _child(self, name: str, command: Sequence[str]) -> Child:
        self._signals.check()
        child = Child(name, command, self._signals, self._said)
        self._children.append(child)
        return child

    def _take(self, blocks: Blocks, name: str) -> int:
        first, held = blocks.take()
        if held is not None:
            say(f"   Port {held} is taken, so {name} begins at port {first}.")
        return first

    def _until_ports_are_ours(self, begin: Callable[[], T]) -> T:
        for left in reversed(range(ATTEMPTS)):
            try:
                return begin()
            except DemoFailed:
                child = self._children[-1]
                if not left or child.status is None or not any("in use" in line for line in child.lines):
                    raise
                self._children.remove(child)
        raise AssertionError("the last attempt returns or raises")


def _end(children: Sequence[Child]) -> list[tuple[str, int | None]]:
    """End some processes together; their names and statuses."""
    for child in children:
        child.terminate()
    return [(child.name, child.wait_end()) for child in children]

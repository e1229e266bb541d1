"""What the scenarios happen to: three nodes, three agents with a service each, clients and a balancer, each on a
machine of its own.

    n1, n2, a1, clients, balancer ── switch a ──wire── switch b ── n3, a2, a3

Each agent serves `web`, and is connected as agents are by default: to two of the nodes. The service behind it answers
with the agent's name.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.faults.reckoning import Outcome, Seen
from tests.netns.machines import Network, network
from tests.system.cluster import SECRET, log_time
from tools.stage.nodes import Agent, Node, Settings, merged
from tools.stage.ports import Ports
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

PORTS: Final = Ports(8000, 8001, 8002, 8003)
SERVICE_PORT: Final = 9000
AGENT_ADMIN_PORT: Final = 9001
NODES: Final = ("n1", "n2", "n3")
AGENTS: Final = ("a1", "a2", "a3")
HALVES: Final = (("n1", "n2", "a1", "clients", "balancer"), ("n3", "a2", "a3"))
WARM_S: Final = 1.5
"""The load's first seconds, which open connections, count for nothing."""
BASELINE_S: Final = 4.0
ANSWER_S: Final = 20.0
"""How long a client waits for an answer; then the request is lost."""
_NEVER: Final = threading.Event()


def pause(seconds: float) -> None:
    """Let things happen."""
    _NEVER.wait(max(0.0, seconds))


class FaultsRig:
    """All of it, on machines of a network.

    Args:
        net: the machines.
        directory: for configuration and output.
        options: the command line.
    """

    def __init__(self, net: Network, directory: Path, options: argparse.Namespace) -> None:
        self.net = net
        self.stage = Stage(directory)
        self.options = options
        self.nodes: dict[str, Node] = {}
        self.agents: dict[str, Agent] = {}
        self.services: dict[str, Process] = {}
        self._loads = 0

    # -- starting

    def start(
        self,
        node: Settings | None = None,
        agent: Settings | None = None,
        *,
        preludes: Mapping[str, str] | None = None,
        service_host: str = "127.0.0.1",
    ) -> None:
        """Start all of it and wait until each node can reach each agent.

        Args:
            node: settings of all nodes.
            agent: settings of all agents.
            preludes: Python that a process runs before anything else, by its name.
            service_host: by which the first agent calls its service.
        """
        first = preludes or {}
        for id in NODES:
            self.start_node(id, node, prelude=first.get(id, ""))
        for id in AGENTS:
            self.services[id] = self.process(id, f"web-{id}", "-m", "tests.faults.web", id, str(SERVICE_PORT))
        for id in NODES:
            self.net[id].do(self.nodes[id].wait_ready)
        for id in AGENTS:
            self.start_agent(id, agent, prelude=first.get(id, ""), host=service_host if id == "a1" else "127.0.0.1")
        self.wait_whole()

    def process(self, machine: str, name: str, *arguments: str) -> Process:
        """Start a Python program on a machine."""
        return self.stage.add(self.net[machine].do(Process, name, [sys.executable, *arguments], self.stage.directory))

    def start_node(self, id: str, settings: Settings | None = None, *, prelude: str = "") -> Node:
        """Start a node, or start it once more, and wait for nothing."""
        ports = {"proxy": PORTS.proxy, "admin": PORTS.admin, "upstream": PORTS.upstream}
        own: dict[str, Any] = {section: {"bind_addr": f":{port}"} for section, port in ports.items()}
        join = [self.net[other].ip for other in NODES]
        own["cluster"] = {"gossip": {"bind_addr": ":8003"}, "join": join, "secrets": [SECRET]}
        given = merged(own, settings or {})
        self.nodes[id] = self.net[id].do(self.stage.node, id, given, ports=PORTS, wait=False, prelude=prelude)
        return self.nodes[id]

    def start_agent(
        self, id: str, settings: Settings | None = None, *, prelude: str = "", host: str = "127.0.0.1"
    ) -> Agent:
        """Start an agent, or start it once more, and wait for nothing."""
        urls = [f"http://{self.net[node].ip}:{PORTS.upstream}" for node in NODES]
        own = {
            "connect": {"url": urls, "connections": "auto"},
            "admin": {"bind_addr": f"127.0.0.1:{AGENT_ADMIN_PORT}"},
        }
        given, listeners = merged(own, settings or {}), {"web": f"{host}:{SERVICE_PORT}"}
        self.agents[id] = self.net[id].do(
            self.stage.agent, urls[0], listeners, given, name=id, wait=False, prelude=prelude, env={"NO_PROXY": "*"}
        )
        return self.agents[id]

    # -- what is known of it

    def admin(self, id: str, call: str, *arguments: Any) -> Any:
        """Ask the admin port of a node, on its machine."""
        return self.net[id].do(getattr(self.nodes[id].admin, call), *arguments)

    def sessions(self) -> dict[str, int]:
        """The registrations of `web` at each node."""
        return {id: self.admin(id, "endpoints").get("web", 0) for id in NODES}

    def fullest(self) -> str:
        """The node with the most registrations: agents choose two of three, and one may have none."""
        sessions = self.sessions()
        return max(sessions, key=sessions.__getitem__)

    def whole(self) -> bool:
        """Whether all nodes list all as active, and each agent has both of its sessions."""
        listed = all(self.admin(id, "statuses") == dict.fromkeys(NODES, "active") for id in NODES)
        return listed and sum(self.sessions().values()) == 2 * len(AGENTS)

    def named(self, since: float) -> list[tuple[float, str, str]]:
        """Who gets few requests, as nodes say in their logs: after how many seconds from a wall clock's time on, its
        ID, and the words."""
        return [
            (log_time(record) - since, record["name"], record["message"])
            for node in self.nodes.values()
            for record in node.records
            if record.get("standing") and log_time(record) >= since
        ]

    def wait_whole(self, timeout: float = 60.0) -> None:
        """Wait until that is so, and until the nodes have told each other."""
        wait_until(self.whole, "all nodes and sessions", timeout, pause=lambda seconds: pause(5 * seconds))
        pause(0.5)

    def flows(self, node: str) -> dict[str, list[int]]:
        """By agent the ports from which it is connected to a node."""
        ip = self.net[node].ip
        return {id: [own for own, other in self.net[id].flows(PORTS.upstream) if other == ip] for id in AGENTS}

    def reset_agent_side(self, node: str) -> None:
        """Reset the connections of agents to a node, of which only the agents learn."""
        for id, ports in self.flows(node).items():
            for port in ports:
                # what the agent sends is answered with a reset on the node's behalf, and never reaches the node
                self.net[node].reset(f"ip saddr {self.net[id].ip} tcp sport {port} tcp dport {PORTS.upstream}")

    def reset_node_side(self, node: str) -> None:
        """Reset the connections of agents to a node, of which only the node learns."""
        for id, ports in self.flows(node).items():
            for port in ports:
                self.net[id].reset(f"ip saddr {self.net[node].ip} tcp sport {PORTS.upstream} tcp dport {port}")

    def disconnect(self, agent: str) -> None:
        """End all sessions of an agent; both sides learn of it, and it has to dial."""
        but_resets = "tcp flags & rst == 0"
        for node in NODES:
            for port in self.flows(node)[agent]:
                there = f"ip saddr {self.net[agent].ip} tcp sport {port} tcp dport {PORTS.upstream}"
                here = f"ip saddr {self.net[node].ip} tcp sport {PORTS.upstream} tcp dport {port}"
                self.net[node].reset(f"{there} {but_resets}")
                self.net[agent].reset(f"{here} {but_resets}")

    # -- load

    @contextlib.contextmanager
    def load(
        self, to: Sequence[tuple[str, int]], *, rate: float, streams: int = 0, tls: bool = False
    ) -> Iterator[Callable[[], list[Outcome]]]:
        """Ask from the machine of the clients; call what this gives to stop, and for what became of the requests."""
        self._loads += 1
        output = self.stage.directory / f"load-{self._loads}"
        places = [word for host, port in to for word in ("--to", f"{host}:{port}")]
        more = ["--rate", str(rate), "--timeout", str(ANSWER_S), "--streams", str(streams), *["--tls"] * tls]
        process = self.process("clients", f"load-{self._loads}", "-m", "tests.faults.load", str(output), *places, *more)

        def finish() -> list[Outcome]:
            process.terminate()
            if status := process.wait_exit(ANSWER_S + 20.0):
                raise AssertionError(f"the load ended with {status}: {process.output}")
            return [Outcome.read(line) for line in output.read_text().splitlines()]

        try:
            yield finish
        finally:
            process.close()

    def proxies(self, *nodes: str) -> list[tuple[str, int]]:
        """The proxy ports of nodes."""
        return [(self.net[id].ip, PORTS.proxy) for id in nodes]

    def suffer(
        self,
        fault: Callable[[], object],
        heal: Callable[[], object] | None = None,
        *,
        at: Sequence[str] = NODES,
        to: Sequence[tuple[str, int]] = (),
        seconds: float = 10.0,
        after: float = 8.0,
        streams: int = 0,
        rate: float | None = None,
        tls: bool = False,
    ) -> Seen:
        """Load, a fault while it runs, and its end; what clients saw.

        Args:
            fault: brings it about; it may take its time.
            heal: ends it; None when it is over at once.
            at: the nodes whose proxy ports are asked in turn.
            to: the addresses that are asked, instead.
            seconds: from the begin of the fault to its end.
            after: from its end to the end of the load.
            streams: WebSockets and event streams that are kept open, of each.
            rate: requests a second; None for that of the command line.
            tls: the addresses speak it.
        """
        with self.load(to or self.proxies(*at), rate=rate or self.options.rate, streams=streams, tls=tls) as finish:
            pause(WARM_S)
            begun = time.monotonic()
            pause(BASELINE_S)
            since = time.monotonic()
            fault()
            pause(since + seconds - time.monotonic())
            healed = None
            if heal is not None:
                healed = time.monotonic()
                heal()
            pause(after)
            ended = time.monotonic()
            outcomes = finish()
        return Seen(outcomes=outcomes, begun=begun, since=since, healed=healed, ended=ended)


@contextlib.contextmanager
def on_machines(directory: Path, options: argparse.Namespace) -> Iterator[FaultsRig]:
    """A rig on a network of its own, with nothing started."""
    with network(HALVES) as net:
        rig = FaultsRig(net, directory, options)
        try:
            yield rig
        finally:
            rig.stage.close()

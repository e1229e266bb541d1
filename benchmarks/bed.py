"""The test bed: service, yardstick, and pairs of node and agent, all on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.nginx import SMALL_BODY, ReverseProxy, Service
from benchmarks.processes import Family, Process, RunFailed, fetch, free_port

ENDPOINT = "bench"
_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
_ORDINARY = "from benchmarks.ordinary import use; use({name!r}); "


@dataclass(frozen=True)
class Target:
    """What a load is sent to.

    Attributes:
        name: for the tables.
        port: where requests go.
        hops: the processes between client and service, whose CPU and memory are looked at.
    """

    name: str
    port: int
    hops: dict[str, Process]


@dataclass(frozen=True)
class RunningNode:
    """A node and its ports."""

    process: Process
    proxy: int
    admin: int
    upstream: int
    gossip: int


class Bed:
    """All processes of a run. Use `bed()`.

    Args:
        directory: for configuration, output and bodies.
        large_bytes: size of the large body.
    """

    def __init__(self, directory: Path, large_bytes: int) -> None:
        self.directory = directory
        self._large_bytes = large_bytes
        self._processes: list[Process] = []
        self._ordinary = ""

    def start_service(self) -> None:
        """Start what everything else leads to."""
        self.service = Service(self.directory, self._large_bytes)
        self._processes.append(self.service)
        self._wait_for_small("the service", self.service, self.service.port)

    def nginx(self) -> Target:
        """Start the yardstick."""
        proxy = ReverseProxy(self.directory, self.service)
        self._processes.append(proxy)
        self._wait_for_small("nginx", proxy, proxy.port)
        return Target("nginx", proxy.port, {"nginx": proxy})

    @contextlib.contextmanager
    def ordinary(self, name: str) -> Iterator[None]:
        """Daemons that are started in this block do one thing in the ordinary way: see `benchmarks.ordinary`."""
        self._ordinary = name
        yield
        self._ordinary = ""

    def pico(self, name: str, *, access_log: bool = False, profiles: dict[str, Path] | None = None) -> Target:
        """Start a node and its agent.

        Args:
            name: of the target, small letters.
            access_log: whether the node logs each request, to a file.
            profiles: where cProfile writes what it found out about `node` and `agent` when they end.
        """
        word = re.sub("[^a-z]+", "-", name)
        ports = self._node(f"{word}-node", access_log=access_log, profile=(profiles or {}).get("node"))
        agent = self._agent(f"{word}-agent", ports, (profiles or {}).get("agent"))
        self._wait_for_small(name, agent, ports.proxy)
        return Target(name, ports.proxy, {"node": ports.process, "agent": agent})

    def two_nodes(self, name: str) -> Target:
        """Start two nodes, and an agent at the one that clients do not ask."""
        word = re.sub("[^a-z]+", "-", name)
        holder = self._node(f"{word}-holder")
        asked = self._node(f"{word}-asked", join=holder.gossip)
        agent = self._agent(f"{word}-agent", holder)
        self._wait_for_small(name, agent, asked.proxy)
        return Target(name, asked.proxy, {"asked": asked.process, "holder": holder.process, "agent": agent})

    def workers(self, name: str, count: int) -> tuple[Target, RunningNode]:
        """Start a node of so many workers, and an agent that has two sessions there: on different workers if it can."""
        word = f"workers-{count}"
        node = self._node(f"{word}-node", workers=count)
        agent = self._agent(f"{word}-agent", node, connections=2)
        self._wait_for_small(name, agent, node.proxy)
        return Target(name, node.proxy, {"node": node.process, "agent": agent}), node

    def node(self, name: str, ports: RunningNode | None = None) -> RunningNode:
        """Start a node alone, for nobody yet.

        Args:
            name: its ID.
            ports: of another node, which has ended, to take its place; None for free ones.
        """
        return self._node(name, ports=ports)

    def agent(self, name: str, node: RunningNode, endpoints: Sequence[str]) -> Process:
        """Start an agent that serves these endpoints at a node. It may not be registered yet."""
        return self._agent(name, node, endpoints=endpoints)

    def _node(
        self,
        name: str,
        *,
        access_log: bool = False,
        join: int | None = None,
        profile: Path | None = None,
        ports: RunningNode | None = None,
        workers: int = 1,
    ) -> RunningNode:
        if ports is None:
            proxy, admin, upstream, gossip = (free_port() for _ in range(4))
        else:
            proxy, admin, upstream, gossip = ports.proxy, ports.admin, ports.upstream, ports.gossip
        process = self._daemon(
            name,
            "pico",
            {
                "proxy": {"bind_addr": f"127.0.0.1:{proxy}", "access_log": access_log},
                "admin": {"bind_addr": f"127.0.0.1:{admin}"},
                "upstream": {"bind_addr": f"127.0.0.1:{upstream}"},
                "cluster": {
                    "node_id": name,
                    "workers": workers,
                    "gossip": {"bind_addr": f"127.0.0.1:{gossip}"},
                    "join": [] if join is None else [f"127.0.0.1:{join}"],
                },
            },
            profile,
        )
        process.wait_until(lambda: fetch(admin, "/ready")[0] == 200, f"{name} to be ready")
        return RunningNode(process, proxy=proxy, admin=admin, upstream=upstream, gossip=gossip)

    def idle_cluster(self, nodes: int, endpoints: int) -> list[RunningNode]:
        """Start a cluster, and at each node an agent with its share of the endpoints. Nobody sends requests."""
        cluster: list[RunningNode] = []
        share = endpoints // nodes
        for number in range(nodes):
            node = self._node(f"idle-node-{number}", join=cluster[0].gossip if cluster else None)
            cluster.append(node)
            self._agent(f"idle-agent-{number}", node, endpoints=[f"idle-{number}-{place}" for place in range(share)])
        for node in cluster:
            node.process.wait_until(
                partial(_knows, node, nodes, share * nodes), f"{node.process.name} to know the whole cluster"
            )
        return cluster

    def _agent(
        self,
        name: str,
        node: RunningNode,
        profile: Path | None = None,
        endpoints: Sequence[str] = (ENDPOINT,),
        connections: int | None = None,
    ) -> Process:
        return self._daemon(
            name,
            "pico-agent",
            {
                "agent_id": name,
                "connect": {
                    "url": f"http://127.0.0.1:{node.upstream}",
                    "connections": "auto" if connections is None else str(connections),
                },
                "listeners": [
                    {"endpoint": endpoint, "addr": f"127.0.0.1:{self.service.port}"} for endpoint in endpoints
                ],
            },
            profile,
        )

    def kill_one(self, process: Process) -> None:
        """End one process at once, and miss it no more."""
        process.kill()
        self._processes.remove(process)

    def stop(self) -> list[str]:
        """End everything in order, agents before nodes before nginx; what went wrong."""
        complaints = [process.stop() for process in reversed(self._processes)]
        return [complaint for complaint in complaints if complaint is not None]

    def kill(self) -> None:
        """End everything at once. Idempotent."""
        for process in self._processes:
            process.kill()

    def _daemon(self, name: str, plugin: str, config: dict[str, object], profile: Path | None) -> Process:
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML too
        flags: Sequence[str] = ("-n", "--pidfile=")
        if profile is not None:
            flags = (*flags, "--profile", str(profile), "--profiler", "cprofile", "--savestats")
        code = (_ORDINARY.format(name=self._ordinary) if self._ordinary else "") + _TWISTD
        daemon = Family(name, [sys.executable, "-c", code, *flags, plugin, "--config", str(path)], self.directory)
        self._processes.append(daemon)
        return daemon

    def _wait_for_small(self, name: str, process: Process, port: int) -> None:
        def answers() -> bool:
            return fetch(port, "/small", {"x-pico-endpoint": ENDPOINT}) == (200, SMALL_BODY)

        process.wait_until(answers, f"the small answer through {name}")


def _knows(node: RunningNode, nodes: int, endpoints: int) -> bool:
    status, body = fetch(node.admin, "/status/cluster/nodes")
    if status != 200:
        return False
    rows = json.loads(body)
    return (
        sum(row["status"] == "active" for row in rows) == nodes and sum(row["endpoints"] for row in rows) == endpoints
    )


@contextlib.contextmanager
def bed(large_bytes: int) -> Iterator[Bed]:
    """A test bed with its service running. At the end nothing of it is left, whatever happened.

    Raises:
        RunFailed: something did not start, or did not end as it should after a run without a fault.
    """
    with tempfile.TemporaryDirectory(prefix="pico-bench-") as name:
        result = Bed(Path(name), large_bytes)
        try:
            result.start_service()
            yield result
            if complaints := result.stop():
                raise RunFailed("\n".join(complaints))
        finally:
            result.kill()

"""The test bed: service, yardstick, and pairs of node and agent, all on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cpu_samples import PRELUDE
from benchmarks.credentials import make
from benchmarks.nginx import SMALL_BODY, ReverseProxy, Service
from tools.stage.asking import try_get
from tools.stage.nodes import Agent, Node, Settings
from tools.stage.ports import Ports, free_port
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import StageFailed

ENDPOINT = "bench"
OBSERVED = ("per-endpoint", "otlp-1", "otlp-100")
"""What a node can be asked to look at beyond what it always does: requests by endpoint; 1 or 100 % of them recorded, by
it and by its agent, for a collector of OpenTelemetry."""
_ORDINARY = "from benchmarks.ordinary import use; use({name!r}); "


@dataclass(frozen=True)
class Target:
    """What a load is sent to.

    Attributes:
        name: for the tables.
        port: where requests go.
        hops: the processes between client and service, whose CPU and memory are looked at.
        fields: lines of a request's head that it asks for.
    """

    name: str
    port: int
    hops: dict[str, Process]
    fields: Sequence[str] = ()


class Bed:
    """All processes of a run. Use `bed()`.

    Args:
        directory: for configuration, output and bodies.
        large_bytes: size of the large body.
    """

    def __init__(self, directory: Path, large_bytes: int) -> None:
        self.directory = directory
        self.stage = Stage(directory)
        self._prelude = ""
        self.service = self.stage.add(Service(directory, large_bytes))

    def wait_service(self) -> None:
        """Wait for what everything else leads to."""
        self._wait_for_small("the service", self.service, self.service.port)

    def nginx(self) -> Target:
        """Start the yardstick."""
        proxy = self.stage.add(ReverseProxy(self.directory, self.service))
        self._wait_for_small("nginx", proxy, proxy.port)
        return Target("nginx", proxy.port, {"nginx": proxy})

    def hello(self) -> Target:
        """Start the other yardstick, which forwards nothing."""
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.hello", str(port)]
        server = self.stage.add(Process("hello", command, self.directory))
        self._wait_for_small("hello", server, port)
        return Target("hello", port, {"hello": server})

    @contextlib.contextmanager
    def ordinary(self, name: str) -> Iterator[None]:
        """Daemons that are started in this block do one thing in the ordinary way: see `benchmarks.ordinary`."""
        self._prelude = _ORDINARY.format(name=name)
        yield
        self._prelude = ""

    def pico(
        self,
        name: str,
        *,
        access_log: bool = False,
        auth: str = "",
        over: str = "tcp",
        observed: str = "",
        samples: Mapping[str, Path] | None = None,
    ) -> Target:
        """Start a node and its agent.

        Args:
            name: of the target, small letters.
            access_log: whether the node logs each request, to a file.
            auth: what its clients show, one of `credentials.KINDS`; empty for a node that does not authenticate.
            over: how the agent reaches the service: `tcp`, `unix` or `h2c`.
            observed: one of `OBSERVED`; empty for none.
            samples: where `node` and `agent` write what they were sampled at.
        """
        word = re.sub("[^a-z0-9]+", "-", name)
        tracing = {"endpoint": self._collector()} if observed.startswith("otlp") else {}
        settings = {
            "metrics": {"per_endpoint": observed == "per-endpoint"},
            "tracing": {**tracing, "ratio": int(observed.rpartition("-")[2]) / 100} if tracing else {},
        }
        shown = make(auth, self.directory) if auth else None
        node = self.node(
            f"{word}-node",
            access_log=access_log,
            auth=None if shown is None else shown.auth,
            samples=(samples or {}).get("node"),
            more=settings,
        )
        agent = self.agent(
            f"{word}-agent", node, over=over, samples=(samples or {}).get("agent"), more={"tracing": tracing}
        )
        fields = () if shown is None else (shown.field,)
        self._wait_for_small(name, agent, node.ports.proxy, fields)
        return Target(name, node.ports.proxy, {"node": node, "agent": agent}, fields)

    def two_nodes(self, name: str) -> Target:
        """Start two nodes, and an agent at the one that clients do not ask."""
        word = re.sub("[^a-z]+", "-", name)
        holder = self.node(f"{word}-holder")
        asked = self.node(f"{word}-asked", join=holder)
        agent = self.agent(f"{word}-agent", holder)
        self._wait_for_small(name, agent, asked.ports.proxy)
        return Target(name, asked.ports.proxy, {"asked": asked, "holder": holder, "agent": agent})

    def workers(self, name: str, count: int) -> tuple[Target, Node]:
        """Start a node of so many workers, and an agent that has two sessions there: on different workers if it can."""
        word = f"workers-{count}"
        node = self.node(f"{word}-node", workers=count)
        agent = self.agent(f"{word}-agent", node, connections="2")
        self._wait_for_small(name, agent, node.ports.proxy)
        return Target(name, node.ports.proxy, {"node": node, "agent": agent}), node

    def node(
        self,
        name: str,
        *,
        access_log: bool = False,
        auth: Mapping[str, Any] | None = None,
        join: Node | None = None,
        samples: Path | None = None,
        ports: Ports | None = None,
        workers: int = 1,
        more: Settings | None = None,
    ) -> Node:
        """Start a node alone.

        Args:
            name: its ID.
            access_log: whether it logs each request, to a file.
            auth: its section `proxy.auth`.
            join: a node of the cluster that it joins.
            samples: where it writes what it was sampled at; None for one that is not.
            ports: of another node, which has ended, to take its place; None for free ones.
            workers: how many it has.
            more: of its settings.
        """
        settings = {
            **(more or {}),
            "proxy": {"access_log": access_log, "auth": dict(auth or {})},
            "cluster": {"workers": workers, "join": [] if join is None else [f"127.0.0.1:{join.ports.gossip}"]},
        }
        return self.stage.node(name, settings, ports=ports, prelude=self._prelude + _sampled(samples))

    def agent(
        self,
        name: str,
        node: Node | str,
        *,
        endpoints: Sequence[str] = (ENDPOINT,),
        connections: str = "auto",
        over: str = "tcp",
        samples: Path | None = None,
        more: Settings | None = None,
    ) -> Agent:
        """Start an agent that serves these endpoints at a node, or at a URL. It may not be registered yet."""
        return self.stage.agent(
            node,
            dict.fromkeys(endpoints, self.service.addresses[over]),
            {"connect": {"connections": connections}, **(more or {})},
            name=name,
            wait=False,
            prelude=self._prelude + _sampled(samples),
        )

    def idle_cluster(self, nodes: int, endpoints: int) -> list[Node]:
        """Start a cluster, and at each node an agent with its share of the endpoints. There are no requests."""
        cluster: list[Node] = []
        share = endpoints // nodes
        for number in range(nodes):
            node = self.node(f"idle-node-{number}", join=cluster[0] if cluster else None)
            cluster.append(node)
            self.agent(f"idle-agent-{number}", node, endpoints=[f"idle-{number}-{place}" for place in range(share)])
        for node in cluster:
            node.wait_until(partial(_knows, node, nodes, share * nodes), f"{node.name} to know the whole cluster")
        return cluster

    def _collector(self) -> str:
        """Start a collector; where it takes spans."""
        port = free_port()
        process = self.stage.add(
            Process("collector", [sys.executable, "-m", "benchmarks.collector", str(port)], self.directory)
        )
        process.wait_until(lambda: try_get(port, "/")[0] == 200, "the collector")
        return f"http://127.0.0.1:{port}/v1/traces"

    def _wait_for_small(self, name: str, process: Process, port: int, fields: Sequence[str] = ()) -> None:
        sent = {"x-pico-endpoint": ENDPOINT, **dict(line.split(": ", 1) for line in fields)}

        def answers() -> bool:
            return try_get(port, "/small", sent) == (200, SMALL_BODY)

        process.wait_until(answers, f"the small answer through {name}")


def _sampled(samples: Path | None) -> str:
    return "" if samples is None else PRELUDE.format(path=str(samples))


def _knows(node: Node, nodes: int, endpoints: int) -> bool:
    rows = node.admin.rows()
    active = [row for row in rows if row["status"] == "active"]
    return len(active) == nodes and sum(row["endpoints"] for row in rows) == endpoints


@contextlib.contextmanager
def bed(large_bytes: int = 1000) -> Iterator[Bed]:
    """A test bed with its service running. At the end nothing of it is left, whatever happened.

    Args:
        large_bytes: size of the large body.

    Raises:
        StageFailed: something did not start, or did not end as it should after a run without a fault.
    """
    with tempfile.TemporaryDirectory(prefix="pico-bench-") as name:
        result = Bed(Path(name), large_bytes)
        try:
            result.wait_service()
            yield result
            if complaints := result.stage.stop():
                raise StageFailed("\n".join(complaints))
        finally:
            result.stage.close()

"""A cluster of real nodes that join each other; what each of them believes of the others can be waited for."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.stage.asking import Json
from tools.stage.certificates import Tls
from tools.stage.nodes import Agent, Node, Settings, merged
from tools.stage.ports import Ports
from tools.stage.stage import Stage
from tools.stage.waiting import PATIENCE_S, wait_until

FIVE = ("n1", "n2", "n3", "n4", "n5")
SECRET = "the-tests-own-cluster-secret"
_WATCH_S = 0.05


def detail(node: Node, id: str) -> Json:
    """What a node says of one node; empty when it does not know it, or does not answer."""
    return node.admin.try_json(f"/status/cluster/nodes/{id}") or {}


def registrations(node: Node, id: str, endpoint: str) -> int:
    """How many registrations of an endpoint a node believes another one to hold."""
    count: int = detail(node, id).get("endpoints", {}).get(endpoint, 0)
    return count


def log_time(record: dict[str, str]) -> float:
    """When a line was logged, as `time.time` has it."""
    return datetime.datetime.fromisoformat(record["time"]).timestamp()


def noticed(node: Node, id: str, status: str, since: float) -> float:
    """Wait until a node has logged that another one has a status; the seconds since then (`time.time`)."""

    def found() -> list[float]:
        records = [one for one in node.records if one.get("node") == id and one.get("status") == status]
        return [at for at in map(log_time, records) if at > since - 0.001]

    return wait_until(found, f"{node.name} to log that {id} is {status}")[0] - since


class Cluster:
    """Nodes with ports of their own, each with all of them in its `cluster.join`.

    Args:
        directory: for configuration and output.
        tls: TLS on all ports of every node and for every agent, or None.
        settings: of every node.

    Attributes:
        nodes: those that were started last, by ID.
    """

    def __init__(self, directory: Path, tls: Tls | None = None, settings: Settings | None = None) -> None:
        self.stage = Stage(directory, tls)
        self.nodes: dict[str, Node] = {}
        self._settings = settings or {}
        self._ports: dict[str, Ports] = {}

    def __getitem__(self, id: str) -> Node:
        return self.nodes[id]

    # -- starting

    def ports(self, id: str) -> Ports:
        """The ports of a node, the same each time that it is started."""
        if id not in self._ports:
            self._ports[id] = Ports.pick(frozenset().union(*(ports.numbers for ports in self._ports.values())))
        return self._ports[id]

    def gossip_address(self, id: str) -> str:
        """Where a node gossips."""
        return f"127.0.0.1:{self.ports(id).gossip}"

    def launch(self, id: str, settings: Settings | None = None, *, prelude: str = "", alias: str = "") -> Node:
        """Start a node and wait for nothing.

        Args:
            id: of the node.
            settings: laid over those of all nodes.
            prelude: Python that the process runs before anything else.
            alias: the name of a process with ports of its own that has the same node ID.
        """
        base = merged(self._settings, {"cluster": {"node_id": id}})
        name = alias or id
        node = self.nodes[name] = self.stage.node(
            name, merged(base, settings or {}), ports=self.ports(name), wait=False, prelude=prelude
        )
        return node

    def start(self, *ids: str, settings: Settings | None = None, prelude: str = "") -> None:
        """Start nodes together, each with all of them to join, and wait until each of them lists all as active."""
        for id in ids:
            self.ports(id)
        join = {"cluster": {"join": [self.gossip_address(id) for id in ids]}}
        for id in ids:
            self.launch(id, merged(join, settings or {}), prelude=prelude)
        for id in ids:
            self.nodes[id].wait_ready()
        self.wait_all(ids)

    def again(self, id: str, *, prelude: str = "", wait: bool = True) -> Node:
        """Start a node once more, as it was started before."""
        node = self.launch(id, self.nodes[id].settings, prelude=prelude)
        if wait:
            node.wait_ready()
        return node

    def agent(
        self,
        ids: Sequence[str],
        listeners: Mapping[str, str | int | Settings],
        *,
        name: str = "agent-1",
        settings: Settings | None = None,
    ) -> Agent:
        """Start an agent that connects to one of these nodes."""
        return self.stage.agent([self.nodes[id] for id in ids], listeners, settings, name=name)

    # -- what the nodes believe

    def running(self, but: Sequence[str] = ()) -> list[Node]:
        """The nodes that run, apart from some."""
        return [node for id, node in self.nodes.items() if id not in but and node.running]

    def wait_all(self, ids: Sequence[str], timeout: float = PATIENCE_S) -> None:
        """Wait until each of these nodes lists exactly these as active."""
        for id in ids:
            self.wait_view(self.nodes[id], dict.fromkeys(ids, "active"), timeout)

    def wait_view(self, node: Node, wanted: Mapping[str, str], timeout: float = PATIENCE_S) -> None:
        """Wait until a node lists exactly these nodes with these statuses."""
        try:
            wait_until(lambda: node.admin.statuses() == wanted, f"{node.name} to list {dict(wanted)}", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it lists {node.admin.statuses()}") from None

    def wait_status(self, id: str, *wanted: str, timeout: float = PATIENCE_S) -> None:
        """Wait until each other node that runs lists a node with one of these statuses."""
        for node in self.running(but=[id]):
            what = f"{node.name} to list {id} as {' or '.join(wanted)}"
            wait_until(lambda node=node: node.admin.statuses().get(id) in wanted, what, timeout)  # type: ignore[misc]

    def wait_endpoint(self, id: str, endpoint: str, count: int = 1, timeout: float = PATIENCE_S) -> None:
        """Wait until each node that runs believes a node to hold so many registrations of an endpoint."""
        for node in self.running():
            what = f"{node.name} to know of {count} registrations of {endpoint} at {id}"
            wait_until(lambda node=node: registrations(node, id, endpoint) == count, what, timeout)  # type: ignore[misc]

    def holders(self, endpoint: str) -> list[str]:
        """The nodes that hold registrations of an endpoint, by their own word."""
        return [node.name for node in self.running() if node.admin.endpoints().get(endpoint)]

    # -- the end

    def stop(self, *ids: str) -> None:
        """SIGTERM to these nodes, and wait for their end, which has to be a good one."""
        for id in ids:
            self.nodes[id].terminate()
        for id in ids:
            assert self.nodes[id].wait_exit() == 0, self.nodes[id].output[-3000:]

    def close(self) -> None:
        """End every process."""
        self.stage.close()


@contextlib.contextmanager
def running_cluster(directory: Path, tls: Tls | None = None, settings: Settings | None = None) -> Iterator[Cluster]:
    """A cluster without nodes yet; at the end all are ended, and none may have logged an exception."""
    cluster = Cluster(directory, tls, settings)
    try:
        yield cluster
        assert cluster.stage.new_faults() == []
    finally:
        cluster.close()


@dataclass(frozen=True)
class Seen:
    """What one node listed at one time."""

    at: float
    observer: str
    rows: tuple[tuple[str, str], ...]


class Watch:
    """Asks all nodes for their listings, again and again, and remembers every change.

    Args:
        nodes: their admin ports are asked, whichever process listens there.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.seen: list[Seen] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(node,), daemon=True) for node in nodes]
        for thread in self._threads:
            thread.start()

    def _look(self, node: Node) -> None:
        last: tuple[tuple[str, str], ...] = ()
        while not self._stop.wait(_WATCH_S):
            found = tuple((row["id"], row["status"]) for row in node.admin.rows())
            if found and found != last:
                last = found
                self.seen.append(Seen(time.monotonic(), node.name, found))

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def statuses(self, observer: str, id: str) -> list[str]:
        """The statuses that a node showed of another one, one after the other."""
        found: list[str] = []
        for seen in self.seen:
            status = dict(seen.rows).get(id)
            if seen.observer == observer and status is not None and found[-1:] != [status]:
                found.append(status)
        return found

    def check_unique(self) -> None:
        """No node ever stood twice in a listing."""
        assert self.seen
        for seen in self.seen:
            ids = [id for id, _ in seen.rows]
            assert len(ids) == len(set(ids)), seen

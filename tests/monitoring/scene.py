"""A cluster with agents, a service, clients, and Prometheus: what faults are planted in."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.monitoring.prometheus import Prometheus
from tests.system.cluster import SECRET
from tests.system.service import Connection, Service, answer
from tests.system.wire import Request
from tools.stage.asking import Admin
from tools.stage.certificates import make
from tools.stage.nodes import Agent, Node, Settings, merged
from tools.stage.ports import free_port
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import PATIENCE_S

NODES: Final = ("n1", "n2", "n3", "n4", "n5")
SLOW_S: Final = 7.0
LARGE_BYTES: Final = 4_000_000
_ASKING_S: Final = 0.2
"""Seconds between two requests of one client."""
_OF_NODES: Final[Mapping[str, Settings]] = {
    "n1": {"endpoints": [{"match": "limited", "rate": "1/s"}]},
    "n2": {
        "limits": {"buffered_bytes": "1MiB", "v1_body_bytes": "512KiB", "connections": 40},
        "proxy": {"head_timeout": "5m"},
    },
    "n5": {"grace_period": "10m", "drain_streams": "10m"},
}


class Scene:
    """Five nodes, agents, and Prometheus that knows the first two.

    Attributes:
        stage: has the processes.
        service: behind the agents: answers at once, `/slow` after `SLOW_S`, `/large` with much, `/endless` without end.
        nodes: by ID.
        agents: by ID.
        prometheus: asks all of them.
        open: connections that are kept open.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.service = Service(self._serve)
        self.nodes: dict[str, Node] = {}
        self.agents: dict[str, Agent] = {}
        self.open: list[socket.socket] = []
        self.over = threading.Event()
        self._admin_ports: dict[str, int] = {}
        self.pair = make(stage.directory, "proxy", days=(-1, 90))
        tls = {"proxy": {"tls": {"cert": self.pair.cert_file, "key": self.pair.key_file}}}
        for id in NODES:
            self.node(id, merged(_OF_NODES.get(id, {}), tls if id == "n3" else {}))
        addresses = [self._address(id) for id in ("n1", "n2")]
        self.prometheus = stage.add(Prometheus(stage.directory, addresses))

    def _address(self, id: str) -> str:
        return f"127.0.0.1:{self.nodes[id].ports.admin}"

    def node(self, id: str, settings: Settings | None = None, *, wait: bool = True, prelude: str = "") -> Node:
        """Start a node that joins the first one."""
        base: dict[str, Any] = {"metrics": {"per_endpoint": True}, "cluster": {"secrets": [SECRET]}}
        if self.nodes:
            base["cluster"]["join"] = [f"127.0.0.1:{self.nodes['n1'].ports.gossip}"]
        node = self.stage.node(id, merged(base, settings or {}), wait=wait, prelude=prelude)
        self.nodes[id] = node
        return node

    def agent(self, id: str, at: str, listeners: Mapping[str, str], settings: Settings | None = None) -> Agent:
        """Start an agent with an admin port at a node; at an address, when it is none of ours, and not waited for."""
        self._admin_ports[id] = free_port()
        admin = {"admin": {"bind_addr": f"127.0.0.1:{self._admin_ports[id]}"}}
        agent = self.stage.agent(self.nodes.get(at, at), listeners, merged(admin, settings or {}), name=id)
        self.agents[id] = agent
        self.prometheus.set_agents(list(self._admin_ports.values()))
        return agent

    def admin_of(self, id: str) -> Admin:
        """The admin port of an agent."""
        return Admin(self._admin_ports[id])

    def ask(self, id: str, endpoint: str, path: str = "/") -> int:
        """Ask once; the status, or 0 when there was no answer."""
        connection = http.client.HTTPConnection(*self.nodes[id].proxy, timeout=30)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path, headers={"x-pico-endpoint": endpoint})
            response = connection.getresponse()
            response.read()
            return response.status
        return 0

    def load(self, id: str, endpoint: str, path: str = "/", clients: int = 1) -> None:
        """Have clients ask again and again, until all is over."""

        def run() -> None:
            while not self.over.wait(_ASKING_S):
                self.ask(id, endpoint, path)

        for _ in range(clients):
            threading.Thread(target=run, daemon=True).start()

    def connect(self, id: str, said: bytes = b"") -> None:
        """Open a connection to a proxy port, say something, and read nothing."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_S)
        client.connect(self.nodes[id].proxy)
        client.sendall(said)
        self.open.append(client)

    def get(self, id: str, endpoint: str, path: str) -> None:
        """Ask for something, and read nothing of it."""
        self.connect(id, f"GET {path} HTTP/1.1\r\nHost: x\r\nx-pico-endpoint: {endpoint}\r\n\r\n".encode())

    def close(self) -> None:
        """The end of clients and service."""
        self.over.set()
        for client in self.open:
            client.close()
        self.service.close()

    def _serve(self, connection: Connection) -> None:
        while True:
            request = connection.read_request()
            if request.target == b"/endless":
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
                self.over.wait()
                return
            connection.send(self._answer(request))

    def _answer(self, request: Request) -> bytes:
        if request.target == b"/slow":
            self.over.wait(SLOW_S)
        return answer(b"x" * LARGE_BYTES if request.target == b"/large" else b"hello\n")


@contextlib.contextmanager
def scene(directory: Path) -> Iterator[Scene]:
    """A scene, without agents and load."""
    with open_stage(directory) as stage, contextlib.closing(Scene(stage)) as made:
        yield made

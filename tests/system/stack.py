"""One node or two, one agent and a row of recording services, shared by many tests.

A proxy client, a service and an agent must not be able to tell whether a request crossed from one node to another. So
the same tests run in four shapes: clients and agents at one node, without and with TLS; and clients at one node, agents
at another, without any secret, and with TLS on every port, a cluster secret and mutual TLS between the nodes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.peers import v1, v2
from tests.peers.pipe import PATIENCE_S, Pipe
from tests.system import wire
from tests.system.cluster import SECRET
from tests.system.curl import CurlAnswer, curl
from tests.system.service import Service
from tools.stage.certificates import Tls
from tools.stage.nodes import Node, Settings, merged
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import StartFailed, wait_until

# Each test gets the next service in turn: what a test left in the agent's pool of connections is long gone when its
# service is lent again.
SERVICES = 12

SHAPES = ("plain", "tls", "two", "two-tls")
"""One node without and with TLS, two nodes without and with."""

MIXED = {
    "old-node": ("node-1",),
    "old-agent": ("agent-1",),
    "two-old-clients-node": ("node-1",),
    "two-old-agents-node": ("node-2",),
}
"""Shapes, without TLS, in which one part runs an earlier version; `tests.mixed_versions` has their tests."""

PLAIN = pytest.mark.parametrize("running_stack", ["plain", "two"], indirect=True)
"""For tests of what TLS cannot do."""


def has_tls(shape: str) -> bool:
    """Whether all ports of a shape use TLS."""
    return shape in ("tls", "two-tls")


class Stack:
    """A running node and agent, or two nodes, of which one has the clients and the other the agent.

    Args:
        directory: for configuration and output.
        shape: one of `SHAPES` or `MIXED`.
        certificates: for the shapes with TLS.
        node, agent: settings of every node, and of the agent.
        old: the prelude that makes a process run the earlier version, for the shapes of `MIXED`.

    Raises:
        StartFailed: with what the processes wrote; none of them runs any more.

    Attributes:
        tls: what is needed for TLS, in a shape that uses it.
        node: the one that clients connect to.
        agents_node: the one that agents connect to; the same one in a shape of one node.
        service: the recording service of the current test, reached as `endpoint`.
    """

    node: Node
    agents_node: Node

    def __init__(
        self,
        directory: Path,
        shape: str,
        certificates: Tls,
        node: Settings | None = None,
        agent: Settings | None = None,
        old: str = "",
    ) -> None:
        self.directory = directory
        self.tls = certificates if has_tls(shape) else None
        self.two_nodes = shape.startswith("two")
        self.stage = Stage(directory, self.tls)
        self._settings = (node or {}, agent or {})
        self._preludes = dict.fromkeys(MIXED.get(shape, ()), old)
        self._services = [Service(endpoint=f"svc-{number}") for number in range(SERVICES)]
        self._turn = itertools.cycle(self._services)
        self._names = itertools.count()
        self._peers: list[v1.Session | v2.Peer] = []
        self._clients: list[wire.Stream] = []
        self._pipes: list[Pipe] = []
        self.service = self._services[0]
        try:
            self._start()
        except Exception as error:
            self.close()
            raise StartFailed(f"{error}\n{self.stage.tail()}") from error

    def _start(self) -> None:
        cluster: dict[str, Any] = {}
        if self.two_nodes and self.tls is not None:
            cluster = {"secrets": [SECRET], "tls": {**self.tls.section, "ca": str(self.tls.authority.ca)}}
        settings = merged(self._settings[0], {"cluster": cluster})
        self.node = self.agents_node = self.stage.node("node-1", settings, prelude=self._preludes.get("node-1", ""))
        if self.two_nodes:
            join = {"cluster": {"join": [f"127.0.0.1:{self.node.ports.gossip}"]}}
            prelude = self._preludes.get("node-2", "")
            self.agents_node = self.stage.node("node-2", merged(settings, join), prelude=prelude)
        listeners = {service.endpoint: service.address for service in self._services}
        prelude = self._preludes.get("agent-1", "")
        self.agent = self.stage.agent(self.agents_node, listeners, self._settings[1], prelude=prelude)

    @property
    def services(self) -> Sequence[Service]:
        """All recording services."""
        return self._services

    @property
    def processes(self) -> list[Process]:
        """The nodes and the agent."""
        return list(dict.fromkeys((self.node, self.agents_node, self.agent)))

    @property
    def upstream(self) -> str:
        """What the access log names as the upstream of the current test's service."""
        return self.agents_node.name if self.two_nodes else self.agent.name

    # -- one test after the other

    def begin(self) -> None:
        """Before a test: a fresh service, and living processes even if the last test killed one."""
        if not all(process.running for process in self.processes):
            self.stage.close()
            self.stage = Stage(self.directory, self.tls)
            self._start()
        self.wait_endpoints([service.endpoint for service in self._services])
        self.stage.new_faults()
        self.service = next(self._turn)
        self.service.reset()

    def end(self) -> None:
        """After a test: nothing left open, nothing dead, no exception in the logs, no bad bytes at the service."""
        for client in self._clients:
            client.close()
        for peer in self._peers:
            peer.vanish()
        for pipe in self._pipes:
            pipe.close()
        self._clients, self._peers, self._pipes = [], [], []
        errors = self.service.errors()
        self.service.reset()
        assert errors == [], errors
        assert all(process.running for process in self.processes), self.stage.tail()
        assert (faults := self.stage.new_faults()) == [], faults

    def check_idle(self) -> None:
        """Wait until no node has a call in progress or bytes in its hands, when all tests are over."""
        for node in {self.node, self.agents_node}:
            for gauge in ("pico_calls_pending", "pico_buffered_bytes"):
                wait_until(partial(self._is_zero, node, gauge), f"{gauge} of {node.name} to be 0")

    @staticmethod
    def _is_zero(node: Node, gauge: str) -> bool:
        return not node.admin.metric(gauge)

    def close(self) -> None:
        """The end."""
        self.stage.close()
        for service in self._services:
            service.close()

    # -- clients

    @property
    def endpoint(self) -> str:
        """The endpoint of the current test's service."""
        return self.service.endpoint

    def connect(self, receive_buffer: int | None = None) -> wire.Stream:
        """A raw client's connection to the proxy port, closed when the test ends."""
        context = self.tls.context if self.tls else None
        return self.keep(wire.connect(self.node.proxy, tls=context, receive_buffer=receive_buffer))

    def keep(self, client: wire.Stream) -> wire.Stream:
        """Close a connection when the test ends."""
        self._clients.append(client)
        return client

    def keep_pipe(self, pipe: Pipe) -> None:
        """Likewise, for a connection that speaks no HTTP any more."""
        self._pipes.append(pipe)

    def head(
        self, line: str = "GET / HTTP/1.1", *fields: str, endpoint: str | None = None, host: str = "example.test"
    ) -> bytes:
        """A request's head for the current service."""
        named = endpoint or self.endpoint
        return "\r\n".join([line, f"Host: {host}", f"x-pico-endpoint: {named}", *fields, "", ""]).encode("latin-1")

    def request(
        self,
        line: str = "GET / HTTP/1.1",
        *fields: str,
        body: bytes = b"",
        endpoint: str | None = None,
        timeout: float = PATIENCE_S,
    ) -> wire.Response:
        """One request on a connection of its own; the whole answer."""
        client = self.connect()
        lengths = (f"Content-Length: {len(body)}",) if body else ()
        client.send(self.head(line, *fields, *lengths, endpoint=endpoint) + body)
        response = client.read_response(line.partition(" ")[0], timeout)
        client.close()
        return response

    def curl(self, path: str = "/", *arguments: str, host: str = "127.0.0.1", data: bytes | None = None) -> CurlAnswer:
        """curl against the proxy port, over HTTP/1.1 unless the arguments say otherwise."""
        if not any(one.startswith("--http") for one in arguments):
            arguments = ("--http1.1", *arguments)
        return curl(self.node.url(path, host), *arguments, directory=self.directory, tls=self.tls, data=data)

    def curl_endpoint(self, path: str = "/", *arguments: str, data: bytes | None = None) -> CurlAnswer:
        """curl for the current test's service, named by the header."""
        return self.curl(path, "-H", f"x-pico-endpoint: {self.endpoint}", *arguments, data=data)

    # -- what the clients' node knows

    def registrations(self) -> dict[str, int]:
        """The registrations of the agents' node, by endpoint, as the clients' node knows them."""
        if not self.two_nodes:
            return self.node.admin.endpoints()
        status, _, body = self.node.admin.get(f"/status/cluster/nodes/{self.agents_node.name}")
        counts: dict[str, int] = json.loads(body)["endpoints"] if status == 200 else {}
        return counts

    def wait_endpoint(self, endpoint: str, count: int = 1) -> None:
        """Wait until an endpoint has exactly so many registrations, and the clients' node knows it."""
        self.agents_node.wait_endpoint(endpoint, count)
        if self.two_nodes:
            what = f"{self.node.name} to know of {count} registrations of {endpoint}"
            wait_until(lambda: self.registrations().get(endpoint, 0) == count, what)

    def wait_endpoints(self, endpoints: Sequence[str]) -> None:
        """Wait until the clients' node knows that each of these is registered."""
        wait_until(lambda: set(endpoints) <= set(self.registrations()), f"registrations of {endpoints}")

    def wait_gone(self, endpoint: str) -> None:
        """Wait until nobody holds the endpoint, and the clients' node knows it."""
        self.wait_endpoint(endpoint, 0)

    # -- peers

    def fresh_endpoint(self) -> str:
        """An endpoint ID that nobody used yet."""
        return f"peer-{next(self._names)}"

    def v1_agent(
        self, serve: v1.Serve, endpoint: str | None = None, *, fragment: int | None = v1.FRAGMENT_BYTES
    ) -> tuple[v1.Agent, str]:
        """A v1 test agent, registered; and its endpoint."""
        name = endpoint or self.fresh_endpoint()
        context = self.tls.context if self.tls else None
        agent = v1.Agent(self.agents_node.upstream, name, serve, tls=context, fragment=fragment)
        self._peers.append(agent)
        self.wait_endpoints([name])
        return agent, name

    def v2_agent(
        self,
        endpoint: str | None = None,
        *,
        agent_id: str | None = None,
        slot: str = "0",
        echo: bool = True,
        grant: bool = True,
        offers: tuple[str, ...] = (v2.SUBPROTOCOL,),
        capabilities: str = "",
    ) -> tuple[v2.Agent, str]:
        """A v2 test agent, registered; and its endpoint."""
        name = endpoint or self.fresh_endpoint()
        context = self.tls.context if self.tls else None
        agent = v2.Agent(
            self.agents_node.upstream,
            name,
            tls=context,
            agent_id=agent_id,
            slot=slot,
            echo=echo,
            grant=grant,
            offers=offers,
            capabilities=capabilities,
        )
        self._peers.append(agent)
        self.wait_endpoints([name])
        return agent, name

    def still_serves(self) -> None:
        """Prove that nodes and agent go on serving others."""
        other = next(service for service in self._services if service is not self.service)
        response = self.request("GET /still HTTP/1.1", endpoint=other.endpoint)
        assert (response.status, response.body) == (200, b"hello from the service\n")

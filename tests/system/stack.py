"""One node, one agent and a row of recording services, shared by many tests."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.peers import v1, v2
from tests.peers.pipe import PATIENCE_S
from tests.system import wire
from tests.system.harness import Bench, CurlAnswer, Settings, Tls, curl
from tests.system.service import Service

# Each test gets the next service in turn: what a test left in the agent's pool of connections is long gone when its
# service is lent again.
SERVICES = 12


class Stack:
    """A running node and agent.

    Attributes:
        service: the recording service of the current test, reached as `endpoint`.
    """

    def __init__(
        self, directory: Path, tls: Tls | None, node: Settings | None = None, agent: Settings | None = None
    ) -> None:
        self.directory = directory
        self.tls = tls
        self.bench = Bench(directory, tls)
        self._settings = (node or {}, agent or {})
        self._services = [Service(endpoint=f"svc-{number}") for number in range(SERVICES)]
        self._turn = itertools.cycle(self._services)
        self._names = itertools.count()
        self._peers: list[v1.Session | v2.Peer] = []
        self._clients: list[wire.Stream] = []
        self.service = self._services[0]
        self._start()

    def _start(self) -> None:
        self.node = self.bench.node(settings=self._settings[0])
        listeners = {service.endpoint: service.address for service in self._services}
        self.agent = self.bench.agent(self.node, listeners, self._settings[1])

    # -- one test after the other

    def begin(self) -> None:
        """Before a test: a fresh service, and living processes even if the last test killed one."""
        if not (self.node.running and self.agent.running):
            self.bench.close()
            self.bench = Bench(self.directory, self.tls)
            self._start()
        self.node.wait_endpoints([service.endpoint for service in self._services])
        self.bench.new_faults()
        self.service = next(self._turn)
        self.service.reset()

    def end(self) -> None:
        """After a test: nothing left open, nothing dead, no exception in the logs, no bad bytes at the service."""
        for client in self._clients:
            client.close()
        for peer in self._peers:
            peer.vanish()
        self._clients, self._peers = [], []
        errors = self.service.errors()
        self.service.reset()
        assert errors == [], errors
        assert self.node.running and self.agent.running, self.bench.tail()
        assert (faults := self.bench.new_faults()) == [], faults

    def close(self) -> None:
        """The end."""
        self.bench.close()
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
        """curl against the proxy port."""
        return curl(self.node.url(path, host), *arguments, directory=self.directory, tls=self.tls, data=data)

    def curl_endpoint(self, path: str = "/", *arguments: str, data: bytes | None = None) -> CurlAnswer:
        """curl for the current test's service, named by the header."""
        return self.curl(path, "-H", f"x-pico-endpoint: {self.endpoint}", *arguments, data=data)

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
        agent = v1.Agent(self.node.upstream, name, serve, tls=context, fragment=fragment)
        self._peers.append(agent)
        self.node.wait_endpoints([name])
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
    ) -> tuple[v2.Agent, str]:
        """A v2 test agent, registered; and its endpoint."""
        name = endpoint or self.fresh_endpoint()
        context = self.tls.context if self.tls else None
        agent = v2.Agent(
            self.node.upstream,
            name,
            tls=context,
            agent_id=agent_id,
            slot=slot,
            echo=echo,
            grant=grant,
            offers=offers,
        )
        self._peers.append(agent)
        self.node.wait_endpoints([name])
        return agent, name

    def still_serves(self) -> None:
        """Prove that node and agent go on serving others."""
        other = next(service for service in self._services if service is not self.service)
        response = self.request("GET /still HTTP/1.1", endpoint=other.endpoint)
        assert (response.status, response.body) == (200, b"hello from the service\n")

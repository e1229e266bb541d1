"""A whole agent, nodes' upstream ports, and a service whose answers wait until they are told to come."""

from __future__ import annotations

import random
from typing import Any, cast

import attrs
from twisted.internet.protocol import Factory, Protocol

from pico_twisted.config import AgentConfig, ConnectConfig, ListenerConfig, ServiceAddress
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel import Admission, Closed, Refusal, TunnelServerFactory
from tests.doubles.service import Receiver
from tests.net.agent.agent_fakes import tunnel_parts
from tests.net.in_reactor import reactor, until

GET = b"GET /%b HTTP/1.1\r\nHost: web\r\n\r\n"


class TunnelNode(TunnelServerFactory):
    """A node's upstream port, and nothing behind it."""

    def __init__(self, number: int = 1, port: int = 0) -> None:
        self.sweep = ReactorSweep(reactor, 0.02)
        parts = tunnel_parts(reactor, self.sweep, Metrics("node"))
        super().__init__(parts, node_id=f"n{number}", reactor=reactor)
        self.acceptor = cast(Any, self)  # no call comes
        self.tunnels: list[Any] = []
        self.tokens: list[bytes | None] = []
        self.drained: list[Any] = []
        self.refusal: Refusal | None = None
        self.sweep.start()
        self._listening = reactor.listenTCP(port, self, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    @property
    def address(self) -> str:
        """Where agents connect."""
        return f"http://127.0.0.1:{self.port}"

    def admit(self, head: RequestHead, shown: Credential) -> Admission | Refusal:
        self.tokens.append(head.get(b"authorization"))
        if self.refusal is not None:
            return self.refusal
        slot = head.get(b"x-pico-slot") or b""
        agent_id = head.get(b"x-pico-agent-id") or b""
        return Admission(
            endpoint=head.target.rpartition(b"/")[2].decode(),
            agent_id=agent_id.decode(),
            slot=slot.decode(),
            agent_version="1",
        )

    def opened(self, tunnel: Any) -> None:
        self.tunnels.append(tunnel)
        tunnel.closed.addCallback(self._closed, tunnel)

    def _closed(self, closed: Closed, tunnel: Any) -> Closed:
        self.tunnels.remove(tunnel)
        return closed

    def drain_requested(self, tunnel: Any) -> None:
        self.drained.append(tunnel)

    def call(self, name: bytes, tunnel: Any = None, more: bool = False) -> Receiver:
        """Send a request down a tunnel."""
        return Receiver().open(tunnel or self.tunnels[0], HTTP, GET % name, more)

    async def stop(self) -> None:
        """As a kill would: no word to anybody."""
        await self._listening.stopListening()
        for tunnel in list(self.tunnels):
            tunnel.abort()
        await until(lambda: not self.connections, "the node's connections closed")
        self.sweep.stop()


class Echo(Protocol):
    """A service that answers each request with its target, when it is told to."""

    transport: Any

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.waiting.append(data.split(b" ")[1])
        factory: Any = self.factory
        if factory.at_once:
            self.answer()

    def answer(self) -> None:
        """Answer the oldest request."""
        target = self.waiting.pop(0)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))


class EchoFactory(Factory):
    """Makes and remembers them."""

    noisy = False
    at_once = True

    def __init__(self) -> None:
        self.made: list[Echo] = []

    def buildProtocol(self, addr: Any) -> Echo:
        protocol = Echo()
        protocol.factory = self
        self.made.append(protocol)
        return protocol


class World:
    """Nodes, a service, an agent; all of it is taken down at the end."""

    def __init__(self) -> None:
        self.nodes: list[TunnelNode] = []
        self.echo = EchoFactory()
        self.echo_port = reactor.listenTCP(0, self.echo, interface="127.0.0.1")
        self.agents: list[AgentService] = []

    def node(self, port: int = 0) -> TunnelNode:
        """Start a node."""
        node = TunnelNode(len(self.nodes) + 1, port)
        self.nodes.append(node)
        return node

    def agent(self, *urls: str, endpoints: tuple[str, ...] = ("web",), **changes: Any) -> AgentService:
        """Start an agent."""
        address = ServiceAddress("http", "127.0.0.1", self.echo_port.getHost().port)
        listeners = tuple(ListenerConfig(endpoint=endpoint, addr=address, timeout=5.0) for endpoint in endpoints)
        config = attrs.evolve(
            AgentConfig(connect=ConnectConfig(url=urls, timeout=2.0, token="sesame"), listeners=listeners), **changes
        )
        agent = AgentService(
            config,
            reactor=reactor,
            sweep=ReactorSweep(reactor, 0.02),
            metrics=Metrics("agent"),
            rng=random.Random(3),
            version="9.9",
        )
        self.agents.append(agent)
        agent.startService()
        return agent

    async def registered(self, **changes: Any) -> tuple[TunnelNode, AgentService]:
        """A node, and an agent that has registered there."""
        node = self.node()
        agent = self.agent(node.address, **changes)
        await agent.all_registered
        await until(lambda: len(node.tunnels) == len(agent.listeners))
        return node, agent

    async def close(self) -> None:
        """Leave nothing behind."""
        for agent in self.agents:
            agent.abort()
            await agent.stopService()
            await until(lambda agent=agent: not any(one.service.connections for one in agent.listeners))  # type: ignore[misc]
        for node in self.nodes:
            await node.stop()
        await self.echo_port.stopListening()

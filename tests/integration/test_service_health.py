"""Two agents of one endpoint at a node, one of which loses its service: who gets the requests, and what that costs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from pico_twisted.config import AgentConfig, ConnectConfig, HealthConfig, ListenerConfig, ServiceAddress
from pico_twisted.core.rpc.service_health import Standing
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from tests.integration.harness import RunningNode, eventually, reactor


class Named(Protocol):
    """Answers each request with the name of its service, and checks with its health."""

    transport: Any

    def connectionMade(self) -> None:
        factory: Any = self.factory
        factory.open.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        factory: Any = self.factory
        factory.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        factory: Any = self.factory
        if b"pico-agent-health-check" in data:
            factory.checks += 1
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % factory.health)
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + factory.name)


class NamedService(Factory):
    """A service that can be stopped and started again on its port."""

    noisy = False
    protocol = Named

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.health = 200
        self.checks = 0
        self.open: set[Named] = set()
        self._listening = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def start(self) -> None:
        """Listen again."""
        self._listening = reactor.listenTCP(self.port, self, interface="127.0.0.1")

    async def stop(self) -> None:
        """As a kill would. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        for one in list(self.open):
            one.transport.abortConnection()


class Scene:
    """A node, two services and their agents."""

    def __init__(self, node: RunningNode, health: HealthConfig) -> None:
        self.node = node
        self.services = {name: NamedService(name.encode()) for name in ("one", "two")}
        self.agents = [self._agent(service, health) for service in self.services.values()]

    def _agent(self, service: NamedService, health: HealthConfig) -> AgentService:
        name = service.name.decode()
        address = ServiceAddress("http", "127.0.0.1", service.port)
        listener = ListenerConfig(endpoint="my-ep", addr=address, health=health if name == "one" else HealthConfig())
        url = f"http://127.0.0.1:{self.node.upstream_port}"
        agent = AgentService(
            AgentConfig(agent_id=name, connect=ConnectConfig(url=(url,)), listeners=(listener,)),
            reactor=reactor,
            sweep=ReactorSweep(reactor, 0.02),
            metrics=Metrics("agent"),
            rng=random.Random(1),
            version="9.9",
        )
        agent.startService()
        return agent

    async def ready(self) -> None:
        """Until both agents are registered."""
        for agent in self.agents:
            await agent.all_registered

    async def ask(self, method: bytes = b"GET") -> bytes:
        """A request; returns who answered it."""
        head = method + b" / HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        client = await self.node.client(head)
        answer = await client.until_end()
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return answer[-3:]

    async def asked_until(self, wanted: set[bytes]) -> None:
        """Ask on until the last ten requests were answered by just these."""
        last: list[bytes] = []
        for number in range(2000):
            last = [*last[-9:], await self.ask((b"GET", b"POST")[number % 2])]
            if len(last) == 10 and set(last) == wanted:
                return
        raise AssertionError(f"the last answers are of {last}")

    async def close(self) -> None:
        """Leave nothing behind."""
        for agent in self.agents:
            agent.abort()
            await agent.stopService()
        for service in self.services.values():
            await service.stop()
        await eventually(lambda: not any(service.open for service in self.services.values()))


@pytest.fixture
def scene(node: RunningNode, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Both agents, of which the first one checks its service as the test says."""
    found = Scene(node, getattr(request, "param", HealthConfig()))
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.close()))


@pytest_twisted.ensureDeferred
async def test_a_service_that_dies_and_comes_back(scene: Scene) -> None:
    """No request fails, whatever its method; those behind the first few all go to the other agent; and the service gets
    requests again once it is back."""
    await scene.ready()
    await scene.asked_until({b"one", b"two"})
    await scene.services["one"].stop()
    await scene.asked_until({b"two"})
    held = scene.node.parts.cluster.registry.find("my-ep", "one", "0.0")
    await eventually(lambda: held is not None and held.standing is not Standing.UP)
    scene.services["one"].start()
    await scene.asked_until({b"one", b"two"})
    assert held is not None
    await eventually(lambda: held.standing is Standing.UP)


@pytest.mark.parametrize(
    "scene", [HealthConfig(path="/h", interval=0.5, unhealthy_after=2, healthy_after=1)], indirect=True
)
@pytest_twisted.ensureDeferred
async def test_a_service_that_says_it_is_not_well(scene: Scene) -> None:
    """Checks alone take it out while it answers every request, and bring it back."""
    await scene.ready()
    sick = scene.services["one"]
    await scene.asked_until({b"one", b"two"})
    sick.health = 503
    held = scene.node.parts.cluster.registry.find("my-ep", "one", "0.0")
    assert held is not None
    await eventually(lambda: held.standing is Standing.OUT)
    await scene.asked_until({b"two"})
    assert held.standing is Standing.OUT
    sick.health = 302
    await eventually(lambda: held.standing is Standing.UP)
    await scene.asked_until({b"one", b"two"})
    assert sick.checks > 2

"""A connection to a service that a client authenticated is that client's alone: over one node, and over two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from pico_twisted.config import ServiceAddress
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.net.agent.own_health import OwnHealth
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.tunnel import connect_tunnel
from tests.doubles.ntlm import STEP_1, NtlmService, step_3
from tests.integration.cluster import LinkedNodes
from tests.integration.harness import Client, RunningNode, eventually, reactor
from tests.net.agent.agent_fakes import listener_config


def get(extra: bytes = b"", endpoint: bytes = b"my-ep") -> bytes:
    """A request."""
    return b"GET / HTTP/1.1\r\nHost: %b.example.com\r\n%b\r\n" % (endpoint, extra)


class Guarded:
    """Two nodes; agents at n1 in front of a service that authenticates connections; clients at one of the nodes."""

    def __init__(self, entry: str) -> None:
        self.nodes = LinkedNodes()
        self.entry: RunningNode = self.nodes.nodes[entry]
        self.services: list[NtlmService] = []
        self._locals: list[Http1Service] = []
        self._ports: list[Any] = []

    async def agent(self, agent_id: str = "agent-1", endpoint: str = "my-ep") -> NtlmService:
        """An agent with a service of its own."""
        service = NtlmService()
        port = reactor.listenTCP(0, service, interface="127.0.0.1")
        holder = self.nodes.holder
        parts = holder.parts.agent_parts()
        local = Http1Service(
            ServiceParts(
                config=listener_config(ServiceAddress("http", "127.0.0.1", port.getHost().port)),
                tunnel=parts,
                agent_id=agent_id,
                reactor=reactor,
            )
        )
        tunnel = await connect_tunnel(
            reactor,
            parts,
            f"http://127.0.0.1:{holder.upstream_port}",
            endpoint_id=endpoint,
            agent_id=agent_id,
            slot="0.0",
            acceptor=Forwarder(local, OwnHealth(parts.sweep), lambda tunnel: None),
            timeout_s=5.0,
        )
        holder.agents.append(tunnel)
        self.entry.parts.tell(endpoint, [] if self.entry is holder else ["n1"])
        self.services.append(service)
        self._locals.append(local)
        self._ports.append(port)
        return service

    async def client(self) -> Client:
        """A client's connection."""
        return await self.entry.client()

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.nodes.close()
        for local in self._locals:
            local.close()
        await eventually(lambda: not any(service.open for service in self.services))
        for port in self._ports:
            await port.stopListening()


@pytest_twisted.async_yield_fixture(params=["n1", "n2"], ids=["one node", "two nodes"])
async def guarded(request: Any) -> AsyncIterator[Guarded]:
    """Clients at the agents' node, and at another one."""
    setting = Guarded(request.param)
    yield setting
    await setting.close()


async def ask(client: Client, extra: bytes = b"", endpoint: bytes = b"my-ep") -> bytes:
    """One request on a client's connection; returns the body of the answer."""
    client.send(get(extra, endpoint))
    head = await client.until(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await eventually(lambda: len(client.data) >= length)
    body = bytes(client.data[:length])
    del client.data[:length]
    return body


async def log_in(client: Client, user: bytes, endpoint: bytes = b"my-ep") -> None:
    """The three steps."""
    assert await ask(client, b"", endpoint) == b"who?"
    assert await ask(client, STEP_1, endpoint) == b"challenge"
    assert await ask(client, step_3(user), endpoint) == b"secrets of " + user


@pytest_twisted.ensureDeferred
async def test_ntlm(guarded: Guarded) -> None:
    """A stranger never gets a connection that another client authenticated; NTLM's three steps work for its owner."""
    service = await guarded.agent()
    alice, bob, stranger = [await guarded.client() for _ in range(3)]
    await log_in(alice, b"alice")
    assert await ask(stranger) == b"who?"
    await log_in(bob, b"bob")
    for _ in range(3):
        assert await ask(alice) == b"secrets of alice"
        assert await ask(stranger) == b"who?"
        assert await ask(bob) == b"secrets of bob"
    assert not any(CLIENT_CONNECTION in head.lower() for head in service.heads), "the service sees none of this"


@pytest_twisted.ensureDeferred
async def test_pipelining(guarded: Guarded) -> None:
    """Requests that a client sends ahead are answered in order, on its own connection."""
    await guarded.agent()
    alice, stranger = await guarded.client(), await guarded.client()
    alice.send(get(STEP_1) + get(step_3(b"alice")) + get() + get())
    stranger.send(get() * 4)
    for body in (b"challenge", b"secrets of alice", b"secrets of alice", b"secrets of alice"):
        assert b"secrets" not in await alice.until(b"\r\n\r\n")
        await alice.until(body)
    for _ in range(4):
        await stranger.until(b"who?")
    assert b"secrets" not in stranger.data


@pytest_twisted.ensureDeferred
async def test_the_client_leaves(guarded: Guarded) -> None:
    """When the client's connection ends, so does the service's connection that it authenticated, and no other."""
    service = await guarded.agent()
    alice, bob = await guarded.client(), await guarded.client()
    await log_in(alice, b"alice")
    await log_in(bob, b"bob")
    await eventually(lambda: service.users == [b"alice", b"bob"])
    alice.transport.loseConnection()
    await eventually(lambda: service.users == [b"bob"])
    assert await ask(bob) == b"secrets of bob"
    bob.transport.abortConnection()
    await eventually(lambda: not any(service.users))


@pytest_twisted.ensureDeferred
async def test_several_agents(guarded: Guarded) -> None:
    """With several agents all steps go to one of them, and the client that leaves is told to each that served it."""
    services = [await guarded.agent(f"agent-{number}") for number in range(3)]
    clients = [await guarded.client() for _ in range(4)]
    for number, client in enumerate(clients):
        await log_in(client, b"user-%d" % number)
    for number, client in enumerate(clients):
        assert await ask(client) == b"secrets of user-%d" % number
    for client in clients:
        client.transport.loseConnection()
    await eventually(lambda: not any(any(service.users) for service in services))


@pytest_twisted.ensureDeferred
async def test_several_endpoints(guarded: Guarded) -> None:
    """One client's connection that asks for two endpoints has a connection of its own to each service."""
    services = [await guarded.agent("agent-1", name) for name in ("my-ep", "other")]
    client, stranger = await guarded.client(), await guarded.client()
    await log_in(client, b"alice")
    await log_in(client, b"alice-there", b"other")
    assert await ask(client) == b"secrets of alice"
    assert await ask(client, b"", b"other") == b"secrets of alice-there"
    assert await ask(stranger, b"", b"other") == b"who?"
    client.transport.loseConnection()
    await eventually(lambda: not any(any(service.users) for service in services))


@pytest_twisted.ensureDeferred
async def test_no_client_names_a_connection(guarded: Guarded) -> None:
    """A client that sends the field of our hops itself gets nobody's connection."""
    await guarded.agent()
    alice, stranger = await guarded.client(), await guarded.client()
    await log_in(alice, b"alice")
    name = next(iter(guarded.entry.parts.proxy.connections)).peer.connection or next(
        channel.peer.connection for channel in guarded.entry.parts.proxy.connections if channel.peer.connection
    )
    for field in (CLIENT_CONNECTION, CLIENT_CONNECTION.replace(b"-", b"_"), CLIENT_CONNECTION.title()):
        assert await ask(stranger, field + b": " + name + b"\r\n") == b"who?"


@pytest_twisted.ensureDeferred
async def test_a_proxy_in_front(guarded: Guarded) -> None:
    """A trusted proxy may share its connections among its clients: nothing is kept for one of them."""
    service = await guarded.agent()
    proxy = await guarded.client()
    channel = next(iter(guarded.entry.parts.proxy.connections))
    channel.peer = channel.peer._replace(trusts=lambda _: True)
    assert await ask(proxy, STEP_1) == b"challenge"
    assert await ask(proxy, step_3(b"alice")) == b"who?"
    await eventually(lambda: not service.open)

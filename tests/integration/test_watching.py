"""What two nodes remember of requests that crossed the link between them, and failed on their way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted

from tests.doubles.service import Receiver
from tests.integration.cluster import SECRET, LinkedNodes
from tests.integration.harness import Client, RunningNode, eventually

HEAD = b"GET /p?token=abc HTTP/1.1\r\nHost: my-ep.example.com\r\nX-Request-Id: id-1\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: my-ep.example.com\r\nX-Request-Id: id-1\r\nContent-Length: 4\r\n\r\nbody"

Hop = tuple[int, str, str]


@pytest_twisted.async_yield_fixture
async def nodes() -> AsyncIterator[LinkedNodes]:
    """Two nodes without access logs, of which n1 holds the endpoint and clients come to n2."""
    two = LinkedNodes(secrets=[SECRET])
    for node in two.nodes.values():
        node.parts.node.requests.log_all(False)
    yield two
    await two.close()


def hops(node: RunningNode) -> list[Hop]:
    """Status, code and hop of each request that a node remembers; all have the ID that the client gave."""
    found = list(node.parts.node.requests.remembered())
    assert {one.told["request_id"] for one in found} <= {"id-1"}
    return [(one.told["status"], one.told["error"], one.hop) for one in found]


async def remember(nodes: LinkedNodes, entry: Hop, holder: Hop) -> None:
    """Wait until both nodes have told what they saw."""
    await eventually(lambda: hops(nodes.entry) and hops(nodes.holder))
    assert hops(nodes.entry) == [entry]
    assert hops(nodes.holder) == [holder]
    (first,) = nodes.entry.parts.node.requests.remembered()
    (second,) = nodes.holder.parts.node.requests.remembered()
    assert (first.port, first.told["upstream"], first.over_link) == ("proxy", "n1", True)
    assert (second.port, second.told["client"], second.told["endpoint"]) == ("link", "n2", "my-ep")


@pytest_twisted.ensureDeferred
async def test_nothing_fails(nodes: LinkedNodes) -> None:
    """Then nothing is kept, unless somebody looks: then at both nodes."""

    def answers(receiver: Receiver) -> None:
        if receiver.ended and not receiver.call.closed:
            receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", False)

    await nodes.holder.agent(answers)
    client = await nodes.entry.client(HEAD)
    await client.until(b"hi")
    assert hops(nodes.entry) == hops(nodes.holder) == []
    for node in nodes.nodes.values():
        node.parts.node.requests.looked()
    client.send(HEAD)
    await client.until(b"hi")
    await remember(nodes, (200, "", ""), (200, "", ""))


@pytest_twisted.ensureDeferred
async def test_the_service_fails(nodes: LinkedNodes) -> None:
    """An error of its own is passed on, and seen at both nodes."""

    def fails(receiver: Receiver) -> None:
        if receiver.ended and not receiver.call.closed:
            receiver.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False)

    await nodes.holder.agent(fails)
    client = await nodes.entry.client(HEAD)
    await client.until(b"\r\n\r\n")
    await remember(nodes, (503, "", "service"), (503, "", "service"))


@pytest_twisted.ensureDeferred
async def test_the_agent_goes(nodes: LinkedNodes) -> None:
    """The node that it was connected to says that it was the agent; the other one knows as much as the link tells."""
    served: list[Receiver] = []
    agent, _ = await nodes.holder.agent(served.append)
    client = await nodes.entry.client(POST)
    await eventually(lambda: served)
    agent.abort()
    await client.until(b"}")
    await remember(nodes, (502, "upstream-unreachable", "link"), (502, "upstream-unreachable", "agent"))


@pytest_twisted.ensureDeferred
async def test_the_client_leaves(nodes: LinkedNodes) -> None:
    """Both nodes know that it was the client."""
    served: list[Receiver] = []
    await nodes.holder.agent(served.append)
    client: Client = await nodes.entry.client(HEAD)
    await eventually(lambda: served)
    client.transport.abortConnection()
    await remember(nodes, (499, "client-gone", "client"), (499, "client-gone", "client"))


@pytest_twisted.ensureDeferred
async def test_the_link_breaks(nodes: LinkedNodes) -> None:
    """Both nodes know that it was the way between them."""
    served: list[Receiver] = []
    await nodes.holder.agent(served.append)
    client = await nodes.entry.client(POST)
    await eventually(lambda: served)
    for tunnel in list(nodes.links["n1"].port.tunnels):
        tunnel.transport.abortConnection()
    await client.until(b"}")
    await remember(nodes, (502, "upstream-unreachable", "link"), (502, "upstream-unreachable", "link"))

"""Links that break, that cannot be opened, and that drain: no request is lost, doubled or kept waiting."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory

from pico_twisted.core.links.sync_frames import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES
from pico_twisted.core.overload import LATE_S
from pico_twisted.core.routing.intake import Intake
from pico_twisted.net.links.handshake import PROOF_TIMEOUT_S
from pico_twisted.net.links.sync import FetchFailed
from tests.doubles.node import ToldMembership
from tests.doubles.service import Receiver, echo
from tests.integration.cluster import SECRET, LinkedNodes
from tests.integration.harness import GET, Client, eventually, outcome, reactor
from tests.peers.link import PATH, Claim
from tests.peers.websocket import handshake_request

POST = b"POST /p HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: 4\r\n\r\nbody"


@pytest_twisted.async_yield_fixture
async def nodes() -> AsyncIterator[LinkedNodes]:
    """Three nodes, of which n1 and n3 hold the endpoint."""
    three = LinkedNodes(("n1", "n2", "n3"), secrets=[SECRET])
    three.held_by("n1", "n3")
    yield three
    await three.close()


def metric(nodes: LinkedNodes, name: str, node: str = "n2") -> float:
    """A metric of a node; 0.0 when it has no such line."""
    found = re.search(rf"^{re.escape(name)} (.*)$", nodes.nodes[node].parts.metrics.exposition().decode(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


@pytest_twisted.ensureDeferred
async def test_not_here(nodes: LinkedNodes) -> None:
    """A node that does not hold the endpoint refuses, and the request is made at another one, a POST too."""
    await nodes.nodes["n3"].agent(echo)
    client = await nodes.entry.client(POST)
    assert (await client.until(b"body")).startswith(b"HTTP/1.1 200 OK")
    assert metric(nodes, 'pico_retries_total{reason="refused-not-here"}') == 1
    assert metric(nodes, 'pico_link_calls_total{direction="sent"}') == 2
    assert metric(nodes, 'pico_link_calls_total{direction="received"}', "n3") == 1


@pytest_twisted.ensureDeferred
async def test_nowhere(nodes: LinkedNodes) -> None:
    """When no node holds it after all, the client gets a 502."""
    client = await nodes.entry.client(POST)
    assert (await client.until(b"}")).startswith(b"HTTP/1.1 502 ")


@pytest_twisted.ensureDeferred
async def test_requests_do_not_hop_twice(nodes: LinkedNodes) -> None:
    """What came over a link is served from local registrations only, even by a node that knows of others."""
    nodes.held_by("n1")
    _, acceptor = await nodes.nodes["n3"].agent(echo)
    client = await nodes.entry.client(GET)
    assert (await client.until(b"}")).startswith(b"HTTP/1.1 502 ")
    assert not acceptor.accepted


@pytest_twisted.ensureDeferred
async def test_draining_node_without_agents(nodes: LinkedNodes) -> None:
    """A node that drains and has nobody left says so, and the request is made elsewhere."""
    nodes.holder.parts.cluster.intake = Intake.STOPPING
    await nodes.nodes["n3"].agent(echo)
    client = await nodes.entry.client(POST)
    assert (await client.until(b"body")).startswith(b"HTTP/1.1 200 OK")
    assert metric(nodes, 'pico_retries_total{reason="refused-draining"}') == 1


@pytest_twisted.ensureDeferred
async def test_busy_node() -> None:
    """A node at its limit of calls says so; without another one the client gets a 503."""
    nodes = LinkedNodes(calls=1)
    try:
        await nodes.holder.agent()
        first = await nodes.holder.client(GET)
        await eventually(lambda: nodes.holder.parts.cluster.pending)
        client = await nodes.entry.client(POST)
        answer = await client.until(b"}")
        assert answer.startswith(b"HTTP/1.1 503 ") and b"x-pico-error: n2; busy" in answer
        first.transport.abortConnection()
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_an_overloaded_node(nodes: LinkedNodes) -> None:
    """A node that comes late to everything refuses requests of other nodes as it does those of its own clients, in
    words that nodes of all versions know: they are made at another one, a POST too."""
    await nodes.holder.agent(echo)
    await nodes.nodes["n3"].agent(echo)
    load = nodes.holder.parts.node.ceilings.load
    load._chance = lambda: 0.0
    nodes.holder.parts.sweep.lines.append(lambda: 2 * LATE_S)
    await eventually(lambda: load.share)
    for _ in range(5):
        client = await nodes.entry.client(POST)
        assert (await client.until(b"body")).startswith(b"HTTP/1.1 200 OK")
    refused = metric(nodes, 'pico_retries_total{reason="refused-busy"}')
    assert refused >= 1 == metric(nodes, "pico_upstream_sessions", "n1")
    assert metric(nodes, 'pico_link_calls_total{direction="received"}', "n1") == refused
    assert metric(nodes, 'pico_limited_total{reason="overloaded"}', "n1") == refused


@pytest_twisted.ensureDeferred
async def test_nobody_listens(nodes: LinkedNodes) -> None:
    """A node that cannot be reached costs a POST nothing but the attempt, and is not dialled again at once; when gossip
    hears of it, it is."""
    await nodes.nodes["n3"].agent(echo)
    real = nodes.addresses["n1"]
    nodes.addresses["n1"] = ("127.0.0.1", 1)
    client = await nodes.entry.client(POST)
    await client.until(b"body")
    assert metric(nodes, 'pico_retries_total{reason="lost"}') == 1
    assert metric(nodes, 'pico_link_failures_total{reason="connect"}') == 1
    links = nodes.links["n2"]
    nodes.addresses["n1"] = real
    await eventually(lambda: links.usable("n1"))
    await nodes.holder.agent(echo)
    client.send(POST)
    await client.until(b"body")
    assert metric(nodes, 'pico_link_calls_total{direction="received"}', "n1") == 1


@pytest_twisted.ensureDeferred
async def test_agent_dies(nodes: LinkedNodes) -> None:
    """When the agent of a GET dies, its node makes the request at its other agent; that of a POST, which may have been
    carried out, fails."""
    served = []

    def serve(receiver: Receiver) -> None:
        served.append(receiver)

    nodes.held_by("n1")
    first, _ = await nodes.holder.agent(serve, agent_id="agent-1")
    client = await nodes.entry.client(GET)
    await eventually(lambda: served)
    await nodes.holder.agent(echo, agent_id="agent-2")
    first.abort()
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert metric(nodes, 'pico_retries_total{reason="lost"}', "n1") == 1
    assert metric(nodes, 'pico_link_calls_total{direction="sent"}') == 1

    third, _ = await nodes.holder.agent(serve, agent_id="agent-3")
    while len([one for one in served if one.data.startswith(b"POST")]) == 0:
        client = await nodes.entry.client(POST)
        await eventually(lambda: client.data or served[-1].data.startswith(b"POST"))  # noqa: B023
    third.abort()
    answer = await client.until(b"}")
    assert answer.startswith(b"HTTP/1.1 502 ") and b"x-pico-error: n2; upstream-unreachable" in answer


@pytest_twisted.ensureDeferred
async def test_node_dies(nodes: LinkedNodes) -> None:
    """When the link breaks under a GET without a response, it is made at another node; a POST fails; the agent's calls
    are cancelled."""
    _, acceptor = await nodes.holder.agent()
    client = await nodes.entry.client(GET)
    other = await nodes.entry.client(POST)
    await eventually(lambda: len(acceptor.accepted) == 2)
    await nodes.nodes["n3"].agent(echo)
    (tunnel,) = nodes.links["n1"].port.tunnels
    tunnel.abort()
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert (await other.until(b"}")).startswith(b"HTTP/1.1 502 ")
    await eventually(lambda: all(receiver.reset_code == "cancelled" for receiver in acceptor.accepted))
    assert metric(nodes, 'pico_link_failures_total{reason="lost"}') == 1
    client.send(POST)  # the link to n1 is opened anew
    await eventually(lambda: len(acceptor.accepted) == 3)


class Load:
    """Clients that send the next request when they have the answer to the last one.

    Attributes:
        answers: how many came.
        wrong: those that were not what the service said.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.wrong: list[bytes] = []
        self._clients: list[Client] = []

    async def start(self, nodes: LinkedNodes, count: int) -> None:
        """Begin."""
        for _ in range(count):
            client = await nodes.entry.client()
            client.dataReceived = self._taker(client)  # type: ignore[assignment, method-assign]
            self._clients.append(client)
            client.send(POST)

    def _taker(self, client: Client) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            client.data += data
            while b"\r\n\r\nbody" in client.data or b"}" in client.data:
                if not client.data.startswith(b"HTTP/1.1 200 OK\r\n"):
                    self.wrong.append(bytes(client.data))
                client.data.clear()
                self.answers += 1
                if client in self._clients:
                    client.send(POST)

        return take

    async def stop(self) -> None:
        """Let the last answers come."""
        clients, self._clients = self._clients, []
        await eventually(lambda: not any(client.data for client in clients))


@pytest_twisted.ensureDeferred
async def test_drain_under_load(nodes: LinkedNodes) -> None:
    """A node drains while requests, POSTs among them, come over its link: none is lost; afterwards the link is closed,
    a new one is refused, and all go to the other node."""
    _, acceptor = await nodes.holder.agent(echo)
    await nodes.nodes["n3"].agent(echo)
    load = Load()
    await load.start(nodes, 16)
    await eventually(lambda: load.answers > 200)
    (link,) = nodes.links["n2"].open_links()
    drained = nodes.links["n1"].drain()
    await drained
    assert not link.is_open and not nodes.links["n1"].port.connections
    served = len(acceptor.accepted)
    so_far = load.answers
    await eventually(lambda: load.answers > so_far + 200)
    await load.stop()
    assert load.wrong == []
    assert len(acceptor.accepted) == served
    nodes.links["n2"].heard("n1")
    await eventually(lambda: nodes.links["n2"].usable("n1"))
    client = await nodes.entry.client(POST)
    await client.until(b"body")
    assert metric(nodes, 'pico_link_failures_total{reason="refused"}') >= 1


@pytest_twisted.ensureDeferred
async def test_drain_waits_for_calls(nodes: LinkedNodes) -> None:
    """A call that is in progress when its node drains is served to its end over the old link, which gets no new
    ones."""
    nodes.held_by("n1")
    _, acceptor = await nodes.holder.agent()
    client = await nodes.entry.client(GET)
    await eventually(lambda: acceptor.accepted)
    (link,) = nodes.links["n2"].open_links()
    done: list[Any] = []
    nodes.links["n1"].drain().addCallback(done.append)
    await eventually(lambda: link.draining)
    assert not nodes.links["n2"].usable("n1") and link.is_open and not done
    refused = await nodes.entry.client(POST)
    assert (await refused.until(b"}")).startswith(b"HTTP/1.1 502 ")
    assert len(acceptor.accepted) == 1
    acceptor.accepted[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate", False)
    await client.until(b"late")
    await eventually(lambda: done and not nodes.links["n2"].open_links())


@pytest_twisted.ensureDeferred
async def test_stop(nodes: LinkedNodes) -> None:
    """A node that stops closes its links in order, and dials none afterwards."""
    await nodes.holder.agent(echo)
    client = await nodes.entry.client(GET)
    await client.until(b"\r\n\r\n")
    await nodes.links["n2"].stop()
    await eventually(lambda: not nodes.links["n1"].port.connections)
    assert isinstance(await outcome(nodes.links["n2"].fetch("n1", b"?")), FetchFailed)


@pytest_twisted.ensureDeferred
async def test_fetch(nodes: LinkedNodes) -> None:
    """A node asks another for its maps, and the other knows who asks; long questions and answers cross whole."""
    assert await nodes.links["n2"].fetch("n1", b"who") == b"n2 asks who: the maps"
    long = bytes(range(256)) * 4000
    assert await nodes.links["n1"].fetch("n2", long) == b"n1 asks " + long + b": the maps"
    with pytest.raises(ValueError, match="too long"):
        nodes.links["n1"].fetch("n2", bytes(MAX_REQUEST_BYTES + 1))


@pytest_twisted.ensureDeferred
async def test_fetch_of_a_node_of_an_earlier_version(nodes: LinkedNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does not list that it takes parts of maps gets whole ones."""
    monkeypatch.setattr("pico_twisted.net.links.handshake.OWN_CAPABILITIES", {})
    assert await nodes.links["n2"].fetch("n1", b"who") == b"n2 asks who for whole maps: the maps"


@pytest_twisted.ensureDeferred
async def test_fetch_of_too_much(nodes: LinkedNodes) -> None:
    """An answer over its limit is given up, and the link goes on."""
    from tests.integration.harness import RunningNode

    membership = functools.partial(ToldMembership, addresses={}, maps=bytes(MAX_ANSWER_BYTES + 1))
    big = RunningNode(node_id="big", secrets=[SECRET], membership=membership)
    links = big.parts.links
    port = reactor.listenTCP(0, links.port_factory, interface="127.0.0.1")
    try:
        nodes.addresses["big"] = ("127.0.0.1", port.getHost().port)
        for _ in range(2):
            failure = await outcome(nodes.links["n2"].fetch("big", b"?"))
            assert isinstance(failure, FetchFailed) and "too large" in str(failure)
        assert len(links.port.tunnels) == 1
    finally:
        await port.stopListening()
        await links.abort()
        await eventually(lambda: not links.port.connections)
        await big.close()


@pytest_twisted.ensureDeferred
async def test_fetch_that_fails(nodes: LinkedNodes) -> None:
    """A question to a node that is not known, does not answer the phone, or is gone fails soon."""
    for address in (None, ("127.0.0.1", 1)):
        if address is None:
            del nodes.addresses["n1"]
        else:
            nodes.addresses["n1"] = address
        assert isinstance(await outcome(nodes.links["n2"].fetch("n1", b"?")), FetchFailed)
    assert metric(nodes, 'pico_link_failures_total{reason="address"}') == 1


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        ({"n1": [b"one secret"], "n2": [b"another"]}, "refused"),
        ({"n1": [b"one secret"], "n2": []}, "refused"),
        ({"n1": [], "n2": [b"another"]}, "refused"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_secrets_that_differ(secrets: dict[str, list[bytes]], reason: str) -> None:
    """Nodes that share no secret do not talk, and each request fails without one byte of it having left."""
    nodes = LinkedNodes(secrets=secrets)
    try:
        _, acceptor = await nodes.holder.agent(echo)
        client = await nodes.entry.client(POST)
        assert (await client.until(b"}")).startswith(b"HTTP/1.1 502 ")
        assert metric(nodes, f'pico_link_failures_total{{reason="{reason}"}}') == 1
        assert not acceptor.accepted
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_no_proof_in_time(nodes: LinkedNodes) -> None:
    """Who opens a WebSocket and proves nothing is closed with 1008 after ten seconds, and was never a link."""
    host, port = nodes.addresses["n1"]
    claim = Claim(node_id="n9", to="n1", secret=SECRET)
    head = handshake_request(PATH, f"{host}:{port}", b"dGhlIHNhbXBsZSBub25jZQ==", ["pico.v2"], claim.headers())
    client: Any = await HostnameEndpoint(reactor, host, port).connect(Factory.forProtocol(Client))
    client.send(head)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert not nodes.links["n1"].port.tunnels and len(nodes.links["n1"].port.connections) == 1
    nodes.holder.parts.sweep.now += PROOF_TIMEOUT_S
    assert (1008).to_bytes(2, "big") + b"no proof in time" in await client.until_end()
    await eventually(lambda: not nodes.links["n1"].port.connections)


@pytest_twisted.ensureDeferred
async def test_secrets_are_replaced() -> None:
    """A secret is replaced without a stop: any one that both know will do, whoever dials."""
    old, new = b"the old secret", b"the new secret"
    nodes = LinkedNodes(secrets={"n1": [new, old], "n2": [old]})
    try:
        assert await nodes.links["n2"].fetch("n1", b"a") == b"n2 asks a: the maps"
        nodes.links["n2"].set_secrets([old, new])
        assert await nodes.links["n1"].fetch("n2", b"b") == b"n1 asks b: the maps"
        nodes.links["n1"].set_secrets([new])
        for links in nodes.links.values():
            for link in links.open_links():
                link.end(politely=True)
        await eventually(lambda: not any(links.open_links() for links in nodes.links.values()))
        assert isinstance(await outcome(nodes.links["n2"].fetch("n1", b"c")), FetchFailed)
        nodes.links["n2"].set_secrets([new])
        await eventually(lambda: nodes.links["n2"].usable("n1"))
        assert await nodes.links["n2"].fetch("n1", b"d") == b"n2 asks d: the maps"
    finally:
        await nodes.close()

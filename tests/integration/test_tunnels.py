"""Tunnels over real sockets."""

from __future__ import annotations

import random
import resource
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import gatherResults
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.tunnel import HandshakeRefused, HandshakeTimeout, Tunnel, connect_tunnel
from tests.doubles.service import Acceptor, Receiver, echo
from tests.integration.harness import GET, RunningNode, eventually, outcome, pause, reactor


@ensureDeferred
async def test_two_hundred_calls(node: RunningNode) -> None:
    """200 calls with random delays on one tunnel come back each to its own caller, out of order, none lost."""
    rng = random.Random(1)
    order: list[bytes] = []

    def later(receiver: Receiver) -> None:
        if receiver.ended and receiver.reset_code is None and not receiver.was_lost:
            reactor.callLater(rng.random() / 5, answer, receiver)

    def answer(receiver: Receiver) -> None:
        order.append(bytes(receiver.data).partition(b"\r\n\r\n")[2])
        echo(receiver)

    await node.agent(later)
    (tunnel,) = node.parts.cluster.tunnels()
    calls = [Receiver().open(tunnel, HTTP, GET + b"%d" % number) for number in range(200)]
    await eventually(lambda: all(call.ended for call in calls))
    assert [bytes(call.data).partition(b"\r\n\r\n")[2] for call in calls] == [b"%d" % n for n in range(200)]
    assert order != sorted(order, key=int) and len(order) == 200


@ensureDeferred
async def test_transfers_beside_each_other(node: RunningNode) -> None:
    """Megabytes both ways arrive whole, and a small call beside them is answered before they are."""
    await node.agent(echo)
    (tunnel,) = node.parts.cluster.tunnels()
    body = random.Random(2).randbytes(8_000_000)
    big = Receiver().open(tunnel, HTTP, GET, True)
    big.send(body, False)
    small = Receiver().open(tunnel, HTTP, GET + b"small")
    await eventually(lambda: small.ended)
    assert not big.ended
    await eventually(lambda: big.ended)
    assert bytes(big.data).partition(b"\r\n\r\n")[2] == body
    assert tunnel.held_bytes() == 0


@ensureDeferred
async def test_slow_consumer(node: RunningNode) -> None:
    """A consumer that takes nothing costs a window of memory, and only its own call waits."""
    agent, acceptor = await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    stuck = Receiver().open(tunnel, HTTP, GET, True)
    await eventually(lambda: acceptor.accepted)
    acceptor.accepted[0].takes = False
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = 0
    while sent < 50_000_000 and stuck.call.queued <= 128 * 1024:
        stuck.send(bytes(60_000), True)
        sent += 60_000
        await pause(0)
    assert sent < 500_000 and len(acceptor.accepted[0].data) <= 64 * 1024
    acceptor.then = echo
    other = Receiver().open(tunnel, HTTP, GET + b"x")
    await eventually(lambda: other.ended)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    acceptor.accepted[0].takes = True
    acceptor.accepted[0].take()
    await eventually(lambda: stuck.drains == 1)
    assert agent.version == 2


@ensureDeferred
async def test_reader_that_stops_reading(node: RunningNode) -> None:
    """A peer whose socket is not read makes us hold what its calls' windows allow, and it is read again."""
    agent, acceptor = await node.agent(echo)
    (tunnel,) = node.parts.cluster.tunnels()
    agent.transport.pauseProducing()
    calls = []
    for _ in range(100):
        call = Receiver().open(tunnel, HTTP, GET, True)
        call.send(bytes(200_000), False)
        calls.append(call)
    await pause(0.3)
    assert sum(call.call.queued for call in calls) > 1_000_000
    assert not acceptor.accepted or len(acceptor.accepted) <= 100
    agent.transport.resumeProducing()
    await eventually(lambda: all(call.ended for call in calls))


@ensureDeferred
async def test_round_trip(node: RunningNode) -> None:
    """The node asks at once, and knows the round trip soon."""
    await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    assert isinstance(tunnel, Tunnel)
    await eventually(lambda: tunnel.session.asked_id == 0)
    assert 0 < tunnel.rtt_s < 5


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("path", ["", "/", "/behind/a/proxy/.."])
@ensureDeferred
async def test_urls(node: RunningNode, scheme: str, path: str) -> None:
    """http and ws mean the same; a path in the URL comes before ours (and is not found on a bare node)."""
    connecting = node.agent(url=f"{scheme}://127.0.0.1:{node.upstream_port}{path}")
    if len(path) <= 1:
        tunnel, _ = await connecting
        assert tunnel.peer == f"127.0.0.1:{node.upstream_port}" and tunnel.node_id == "n1"
    else:
        with pytest.raises(HandshakeRefused) as caught:
            await connecting
        assert caught.value.status == 404


@ensureDeferred
async def test_an_ipv6_address(node: RunningNode) -> None:
    """The Host of the handshake has its brackets, or the node would refuse it."""
    port = reactor.listenTCP(0, node.parts.upstream, interface="::1")
    tunnel, _ = await node.agent(url=f"http://[::1]:{port.getHost().port}")
    assert tunnel.node_id == "n1"
    await port.stopListening()


def attempt(node: RunningNode, port: int, *, timeout_s: float = 5.0, endpoint_id: str = "my-ep") -> Any:
    """An agent's attempt to connect."""
    return connect_tunnel(
        reactor,
        node.parts.agent_parts(),
        f"http://127.0.0.1:{port}",
        endpoint_id=endpoint_id,
        agent_id="a",
        slot="0",
        acceptor=Acceptor(),
        timeout_s=timeout_s,
    )


@ensureDeferred
async def test_refused(node: RunningNode) -> None:
    """A refusal is told in the server's own words."""
    error = await outcome(attempt(node, node.upstream_port, endpoint_id="-bad-"))
    assert isinstance(error, HandshakeRefused)
    assert (error.status, error.message) == (400, "invalid endpoint id")
    error = await outcome(attempt(node, node.proxy_port))
    assert isinstance(error, HandshakeRefused) and error.status == 400
    node.parts.cluster.start_draining()
    error = await outcome(attempt(node, node.upstream_port))
    assert isinstance(error, HandshakeRefused) and (error.status, error.message) == (
        503,
        "node takes no new sessions now",
    )


@ensureDeferred
async def test_nobody_listens(node: RunningNode) -> None:
    """A closed port is told as such."""
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    number = port.getHost().port
    await port.stopListening()
    assert isinstance(await outcome(attempt(node, number)), ConnectionRefusedError)


@ensureDeferred
async def test_silent_server(node: RunningNode) -> None:
    """A server that says nothing is given up in time, and so is an attempt that is cancelled."""
    silent: list[Protocol] = []

    class Silent(Protocol):
        def connectionMade(self) -> None:
            silent.append(self)

    port = reactor.listenTCP(0, Factory.forProtocol(Silent), interface="127.0.0.1")
    number = port.getHost().port
    assert isinstance(await outcome(attempt(node, number, timeout_s=0.2)), HandshakeTimeout)
    connecting = attempt(node, number)
    await eventually(lambda: len(silent) == 2)
    connecting.cancel()
    assert isinstance(await outcome(connecting), HandshakeTimeout)
    await eventually(lambda: all(not getattr(protocol.transport, "connected", False) for protocol in silent))
    at_once = attempt(node, number)
    at_once.cancel()
    assert isinstance(await outcome(at_once), HandshakeTimeout)
    await port.stopListening()


@ensureDeferred
async def test_close_in_good_order(node: RunningNode) -> None:
    """A close reaches the other side with its code and words, and both connections are gone soon after."""
    agent, _ = await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    call = Receiver().open(tunnel, HTTP, GET)
    gone = [tunnel.gone, agent.gone]
    agent.close(1001, "so long")
    closed = await tunnel.closed
    assert (closed.code, closed.reason, closed.clean, closed.by_us) == (1001, "so long", True, False)
    await eventually(lambda: call.was_lost)
    await gatherResults(gone)
    agent, _ = await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    await node.parts.cluster.close_sessions()
    closed = await agent.closed
    assert (closed.code, closed.clean, closed.by_us) == (1001, True, False)
    assert not node.parts.cluster.registry.held("my-ep")


@ensureDeferred
async def test_last_words(node: RunningNode) -> None:
    """What was sent right before a close arrives."""
    agent, acceptor = await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    call = Receiver().open(tunnel, HTTP, GET, True)
    await eventually(lambda: acceptor.accepted)
    acceptor.accepted[0].send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(60_000), False)
    agent.close()
    await eventually(lambda: call.over)
    assert call.ended and len(call.data) == 60_019


@ensureDeferred
async def test_node_drains(node: RunningNode) -> None:
    """An agent that is told answers, goes on serving, and hears of the end."""
    agent, acceptor = await node.agent(echo)
    (tunnel,) = node.parts.cluster.tunnels()
    await node.parts.cluster.start_draining()
    assert acceptor.drains == [agent]
    call = Receiver().open(tunnel, HTTP, GET)
    await eventually(lambda: call.ended)


@ensureDeferred
async def test_agent_vanishes(node: RunningNode) -> None:
    """When the agent's connection breaks, its endpoint is gone at once and its calls hear of it."""
    agent, _ = await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    calls = [Receiver().open(tunnel, HTTP, GET) for _ in range(50)]
    agent.transport.abortConnection()
    await tunnel.closed
    assert not node.parts.cluster.registry.held("my-ep")
    await eventually(lambda: all(call.was_lost for call in calls))


@ensureDeferred
async def test_resets_cross(node: RunningNode) -> None:
    """Calls that both sides give up at the same time harm nobody."""
    agent, acceptor = await node.agent()
    (tunnel,) = node.parts.cluster.tunnels()
    calls = [Receiver().open(tunnel, HTTP, GET, True) for _ in range(100)]
    await eventually(lambda: len(acceptor.accepted) == 100)
    for number, (call, served) in enumerate(zip(calls, acceptor.accepted, strict=True)):
        if number % 3 != 1:
            call.reset_it(frames.CANCELLED)
        if number % 3 != 2:
            served.send(bytes(100), True)
            served.reset_it(frames.FAILED)
    acceptor.then = echo
    last = Receiver().open(tunnel, HTTP, GET)
    await eventually(lambda: last.ended)
    assert tunnel.call_count == agent.call_count == 0

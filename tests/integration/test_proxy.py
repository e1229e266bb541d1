"""The proxy port over real sockets: what only a kernel shows."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import Callable

import pytest
from pytest_twisted import ensureDeferred

from pico_twisted.core.rpc import frames
from tests.doubles.service import Receiver, echo
from tests.integration.harness import GET, RunningNode, eventually, pause, reactor, reset

POST = b"POST /a HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: %d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n\r\n"


def readable(sock: socket.socket) -> bool:
    """Whether something can be read."""
    return bool(select.select([sock], [], [], 0)[0])


def has(data: bytearray, count: int) -> Callable[[], bool]:
    """A condition: that many bytes are there."""
    return lambda: len(data) >= count


def length(size: int) -> bytes:
    """A response's head."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


@ensureDeferred
async def test_through(node: RunningNode) -> None:
    """A request reaches an agent and its answer comes back, on a connection that is kept."""
    await node.agent(echo)
    client = await node.client()
    for size in (0, 1, 70_000, 3_000_000):
        body = random.Random(size).randbytes(size)
        client.send(POST % size + body)
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"Content-Length: %d\r\n" % size in head
        await eventually(has(client.data, size))
        assert bytes(client.data) == body
        client.data.clear()


@ensureDeferred
async def test_pipelined(node: RunningNode) -> None:
    """Hundreds of requests in one write are answered in order."""
    await node.agent(echo)
    client = await node.client(b"".join(POST % 3 + b"%03d" % number for number in range(300)))
    for number in range(300):
        assert (await client.until(b"\r\n\r\n%03d" % number)).startswith(b"HTTP/1.1 200 OK")


@ensureDeferred
async def test_streaming(node: RunningNode) -> None:
    """Every piece goes on when it comes, in both directions."""
    _, acceptor = await node.agent()
    client = await node.client(b"POST / HTTP/1.1\r\nHost: my-ep.b.c\r\nTransfer-Encoding: chunked\r\n\r\n")
    await eventually(lambda: acceptor.accepted)
    served = acceptor.accepted[0]
    start = len(served.data)
    served.send(OK, True)
    await client.until(b"\r\n\r\n")
    for number in range(20):
        client.send(b"1\r\n%c\r\n" % (65 + number))
        await eventually(has(served.data, start + number + 1))
        served.send(b"%c" % (97 + number), True)
        await client.until(b"1\r\n%c\r\n" % (97 + number))
    client.send(b"0\r\n\r\n")
    served.send(b"", False)
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@ensureDeferred
async def test_half_close_right_behind_the_request(node: RunningNode, version: bytes) -> None:
    """A client that ends its half right behind its request gets its whole answer, also a late one."""
    _, acceptor = await node.agent()
    client = await node.client(GET.replace(b"HTTP/1.1", b"HTTP/" + version))
    client.half_close()
    await eventually(lambda: acceptor.accepted)
    await pause(0.7)
    assert client.ended is None
    acceptor.accepted[0].send(length(500_000) + bytes(500_000), False)
    data = await client.until_end()
    asked, found, rest = data.partition(b"HTTP/1.1 200 OK\r\n")
    assert found and len(rest.partition(b"\r\n\r\n")[2]) == 500_000
    assert asked == (b"HTTP/1.1 100 Continue\r\n\r\n" if version == b"1.1" else b"")


@ensureDeferred
async def test_half_close_behind_a_pipeline(node: RunningNode) -> None:
    """All requests that came before the end are answered."""
    await node.agent(echo)
    client = await node.client(GET * 20)
    client.half_close()
    assert (await client.until_end()).count(b"HTTP/1.1 200 OK\r\n") == 20


@ensureDeferred
async def test_half_close_while_the_answer_flows(node: RunningNode) -> None:
    """A client that ends its half in the middle of its answer gets all of it."""
    _, acceptor = await node.agent()
    client = await node.client(GET)
    await eventually(lambda: acceptor.accepted)
    acceptor.accepted[0].send(length(5_000_000), True)
    await client.until(b"\r\n\r\n")
    client.half_close()
    for _ in range(50):
        acceptor.accepted[0].send(bytes(100_000), True)
        await pause(0.01)
    await client.until_end()
    assert len(client.data) == 5_000_000


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["waiting", "idle stream", "flowing", "uploading"])
@ensureDeferred
async def test_client_leaves(node: RunningNode, how: str, when: str) -> None:
    """A client that goes away is noticed soon, whatever was going on, and its call is cancelled."""
    _, acceptor = await node.agent()
    sock = node.socket(POST % 100 + b"some" if when == "uploading" else GET)
    await eventually(lambda: acceptor.accepted)
    served = acceptor.accepted[0]
    if when in ("idle stream", "flowing"):
        served.send(OK + b"event", True)
        await eventually(lambda: readable(sock))
    if how == "reset":
        reset(sock)
    else:
        if readable(sock):
            sock.recv(1 << 20)  # closing with unread bytes would be a reset
        sock.close()
    if when == "flowing":
        for _ in range(20):
            served.send(bytes(1000), True)
            await pause(0.03)
    await eventually(lambda: served.reset_code is not None, 2.0)
    assert served.reset_code == frames.CANCELLED
    await eventually(lambda: not node.parts.proxy.connections and not node.parts.cluster.pending)


@ensureDeferred
async def test_early_answer_to_a_large_upload(node: RunningNode) -> None:
    """An answer that comes while the client still sends arrives, although the rest of the body is thrown away."""

    def refuse(receiver: Receiver) -> None:
        if not receiver.call.closed and not receiver.call.send_ended:
            receiver.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000), False)
            receiver.tunnel.parts.clock.callLater(0.05, receiver.reset_it, frames.STOP)

    await node.agent(refuse)
    client = await node.client(POST % 3_000_000)
    for _ in range(30):
        client.send(bytes(100_000))
        await pause(0.005)
    data = await client.until_end()
    assert data.startswith(b"HTTP/1.1 413 ") and len(data.partition(b"\r\n\r\n")[2]) == 200_000
    assert client.fin, "an end in good order, no reset"


@ensureDeferred
async def test_malformed_upload(node: RunningNode) -> None:
    """The 400 to a request that is no HTTP arrives, although the client goes on sending."""
    client = await node.client(b"NOT HTTP AT ALL\r\n\r\n" + bytes(300_000))
    client.send(bytes(300_000))
    data = await client.until_end()
    assert data.startswith(b"HTTP/1.1 400 ") and data.endswith(b"}\n")
    assert client.fin, "an end in good order, no reset"


@ensureDeferred
async def test_slow_reader(node: RunningNode) -> None:
    """A client that reads slowly slows its service down, and gets everything; others are not held up."""
    agent, acceptor = await node.agent()
    sock = node.socket(GET, receive_buffer=32_768)
    await eventually(lambda: acceptor.accepted)
    served = acceptor.accepted[0]
    size = 12_000_000
    served.send(length(size), True)
    left = size
    while left and served.call.queued <= 128 * 1024:
        served.send(bytes(min(left, 60_000)), left > 60_000)
        left = max(0, left - 60_000)
        await pause(0)
    assert left > 1_000_000, "the service was slowed down"
    acceptor.then = echo
    other = await node.client(GET)
    await other.until(b"\r\n\r\n")
    got = 0

    def read() -> bool:
        nonlocal got, left
        while True:
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                break
            assert data
            got += len(data)
        while left and served.call.queued <= 128 * 1024:
            served.send(bytes(min(left, 60_000)), left > 60_000)
            left = max(0, left - 60_000)
        return got > size

    await eventually(read)
    await eventually(lambda: agent.call_count == 0)


@ensureDeferred
async def test_slow_service(node: RunningNode) -> None:
    """A service that takes its upload slowly slows the client down, and gets everything."""
    _, acceptor = await node.agent()
    client = await node.client(POST % 5_000_000)
    await eventually(lambda: acceptor.accepted)
    served = acceptor.accepted[0]
    served.takes = False
    client.send(bytes(5_000_000))
    await pause(0.3)
    held = len(served.data)
    assert held <= 64 * 1024
    (channel,) = node.parts.proxy.connections
    assert channel.transport not in reactor.getReaders()

    def take() -> bool:
        served.take()
        return served.ended

    await eventually(take)
    assert len(served.data) > 5_000_000
    served.send(length(2) + b"ok", False)
    assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200 OK")


@ensureDeferred
async def test_upgrade(node: RunningNode) -> None:
    """Upgraded bytes go both ways, and each direction ends by itself."""
    _, acceptor = await node.agent()
    client = await node.client(
        b"GET / HTTP/1.1\r\nHost: my-ep.b.c\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nsent ahead"
    )
    await eventually(lambda: acceptor.accepted)
    served = acceptor.accepted[0]
    start = len(served.data)
    served.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nright behind", True)
    assert b"101 Switching Protocols" in await client.until(b"right behind")
    await eventually(lambda: bytes(served.data[start:]) == b"sent ahead")
    served.send(b"more", True)
    await client.until(b"more")
    client.half_close()
    await eventually(lambda: served.ended)
    served.send(b"last words", False)
    assert await client.until_end() == b"last words"


@ensureDeferred
async def test_service_dies_in_the_middle(node: RunningNode) -> None:
    """The client of a response that is cut short sees a broken transfer."""
    agent, acceptor = await node.agent()
    chunked, sized = await node.client(GET), await node.client(GET)
    old = await node.client(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    await eventually(lambda: len(acceptor.accepted) == 3)
    for served in acceptor.accepted:
        head = OK
        if served is acceptor.accepted[1]:
            head = length(1000)
        served.send(head + b"some", True)
    for client in (chunked, sized, old):
        await client.until(b"some")
    agent.transport.abortConnection()
    assert not (await chunked.until_end()).endswith(b"0\r\n\r\n")
    assert len(await sized.until_end()) < 1000
    await old.until_end()
    assert not old.fin, "an end in good order would look like a whole response"


@ensureDeferred
async def test_agent_dies_and_another_takes_over(node: RunningNode) -> None:
    """Requests in flight to an agent that dies are made again at another one, if that can do no harm."""
    first, acceptor = await node.agent(agent_id="first")
    clients = [await node.client(GET) for _ in range(20)]
    await eventually(lambda: len(acceptor.accepted) == 20)
    await node.agent(echo, agent_id="second")
    first.transport.abortConnection()
    for client in clients:
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


@ensureDeferred
async def test_expect(node: RunningNode) -> None:
    """The service decides about an Expect, and its 100 comes at once."""
    _, acceptor = await node.agent()
    client = await node.client(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 5)
    await eventually(lambda: acceptor.accepted)
    acceptor.accepted[0].send(b"HTTP/1.1 100 Continue\r\n\r\n", True)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue")
    client.send(b"hello")
    await eventually(lambda: acceptor.accepted[0].ended)
    assert acceptor.accepted[0].data.endswith(b"hello")
    acceptor.accepted[0].send(length(2) + b"ok", False)
    await client.until(b"ok")

"""Requests that cross a node link: clients at n2, agents at n1, real sockets. Each must look as it does on one node."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from tests.doubles.service import Receiver, echo
from tests.integration.cluster import SECRET, LinkedNodes
from tests.integration.harness import GET, eventually

OK = b"HTTP/1.1 200 OK\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
UPGRADE = b"GET /u HTTP/1.1\r\nHost: my-ep.example.com\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
PIECE = bytes(range(256)) * 128


def post(size: int, *fields: bytes) -> bytes:
    """The head of a POST."""
    lines = [b"POST /p HTTP/1.1", b"Host: my-ep.example.com", b"Content-Length: %d" % size, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest_twisted.async_yield_fixture(params=[(), (SECRET,)], ids=["open", "secret"])
async def pair(request: Any) -> AsyncIterator[LinkedNodes]:
    """Two nodes, with and without a secret."""
    nodes = LinkedNodes(secrets=request.param)
    yield nodes
    await nodes.close()


@pytest_twisted.ensureDeferred
async def test_one_connection(pair: LinkedNodes) -> None:
    """Requests and their answers cross the link, again and again over one connection."""
    await pair.holder.agent(echo)
    client = await pair.entry.client(GET)
    for _ in range(5):
        assert b" 200 OK" in await client.until(b"\r\n\r\n")
        client.send(GET)
    await client.until(b"\r\n\r\n")
    assert len(pair.links["n1"].port.tunnels) == 1
    assert len(pair.links["n2"].open_links()) == 1


@pytest_twisted.ensureDeferred
async def test_nobody_can_tell(pair: LinkedNodes) -> None:
    """The agent's request and the client's response are the same over a link as on the agent's node itself: the same
    fields once each, but for the IDs of nodes and of the request."""

    def answer(receiver: Receiver) -> None:
        head = b"HTTP/1.1 201 Done\r\nX-Thing: 1\r\nx-pico-error: agent-1; thing\r\nx-pico-other: 2\r\n"
        receiver.send(head + b"Set-Cookie: a\r\nSet-Cookie: b\r\nVia: 1.1 pico-agent-1\r\n\r\nthe body", False)

    _, acceptor = await pair.holder.agent(answer)
    request = b"GET /a?b=%20c HTTP/1.1\r\nHost: my-ep.example.com\r\nX-One: 1\r\nTE: gzip\r\nVia: 1.0 x\r\n"
    request += b"x-pico-thing: no\r\nX-Forwarded-For: 9.9.9.9\r\nCookie: c\r\n\r\n"
    seen = []
    for node in (pair.holder, pair.entry):
        client = await node.client(request)
        seen.append(sorted((await client.until(b"the body")).splitlines()))
    heads = []
    for receiver in acceptor.accepted:
        heads.append(sorted(bytes(receiver.data).splitlines()))
        assert b"via: 1.0 x" in bytes(receiver.data).lower()
        assert b"x-pico" not in bytes(receiver.data)
    for one, two in (seen, heads):
        assert [_without_ids(line) for line in one] == [_without_ids(line) for line in two]
    assert not [line for line in seen[1] if b"via" in line.lower()], "an older agent's name is kept from clients"
    assert not [line for line in seen[1] if b"x-pico" in line]


def _without_ids(line: bytes) -> bytes:
    return re.sub(rb"pico-n[12]|(?<=x-request-id: ).*", b"*", line)


@pytest_twisted.ensureDeferred
async def test_streamed_upload(pair: LinkedNodes) -> None:
    """A body of known and of unknown length crosses piece by piece; the last piece is not waited for."""
    _, acceptor = await pair.holder.agent(echo)
    client = await pair.entry.client(post(10) + b"12345")
    await eventually(lambda: acceptor.accepted and acceptor.accepted[0].data.endswith(b"\r\n\r\n12345"))
    client.send(b"67890")
    assert (await client.until(b"1234567890")).startswith(b"HTTP/1.1 200 OK")
    client.send(b"POST /p HTTP/1.1\r\nHost: my-ep.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await eventually(lambda: len(acceptor.accepted) == 2 and acceptor.accepted[1].data.endswith(b"abc"))
    assert b"transfer-encoding" not in bytes(acceptor.accepted[1].data).lower()
    client.send(b"2\r\nde\r\n0\r\n\r\n")
    await client.until(b"abcde")


@pytest_twisted.ensureDeferred
async def test_streamed_download(pair: LinkedNodes) -> None:
    """A response of unknown length arrives piece by piece, in chunks, and ends as one that is whole."""
    _, acceptor = await pair.holder.agent()
    client = await pair.entry.client(GET)
    await eventually(lambda: acceptor.accepted)
    (receiver,) = acceptor.accepted
    receiver.send(OK, True)
    assert b"Transfer-Encoding: chunked\r\n" in await client.until(b"\r\n\r\n")
    for piece in (b"one", b"two"):
        receiver.send(piece, True)
        assert await client.until(piece + b"\r\n") == b"3\r\n" + piece + b"\r\n"
    receiver.send(b"", False)
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_response_of_known_length(pair: LinkedNodes) -> None:
    """A response whose agent gave its length has that length, and no chunks; HEAD has the length and no body."""
    size = len(PIECE)

    def answer(receiver: Receiver) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        receiver.send(head if receiver.data.startswith(b"HEAD") else head + PIECE, False)

    await pair.holder.agent(answer)
    client = await pair.entry.client(GET)
    head = await client.until(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % size in head and b"Transfer-Encoding" not in head
    await client.until(PIECE)
    client.send(GET.replace(b"GET", b"HEAD") + GET)
    assert b"Content-Length: %d\r\n" % size in await client.until(b"\r\n\r\n")
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    await client.until(PIECE)


@pytest_twisted.ensureDeferred
async def test_large_download_to_a_slow_reader(pair: LinkedNodes) -> None:
    """Of 100 MB to a client that does not read, both nodes hold little; it comes whole once the client reads."""
    total = 100_000_000
    left = total

    def give(receiver: Receiver) -> None:
        nonlocal left
        if receiver.call.closed:
            return
        if b"/small" in receiver.data:
            receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False)
            return
        if left == total:
            receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total, True)
        while left and receiver.call.queued <= SEND_HIGH_BYTES:
            piece = PIECE[: min(left, len(PIECE))]
            left -= len(piece)
            receiver.send(piece, left > 0)

    await pair.holder.agent(give)
    sock = pair.entry.socket(GET, receive_buffer=64 * 1024)
    before = total + 1
    while before != left:  # until nothing moves any more
        before = left
        await eventually_or(lambda before=before: left != before, 0.5)
    assert left > total - 20_000_000, "somebody takes it all"
    # A window grows with the time that credit takes to come, which is long on a busy machine.
    assert pair.held_bytes() < total / 20
    client = await pair.entry.client(GET.replace(b"/a", b"/small"))  # an own call is not held up
    await client.until(b"\r\n\r\n")
    got = 0
    most = 0

    def read() -> bool:
        nonlocal got, most
        most = max(most, pair.held_bytes())
        try:
            while data := sock.recv(1 << 20):
                got += len(data)
        except BlockingIOError:
            pass
        return got >= total

    left_before = left
    await eventually(read, 60.0)
    assert left_before > left == 0
    assert most < 8_000_000


async def eventually_or(condition: Any, within_s: float) -> None:
    """Wait for a condition, but not for ever."""
    try:
        await eventually(condition, within_s)
    except TimeoutError:
        pass


@pytest_twisted.ensureDeferred
async def test_large_upload_to_a_slow_service(pair: LinkedNodes) -> None:
    """Of a large upload to a service that does not read, both nodes hold little; it arrives whole when it reads."""
    total = 20_000_000
    slow: list[Receiver] = []

    def take_nothing(receiver: Receiver) -> None:
        receiver.takes = False
        if not slow:
            slow.append(receiver)
        if receiver.ended:
            receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False)

    await pair.holder.agent(take_nothing)
    sock = pair.entry.socket(post(total))
    sent = 0

    def write() -> int:
        nonlocal sent
        try:
            while sent < total:
                sent += sock.send(PIECE[sent % len(PIECE) :][: total - sent])
        except BlockingIOError:
            pass
        return sent

    before = -1
    while before != sent:
        before = sent
        await eventually_or(lambda before=before: write() != before, 0.5)
    assert sent < total
    assert pair.held_bytes() < 2_000_000

    def move() -> bool:
        write()
        slow[0].take()
        return slow[0].ended

    await eventually(move, 60.0)
    _head, _, body = bytes(slow[0].data).partition(b"\r\n\r\n")
    assert len(body) == total and body == (PIECE * (total // len(PIECE) + 1))[:total]


@pytest_twisted.ensureDeferred
async def test_upgrade(pair: LinkedNodes) -> None:
    """After a 101 bytes cross both ways at once, those right behind its head too; either end may half-close first."""
    _, acceptor = await pair.holder.agent()
    client = await pair.entry.client(UPGRADE)
    await eventually(lambda: acceptor.accepted)
    (receiver,) = acceptor.accepted
    assert b"Connection: Upgrade\r\nUpgrade: x\r\n" in receiver.data and not receiver.ended
    receiver.send(SWITCH + b"hello", True)
    assert (await client.until(b"hello")).startswith(b"HTTP/1.1 101 ")
    client.send(b"ping")
    await eventually(lambda: receiver.data.endswith(b"\r\n\r\nping"))
    receiver.send(b"pong", True)
    await client.until(b"pong")
    client.half_close()
    await eventually(lambda: receiver.ended)
    receiver.send(b"bye", True)
    await client.until(b"bye")
    receiver.send(b"", False)
    await client.until_end()
    await eventually(lambda: receiver.call.closed)


@pytest_twisted.ensureDeferred
async def test_upgrade_closed_by_the_service(pair: LinkedNodes) -> None:
    """A service that ends its half of an upgraded protocol is told to the client, which may go on sending."""
    _, acceptor = await pair.holder.agent()
    sock = pair.entry.socket(UPGRADE)
    await eventually(lambda: acceptor.accepted)
    (receiver,) = acceptor.accepted
    receiver.send(SWITCH, True)
    receiver.send(b"", False)
    got = bytearray()

    def read() -> bool:
        try:
            while data := sock.recv(4096):
                got.extend(data)
            return True
        except BlockingIOError:
            return False

    await eventually(read)
    assert got.startswith(b"HTTP/1.1 101 ")
    sock.sendall(b"still here")
    await eventually(lambda: receiver.data.endswith(b"still here"))


@pytest_twisted.ensureDeferred
async def test_declined_upgrade(pair: LinkedNodes) -> None:
    """A service that answers an upgrade with a plain response is heard, and the client's connection goes on."""

    def decline(receiver: Receiver) -> None:
        if len(receiver.frames) == 1:
            receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", False)

    _, acceptor = await pair.holder.agent(decline)
    client = await pair.entry.client(UPGRADE)
    assert (await client.until(b"no")).startswith(b"HTTP/1.1 200 OK")
    client.send(GET)
    await client.until(b"\r\n\r\nno")
    await eventually(lambda: acceptor.accepted[0].ended and acceptor.accepted[0].call.closed)
    assert acceptor.accepted[0].reset_code is None


@pytest_twisted.ensureDeferred
async def test_client_that_leaves(pair: LinkedNodes) -> None:
    """When the client leaves, the agent's call is cancelled and the link is ready for the next one."""
    _, acceptor = await pair.holder.agent()
    client = await pair.entry.client(GET)
    await eventually(lambda: acceptor.accepted)
    client.transport.abortConnection()
    await eventually(lambda: acceptor.accepted[0].reset_code == "cancelled")
    await eventually(lambda: not pair.links["n1"].port.held_bytes() and not pair.links["n2"].held_bytes())
    (tunnel,) = pair.links["n1"].port.tunnels
    await eventually(lambda: tunnel.call_count == 0)


@pytest_twisted.ensureDeferred
async def test_agent_that_answers_too_late() -> None:
    """The node that has the client gives up: the agent is told `timeout`, as by its own node."""
    nodes = LinkedNodes(timeout=0.1)
    try:
        _, acceptor = await nodes.holder.agent()
        client = await nodes.entry.client(GET)
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 504 ")
        await eventually(lambda: acceptor.accepted[0].reset_code == "timeout")
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_agent_that_breaks_its_promise(pair: LinkedNodes) -> None:
    """A body that is longer than its Content-Length: only the node that has the client sees it, and the agent hears of
    it."""

    def answer(receiver: Receiver) -> None:
        receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", True)
        receiver.send(b"too much", True)

    _, acceptor = await pair.holder.agent(answer)
    client = await pair.entry.client(GET)
    await client.until_end()
    assert b"too much" not in client.data
    await eventually(lambda: acceptor.accepted[0].reset_code == "protocol")


@pytest_twisted.ensureDeferred
async def test_interim_responses(pair: LinkedNodes) -> None:
    """A service's 100 comes back to a client that waits for it with its body, and so does a 103."""
    _, acceptor = await pair.holder.agent()
    client = await pair.entry.client(post(4, b"Expect: 100-continue"))
    await eventually(lambda: acceptor.accepted)
    (receiver,) = acceptor.accepted
    assert b"Expect: 100-continue" in receiver.data
    receiver.send(b"HTTP/1.1 100 Continue\r\n\r\n", True)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue\r\n")
    client.send(b"body")
    await eventually(lambda: receiver.ended)
    receiver.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", True)
    assert b"Link: </a>\r\n" in await client.until(b"\r\n\r\n")
    receiver.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest_twisted.ensureDeferred
async def test_response_before_the_request_has_ended(pair: LinkedNodes) -> None:
    """A service that answers early and wants no more stops the upload: the client gets the whole answer, and its
    connection is closed behind it."""

    def answer(receiver: Receiver) -> None:
        if len(receiver.frames) == 1:
            receiver.send(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nstop", False)

    tunnel, acceptor = await pair.holder.agent(answer)
    client = await pair.entry.client(post(1000) + b"12345")
    await client.until(b"stop")
    receiver = acceptor.accepted[0]
    assert not receiver.ended
    await eventually(lambda: receiver.call.send_closed)
    tunnel.reset(receiver.call, "stop")
    await client.until_end()
    (inbound,) = pair.links["n1"].port.tunnels
    await eventually(lambda: inbound.call_count == 0)


@pytest_twisted.ensureDeferred
async def test_response_that_is_cut(pair: LinkedNodes) -> None:
    """A response that its agent cannot complete is cut towards the client: never ended as if it were whole."""
    _, acceptor = await pair.holder.agent()
    client = await pair.entry.client(GET)
    await eventually(lambda: acceptor.accepted)
    (receiver,) = acceptor.accepted
    receiver.send(OK + b"half", True)
    await client.until(b"half\r\n")
    receiver.reset_it("failed", "the service broke it")
    assert await client.until_end() == b""


@pytest_twisted.ensureDeferred
async def test_errors_of_agents(pair: LinkedNodes) -> None:
    """An agent's own error passes with its code; a call that it resets is a 502 or a 504, as on one node."""
    answers = {
        b"/error": lambda receiver: receiver.send(
            b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: agent-1; service-failed\r\nContent-Length: 2\r\n\r\n{}", False
        ),
        b"/failed": lambda receiver: receiver.reset_it("failed"),
        b"/timeout": lambda receiver: receiver.reset_it("timeout"),
        b"/garbage": lambda receiver: receiver.send(b"garbage", False),
    }

    def answer(receiver: Receiver) -> None:
        answers[bytes(receiver.data).split()[1]](receiver)

    await pair.holder.agent(answer)
    for path, expected in (
        (b"/error", (b"502", b"x-pico-error: n2; service-failed")),
        (b"/failed", (b"502", b"x-pico-error: n2; upstream-unreachable")),
        (b"/timeout", (b"504", b"x-pico-error: n2; upstream-timeout")),
        (b"/garbage", (b"502", b"x-pico-error: n2; upstream-unreachable")),
    ):
        for method in (b"GET", b"POST"):
            request = method + b" " + path + b" HTTP/1.1\r\nHost: my-ep.example.com\r\n\r\n"
            client = await pair.entry.client(request)
            head = await client.until(b"\r\n\r\n")
            assert head.split()[1] == expected[0] and expected[1] in head, (path, head)


@pytest_twisted.ensureDeferred
async def test_small_calls_beside_big_ones(pair: LinkedNodes) -> None:
    """Twenty transfers at once over one link, in both directions, end whole and unmixed."""
    await pair.holder.agent(echo)
    bodies = [bytes([number]) * (100_000 + 7919 * number) for number in range(20)]
    clients = [await pair.entry.client(post(len(body)) + body) for body in bodies]
    for client, body in zip(clients, bodies, strict=True):
        await client.until(b"\r\n\r\n")
        await eventually(lambda client=client, body=body: len(client.data) == len(body))  # type: ignore[misc]
        assert client.data == body
    assert len(pair.links["n2"].open_links()) == 1

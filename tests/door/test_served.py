"""What a factory of a program serves through an endpoint: all of HTTP/1.1, and who the client is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import pytest
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from pico_twisted import Tunnel
from tests.conftest import LoggedFailures
from tests.integration.harness import Client, RunningNode, eventually
from tests.net.in_reactor import in_reactor, reactor
from tests.peers import websocket

HEAD = b" HTTP/1.1\r\nHost: web.example.com\r\n"
MIB = 1 << 20


class Root(Resource):
    """A program of twisted.web."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.left: list[Failure] = []
        self.writer: Writer | None = None

    def render(self, request: Any) -> Any:  # of Twisted's, as it gives it no types
        path = request.path
        if path == b"/who":
            client, host = request.getClientAddress(), request.getHost()
            words = (client.host, host.host, host.port, request.isSecure(), request.URLPath())
            return " ".join(map(str, words)).encode()
        if path == b"/echo":
            return b"%b %d %b" % (request.method, len(request.content.read()), request.getHeader(b"x-y") or b"-")
        request.notifyFinish().addErrback(self.left.append)
        if path == b"/endless":
            self.writer = Writer(request)
            request.registerProducer(self.writer, True)
        else:
            request.write(b"first")  # in chunks, and there is no end
        return NOT_DONE_YET


@implementer(IPushProducer)
class Writer:
    """Writes as much as it may."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.written = 0
        self.paused = 0
        self._running = False
        reactor.callLater(0, self.resumeProducing)

    def resumeProducing(self) -> None:
        self._running = True
        self._write()

    def _write(self) -> None:
        if self._running:
            self.written += 50_000
            self.request.write(b"w" * 50_000)
            reactor.callLater(0, self._write)

    def pauseProducing(self) -> None:
        self.paused += 1
        self._running = False

    def stopProducing(self) -> None:
        self._running = False


class Served:
    """An endpoint of a node, served by a factory of this process."""

    def __init__(self, node: RunningNode, factory: Any) -> None:
        self.node = node
        self.tunnel = Tunnel("web", factory, url=f"http://127.0.0.1:{node.upstream_port}", reactor=reactor)

    async def ask(self, path: bytes, fields: bytes = b"", body: bytes = b"", method: bytes = b"GET") -> bytes:
        """The whole answer to a request of a client that then closes."""
        client = await self.send(path, fields + b"Connection: close\r\n", body, method)
        return await client.until_end()

    async def send(self, path: bytes, fields: bytes = b"", body: bytes = b"", method: bytes = b"GET") -> Client:
        """A client that has sent a request."""
        return await self.node.client(method + b" " + path + HEAD + fields + b"\r\n" + body)

    async def __aenter__(self) -> Self:
        await self.tunnel.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.node.clients:
            client.transport.abortConnection()
        await self.tunnel.stop()


def serve(node: RunningNode, factory: Any = None) -> Served:
    """An endpoint that a factory serves, or a program of twisted.web."""
    return Served(node, factory or Site(Root()))


@in_reactor
async def test_a_program_knows_its_client(node: RunningNode) -> None:
    """Its address, the host and port that it asked for; a connection is not shared with another client."""
    async with serve(node) as served:
        assert (await served.ask(b"/who")).endswith(b"127.0.0.1 web 80 False http://web.example.com/")


@in_reactor
async def test_a_client_behind_a_trusted_proxy_is_known(node: RunningNode) -> None:
    """The node's account of the client counts: one of TLS makes the request secure, and its links https."""
    trusting = RunningNode(trusted_proxies=node_networks())
    try:
        async with serve(trusting) as served:
            told = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
            assert (await served.ask(b"/who", told)).endswith(b"192.0.2.7 web 443 True https://web.example.com/")
            six = b"X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Proto: https\r\n"
            assert b"2001:db8::7 web 8443 True" in await served.ask(b"/who", six)
            hidden = b"X-Forwarded-For: unknown\r\n"
            assert b"unknown web 80 False" in await served.ask(b"/who", hidden)
    finally:
        await trusting.close()


def node_networks() -> Any:
    """This machine, as a configuration has it."""
    from pico_twisted.config.values import read_network

    return (read_network("127.0.0.1"),)


@in_reactor
async def test_bodies_of_all_framings(node: RunningNode) -> None:
    """Of a length, in chunks, none, and behind a 100; methods and fields as they were sent."""
    async with serve(node) as served:
        big = b"b" * (3 * MIB)
        fields = b"Content-Length: %d\r\nX-Y: z\r\n" % len(big)
        assert (await served.ask(b"/echo", fields, big, b"POST")).endswith(b"POST %d z" % len(big))
        chunks = b"".join(b"%x\r\n%b\r\n" % (size, b"c" * size) for size in (1, 70_000, 300_000)) + b"0\r\n\r\n"
        told = await served.ask(b"/echo", b"Transfer-Encoding: chunked\r\n", chunks, b"PUT")
        assert told.endswith(b"PUT 370001 -")
        head = await served.ask(b"/echo", method=b"HEAD")
        assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")
        waiting = await served.send(b"/echo", b"Expect: 100-continue\r\nContent-Length: 3\r\n", method=b"POST")
        await waiting.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        waiting.send(b"abc")
        await waiting.until(b"POST 3 -")
        waiting.send(b"GET /echo" + HEAD + b"\r\n")  # the client's connection goes on
        await waiting.until(b"GET 0 -")


@in_reactor
async def test_a_slow_client_slows_the_program_down(node: RunningNode) -> None:
    """A producer is paused when the windows on the way are full, and goes on when the client reads."""
    root = Root()
    async with serve(node, Site(root)) as served:
        client = await served.send(b"/endless")
        client.transport.pauseProducing()
        await eventually(lambda: root.writer is not None and root.writer.paused)
        writer = root.writer
        assert writer is not None
        await eventually(lambda: not writer._running)
        assert writer.written < 64 * MIB
        before = writer.written
        client.transport.resumeProducing()
        await eventually(lambda: writer.written > before + MIB)
        client.transport.abortConnection()
        await eventually(lambda: root.left)
        assert writer._running is False


@in_reactor
async def test_a_program_hears_of_a_client_that_leaves(node: RunningNode) -> None:
    """`notifyFinish` fails, as with a connection of TCP that was cut."""
    root = Root()
    async with serve(node, Site(root)) as served:
        client = await served.send(b"/first")
        await client.until(b"first")
        client.transport.abortConnection()
        await eventually(lambda: root.left)


@in_reactor
async def test_a_stop_lets_a_request_finish(node: RunningNode) -> None:
    """The endpoint is gone at once for new ones; the factory is told of the end of its port behind the last one."""

    class Slow(Resource):
        isLeaf = True
        waiting: Any = None

        def render_GET(self, request: Any) -> Any:  # likewise
            self.waiting = request
            return NOT_DONE_YET

    slow = Slow()
    told: list[str] = []

    class ToldSite(Site):
        def startFactory(self) -> None:
            told.append("start")

        def stopFactory(self) -> None:
            told.append("stop")

    served = serve(node, ToldSite(slow))
    await served.tunnel.start()
    client = await served.send(b"/")
    await eventually(lambda: slow.waiting is not None)
    stopping = served.tunnel.stop()
    assert not stopping.called and told == ["start"]
    slow.waiting.write(b"done")
    slow.waiting.finish()
    await client.until(b"done")
    await stopping
    await served.tunnel.stop()
    assert told == ["start", "stop"]
    assert b"no-upstreams" in await served.ask(b"/")


class Upper(WebSocketServerProtocol):
    """A WebSocket server of Autobahn."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload.upper(), isBinary)


def bare(*, within_web: bool) -> Any:
    """A factory of WebSockets: Autobahn's own, or a resource of twisted.web that gives its connection away."""
    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Upper
    if not within_web:
        return factory
    root = Resource()
    root.putChild(b"chat", WebSocketResource(factory))
    return Site(root)


@pytest.mark.parametrize("within_web", [False, True])
@in_reactor
async def test_a_websocket_of_autobahn(node: RunningNode, within_web: bool) -> None:
    """Messages of all sizes go both ways, and the close is told."""
    async with serve(node, bare(within_web=within_web)) as served:
        client = await served.send(
            b"/chat",
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
        await client.until(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        await client.until(b"\r\n\r\n")
        for size in (2, 300_000):
            client.send(frame(b"a" * size))
            await client.until(b"A" * size)
            client.data.clear()
        client.send(frame(b"\x03\xe8", websocket.CLOSE))
        assert (await client.until_end()).startswith(b"\x88\x02\x03\xe8")


def frame(payload: bytes, opcode: int = websocket.BINARY) -> bytes:
    """A frame of a client, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes((0x80 | opcode,)) + length + bytes(4) + payload


@implementer(IHalfCloseableProtocol)
class Counts(Protocol):
    """Changes the protocol, and says how much came once the peer's half ends."""

    def __init__(self) -> None:
        self.count = -1

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.count < 0:
            assert b"\r\n\r\n" in data
            data = data.partition(b"\r\n\r\n")[2]
            self.count = 0
            self.transport.write(b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: count\r\n\r\n")
        self.count += len(data)

    def readConnectionLost(self) -> None:
        assert self.transport is not None
        self.transport.write(b"%d bytes" % self.count)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        pass


@in_reactor
async def test_another_protocol_and_its_half_close(node: RunningNode) -> None:
    """Behind a 101 the bytes are the program's, both ways, and either side may end first."""
    async with serve(node, Factory.forProtocol(Counts)) as served:
        client = await served.send(b"/", b"Connection: Upgrade\r\nUpgrade: count\r\n")
        await client.until(b"Upgrade: count")
        client.send(b"n" * MIB)
        client.half_close()
        assert (await client.until_end()).endswith(b"%d bytes" % MIB)


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        (lambda data: b"garbage\r\n\r\n", b"502"),
        (lambda data: b"", b"502"),
    ],
)
@in_reactor
async def test_a_program_that_breaks_http(node: RunningNode, broken: Callable[[bytes], bytes], status: bytes) -> None:
    """The client is told so, as with any service."""

    class Broken(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(broken(data))
            self.transport.loseConnection()

    async with serve(node, Factory.forProtocol(Broken)) as served:
        assert (await served.ask(b"/", method=b"POST")).startswith(b"HTTP/1.1 " + status)


@in_reactor
async def test_a_factory_that_takes_no_connection(node: RunningNode) -> None:
    """`buildProtocol` may return None: 502, and nothing of the request was sent."""

    class Full(Factory[Protocol]):
        def buildProtocol(self, addr: object) -> None:
            return None

    async with serve(node, Full()) as served:
        answer = await served.ask(b"/")
        assert answer.startswith(b"HTTP/1.1 502") and b"service-unreachable" in answer


@pytest.mark.parametrize("where", ["buildProtocol", "connectionMade", "dataReceived"])
@in_reactor
async def test_a_program_that_fails(node: RunningNode, where: str, logged_failures: LoggedFailures) -> None:
    """The client gets a 502, and the log the program's traceback, once; the next call is served as ever."""
    fails = [True]

    class Failing(Protocol):
        def connectionMade(self) -> None:
            if where == "connectionMade" and fails:
                fails.pop()
                raise ZeroDivisionError

        def dataReceived(self, data: bytes) -> None:
            if where == "dataReceived" and fails:
                fails.pop()
                raise ZeroDivisionError
            assert self.transport is not None
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    class Building(Factory[Protocol]):
        def buildProtocol(self, addr: object) -> Protocol:
            if where == "buildProtocol" and fails:
                fails.pop()
                raise ZeroDivisionError
            return Failing()

    async with serve(node, Building()) as served:
        assert (await served.ask(b"/")).startswith(b"HTTP/1.1 502")
        assert len(logged_failures.flush(ZeroDivisionError)) == 1
        assert (await served.ask(b"/")).endswith(b"hello")

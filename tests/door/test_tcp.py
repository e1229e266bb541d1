"""TCP through endpoint strings: a program serves it without a port, and another one connects to it."""

from __future__ import annotations

from typing import Any, Self

import pytest
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.integration.harness import RunningNode, eventually, outcome, pause
from tests.net.in_reactor import in_reactor, reactor

MIB = 1 << 20


@implementer(IHalfCloseableProtocol, IPushProducer)
class Peer(Protocol):
    """Keeps what it is told; echoes, if it is to.

    Attributes:
        echoes: whether it is to, and to end when the other side ends.
    """

    transport: Any  # Twisted's types do not have all that a transport of TCP has
    echoes = False

    def __init__(self) -> None:
        self.data = bytearray()
        self.peer: Any = None
        self.told: list[str] = []
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.peer = self.transport.getPeer()

    def dataReceived(self, data: bytes) -> None:
        if self.echoes:
            self.transport.write(data)
        self.data += data

    def readConnectionLost(self) -> None:
        self.told.append("read")
        if self.echoes:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.told.append("write")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        pass


class Echo(Peer):
    """Echoes."""

    echoes = True


class Peers(Factory[Peer]):
    """Keeps the protocols that it made."""

    noisy = False

    def __init__(self, protocol: type[Peer]) -> None:
        self.kind = protocol
        self.made: list[Peer] = []

    def buildProtocol(self, addr: object) -> Peer:
        self.made.append(self.kind())
        return self.made[-1]


class Way:
    """A TCP endpoint that a factory serves, and a way to it.

    Args:
        node: between them.
        protocol: of the served connections.
    """

    def __init__(self, node: RunningNode, protocol: type[Peer] = Echo) -> None:
        self.served = Peers(protocol)
        server = rf"pico:raw:url=http\://127.0.0.1\:{node.upstream_port}:protocol=tcp"
        self._listening = serverFromString(reactor, server).listen(self.served)
        self.client: Any = clientFromString(reactor, rf"pico:raw:url=http\://127.0.0.1\:{node.proxy_port}")

    async def __aenter__(self) -> Self:
        self.port: Any = await self._listening
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()

    async def connect(self) -> tuple[Peer, Peer]:
        """A connected client, and what serves it."""
        before = len(self.served.made)
        client = await connectProtocol(self.client, Peer())
        await eventually(lambda: len(self.served.made) > before)
        return client, self.served.made[-1]


@in_reactor
async def test_bytes_both_ways_and_each_end_by_itself(node: RunningNode) -> None:
    """Megabytes come back as they were sent; the client's half ends first, and the rest still arrives."""
    async with Way(node) as way:
        client, server = await way.connect()
        assert (client.peer.host, server.peer.host) == ("raw", "127.0.0.1")
        assert way.port.url in ("", f"ws://raw.localhost:{node.proxy_port}/_pico/v1/tcp/raw")
        client.transport.write(b"r" * (3 * MIB))
        client.transport.loseWriteConnection()
        await eventually(lambda: client.lost is not None or "read" in client.told)
        assert bytes(client.data) == b"r" * (3 * MIB)
        client.transport.loseConnection()
        await eventually(lambda: client.lost is not None)
        assert client.lost is not None and client.lost.check(ConnectionDone)
        assert server.told[0] == "read" and server.lost is not None


@in_reactor
async def test_a_slow_reader_pauses_the_writer(node: RunningNode) -> None:
    """Across the tunnel, with bounded buffers on the way."""
    async with Way(node, Peer) as way:
        client, server = await way.connect()
        client.transport.registerProducer(client, True)
        server.transport.pauseProducing()
        sent, quiet = 0, 0
        while quiet < 20:  # turns in which the client stays paused
            if client.told[-1:] == ["pause"]:
                await pause(0.01)
                quiet += 1
            else:
                client.transport.write(b"s" * 70_000)
                sent, quiet = sent + 70_000, 0
            assert sent < 64 * MIB
        server.transport.resumeProducing()
        await eventually(lambda: len(server.data) == sent)
        await eventually(lambda: client.told[-1] == "resume")
        client.transport.unregisterProducer()
        client.transport.loseConnection()
        await eventually(lambda: "read" in server.told)
        server.transport.loseConnection()
        await eventually(lambda: client.lost is not None and server.lost is not None)


@in_reactor
async def test_a_cut_looks_cut(node: RunningNode) -> None:
    """In either direction: an abort of one end is a loss at the other, not an end."""
    async with Way(node, Peer) as way:
        client, server = await way.connect()
        server.transport.abortConnection()
        await eventually(lambda: client.lost is not None)
        assert client.lost is not None and client.lost.check(ConnectionLost)
        client, server = await way.connect()
        client.transport.abortConnection()
        await eventually(lambda: server.lost is not None)
        assert server.lost is not None and server.lost.check(ConnectionLost)


@in_reactor
async def test_the_server_may_speak_first_and_close(node: RunningNode) -> None:
    """As servers of SSH and SMTP do."""

    class Greets(Peer):
        def connectionMade(self) -> None:
            self.transport.write(b"220 hello\r\n")
            self.transport.loseConnection()

    async with Way(node, Greets) as way:
        client, _ = await way.connect()
        await eventually(lambda: "read" in client.told)
        assert bytes(client.data) == b"220 hello\r\n"
        client.transport.loseConnection()
        await eventually(lambda: client.lost is not None)


@in_reactor
async def test_what_stands_in_the_way_is_told(node: RunningNode) -> None:
    """An endpoint of another protocol; a port that is not the proxy port; a wait that is given up."""
    http = serverFromString(reactor, rf"pico:web:url=http\://127.0.0.1\:{node.upstream_port}")
    port: Any = await http.listen(Factory.forProtocol(Peer))
    client = clientFromString(reactor, rf"pico:web:url=http\://127.0.0.1\:{node.proxy_port}")
    failed = await outcome(connectProtocol(client, Peer()))
    assert isinstance(failed, ConnectError)
    assert str(failed).startswith("endpoint web cannot be reached: ") and "not-tcp" in str(failed)
    await port.stopListening()
    wrong = clientFromString(reactor, rf"pico:web:url=http\://127.0.0.1\:{node.upstream_port}")
    failed = await outcome(connectProtocol(wrong, Peer()))
    assert isinstance(failed, ConnectError) and "upstream port" in str(failed)
    waiting = connectProtocol(client, Peer())
    waiting.cancel()
    assert isinstance(await outcome(waiting), Exception)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pico:", "expected one endpoint ID"),
        ("pico:db:protocol=tcp", "does not know protocol; it takes url, token, token_file, ca"),
        (r"pico:db:url=gopher\://a", r"url\[0\]: found .*gopher"),
    ],
)
def test_a_client_string_that_is_wrong(text: str, words: str) -> None:
    """In the words of server strings."""
    with pytest.raises(ValueError, match=words):
        clientFromString(Clock(), text)


def test_a_client_string_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pico:db` is enough for a node on this machine, or where the environment names the proxy ports."""
    monkeypatch.delenv("PICO_PROXY_URL", raising=False)
    monkeypatch.setenv("PICO_URL", "http://upstream:8002")
    short: Any = clientFromString(Clock(), "pico:db")
    assert short.config.url == ("http://localhost:8000",)
    monkeypatch.setenv("PICO_PROXY_URL", "https://pico.example.com")
    named: Any = clientFromString(Clock(), "pico:db:token=t")
    assert (named.config.url, named.config.token) == (("https://pico.example.com:443",), "t")


@pytest.mark.parametrize("where", ["buildProtocol", "connectionMade"])
@in_reactor
async def test_a_client_that_fails(node: RunningNode, where: str) -> None:
    """Whoever connects is told with the program's own error, and the service that the connection is over."""

    class Failing(Protocol):
        def connectionMade(self) -> None:
            if where == "connectionMade":
                raise ZeroDivisionError

    class Building(Factory[Protocol]):
        noisy = False

        def buildProtocol(self, addr: object) -> Protocol:
            if where == "buildProtocol":
                raise ZeroDivisionError
            return Failing()

    async with Way(node) as way:
        assert isinstance(await outcome(way.client.connect(Building())), ZeroDivisionError)
        await eventually(lambda: bool(way.served.made) and way.served.made[0].lost is not None)


@in_reactor
async def test_a_client_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's own proxy is asked, where the environment names one, as it is for an agent."""
    asked = Peers(Peer)
    port = reactor.listenTCP(0, asked, interface="127.0.0.1")
    monkeypatch.setenv("all_proxy", f"http://ann:s3cret@127.0.0.1:{port.getHost().port}")
    connecting = clientFromString(reactor, r"pico:raw:url=http\://node.example\:8000").connect(
        Factory.forProtocol(Peer)
    )
    await eventually(lambda: bool(asked.made) and bytes(asked.made[0].data).endswith(b"\r\n\r\n"))
    assert bytes(asked.made[0].data).startswith(b"CONNECT node.example:8000 HTTP/1.1\r\n")
    connecting.cancel()
    await outcome(connecting)
    await eventually(lambda: asked.made[0].lost is not None)
    await port.stopListening()

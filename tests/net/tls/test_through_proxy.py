"""Connections through a proxy that is asked with CONNECT, on real sockets: a proxy of the test, good and bad."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from pico_twisted.config import ClientTlsConfig
from pico_twisted.core.forward_proxy import ForwardProxy
from pico_twisted.net.agent.dial_failures import explain_failure
from pico_twisted.net.socket.dialling import tcp_endpoint
from pico_twisted.net.tls import through_proxy as module_of_proxies
from pico_twisted.net.tls.client import client_tls
from pico_twisted.net.tls.through_proxy import MAX_ANSWER_BYTES, ThroughProxy
from pico_twisted.net.tunnel import dialling
from pico_twisted.net.tunnel.dialling import NodeUrl, node_endpoint
from tests.net.in_reactor import DEADLINE_S, in_reactor, reactor, until
from tools.stage.certificates import Authority

Script = Callable[[socket.socket], None]


class Proxy:
    """Runs a script for each connection, in a thread."""

    def __init__(self, script: Script) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.asked: list[bytes] = []
        self.ended = threading.Event()
        self._script = script
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listening.accept()
            except OSError:
                return
            sock.settimeout(DEADLINE_S)
            with sock:
                try:
                    self._script(sock)
                except OSError:
                    pass
            self.ended.set()

    def head(self, sock: socket.socket) -> None:
        """Read the head of a request."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            if not (piece := sock.recv(1)):
                raise OSError("ended")
            data += piece
        self.asked.append(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)  # which ends the wait for a connection
        self.listening.close()


class Echoed(Protocol):
    """Says hello, and keeps what comes back."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@pytest.fixture
def made() -> Iterator[list[Proxy]]:
    """The proxies of a test, which end with it."""
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def answering(made: list[Proxy]) -> Callable[..., Proxy]:
    """Makes a proxy that answers with these bytes, and then echoes what comes."""

    def make(*answer: bytes, ends: bool = False) -> Proxy:
        def script(sock: socket.socket) -> None:
            proxy.head(sock)
            for piece in answer:
                sock.sendall(piece)
            while not ends and (data := sock.recv(65536)):
                sock.sendall(data)

        proxy = Proxy(script)
        made.append(proxy)
        return proxy

    return make


# The connection: of `Echoed`, or of whatever a factory makes
def connect(proxy: Proxy, credentials: bytes = b"", factory: Any = None, target: str = "node:8002") -> Deferred[Any]:
    through = ThroughProxy(
        tcp_endpoint(reactor, "127.0.0.1", proxy.port, DEADLINE_S),
        ForwardProxy("http", "127.0.0.1", proxy.port, credentials),
        target,
        "pico/1",
    )
    if factory is None:
        factory = Factory.forProtocol(Echoed)
        factory.noisy = False
    return through.connect(factory)


async def words(connecting: Deferred[Any]) -> tuple[str, str]:
    """The label and the words of an attempt that fails."""
    try:
        await connecting
    except Exception:
        _, label, text = explain_failure(Failure())
        return label, text
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 200 Connection established\r\n\r\n"],
        [b"HTTP/1.0 200 OK\r\nVia: 1.1 squid\r\n", b"Content-Length: 5\r\n\r\n"],
        [b"HTTP/1.1 204 Fine\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
        [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"],
    ],
)
@in_reactor
async def test_a_connection(answering: Callable[..., Proxy], answer: list[bytes]) -> None:
    """Whatever the proxy's 2xx looks like, all bytes behind it are the other server's."""
    proxy = answering(*answer)
    protocol = await connect(proxy, b"ann:s3cret")
    await until(lambda: protocol.received == b"hello", "an echo")
    assert proxy.asked == [
        b"CONNECT node:8002 HTTP/1.1\r\nHost: node:8002\r\nUser-Agent: pico/1\r\n"
        b"Proxy-Authorization: Basic YW5uOnMzY3JldA==\r\n\r\n"
    ]
    protocol.transport.loseConnection()
    await until(lambda: protocol.lost, "the end")


@in_reactor
async def test_bytes_right_behind_the_answer(answering: Callable[..., Proxy]) -> None:
    """They are not lost, and without a user no credentials are shown."""
    proxy = answering(b"HTTP/1.1 200 OK\r\n\r\nfirst", ends=True)
    protocol = await connect(proxy)
    await until(lambda: protocol.lost, "the end")
    assert protocol.received == b"first"
    assert b"Authorization" not in proxy.asked[0]


@pytest.mark.parametrize(
    ("answer", "credentials", "expected"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", b"", "wants a user and a password (407)"),
        (b"HTTP/1.1 407 No\r\n\r\n", b"ann:s3cret", "does not take the user and password (407)"),
        (b"HTTP/1.1 401 No\r\n\r\n", b"ann:s3cret", "does not take the user and password (401)"),
        (b"HTTP/1.1 403 ann:s3cret is wrong\r\n\r\n", b"ann:s3cret", "does not allow CONNECT to node:8002 (403)"),
        (b"HTTP/1.1 405 No\r\n\r\n", b"", "does not know CONNECT (405)"),
        (b"HTTP/1.1 502 No\r\n\r\n", b"", "cannot reach node:8002 (502)"),
        (b"HTTP/1.1 504 No\r\n\r\n", b"", "cannot reach node:8002 (504)"),
        (b"HTTP/1.1 302 No\r\nLocation: http://x/\r\n\r\n", b"", "answers CONNECT to node:8002 with 302"),
        (b"HTTP/1.1 101 No\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", b"", "is no HTTP proxy"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", b"", "is no HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n bad: 1\r\n\r\n", b"", "is no HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MAX_ANSWER_BYTES, b"", "is no HTTP proxy"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4096 + b"HTTP/1.1 403 No\r\n\r\n", b"", "does not allow"),
        (b"", b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 O", b"", "closed the connection without an answer"),
    ],
)
@in_reactor
async def test_a_proxy_that_does_not_connect(
    answering: Callable[..., Proxy], answer: bytes, credentials: bytes, expected: str
) -> None:
    """It is told why, without credentials, without words of the proxy, and whatever it sends; and nothing more is sent
    to it."""
    proxy = answering(answer, ends=not answer.endswith(b"\r\n\r\n") and len(answer) < MAX_ANSWER_BYTES)
    label, text = await words(connect(proxy, credentials))
    assert label == "proxy" and expected in text
    assert text.startswith(("the proxy http://127.0.0.1:", "what answers at http://127.0.0.1:"))
    assert "s3cret" not in text and "YW5u" not in text and text.isprintable()
    await until(proxy.ended.is_set, "the end of the connection")


@in_reactor
async def test_a_proxy_that_is_away(answering: Callable[..., Proxy]) -> None:
    """It is the proxy that nothing listens at, not the node."""
    proxy = answering()
    proxy.close()
    label, text = await words(connect(proxy))
    assert label == "proxy"
    assert text == f"the proxy http://127.0.0.1:{proxy.port} cannot be reached: nothing listens there"


@pytest.mark.parametrize("when", ["connecting", "asking"])
@in_reactor
async def test_giving_up(answering: Callable[..., Proxy], when: str) -> None:
    """A silent proxy is left at once when the attempt is over, before and after the connection to it is there."""
    proxy = answering()
    connecting = connect(proxy)
    if when == "asking":
        await until(lambda: proxy.asked, "the question")
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    if when == "asking":
        await until(proxy.ended.is_set, "the end of the connection")


@pytest.mark.parametrize("secure_proxy", [False, True])
@in_reactor
async def test_tls_to_the_node_inside(
    made: list[Proxy], tmp_path: Path, secure_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's certificate is checked end to end, also where the proxy itself is spoken to over TLS."""
    authority = Authority(tmp_path)
    pair = authority.issue("node", ("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    # The system's authorities are read once for a process, so they cannot be others here.
    for module in (dialling, module_of_proxies):
        monkeypatch.setattr(
            module, "client_tls", lambda name, cas="", **more: client_tls(name, cas or str(authority.ca), **more)
        )

    def script(sock: socket.socket) -> None:
        outer = context.wrap_socket(sock, server_side=True) if secure_proxy else sock
        proxy.head(outer)
        outer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = context.wrap_bio(incoming, outgoing, server_side=True)

        def step(what: Callable[[], Any]) -> Any:
            while True:
                try:
                    result = what()
                except ssl.SSLWantReadError:
                    outer.sendall(outgoing.read())
                    if not (data := outer.recv(65536)):
                        raise OSError("ended") from None
                    incoming.write(data)
                    continue
                outer.sendall(outgoing.read())
                return result

        step(inner.do_handshake)
        data = step(lambda: inner.read(100))
        step(lambda: inner.write(data))
        step(lambda: inner.read(1))

    proxy = Proxy(script)
    made.append(proxy)
    factory = Factory.forProtocol(Echoed)
    factory.noisy = False
    endpoint = node_endpoint(
        reactor,
        NodeUrl.of("https://localhost:8443"),
        ClientTlsConfig(root_cas=str(authority.ca)),
        DEADLINE_S,
        ForwardProxy("https" if secure_proxy else "http", "localhost", proxy.port),
        "pico/1",
    )
    protocol: Any = await endpoint.connect(factory)
    await until(lambda: protocol.received == b"hello", "an echo")
    assert proxy.asked[0].startswith(b"CONNECT localhost:8443 HTTP/1.1\r\n")
    protocol.transport.loseConnection()
    await until(lambda: protocol.lost, "the end")


@in_reactor
async def test_an_https_proxy_that_is_not_trusted(made: list[Proxy], tmp_path: Path) -> None:
    """The reason is that of TLS, and nothing was sent to it."""
    pair = Authority(tmp_path).issue("proxy", ("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    def script(sock: socket.socket) -> None:
        proxy.head(context.wrap_socket(sock, server_side=True))

    proxy = Proxy(script)
    made.append(proxy)
    through = ForwardProxy("https", "localhost", proxy.port, b"ann:s3cret")
    endpoint = node_endpoint(reactor, NodeUrl.of("http://node"), ClientTlsConfig(), DEADLINE_S, through, "pico/1")
    factory = Factory.forProtocol(Echoed)
    factory.noisy = False
    label, text = await words(endpoint.connect(factory))
    assert label == "proxy" and text.startswith(f"the proxy https://localhost:{proxy.port} cannot be reached: the cert")
    assert not proxy.asked


@in_reactor
async def test_a_proxy_that_speaks_for_the_node(answering: Callable[..., Proxy], tmp_path: Path) -> None:
    """Bytes of its own behind a 200 are no TLS of the node, and the attempt fails as one to a bad server does."""
    authority = Authority(tmp_path)
    proxy = answering(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n")
    lost: list[Failure] = []

    class Secret(Protocol):
        def connectionLost(self, reason: Failure = connectionDone) -> None:
            lost.append(reason)

    factory = Factory.forProtocol(Secret)
    factory.noisy = False
    through = ThroughProxy(
        tcp_endpoint(reactor, "127.0.0.1", proxy.port, DEADLINE_S),
        ForwardProxy("http", "127.0.0.1", proxy.port),
        "localhost:8443",
        "pico/1",
    )
    await wrapClientTLS(client_tls("localhost", str(authority.ca)), through).connect(as_factory(factory))
    (reason,) = await until(lambda: lost, "the end")
    _, label, text = explain_failure(reason)
    assert label == "tls" and "does not speak TLS" in text


def as_factory(factory: Any) -> IProtocolFactory:
    """Twisted's types: a factory of protocols that do not know it."""
    found: IProtocolFactory = factory
    return found

"""TLS on the ports, and from the agent: what a peer sees, and what an operator reads when it fails."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import json
import re
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import attrs
import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import reactor as installed_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.periodic import Sweep
from pico_twisted.net.tls import (
    HANDSHAKE_S,
    LINGER_S,
    MAX_HANDSHAKES,
    MAX_LINGER_BYTES,
    FirstByte,
    RefusedCertificateError,
    ServerContext,
    UnusableCertificateError,
    client_tls,
    explain_tls,
    server_context,
    tls_sniffing,
)

DEADLINE_S = 10.0
ADDRESS = IPv4Address("TCP", "127.0.0.1", 4321)

reactor: Any = installed_reactor

P = ParamSpec("P")
T = TypeVar("T")


def in_reactor(test: Callable[P, Coroutine[Deferred[Any], Any, None]]) -> Callable[P, None]:
    """Run an `async def` test in the reactor, and fail it when it takes too long."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> Deferred[None]:
        return Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(3 * DEADLINE_S, reactor)

    return pytest_twisted.inlineCallbacks(_generator(run))


def _generator(run: Callable[P, Deferred[None]]) -> Callable[P, Iterator[Deferred[None]]]:
    @functools.wraps(run)
    def generator(*args: P.args, **kwargs: P.kwargs) -> Iterator[Deferred[None]]:
        yield run(*args, **kwargs)

    return generator


# Certificates.


@attrs.frozen(kw_only=True)
class Made:
    """A certificate with its key, in memory and as PEM files."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: str
    key_file: str

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.cert.public_bytes(serialization.Encoding.PEM)


def make(
    directory: Path,
    name: str,
    *,
    issuer: Made | None = None,
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    authority: bool = False,
    days: tuple[int, int] = (-1, 7),
) -> Made:
    """Make a certificate, self-signed unless it has an issuer, and write it with its issuer's chain behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
    cert = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    above = Path(issuer.cert_file).read_bytes() if issuer else b""
    cert_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    made = Made(cert=cert, key=key, cert_file=str(cert_file), key_file=str(key_file))
    cert_file.write_bytes(made.pem + above)
    return made


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("authority"), "test authority", names=(), authority=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, authority: Made) -> Made:
    return make(tmp_path_factory.mktemp("server"), "server", issuer=authority)


@pytest.fixture
def context(made: Made) -> ServerContext:
    return server_context(made.cert_file, made.key_file)


# A port.


class Served(Protocol):
    """Records what happens to it and does what the test asks for."""

    transport: Any

    def __init__(self, port: Port) -> None:
        self.port = port
        self.received = b""
        self.events: list[str] = []
        self.lost: Deferred[object] = Deferred()

    def connectionMade(self) -> None:
        self.events.append("made")
        self.port.served.append(self)
        self.port.made(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.port.received(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.lost.callback(reason.value)


@implementer(IHalfCloseableProtocol)
class HalfServed(Served):
    """One that may be half-closed."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")
        self.port.read_lost(self)

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")


class Port(Factory):
    """A TLS port on 127.0.0.1 whose protocols are `Served`; a test replaces what they do."""

    noisy = False

    def __init__(self, context: ServerContext, kind: type[Served] = HalfServed) -> None:
        self.kind = kind
        self.served: list[Served] = []
        self.made: Callable[[Served], object] = lambda served: None
        self.received: Callable[[Served, bytes], object] = lambda served, data: served.transport.write(data)
        self.read_lost: Callable[[Served], object] = lambda served: served.transport.loseConnection()
        self.timer = Sweep(reactor)
        self.factory: Any = tls_sniffing(self, context, "n1", timer=self.timer)
        self.listening = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.number: int = self.listening.getHost().port

    def buildProtocol(self, addr: object) -> Served:
        return self.kind(self)

    async def close(self) -> None:
        await self.listening.stopListening()
        for served in self.served:
            if "lost" not in served.events:
                served.transport.abortConnection()
                await served.lost
        await until(lambda: not self.factory.waiting)
        assert not self.timer._items


def dial(port: Port) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port.number), timeout=DEADLINE_S)


def trusting(authority: Made) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.cert_file)


class Client:
    """A TLS client, blocking, that decides by itself when close_notify and FIN are sent."""

    def __init__(self, port: Port, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.socket = dial(port)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        try:
            self._pump(self.tls.do_handshake)
        except BaseException:
            self.socket.close()
            raise

    def _pump(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.socket.recv(65536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self.socket.sendall(self._out.read())

    def send(self, data: bytes) -> None:
        self._pump(lambda: self.tls.write(data))

    def read(self, count: int = 65536) -> bytes:
        """What comes next; empty when the server said that nothing follows."""
        try:
            return self._pump(lambda: self.tls.read(count))
        except ssl.SSLZeroReturnError:
            return b""

    def read_all(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def close_notify(self) -> None:
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def fin(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def at_end(self) -> bool:
        """Whether the server closed TCP too."""
        return self.socket.recv(65536) == b""

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


class TestServing:
    @in_reactor
    async def test_echo(self, context: ServerContext, authority: Made) -> None:
        """Bytes go both ways, and the served protocol's transport says that it is TLS and who the peer is."""
        port = Port(context)
        seen: list[tuple[bool, int, int, bytes]] = []

        def made(served: Served) -> None:
            transport: Any = served.transport
            secure = ISSLTransport(transport, None) is not None
            seen.append((secure, transport.getPeer().port, transport.getHost().port, transport.negotiatedProtocol))

        port.made = made

        def client() -> tuple[bytes, str | None, str | None, int]:
            tls = trusting(authority)
            tls.set_alpn_protocols(["h2", "http/1.1"])
            with Client(port, tls) as client:
                client.send(b"hello")
                found = client.read()
                return found, client.tls.version(), client.tls.selected_alpn_protocol(), client.socket.getsockname()[1]

        try:
            data, version, protocol, number = await deferToThread(client)
            assert data == b"hello"
            assert version == "TLSv1.3"
            assert protocol == "http/1.1"
            assert seen == [(True, number, port.number, b"http/1.1")]
        finally:
            await port.close()

    @in_reactor
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    async def test_versions(self, context: ServerContext, authority: Made) -> None:
        """TLS 1.2 is served, anything older and a peer that insists on HTTP/2 are not."""
        port = Port(context)

        def version(limit: ssl.TLSVersion) -> str | None:
            tls = trusting(authority)
            tls.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            tls.maximum_version = limit
            tls.set_ciphers("ALL:@SECLEVEL=0")
            with Client(port, tls) as client:
                return client.tls.version()

        def http2() -> None:
            tls = trusting(authority)
            tls.set_alpn_protocols(["h2"])
            Client(port, tls)

        try:
            assert await deferToThread(version, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
            with pytest.raises(ssl.SSLError):
                await deferToThread(version, ssl.TLSVersion.TLSv1_1)
            with pytest.raises(ssl.SSLError):
                await deferToThread(http2)
            assert len(port.served) == 1
        finally:
            await port.close()

    @in_reactor
    async def test_half_close(self, context: ServerContext, authority: Made) -> None:
        """A client that ends its side after the request, by close_notify and FIN, gets the whole answer and its end."""
        port = Port(context)
        answer = bytes(range(256)) * 4096

        def read_lost(served: Served) -> None:
            served.transport.write(answer)
            served.transport.loseConnection()

        port.received = lambda served, data: None
        port.read_lost = read_lost

        def client(fin: bool) -> tuple[bytes, bool]:
            with Client(port, trusting(authority)) as client:
                client.send(b"request")
                client.close_notify()
                if fin:
                    client.fin()
                return client.read_all(), client.at_end()

        try:
            for fin in (False, True):
                assert await deferToThread(client, fin) == (answer, True)
                served = port.served[-1]
                assert isinstance(await served.lost, ConnectionDone)
                assert served.received == b"request"
                assert served.events == ["made", "read lost", "lost"]
        finally:
            await port.close()

    @in_reactor
    async def test_half_close_of_ours(self, context: ServerContext, authority: Made) -> None:
        """`loseWriteConnection` ends what we send, and the client's bytes still arrive."""
        port = Port(context)

        def received(served: Served, data: bytes) -> None:
            if data == b"request":
                served.transport.write(b"answer")
                served.transport.loseWriteConnection()
                served.transport.write(b"too late")

        port.received = received

        def client() -> tuple[bytes, bool]:
            with Client(port, trusting(authority)) as client:
                client.send(b"request")
                found = client.read_all()
                ended = client.at_end()
                client.send(b"more")
                client.close_notify()
                client.fin()
                return found, ended

        try:
            assert await deferToThread(client) == (b"answer", True)
            (served,) = port.served
            await served.lost
            assert served.received == b"requestmore"
            assert served.events == ["made", "write lost", "read lost", "lost"]
        finally:
            await port.close()

    @in_reactor
    async def test_not_half_closeable(self, context: ServerContext, authority: Made) -> None:
        """A protocol that knows no half-close loses the connection when the client ends its side."""
        port = Port(context, Served)

        def client() -> bool:
            with Client(port, trusting(authority)) as client:
                client.send(b"request")
                assert client.read() == b"request"
                client.close_notify()
                return client.read_all() == b"" and client.at_end()

        try:
            assert await deferToThread(client)
            await port.served[0].lost
        finally:
            await port.close()

    @in_reactor
    @pytest.mark.parametrize("end", ["fin", "reset"])
    async def test_end_without_close_notify(self, context: ServerContext, authority: Made, end: str) -> None:
        """A stream that just stops is no end: the protocol is told of a lost connection, and not of a half-close."""
        port = Port(context)

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.send(b"half a requ")
                assert client.read()
                if end == "fin":
                    client.fin()
                    client.socket.recv(65536)
                else:
                    client.reset()

        try:
            await deferToThread(client)
            (served,) = port.served
            assert isinstance(await served.lost, ConnectionLost)
            assert served.events == ["made", "lost"]
        finally:
            await port.close()

    @in_reactor
    async def test_lose_connection(self, context: ServerContext, authority: Made) -> None:
        """`loseConnection` sends all that was written, close_notify and FIN, and waits for nothing from the peer."""
        port = Port(context)
        answer = b"x" * 3_000_000

        def received(served: Served, data: bytes) -> None:
            served.transport.write(answer)
            served.transport.loseConnection()
            served.transport.loseConnection()
            served.transport.write(b"too late")

        port.received = received

        def client() -> tuple[bytes, bool]:
            with Client(port, trusting(authority)) as client:
                client.send(b"request")
                return client.read_all(), client.at_end()

        try:
            assert await deferToThread(client) == (answer, True)
            (served,) = port.served
            assert isinstance(await served.lost, ConnectionDone)
            served.transport.write(b"nobody there")
            served.transport.loseConnection()
            served.transport.abortConnection()
        finally:
            await port.close()

    @in_reactor
    async def test_abort(self, context: ServerContext, authority: Made) -> None:
        """`abortConnection` drops the connection at once, whatever was written."""
        port = Port(context)

        def received(served: Served, data: bytes) -> None:
            served.transport.write(b"x" * 10_000_000)
            served.transport.abortConnection()

        port.received = received

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.send(b"request")
                client.read_all()

        try:
            with pytest.raises((OSError, ssl.SSLError)):
                await deferToThread(client)
            (served,) = port.served
            assert isinstance(await served.lost, ConnectionAborted)
        finally:
            await port.close()

    @in_reactor
    async def test_producer(self, context: ServerContext, authority: Made) -> None:
        """A push producer is paused while the client does not read, resumed when it does, and its end is sent."""
        port = Port(context)
        total = 20_000_000

        class Producer:
            def __init__(self, served: Served) -> None:
                self.served = served
                self.left = total
                self.paused = False
                self.pauses = 0
                self.first_pause: Deferred[None] = Deferred()

            def resumeProducing(self) -> None:
                self.paused = False
                while self.left and not self.paused:
                    piece = min(self.left, 100_000)
                    self.left -= piece
                    self.served.transport.write(b"x" * piece)
                if not self.left:
                    self.served.transport.unregisterProducer()
                    self.served.transport.loseConnection()

            def pauseProducing(self) -> None:
                self.paused = True
                self.pauses += 1
                if self.pauses == 1:
                    self.first_pause.callback(None)

            def stopProducing(self) -> None:
                self.left = 0

        producers: list[Producer] = []

        def received(served: Served, data: bytes) -> None:
            producer = Producer(served)
            producers.append(producer)
            served.transport.registerProducer(producer, True)
            producer.resumeProducing()

        port.received = received

        def ask() -> Client:
            client = Client(port, trusting(authority))
            client.send(b"request")
            return client

        client = await deferToThread(ask)
        try:
            await until(lambda: bool(producers))
            await producers[0].first_pause
            assert producers[0].left > total / 2
            with client:
                assert len(await deferToThread(client.read_all)) == total
            assert producers[0].pauses > 1
            assert isinstance(await port.served[0].lost, ConnectionDone)
        finally:
            await port.close()

    @in_reactor
    async def test_reading_can_be_paused(self, context: ServerContext, authority: Made) -> None:
        """While the protocol has paused its transport, what it is given stays within one read of the socket."""
        port = Port(context)

        def received(served: Served, data: bytes) -> None:
            served.transport.pauseProducing()

        port.received = received
        total = 8_000_000

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.socket.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    client.send(b"x" * total)
                port_is_paused.append(len(port.served[0].received))
                client.reset()

        port_is_paused: list[int] = []
        try:
            await deferToThread(client)
            assert 0 < port_is_paused[0] <= 2 * 65536
            port.received = lambda served, data: None
            port.served[0].transport.resumeProducing()
            await port.served[0].lost
        finally:
            await port.close()

    @in_reactor
    async def test_after_close_notify(self, context: ServerContext, authority: Made) -> None:
        """Bytes behind a close_notify are neither delivered nor kept."""
        port = Port(context)
        port.read_lost = lambda served: None

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.close_notify()
                for _ in range(100):
                    client.socket.sendall(b"\x17\x03\x03\x40\x00" + b"x" * 0x4000)
                client.fin()

        try:
            await deferToThread(client)
            await until(lambda: bool(port.served) and "read lost" in port.served[0].events)
            assert port.served[0].received == b""
        finally:
            await port.close()


class TestBeforeTheHandshake:
    @in_reactor
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_plain_http(self, context: ServerContext, method: str) -> None:
        """A plain HTTP client reads in JSON that the port speaks TLS, and the served protocol never sees it."""
        port = Port(context)

        def client() -> bytes:
            with dial(port) as plain:
                for piece in (method, " / HTTP/1.1\r\nHost: x\r\n", "\r\n"):
                    plain.sendall(piece.encode())
                return read_to_end(plain)

        try:
            answer = await deferToThread(client)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"x-pico-error: n1; tls-required" in head
            assert b"content-type: application/json" in head
            if method == "GET":
                assert json.loads(body) == {"error": "this port speaks TLS: use https"}
                assert b"content-length: %d" % len(body) in head
            else:
                assert body == b""
            assert port.served == []
        finally:
            await port.close()

    @in_reactor
    async def test_plain_http_with_a_body(self, context: ServerContext) -> None:
        """A client that goes on sending a body still gets the answer: nothing is closed under unread bytes."""
        port = Port(context)

        def client() -> bytes:
            with dial(port) as plain:
                plain.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
                plain.sendall(b"x" * 900_000)
                return read_to_end(plain)

        try:
            assert (await deferToThread(client)).startswith(b"HTTP/1.1 400 ")
        finally:
            await port.close()

    @in_reactor
    async def test_half_closed_plain_request(self, context: ServerContext) -> None:
        """A plain client that ends its side, even in the middle of its head, gets the answer."""
        port = Port(context)

        def client() -> bytes:
            with dial(port) as plain:
                plain.sendall(b"GET / HT")
                plain.shutdown(socket.SHUT_WR)
                return read_to_end(plain)

        try:
            assert (await deferToThread(client)).startswith(b"HTTP/1.1 400 ")
        finally:
            await port.close()

    @in_reactor
    async def test_nothing(self, context: ServerContext) -> None:
        """A connection that is closed without a byte, or in the middle of the handshake, leaves nothing behind."""
        port = Port(context)

        def client(first: bytes) -> bytes:
            with dial(port) as plain:
                plain.sendall(first)
                plain.shutdown(socket.SHUT_WR)
                return plain.recv(100)

        try:
            assert await deferToThread(client, b"") == b""
            try:
                await deferToThread(client, b"\x16\x03\x01\x02\x00\x01")
            except ConnectionResetError:
                pass
            assert port.served == []
        finally:
            await port.close()

    @in_reactor
    async def test_broken_handshake(self, context: ServerContext) -> None:
        """Garbage that looks like TLS is answered with a TLS alert and closed."""
        port = Port(context)

        def client() -> bytes:
            with dial(port) as plain:
                plain.sendall(b"\x16\x03\x01\x00\x05hello")
                return read_to_end(plain)

        try:
            assert (await deferToThread(client)).startswith(b"\x15\x03")
            assert port.served == []
        finally:
            await port.close()

    def sniffer(self, context: ServerContext) -> tuple[Clock, Sweep, FirstByte, StringTransport]:
        clock = Clock()
        timer = Sweep(clock)
        timer.start()
        factory = tls_sniffing(Factory.forProtocol(Protocol), context, "n1", timer=timer, clock=clock)
        transport = HalfTransport()
        protocol = factory.buildProtocol(transport.getPeer())
        assert isinstance(protocol, FirstByte)
        protocol.makeConnection(transport)
        return clock, timer, protocol, transport

    @pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
    def test_deadline(self, context: ServerContext, first: bytes) -> None:
        """A connection whose handshake is not complete in ten seconds is dropped, however many bytes it sent."""
        clock, timer, protocol, transport = self.sniffer(context)
        if first:
            protocol.dataReceived(first)
        clock.pump([0.2] * int((HANDSHAKE_S - 1) / 0.2))
        assert not transport.disconnecting
        clock.pump([0.2] * 10)
        assert transport.disconnected
        timer.stop()

    def test_deadline_of_a_plain_head(self, context: ServerContext) -> None:
        """A plain client that does not finish its head is answered after ten seconds, and dropped soon after that."""
        clock, timer, protocol, transport = self.sniffer(context)
        protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        clock.pump([0.2] * int(HANDSHAKE_S / 0.2 + 2))
        assert transport.value().startswith(b"HTTP/1.1 400 ")
        assert not transport.disconnected
        clock.pump([0.2] * int(LINGER_S / 0.2 + 2))
        assert transport.disconnected
        timer.stop()

    def test_endless_plain_request(self, context: ServerContext) -> None:
        """A plain head without end is answered once it is too long, and what follows is not read for ever."""
        _, timer, protocol, transport = self.sniffer(context)
        for _ in range(40):
            protocol.dataReceived(b"x" * 1024)
        assert transport.value().count(b"HTTP/1.1 400 ") == 1
        for _ in range(MAX_LINGER_BYTES // 65536 + 1):
            protocol.dataReceived(b"x" * 65536)
        assert transport.disconnected
        timer.stop()

    def test_too_many(self, context: ServerContext) -> None:
        """So many handshakes may be under way, and no more; one that ends makes room."""
        clock = Clock()
        timer = Sweep(clock)
        factory = tls_sniffing(Factory.forProtocol(Protocol), context, "n1", timer=timer, clock=clock)
        protocols = []
        for _ in range(MAX_HANDSHAKES):
            protocol = factory.buildProtocol(ADDRESS)
            assert protocol is not None
            protocol.makeConnection(HalfTransport())
            protocols.append(protocol)
        assert factory.buildProtocol(ADDRESS) is None
        protocols[0].connectionLost(Failure(ConnectionDone()))
        assert factory.buildProtocol(ADDRESS) is not None

    def test_full(self, context: ServerContext) -> None:
        """A factory that takes no more connections is asked before anything else."""

        class Full(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        timer = Sweep(Clock())
        factory = tls_sniffing(Full(), context, "n1", timer=timer, clock=Clock())
        assert factory.buildProtocol(ADDRESS) is None


class HalfTransport(StringTransport):
    """A StringTransport that can be half-closed and aborted."""

    disconnected = False

    def loseWriteConnection(self) -> None:
        pass

    def abortConnection(self) -> None:
        self.disconnected = True


def read_to_end(plain: socket.socket) -> bytes:
    found = b""
    while data := plain.recv(65536):
        found += data
    return found


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own deadline is the limit."""
    while not holds():
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.005, turn.callback, None)
        await turn


class TestReload:
    @in_reactor
    async def test_new_certificate(self, tmp_path: Path, authority: Made) -> None:
        """After a reload new connections see the new certificate, and open ones go on."""
        made = make(tmp_path, "port", issuer=authority)
        context = server_context(made.cert_file, made.key_file)
        port = Port(context)

        def serial(client: Client) -> int:
            der = client.tls.getpeercert(binary_form=True)
            assert der is not None
            return x509.load_der_x509_certificate(der).serial_number

        first = await deferToThread(Client, port, trusting(authority))
        try:
            again = make(tmp_path, "port", issuer=authority)
            context.reload()
            second = await deferToThread(Client, port, trusting(authority))
            with first, second:
                assert serial(first) == made.cert.serial_number
                assert serial(second) == again.cert.serial_number
                await deferToThread(first.send, b"still here")
                assert await deferToThread(first.read) == b"still here"
        finally:
            await port.close()

    def test_bad_reload_keeps_the_old_one(self, tmp_path: Path, authority: Made) -> None:
        """A reload that fails says which file is at fault, and the old certificate stays in use."""
        made = make(tmp_path, "port", issuer=authority)
        context = server_context(made.cert_file, made.key_file)
        before = context.getContext()
        Path(made.cert_file).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        with pytest.raises(UnusableCertificateError) as caught:
            context.reload()
        assert caught.value.path == made.cert_file
        assert context.getContext() is before

    def test_faults(self, tmp_path: Path, made: Made, authority: Made) -> None:
        """Every way in which the files can be wrong is told apart."""
        other = make(tmp_path, "other")
        empty = tmp_path / "empty"
        empty.write_text("")
        broken = tmp_path / "broken"
        broken.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        locked = tmp_path / "locked"
        locked.write_bytes(
            made.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"passphrase"),
            )
        )
        missing = str(tmp_path / "missing")
        for cert_file, key_file, fault in (
            (missing, made.key_file, f"{missing}: cannot be read: No such file or directory"),
            (made.cert_file, missing, f"{missing}: cannot be read: No such file or directory"),
            (str(tmp_path), made.key_file, f"{tmp_path}: cannot be read: Is a directory"),
            (str(empty), made.key_file, f"{empty}: holds no certificate in PEM form"),
            (made.key_file, made.key_file, f"{made.key_file}: holds no certificate in PEM form"),
            (made.cert_file, made.cert_file, f"{made.cert_file}: holds no private key in PEM form"),
            (made.cert_file, str(broken), f"{broken}: holds a damaged key"),
            (made.cert_file, str(locked), f"{locked}: is encrypted: a key without passphrase is needed"),
            (
                made.cert_file,
                other.key_file,
                f"{other.key_file}: is not the key of the certificate in {made.cert_file}",
            ),
        ):
            with pytest.raises(UnusableCertificateError) as caught:
                server_context(cert_file, key_file)
            assert str(caught.value) == fault


# The other side.


class Talk(Protocol):
    """A client that sends one thing and keeps what comes back."""

    transport: Any

    def __init__(self) -> None:
        self.answer = b""
        self.answered: Deferred[bytes] = Deferred()
        self.lost: Deferred[object] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.answer += data
        if len(self.answer) >= 5 and not self.answered.called:
            self.answered.callback(self.answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answered.called:
            self.answered.errback(reason)
        self.lost.callback(reason.value)


async def talk(number: int, name: str, root_cas: str) -> bytes:
    """Connect as an agent does. Raises what the connection failed with."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
    talking = Talk()
    await wrapClientTLS(client_tls(name, root_cas), endpoint).connect(Factory.forProtocol(lambda: talking))
    try:
        return await talking.answered
    finally:
        talking.transport.abortConnection()
        await talking.lost


async def why_not(number: int, name: str, root_cas: str) -> str | None:
    """The words for why the connection failed."""
    try:
        await talk(number, name, root_cas)
    except Exception:
        return explain_tls(Failure())
    raise AssertionError("the connection was accepted")


class TestConnecting:
    @in_reactor
    async def test_trusted(self, context: ServerContext, authority: Made, tmp_path: Path) -> None:
        """A server whose certificate a root of the bundle signed is accepted by name and by address."""
        port = Port(context)
        bundle = tmp_path / "bundle.pem"
        other = make(tmp_path, "another authority", names=(), authority=True)
        bundle.write_bytes(other.pem + authority.pem)
        try:
            for name in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1"):
                assert await talk(port.number, name, str(bundle)) == b"hello"
        finally:
            await port.close()

    @in_reactor
    async def test_self_signed_and_pinned(self, tmp_path: Path) -> None:
        """A self-signed certificate that is itself the bundle is accepted."""
        made = make(tmp_path, "pinned")
        port = Port(server_context(made.cert_file, made.key_file))
        try:
            assert await talk(port.number, "localhost", made.cert_file) == b"hello"
        finally:
            await port.close()

    @in_reactor
    async def test_changed_bundle(self, context: ServerContext, authority: Made, tmp_path: Path) -> None:
        """A bundle that was changed on disk counts from the next connection on."""
        port = Port(context)
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes(make(tmp_path, "stranger").pem)
        try:
            assert "not trusted" in str(await why_not(port.number, "localhost", str(bundle)))
            bundle.write_bytes(authority.pem * 2)
            assert await talk(port.number, "localhost", str(bundle)) == b"hello"
        finally:
            await port.close()

    @in_reactor
    async def test_refusals(self, tmp_path: Path, authority: Made) -> None:
        """Each reason to refuse a certificate is told in words that name what is wrong with which certificate."""
        stranger = make(tmp_path, "stranger authority", names=(), authority=True)
        cases = {
            "self-signed": (make(tmp_path, "selfmade"), "localhost", r"the certificate \(selfmade\) is self-signed"),
            "private authority": (
                make(tmp_path, "theirs", issuer=stranger),
                "localhost",
                r"an authority that is not trusted here \(stranger authority\)",
            ),
            "expired": (
                make(tmp_path, "old", issuer=authority, days=(-9, -2)),
                "localhost",
                r"the certificate \(old\) has expired on \d{4}-\d\d-\d\d \d\d:\d\d UTC",
            ),
            "not yet valid": (
                make(tmp_path, "young", issuer=authority, days=(2, 9)),
                "localhost",
                r"the certificate \(young\) is not valid before \d{4}-",
            ),
            "other name": (
                make(tmp_path, "named", issuer=authority, names=("a.example", "b.example", "10.1.2.3")),
                "localhost",
                "the certificate is for a.example, b.example, 10.1.2.3, not for localhost",
            ),
            "other address": (
                make(tmp_path, "addressed", issuer=authority, names=("localhost", "10.1.2.3")),
                "127.0.0.1",
                "the certificate is for localhost, 10.1.2.3, not for 127.0.0.1",
            ),
            "no name": (
                make(tmp_path, "nameless", issuer=authority, names=()),
                "localhost",
                "the certificate is without any name, not for localhost",
            ),
        }
        lonely = make(tmp_path, "lonely", issuer=stranger)
        (tmp_path / "lonely.crt").write_bytes(lonely.pem)
        cases["incomplete chain"] = (lonely, "localhost", r"not known here \(stranger authority\)")
        for made, name, words in cases.values():
            port = Port(server_context(made.cert_file, made.key_file))
            try:
                found = await why_not(port.number, name, authority.cert_file)
                assert found is not None
                assert re.search(words, found), found
                assert port.served == []
            finally:
                await port.close()

    @in_reactor
    async def test_plain_server(self, authority: Made) -> None:
        """A server that answers in plain HTTP is told apart from a bad certificate."""

        class Plain(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
                self.transport.loseConnection()

        listening = reactor.listenTCP(0, Factory.forProtocol(Plain), interface="127.0.0.1")
        try:
            found = await why_not(listening.getHost().port, "localhost", authority.cert_file)
            assert found == "the server does not speak TLS on this port (plain HTTP?)"
        finally:
            await listening.stopListening()

    @in_reactor
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    async def test_old_server(self, made: Made, authority: Made) -> None:
        """A server without a TLS version that we accept is told apart too."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(made.cert_file, made.key_file)
        tls.set_ciphers("ALL:@SECLEVEL=0")
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(DEADLINE_S)

            def serve() -> None:
                accepted, _ = server.accept()
                with accepted, pytest.raises((ssl.SSLError, OSError)):
                    tls.wrap_socket(accepted, server_side=True)

            serving = deferToThread(serve)
            found = await why_not(server.getsockname()[1], "localhost", authority.cert_file)
            assert found == "no common TLS version: 1.2 or 1.3 is needed"
            await serving

    def test_bad_bundle(self, tmp_path: Path) -> None:
        """A bundle that cannot be used is named at once, without a connection."""
        missing = str(tmp_path / "missing.pem")
        with pytest.raises(UnusableCertificateError, match=r"missing\.pem: cannot be read"):
            client_tls("localhost", missing)
        empty = tmp_path / "empty.pem"
        empty.write_text("nothing")
        with pytest.raises(UnusableCertificateError, match="holds no certificate") as caught:
            client_tls("localhost", str(empty))
        assert explain_tls(Failure(caught.value)) == str(caught.value)

    def test_system_roots(self) -> None:
        """Without a bundle the system's roots are used, read once."""
        assert client_tls("example.org")._context is client_tls("example.com")._context

    def test_explanations(self) -> None:
        """Failures that are not about TLS are left to others; what OpenSSL says is found inside other failures too."""
        assert explain_tls(Failure(ConnectionDone())) is None
        assert explain_tls(Failure(ValueError("x"))) is None
        nested: Any = ValueError()
        nested.reasons = [Failure(ConnectionLost()), Failure(RefusedCertificateError("because"))]
        assert explain_tls(Failure(nested)) == "because"
        for queue, words in (
            ([("SSL routines", "", "tlsv1 alert protocol version")], "no common TLS version: 1.2 or 1.3 is needed"),
            ([("SSL routines", "", "ssl/tls alert handshake failure")], "no common ground in the TLS handshake"),
            ([("SSL routines", "", "certificate verify failed")], "the server's certificate was refused"),
            ([("SSL routines", "", "something new")], "TLS failed: something new"),
            ([], "TLS failed"),
        ):
            found = explain_tls(Failure(SSL.Error(queue)))
            assert found is not None
            assert found.startswith(words)
        assert explain_tls(Failure(VerificationError(errors=[]))) == "the certificate is for another name"


def test_hostname_endpoint_is_satisfied() -> None:
    """The creator can be used wherever Twisted wants one."""
    assert wrapClientTLS(client_tls("localhost"), HostnameEndpoint(reactor, "localhost", 1)) is not None

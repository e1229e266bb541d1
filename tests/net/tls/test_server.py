"""TLS on the ports: what a peer sees, and what an operator reads when it fails."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.threads import deferToThread

from pico_twisted.config import ServerTlsConfig
from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.net.tls.port_context import ServerContext
from tests.net.in_reactor import in_reactor, until
from tests.net.tls.tls_port import Port, Served, dial
from tools.stage.certificates import Made, make

T = TypeVar("T")


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
    async def test_echo(self, port: Port, authority: Made) -> None:
        """Bytes go both ways, and the served protocol's transport says that it is TLS and who the peer is."""
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

        data, version, protocol, number = await deferToThread(client)
        assert data == b"hello"
        assert version == "TLSv1.3"
        assert protocol == "http/1.1"
        assert seen == [(True, number, port.number, b"http/1.1")]

    @in_reactor
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    async def test_versions(self, port: Port, authority: Made) -> None:
        """TLS 1.2 is served, anything older and a peer that insists on HTTP/2 are not."""

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

        assert await deferToThread(version, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        with pytest.raises(ssl.SSLError):
            await deferToThread(version, ssl.TLSVersion.TLSv1_1)
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            await deferToThread(http2)
        assert len(port.served) == 1

    @in_reactor
    async def test_half_close(self, port: Port, authority: Made) -> None:
        """A client that ends its side after the request, by close_notify and FIN, gets the whole answer and its end."""
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

        for fin in (False, True):
            assert await deferToThread(client, fin) == (answer, True)
            served = port.served[-1]
            assert isinstance(await served.lost, ConnectionDone)
            assert served.received == b"request"
            assert served.events == ["made", "read lost", "lost"]

    @in_reactor
    async def test_half_close_of_ours(self, port: Port, authority: Made) -> None:
        """`loseWriteConnection` ends what we send, and the client's bytes still arrive."""

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

        assert await deferToThread(client) == (b"answer", True)
        (served,) = port.served
        await served.lost
        assert served.received == b"requestmore"
        assert served.events == ["made", "write lost", "read lost", "lost"]

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
    async def test_end_without_close_notify(self, port: Port, authority: Made, end: str) -> None:
        """A stream that just stops is no end: the protocol is told of a lost connection, and not of a half-close."""

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.send(b"half a requ")
                assert client.read()
                if end == "fin":
                    client.fin()
                    client.socket.recv(65536)
                else:
                    client.reset()

        await deferToThread(client)
        (served,) = port.served
        assert isinstance(await served.lost, ConnectionLost)
        assert served.events == ["made", "lost"]

    @in_reactor
    async def test_lose_connection(self, port: Port, authority: Made) -> None:
        """`loseConnection` sends all that was written, close_notify and FIN, and waits for nothing from the peer."""
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

        assert await deferToThread(client) == (answer, True)
        (served,) = port.served
        assert isinstance(await served.lost, ConnectionDone)
        served.transport.write(b"nobody there")
        served.transport.loseConnection()
        served.transport.abortConnection()

    @in_reactor
    async def test_abort(self, port: Port, authority: Made) -> None:
        """`abortConnection` drops the connection at once, whatever was written."""

        def received(served: Served, data: bytes) -> None:
            served.transport.write(b"x" * 10_000_000)
            served.transport.abortConnection()

        port.received = received

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.send(b"request")
                client.read_all()

        with pytest.raises((OSError, ssl.SSLError)):
            await deferToThread(client)
        (served,) = port.served
        assert isinstance(await served.lost, ConnectionAborted)

    @in_reactor
    async def test_producer(self, port: Port, authority: Made) -> None:
        """A push producer is paused while the client does not read, resumed when it does, and its end is sent."""
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
        await until(lambda: bool(producers))
        await producers[0].first_pause
        assert producers[0].left > total / 2
        with client:
            assert len(await deferToThread(client.read_all)) == total
        assert producers[0].pauses > 1
        assert isinstance(await port.served[0].lost, ConnectionDone)

    @in_reactor
    async def test_reading_can_be_paused(self, port: Port, authority: Made) -> None:
        """While the protocol has paused its transport, what it is given stays within one read of the socket."""

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
        await deferToThread(client)
        assert 0 < port_is_paused[0] <= 2 * 65536
        port.received = lambda served, data: None
        port.served[0].transport.resumeProducing()
        await port.served[0].lost

    @in_reactor
    async def test_after_close_notify(self, port: Port, authority: Made) -> None:
        """Bytes behind a close_notify are neither delivered nor kept."""
        port.read_lost = lambda served: None

        def client() -> None:
            with Client(port, trusting(authority)) as client:
                client.close_notify()
                for _ in range(100):
                    client.socket.sendall(b"\x17\x03\x03\x40\x00" + b"x" * 0x4000)
                client.fin()

        await deferToThread(client)
        await until(lambda: bool(port.served) and "read lost" in port.served[0].events)
        assert port.served[0].received == b""


class TestReload:
    @in_reactor
    async def test_new_certificate(self, tmp_path: Path, authority: Made) -> None:
        """After a reload new connections see the new certificate, and open ones go on."""
        made = make(tmp_path, "port", issuer=authority)
        context = ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file))
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
        context = ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file))
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
            (made.key_file, made.key_file, f"{made.key_file}: holds a private key and no certificate in PEM form"),
            (made.cert_file, made.cert_file, f"{made.cert_file}: holds a certificate and no private key in PEM form"),
            (made.cert_file, str(broken), f"{broken}: holds a damaged key"),
            (made.cert_file, str(locked), f"{locked}: is encrypted: a key without passphrase is needed"),
            (
                made.cert_file,
                other.key_file,
                f"{other.key_file}: is not the key of the certificate in {made.cert_file}",
            ),
        ):
            with pytest.raises(UnusableCertificateError) as caught:
                ServerContext(ServerTlsConfig(cert=cert_file, key=key_file)).reload()
            assert str(caught.value) == fault

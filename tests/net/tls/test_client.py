"""TLS from the agent: whom it trusts, and what an operator reads when it does not."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from pico_twisted.config import ServerTlsConfig
from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.net.tls.client import client_tls, explain_tls
from pico_twisted.net.tls.port_context import ServerContext
from pico_twisted.net.tls.verification import Objection, RefusedCertificateError, no_objection
from tests.net.in_reactor import DEADLINE_S, in_reactor, reactor
from tests.net.tls.tls_port import Port
from tools.stage.certificates import Made, make

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


async def talk(number: int, name: str, root_cas: str, further: Objection = no_objection) -> bytes:
    """Connect as an agent does. Raises what the connection failed with."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
    talking = Talk()
    tls = client_tls(name, root_cas, further=further)
    await wrapClientTLS(tls, endpoint).connect(Factory.forProtocol(lambda: talking))
    try:
        return await talking.answered
    finally:
        talking.transport.abortConnection()
        await talking.lost


async def why_not(number: int, name: str, root_cas: str, further: Objection = no_objection) -> str | None:
    """The words for why the connection failed."""
    try:
        await talk(number, name, root_cas, further)
    except Exception:
        return explain_tls(Failure())
    raise AssertionError("the connection was accepted")


class TestConnecting:
    @in_reactor
    async def test_trusted(self, port: Port, authority: Made, tmp_path: Path) -> None:
        """A server whose certificate a root of the bundle signed is accepted by name and by address."""
        bundle = tmp_path / "bundle.pem"
        other = make(tmp_path, "another authority", names=(), authority=True)
        bundle.write_bytes(other.pem + authority.pem)
        for name in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1"):
            assert await talk(port.number, name, str(bundle)) == b"hello"

    @in_reactor
    @pytest.mark.parametrize("wide", ["*.lan", "*.internal", "*.localhost", "*", "10.0.0.*", "a.*.example", "1234"])
    async def test_a_name_that_cannot_be_used(self, authority: Made, tmp_path: Path, wide: str) -> None:
        """One is skipped, and the others of the certificate count; it never matches, and the words say so."""
        made = make(tmp_path, "wide", issuer=authority, names=("localhost", wide))
        port = Port(ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file)))
        try:
            assert await talk(port.number, "localhost", authority.cert_file) == b"hello"
            refused = await why_not(port.number, "nas.lan", authority.cert_file)
        finally:
            await port.close()
        assert refused is not None
        assert refused.startswith("the certificate is for localhost (but ") and refused.endswith(", not for nas.lan")
        assert wide in refused

    @in_reactor
    async def test_self_signed_and_pinned(self, tmp_path: Path) -> None:
        """A self-signed certificate that is itself the bundle is accepted."""
        made = make(tmp_path, "pinned")
        port = Port(ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file)))
        try:
            assert await talk(port.number, "localhost", made.cert_file) == b"hello"
        finally:
            await port.close()

    @in_reactor
    async def test_changed_bundle(self, port: Port, authority: Made, tmp_path: Path) -> None:
        """A bundle that was changed on disk counts from the next connection on."""
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes(make(tmp_path, "stranger").pem)
        assert "not trusted" in str(await why_not(port.number, "localhost", str(bundle)))
        bundle.write_bytes(authority.pem * 2)
        assert await talk(port.number, "localhost", str(bundle)) == b"hello"

    @in_reactor
    async def test_a_further_objection(self, port: Port, authority: Made) -> None:
        """Whoever asks may refuse what OpenSSL accepts, such as a certificate that is revoked; it is asked about each
        one of the chain."""
        asked: list[int] = []

        def further(certificate: x509.Certificate, error: int, depth: int) -> str:
            asked.append(depth)
            return "it was revoked" if depth == 0 else ""

        assert await why_not(port.number, "localhost", authority.cert_file, further=further) == "it was revoked"
        assert asked == [1, 0]

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
        lonely.pair.cert.write_bytes(lonely.pem)
        cases["incomplete chain"] = (lonely, "localhost", r"not known here \(stranger authority\)")
        for made, name, words in cases.values():
            port = Port(ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file)))
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

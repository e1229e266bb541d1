"""Ports that ask clients for a certificate: who is let in, what the port learns, and what the log says."""

from __future__ import annotations

import ssl
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs

from pico_twisted.config import ServerTlsConfig
from pico_twisted.net.tls.client import client_tls
from pico_twisted.net.tls.port_context import ServerContext
from pico_twisted.net.tls.verification import client_certificate
from tests.net.in_reactor import DEADLINE_S, in_reactor, reactor, until
from tests.net.tls.tls_port import Port, Served, dial
from tools.stage.certificates import Authority, Made, Pair

AGENT = "spiffe://acme.example/agent"


class Asking(Port):
    """A port that asks for certificates of one authority, and what it knew of each client."""

    def __init__(self, made: Made, authority: Authority, auth: str = "optional") -> None:
        tls = ServerTlsConfig(cert=made.cert_file, key=made.key_file, client_ca=str(authority.ca), client_auth=auth)
        self.context = ServerContext(tls)
        super().__init__(self.context)
        self.known: list[x509.Certificate | None] = []
        self.made = self._know

    def _know(self, served: Served) -> None:
        shown = client_certificate(served.transport)
        self.known.append(None if shown is None else x509.load_der_x509_certificate(shown))

    @property
    def uris(self) -> list[list[str]]:
        """The URI names in each client's certificate."""
        return [
            one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
                x509.UniformResourceIdentifier
            )
            if one is not None
            else []
            for one in self.known
        ]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the clients."""
    return Authority(tmp_path_factory.mktemp("clients"), "clients")


def ask(
    port: Port, server: Made, own: Pair | None = None, *, version: ssl.TLSVersion | None = None, times: int = 1
) -> list[str]:
    """What a client hears back on each of its connections; it offers the session of the one before."""
    context = ssl.create_default_context(cadata=server.pem.decode())
    if version is not None:
        context.maximum_version = version
    if own is not None:
        context.load_cert_chain(own.cert, own.key)
    heard: list[str] = []
    session = None
    for _ in range(times):
        with dial(port) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
                    tls.settimeout(DEADLINE_S)
                    tls.sendall(b"hello")
                    heard.append(tls.recv(100).decode() + (" again" if tls.session_reused else ""))
                    session = tls.session
            except (ssl.SSLError, ConnectionError) as error:
                heard.append(str(error))
    return heard


@in_reactor
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_and_none(made: Made, authority: Made, clients: Authority, version: ssl.TLSVersion) -> None:
    """A client with a certificate of the authority is known by it; one without is let in, and nothing is known."""
    port = Asking(made, clients)
    try:
        own = clients.issue("agent", (AGENT,), client=True)
        assert await deferToThread(ask, port, authority, own, version=version) == ["hello"]
        assert await deferToThread(ask, port, authority, version=version) == ["hello"]
        assert port.uris == [[AGENT], []]
        assert port.known[1] is None
    finally:
        await port.close()


@in_reactor
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("none", "peer did not return a certificate"),
        ("stranger", "issued by an authority that is not known here (strangers)"),
        ("of the server's own authority", "issued by an authority that is not trusted here (test authority)"),
        ("a server's", "was issued for another purpose"),
    ],
)
async def test_who_is_refused(
    made: Made, authority: Made, clients: Authority, tmp_path: Path, kind: str, words: str
) -> None:
    """Whoever shows a certificate of another authority, or none where one is required, ends in the handshake: no
    protocol hears of it, and the log says why."""
    port = Asking(made, clients, "required" if kind == "none" else "optional")
    own = {
        "none": None,
        "stranger": Authority(tmp_path, "strangers").issue("agent", (AGENT,), client=True),
        "of the server's own authority": made.pair,
        "a server's": clients.issue("server"),
    }[kind]
    try:
        with capturedLogs() as events:
            (heard,) = await deferToThread(ask, port, authority, own)
            await until(lambda: not port.factory.waiting)
        assert "hello" not in heard
        assert port.served == []
        (line,) = [str(event["reason"]) for event in events if "handshake failed" in _format(event)]
        assert words in line
    finally:
        await port.close()


def _format(event: LogEvent) -> str:
    return str(event.get("log_format"))


@in_reactor
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_is_resumed(made: Made, authority: Made, clients: Authority, version: ssl.TLSVersion) -> None:
    """A client that offers its earlier session is verified anew, and is known by what it shows now."""
    port = Asking(made, clients)
    try:
        own = clients.issue("agent", (AGENT,), client=True)
        assert await deferToThread(ask, port, authority, own, version=version, times=2) == ["hello", "hello"]
        assert port.uris == [[AGENT], [AGENT]]
    finally:
        await port.close()


@in_reactor
async def test_thousands_of_failures_are_told_once_a_second(made: Made, authority: Made, clients: Authority) -> None:
    """The others are counted in the next line."""
    port = Asking(made, clients, "required")
    try:
        with capturedLogs() as events:
            for _ in range(3):
                await deferToThread(ask, port, authority)
            await until(lambda: not port.factory.waiting)
            port.timer.now += 2.0
            await deferToThread(ask, port, authority)
            await until(lambda: not port.factory.waiting)
        assert [event["more_before"] for event in events if "handshake failed" in _format(event)] == [0, 2]
    finally:
        await port.close()


@in_reactor
async def test_an_agent_shows_its_certificate(made: Made, authority: Made, clients: Authority) -> None:
    """It shows the one that the files hold now; as long as they do not fit each other, the one before."""
    port = Asking(made, clients, "required")
    pair = clients.issue("agent-2", (AGENT,), client=True)

    async def connect() -> None:
        connecting: Deferred[None] = Deferred()
        talking = Protocol()
        talking.connectionMade = lambda: connecting.callback(None)  # type: ignore[method-assign]
        tls = client_tls("localhost", authority.cert_file, cert=str(pair.cert), key=str(pair.key))
        endpoint = wrapClientTLS(tls, HostnameEndpoint(reactor, "127.0.0.1", port.number))
        await endpoint.connect(Factory.forProtocol(lambda: talking))
        known = len(port.known)
        await until(lambda: len(port.known) > known)
        talking.transport.abortConnection()  # type: ignore[union-attr]

    try:
        await connect()
        old_key = pair.key.read_bytes()
        clients.issue("agent-2", ("spiffe://acme.example/later",), client=True)
        new_key = pair.key.read_bytes()
        pair.key.write_bytes(old_key)
        with capturedLogs() as events:
            await connect()
            await connect()
        assert len([event for event in events if "are not used" in _format(event)]) == 1
        pair.key.write_bytes(new_key)
        await connect()
        assert port.uris == [[AGENT], [AGENT], [AGENT], ["spiffe://acme.example/later"]]
    finally:
        await port.close()


@in_reactor
async def test_an_authority_that_is_trusted_no_longer(
    made: Made, authority: Made, clients: Authority, tmp_path: Path
) -> None:
    """The connections that it let in end with it, also when another one of the same name takes its place; those without
    a certificate stay, and all do while it is one of several."""
    port = Asking(made, clients)
    context = port.context
    own = clients.issue("agent", (AGENT,), client=True)
    theirs, later = tmp_path / "theirs", Authority(tmp_path, "clients")

    async def connect(*, shows: bool) -> None:
        before = len(port.served)
        cert, key = (str(own.cert), str(own.key)) if shows else ("", "")
        tls = client_tls("localhost", authority.cert_file, cert=cert, key=key)
        endpoint = wrapClientTLS(tls, HostnameEndpoint(reactor, "127.0.0.1", port.number))
        await endpoint.connect(Factory.forProtocol(Protocol))
        await until(lambda: len(port.served) > before)

    def trust(pem: bytes) -> None:
        theirs.write_bytes(pem)
        fresh = ServerContext(attrs.evolve(context.tls, client_ca=str(theirs)))
        fresh.reload()
        context.become(fresh)

    try:
        await connect(shows=True)
        await connect(shows=False)
        with capturedLogs() as events:
            trust(clients.ca.read_bytes() + later.ca.read_bytes())
            assert not [event for event in events if "connection ends" in _format(event)]
            trust(later.ca.read_bytes())
        assert len([event for event in events if "connection ends" in _format(event)]) == 1
        await port.served[0].lost
        assert [served.events[-1] for served in port.served] == ["lost", "made"]
    finally:
        await port.close()

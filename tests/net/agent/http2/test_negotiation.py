"""What is spoken with an https service is the service's choice (ALPN)."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

from pico_twisted.config import ServiceAddress, ServiceTlsConfig
from tests.net.agent.agent_fakes import OK, Request
from tests.net.agent.service_bench import Client, Service, ServiceBench, answered
from tests.net.in_reactor import in_reactor, until
from tools.stage.certificates import Authority


class Choosing:
    """An https service that knows some protocols, and a forwarder that trusts it."""

    def __init__(self, directory: Path, alpn: list[str], protocol: str = "http") -> None:
        authority = Authority(directory)
        pair = authority.issue("service", ("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        if alpn:
            context.set_alpn_protocols(alpn)
        self.service = Service(context=context)
        self.bench = ServiceBench(
            ServiceAddress("https", "127.0.0.1", self.service.port),
            tls=ServiceTlsConfig(ca=str(authority.ca)),
            protocol=protocol,
        )

    def chosen(self, client: Client) -> str | None:
        """What was negotiated on a connection."""
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.selected_alpn_protocol()

    async def close(self) -> None:
        await self.bench.close()
        self.service.close()


class Speaker:
    """Answers requests of HTTP/2 on a connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()

    async def answer(self, request: Request) -> None:
        """Answer the next request, and see that it gets there."""
        await self.client.send(self.h2.data_to_send())
        asked: list[int] = []

        def received() -> list[int]:
            self.client.look()
            came, self.client.received = self.client.received, b""
            for event in self.h2.receive_data(came) if came else ():
                if isinstance(event, RequestReceived):
                    assert event.stream_id
                    asked.append(event.stream_id)
            return asked

        await until(received, "a request")
        self.h2.send_headers(asked[0], [(":status", "200")])
        self.h2.send_data(asked[0], b"two", end_stream=True)
        await self.client.send(self.h2.data_to_send())
        await answered(request)
        assert request.body == b"two"


@in_reactor
async def test_a_service_that_chooses_http2(tmp_path: Path) -> None:
    """All calls go over the one connection."""
    choosing = Choosing(tmp_path, ["h2", "http/1.1"])
    request = choosing.bench.request(b"GET /")
    client = await choosing.service.accept()
    assert choosing.chosen(client) == "h2"
    speaker = Speaker(client)
    await speaker.answer(request)
    await speaker.answer(choosing.bench.request(b"GET /again"))
    await choosing.close()


@pytest.mark.parametrize("alpn", [["http/1.1"], []])
@in_reactor
async def test_a_service_that_chooses_http1(tmp_path: Path, alpn: list[str]) -> None:
    """What came of a request meanwhile goes on over HTTP/1.1, and the next calls ask no more."""
    choosing = Choosing(tmp_path, alpn)
    request = choosing.bench.request(b"POST /", b"Content-Length: 6\r\n", more=True)
    request.send(b"one")
    client = await choosing.service.accept()
    assert choosing.chosen(client) == (alpn[0] if alpn else None)
    request.send(b"two", False)
    sent = await client.request()

    def whole() -> bool:
        client.look()
        return (sent + client.received).endswith(b"onetwo")

    await until(whole, "the body")
    client.received = b""
    assert sent.startswith(b"POST / HTTP/1.1\r\n")
    await client.send(OK)
    await answered(request)
    assert request.body == b"ok"
    assert choosing.bench.local.chose_http1
    request = choosing.bench.request(b"GET /again")
    assert b"GET /again HTTP/1.1" in await client.request()
    await client.send(OK)
    await answered(request)
    await choosing.close()


@pytest.mark.parametrize(
    "extra", [b"Connection: Upgrade\r\nUpgrade: echo\r\n", b"Authorization: Negotiate abc\r\n"], ids=["upgrade", "ntlm"]
)
@in_reactor
async def test_what_http2_cannot_do_has_a_connection_of_http1(tmp_path: Path, extra: bytes) -> None:
    """Upgrades, and logins that are a connection's (NTLM), go over HTTP/1.1 to a service that has both."""
    choosing = Choosing(tmp_path, ["h2", "http/1.1"])
    request = choosing.bench.request(b"GET /", extra, more=b"Upgrade" in extra)
    client = await choosing.service.accept()
    assert choosing.chosen(client) == "http/1.1"
    await client.request()
    await client.send(OK)
    await answered(request)
    await choosing.close()


@pytest.mark.parametrize("alpn", [["http/1.1"], []])
@in_reactor
async def test_a_listener_of_grpc_needs_http2(tmp_path: Path, alpn: list[str]) -> None:
    """A service that does not choose it is not reached."""
    choosing = Choosing(tmp_path, alpn, "grpc")
    request = choosing.bench.request(b"POST /", b"Content-Length: 0\r\n")
    with contextlib.suppress(OSError):  # the agent may be gone before the handshake ends
        await choosing.service.accept()
    await answered(request)
    assert request.status == 502 and request.error == "agent-1; service-unreachable"
    await choosing.close()

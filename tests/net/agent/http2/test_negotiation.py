"""What is spoken with an https service is the service's choice (ALPN)."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived

from pico_twisted.config import ServiceAddress, ServiceTlsConfig
from tests.net.agent.agent_fakes import OK, Request
from tests.net.agent.service_bench import Client, Service, ServiceBench, answered
from tests.net.in_reactor import in_reactor, until
from tools.stage.certificates import Authority


class Choosing:
    """An https service that knows some protocols, and a forwarder that trusts it.

    Attributes:
        context: of its TLS.
    """

    def __init__(self, directory: Path, alpn: list[str], protocol: str = "http") -> None:
        authority = Authority(directory)
        pair = authority.issue("service", ("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        if alpn:
            context.set_alpn_protocols(alpn)
        self.context = context
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

    async def asked(self, body: bytes = b"") -> int:
        """The stream of the next request, once this much of its body is there."""
        await self.client.send(self.h2.data_to_send())
        asked: list[int] = []
        came_of_body = b""

        def received() -> bool:
            nonlocal came_of_body
            self.client.look()
            came, self.client.received = self.client.received, b""
            for event in self.h2.receive_data(came) if came else ():
                if isinstance(event, RequestReceived):
                    assert event.stream_id
                    asked.append(event.stream_id)
                elif isinstance(event, DataReceived):
                    came_of_body += event.data or b""
            return bool(asked) and came_of_body == body

        await until(received, "a request")
        return asked[0]

    async def answer(self, request: Request) -> None:
        """Answer the next request, and see that it gets there."""
        stream = await self.asked()
        self.h2.send_headers(stream, [(":status", "200")])
        self.h2.send_data(stream, b"two", end_stream=True)
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


async def goes_on_over_http1(choosing: Choosing, request: Request) -> None:
    """A request of which `one` came goes on over HTTP/1.1, whole; and its caller has credit for all of it, once."""
    client = await choosing.service.accept()
    assert choosing.chosen(client) == "http/1.1"
    request.send(b"two")
    request.end_with(b"x-sum: 1\r\n")
    sent = await client.request()

    def whole() -> bool:
        client.look()
        return (sent + client.received).endswith(b"0\r\nx-sum: 1\r\n\r\n")

    await until(whole, "the body")
    body = (sent + client.received).partition(b"\r\n\r\n")[2]
    assert sent.startswith(b"POST /a HTTP/1.1\r\n") and body.index(b"one") < body.index(b"two")
    await client.send(OK)
    await answered(request)
    assert request.body == b"ok"
    assert not choosing.bench.tunnel.held_bytes()


@in_reactor
async def test_a_request_that_wants_http1_gets_it(tmp_path: Path) -> None:
    """A service that refuses a request over HTTP/2 (HTTP_1_1_REQUIRED, as for logins of a connection) is asked over
    HTTP/1.1, whatever the method. Other requests go over HTTP/2 as before."""
    choosing = Choosing(tmp_path, ["h2", "http/1.1"])
    request = choosing.bench.request(b"POST /a", b"Trailer: X-Sum\r\n", more=True)
    request.send(b"one")
    speaker = Speaker(await choosing.service.accept())
    stream = await speaker.asked(b"one")
    speaker.h2.reset_stream(stream, ErrorCodes.HTTP_1_1_REQUIRED)
    await speaker.client.send(speaker.h2.data_to_send())
    await goes_on_over_http1(choosing, request)
    assert b'pico_retries_total{reason="http1-required"} 1.0' in choosing.bench.metrics.exposition()
    assert not choosing.bench.local.chose_http1
    await speaker.answer(choosing.bench.request(b"GET /b"))
    await choosing.close()


@in_reactor
async def test_a_request_that_is_sent_again_to_a_service_of_http1(tmp_path: Path) -> None:
    """A service that goes away (GOAWAY) without having looked at a request may have been replaced by one that speaks
    HTTP/1.1 alone: that serves the request."""
    choosing = Choosing(tmp_path, ["h2", "http/1.1"])
    request = choosing.bench.request(b"POST /a", b"Trailer: X-Sum\r\n", more=True)
    request.send(b"one")
    speaker = Speaker(await choosing.service.accept())
    await speaker.asked(b"one")
    choosing.context.set_alpn_protocols(["http/1.1"])
    speaker.h2.close_connection(last_stream_id=0)
    await speaker.client.send(speaker.h2.data_to_send())
    await goes_on_over_http1(choosing, request)
    assert choosing.bench.local.chose_http1
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

"""The agent's connections to a real service, on real sockets, plain and over TLS."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from pico_twisted.config import ServiceAddress, ServiceTlsConfig
from pico_twisted.net.agent.serving import connection, upgraded
from tests.net.agent.service_bench import OK, SWITCHED, UPGRADE, Client, Service, ServiceBench, answered, begun
from tests.net.in_reactor import finish, in_reactor, reactor, until
from tools.stage.certificates import Authority, Pair


@pytest.fixture
def service() -> Iterator[Service]:
    """A service on 127.0.0.1."""
    found = Service()
    yield found
    found.close()


@pytest.fixture
def bench(service: Service) -> Iterator[ServiceBench]:
    """A forwarder to that service."""
    found = ServiceBench(ServiceAddress("http", "127.0.0.1", service.port))
    yield found
    finish(found.close())


async def warmed(bench: ServiceBench, service: Service) -> Client:
    """The service's side of a connection that served a request and is kept."""
    request = bench.request(b"GET /")
    client = await service.answer(OK)
    await answered(request)
    return client


@in_reactor
async def test_a_request_and_its_answer(bench: ServiceBench, service: Service) -> None:
    """Over a real connection, which is used again."""
    client = None
    for number in (1, 2, 3):
        request = bench.request(b"GET /%d" % number)
        client = client or await service.accept()
        assert (await client.request()).startswith(b"GET /%d " % number)
        await client.send(OK)
        await answered(request)
        assert request.body == b"ok"


@in_reactor
@pytest.mark.parametrize(
    ("happened", "method"),
    [
        pytest.param("closed", b"POST", id="closed a moment ago, and a POST cannot be sent twice"),
        pytest.param("reset", b"GET", id="reset, and a GET is sent again"),
        pytest.param("stale", b"GET", id="bytes wait that would be taken for the answer to a GET"),
        pytest.param("stale", b"POST", id="bytes wait that would be taken for the answer to a POST"),
    ],
)
async def test_a_kept_connection_that_is_none_any_more(
    bench: ServiceBench, service: Service, happened: str, method: bytes
) -> None:
    """The socket itself is asked, as the reactor has not noticed yet: the request goes out on a fresh connection, and
    the caller notices nothing."""
    client = await warmed(bench, service)
    if happened == "stale":
        client.sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")
    else:
        if happened == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()
    request = bench.request(method + b" /once", b"Content-Length: 0\r\n" if method == b"POST" else b"")
    fresh = await service.accept()
    assert (await fresh.request()).startswith(method + b" /once ")
    await fresh.send(OK)
    await answered(request)
    assert request.body == b"ok"


@in_reactor
async def test_the_service_sees_at_once_that_the_caller_left(bench: ServiceBench, service: Service) -> None:
    """Within a second, while it works on the answer and while it writes it."""
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"):
        request = bench.request(b"GET /")
        client = await service.accept()
        await client.request()
        if answer:
            await client.send(answer)
            await begun(request)
        start = reactor.seconds()
        request.cancel()
        await client.gone()
        assert reactor.seconds() - start < 1.0


@pytest.mark.parametrize("name", ["{}/service.sock", "@pico-test-{}"])
@in_reactor
async def test_a_unix_socket(tmp_path: Path, name: str) -> None:
    """With a file or without one, a service on it is used as one of a port: kept, closed, asked again, not found."""
    path = name.format(tmp_path)
    service = Service(path="\0" + path[1:] if path.startswith("@") else path)
    bench = ServiceBench(ServiceAddress("http", "", 0, path))
    client = None
    for size in (2, 2_000_000, 3):
        request = bench.request(b"GET /")
        client = client or await service.accept()
        await client.request()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"s" * size)
        await answered(request)
        assert request.body == b"s" * size
    assert client is not None
    client.sock.close()
    request = bench.request(b"POST /", b"Content-Length: 0\r\n")
    await service.answer(OK)
    await answered(request)
    assert request.body == b"ok"
    service.close()
    request = bench.request(b"GET /")
    await answered(request)
    assert request.status == 502 and request.error == "agent-1; service-unreachable"
    await bench.close()


@in_reactor
async def test_a_closed_port_is_unreachable_at_once(service: Service) -> None:
    """502, without waiting for anything."""
    port = service.port
    service.close()
    bench = ServiceBench(ServiceAddress("http", "127.0.0.1", port))
    request = bench.request(b"GET /")
    await answered(request)
    assert request.status == 502 and request.error == "agent-1; service-unreachable"
    await bench.close()


@pytest.mark.parametrize(
    ("host", "bound"),
    [("localhost", "127.0.0.1"), ("localhost", "::1"), ("::1", "::1"), ("127.0.0.1", "127.0.0.1")],
)
@in_reactor
async def test_names_and_both_kinds_of_addresses(host: str, bound: str) -> None:
    """A service is found by name, by IPv4 and by IPv6; this machine by either, whatever /etc/hosts says of its name."""
    service = Service(bound)
    bench = ServiceBench(ServiceAddress("http", host, service.port))
    request = bench.request(b"GET /")
    client = await service.answer(OK)
    await answered(request)
    assert request.body == b"ok"
    assert client.sock.getpeername()[0] == bound
    await bench.close()
    service.close()


@in_reactor
async def test_a_service_that_does_not_read_stops_the_caller(bench: ServiceBench, service: Service) -> None:
    """The kernel's buffers, the transport's and one window: no more is taken from the caller, and all arrives."""
    size = 40_000_000
    request = bench.request(b"PUT /", b"Content-Length: %d\r\n" % size, more=True)
    client = await service.accept()
    sent = 0
    still = 0
    while still < 50:
        await deferLater(reactor, 0.002)
        still += 1
        while request.call.credit > 0 and request.call.queued == 0 and sent < size:
            piece = b"x" * min(60_000, size - sent)
            sent += len(piece)
            still = 0
            request.send(piece, more=sent < size)
    assert sent < size / 2
    assert bench.tunnel.held_bytes() <= 2 * 256 * 1024
    received = 0

    def read() -> bool:
        nonlocal received, sent
        client.look()
        received += len(client.received)
        client.received = b""
        while request.call.credit > 0 and request.call.queued == 0 and sent < size:
            piece = b"x" * min(60_000, size - sent)
            sent += len(piece)
            request.send(piece, more=sent < size)
        return received >= size

    await until(read, "the whole body")
    await client.send(OK)
    await answered(request)
    assert request.body == b"ok"


@in_reactor
async def test_a_caller_that_does_not_read_stops_the_service(bench: ServiceBench, service: Service) -> None:
    """What the agent holds is bounded, and all arrives in the end."""
    size = 20_000_000
    request = bench.request(b"GET /", greedy=False)
    client = await service.accept()
    await client.request()
    client.sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    sent = 0
    still = 0
    piece = memoryview(b"y" * 65536)
    while still < 50:
        try:
            sent += client.sock.send(piece[: size - sent])
            still = 0
        except BlockingIOError:
            still += 1
            await deferLater(reactor, 0.002)
    assert sent < size
    assert bench.tunnel.held_bytes() <= 128 * 1024 + 65536
    request.greedy = True
    request.take(len(request.received))
    await client.send(b"y" * (size - sent))
    await answered(request)
    assert len(request.body) == size


@in_reactor
async def test_half_closed_and_paused_loses_nothing(bench: ServiceBench, service: Service) -> None:
    """The caller ended its stream and reads slowly; the service sends much and closes: every byte arrives, then the
    end."""
    request = bench.request(b"GET /", UPGRADE, more=True, greedy=False)
    client = await service.answer(SWITCHED)
    await begun(request)
    request.send(b"that was all", more=False)
    assert await client.rest() == b"that was all"
    size = 3_000_000
    sending = Deferred.fromCoroutine(client.send(b"z" * size))
    await deferLater(reactor, 0.2)
    taken = 0
    while not sending.called:
        request.take(len(request.received) - taken)
        taken = len(request.received)
        await deferLater(reactor, 0.002)
    client.sock.close()
    await deferLater(reactor, 0.2)
    assert not request.ended, "the test is about what is still to be read"
    request.greedy = True
    request.take(len(request.received) - taken)
    await answered(request)
    assert request.reset_code is None
    assert len(request.body) == size


@in_reactor
async def test_a_hundred_upgraded_calls_and_requests_beside_them(bench: ServiceBench, service: Service) -> None:
    """Each has its own connection, and none holds up the others."""
    calls = []
    for number in range(100):
        request = bench.request(b"GET /%d" % number, UPGRADE, more=True)
        client = await service.answer(SWITCHED)
        calls.append((request, client))
    await until(lambda: all(request.frames for request, _ in calls))
    small = bench.request(b"GET /small")
    client = await service.answer(OK)
    await answered(small)
    for number, (_, client) in enumerate(calls):
        await client.send(b"%d" % number)
    await until(lambda: all(request.body for request, _ in calls))
    assert [request.body for request, _ in calls] == [b"%d" % number for number in range(100)]
    for request, client in calls:
        request.send(b"", more=False)
        client.sock.close()
    await until(lambda: not bench.local.calls)


# TLS


class Secure:
    """An https service and a forwarder that trusts its authority, or has other settings."""

    def __init__(
        self, directory: Path, names: tuple[str, ...] = ("127.0.0.1",), *, trusted: bool = True, **tls: Any
    ) -> None:
        authority = Authority(directory)
        pair = authority.issue("service", names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self.service = Service(context=context)
        address = ServiceAddress("https", "127.0.0.1", self.service.port)
        if trusted:
            tls["ca"] = str(authority.ca)
        self.bench = ServiceBench(address, tls=ServiceTlsConfig(**tls))

    async def close(self) -> None:
        await self.bench.close()
        self.service.close()


@in_reactor
async def test_https_to_the_service(tmp_path: Path) -> None:
    """Requests and answers over one kept TLS connection, a large one too."""
    secure = Secure(tmp_path)
    client = None
    for size in (2, 2_000_000, 3):
        request = secure.bench.request(b"POST /", b"Content-Length: 0\r\n")
        client = client or await secure.service.accept()
        await client.request()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"s" * size)
        await answered(request)
        assert request.body == b"s" * size
    await secure.close()


@pytest.mark.parametrize(
    ("trusted", "tls"), [(True, {"server_name": "shop.internal"}), (False, {"verify": False})], ids=["name", "any"]
)
@in_reactor
async def test_a_service_with_a_certificate_of_its_own_kind(
    tmp_path: Path, trusted: bool, tls: dict[str, Any], lines: Callable[[str], list[LogEvent]]
) -> None:
    """A listener may say which name the certificate is for, or that it is not to be checked; that is warned of."""
    secure = Secure(tmp_path, ("shop.internal",), trusted=trusted, **tls)
    assert len(lines("The certificate of the service is not checked")) == (not trusted)
    request = secure.bench.request(b"GET /")
    await secure.service.answer(OK)
    await answered(request)
    assert request.body == b"ok"
    await secure.close()


@pytest.mark.parametrize(("names", "trusted"), [(("127.0.0.1",), False), (("other.example",), True)])
@in_reactor
async def test_a_certificate_that_is_not_good_reaches_nothing(
    tmp_path: Path, names: tuple[str, ...], trusted: bool
) -> None:
    """502 unreachable: not a byte of the request was sent, and the reason is logged."""
    secure = Secure(tmp_path, names, trusted=trusted)
    request = secure.bench.request(b"GET /")
    with pytest.raises((OSError, ssl.SSLError)):
        await (await secure.service.accept()).request()
    await answered(request)
    assert request.error == "agent-1; service-unreachable"
    await secure.close()


@in_reactor
async def test_a_body_over_tls_that_is_cut_is_no_whole_body(tmp_path: Path) -> None:
    """Only close_notify ends it: anybody on the way can make a FIN."""
    secure = Secure(tmp_path)
    for graceful in (True, False):
        request = secure.bench.request(b"GET /")
        client = await secure.service.answer(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await begun(request)
        if graceful:
            sock = client.sock
            assert isinstance(sock, ssl.SSLSocket)
            with pytest.raises((ssl.SSLWantReadError, OSError)):
                sock.unwrap()
        client.sock.close()
        await answered(request)
        assert request.reset_code == (None if graceful else "failed")
    await secure.close()


@in_reactor
async def test_the_caller_half_closes_an_upgraded_call_over_tls(tmp_path: Path) -> None:
    """The service reads the end, and what it still says arrives."""
    secure = Secure(tmp_path)
    request = secure.bench.request(b"GET /", UPGRADE, more=True)
    client = await secure.service.answer(SWITCHED)
    await begun(request)
    request.send(b"question", more=False)
    assert await client.rest() == b"question"
    await client.send(b"answer")
    sock = client.sock
    assert isinstance(sock, ssl.SSLSocket)
    try:
        sock.unwrap()
    except (ssl.SSLWantReadError, OSError):
        pass
    await answered(request)
    assert request.body == b"answer" and request.reset_code is None
    await secure.close()


@in_reactor
async def test_a_service_that_asks_who_the_agent_is(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The listener's certificate is shown; one that the service does not know is an unreachable service; and files that
    have changed are used for the next connection."""
    authority, others = Authority(tmp_path), Authority(tmp_path_factory.mktemp("others"))
    pair = authority.issue("service", ("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # so that the handshake itself fails
    service = Service(context=context)
    ours, wrong = authority.issue("agent", client=True), others.issue("agent", client=True)
    shown = tmp_path / "shown.pem", tmp_path / "shown.key"

    def show(one: Pair) -> None:
        shown[0].write_bytes(one.cert.read_bytes())
        shown[1].write_bytes(one.key.read_bytes())

    show(wrong)
    tls = ServiceTlsConfig(ca=str(authority.ca), cert=str(shown[0]), key=str(shown[1]))
    bench = ServiceBench(ServiceAddress("https", "127.0.0.1", service.port), tls=tls)
    request = bench.request(b"GET /")
    with pytest.raises(ssl.SSLError):
        await service.accept()
    await answered(request)
    assert request.error == "agent-1; service-unreachable"
    show(ours)
    request = bench.request(b"GET /")
    client = await service.answer(OK)
    await answered(request)
    assert request.body == b"ok"
    assert isinstance(client.sock, ssl.SSLSocket) and client.sock.getpeercert()
    await bench.close()
    service.close()


@pytest.mark.parametrize("first", ["service", "caller"])
@in_reactor
async def test_the_last_bytes_may_take_their_time(
    bench: ServiceBench, service: Service, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever side ended first: a service that takes nothing for a while gets all that its caller said, and the call
    lasts until then."""
    monkeypatch.setattr(connection, "CLOSE_S", 0.05)
    monkeypatch.setattr(upgraded, "LOOK_S", 0.05)
    request = bench.request(b"GET /", UPGRADE, more=True)
    client = await service.answer(SWITCHED)
    await begun(request)
    (to_service,) = bench.local.connections
    if first == "service":
        client.sock.shutdown(socket.SHUT_WR)
        await until(lambda: request.ended)
    size = 0
    while to_service.sent_all:
        request.send(bytes(32_768))
        size += 32_768
        await deferLater(reactor, 0)
    request.send(b"", more=False)
    if first == "caller":
        client.sock.shutdown(socket.SHUT_WR)
        await until(lambda: request.ended)
    await deferLater(reactor, 0.5)
    assert bench.local.calls
    assert len(await client.rest()) == size
    await until(lambda: not bench.local.calls and not bench.local.connections)
    assert request.reset_code is None

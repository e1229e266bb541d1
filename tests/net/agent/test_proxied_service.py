"""Services that are told the client's address with the first bytes of a connection (PROXY protocol)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pico_twisted.config import ServiceAddress, ServiceTlsConfig
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.proxy_protocol import write_proxy_header
from pico_twisted.net.agent.serving import http1_service, per_client
from tests.net.agent.agent_fakes import OK, Bench, FakeTransport
from tests.net.agent.service_bench import Service, ServiceBench, answered
from tests.net.in_reactor import in_reactor
from tools.stage.certificates import Authority

ANN, BOB = b"X-Forwarded-For: 203.0.113.9\r\n", b"X-Forwarded-For: 2001:db8::7, 10.0.0.1\r\n"


@pytest.fixture
def bench() -> Bench:
    """A listener with headers, on a virtual clock."""
    return Bench(proxy_protocol="v2")


def served(bench: Bench, client: bytes) -> FakeTransport:
    """A request of a client that was answered; returns where it went."""
    before = {transport: transport.taken() for transport in bench.service.transports}
    request = bench.get(extra=client)
    (used,) = [one for one in bench.service.transports if one not in before or one.value()]
    used.taken()
    used.answer(OK)
    assert request.ended
    return used


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["tcp", "unix", "https"])
@in_reactor
async def test_the_first_bytes_tell_the_client(kind: str, version: int, tmp_path: Path) -> None:
    """Each connection begins with its client's header, in front of TLS too; then comes HTTP as ever, and a further
    request of the client needs no other connection."""
    context, tls = None, ServiceTlsConfig()
    if kind == "https":
        authority = Authority(tmp_path)
        pair = authority.issue("service", ("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        tls = ServiceTlsConfig(ca=str(authority.ca))
    for client, ip in ((ANN, "203.0.113.9"), (BOB, "2001:db8::7"), (b"", "unknown")):
        header = write_proxy_header(version, ip, 8443)
        path = f"{tmp_path}/{ip}.sock" if kind == "unix" else ""
        service = Service(context=context, path=path, header_bytes=len(header))
        scheme = "https" if kind == "https" else "http"
        address = ServiceAddress(scheme, "" if path else "127.0.0.1", service.port, path)
        bench = ServiceBench(address, tls=tls, proxy_protocol=f"v{version}")
        extra = client + b"X-Forwarded-Port: 8443\r\n"
        request = bench.request(b"GET /one", extra)
        connection = await service.accept()
        assert service.headers == [header]
        for target in (b"/one", b"/two"):
            if target == b"/two":
                request = bench.request(b"GET /two", extra)
            assert (await connection.request()).startswith(b"GET " + target)
            await connection.send(OK)
            await answered(request)
            assert request.body == b"ok"
        await bench.close()
        service.close()


def test_a_connection_is_one_client_s(bench: Bench) -> None:
    """Nobody else's request goes out on it, before and after it was idle; the client's own requests do."""
    ann, bob, nobody = served(bench, ANN), served(bench, BOB), served(bench, b"")
    assert len({ann, bob, nobody}) == 3
    for _ in range(2):
        assert served(bench, BOB) is bob
        assert served(bench, ANN) is ann
        assert served(bench, b"X-Forwarded-For: _hidden\r\n") is nobody


def test_a_client_s_connection_behind_a_proxy_may_be_of_several_clients(bench: Bench) -> None:
    """A name of the connection that a node took does not lead to a connection with another client's header."""
    named = CLIENT_CONNECTION + b": %032x\r\n" % 1
    ann = served(bench, named + ANN)
    assert served(bench, named + ANN) is ann
    bob = served(bench, named + BOB)
    assert bob is not ann
    assert served(bench, named + BOB) is bob


def test_a_new_client_finds_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of clients that are gone are as few as any other idle ones, and the oldest makes room."""
    monkeypatch.setattr(per_client, "MAX_BUSY", 3)
    monkeypatch.setattr(http1_service, "MAX_BUSY", 3)
    clients = [b"X-Forwarded-For: 192.0.2.%d\r\n" % number for number in range(6)]
    used = [served(bench, client) for client in clients]
    assert len(bench.local.connections) == 3
    assert [served(bench, client) for client in clients[3:]] == used[3:]
    assert served(bench, clients[0]) is not used[0]


def test_nothing_is_kept_of_clients_that_are_gone(bench: Bench) -> None:
    """When their connections were closed by age or by the service, no trace of them is left."""
    for number in range(20):
        used = served(bench, b"X-Forwarded-For: 192.0.2.%d\r\n" % number)
        if number % 2:
            used.finish()
    bench.pass_time(60)
    assert isinstance(bench.local, per_client.PerClientService)
    assert not bench.local.connections and not bench.local._idle_by_header


def test_a_dead_connection_of_the_client_is_replaced(bench: Bench) -> None:
    """As for any other service: a GET on a kept connection that turns out dead is sent again, for the same client."""
    ann = served(bench, ANN)
    request = bench.get(extra=ANN)
    ann.lose()
    bench.service.last.answer(OK)
    assert request.ended and request.body == b"ok"
    assert served(bench, ANN) is bench.service.last

"""PROXY protocol headers on the proxy port: who may send them, and what becomes of bad ones."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address

from pico_twisted.net.proxy.proxy_protocol import ProxyHeaderFactory
from tests.doubles.node import pass_time
from tests.doubles.transport import MemoryTransport
from tests.net.proxy.proxy_client import GET, Client

HEADER = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n"


class Behind(Client):
    """A connection to a port that expects headers from 10.0.0.0/8, from a proxy there or from anybody else."""

    def __init__(self, data: bytes = b"", *, host: str = "10.0.0.1") -> None:
        super().__init__()
        self.headers = ProxyHeaderFactory(
            self.parts.proxy, lambda ip: ip.startswith("10."), self.parts.sweep, timeout_s=10.0
        )
        self.transport = MemoryTransport(self.clock, IPv4Address("TCP", host, 1))
        self.transport.connect(self.headers.buildProtocol(self.transport.getPeer()))
        if data:
            self.send(data)

    @property
    def refused(self) -> dict[str, float]:
        """How many connections were refused, by reason."""
        (family,) = self.headers.metrics()
        return {sample.labels["reason"]: sample.value for sample in family.samples}


def test_the_client_is_the_one_of_the_header() -> None:
    """The client's address is the header's, for the service and in the access log; more requests may follow."""
    client = Behind(HEADER + GET)
    for _ in range(2):
        assert b"X-Forwarded-For: 203.0.113.9\r\n" in client.call.first
        client.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert client.answer()[0] == 200
        client.send(GET)
    assert [line["client"] for line in client.log] == ["203.0.113.9"] * 2
    assert not client.headers.waiting and client.refused == {}


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"])
def test_a_proxy_that_speaks_for_itself(header: bytes) -> None:
    """A check of the proxy itself, and a client that it does not know, is from the proxy's own address."""
    client = Behind()
    for at in range(len(header)):
        client.send(header[at : at + 1])
    client.send(GET)
    assert b"X-Forwarded-For: 10.0.0.1\r\n" in client.call.first


@pytest.mark.parametrize("data", [GET, b"PROXY TCP9 a b c d\r\n" + GET, b"\x16\x03\x01\x00"])
def test_a_trusted_proxy_without_a_header(data: bytes) -> None:
    """A trusted proxy has to send a header: without one nothing is served, which is counted and logged."""
    client = Behind(data)
    assert client.transport.over and client.taken() == b"" and client.tunnel.opened == []
    assert client.refused == {"bad": 1} and not client.headers.waiting


def test_a_header_that_does_not_come() -> None:
    """A slow header ends its connection, however its bytes trickle; a connection that only looks is no fault."""
    client = Behind(b"PROX")
    pass_time(client.clock, 9.0)
    client.send(b"Y ")
    assert not client.transport.over
    pass_time(client.clock, 1.5)
    assert client.transport.over and client.refused == {"late": 1}
    client = Behind()
    client.transport.receive_fin()
    client.clock.advance(0)
    assert client.refused == {} and not client.headers.waiting


def test_a_stranger() -> None:
    """Anybody else is served without a header, and is refused with one."""
    assert Behind(GET, host="192.0.2.7").tunnel.opened
    client = Behind(HEADER + GET, host="192.0.2.7")
    assert client.answer()[0] == 400 and client.tunnel.opened == []

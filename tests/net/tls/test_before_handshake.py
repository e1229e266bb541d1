"""TLS on the ports, before the handshake."""

from __future__ import annotations

import json

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread

from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tls.port_context import ServerContext
from pico_twisted.net.tls.server import (
    MAX_HANDSHAKES,
    MAX_PLAIN_DISCARDED_BYTES,
    PLAIN_CLIENT_LEAVES_S,
    TLS_HANDSHAKE_S,
    FirstByte,
    SniffingFactory,
)
from tests.net.in_reactor import answer_to, in_reactor
from tests.net.tls.tls_port import Port

ADDRESS = IPv4Address("TCP", "127.0.0.1", 4321)
BIG_POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"


class TestBeforeTheHandshake:
    @in_reactor
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_plain_http(self, port: Port, method: str) -> None:
        """A plain HTTP client reads in JSON that the port speaks TLS, and the served protocol never sees it."""
        pieces = (method.encode(), b" / HTTP/1.1\r\nHost: x\r\n", b"\r\n")
        head, _, body = (await deferToThread(answer_to, port.number, *pieces)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"x-pico-error: n1; tls-required" in head
        assert b"content-type: application/json" in head
        if method == "GET":
            assert json.loads(body) == {"error": "this port speaks TLS: use https"}
            assert b"content-length: %d" % len(body) in head
        else:
            assert body == b""
        assert port.served == []

    @in_reactor
    @pytest.mark.parametrize(
        ("pieces", "end", "answer"),
        [
            pytest.param((BIG_POST, b"x" * 900_000), False, b"HTTP/1.1 400 ", id="goes on sending a body"),
            pytest.param((b"GET / HT",), True, b"HTTP/1.1 400 ", id="ends its side in the middle of its head"),
            pytest.param((b"\x16\x03\x01\x00\x05hello",), False, b"\x15\x03", id="garbage that looks like TLS"),
        ],
    )
    async def test_odd_clients(self, port: Port, pieces: tuple[bytes, ...], end: bool, answer: bytes) -> None:
        """Plain HTTP is answered whatever the client does meanwhile, as nothing is closed under unread bytes; a broken
        handshake is answered with a TLS alert."""
        assert (await deferToThread(answer_to, port.number, *pieces, end=end)).startswith(answer)
        assert port.served == []

    @in_reactor
    async def test_nothing(self, port: Port) -> None:
        """A connection that is closed without a byte, or in the middle of the handshake, leaves nothing behind."""
        assert await deferToThread(answer_to, port.number, end=True) == b""
        try:
            await deferToThread(answer_to, port.number, b"\x16\x03\x01\x02\x00\x01", end=True)
        except ConnectionResetError:
            pass
        assert port.served == []

    def sniffer(self, context: ServerContext) -> tuple[Clock, ReactorSweep, FirstByte, StringTransport]:
        clock = Clock()
        timer = ReactorSweep(clock)
        timer.start()
        factory = SniffingFactory(Factory.forProtocol(Protocol), context, "n1", timer=timer, clock=clock)
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
        clock.pump([0.2] * int((TLS_HANDSHAKE_S - 1) / 0.2))
        assert not transport.disconnecting
        clock.pump([0.2] * 10)
        assert transport.disconnected
        timer.stop()

    def test_deadline_of_a_plain_head(self, context: ServerContext) -> None:
        """A plain client that does not finish its head is answered after ten seconds, and dropped soon after that."""
        clock, timer, protocol, transport = self.sniffer(context)
        protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        clock.pump([0.2] * int(TLS_HANDSHAKE_S / 0.2 + 2))
        assert transport.value().startswith(b"HTTP/1.1 400 ")
        assert not transport.disconnected
        clock.pump([0.2] * int(PLAIN_CLIENT_LEAVES_S / 0.2 + 2))
        assert transport.disconnected
        timer.stop()

    def test_endless_plain_request(self, context: ServerContext) -> None:
        """A plain head without end is answered once it is too long, and what follows is not read for ever."""
        _, timer, protocol, transport = self.sniffer(context)
        for _ in range(40):
            protocol.dataReceived(b"x" * 1024)
        assert transport.value().count(b"HTTP/1.1 400 ") == 1
        for _ in range(MAX_PLAIN_DISCARDED_BYTES // 65536 + 1):
            protocol.dataReceived(b"x" * 65536)
        assert transport.disconnected
        timer.stop()

    def test_too_many(self, context: ServerContext) -> None:
        """So many handshakes may be under way. One more ends the one that has been at it for longest, and no other."""
        clock = Clock()
        timer = ReactorSweep(clock)
        factory = SniffingFactory(Factory.forProtocol(Protocol), context, "n1", timer=timer, clock=clock)
        transports = [HalfTransport() for _ in range(MAX_HANDSHAKES + 2)]
        for transport in transports:
            protocol = factory.buildProtocol(ADDRESS)
            assert protocol is not None
            protocol.makeConnection(transport)
        assert [transport.disconnected for transport in transports] == [True, True] + [False] * MAX_HANDSHAKES
        assert len(factory.waiting) == MAX_HANDSHAKES

    def test_full(self, context: ServerContext) -> None:
        """A factory that takes no more connections is asked before anything else."""

        class Full(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        timer = ReactorSweep(Clock())
        factory = SniffingFactory(Full(), context, "n1", timer=timer, clock=Clock())
        assert factory.buildProtocol(ADDRESS) is None


class HalfTransport(StringTransport):
    """A StringTransport that can be half-closed and aborted."""

    disconnected = False

    def loseWriteConnection(self) -> None:
        pass

    def abortConnection(self) -> None:
        self.disconnected = True

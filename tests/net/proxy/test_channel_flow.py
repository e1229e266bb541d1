"""Connections of proxy clients: flow control, upgrades, and a node that drains."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_S, DRAIN_IDLE_S
from pico_twisted.net.proxy.http1.channel import READ_AHEAD_BYTES
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK, OK2, SWITCH
from tests.net.proxy.proxy_client import BIG_HEAD, CHUNKED, GET, UPGRADE, Client


class TestFlow:
    """Nobody holds more than is needed."""

    def test_slow_client(self) -> None:
        """While the client's transport is full no credit is given; what it holds is counted."""
        client = Client(GET)
        client.transport.takes = False
        client.respond(OK, True)
        for _ in range(3):
            client.respond(bytes(40_000), True)
        consumed = client.call.consumed
        assert consumed < 100_000
        assert client.parts.proxy.held_bytes() >= 64 * 1024
        client.pass_time(1)
        assert client.parts.budget.held >= 64 * 1024
        client.transport.take()
        assert client.call.consumed > consumed and client.parts.proxy.held_bytes() == 0
        client.transport.takes = True
        client.respond(b"end")
        assert client.taken().endswith(b"0\r\n\r\n")

    def test_slow_client_that_asks_on(self) -> None:
        """A client that does not take its answers gets no credit for the next one either."""
        client = Client(GET + GET)
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        assert len(client.tunnel.opened) == 2
        client.respond(OK + bytes(50_000), True)
        assert client.call.consumed == 0
        client.transport.take()
        assert client.call.consumed == len(OK) + 50_000

    def test_slow_service(self) -> None:
        """While much of a body waits the client is not read; then it goes on where it was."""
        client = Client(CHUNKED)
        client.tunnel.takes = False
        sent = 0
        while client.transport.reading:
            client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
            sent += 65535
            assert sent < 400_000
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert not client.call.send_ended
        client.call.take()
        client.clock.advance(0)
        assert client.transport.reading and client.call.send_ended
        assert len(client.call.sent) - len(client.call.first) == sent + 5
        client.tunnel.takes = True

    def test_two_reasons(self) -> None:
        """A connection that is paused for two reasons goes on when both are gone."""
        client = Client(CHUNKED)
        client.channel.pause_reading("request")
        client.channel.pause_reading("ahead")
        client.channel.resume_reading("request")
        client.channel.resume_reading("request")
        assert not client.transport.reading
        client.channel.resume_reading("ahead")
        assert client.transport.reading

    def test_paused_and_gone(self) -> None:
        """A client that leaves while it is not read is noticed by its reset."""
        client = Client(CHUNKED)
        client.tunnel.takes = False
        for _ in range(4):
            client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
        assert not client.transport.reading
        client.transport.receive_reset()
        assert client.call.reset_code == frames.CANCELLED

    def test_413_while_reading(self) -> None:
        """A body that gets too large for a v1 agent is refused in its middle."""
        client = Client(CHUNKED, tunnel=FakeTunnel(version=1, v1_body_bytes=100_000))
        for _ in range(2):
            client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (413, "close")
        client.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
        client.pass_time(CLIENT_LINGER_S + 0.5)
        assert client.transport.over and len(client.log) == 1


class TestUpgrades:
    """Raw bytes both ways."""

    def upgraded(self, early: bytes = b"") -> Client:
        """A connection whose upgrade was granted."""
        client = Client(UPGRADE + early)
        client.respond(SWITCH + b"first", True)
        status, fields, rest = client.answer()
        assert (status, fields["connection"], fields["upgrade"], rest) == (101, "Upgrade", "x", b"first")
        return client

    def test_both_ways(self) -> None:
        """Bytes pass as they are, those sent ahead of the 101 too; HTTP in them is none."""
        client = self.upgraded(b"early")
        client.send(GET)
        assert bytes(client.call.sent).endswith(b"\r\n\r\nearly" + GET)
        client.respond(OK2, True)
        assert client.taken() == OK2
        client.pass_time(60)
        assert not client.transport.over

    def test_client_ends(self) -> None:
        """The client's end goes to the service, whose bytes still come."""
        client = self.upgraded()
        client.transport.receive_fin()
        assert client.call.send_ended
        client.respond(b"last words", True)
        client.respond(b"")
        client.clock.advance(0)
        assert client.taken() == b"last words" and client.transport.over and not client.transport.aborted
        (line,) = client.log
        assert (line["status"], line["error"]) == (101, "")

    def test_service_ends(self) -> None:
        """The service's end goes to the client, whose bytes still go."""
        client = self.upgraded()
        client.respond(b"bye")
        assert client.taken() == b"bye" and client.transport.half_closed and not client.transport.over
        client.send(b"last words")
        assert bytes(client.call.sent).endswith(b"last words")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over

    def test_ended_before_the_101(self) -> None:
        """A client that half-closed behind its offer is upgraded, and its end goes to the service."""
        client = Client(UPGRADE + b"all I have to say")
        client.transport.receive_fin()
        client.respond(SWITCH, True)
        assert bytes(client.call.sent).endswith(b"all I have to say") and client.call.send_ended
        client.respond(b"answer")
        client.clock.advance(0)
        assert client.taken().endswith(b"answer") and client.transport.over

    @pytest.mark.parametrize("how", ["client", "service"])
    def test_gone(self, how: str) -> None:
        """When either end is gone, the other is dropped."""
        client = self.upgraded()
        if how == "client":
            client.transport.receive_reset()
            assert client.call.reset_code == frames.CANCELLED
        else:
            client.call.refuse(frames.FAILED)
            client.clock.advance(0)
            assert client.transport.aborted

    def test_declined(self) -> None:
        """A service that declines answers like any other, and the connection goes on."""
        client = Client(UPGRADE)
        client.respond(OK2 + b"no")
        assert client.answer()[0] == 200
        client.send(GET)
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200

    def test_many_early_bytes(self) -> None:
        """What a client sends ahead of a 101 is bounded."""
        client = Client(UPGRADE)
        while client.transport.reading:
            client.send(bytes(10_000))
        client.respond(SWITCH, True)
        client.clock.advance(0)
        assert client.transport.reading and len(client.call.sent) > READ_AHEAD_BYTES

    def test_slow_service(self) -> None:
        """Backpressure holds for upgraded bytes as well."""
        client = self.upgraded()
        client.tunnel.takes = False
        while client.transport.reading:
            client.send(bytes(60_000))
        client.call.take()
        assert client.transport.reading


class TestDraining:
    """A node that shuts down."""

    def test_idle_connections(self) -> None:
        """Idle connections have a moment left: a request that is on its way still gets its answer, with close."""
        client, late = Client(GET), None
        client.respond(OK2 + b"hi")
        client.taken()
        late = Client(parts=client.parts)
        client.parts.proxy.drain()
        client.pass_time(DRAIN_IDLE_S - 0.3)
        client.send(GET)
        client.respond(OK2 + b"hi")
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (200, "close")
        client.pass_time(0.7)
        assert client.transport.over and late.transport.over

    def test_in_progress(self) -> None:
        """A request in progress is finished, and its answer closes the connection."""
        client = Client(GET + GET)
        client.parts.proxy.drain()
        client.pass_time(3)
        client.respond(OK + b"some", True)
        assert client.answer()[1]["connection"] == "close"
        client.pass_time(3)
        client.respond(b"more")
        client.pass_time(CLIENT_LINGER_S + 1)
        assert client.transport.over and len(client.tunnel.opened) == 1

    def test_answer_that_began_before(self) -> None:
        """An answer that had begun when draining began ends, and then the connection does."""
        client = Client(GET)
        client.respond(OK + b"some", True)
        client.parts.proxy.drain()
        client.respond(b"more")
        assert client.taken().endswith(b"0\r\n\r\n")
        client.pass_time(DRAIN_IDLE_S + 0.3)
        assert client.transport.over

    def test_quiet(self) -> None:
        """The node knows when no request came for a while."""
        client = Client(GET)
        quiet = client.parts.proxy.quiet_for(1.0, client.clock)
        assert client.parts.proxy.serving() == 1
        client.pass_time(0.9)
        assert not quiet()
        client.pass_time(0.2)
        assert quiet()
        client.respond(OK2 + b"hi")
        assert client.parts.proxy.serving() == 0
        client.send(GET)
        client.respond(OK2 + b"hi")
        assert not quiet()

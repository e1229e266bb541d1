"""Connections of proxy clients: when they end, and what time does to them."""

from __future__ import annotations

import json

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_BYTES, CLIENT_LINGER_S
from tests.net.doubles import CONTINUE, OK, OK2, SWITCH
from tests.net.proxy.proxy_client import BIG_HEAD, CHUNKED, GET, POST, UPGRADE, Client

HEAD_TIMEOUT_S, KEEPALIVE_S, TIMEOUT_S, IDLE_S = 2.0, 6.0, 5.0, 8.0


class TestTime:
    """How long a client may take."""

    @pytest.mark.parametrize("trickle", [False, True])
    def test_slow_head(self, trickle: bool) -> None:
        """A head has its time in all, however it comes; then 408."""
        client = Client(b"GET / HTTP/1.1\r\n")
        for _ in range(10):
            client.pass_time(HEAD_TIMEOUT_S / 10 - 0.05)
            if trickle:
                client.send(b"X: y\r\n")
        assert client.taken() == b""
        client.pass_time(1.0)
        status, fields, _ = client.answer()
        assert (status, fields["x-pico-error"], fields["connection"]) == (408, "n1; request-timeout", "close")

    def test_silent_from_the_start(self) -> None:
        """A connection on which nothing comes is closed without a word."""
        client = Client()
        client.pass_time(HEAD_TIMEOUT_S + 0.2)
        assert client.transport.over and client.taken() == b"" and client.log == []

    def test_slow_second_head(self) -> None:
        """A later head has the same time, from its first byte."""
        client = Client(GET)
        client.respond(OK2 + b"hi")
        client.taken()
        client.pass_time(KEEPALIVE_S - 1)
        client.send(b"GET ")
        client.pass_time(HEAD_TIMEOUT_S - 0.3)
        assert client.taken() == b""
        client.pass_time(0.6)
        assert client.answer()[0] == 408

    def test_each_head_has_its_own_time(self) -> None:
        """The time that one head took is not taken from the next."""
        client = Client(GET[:10])
        client.pass_time(HEAD_TIMEOUT_S - 0.3)
        client.send(GET[10:])
        client.respond(OK2 + b"hi")
        client.pass_time(1)
        client.send(GET[:10])
        client.pass_time(HEAD_TIMEOUT_S - 0.3)
        client.send(GET[10:])
        client.respond(OK2 + b"hi")
        assert client.taken().count(b"200 OK") == 2

    def test_pipelined_head(self) -> None:
        """A head that came in part behind a request counts from when it can be read."""
        client = Client(GET + b"GET ")
        client.pass_time(TIMEOUT_S - 1)
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client.pass_time(HEAD_TIMEOUT_S + 0.3)
        assert client.answer()[0] == 408

    def test_idle(self) -> None:
        """A connection that is kept alive may be idle for a while; then it is closed without a word."""
        client = Client()
        for _ in range(3):
            client.send(GET)
            client.respond(OK2 + b"hi")
            client.pass_time(KEEPALIVE_S - 0.3)
            assert not client.transport.disconnecting
        client.taken()
        client.pass_time(0.6)
        assert client.transport.over and client.taken() == b""

    def test_long_requests(self) -> None:
        """While a request is served no timer of the connection runs."""
        client = Client(GET)
        for _ in range(10):
            client.pass_time(TIMEOUT_S - 0.5)
            client.respond(b"HTTP/1.1 102 Processing\r\n\r\n", True)
        client.respond(OK2 + b"hi")
        assert client.taken().endswith(b"hi")

    def test_timeouts_of_the_service(self) -> None:
        """A service that does not answer is 504, and the connection goes on."""
        client = Client(GET)
        client.pass_time(TIMEOUT_S + 1.5)
        status, fields, body = client.answer()
        assert (status, json.loads(body)["error"]) == (504, "upstream timeout") and "connection" not in fields
        client.send(GET)
        assert len(client.tunnel.opened) == 2

    def test_slow_body(self) -> None:
        """A client that stops in the middle of its body gets 408 after the idle limit."""
        client = Client(POST + b"he")
        client.pass_time(IDLE_S + 0.5)
        status, fields, _ = client.answer()
        assert (status, fields["connection"]) == (408, "close")


class TestEnds:
    """Clients that end their half, leave, or send what nobody wants."""

    def test_half_close(self) -> None:
        """A client that ends its half behind its request gets its whole answer."""
        for close in (b"", b"Connection: close\r\n"):
            client = Client(GET.replace(b"\r\n\r\n", b"\r\n" + close + b"\r\n"))
            client.transport.receive_fin()
            client.respond(OK + b"some", True)
            client.respond(b"more")
            client.clock.advance(0)
            status, fields, body = client.answer()
            assert (status, fields["connection"]) == (200, "close") and body.endswith(b"4\r\nmore\r\n0\r\n\r\n")
            assert client.transport.over and not client.transport.aborted

    def test_half_close_behind_a_pipeline(self) -> None:
        """All requests before the end are served; the last answer says close."""
        client = Client(GET * 3)
        client.transport.receive_fin()
        for number in range(3):
            client.respond(OK2 + b"hi")
            status, fields, _ = client.answer()
            assert (status, fields.get("connection")) == (200, "close" if number == 2 else None)
        client.clock.advance(0)
        assert client.transport.over and not client.transport.aborted

    def test_half_close_with_a_large_answer(self) -> None:
        """Also an answer that takes its time reaches such a client."""
        client = Client(GET)
        client.transport.receive_fin()
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(100_000), True)
        client.respond(bytes(100_000))
        client.pass_time(KEEPALIVE_S - 1)
        while client.transport.held:
            client.transport.take(1000)
        client.clock.advance(0)
        assert len(client.answer()[2]) == 200_000 and client.transport.over

    def test_half_close_while_the_answer_flows(self) -> None:
        """Also when the end comes behind the answer's head: as long as something flows, somebody may read it."""
        client = Client(GET)
        client.respond(BIG_HEAD + bytes(100_000), True)
        client.transport.receive_fin()
        for number in range(10):
            client.pass_time(0.2)
            client.respond(bytes(10_000), number < 9)
        client.clock.advance(0)
        assert len(client.answer()[2]) == 200_000 and client.transport.over and not client.transport.aborted

    def test_end_while_the_answer_pauses(self) -> None:
        """When nothing flows behind the head, an end means that the client has left: seen within a second."""
        client = Client(GET)
        client.respond(OK + b"event", True)
        client.transport.receive_fin()
        client.pass_time(1.0)
        assert client.transport.over and client.call.reset_code == frames.CANCELLED
        (line,) = client.log
        assert (line["status"], line["error"]) == (200, "client-gone")

    def test_end_before_an_answer_that_pauses(self) -> None:
        """A client that ended before the head came was asked then, and gets its answer however slowly it comes."""
        client = Client(GET)
        client.transport.receive_fin()
        client.pass_time(1)
        client.respond(OK + b"event", True)
        client.pass_time(IDLE_S - 1)
        client.respond(b"event")
        client.clock.advance(0)
        assert client.taken().endswith(b"0\r\n\r\n") and client.transport.over

    def test_half_close_in_the_middle(self) -> None:
        """A client that ends within its head or body has left: its call is cancelled."""
        client = Client(b"GET / HT")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and client.taken() == b""
        client = Client(POST + b"he")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and client.call.reset_code == frames.CANCELLED
        (line,) = client.log
        assert (line["status"], line["error"]) == (499, "client-gone")

    def test_half_close_when_idle(self) -> None:
        """An idle connection is closed with the client's end."""
        client = Client(GET)
        client.respond(OK2 + b"hi")
        client.transport.receive_fin()
        client.clock.advance(0)
        assert client.transport.over and not client.transport.aborted

    def test_asked(self) -> None:
        """A client whose end came, and that waits, is asked once with a 100; an HTTP/1.0 client is not."""
        client = Client(GET)
        client.transport.receive_fin()
        client.pass_time(2)
        assert client.taken() == CONTINUE
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client = Client(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        client.transport.receive_fin()
        client.pass_time(2)
        assert client.taken() == b""
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200

    @pytest.mark.parametrize("answered", [False, True])
    def test_client_leaves(self, answered: bool) -> None:
        """A connection that is gone cancels its call and is logged as 499, or with the status that had begun."""
        client = Client(GET)
        if answered:
            client.respond(OK + b"some", True)
        client.transport.receive_reset()
        assert client.call.reset_code == frames.CANCELLED
        (line,) = client.log
        assert (line["status"], line["error"]) == (200 if answered else 499, "client-gone")
        assert not client.parts.proxy.connections and not client.parts.cluster.pending

    def test_stop(self) -> None:
        """When the service wants no more of a body, the answer is delivered and what still comes is thrown away."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200
        client.call.refuse(frames.STOP)
        assert client.transport.half_closed and not client.transport.over
        for _ in range(10):
            client.send(b"5\r\nhello\r\n")
        assert not client.transport.over and client.transport.reading
        client.transport.receive_fin()
        client.pass_time(0.1)
        assert client.transport.over
        assert len(client.tunnel.opened) == 1

    def test_lingering_ends(self) -> None:
        """What is thrown away is bounded, in time and in bytes."""
        client = Client(b"nonsense\r\n\r\n")
        client.pass_time(CLIENT_LINGER_S - 0.2)
        assert not client.transport.over
        client.pass_time(0.5)
        assert client.transport.over and not client.transport.aborted, "what the kernel still holds may go out"
        client = Client(b"nonsense\r\n\r\n")
        for _ in range(CLIENT_LINGER_BYTES // 65536 + 2):
            client.send(bytes(65536))
        assert client.transport.over

    def test_slow_reader_of_an_early_answer(self) -> None:
        """An answer that ended before its request reaches a slow client whole, if it takes it within a keep-alive."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        client.call.refuse(frames.STOP)
        for _ in range(10):
            client.pass_time(0.5)
            client.transport.take(10_000)
        while client.transport.held:
            client.transport.take(10_000)
        assert len(client.answer()[2]) == 200_000 and client.transport.half_closed
        client.pass_time(CLIENT_LINGER_S + 0.3)
        assert client.transport.over

    def test_half_close_while_lingering(self) -> None:
        """A client that ends its half while it still reads such an answer gets all of it."""
        client = Client(CHUNKED + b"5\r\nhello\r\n")
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        client.call.refuse(frames.STOP)
        client.transport.receive_fin()
        client.pass_time(0.2)
        while client.transport.held:
            client.transport.take(10_000)
        assert len(client.answer()[2]) == 200_000
        client.pass_time(0.2)
        assert client.transport.over and not client.transport.aborted

    def test_slow_reader_of_the_last_answer(self) -> None:
        """A closing connection waits for its client to take the answer, and not for ever."""
        client = Client(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        client.transport.takes = False
        client.respond(BIG_HEAD + bytes(200_000))
        client.pass_time(KEEPALIVE_S - 1)
        assert not client.transport.over
        client.pass_time(2)
        assert client.transport.over

    def test_early_answer_and_the_rest_of_the_body(self) -> None:
        """A client that goes on sending after an early answer may use its connection again."""
        client = Client(POST + b"he")
        client.respond(OK2 + b"hi")
        assert client.answer()[0] == 200 and not client.transport.disconnecting
        client.send(b"llo" + GET)
        assert len(client.tunnel.opened) == 2 and client.tunnel.opened[0].send_ended


def test_the_end_of_an_upgraded_protocol_behind_what_waits() -> None:
    """A service that ends its direction while the client reads nothing has ended it for the client, too, once that has
    read all."""
    client = Client(UPGRADE)
    client.respond(SWITCH, True)
    client.transport.takes = False
    client.respond(bytes(70_000), False)
    assert not client.transport.half_closed
    client.transport.take()
    assert client.transport.half_closed and not client.transport.over
    client.send(b"still here")
    assert client.call.sent.endswith(b"still here")

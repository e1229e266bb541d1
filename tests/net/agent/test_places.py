"""`max_connections`: how many connections a service gets, and who waits for one, how long and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError

from pico_twisted.core.rpc.frames import TCP
from pico_twisted.net.agent.serving.counts import ServiceCounts
from pico_twisted.net.agent.serving.queue import MOST_WAITING, TOO_LONG, TOO_MANY
from tests.net.agent.agent_fakes import OK, UPGRADE, Bench, FakeTransport, Request

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class FewBench(Bench):
    """A service with few connections."""

    def __init__(self, most: int = 1, **listener: Any) -> None:
        super().__init__(max_connections=most, **listener)
        self.counts = ServiceCounts(self.metrics)
        queue: Any = self.local.places._queue
        queue._counts = self.counts

    @property
    def connected(self) -> list[FakeTransport]:
        """The connections that are open."""
        return [one for one in self.service.transports if one.connected]

    def of(self, client: str, target: bytes = b"/", **options: Any) -> Request:
        """A request of a client."""
        return self.get(target, b"X-Forwarded-For: %b\r\n" % client.encode(), **options)

    def next_target(self, answer: bytes = OK) -> bytes:
        """Answer the request that the service has on its newest connection; returns its target."""
        sent = self.service.last.taken()
        self.service.last.answer(answer)
        return sent.split(b" ")[1] if sent else b""


def test_it_waits_for_a_connection() -> None:
    """What is beyond waits, and goes on over the connection of the one before it."""
    bench = FewBench(2)
    first, second, third = (bench.get(target) for target in (b"/1", b"/2", b"/3"))
    assert len(bench.service.transports) == 2 and bench.local.waiting == 1
    bench.service.transports[0].taken()
    bench.service.transports[0].answer(OK)
    assert first.body == b"ok" and bench.local.waiting == 0
    assert bench.service.transports[0].taken().startswith(b"GET /3 ")
    for transport in bench.service.transports:
        transport.answer(OK)
    assert second.body == third.body == b"ok" and len(bench.service.transports) == 2
    assert bench.nothing_is_left() and not bench.local.places.inside
    assert b"pico_agent_service_wait_seconds_count 1.0" in bench.metrics.exposition()


def test_a_connection_that_is_not_kept() -> None:
    """Another one takes its place, for what cannot be sent twice, too; never are there more."""
    bench = FewBench(1)
    requests = [bench.post(b"", b"Content-Length: 0\r\n", more=False) for _ in range(4)]
    for number in range(4):
        assert len(bench.connected) == 1 and len(bench.service.transports) == number + 1
        bench.service.last.answer(CLOSING)
    assert [one.body for one in requests] == [b"ok"] * 4 and bench.nothing_is_left()


def test_clients_take_turns() -> None:
    """One that asks for much does not hold up another one; addresses of one IPv6 network are one client."""
    bench = FewBench(1)
    for client, targets in (("192.0.2.1", (b"/a1", b"/a2", b"/a3")), ("2001:db8::1", (b"/b1",))):
        for target in targets:
            bench.of(client, target)
    bench.of("2001:db8::2", b"/b2")
    bench.of("", b"/c1")
    assert [bench.next_target() for _ in range(6)] == [b"/a1", b"/a2", b"/b1", b"/c1", b"/a3", b"/b2"]
    assert bench.nothing_is_left()


def test_too_many_wait() -> None:
    """The newest of the client that has the most is answered, and one that has few still gets in."""
    bench = FewBench(1)
    busy = [bench.of("192.0.2.1") for _ in range(MOST_WAITING + 2)]
    assert busy[-1].status == 503 and busy[-1].error == "agent-1; service-busy"
    assert b"\r\nretry-after: " in busy[-1].head and TOO_MANY.encode() in busy[-1].body
    calm = bench.of("192.0.2.2", b"/calm")
    assert not calm.frames and busy[-2].status == 503
    bench.next_target()
    bench.next_target()
    assert bench.next_target() == b"/calm" and calm.body == b"ok"
    bench.tunnel.end()
    assert not bench.local.calls and not bench.local.places.inside and bench.local.waiting == 0


def test_time_is_bounded() -> None:
    """Who waits for too long is answered, and those behind them go on waiting."""
    bench = FewBench(1, max_wait=5.0)
    bench.get()
    early = bench.get()
    bench.pass_time(3.0)
    late = bench.get(b"/late")
    bench.pass_time(2.6)
    assert early.status == 503 and TOO_LONG.encode() in early.body and not late.frames
    bench.service.last.taken()
    bench.service.last.answer(OK)
    assert bench.next_target() == b"/late" and bench.nothing_is_left()
    bench.pass_time(10.0)


def test_who_leaves_while_waiting() -> None:
    """Nothing of it reaches the service, and who is behind it moves up."""
    bench = FewBench(1)
    bench.get(b"/1")
    leaves = bench.get(b"/2")
    bench.get(b"/3")
    leaves.cancel()
    assert bench.local.waiting == 1
    assert [bench.next_target() for _ in range(2)] == [b"/1", b"/3"]
    assert bench.nothing_is_left() and not bench.local.places.inside


def test_a_body_that_comes_while_its_request_waits() -> None:
    """It is kept in its order, within the credit, and sent with the head."""
    bench = FewBench(1)
    bench.get()
    waits = bench.post(b"a", b"Content-Length: 3\r\n")
    waits.send(b"b")
    waits.send(b"c", more=False)
    bench.service.last.taken()
    bench.service.last.answer(OK)
    assert bench.service.last.taken().endswith(b"\r\n\r\nabc")
    bench.service.last.answer(OK)
    assert waits.body == b"ok" and bench.nothing_is_left()


def test_an_upgraded_connection() -> None:
    """It is in use until it ends."""
    bench = FewBench(1)
    upgraded = bench.get(extra=UPGRADE, more=True)
    bench.service.last.taken()
    bench.service.last.answer(SWITCH)
    waits = bench.get(b"/next")
    assert upgraded.status == 101 and bench.local.waiting == 1
    upgraded.cancel()
    assert bench.next_target() == b"/next" and waits.body == b"ok" and bench.nothing_is_left()


def test_a_service_that_cannot_be_reached() -> None:
    """Its failures take no place."""
    bench = FewBench(1)
    bench.service.refusing = ConnectionRefusedError()
    assert [bench.get().status for _ in range(5)] == [502] * 5
    assert not bench.local.places.inside and bench.nothing_is_left()


def test_idle_connections_of_others_make_room() -> None:
    """Connections that begin with the address of a client serve no other one: the oldest idle one is closed."""
    bench = FewBench(2, proxy_protocol="v1")
    for number in range(1, 4):
        request = bench.of(f"192.0.2.{number}")
        bench.service.last.answer(OK)
        assert request.body == b"ok" and len(bench.connected) <= 2
    assert len(bench.service.transports) == 3 and not bench.service.transports[0].connected


@pytest.mark.parametrize("ends", ["cancel", "lose"])
def test_sessions_of_tcp(ends: str) -> None:
    """Each has a connection for its life; the next one waits for its end, and is told when it waited too long."""
    bench = FewBench(1, protocol="tcp", max_wait=5.0)
    bench.tunnel.ours._serves = frozenset((TCP,))
    head = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    def session() -> Request:
        call = bench.tunnel.theirs.call(TCP, head, True)
        request = bench.tunnel.requests[call] = Request(tunnel=bench.tunnel, call=call)
        bench.tunnel.pump()
        return request

    first, second = session(), session()
    assert first.status == 101 and not second.frames
    if ends == "cancel":
        first.cancel()
    else:
        bench.service.last.lose()
    assert second.status == 101 and len(bench.connected) == 1
    third = session()
    bench.pass_time(6.0)
    assert third.status == 503 and third.error == "agent-1; service-busy"
    second.cancel()
    third.cancel()
    assert bench.nothing_is_left()

"""The agent between a tunnel and a local service: connections that are kept, and those that died meanwhile."""

from __future__ import annotations

import pytest

from pico_twisted.core.agent.service_call import KEPT_BYTES, ServiceRequest
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.core.sweep import INTERVAL_S
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.http1_service import MAX_BUSY, MAX_BUSY_S, MAX_IDLE, Http1Service
from tests.net.agent.agent_fakes import OK, Bench

# Kept connections that died


@pytest.mark.parametrize("how", ["finish", "lose"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])
def test_an_idempotent_request_on_a_dead_kept_connection_is_sent_again(bench: Bench, how: str, method: bytes) -> None:
    """Once, on a fresh connection, and the caller notices nothing."""
    kept = bench.warm_up()
    request = bench.get(method=method)
    sent = kept.taken()
    getattr(kept, how)()
    assert len(bench.service.transports) == 2
    assert bench.service.last.taken() == sent
    bench.service.last.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert request.status == 204
    bench.service.last.lose()
    assert bench.nothing_is_left()


def test_it_is_sent_again_only_once(bench: Bench) -> None:
    """A fresh connection that dies too is a 502."""
    kept = bench.warm_up()
    request = bench.get()
    kept.lose()
    bench.service.last.lose()
    assert len(bench.service.transports) == 2
    assert request.error == "agent-1; service-failed"


def test_a_kept_body_is_sent_again_and_goes_on(bench: Bench) -> None:
    """A body that is still coming is sent again as far as it came, and the rest follows."""
    kept = bench.warm_up()
    request = bench.tunnel.request(b"PUT / HTTP/1.1\r\nHost: web\r\n\r\nabc", True)
    request.send(b"def")
    sent = kept.taken()
    bench.service.waiting = []
    kept.lose()
    request.send(b"ghi")
    bench.service.proceed()
    assert bench.service.last.taken() == sent + b"3\r\nghi\r\n"
    request.send(b"", more=False)
    assert bench.service.last.taken() == b"0\r\n\r\n"
    bench.service.last.answer(OK)
    assert request.body == b"ok"
    assert bench.nothing_is_left()


def test_a_body_that_is_not_kept_is_not_sent_again(bench: Bench) -> None:
    """Beyond what is kept, a dead connection is a 502."""
    kept = bench.warm_up()
    request = bench.tunnel.request(b"PUT / HTTP/1.1\r\nHost: web\r\n\r\n", True)
    for _ in range(KEPT_BYTES // 1000 + 1):
        request.send(b"x" * 1000)
    kept.lose()
    assert len(bench.service.transports) == 1
    assert request.error == "agent-1; service-failed"


@pytest.mark.parametrize("begun", [False, True], ids=["POST", "half a head has come"])
def test_what_may_have_been_served_is_not_sent_again(bench: Bench, begun: bool) -> None:
    """A POST on a connection that dies is a 502; so is any request of which a byte was answered, for the service was at
    work."""
    kept = bench.warm_up()
    if begun:
        request = bench.get()
        kept.answer(b"HTTP/1.1")
    else:
        request = bench.post(b"x", more=False)
    kept.lose()
    assert len(bench.service.transports) == 1
    assert request.error == "agent-1; service-failed"


# The pool


def any_request() -> ServiceRequest:
    """One of a client that has no connection of its own."""
    return ServiceRequest(V2.read_request(REQUEST_LIMITS))


def opened(service: Http1Service, count: int) -> list[ServiceConnection]:
    """So many connections, all in use."""
    connections: list[ServiceConnection] = []
    for _ in range(count):
        service.open(any_request()).addCallback(connections.append)
    return connections


def taken(service: Http1Service) -> list[ServiceConnection]:
    """All that are kept."""
    kept = []
    while (connection := service.take(any_request(), surely=False)) is not None:
        kept.append(connection)
    return kept


def test_idle_connections_are_bounded_in_number_and_age(bench: Bench) -> None:
    """A burst leaves no more than a bound after a moment, and those go after a while."""
    requests = [bench.get() for _ in range(100)]
    for transport in list(bench.service.transports):
        transport.answer(OK)
    assert all(request.ended for request in requests)
    bench.pass_time(4)
    assert len(bench.local.connections) == 64
    bench.pass_time(50)
    assert len(bench.local.connections) == 64
    bench.pass_time(2)
    assert not bench.local.connections


@pytest.mark.parametrize(
    ("hint", "idle_s"),
    [
        (b"timeout=5", 4),
        (b"max=100, timeout=5", 4),
        (b"timeout=5, max=9", 4),
        (b"timeout=600", 55),
        (b"xtimeout=5", 55),
    ],
)
def test_a_service_may_say_how_long_it_keeps_a_connection(bench: Bench, hint: bytes, idle_s: int) -> None:
    """We are the first to close it: a request that is sent while the service closes is lost."""
    bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nKeep-Alive: " + hint + b"\r\nContent-Length: 0\r\n\r\n")
    bench.pass_time(idle_s - 1)
    assert len(bench.local.connections) == 1
    bench.pass_time(1.4)
    assert not bench.local.connections


def test_a_connection_that_is_kept_for_no_time_is_not_kept(bench: Bench) -> None:
    """Nor one for less than a second."""
    for seconds in (0, 1):
        bench.get()
        bench.service.last.answer(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=%d\r\nContent-Length: 0\r\n\r\n" % seconds)
        assert not bench.local.connections


def test_a_service_that_closes_an_idle_connection_costs_nothing(bench: Bench) -> None:
    """The next request opens another."""
    kept = bench.warm_up()
    kept.finish()
    assert not bench.local.connections
    request = bench.post(b"", more=False)
    bench.service.last.answer(OK)
    assert request.body == b"ok" and len(bench.service.transports) == 2


def test_a_connection_that_says_close_is_not_kept(bench: Bench) -> None:
    """`Connection: close` is believed, whatever else the response says."""
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    assert request.body == b"ok" and request.ended and b"Connection" not in request.head
    assert not bench.local.connections


@pytest.mark.parametrize("count", [1, MAX_IDLE, 4 * MAX_IDLE, MAX_BUSY])
def test_none_of_those_in_use_is_opened_again(bench: Bench, count: int) -> None:
    """Though all of them are idle for a moment, time and again."""
    connections = opened(bench.local, count)
    for _ in range(3):
        for connection in connections:
            bench.local.give(connection, None)
        bench.pass_time(MAX_BUSY_S / 3)
        assert set(taken(bench.local)) == set(connections)


def test_there_is_a_bound(bench: Bench) -> None:
    """Of those beyond it none is kept."""
    for connection in opened(bench.local, MAX_BUSY + 10):
        bench.local.give(connection, None)
    assert len(taken(bench.local)) == MAX_BUSY


def test_what_is_not_needed_goes_soon(bench: Bench) -> None:
    """After a burst a few stay, among them the one that is used on; in the end none stays that nobody uses."""
    connections = opened(bench.local, 4 * MAX_IDLE)
    for connection in connections:
        bench.local.give(connection, None)
    for _ in range(10):
        used = bench.local.take(any_request(), surely=False)
        assert used is not None
        bench.local.give(used, None)
        bench.pass_time(MAX_BUSY_S / 5)
    assert len(bench.local.connections) == MAX_IDLE + 1
    bench.pass_time(55)
    assert not taken(bench.local)


def test_a_service_that_waits_less_is_heeded_in_a_burst_too(bench: Bench) -> None:
    """Of many connections none is kept for longer than the service says."""
    for connection in opened(bench.local, 2 * MAX_IDLE):
        bench.local.give(connection, b"timeout=2")
    bench.pass_time(1.0 + 2 * INTERVAL_S)
    assert not taken(bench.local)


def test_calls_are_counted(bench: Bench) -> None:
    """Every call is counted once, with the status that its caller saw."""
    bench.get()
    bench.service.last.answer(OK)
    bench.post(b"abc", more=False).cancel()
    bench.get()
    bench.service.last.lose()
    text = bench.metrics.exposition().decode()
    assert 'pico_requests_total{method="GET",status="200"} 1.0' in text
    assert 'pico_requests_total{method="POST",status="499"} 1.0' in text
    assert 'pico_requests_total{method="GET",status="502"} 1.0' in text
    assert "pico_calls_total 3.0" in text


# Requests that cannot be sent twice, on connections that may be about to end


@pytest.mark.parametrize("closes_after_s", [2.0, 5.0])
def test_no_post_meets_a_service_that_closes(bench: Bench, closes_after_s: float) -> None:
    """A POST is never sent on a connection that was idle for as long as services keep them, in spite of those that say
    nothing of it: the service may be closing it at that moment. A GET is, since it can be sent again."""
    kept = bench.warm_up()
    bench.pass_time(closes_after_s - 0.4)
    request = bench.post(b"", more=False)
    assert not kept.taken() and bench.service.last is not kept
    bench.service.last.answer(OK)
    assert request.body == b"ok"
    bench.service.last.lose()
    assert bench.get() and kept.taken(), "the one that it did not get is still of use"


def test_a_post_soon_after_goes_on_the_same_connection(bench: Bench) -> None:
    """What was idle for a moment only is not about to end."""
    kept = bench.warm_up()
    for _ in range(3):
        bench.pass_time(0.6)
        request = bench.post(b"", more=False)
        kept.answer(OK)
        assert request.body == b"ok"
    assert len(bench.service.transports) == 1


def test_the_time_of_a_service_is_learned(bench: Bench) -> None:
    """One that closes idle connections after 0.8 s gets no POST on one that was idle for half of that; and one that is
    seen to keep them for longer does again, for it was only started anew."""
    kept = bench.warm_up()
    bench.pass_time(0.8)
    kept.finish()
    kept = bench.warm_up()
    bench.pass_time(0.6)
    bench.post(b"", more=False)
    assert not kept.taken()
    bench.service.last.answer(OK)
    bench.service.last.finish()
    bench.pass_time(2)
    bench.get()
    kept.answer(OK)
    bench.pass_time(0.6)
    bench.post(b"", more=False)
    assert kept.taken()

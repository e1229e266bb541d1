"""The health of a service of HTTP/2: what its connections show, and how it is checked."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError

from pico_twisted.config import ServiceAddress
from pico_twisted.core.agent.service_judge import FAILURES_IN_A_ROW
from tests.net.agent.http2.h2_fakes import H2Peer, Http2Bench
from tests.net.agent.test_checks import CheckBench
from tests.net.agent.test_service_health import HealthBench


class Http2HealthBench(HealthBench, Http2Bench):
    """A service of HTTP/2 whose health is looked after."""


def test_calls_that_wait_together_fail_together() -> None:
    """Each of them got no answer; and one answer brings the service back."""
    bench = Http2HealthBench()
    bench.service.waiting = []
    for _ in range(FAILURES_IN_A_ROW):
        bench.get()
    bench.pass_time(11.0)
    assert bench.told[:1] == [b"out 0"]
    bench.service.waiting = None
    bench.ask()
    bench.peer.answer(1)
    assert bench.told[-1:] == [b"up"] and bench.nothing_is_left()


def test_connections_that_are_refused_and_broken() -> None:
    """Both count, one after the other; an answer between them begins anew."""
    bench = Http2HealthBench()
    for round_trips in range(2):
        bench.service.refusing = ConnectionRefusedError()
        for _ in range(FAILURES_IN_A_ROW - 1):
            assert bench.get().status == 502
        bench.service.refusing = None
        assert bench.told == []
        request = bench.ask(method=b"POST")
        if round_trips:
            bench.service.last.lose()
            assert request.status == 502
        else:
            bench.peer.answer(1)
            bench.service.last.lose()
    assert bench.told == [b"out 0"]


def test_a_check_of_a_path() -> None:
    """It is a request of HTTP/2 there, on a connection that is not kept."""
    bench = CheckBench(addr=ServiceAddress("h2c", "127.0.0.1", 3000))
    bench.check()
    peer = H2Peer(bench.service.last)
    (fields,) = peer.requests.values()
    assert fields[b":path"] == b"/healthz" and fields[b":authority"] == b"127.0.0.1:3000"
    assert fields[b"user-agent"].startswith(b"pico-agent-health-check/")
    peer.answer(1)
    assert bench.results == [""]
    bench.pass_time(1.0)
    assert not bench.service.last.connected

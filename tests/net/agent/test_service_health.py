"""What becomes of calls and checks, and who hears of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import LogEvent

from pico_twisted.config import HealthConfig
from pico_twisted.core.agent.service_judge import FAILURES_IN_A_ROW, FIRST_OUT_S, TRIAL_S
from pico_twisted.core.rpc.frames import TCP
from pico_twisted.core.rpc.service_health import Standing, ToldHealth, encode_health
from pico_twisted.net.agent.serving.counts import ServiceCounts
from pico_twisted.net.agent.serving.service_health import ServiceHealth
from tests.net.agent.agent_fakes import OK, Bench, Request


class Played:
    """Checks whose results the test tells."""

    def __init__(self) -> None:
        self.going_on: list[Deferred[str]] = []
        self.cancelled = 0

    def check(self) -> Deferred[str]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        checking: Deferred[str] = Deferred(cancel)
        self.going_on.append(checking)
        return checking

    def end(self, wrong: str = "") -> None:
        """The check that goes on has a result."""
        (checking,) = self.going_on
        self.going_on.clear()
        checking.callback(wrong)


class HealthBench(Bench):
    """A service whose health is looked after.

    Attributes:
        told: what nodes would hear, in order.
    """

    def __init__(self, **listener: Any) -> None:
        super().__init__(**listener)
        self.checks = Played()
        self.told: list[bytes] = []
        self.counts = ServiceCounts(self.metrics)
        self.health = self.made(self.local.config)
        self.health.start(self.hears)
        self.local.health = self.health

    def hears(self, health: ServiceHealth) -> None:
        """A node is told."""
        self.told.append(encode_health(health.told()))

    def made(self, config: Any) -> ServiceHealth:
        """The health of a service."""
        return ServiceHealth(
            config,
            clock=self.clock,
            sweep=self.sweep,
            rng=random.Random(1),
            checks=self.checks,
            counts=self.counts,
        )

    def fail(self, times: int = FAILURES_IN_A_ROW) -> None:
        """Calls for which the service takes no connection."""
        for transport in self.service.transports:
            transport.lose()  # none is kept
        self.service.refusing = ConnectionRefusedError()
        for _ in range(times):
            assert self.get().status == 502
        self.service.refusing = None

    def answer(self) -> None:
        """A call that is answered."""
        request = self.get()
        self.service.last.answer(OK)
        assert request.status == 200


def test_refused_calls_put_it_out(lines: Callable[[str], list[LogEvent]]) -> None:
    """After some in a row. At the end of a while it is checked, one call is let through, and its answer is told."""
    bench = HealthBench()
    bench.fail(FAILURES_IN_A_ROW - 1)
    bench.answer()
    bench.fail(FAILURES_IN_A_ROW - 1)
    assert bench.told == [] and not bench.checks.going_on
    bench.fail(1)
    assert bench.told == [b"out 0"] and "nothing listens" in bench.health.why
    (line,) = lines("The service is out")
    assert (line["endpoint"], line["log_level"].name) == ("web", "warn") and "nothing listens" in line["reason"]
    bench.pass_time(FIRST_OUT_S + 0.4)
    assert len(bench.checks.going_on) == 1
    bench.pass_time(20.0)
    assert len(bench.checks.going_on) == 1, "one at a time"
    bench.checks.end()
    assert bench.told[1:] == [b"trial 21"]
    bench.answer()
    assert bench.told[2:] == [b"up"] and bench.health.why == "" and bench.health.out_for_s is None
    assert len(lines("The service is back")) == 1
    assert b"pico_agent_service_outages_total 1.0" in bench.metrics.exposition()


def test_broken_connections_put_it_out() -> None:
    """They were taken, and gave not a byte of an answer; one that broke off in its answer counts as an answer."""
    bench = HealthBench()
    for _ in range(FAILURES_IN_A_ROW):
        bench.get()
        bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
        bench.service.last.lose()
    assert bench.told == []
    for _ in range(FAILURES_IN_A_ROW):
        assert bench.get(method=b"POST").ended is False
        bench.service.last.lose()
    assert bench.told == [b"out 0"] and "without an answer" in bench.health.why


def test_connecting_that_takes_too_long_puts_it_out() -> None:
    """Calls that came together are enough."""
    bench = HealthBench()
    bench.service.waiting = []
    for _ in range(FAILURES_IN_A_ROW):
        bench.get()
    bench.pass_time(11.0)
    assert bench.told[:1] == [b"out 0"]


def test_a_tcp_service() -> None:
    """It is there when it can be connected to."""
    bench = HealthBench(protocol="tcp")
    head = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    def call() -> int:
        opened = bench.tunnel.theirs.call(TCP, head, True)
        request = bench.tunnel.requests[opened] = Request(tunnel=bench.tunnel, call=opened)
        bench.tunnel.pump()
        return request.status

    bench.tunnel.ours._serves = frozenset((TCP,))
    bench.service.refusing = ConnectionRefusedError()
    assert [call() for _ in range(FAILURES_IN_A_ROW)] == [502] * FAILURES_IN_A_ROW
    assert bench.told == [b"out 0"]
    bench.service.refusing = None
    assert call() == 101 and bench.told[1:] == [b"up"]


def test_nobody_comes_for_the_trial() -> None:
    """It is up all the same, after a while."""
    bench = HealthBench()
    bench.fail()
    bench.pass_time(FIRST_OUT_S + 0.4)
    bench.checks.end()
    bench.pass_time(TRIAL_S + 0.4)
    assert bench.told == [b"out 0", b"trial 1", b"up"]
    assert bench.health not in bench.sweep._items, "nothing is due"


def test_checks_that_fail_at_the_end() -> None:
    """It stays out, twice as long each time, for the reason of the last check, and nobody is told that again."""
    bench = HealthBench()
    bench.fail()
    waits = []
    for _ in range(4):
        began = bench.clock.seconds()
        while not bench.checks.going_on:
            bench.pass_time(0.2)
        waits.append(round(bench.clock.seconds() - began))
        bench.checks.end("a check was answered 503")
    assert waits == [1, 2, 4, 8] and bench.told == [b"out 0"]
    assert bench.health.why == "a check was answered 503"


def test_checks_all_the_time() -> None:
    """At their interval, not at the same moment for all, one at a time; they put it out and bring it back."""
    keys = HealthConfig(interval=2.0, unhealthy_after=2, healthy_after=2)
    bench = HealthBench(health=keys)
    began: list[float] = []

    def next_check(wrong: str) -> None:
        while not bench.checks.going_on:
            bench.pass_time(0.2)
        began.append(bench.clock.seconds())
        bench.checks.end(wrong)

    for _ in range(2):
        next_check("a check was answered 503")
    assert bench.told == [b"out 0"] and bench.health.why == "a check was answered 503"
    bench.answer()
    assert len(bench.told) == 1, "checks alone bring it back"
    for _ in range(2):
        next_check("")
    assert bench.told[1:] == [b"up"]
    spans = [after - before for before, after in pairwise(began)]
    assert began[0] <= 2.2 and all(1.6 <= span <= 2.6 for span in spans)
    assert b'pico_agent_health_checks_total{result="healthy"} 2.0' in bench.metrics.exposition()
    while not bench.checks.going_on:
        bench.pass_time(0.2)
    bench.health.stop()
    bench.health.stop()
    assert bench.checks.cancelled == 1
    bench.pass_time(10.0)
    assert len(bench.checks.going_on) == 1, "no other one begins"


@pytest.mark.parametrize("same", [True, False])
def test_a_reload(same: bool) -> None:
    """The same service stands as it did, and is looked at again; another one is taken to be up, and nodes hear so."""
    bench = HealthBench()
    bench.fail()
    config = attrs.evolve(bench.local.config, timeout=3.0)
    if not same:
        config = attrs.evolve(config, addr=attrs.evolve(config.addr, port=9999))
    after = bench.made(config)
    bench.health.stop()
    after.start(bench.hears, bench.health)
    assert bench.told[1:] == [b"out 0" if same else b"up"]
    bench.pass_time(FIRST_OUT_S + 0.6)
    assert bool(bench.checks.going_on) is same


def test_what_is_told() -> None:
    """The time since it went out goes on."""
    bench = HealthBench()
    bench.fail()
    bench.pass_time(0.8)
    bench.clock.advance(100.0)
    assert bench.health.told() == ToldHealth(standing=Standing.OUT, out_for_s=100)


def test_pieces_of_an_answer_that_began_before_say_nothing() -> None:
    """A stream of events goes on over its connection while the service takes no new ones."""
    bench = HealthBench()
    stream = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    assert stream.status == 200
    connection = bench.service.last
    bench.service.refusing = ConnectionRefusedError()
    for _ in range(FAILURES_IN_A_ROW):
        assert bench.get().status == 502
        connection.answer(b"1\r\na\r\n")
    assert bench.told == [b"out 0"]


def test_callers_that_lose_patience() -> None:
    """A connection that did not come in some seconds counts, though nobody waits for it any more; less does not."""
    bench = HealthBench()
    bench.service.waiting = []
    for seconds in (1.0, 4.0):
        requests = [bench.get() for _ in range(FAILURES_IN_A_ROW)]
        bench.pass_time(seconds)
        assert bench.told == []
        for request in requests:
            request.cancel()
    assert bench.told == [b"out 0"] and bench.health.why == "it takes no connections"

"""Checks of a service, as the service sees them and as they end."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from pico_twisted.config import HealthConfig, ServiceAddress
from pico_twisted.core.proxy_protocol import write_proxy_header
from pico_twisted.net.agent.serving.checks import MOST_BODY_BYTES, ServiceChecks
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from tests.net.agent.agent_fakes import OK, FakeEndpoint, listener_config, tunnel_parts
from tests.net.agent.service_bench import Service
from tests.net.in_reactor import in_reactor, reactor, until


class CheckBench:
    """Checks of a service that the test plays."""

    def __init__(self, *, path: str = "/healthz", **listener: Any) -> None:
        self.clock = Clock()
        self.sweep = ReactorSweep(self.clock)
        self.sweep.start()
        self.metrics = Metrics("agent")
        self.service = FakeEndpoint()
        health = HealthConfig(path=path, timeout=2.0)
        self.checks = ServiceChecks(
            ServiceParts(
                config=attrs.evolve(listener_config(), health=health, **listener),
                tunnel=tunnel_parts(self.clock, self.sweep, self.metrics),
                agent_id="agent-1",
                reactor=None,
                dials=self.service,
            )
        )
        self.results: list[str] = []

    def check(self) -> Deferred[str]:
        """Begin one."""
        checking = self.checks.check()
        checking.addCallback(self.results.append)
        return checking

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on."""
        for _ in range(round(seconds / 0.2)):
            self.clock.advance(0.2)


def test_what_the_service_sees() -> None:
    """A request that says who asks, with the Host that calls get, and none of a client's fields; nothing is counted."""
    bench = CheckBench(path="/healthz?full=1", host_header="shop.internal")
    bench.check()
    request = bench.service.last.taken()
    assert request.startswith(b"GET /healthz?full=1 HTTP/1.1\r\nHost: shop.internal\r\n")
    assert b"\r\nUser-Agent: pico-agent-health-check/0.0.1\r\n" in request and b"orwarded" not in request
    bench.service.last.answer(OK)
    assert bench.results == [""] and not bench.service.last.connected
    assert b"pico_calls_total 0.0" in bench.metrics.exposition()
    bench.check()
    assert len(bench.service.transports) == 2, "each has a connection of its own"
    bench.service.last.answer(OK)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n", ""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, ""),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "a check was answered 404"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nX-Pico-Error: fun\r\n\r\n", "a check was answered 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "a check failed: bad-response"),
    ],
)
def test_what_is_healthy(answer: bytes, wrong: str) -> None:
    """A status from 200 to 399, whatever else the answer says."""
    bench = CheckBench()
    bench.check()
    bench.service.last.answer(answer)
    assert bench.results == [wrong]


def test_a_service_that_is_not_there() -> None:
    """The reason is told in words, for a path and without one."""
    for path, words in (("/", "a check failed: service-unreachable"), ("", "a check could not connect: ")):
        bench = CheckBench(path=path)
        bench.service.refusing = ConnectionRefusedError()
        bench.check()
        assert bench.results[0].startswith(words)


def test_a_service_that_breaks_off() -> None:
    """Before its answer and in it."""
    bench = CheckBench()
    bench.check()
    bench.service.last.lose()
    assert bench.results == ["a check failed: service-failed"]
    bench.check()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
    bench.service.last.lose()
    assert bench.results[1].startswith("the answer to a check broke off")


@pytest.mark.parametrize("path", ["/", ""])
def test_time(path: str) -> None:
    """A check ends in time, with nothing left behind."""
    bench = CheckBench(path=path)
    bench.service.waiting = []
    bench.check()
    bench.pass_time(2.6)
    assert len(bench.results) == 1 and bench.service.cancelled == 1
    assert bench.results == ["a check took longer than 2 s"]


def test_an_answer_without_end() -> None:
    """Its status is enough, and what is too long is cut."""
    bench = CheckBench()
    bench.check()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    bench.service.last.answer(b"%x\r\n" % (MOST_BODY_BYTES + 1) + bytes(MOST_BODY_BYTES + 1))
    assert bench.results == [""] and bench.service.last.aborted


def test_giving_up() -> None:
    """A check that is cancelled lets go of the service."""
    for path in ("/", ""):
        bench = CheckBench(path=path)
        bench.service.waiting = []
        bench.check().cancel()
        assert bench.results and bench.service.cancelled == 1


@in_reactor
@pytest.mark.parametrize("version", ["none", "v1", "v2"])
async def test_connecting(version: str) -> None:
    """Without a path a connection is enough, behind the header that the service expects; it is closed in good order."""
    header = b"" if version == "none" else write_proxy_header(int(version[1:]), "")
    service = Service(header_bytes=len(header))
    sweep = ReactorSweep(reactor, 0.02)
    address = ServiceAddress("http", "127.0.0.1", service.port)
    config = attrs.evolve(
        listener_config(address), proxy_protocol=version, protocol="tcp", health=HealthConfig(interval=1.0)
    )
    parts = ServiceParts(
        config=config, tunnel=tunnel_parts(reactor, sweep, Metrics("agent")), agent_id="agent-1", reactor=reactor
    )
    results: list[str] = []
    ServiceChecks(parts).check().addCallback(results.append)
    client = await service.accept()
    await client.gone()
    await until(lambda: results)
    assert results == [""] and client.ended and not client.broken
    assert service.headers == ([header] if header else [])
    service.close()

"""How many idle connections to a service an agent keeps, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer

from pico_twisted.net.agent.connection import ServiceConnection
from pico_twisted.net.agent.local_service import MAX_BUSY, MAX_BUSY_S, MAX_IDLE, MAX_IDLE_S, LocalService
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.turn import INTERVAL_S, Sweep
from tests.doubles.transport import MemoryTransport
from tests.net.agent.agent_fakes import listener_config, tunnel_parts


@implementer(IStreamClientEndpoint)
class Everything:
    """Takes every connection, and closes none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def connect(self, factory: Any) -> Deferred[Any]:
        connection = factory.buildProtocol(None)
        MemoryTransport(self._clock).connect(connection)
        return succeed(connection)


@pytest.fixture
def clock() -> Clock:
    """Of the agent."""
    return Clock()


@pytest.fixture
def service(clock: Clock) -> LocalService:
    """Of a service that takes every connection."""
    sweep = Sweep(clock)
    sweep.start()
    parts = tunnel_parts(clock, sweep, Metrics("agent"))
    return LocalService(listener_config(), parts, agent_id="agent-1", reactor=None, endpoint=Everything(clock))


def opened(service: LocalService, count: int) -> list[ServiceConnection]:
    """So many connections, all in use."""
    connections: list[ServiceConnection] = []
    for _ in range(count):
        service.open().addCallback(connections.append)
    return connections


def taken(service: LocalService) -> list[ServiceConnection]:
    """All that are kept."""
    kept = []
    while (connection := service.take(surely=False)) is not None:
        kept.append(connection)
    return kept


def advance(clock: Clock, seconds: float) -> None:
    """Let time pass, with a turn of the sweep in each interval."""
    clock.pump([INTERVAL_S] * round(seconds / INTERVAL_S))


@pytest.mark.parametrize("count", [1, MAX_IDLE, 4 * MAX_IDLE, MAX_BUSY])
def test_none_of_those_in_use_is_opened_again(service: LocalService, clock: Clock, count: int) -> None:
    """Though all of them are idle for a moment, time and again."""
    connections = opened(service, count)
    for _ in range(3):
        for connection in connections:
            service.give(connection, None)
        advance(clock, MAX_BUSY_S / 3)
        assert set(taken(service)) == set(connections)


def test_there_is_a_bound(service: LocalService) -> None:
    """Of those beyond it none is kept."""
    for connection in opened(service, MAX_BUSY + 10):
        service.give(connection, None)
    assert len(taken(service)) == MAX_BUSY


def test_what_is_not_needed_goes_soon(service: LocalService, clock: Clock) -> None:
    """After a burst a few stay, among them the one that is used on; in the end none stays that nobody uses."""
    connections = opened(service, 4 * MAX_IDLE)
    for connection in connections:
        service.give(connection, None)
    for _ in range(10):
        used = service.take(surely=False)
        assert used is not None
        service.give(used, None)
        advance(clock, MAX_BUSY_S / 5)
    assert len(service.connections) == MAX_IDLE + 1
    advance(clock, MAX_IDLE_S)
    assert not taken(service)


def test_a_service_that_waits_less_is_heeded(service: LocalService, clock: Clock) -> None:
    """In a burst too."""
    for connection in opened(service, 2 * MAX_IDLE):
        service.give(connection, b"timeout=2")
    advance(clock, 1.0 + 2 * INTERVAL_S)
    assert not taken(service)

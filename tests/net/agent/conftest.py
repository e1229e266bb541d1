"""A forwarder for the tests of calls, a whole agent, and what the log says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from tests.net.agent.agent_fakes import Bench
from tests.net.agent.agent_world import World
from tests.net.in_reactor import finish


@pytest.fixture
def bench() -> Bench:
    """A forwarder between a tunnel and a service, both played by the test."""
    return Bench()


@pytest.fixture
def lines() -> Iterator[Callable[[str], list[LogEvent]]]:
    """The log lines of the test whose message begins so."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield lambda start: [event for event in events if str(event.get("log_format")).startswith(start)]
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def world() -> Iterator[World]:
    """Nodes, a service and agents; all of it is taken down at the end."""
    found = World()
    yield found
    finish(found.close())

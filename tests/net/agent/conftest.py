"""A forwarder for the tests of calls, a whole agent, and what the log says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.net.agent.agent_fakes import Bench
from tests.net.agent.agent_world import World
from tests.net.in_reactor import finish


@pytest.fixture
def bench() -> Bench:
    """A forwarder between a tunnel and a service, both played by the test."""
    return Bench()


@pytest.fixture
def world() -> Iterator[World]:
    """Nodes, a service and agents; all of it is taken down at the end."""
    found = World()
    yield found
    finish(found.close())

"""A forwarder for the tests of calls."""

from __future__ import annotations

import pytest

from tests.net.agent.agent_fakes import Bench


@pytest.fixture
def bench() -> Bench:
    """A forwarder between a tunnel and a service, both played by the test."""
    return Bench()

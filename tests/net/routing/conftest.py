"""A node for the tests of requests on their way."""

from __future__ import annotations

import pytest

from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import Case
from tests.net.routing.routed_case import case


@pytest.fixture
def here() -> Case:
    """A node with a session of one agent."""
    return case(FakeTunnel())

"""Sessions for the tests of their rules."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc.session import SessionV2
from tests.core.rpc.sessions import joined, make
from tests.doubles.pump import Pump


@pytest.fixture
def session() -> SessionV2:
    """A session of version 2 that serves http calls."""
    return make()


@pytest.fixture
def pump() -> Pump:
    """A node's and an agent's session, joined."""
    return joined()

"""A network for the tests of gossip."""

from __future__ import annotations

import pytest

from tests.core.gossip.gossips import Wire


@pytest.fixture
def wire() -> Wire:
    """A network without nodes."""
    return Wire()

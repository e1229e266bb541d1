"""A node for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from tests.integration.harness import RunningNode


@pytest.fixture
def node() -> Iterator[RunningNode]:
    """A node on free ports."""
    from tests.integration.harness import RunningNode

    running = RunningNode()
    yield running
    pytest_twisted.blockon(Deferred.fromCoroutine(running.close()))

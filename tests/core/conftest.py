"""The one long simulation of the suite: it runs beside all other tests, and the test that judges it comes last."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# In a bare checkout nothing else puts the project's root on the path.
ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tests.core.long_simulation import Simulation  # noqa: E402

LONG_TEST = "test_five_minutes_of_a_hundred_nodes"

_simulation: list[Simulation] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The simulation is judged last."""
    items.sort(key=lambda item: item.name == LONG_TEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    """It begins with the first test, in one process of those that share the tests."""
    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if first and not session.config.option.collectonly and any(item.name == LONG_TEST for item in session.items):
        _simulation.append(Simulation())


@pytest.fixture
def long_simulation() -> Simulation:
    """The run that began with the first test."""
    if not _simulation:
        _simulation.append(Simulation())
    return _simulation[0]


def pytest_unconfigure() -> None:
    """Nothing is left, also when the tests were interrupted."""
    for simulation in _simulation:
        simulation.end()

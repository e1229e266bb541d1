"""The end-to-end tests once more, in shapes in which one part runs an earlier version.

An operator upgrades nodes and agents one after the other, so each pair of neighbours must understand each other. What
is tested is what a client and a service see.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.mixed_versions import old
from tests.system.conftest import certificates, pytest_runtest_makereport, service, stack
from tests.system.shared import Shared, sharing_stack
from tests.system.stack import MIXED, Stack
from tools.stage.certificates import Tls

__all__ = ["certificates", "pytest_runtest_makereport", "running_stack", "service", "stack"]

HERE = Path(__file__).parent

VERSION_SPECIFIC: dict[str, str] = {
    "test_a_v1_message_that_is_too_large": "an older node ends the session",
}
"""Tests of `tests.system` that do not hold for mixed versions, and why."""


@pytest.fixture(scope="session", params=MIXED)
def running_stack(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Tls,
) -> Iterator[Shared[Stack]]:
    """Nodes and an agent of which one runs the earlier version."""
    build = partial(old.prelude, request.config.cache.mkdir("old-version"))
    yield from sharing_stack(request.param, tmp_path_factory, certificates, old=build)


@pytest.fixture
def earlier(request: pytest.FixtureRequest) -> str:
    """What makes a process run the earlier version."""
    return old.prelude(request.config.cache.mkdir("old-version"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the tests that are borrowed, keep those in which an earlier version takes part."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        wanted = True
        if item.path.is_relative_to(HERE) and isinstance(item, pytest.Function) and hasattr(item.module, "BORROWED"):
            params = item.callspec.params if hasattr(item, "callspec") else {}
            wanted = params.get("running_stack") in MIXED and item.originalname not in VERSION_SPECIFIC
        (kept if wanted else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept

"""Admin ports for the tests of what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.net.admin.admin_fakes import Serve, Served
from tests.net.in_reactor import finish


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes admin ports, which are closed at the end."""
    made: list[Served] = []

    def one(*args: Any, **kwargs: Any) -> Served:
        made.append(Served(*args, **kwargs))
        return made[-1]

    yield one
    for served in made:
        finish(served.close())

"""A forwarder whose service speaks HTTP/2."""

from __future__ import annotations

import pytest

from tests.net.agent.http2.h2_fakes import Http2Bench


@pytest.fixture
def h2bench() -> Http2Bench:
    """A forwarder between a tunnel and a service of HTTP/2, both played by the test."""
    return Http2Bench()

"""Tunnels for the tests of what they do."""

from __future__ import annotations

import pytest

from tests.net.tunnel.tunnel_peers import raw
from tests.net.tunnel.websockets import RawPeer, TunnelPair


@pytest.fixture
def peer() -> RawPeer:
    """A raw peer of a node of its own, behind the node's first heartbeat."""
    return raw()


@pytest.fixture
def pair() -> TunnelPair:
    """A node's tunnel and an agent's, joined."""
    return TunnelPair()

"""Floods of HTTP/2 at the proxy port: `make soak` has all of them, and their memory."""

from __future__ import annotations

import time

import pytest

from pico_twisted.core.http2.flood import RESETS, RESETS_PER_S
from tests.conformance.asking import Port
from tests.peers.http2_floods import FLOODS, Work, pour
from tests.system.shapes import ENDS
from tests.system.stack import Stack

PATIENCE_S = 30.0
STREAMS = 128  # of a connection, by default

SAMPLED = [
    "rapid reset",
    "rapid reset, a moment later",
    "made-you-reset: WINDOW_UPDATE of 0",
    "made-you-reset: DATA over its length",
    "continuation",
    "ping",
]


@ENDS
@pytest.mark.parametrize("name", SAMPLED)
def test_floods(stack: Stack, name: str) -> None:
    """The connection is closed, little of it is begun at the service, and others are served as before."""
    flood = FLOODS[name]
    port = Port(stack.node.proxy, stack.endpoint, str(stack.tls.authority.ca) if stack.tls else None)
    work = stack.service.handler = Work(0.3)
    begin = time.monotonic()
    outcome = pour(port.connect(), flood, port.authority, PATIENCE_S)
    assert outcome.closed, outcome
    assert work.all <= (RESETS + RESETS_PER_S * (time.monotonic() - begin) + 5) * flood.works
    assert work.most <= STREAMS
    stack.service.handler = stack.service.hello
    stack.still_serves()

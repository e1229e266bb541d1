"""What the tests of requests on their way share."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import Case

TIMEOUT_S = 5.0
IDLE_S = 8.0
LIVES = 1e9
"""When a session was heard that is never silent."""


def case(*tunnels: FakeTunnel, **limits: Any) -> Case:
    """A node with these tunnels."""
    parts = MemoryNode(Clock(), **{"timeout": TIMEOUT_S, "idle_timeout": IDLE_S, **limits})
    return Case(parts, *tunnels)


def head_and_body(call: FakeCall) -> tuple[RequestHead, bytes]:
    """What was sent on a call."""
    head, _, body = bytes(call.sent).partition(b"\r\n\r\n")
    return parse_request_head(head + b"\r\n\r\n", HeadLimits()), body

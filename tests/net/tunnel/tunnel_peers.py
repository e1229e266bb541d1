"""A tunnel beside a peer that sends what the test wants."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from pico_twisted.core.rpc.frames import HEARTBEAT, HTTP
from tests.doubles.node import MemoryNode
from tests.doubles.service import Receiver
from tests.net.tunnel.websockets import RawPeer

GET = b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def raw(version: int = 2, **kwargs: Any) -> RawPeer:
    """A raw peer of a node of its own, behind the node's first heartbeat."""
    peer = RawPeer(MemoryNode(Clock()), version, **kwargs)
    ((kind, *_),) = peer.received_rpc()
    assert kind == HEARTBEAT
    return peer


def fill(peer: RawPeer) -> None:
    """Let a peer take nothing any more, and its transport hold so much that it asks for no more."""
    peer.transport.takes = False
    for _ in range(3):
        Receiver().open(peer.tunnel, HTTP, GET + bytes(60_000), True)

"""A client of the proxy port, in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock

from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.transport import MemoryTransport
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import register

GET = b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: my-ep.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
BIG_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"


class Client:
    """A client's connection to a node with one agent, both played by the test."""

    def __init__(
        self,
        data: bytes = b"",
        *,
        parts: MemoryNode | None = None,
        peer: Any = None,
        tunnel: FakeTunnel | None = None,
        **limits: Any,
    ) -> None:
        self.clock = parts.clock if parts is not None else Clock()
        self.parts = parts or MemoryNode(self.clock, **limits)
        if parts is None:
            self.tunnel = register(self.parts, tunnel or FakeTunnel())
        self.transport = MemoryTransport(self.clock, peer)
        self.channel = self.transport.connect(self.parts.proxy.buildProtocol(self.transport.getPeer()))
        if data:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Bytes to the node."""
        self.transport.receive(data)
        self.clock.advance(0)

    @property
    def call(self) -> FakeCall:
        """The newest call that the node made."""
        return self.tunnel.opened[-1]

    def respond(self, payload: bytes, more: bool = False) -> None:
        """The agent sends a frame of the newest call's response."""
        self.call.respond(payload, more)
        self.clock.advance(0)

    def taken(self) -> bytes:
        """What came from the node since the last time."""
        return self.transport.clear()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """What came, as one response: status, fields, and the rest."""
        head, end, body = self.taken().partition(b"\r\n\r\n")
        assert end, head
        status, *lines = head.decode("latin-1").split("\r\n")
        assert status.startswith("HTTP/1.1 ")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status[9:12]), fields, body

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        pass_time(self.clock, seconds)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log."""
        self.parts.access_log.flush()
        return [json.loads(line) for line in "".join(self.parts.access).splitlines()]

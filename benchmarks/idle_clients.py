"""Many light agents in one process: each registers an endpoint and answers heartbeats, and nothing else.

Run by `idle_agents.py`, several at a time; it says on stdout when all are registered, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import struct
import sys

from tests.peers.websocket import BINARY, frame_bytes, handshake_request

_HEADER = struct.Struct(">HQH")
_HEARTBEAT = 1
_RESPONSE = 0x8000
_AT_ONCE = 20
"""Handshakes under way: fewer than what waits in a listening socket's queue."""
_SMALL = 126


class LightAgent(asyncio.Protocol):
    """One agent.

    Args:
        request: its handshake.
        lost: called when the connection ends.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._data = b""
        self.registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Answer heartbeats."""
        self._data += data
        if not self.registered.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                raise SystemExit(f"refused: {head!r} {rest!r}")
            self._data = rest
            self.registered.set_result(None)
        while len(self._data) >= 2:
            size = self._data[1]
            assert size < _SMALL, "a node sends nothing long to an idle agent"
            if len(self._data) < 2 + size:
                return
            opcode, message, self._data = self._data[0], self._data[2 : 2 + size], self._data[2 + size :]
            if opcode != 0x82:
                raise SystemExit(f"the node sent opcode {opcode & 15}: {message!r}")
            kind, call_id, _ = _HEADER.unpack_from(message)
            if kind == _HEARTBEAT:
                echo = _HEADER.pack(kind, call_id, _RESPONSE) + message[_HEADER.size :]
                self._transport.write(frame_bytes(BINARY, echo, mask=True))

    def connection_lost(self, error: Exception | None) -> None:
        """The node must not do that."""
        print(f"lost: {error}", flush=True)


def _request(number: int) -> bytes:
    fields = [("x-pico-agent-id", f"agent-{number}"), ("x-pico-agent-version", "0.0.1"), ("x-pico-slot", "0.0")]
    key = base64.b64encode(os.urandom(16))
    return handshake_request(f"/pico/v1/listener/idle-{number}", "node:8002", key, ["pico.v2"], fields)


async def _run(port: int, first: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    turns = asyncio.Semaphore(_AT_ONCE)
    agents: list[LightAgent] = []

    async def register(number: int) -> None:
        async with turns:
            _, agent = await loop.create_connection(lambda: LightAgent(_request(number)), "127.0.0.1", port)
            agents.append(agent)
            await agent.registered

    await asyncio.gather(*(register(number) for number in range(first, first + count)))
    print("registered", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_run(*(int(argument) for argument in sys.argv[1:4])))

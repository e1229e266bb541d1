"""A relay of TCP connections that are far away: what it reads leaves later, in order, at the pace of a link.

    benchmarks/far_link.py LISTEN_PORT TARGET_PORT DELAY_MS MBIT

Both directions are delayed alike, so a round trip takes twice DELAY_MS longer. MBIT is the link's rate in each
direction, in millions of bits a second; 0 for no limit but this program's own. It runs until it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque

READ_BYTES = 64 * 1024
AHEAD_S = 0.02
"""What may wait in front of the link, as in a router's queue."""
MAX_HELD_BYTES = 16 * 1024 * 1024
"""On the link and behind it, in one direction, when it has no rate."""


class Direction:
    """One direction of a connection.

    Args:
        reader: where bytes come from.
        writer: where they go.
        delay_s: how long each is on its way.
        bytes_per_second: of the link; 0 for no limit.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, bytes_per_second: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._delay_s = delay_s
        self._rate = bytes_per_second
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Carry bytes until the end of the stream came, and went on."""
        arriving = asyncio.ensure_future(self._arrive())
        try:
            await self._depart()
        finally:
            arriving.cancel()

    async def _depart(self) -> None:
        now = asyncio.get_running_loop().time
        free_at = 0.0
        data = b" "
        while data:
            data = await self._reader.read(READ_BYTES)
            free_at = max(free_at, now()) + (len(data) / self._rate if self._rate else 0.0)
            self._on_the_way.append((free_at + self._delay_s, data))
            self._held += len(data)
            self._changed.set()
            if free_at - now() > AHEAD_S:
                await asyncio.sleep(free_at - now() - AHEAD_S)
            while self._held > MAX_HELD_BYTES or (not data and self._on_the_way):
                self._room.clear()
                await self._room.wait()

    async def _arrive(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            while not self._on_the_way:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._on_the_way[0]
            if due > now():
                await asyncio.sleep(due - now())
            if data:
                self._writer.write(data)
                await self._writer.drain()
            elif self._writer.can_write_eof():
                self._writer.write_eof()
            self._on_the_way.popleft()
            self._held -= len(data)
            self._room.set()


async def serve(listen_port: int, target_port: int, delay_s: float, bytes_per_second: float) -> None:
    """Relay what connects to one port of 127.0.0.1 to another."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port, limit=READ_BYTES)
        there = Direction(reader, far_writer, delay_s, bytes_per_second)
        back = Direction(far_reader, writer, delay_s, bytes_per_second)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(there.run(), back.run())
        writer.close()
        far_writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", listen_port, limit=READ_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1e3, float(sys.argv[4]) * 125_000))

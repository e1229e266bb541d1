"""The service behind an agent, in a process of its own so that it can be starved and stopped.

    python -m tests.faults.web NAME PORT

Each request is answered with the name. `/events` is an event stream and `/socket` a WebSocket, both without an end, and
`/large` a body of 64 MiB.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from typing import Final

LARGE_BYTES: Final = 64 << 20
_TICK_S: Final = 0.5
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Web:
    """Answers.

    Args:
        name: its own.
    """

    def __init__(self, name: str) -> None:
        self._plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name.encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(None, 2)[1]
                if target == b"/events":
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    )
                    await self._tick(writer, b"a\r\ndata: up\n\n\r\n")
                elif target == b"/socket":
                    key = next(
                        line.partition(b":")[2].strip()
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"sec-websocket-key:")
                    )
                    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
                    writer.write(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
                    )
                    await self._tick(writer, b"\x81\x02up")
                elif target == b"/large":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
                    for _ in range(LARGE_BYTES >> 16):
                        writer.write(bytes(1 << 16))
                        await writer.drain()
                else:
                    writer.write(self._plain)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _tick(writer: asyncio.StreamWriter, message: bytes) -> None:
        while True:
            writer.write(message)
            await writer.drain()
            await asyncio.sleep(_TICK_S)


async def run(name: str, port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(Web(name).serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))

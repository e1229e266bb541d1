"""A service of very many WebSockets in one thread."""

from __future__ import annotations

import asyncio
import threading

from tests.peers import websocket
from tests.system import wire


class Echo(asyncio.Protocol):
    """A service's end of one WebSocket: accepts it, and echoes messages of one byte."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._head = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._open:
            # A client's frame of one byte is seven bytes, masked. Its echo is not masked.
            payload = websocket.masked(data[6:7], data[2:6])
            self._transport.write(websocket.frame_bytes(websocket.BINARY, payload, mask=False))
            return
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            key = wire.parse_request(self._head).get("sec-websocket-key") or b""
            self._open = True
            self._sockets.count += 1
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: " + websocket.accept_value(key).encode() + b"\r\n\r\n"
            )


class Sockets:
    """A service of WebSockets that echo, any number of them in one thread."""

    def __init__(self) -> None:
        self.count = 0
        self.port = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)
        self._thread.start()
        self._started.wait(10)

    async def _listen(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: Echo(self), "127.0.0.1", 0, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()

    def close(self) -> None:
        """The end."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

"""A thousand hostile peers at a time, in a process of their own.

    python -m tests.soak.attackers FORM HOST PORT COUNT

They begin within a few seconds, and whoever is refused or answered comes again after that time. Nothing ends it but a
signal.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import random
import sys
from collections.abc import Awaitable, Callable

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PAUSE_S = 1.0
"""Between two bytes of who sends slowly."""
AGAIN_S = 4.0
"""Until somebody comes again who was answered: a thousand of them are 250 requests a second."""
ENDPOINTS = 100_000
"""How many endpoints are asked for that nobody serves."""

_numbers = itertools.count()


async def _trickle(streams: Streams, begin: bytes, piece: bytes) -> None:
    _, writer = streams
    writer.write(begin)
    while True:
        await asyncio.sleep(PAUSE_S)
        writer.write(piece)
        await writer.drain()


async def _silent(streams: Streams) -> None:
    while await streams[0].read(65_536):
        pass


async def _heads(streams: Streams) -> None:
    """A head that never ends, a byte a second."""
    await _trickle(streams, b"GET / HTTP/1.1\r\nHost: web.example\r\nX-A: ", b"a")


async def _bodies(streams: Streams) -> None:
    """A body that comes at a byte a second."""
    await _trickle(streams, b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 1000000\r\n\r\n", b"a")


async def _chunks(streams: Streams) -> None:
    """A body of chunks of one byte, one a second."""
    await _trickle(
        streams, b"POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"
    )


async def _handshakes(streams: Streams) -> None:
    """An agent's handshake that never ends."""
    await _trickle(streams, b"GET /pico/v1/listener/web HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nX-A: ", b"a")


async def _hellos(streams: Streams) -> None:
    """The first bytes of a ClientHello, and a byte a second behind them."""
    await _trickle(streams, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), b"a")


async def _ask(streams: Streams, request: Callable[[], bytes]) -> None:
    reader, writer = streams
    while True:
        writer.write(request())
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        await asyncio.sleep(AGAIN_S)


async def _unknown(streams: Streams) -> None:
    """Requests for endpoints that nobody serves, another one each time."""
    await _ask(streams, lambda: b"GET / HTTP/1.1\r\nHost: none-%d.example\r\n\r\n" % (next(_numbers) % ENDPOINTS))


async def _names(streams: Streams) -> None:
    """Requests with ninety fields whose names nobody has seen yet."""

    def request() -> bytes:
        lines = b"".join(b"X-%d: %d\r\n" % (next(_numbers), next(_numbers)) for _ in range(90))
        return b"GET / HTTP/1.1\r\nHost: web.example\r\n" + lines + b"\r\n"

    await _ask(streams, request)


async def _bad(streams: Streams) -> None:
    """What is no request: refused, logged, and the connection closed."""
    streams[1].write(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"\\" * random.randrange(1, 200)))
    await _silent(streams)


def _jwt() -> str:
    """A JWT whose signature is wrong, another one each time."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"sub": f"nobody-{next(_numbers)}", "exp": 4_000_000_000, "pico": {"rules": ["listen:*", "connect:*"]}}
    head = {"alg": "RS256", "typ": "JWT"}
    return ".".join((part(json.dumps(head).encode()), part(json.dumps(claims).encode()), part(random.randbytes(256))))


async def _jwts(streams: Streams) -> None:
    """Requests with JWTs whose signatures are wrong."""

    def request() -> bytes:
        return b"GET / HTTP/1.1\r\nHost: web.example\r\nx-pico-authorization: Bearer %b\r\n\r\n" % _jwt().encode()

    await _ask(streams, request)


async def _agents(streams: Streams) -> None:
    """Agents' handshakes with JWTs whose signatures are wrong."""
    streams[1].write(
        b"GET /pico/v1/listener/web HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        + f"Authorization: Bearer {_jwt()}\r\n\r\n".encode()
    )
    await _silent(streams)


CONNECTIONS: dict[str, Callable[[Streams], Awaitable[None]]] = {
    "silent": _silent,
    "heads": _heads,
    "bodies": _bodies,
    "chunks": _chunks,
    "handshakes": _handshakes,
    "hellos": _hellos,
    "unknown": _unknown,
    "names": _names,
    "bad": _bad,
    "jwts": _jwts,
    "agents": _agents,
}
"""What one hostile connection does, by the name of its form."""


async def _again_and_again(form: str, host: str, port: int) -> None:
    await asyncio.sleep(random.random() * AGAIN_S)
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            streams = await asyncio.open_connection(host, port)
            try:
                await CONNECTIONS[form](streams)
            finally:
                streams[1].close()
        await asyncio.sleep(AGAIN_S)


async def _packets(host: str, port: int, count: int) -> None:
    """So many packets of gossip a second, of all sizes, some with the first bytes of real ones."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, port))
    while True:
        for _ in range(count // 50):
            transport.sendto(random.choice((b"", b"pico", b"\x01", b"\x02")) + random.randbytes(random.randrange(1400)))
        await asyncio.sleep(0.02)


async def _main() -> None:
    form, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if form == "packets":
        await _packets(host, port, count)
    await asyncio.gather(*(_again_and_again(form, host, port) for _ in range(count)))


if __name__ == "__main__":
    asyncio.run(_main())

"""Many downloads at once, for so many seconds: how far each of them got.

    benchmarks/fairness_clients.py PORT ENDPOINT COUNT SECONDS

Prints a JSON list with the bytes of each, heads included.
"""

from __future__ import annotations

import asyncio
import json
import sys

READ_BYTES = 256 * 1024


async def download(port: int, endpoint: str, received: list[int], number: int) -> None:
    """Read one large body and count, for as long as it lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    writer.write(f"GET /large HTTP/1.1\r\nHost: bench\r\nx-pico-endpoint: {endpoint}\r\n\r\n".encode())
    try:
        while data := await reader.read(READ_BYTES):
            received[number] += len(data)
    finally:
        writer.transport.abort()


async def run(port: int, endpoint: str, count: int, seconds: float) -> list[int]:
    """Download `count` times at once; bytes of each after so many seconds."""
    received = [0] * count
    downloads = [asyncio.ensure_future(download(port, endpoint, received, number)) for number in range(count)]
    done, _ = await asyncio.wait(downloads, timeout=seconds)
    for finished in done:
        finished.result()
    if done:
        raise SystemExit("a body was too small for this time")
    for running in downloads:
        running.cancel()
    await asyncio.wait(downloads)
    return received


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))

"""A real service that closes connections which were idle for a while, and requests that come just then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from twisted.internet.task import deferLater

from pico_twisted.config import ServiceAddress
from tests.net.agent.service_bench import ServiceBench, answered
from tests.net.in_reactor import finish, in_reactor, reactor

IDLE_S = 2.0  # gunicorn's default
CLOSING_S = 0.1  # from the decision to close to its effect: on a busy machine, or with a network between


class AsyncioService:
    """An HTTP service on asyncio, in a thread of its own, that keeps idle connections for `IDLE_S`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
                if b"Content-Length: 1\r\n" in head:
                    await reader.readexactly(1)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (TimeoutError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(CLOSING_S)  # what comes now is lost
        writer.transport.abort()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture
def service() -> Iterator[AsyncioService]:
    """One of the test's own."""
    running = AsyncioService()
    yield running
    running.close()


@pytest.fixture
def bench(service: AsyncioService) -> Iterator[ServiceBench]:
    """The agent in front of it."""
    found = ServiceBench(ServiceAddress("http", "127.0.0.1", service.port))
    yield found
    finish(found.close())


@in_reactor
async def test_no_post_fails(bench: ServiceBench) -> None:
    """POSTs that come just when the service closes the connection: around that moment, some a little before and some a
    little after, many connections at once."""
    for round_s in (0.0, IDLE_S):
        gets = [bench.request(b"GET /") for _ in range(40)]
        for get in gets:
            await answered(get)
        await deferLater(reactor, round_s)
        posts = []
        for _ in range(40):
            post = bench.tunnel.request(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\n\r\nx")
            posts.append(post)
            await deferLater(reactor, 0.0005)
        for post in posts:
            await answered(post)
        assert [post.status for post in posts] == [200] * 40

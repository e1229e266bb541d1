"""Requests at a constant rate, in a process of their own.

    python -m tests.faults.load OUTPUT --to 10.77.0.1:8000 --endpoint web --rate 100

One is due each 1/rate seconds, whatever became of those before it; so many at once wait as a service that hangs makes
wait. Connections are kept. SIGTERM ends the load once each request has its answer or has waited for `--timeout`.
OUTPUT gets a line for each (`Outcome.line`). `--streams` keeps so many WebSockets and event streams open beside it: one
that is cut is opened again, and one that cannot be opened counts as a request that was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import os
import signal
import ssl
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from tests.faults.reckoning import RETRY_AFTER, Outcome

Address = tuple[str, int]
MOST_HEAD_BYTES: Final = 65_536
STREAMS: Final = ("WEBSOCKET", "EVENTS")
_PAUSE_S: Final = 0.1


class NoAnswer(Exception):
    """A connection ended, or brought something that is no answer."""


class Answered(NamedTuple):
    """An answer: its status, its body, and what it says of when to ask again."""

    status: int
    body: str
    retry_after: str


class Client(asyncio.Protocol):
    """A connection, for one request after the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.usable = True
        self._data = b""
        self._answer: asyncio.Future[Answered] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[Answered]:
        """Send a request, for its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            if len(head) > MOST_HEAD_BYTES:
                self._fail("a head without an end")
            return
        status, fields = read_head(head)
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._data = rest[length:]
        self.usable = fields.get(b"connection", b"").lower() != b"close"
        if status >= 200 and self._answer is not None and not self._answer.done():
            again = fields.get(b"retry-after", b"").decode("latin-1")
            self._answer.set_result(Answered(status, rest[:length].decode("latin-1"), again))

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._fail(f"the connection ended: {exc or 'no answer'}")

    def _fail(self, why: str) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(why))
        self.transport.abort()


def read_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    """The status of an answer, and its fields by their names in lower case."""
    first, *lines = head.split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    return int(first.split()[1]), fields


class Load:
    """The requests, and what became of them.

    Args:
        output: gets a line for each.
        options: the command line.
    """

    def __init__(self, output: TextIO, options: argparse.Namespace) -> None:
        self._output = output
        self._options = options
        self._kept: dict[Address, deque[Client]] = {address: deque() for address in options.to}
        self._stopped = asyncio.Event()
        self._tls = ssl._create_unverified_context() if options.tls else None

    async def run(self) -> None:
        """Ask until `stop`, then wait for what is under way."""
        interval = 1.0 / self._options.rate
        streams = [asyncio.create_task(self._hold(kind)) for kind in STREAMS * self._options.streams]
        asked: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        for number, address in enumerate(itertools.cycle(self._options.to)):
            due += interval
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if self._stopped.is_set():
                break
            posts = self._options.posts
            method = "POST" if posts and number % posts == 0 else "GET"
            task = asyncio.create_task(self._ask(address, method, due))
            asked.add(task)
            task.add_done_callback(asked.discard)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*asked)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _note(self, outcome: Outcome) -> None:
        print(outcome.line(), file=self._output, flush=True)

    async def _ask(self, address: Address, method: str, due: float) -> None:
        try:
            async with asyncio.timeout(self._options.timeout):
                answer = await self._answer(address, method)
        except (OSError, NoAnswer, ValueError, IndexError) as error:  # TimeoutError is an OSError
            problem = f"no answer in {self._options.timeout:g} s" if isinstance(error, TimeoutError) else str(error)
            self._note(Outcome(due, time.monotonic(), method, 0, problem=problem or repr(error)))
        else:
            status, text, again = answer
            server, problem = (text, "") if status == 200 else ("", f"{status} {again and RETRY_AFTER + again} {text}")
            self._note(Outcome(due, time.monotonic(), method, status, server, problem))

    async def _answer(self, address: Address, method: str) -> Answered:
        kept = self._kept[address]
        client = None
        while kept and client is None:
            # the one used last: so what a burst opened may be closed by the other side
            client = kept.pop() if kept[-1].usable else kept.pop() and None
        if client is None:
            _, client = await asyncio.get_running_loop().create_connection(Client, *address, ssl=self._tls)
        try:
            answer = await client.ask(self._head(method, "/"))
        except BaseException:
            client.transport.abort()
            raise
        if client.usable:
            kept.append(client)
        else:
            client.transport.close()
        return answer

    def _head(self, method: str, path: str, *more: str) -> bytes:
        fields = ["Host: a.example", f"x-pico-endpoint: {self._options.endpoint}", *more]
        if method == "POST":
            fields.append("Content-Length: 0")
        return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode()

    async def _hold(self, kind: str) -> None:
        """Keep one stream open: a new one as soon as the last has ended."""
        for number in itertools.count():
            due = time.monotonic()
            address = self._options.to[number % len(self._options.to)]
            problem = await self._stream(kind, address)
            self._note(Outcome(due, time.monotonic() if problem else due, kind, 0 if problem else 200, "", problem))
            await asyncio.sleep(_PAUSE_S)

    async def _stream(self, kind: str, address: Address) -> str:
        """Open a stream and read it to its end, whatever that is; why it could not be opened."""
        if kind == "WEBSOCKET":
            key = base64.b64encode(os.urandom(16)).decode()
            fields = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {key}")
            head, wanted = self._head("GET", "/socket", *fields, "Sec-WebSocket-Version: 13"), b"101"
        else:
            head, wanted = self._head("GET", "/events", "Accept: text/event-stream"), b"200"
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError as error:
            return str(error)
        try:
            writer.write(head)
            begin = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._options.timeout)
            if begin.split()[1] != wanted:
                return begin.split(b"\r\n")[0].decode("latin-1")
            with contextlib.suppress(ConnectionError):
                while await reader.read(65_536):
                    pass
        except (OSError, EOFError, IndexError) as error:
            return repr(error)
        finally:
            writer.transport.abort()
        return ""


def address(text: str) -> Address:
    """An address on the command line."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def options_of(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--to", type=address, action="append", required=True, help="addresses, asked in turn")
    parser.add_argument("--endpoint", default="web")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--posts", type=int, default=5, help="each so manieth is a POST; 0: none")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for one request")
    parser.add_argument("--tls", action="store_true", help="speak TLS, to whoever is there")
    parser.add_argument("--streams", type=int, default=0, help="WebSockets, and as many event streams, kept open")
    return parser.parse_args(command_line)


async def run(options: argparse.Namespace) -> None:
    """Ask until SIGTERM, and write what became of it."""
    with options.output.open("w") as output:
        load = Load(output, options)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop)
        await load.run()


if __name__ == "__main__":
    asyncio.run(run(options_of()))

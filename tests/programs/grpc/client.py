"""Calls of every kind, and what they should come to. Runs by itself: `python client.py PORT ENDPOINT`.

It prints a line of JSON for each check: its name, whether it holds, and what was found.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]  # in an environment of its own

LARGEST = 64 * 1024 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_send_message_length", LARGEST),
    ("grpc.enable_http_proxy", 0),
]
MANY = 10_000


class Client:
    """A channel to a node, and calls of an endpoint."""

    def __init__(self, port: int, endpoint: str, options: Sequence[tuple[str, int]] = ()) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[*OPTIONS, *options])
        self.metadata = (("x-pico-endpoint", endpoint),)

    def call(self, kind: str, method: str) -> Any:
        """What makes a call: `kind` is one of unary_unary, unary_stream, stream_unary, stream_stream."""
        return getattr(self.channel, kind)(f"/test.Test/{method}")

    def unary(self, method: str, request: bytes, timeout: float = 30, **more: Any) -> bytes:
        """The response of a unary call."""
        response: bytes = self.call("unary_unary", method)(request, timeout=timeout, metadata=self.metadata, **more)
        return response

    @property
    def cancelled(self) -> int:
        """How many calls the service knows that were cancelled."""
        return int(self.unary("Count", b"").split()[1])


def check(name: str, found: object, wanted: object) -> None:
    """Say whether something holds."""
    print(json.dumps([name, found == wanted, repr(found)[:300]]), flush=True)


def failure(call: Callable[[], object]) -> Any:
    """What a call fails with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


def code(error: Any) -> str:
    """The status of a failure."""
    return "OK" if error is None else str(error.code().name)


def waits(what: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something comes true in time."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def kinds(client: Client) -> None:
    """Every kind of call, with ten thousand messages each way."""
    check("unary", client.unary("Echo", b"hello"), b"hello")
    check("empty messages", client.unary("Echo", b""), b"")
    large = b"0123456789abcdef" * (1 << 20)
    check("16 MiB each way", client.unary("Echo", large) == large, True)
    call = client.call("unary_stream", "Many")(b"%d" % MANY, metadata=client.metadata)
    check("10,000 messages of the server", list(call) == [b"%d" % number for number in range(MANY)], True)
    numbers = (b"%d" % number for number in range(MANY))
    total = client.call("stream_unary", "Gather")(numbers, metadata=client.metadata)
    check("10,000 messages of the client", int(total), sum(range(MANY)))
    chat = client.call("stream_stream", "Chat")((b"%d" % n for n in range(MANY)), metadata=client.metadata)
    check("10,000 messages each way", list(chat) == [b"re: %d" % number for number in range(MANY)], True)


def turns(client: Client) -> None:
    """A conversation in which each side waits for the other."""
    more = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for number in range(500):
            more.acquire()
            yield b"%d" % number

    answers = []
    for answer in client.call("stream_stream", "Chat")(requests(), metadata=client.metadata, timeout=30):
        answers.append(answer)
        more.release()
    check("500 turns", len(answers), 500)


def metadata(client: Client) -> None:
    """Metadata of text and of bytes, in the request, before the first message, and behind the last."""
    sent = (*client.metadata, ("x-test-a", "b"), ("x-test-bin", b"\0\x01\xff"))
    _response, call = client.call("unary_unary", "Echo").with_call(b"m", metadata=sent)
    first = {item.key: item.value for item in call.initial_metadata()}
    check("initial metadata", (first.get("x-test-a"), first.get("x-test-bin")), ("b", b"\0\x01\xff"))
    last = {item.key: item.value for item in call.trailing_metadata()}
    check("trailing metadata", (last.get("x-trailing"), last.get("x-trailing-bin")), ("t", b"\0\xff\n"))
    before = client.cancelled
    ticks = client.call("unary_stream", "Ticks")(b"60", metadata=client.metadata)
    began = time.monotonic()
    ticks.initial_metadata()
    check("initial metadata before any message", time.monotonic() - began < 10, True)
    ticks.cancel()
    check("which is cancelled", waits(lambda: client.cancelled == before + 1), True)


def errors(client: Client) -> None:
    """Errors of the service, with words, details and trailing metadata; before a message and behind some."""
    error = failure(lambda: client.unary("Fails", b""))
    check("a status", code(error), "INVALID_ARGUMENT")
    check("its words", error.details(), "not good: é % ✓")
    last = {item.key: item.value for item in error.trailing_metadata()}
    check("its details", last.get("grpc-status-details-bin"), b"\x08\x03\x12\x03bad")
    stream = client.call("unary_stream", "FailsLate")(b"", metadata=client.metadata)
    messages: list[bytes] = []
    late = failure(lambda: messages.extend(stream))
    check("messages before an error", messages, [b"0", b"1", b"2"])
    check("an error behind messages", (code(late), late.details()), ("DATA_LOSS", "lost"))
    check("an unknown method", code(failure(lambda: client.unary("Nothing", b""))), "UNIMPLEMENTED")


def keepalive(client: Client, port: int) -> None:
    """PINGs of a client that asks each second whether the node is there, with a call and without one."""
    often = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    asking = Client(port, dict(client.metadata)["x-pico-endpoint"], often)
    states: list[str] = []
    asking.unary("Echo", b"")
    asking.channel.subscribe(lambda state: states.append(state.name))
    check("a call of 6 s with a PING each second", asking.unary("Slow", b"6", timeout=20), b"late")
    time.sleep(6)
    check("6 s more without a call", asking.unary("Echo", b"there"), b"there")
    check("on one connection", set(states) <= {"IDLE", "READY"} and states[-1:] == ["READY"], True)
    asking.channel.close()


def endings(client: Client) -> None:
    """Deadlines and cancellations get to the service."""

    def cancelled() -> int:
        return client.cancelled

    before = cancelled()
    began = time.monotonic()
    check("a deadline", code(failure(lambda: client.unary("Slow", b"20", timeout=0.5))), "DEADLINE_EXCEEDED")
    check("in time", time.monotonic() - began < 5, True)
    check("the service heard of it", waits(lambda: cancelled() == before + 1), True)
    check("a deadline that is kept", client.unary("Slow", b"0.2", timeout=10), b"late")
    future = client.call("unary_unary", "Slow").future(b"20", metadata=client.metadata)
    time.sleep(0.3)
    future.cancel()
    check("a call that is cancelled", waits(lambda: cancelled() == before + 2), True)
    ticks = client.call("unary_stream", "Ticks")(b"0.05", metadata=client.metadata)
    check("a stream that goes on", [next(ticks), next(ticks)], [b"tick", b"tick"])
    ticks.cancel()
    check("a stream that is cancelled", waits(lambda: cancelled() == before + 3), True)


def compression(client: Client) -> None:
    """Compressed messages are not looked at."""
    text = b"again and again " * 10_000
    check("compression", client.unary("Echo", text, compression=grpc.Compression.Gzip) == text, True)


def of_pico(client: Client, port: int) -> None:
    """What Pico answers itself is a status of gRPC, with words."""
    error = failure(lambda: Client(port, "nobody-there").unary("Echo", b""))
    check("an endpoint without an agent", (code(error), error.details()), ("UNAVAILABLE", "no available upstreams"))
    last = {item.key: item.value for item in error.trailing_metadata()}
    check("and its code", str(last.get("x-pico-error", "")).endswith("; no-upstreams"), True)


def beside(client: Client) -> None:
    """Two hundred calls at once, one of which nobody reads."""
    stalled = client.call("unary_stream", "Many")(b"100000", metadata=client.metadata)
    next(stalled)
    calls = [client.call("unary_unary", "Echo").future(b"%d" % n, metadata=client.metadata) for n in range(200)]
    check("200 calls at once", [call.result(30) for call in calls] == [b"%d" % n for n in range(200)], True)
    stalled.cancel()


async def in_asyncio(port: int, endpoint: str) -> None:
    """The same by grpc.aio."""
    metadata = (("x-pico-endpoint", endpoint),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        check("aio: unary", await channel.unary_unary("/test.Test/Echo")(b"a", metadata=metadata), b"a")

        async def requests() -> AsyncIterator[bytes]:
            for number in range(1000):
                yield b"%d" % number

        chat = channel.stream_stream("/test.Test/Chat")(requests(), metadata=metadata)
        check("aio: both ways", len([answer async for answer in chat]), 1000)
        slow = channel.unary_unary("/test.Test/Slow")(b"20", metadata=metadata, timeout=0.3)
        try:
            await slow
            found = "OK"
        except grpc.aio.AioRpcError as error:
            found = error.code().name
        check("aio: a deadline", found, "DEADLINE_EXCEEDED")
        several = [channel.unary_unary("/test.Test/Echo")(b"%d" % n, metadata=metadata) for n in range(100)]
        check("aio: at once", await asyncio.gather(*several) == [b"%d" % n for n in range(100)], True)


def main() -> None:
    """All checks, on one channel."""
    port, endpoint = int(sys.argv[1]), sys.argv[2]
    client = Client(port, endpoint)
    for part in (kinds, turns, metadata, errors, endings, compression, beside):
        part(client)
    of_pico(client, port)
    keepalive(client, port)
    asyncio.run(in_asyncio(port, endpoint))


if __name__ == "__main__":
    main()

"""When a connection to the service serves another request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.net.agent.agent_fakes import OK, Bench

GET = b"GET / HTTP/1.1\r\nHost: web\r\n"


def kept(bench: Bench, *frames: bytes, answer_at: int = -1) -> bool:
    """Whether the connection of a request serves the next one.

    Args:
        bench: of the agent.
        frames: of the request.
        answer_at: the service answers behind the frame of this number; by default behind the last one.
    """
    request = bench.tunnel.request(frames[0], len(frames) > 1)
    answer_at %= len(frames)
    for number in range(len(frames)):
        if number:
            request.send(frames[number], more=number < len(frames) - 1)
        if number == answer_at:
            head, body = OK[:-2], OK[-2:]
            bench.service.last.answer(head + body[:1])
    bench.service.last.answer(body[1:])
    assert request.body == b"ok"
    connections = len(bench.service.transports)
    assert bench.get() is not None
    return len(bench.service.transports) == connections


@pytest.mark.parametrize(
    ("frames", "options", "safe"),
    [
        ((GET + b"\r\n",), {}, True),
        ((GET + b"Content-Length: 0\r\n\r\n",), {}, True),
        ((GET + b"Content-Length: 3\r\n\r\nabc",), {}, False),
        ((GET + b"\r\n", b"abc", b""), {}, False),  # in chunks
        ((GET + b"\r\n", b""), {}, False),  # no byte of a body, but its last chunk
        ((GET.replace(b"GET", b"DELETE") + b"Content-Length: 3\r\n\r\nabc",), {}, False),
        ((GET.replace(b"GET", b"OPTIONS") + b"Content-Length: 3\r\n\r\nabc",), {}, False),
        ((GET.replace(b"GET", b"POST") + b"Content-Length: 3\r\n\r\nabc",), {}, True),
        ((GET.replace(b"GET", b"POST") + b"\r\n", b"abc", b""), {}, True),
        ((GET.replace(b"GET", b"PROPFIND") + b"Content-Length: 3\r\n\r\nabc",), {}, True),
        ((GET.replace(b"GET", b"POST") + b"Content-Length: 6\r\n\r\nabc", b"def"), {"answer_at": 0}, False),
    ],
)
@pytest.mark.parametrize("reuse", ["never", "safe", "always"])
def test_connections_that_are_kept(frames: tuple[bytes, ...], options: dict[str, Any], safe: bool, reuse: str) -> None:
    """By default not behind a body that the service may not have looked for, nor behind an answer that began before
    the request had come."""
    bench = Bench(reuse=reuse)
    assert kept(bench, *frames, **options) is {"never": False, "safe": safe, "always": True}[reuse]


@pytest.mark.parametrize("reuse", ["safe", "always"])
def test_an_answer_with_more_bytes_than_it_has(reuse: str) -> None:
    """Nobody's request is answered with them."""
    bench = Bench(reuse=reuse)
    request = bench.get()
    bench.service.last.answer(OK + b"HTTP/1.1 200 OK\r\n")
    assert request.body == b"ok"
    bench.get()
    assert len(bench.service.transports) == 2


def test_a_connection_that_holds_output() -> None:
    """An answer that is whole while the kernel has not taken the whole request is an early one, however it looks."""
    bench = Bench()
    request = bench.post(b"abc", b"Content-Length: 3\r\n", more=False)
    bench.service.last.protocol.pauseProducing()
    bench.service.last.answer(OK)
    assert request.body == b"ok"
    bench.get()
    assert len(bench.service.transports) == 2

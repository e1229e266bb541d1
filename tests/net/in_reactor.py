"""Tests that run in the reactor, with a limit to how long they and their waits take."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

DEADLINE_S = 10.0

reactor: Any = installed_reactor
P = ParamSpec("P")
T = TypeVar("T")


def in_reactor(test: Callable[P, Coroutine[Deferred[Any], Any, None]]) -> Callable[P, None]:
    """Run an `async def` test in the reactor, and fail it when it takes too long."""

    @pytest_twisted.inlineCallbacks
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[Deferred[None]]:
        yield Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(3 * DEADLINE_S, reactor)

    return run


async def until(true: Callable[[], T | None], what: str = "") -> T:
    """Turn the reactor until it is true; returns what it was."""
    end = reactor.seconds() + DEADLINE_S
    while not (found := true()):
        assert reactor.seconds() < end, f"never came true: {what or true}"
        await deferLater(reactor, 0.002)
    return found


def finish(coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
    """Turn the reactor until a fixture has cleared up."""
    pytest_twisted.blockon(Deferred.fromCoroutine(coroutine).addTimeout(DEADLINE_S, reactor))


def answer_to(port: int, *pieces: bytes, end: bool = False) -> bytes:
    """All that comes back for bytes sent to a port; with `end` the client's side ends behind them. It blocks."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as plain:
        for piece in pieces:
            plain.sendall(piece)
        if end:
            plain.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: plain.recv(65536), b""))

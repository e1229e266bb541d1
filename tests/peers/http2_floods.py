"""Clients of HTTP/2 that flood a server, each in a way that has a name. What each sends is made by hand."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from tests.peers import http2_frames as wire

Round = Callable[[int, list[wire.Field], list[wire.Field]], Iterable[bytes]]
"""What is sent for a number of streams that goes up by two: pieces, each in a write of its own. Given are the fields of
a GET, and those of a POST with a content-length of 1."""


class Flood(NamedTuple):
    """One kind.

    Attributes:
        begin: what is sent first, behind the preface.
        round: what is sent then, again and again.
        works: whether its requests may reach a service at all: the others are over in the read that brings them.
    """

    begin: bytes
    round: Round
    works: bool


# Between two pieces there is a pause, and no wait: a client is not told when its request has begun, and an answer that
# it asked for, as to a PING, would count against it, too.
_MOMENT_S: Final = 0.002
"""Seconds in which a request is begun."""


def _late(stream: int, get: list[wire.Field], post: list[wire.Field]) -> Iterable[bytes]:
    yield wire.headers(stream, get)
    time.sleep(_MOMENT_S)
    yield wire.rst(stream)


def _late_fault(stream: int, get: list[wire.Field], post: list[wire.Field]) -> Iterable[bytes]:
    yield wire.headers(stream, post, end=False)
    time.sleep(_MOMENT_S)
    yield wire.data(stream, b"12")


def _many(one: bytes) -> Round:
    return lambda stream, get, post: (one * 100,)


OPEN: Final = wire.headers(1, wire.request(method=b"POST"), end=False)
"""A stream that stays open: of an endpoint that is not there, which is answered at once."""

FLOODS: Final[dict[str, Flood]] = {
    "rapid reset": Flood(b"", lambda s, get, post: (wire.headers(s, get) + wire.rst(s),), False),
    "rapid reset, a moment later": Flood(b"", _late, True),
    "made-you-reset: WINDOW_UPDATE of 0": Flood(
        b"", lambda s, get, post: (wire.headers(s, get) + wire.window(s, 0),), True
    ),
    "made-you-reset: window overflow": Flood(
        b"", lambda s, get, post: (wire.headers(s, get) + wire.window(s, 2**31 - 1) * 2,), True
    ),
    "made-you-reset: HEADERS on half-closed": Flood(
        b"", lambda s, get, post: (wire.headers(s, get) + wire.headers(s, get),), True
    ),
    "made-you-reset: DATA on half-closed": Flood(
        b"", lambda s, get, post: (wire.headers(s, get) + wire.data(s, b"x"),), True
    ),
    "made-you-reset: PRIORITY of 4 bytes": Flood(
        b"", lambda s, get, post: (wire.headers(s, get) + wire.frame(wire.PRIORITY, 0, s, bytes(4)),), True
    ),
    "made-you-reset: DATA over its length": Flood(
        b"", lambda s, get, post: (wire.headers(s, post, end=False) + wire.data(s, b"12"),), False
    ),
    "made-you-reset: DATA over its length, a moment later": Flood(b"", _late_fault, True),
    "continuation": Flood(
        wire.headers(1, wire.request(), flags=0),
        _many(wire.continuation(1, wire.literal(b"a", b"b"), end=False)),
        False,
    ),
    "ping": Flood(b"", _many(wire.ping()), False),
    "settings": Flood(b"", _many(wire.settings((wire.INITIAL_WINDOW, 1000))), False),
    "empty data": Flood(OPEN, _many(wire.data(1)), False),
    "priority": Flood(b"", _many(wire.priority(1)), False),
    "unknown frames": Flood(b"", _many(wire.frame(0x42, 0, 0, bytes(100))), False),
    "windows": Flood(b"", _many(wire.window(0, 1)), False),
    "header list": Flood(
        b"",
        lambda s, get, post: (
            wire.headers(s, wire.block(get) + wire.literal(b"a", b"b" * 4000, 0x40) + wire.indexed(62) * 200),
        ),
        False,
    ),
}


class Work:
    """What a service does for each request: it takes a while. Counts how many are in progress, and all."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.all = 0

    def __call__(self, request: object) -> bytes:
        with self._lock:
            self._now += 1
            self.all += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


class Outcome(NamedTuple):
    """What came of a flood.

    Attributes:
        closed: the server closed the connection in time.
        code: of its last GOAWAY; None if there was none.
        sent: bytes.
    """

    closed: bool
    code: int | None
    sent: int


def pour(connection: socket.socket, flood: Flood, authority: bytes, patience_s: float) -> Outcome:
    """Flood a server until it closes the connection, or for some time. The connection is closed in the end."""
    get = wire.request(authority=authority)
    post = wire.request((b"content-length", b"1"), method=b"POST", authority=authority)
    hose = _Hose(connection, time.monotonic() + patience_s)
    hose.send(wire.PREFACE + wire.settings() + flood.begin)
    stream = 3
    while not hose.is_over:
        for piece in flood.round(stream, get, post):
            hose.send(piece)
        stream += 2
    connection.close()
    codes = [frame.code for frame in wire.read_frames(bytes(hose.came))[0] if frame.kind == wire.GOAWAY]
    return Outcome(hose.closed, codes[-1] if codes else None, hose.sent)


class _Hose:
    """Sends and reads in one thread, since a TLS connection is not for two."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._deadline = deadline
        self.came = bytearray()
        self.closed = False
        self.sent = 0

    @property
    def is_over(self) -> bool:
        return self.closed or time.monotonic() > self._deadline

    def send(self, data: bytes) -> None:
        self._read()
        while data and not self.is_over:
            try:
                count = self._connection.send(data)
                self.sent += count
                data = data[count:]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                select.select([self._connection], [self._connection], [], 0.01)
                self._read()
            except OSError:
                self.closed = True

    def _read(self) -> None:
        try:
            while data := self._connection.recv(65_536):
                self.came += data
            self.closed = True
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.closed = True

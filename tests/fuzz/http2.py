"""A connection of HTTP/2 that is fed nonsense, in either role, while its user goes on as if all were well.

What has to hold, whatever comes: nothing is raised, a stream is over once and then silent, what is kept is bounded by
the streams that may be open, no stream brings more than its window, and what has ended stays so.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from random import Random
from typing import Final

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http2 import events as e
from pico_twisted.core.http2.connection import Http2Connection, StreamGone
from pico_twisted.core.http2.flood import FloodLimits, FloodWatch
from pico_twisted.core.http2.heads import request_head, response_head
from pico_twisted.core.http2.settings import Http2Settings
from tests.fuzz.attacks import PATIENCE_S, Finding
from tests.fuzz.mutations import flipped
from tests.peers import http2_frames as wire

SETTINGS: Final = Http2Settings(streams=8, window_bytes=65_535, header_bytes=8192, header_fields=100)
LIMITS: Final = HeadLimits()
NAMES: Final = (b":method", b":path", b":status", b"a", b"cookie", b"host", b"Content-Length", b"content-length", b"te")
VALUES: Final = (b"", b"/", b"200", b"103", b"GET", b"CONNECT", b"5", b"x" * 300, b"a\r\nb: c", b"trailers", b"\0")
INCREMENTS: Final = (0, 1, 1000, 65_535, 2**31 - 1)
SIZES: Final = (0, 1, 5, 1000, 16_384, 16_385)


def attack_http2(rng: Random) -> None:
    """One conversation. Raises AssertionError when something does not hold, or whatever came out."""
    victim = _Victim(rng, client=rng.random() < 0.3)
    victim.feed((b"" if victim.client else wire.PREFACE) + wire.settings())
    for _ in range(rng.randrange(1, 60)):
        data = b"".join(victim.frames.next(victim.open) for _ in range(rng.choice((1, 1, 2, 8))))
        if rng.random() < 0.01:
            data = flipped(rng, data)
        cut = rng.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]) if rng.random() < 0.5 else (data,):
            victim.feed(piece)
        victim.act()
    victim.leave()


def attack_port(rng: Random, address: tuple[str, int], endpoint: str) -> None:
    """A client of a port that sends nonsense and leaves; the port has to close. Raises Finding if it does not."""
    frames = _Frames(rng, f"{endpoint}.example".encode(), server=False)
    with socket.create_connection(address, timeout=PATIENCE_S) as sock:
        try:
            sock.sendall(wire.PREFACE + wire.settings())
            for _ in range(rng.randrange(1, 40)):
                data = b"".join(frames.next(()) for _ in range(rng.choice((1, 1, 2, 8))))
                sock.sendall(flipped(rng, data) if rng.random() < 0.01 else data)
            leaves = rng.randrange(8)
            if leaves == 0:
                return
            if leaves > 1:
                sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 18):
                pass
        except TimeoutError:
            raise Finding("a client of HTTP/2 that sent nonsense was not closed") from None
        except OSError:
            pass  # the port closed first


class _Frames:
    """What a peer sends, most of which is right."""

    def __init__(self, rng: Random, authority: bytes, *, server: bool) -> None:
        self._rng = rng
        self._authority = authority
        self._server = server
        self._next = 1

    def next(self, known: Collection[int]) -> bytes:
        """A frame that may be right, now and then one that cannot."""
        rng = self._rng
        if rng.random() < 0.02:
            return _nonsense(rng, rng.choice((0, 1, 3, 5, 2, 101, 2**31 - 1)), self._server)
        streams = [*known, *range(max(1, self._next - 4), self._next, 2)]
        if not self._server and (not streams or rng.random() < 0.4):
            stream, self._next = self._next, self._next + rng.choice((2, 2, 2, 2, 4))
            fields = wire.request(method=rng.choice((b"GET", b"POST")), authority=self._authority)
            return wire.headers(stream, _odd(rng, fields), end=_often(rng))
        return _sense(rng, rng.choice(streams), self._server) if streams else wire.ping()


class _Victim:
    def __init__(self, rng: Random, *, client: bool) -> None:
        self._rng = rng
        self.client = client
        self._end = Http2Connection(client=client, settings=SETTINGS)
        self._now = 0.0
        self._watch = FloodWatch(self._end, FloodLimits(), self._now)
        self.open: dict[int, int] = {}  # bytes that came and were not consumed
        self._over: set[int] = set()
        self._ended = False
        self.frames = _Frames(rng, b"a.example", server=client)

    def feed(self, data: bytes) -> None:
        self._took(self._end.receive(data))
        self._flush()

    def _flush(self) -> None:
        while self._end.to_send(self._rng.choice((10, 1000, 65_536))):
            self._took(self._end.events_of_sending())
        self._took(self._end.events_of_sending())

    def _took(self, events: list[e.Event]) -> None:
        self._now += self._rng.choice((0.0, 0.001, 1.0))
        if self._watch.saw(events, self._now) is not None:
            self._end.terminate(e.ENHANCE_YOUR_CALM)
        for event in events:
            kind, stream = event[0], event[1]
            assert not self._ended, f"{event} behind the end"
            assert stream not in self._over, f"{event} on a stream that is over"
            if event[0] == e.REQUEST:
                self.open[stream] = 0
                _head(request_head, event[2])
            elif event[0] == e.RESPONSE:
                _head(response_head, event[2])
            elif event[0] == e.DATA:
                self.open[stream] += len(event[2])
                assert self.open[stream] <= SETTINGS.window_bytes, "more than the window"
            elif kind == e.CLOSED:
                self.open.pop(stream, None)
                self._over.add(stream)
            self._ended = self._ended or kind == e.ENDED
        assert len(self.open) <= 2 * SETTINGS.streams
        assert len(self._end._untaken) <= 2 * SETTINGS.streams
        assert set(self._end._accepted) <= set(self._end._untaken)

    def act(self) -> None:
        """What a user might do next."""
        rng, end = self._rng, self._end
        try:
            if self.client and len(self.open) < SETTINGS.streams and rng.random() < 0.5:
                self.open[end.request(wire.request(), rng.random() < 0.5)] = 0
            for stream, held in list(self.open.items()):
                choice = rng.random()
                if choice < 0.3:
                    end.consumed(stream, held)
                    self.open[stream] = 0
                elif choice < 0.5 and not self.client:
                    end.respond(stream, ((b":status", b"200"),), rng.random() < 0.3)
                elif choice < 0.7:
                    end.send(stream, bytes(rng.choice(SIZES)), rng.random() < 0.3)
                elif choice < 0.75:
                    end.trailers(stream, rng.choice(((), ((b"a", b"b"),))))
                elif choice < 0.8:
                    end.reset(stream, e.CANCEL)
        except StreamGone:
            pass
        for stream in self._watch.stalled(self._now):
            end.reset(stream, e.CANCEL)
        self._flush()

    def leave(self) -> None:
        """Nothing comes out of a connection that ended, and it can always be ended."""
        self._end.terminate(e.NO_ERROR)
        self._flush()
        assert self._end.ended
        assert self._ended
        assert self._end.receive(wire.ping()) == []
        assert self._end.to_send(1000) == b""


def _head(read: object, fields: e.WireFields) -> None:
    try:
        read(fields, LIMITS)  # type: ignore[operator]
    except Http1Error:
        pass


def _often(rng: Random) -> bool:
    return rng.random() < 0.4


def _odd(rng: Random, fields: list[wire.Field]) -> list[wire.Field]:
    return [*fields, (rng.choice(NAMES), rng.choice(VALUES))] if rng.random() < 0.2 else fields


def _sense(rng: Random, stream: int, client: bool) -> bytes:
    """A frame for a stream that has begun: right, as long as that is open."""
    choice = rng.randrange(20)
    if choice < 9:
        return wire.data(stream, bytes(rng.choice(SIZES[:-1])), end=rng.random() < 0.1)
    if choice < 12:
        return wire.window(stream, rng.choice(INCREMENTS[1:3]))
    if choice == 12:
        return wire.rst(stream, rng.choice((0, 1, 8, 0xFFFF)))
    if choice < 17:
        status = rng.choice(((b":status", b"200"), (b":status", b"103")))
        return wire.headers(
            stream, _odd(rng, [status] if client else [(b"a", b"trailer")]), end=not client or _often(rng)
        )
    settings = wire.settings((wire.INITIAL_WINDOW, rng.choice((0, 1, 65_535))))
    return rng.choice((wire.ping(), wire.ping(ack=True), wire.window(0, 1000), settings))


def _nonsense(rng: Random, stream: int, client: bool) -> bytes:
    """Any frame on any stream."""
    end = _often(rng)
    choice = rng.randrange(12)
    if choice < 4:
        fields = _odd(rng, [(b":status", b"200")] if client else wire.request())
        return wire.headers(stream, fields, end=end, flags=wire.END_HEADERS if rng.random() < 0.95 else 0)
    if choice < 6:
        return wire.data(stream, bytes(rng.choice(SIZES)), end=end)
    if choice == 6:
        return wire.rst(stream, rng.choice((0, 1, 8, 0xFFFF)))
    if choice == 7:
        return wire.window(stream, rng.choice(INCREMENTS))
    if choice == 8:
        return wire.settings((rng.randrange(10), rng.choice((0, 1, 16_384, 65_535, 2**31))))
    if choice == 9:
        return rng.choice((wire.ping(), wire.ping(ack=True), wire.settings(ack=True), wire.goaway(stream)))
    if choice == 10:
        return wire.headers(stream, wire.literal(b"a", b"b" * 3000, 0x40) + wire.indexed(62) * rng.randrange(12))
    return wire.frame(rng.randrange(12), rng.getrandbits(8), stream, bytes(rng.randrange(20)))

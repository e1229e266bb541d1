"""How much of a peer's nonsense is enough: floods of HTTP/2, on one connection.

What is needed. A client pays a few bytes for a frame, and what it makes us do can cost much more: a call to a service
that is given up at once, a head of 4,000 bytes for each byte on the wire, an answer that is held for as long as its
window stays shut. Many such attacks have names: rapid reset (CVE-2023-44487), MadeYouReset (CVE-2025-8671), floods of
PING, SETTINGS and empty frames (CVE-2019-9512 to 9518), bombs of HPACK. libnghttp2 stops what it can see; what a
request costs behind us, and what we hold for a peer, it cannot know.

What can go wrong: an honest peer looks like an attack. A closed tab resets a hundred streams at once; gRPC sends a PING
for each turn of a download to measure it; a browser sends a cookie of 4,000 bytes with each of a hundred requests, in
two bytes each. So nothing here counts frames of a kind alone: what a peer has done in good order, and what we sent it,
pay for what it asks. What ends a connection is far from what they do.

How: two levels that fill up again with time. *Resets* are of streams that ended in bad order before they could be
served; those that a fault of the peer made us send count as its own. *Noise* is in bytes: all that came and was
neither a message nor due to what we sent. What comes of a stream that we gave up was on its way, and is no noise: up to
the window that it had.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Final, NamedTuple

import attrs

from pico_twisted.core.http2.connection import Http2Connection
from pico_twisted.core.http2.events import (
    CLOSED,
    DATA,
    ENHANCE_YOUR_CALM,
    FAULT,
    INTERIM,
    PEER_RESET,
    PING,
    REFUSED_STREAM,
    REQUEST,
    RESPONSE,
    SETTINGS,
    TRAILERS,
    Event,
)

RESETS: Final = 128
"""Streams that a peer may give up at once: as many as it may have open, as when the tab of a browser is closed."""

RESETS_PER_S: Final = 10.0
"""What comes back in a second. A stream that ends in good order gives one back as well: who uses a service may also
change their mind, once for each answer."""

EARLY_S: Final = 1.0
"""A stream that was open for longer has had its place among the streams of its connection for all that time: giving it
up is what a deadline does, and costs the peer as much as us."""

NOISE_BYTES: Final = 1024 * 1024
"""Noise that may come at once."""

NOISE_BYTES_PER_S: Final = 64 * 1024.0
"""What comes back in a second."""

SENT_PAYS: Final = 4
"""Bytes of noise that one byte of ours pays for: a peer may answer each small frame of DATA with two WINDOW_UPDATEs and
a PING."""

PING_BYTES: Final = 512
"""What a PING counts for, in noise: 2,000 of them at once, 128 a second, and as many as a download asks for."""

SETTINGS_BYTES: Final = 32 * 1024
"""What SETTINGS count for: they may change each open stream. 32 at once, two a second; a peer sends one or two."""

EMPTY_BYTES: Final = 1024
"""What an empty DATA frame counts for that does not end its stream: it has no reason to be there."""

HEAD_BYTES: Final = 64 * 1024
"""What a head or trailers may have on the wire without being noise: their own limits hold them."""

FRAME_HEAD_BYTES: Final = 9
"""Of any frame (RFC 9113 4.1)."""

LARGE_HEAD_BYTES: Final = 16 * 1024
"""A head, unpacked, that is looked at: smaller ones are bounded by the number of streams."""

HELD_HEAD_BYTES: Final = 2 * 1024 * 1024
"""Bytes of heads of all open streams of a connection, unpacked: `LARGE_HEAD_BYTES` for each of 128. A stream with a
large head beyond it is refused, and can be tried again."""

STALL_S: Final = 60.0
"""Seconds in which a peer takes at least `STALL_BYTES` of an answer that waits for it."""

STALL_BYTES: Final = 16 * 1024
"""Less is progress as well when less is waiting."""


@attrs.frozen(kw_only=True)
class FloodLimits:
    """What a peer may do on one connection. The constants of the same names say why.

    Attributes:
        resets, resets_per_s: streams that are given up early.
        noise_bytes, noise_bytes_per_s: what is no message.
        held_head_bytes: of the heads of all open streams.
        stall_s: without progress of an answer that waits.
    """

    resets: int = RESETS
    resets_per_s: float = RESETS_PER_S
    noise_bytes: int = NOISE_BYTES
    noise_bytes_per_s: float = NOISE_BYTES_PER_S
    held_head_bytes: int = HELD_HEAD_BYTES
    stall_s: float = STALL_S


class Excess(NamedTuple):
    """Why a connection has to end: by `Http2Connection.terminate(code)`.

    Attributes:
        code: for the GOAWAY.
        reason: one of few fixed words, for metrics and logs.
    """

    code: int
    reason: str


_NOT_OPEN: Final = (-math.inf, 0)


class FloodWatch:
    """Watches one connection for its user.

    Args:
        connection: what it is about; nothing else of it is changed than that streams are refused.
        limits: see there.
        now: in seconds.

    Attributes:
        not_begun: streams whose REQUEST was among the events that `saw` was told of last, and for which nothing is to
            be begun: they are over already, or were refused.
    """

    def __init__(self, connection: Http2Connection, limits: FloodLimits, now: float) -> None:
        self._connection = connection
        self._limits = limits
        self._at = now
        self._resets = float(limits.resets)  # how many are left
        self._noise = float(limits.noise_bytes)  # how much is left
        self._culprit = "frames"  # what made noise last that has a name
        self._bytes_in = connection.bytes_in
        self._bytes_out = connection.bytes_out
        self._pardoned = 0  # noise that was on its way for streams that we gave up
        self._open: dict[int, tuple[float, int]] = {}  # by stream: since when, bytes of its head
        self._stalls: dict[int, tuple[float, int]] = {}
        self.not_begun: set[int] = set()

    def saw(self, events: Sequence[Event], now: float) -> Excess | None:
        """Take note of events, those of `receive` and those of `events_of_sending`, before they are acted on.

        Args:
            events: all that one of them gave.
            now: in seconds.

        Returns:
            Why the connection has to end, or None.
        """
        if self.not_begun:
            self.not_begun = set()
        self._refill(now)
        for event in events:
            kind = event[0]
            if kind == DATA:
                size = len(event[2])  # type: ignore[arg-type]
                self._noise += FRAME_HEAD_BYTES + size
                if not size and not event[3]:
                    self._noise -= EMPTY_BYTES
                    self._culprit = "empty-data"
            elif kind == REQUEST:
                self._noise += HEAD_BYTES
                size = sum(map(len, chain.from_iterable(event[2])))  # type: ignore[arg-type]
                self._open[event[1]] = now, size
                if size > LARGE_HEAD_BYTES:
                    self._bound_heads(event[1])
            elif kind == CLOSED:
                since, _ = self._open.pop(event[1], _NOT_OPEN)
                if since == now:
                    self.not_begun.add(event[1])
                self._stalls.pop(event[1], None)
                if not event[2]:
                    self._resets += 1
            elif kind == FAULT:
                self._resets -= 1
            elif kind == PEER_RESET:
                if not event[3]:
                    self._given_up(event[1], now)
            elif kind == PING:
                self._noise -= PING_BYTES
                self._culprit = "ping"
            elif kind == SETTINGS:
                self._noise -= SETTINGS_BYTES
                self._culprit = "settings"
            elif kind in (RESPONSE, INTERIM, TRAILERS):
                self._noise += HEAD_BYTES
        return self._verdict()

    def _verdict(self) -> Excess | None:
        if self._resets < 0:
            return Excess(ENHANCE_YOUR_CALM, "resets")
        if self._noise < 0:
            pardoned = min(self._connection.given_up_bytes - self._pardoned, math.ceil(-self._noise))
            self._pardoned += pardoned
            self._noise += pardoned
            if self._noise < 0:
                return Excess(ENHANCE_YOUR_CALM, self._culprit)
        return None

    def _refill(self, now: float) -> None:
        limits, connection = self._limits, self._connection
        passed = max(0.0, now - self._at)
        self._at = max(now, self._at)
        self._resets = min(limits.resets, self._resets + passed * limits.resets_per_s)
        came, went = connection.bytes_in - self._bytes_in, connection.bytes_out - self._bytes_out
        self._bytes_in += came
        self._bytes_out += went
        left = self._noise + passed * limits.noise_bytes_per_s + went * SENT_PAYS
        if left >= limits.noise_bytes:
            left = limits.noise_bytes
            self._culprit = "frames"
        self._noise = left - came

    def _bound_heads(self, stream: int) -> None:
        """Refuse a stream whose head is one too many."""
        held = sum([head_bytes for _, head_bytes in self._open.values()])
        if held > self._limits.held_head_bytes:
            self.not_begun.add(stream)
            self._connection.reset(stream, REFUSED_STREAM)

    def _given_up(self, stream: int, now: float) -> None:
        """A stream that was answered costs what requests cost, whether it is taken to its end or not."""
        since, _ = self._open.get(stream, _NOT_OPEN)
        if now - since < EARLY_S:
            self._resets -= 1

    def stalled(self, now: float, patient: Collection[int] = (), over: Collection[int] = ()) -> list[int]:
        """Look for streams whose peer has not taken what waits for it for too long. To be asked every few seconds.

        Args:
            now: in seconds.
            patient: streams that may stand still for any length of time.
            over: streams to which all was written, the end included. It waits for an open window as well.

        Returns:
            Streams that are to be reset, with CANCEL.
        """
        overdue: list[int] = []
        for stream, queued, gone in self._connection.waiting(over):
            if stream in patient:
                self._stalls.pop(stream, None)
                continue
            since, before = self._stalls.get(stream, (now, gone))
            if gone - before >= min(STALL_BYTES, queued or 1):
                since, before = now, gone
            elif now - since >= self._limits.stall_s:
                overdue.append(stream)
            self._stalls[stream] = since, before
        return overdue

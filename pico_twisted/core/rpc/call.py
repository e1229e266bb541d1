"""One call of a session, and how much of its streams may be outstanding."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from pico_twisted.core.rpc import frames

WINDOW_BYTES: Final = 64 * 1024
"""Credit that every stream starts with: one full read of a fast socket."""
NEAR_WINDOW_BYTES: Final = 256 * 1024
"""What any fast stream's window grows to: 256 KiB in 10 ms is 25 MB/s for each call."""
MAX_WINDOW_BYTES: Final = 32 * 1024 * 1024
"""What it grows to where round trips are long: 32 MiB in 50 ms is 670 MB/s for each call."""
MEASURE_S: Final = 0.01
"""What a stream brings is measured over half a round trip, and over no less than this."""
GRANT_BYTES: Final = 128 * 1024
"""Credit is granted once half a window was taken, or this much: what is taken and not granted is no part of a window
that is on its way."""
SESSION_NEAR_BYTES: Final = 4 * 1024 * 1024
"""A window grows to `NEAR_WINDOW_BYTES` only while such windows for all open calls would be at most this: more would
only fill the buffers of the kernel, in front of small calls."""
SESSION_FAR_BYTES: Final = 32 * 1024 * 1024
"""The same for larger ones, whose bytes are on their way."""


class Call:
    """One call: what either side knows of its two streams. Made by a `Session` only.

    `receiver` belongs to the glue: whoever gets the events of this call.
    """

    __slots__ = (
        "__weakref__",
        "closed",
        "credit",
        "granted_at",
        "id",
        "kind",
        "measured",
        "measured_at",
        "ours",
        "queue",
        "queued",
        "ready",
        "receiver",
        "receive_ended",
        "receive_left",
        "returned",
        "send_closed",
        "send_ended",
        "started",
        "unconsumed",
        "waiting",
        "window",
    )

    # Set once the window is `NEAR_WINDOW_BYTES`: few calls get there.
    measured: int  # bytes granted since `measured_at`
    measured_at: float

    def __init__(self, call_id: int, kind: int, ours: bool, credit: int) -> None:
        self.id = call_id  # of a call of ours: 0 until its first frame is taken
        self.kind = kind
        self.ours = ours  # we are its caller
        self.receiver: object = None
        self.closed = False
        # our stream
        self.queue: deque[bytes | memoryview] = deque()
        self.queued = 0
        self.credit = credit
        self.send_ended = False  # nothing more will be queued
        self.send_closed = False  # its last frame was taken
        self.started = False  # its first frame was taken
        self.ready = False  # in the session's turn
        self.waiting = False  # its writer was told to pause
        # the peer's stream
        self.receive_ended = False
        self.window = WINDOW_BYTES
        self.receive_left = credit  # what the peer may still send
        self.unconsumed = 0
        self.returned = 0  # consumed, not granted anew yet
        self.granted_at = -math.inf

    def __repr__(self) -> str:
        return f"<Call {frames.KIND_NAMES.get(self.kind, self.kind)} {self.id} {'ours' if self.ours else 'theirs'}>"

    def is_held_up(self, granted: int, now: float, rtt_s: float, calls: int) -> bool:
        """Say whether the window holds the peer's stream up, and should double.

        A small window does when it was used up within a few round trips. A large one costs memory, so it must be worth
        that: what the stream brings in a round trip is more than half of it.

        Args:
            granted: bytes that are granted now.
            now: monotonic seconds.
            rtt_s: of the session; 0.0 while it is not known.
            calls: how many the session has.
        """
        near = self.window < NEAR_WINDOW_BYTES
        if 2 * self.window * calls > (SESSION_NEAR_BYTES if near else SESSION_FAR_BYTES):
            return False
        if near:
            return now - self.granted_at < 4 * rtt_s + 0.1
        passed_s = now - self.measured_at
        if passed_s < 0.0:
            return False
        self.measured += granted
        if passed_s < max(rtt_s / 2, MEASURE_S):
            return False
        in_round_trip = self.measured / passed_s * rtt_s
        self.measured = 0
        self.measured_at = now
        return in_round_trip > self.window / 2

    def grow(self, now: float, rtt_s: float) -> None:
        """Double the window. What it brings is measured a round trip later: only then it can bring more."""
        self.window *= 2
        if self.window >= NEAR_WINDOW_BYTES:
            self.measured = 0
            self.measured_at = now + rtt_s

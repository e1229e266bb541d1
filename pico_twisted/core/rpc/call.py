"""One call of a session, and how much of its streams may be outstanding."""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Final, Protocol

from pico_twisted.core.rpc import frames

WINDOW_BYTES: Final = 64 * 1024
"""Credit that every stream starts with: one full read of a fast socket."""
NEAR_WINDOW_BYTES: Final = 256 * 1024
"""Most bytes that the window of any fast stream grows to: 256 KiB in 10 ms is 25 MB/s for each call."""
MAX_WINDOW_BYTES: Final = 32 * 1024 * 1024
"""Most bytes that a window grows to where round trips are long: 32 MiB in 50 ms is 670 MB/s for each call."""
MEASURE_S: Final = 0.01
"""Fewest seconds over which the bytes of a stream are measured; half a round trip when that is longer."""
GRANT_BYTES: Final = 128 * 1024
"""Most bytes that are taken before credit is granted, or half a window when that is less. What is taken and not granted
is no part of a window that is on its way."""
SESSION_NEAR_BYTES: Final = 4 * 1024 * 1024
"""Most bytes that all open calls of a session may have in windows of the size that one would grow to, up to
`NEAR_WINDOW_BYTES`: more would only fill the buffers of the kernel, in front of small calls."""
SESSION_FAR_BYTES: Final = 32 * 1024 * 1024
"""As `SESSION_NEAR_BYTES`, for larger windows, whose bytes are on their way."""


class CallReceiver(Protocol):
    """Who gets what arrives for one call. After `reset` or `lost` nothing follows."""

    def frame(self, payload: bytes, more: bool) -> None: ...
    def reset(self, code: str, text: str) -> None: ...
    def lost(self) -> None: ...
    def drained(self) -> None: ...


class OnlyTold:
    """The receiver of a call that only tells the peer something: nothing is to be done about the answer."""

    def frame(self, payload: bytes, more: bool) -> None:
        """It was heard."""

    def reset(self, code: str, text: str) -> None:
        """It was not, and whoever told it goes on without that."""

    def lost(self) -> None:
        """There is nobody to tell any more."""

    def drained(self) -> None:
        """Nothing was queued."""


class HttpReceiver(CallReceiver, Protocol):
    """Who gets what arrives for an http call."""

    def trailers(self, block: bytes) -> None: ...


class Stream(enum.Enum):
    """How far one of the two streams of a call is."""

    OPEN = enum.auto()  # its writer may go on
    ENDED = enum.auto()  # nothing more is written: ours may still have frames queued, of the peer's the last one came
    CLOSED = enum.auto()  # nothing more leaves or is taken in: the last frame of ours was taken, or the call is over


class Place(enum.Enum):
    """Where a call stands in the rows of its session."""

    NEW = enum.auto()  # it never had anything to send
    IN_ROW = enum.auto()
    IDLE = enum.auto()  # it sent something, and has nothing more to send or no credit


# Names of this module: to look a member of an enum up costs ten times as much, three times for each call.
_OPEN = Stream.OPEN
_NEW = Place.NEW
_NEVER = -math.inf


class Call:
    """One call: what either side knows of its two streams. Made by a session only.

    Attributes:
        id: of a call of ours 0 until its first frame is taken.
        ours: we are its caller.
        receiver: who gets the events of this call. It belongs to the glue.
        queued: bytes of our stream that wait, trailers included.
        trailers: what our stream ends with, behind what is in the queue; empty for nothing.
        credit: how many more of them may leave.
        sending: our stream.
        receiving: the peer's stream; `CLOSED` once the call is over, and never before.
        pausing: the writer of our stream was told to pause.
        window: how much credit the peer's stream is held at.
        receive_left: what the peer may still send.
        unconsumed: what came and was not taken by its consumer yet.
        returned: what was consumed and is not granted again yet.
    """

    __slots__ = (
        "__weakref__",
        "credit",
        "granted_at",
        "id",
        "kind",
        "measured",
        "measured_at",
        "ours",
        "pausing",
        "place",
        "queue",
        "queued",
        "receive_left",
        "receiver",
        "receiving",
        "returned",
        "sending",
        "trailers",
        "unconsumed",
        "window",
    )

    # Set once the window is `NEAR_WINDOW_BYTES`: few calls get there.
    measured: int  # bytes granted since `measured_at`
    measured_at: float

    def __init__(self, call_id: int, kind: int, ours: bool, credit: int) -> None:
        self.id = call_id
        self.kind = kind
        self.ours = ours
        self.receiver: CallReceiver | None = None
        self.queue: deque[bytes | memoryview] = deque()
        self.queued = 0
        self.trailers = b""
        self.credit = credit
        self.sending = _OPEN
        self.place = _NEW
        self.pausing = False
        self.receiving = _OPEN
        self.window = WINDOW_BYTES
        self.receive_left = credit
        self.unconsumed = 0
        self.returned = 0
        self.granted_at = _NEVER

    @property
    def closed(self) -> bool:
        """The call is over."""
        return self.receiving is Stream.CLOSED

    @property
    def started(self) -> bool:
        """Whether the first frame of this call of ours was taken, so that it may have reached the peer."""
        return self.id != 0

    @property
    def send_ended(self) -> bool:
        """Nothing more will be queued."""
        return self.sending is not Stream.OPEN

    @property
    def send_closed(self) -> bool:
        """Nothing of our stream waits any more: its last frame was taken, or the call is over."""
        return self.sending is Stream.CLOSED

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

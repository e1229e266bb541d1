"""When a session asks its peer for a sign of life, and when the peer is dead.

A heartbeat is a call, but none that anybody makes or serves: it overtakes what is queued, one at a time is on its way,
and any byte that comes is as good as its answer, but for the round trip that it measures.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Final

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.frames import HEARTBEAT, HEARTBEAT_PAYLOAD

HEARTBEAT_S: Final = 10.0
"""Seconds between two heartbeats of a node."""
QUIET_S: Final = 15.0
"""Seconds without a byte of the node after which an agent sends a heartbeat."""
UNSURE_S: Final = 3.0
"""Seconds without a byte of the node, after an agent has sent some of a response, after which it sends a heartbeat."""
PATIENCE_S: Final = 1.5
"""Seconds without an answer to a heartbeat, or any other byte, after which the node is silent."""
SILENCE_S: Final = 20.0
"""Without a byte for this many seconds the session is dead."""


class _Asks(enum.Enum):
    """When a session asks the peer for a sign of life."""

    ALWAYS = enum.auto()  # every `HEARTBEAT_S`
    WHEN_QUIET = enum.auto()
    ONCE = enum.auto()  # now, since the round trip needs to be known; from then on when it is quiet


class Heartbeats:
    """The part of a session that keeps its time. All times are monotonic seconds.

    Args:
        asks_always: a heartbeat at once and every 10 s. Else only after 15 s of silence.
        now: the time.

    Attributes:
        last_received: when the last byte came.
        last_sent: when bytes of a call were sent last, as far as whoever sends them says so.
        rtt_s: the last round trip; 0.0 before the first.
        near_rtt_s: the same, without what the round trips under load took longer.
        says: what our heartbeats carry.
        note: what the peer's last heartbeat carried, if that was anything special.
        asked_id: of our heartbeat that was not answered yet; 0 for none.
    """

    def __init__(self, *, asks_always: bool, now: float) -> None:
        self.last_received = now
        self.last_sent = now
        self.rtt_s = 0.0
        self.near_rtt_s = 0.0
        self.says = HEARTBEAT_PAYLOAD
        self.note: bytes | None = None
        self.asked_id = 0
        self._asks = _Asks.ALWAYS if asks_always else _Asks.WHEN_QUIET
        self._ask_at = now if asks_always else now + QUIET_S
        self._asked_at = now
        self._last_id = 0  # of our calls
        self._control: deque[bytes] = deque()  # frames that leave before all others

    def record_rtt(self, rtt_s: float) -> None:
        """Take a measured round trip. Windows follow the shortest ones: a queue on the way is no reason to grow."""
        self.rtt_s = rtt_s
        if self.near_rtt_s == 0.0 or rtt_s < self.near_rtt_s:
            self.near_rtt_s = rtt_s
        else:
            self.near_rtt_s += (rtt_s - self.near_rtt_s) / 8

    def tick(self, now: float) -> str | None:
        """Look at the time: queue a heartbeat when one is due. Returns why the session is dead, if it is."""
        quiet = now - self.last_received
        if quiet > SILENCE_S:
            return f"no byte for {SILENCE_S:.0f} s"
        due = now >= self._ask_at and (self._asks is not _Asks.WHEN_QUIET or quiet >= QUIET_S)
        if due or now >= self._unsure_at():
            self.ask(now)
        return None

    def _unsure_at(self) -> float:
        """When an agent asks, since its response went to a node of which nothing was heard since."""
        if self._asks is _Asks.ALWAYS or self.asked_id or self.last_sent <= self.last_received:
            return math.inf
        return self.last_received + UNSURE_S

    def is_silent(self, now: float) -> bool:
        """Whether the peer was asked for a sign of life, and gave none in time."""
        return self.asked_id != 0 and self.last_received < self._asked_at <= now - PATIENCE_S

    def due_at(self) -> float:
        """Return when `tick` is to be called next, if no byte comes until then."""
        ask_at = self._ask_at
        if self._asks is _Asks.WHEN_QUIET:
            ask_at = max(ask_at, self.last_received + QUIET_S)
        return min(ask_at, self._unsure_at(), self.last_received + SILENCE_S)

    def ask(self, now: float) -> None:
        """Queue a heartbeat."""
        self._asked_at = now
        self._ask_at = now + HEARTBEAT_S
        if self._asks is _Asks.ONCE:
            self._asks = _Asks.WHEN_QUIET
        self._last_id += 1
        self.asked_id = self._last_id
        self._control.append(frames.encode(HEARTBEAT, self.asked_id, 0, self.says))

    def _ask_for_rtt(self) -> None:
        """Ask at the next tick: the round trip needs to be known."""
        self._ask_at = self.last_received  # the past, by the clock of `tick`
        if self._asks is _Asks.WHEN_QUIET:
            self._asks = _Asks.ONCE

    def ask_sooner(self, seconds: float) -> None:
        """Ask again sooner than usual, once: sessions that began together should not be asked together for ever."""
        self._ask_at -= seconds

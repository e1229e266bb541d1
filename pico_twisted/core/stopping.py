"""What a node or an agent that stops waits for.

What is needed. Nobody should notice a restart: requests in progress finish, and as long as nobody else can take new
ones, they are still served. But a process that serves on for ever never stops.

What was chosen. What was in progress at the signal is waited for, and meanwhile new requests are served. Streams that
nobody ends have `drain_streams` for it, all else has the grace period but for its last part. Then nothing new begins,
streams are cut, and what began meanwhile finishes in what is left of the grace period.

What was rejected. Refusing at the signal, as long as one WebSocket is open: a minute's outage for all others. Waiting
for a moment without any request: under load there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Protocol

LAST_SHARE: Final = 0.1
"""The last part of the grace period, as a fraction, in which nothing new begins."""


class EndingCall(Protocol):
    """A call that is in progress at a stop: `IPendingCall`, or a call that an agent serves."""

    @property
    def never_ends(self) -> bool:
        """Whether its response has begun, and goes on until somebody cuts it."""


def of_both_kinds(calls: Iterable[EndingCall]) -> tuple[int, int]:
    """How many calls end by themselves, and how many do not."""
    endless = [call.never_ends for call in calls]
    return endless.count(False), endless.count(True)


def awaited(calls: Iterable[EndingCall], first: Collection[object], streams: bool) -> bool:
    """Whether a process that stops still waits for calls, and so serves new ones.

    Args:
        calls: those in progress.
        first: those in progress at the signal.
        streams: streams still have time.
    """
    return any(streams if call.never_ends else call in first for call in calls)

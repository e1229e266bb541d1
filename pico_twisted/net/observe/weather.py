"""Saying what is wrong with a network: in words, and once, not at every try.

A node that is down for an hour is tried thousands of times.
"""

from __future__ import annotations

import math
from typing import Final

from twisted.internet import defer
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TCPTimedOutError, TimeoutError
from twisted.python.failure import Failure

from pico_twisted.net.tls.client import explain_tls

TIMED_OUT: Final = (defer.TimeoutError, defer.CancelledError, TimeoutError, TCPTimedOutError)
"""What an attempt to connect fails with when it took too long."""

SAY_AGAIN_S: Final = 30.0
"""The same trouble is said again after this long: often enough to be found, too rarely to fill a disk."""


class Weather:
    """Decides whether trouble is news.

    It is when it differs from what was said last, when that is long ago, or when things were fine in between.

    Args:
        say_again_s: how long ago that is.
    """

    __slots__ = ("_said", "_said_at", "_say_again_s", "_unsaid")

    def __init__(self, say_again_s: float = SAY_AGAIN_S) -> None:
        self._say_again_s = say_again_s
        self._said = ""
        self._said_at = -math.inf
        self._unsaid = 0

    def news(self, trouble: str, now: float) -> int | None:
        """Ask whether to say it.

        Returns:
            None when it was said already; else how often it came up, unsaid, since it was said last.
        """
        if trouble != self._said:
            self._unsaid = 0
        elif now - self._said_at < self._say_again_s:
            self._unsaid += 1
            return None
        unsaid, self._unsaid = self._unsaid, 0
        self._said = trouble
        self._said_at = now
        return unsaid

    def cleared(self) -> None:
        """Things are fine: the next trouble is news."""
        self._said = ""


def why_not_connected(failure: Failure) -> str:
    """Why a connection could not be made, in words for a log line."""
    if failure.check(ConnectionRefusedError):
        return "nothing listens there"
    if failure.check(DNSLookupError):
        return "no address for this name"
    if failure.check(*TIMED_OUT):
        return "no answer in time"
    return explain_tls(failure) or failure.getErrorMessage() or type(failure.value).__name__

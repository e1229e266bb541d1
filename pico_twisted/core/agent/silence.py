"""Whether a service is still there that many calls share a connection to, and that says nothing.

What is needed. A service whose machine died takes what we send, and answers nothing until the kernel gives up after
many minutes. Over HTTP/1.1 that costs the calls that meet it; here no call gets through, for all go the same way.

What can go wrong. Silence is no fault: a stream may wait for hours for something to tell. And servers of gRPC count
PINGs as an attack that come more often than every five minutes while they send nothing themselves.

What was chosen. What is sent for the service to answer, and draws not one byte for ten seconds, is followed by a PING.
There is one for each answer of the service, or in five and a half minutes. One that is not answered is the end.
"""

from __future__ import annotations

import math
from typing import Final

PING_AFTER_S: Final = 10.0
"""Seconds of silence behind something that the service should answer, after which it is asked whether it is there."""
PONG_S: Final = 20.0
"""Seconds that it gets to answer. A program that does not get to read for half a minute serves nobody else either."""
PINGS_APART_S: Final = 330.0
"""Seconds between two PINGs that no message of the service came between."""


class Silence:
    """Watches one connection. All times are in seconds of any one clock.

    Attributes:
        due_at: when a PING is due, or the answer to it; infinite when neither is.
    """

    __slots__ = ("_asked_at", "_pinged_at", "due_at")

    def __init__(self) -> None:
        self.due_at = math.inf
        self._asked_at = math.inf  # when something was sent that draws an answer, while nothing comes
        self._pinged_at = -math.inf  # of the last PING, behind which no message came

    @property
    def pinged(self) -> bool:
        """Whether an answer to a PING is awaited, and not a byte came meanwhile."""
        return self._pinged_at >= self._asked_at

    def asked(self, now: float) -> None:
        """Something was sent that the service should answer."""
        if self._asked_at == math.inf:
            self._asked_at = now
            self.due_at = max(now + PING_AFTER_S, self._pinged_at + PINGS_APART_S)

    def heard(self) -> None:
        """Bytes came."""
        self._asked_at = self.due_at = math.inf

    def answered(self) -> None:
        """They were of a message: the next PING is no burden."""
        self._pinged_at = -math.inf

    def ping(self, now: float) -> None:
        """A PING is sent now."""
        self._pinged_at = now
        self.due_at = now + PONG_S

    def nothing_open(self) -> None:
        """No answer is awaited any more. A PING's still is."""
        if not self.pinged:
            self.heard()

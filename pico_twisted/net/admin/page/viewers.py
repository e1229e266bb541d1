"""Those who look at the page: a connection each, to which events are written as they come (server-sent events).

What can go wrong. A viewer stops reading; a hundred come; one is no longer allowed to look. So what a viewer has not
read is not added to: it is left out until they read again, and then they are told the whole; one that reads nothing for
too long is cut. Their number is bounded. And before each event is written it is asked whether they may still look.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pico_twisted.net.admin.site import AdminRequest

MOST_VIEWERS: Final = 32
"""Most viewers of one process: a team and its screens on the wall, and a small part of the port's connections."""
SLOW_S: Final = 10.0
"""Seconds for which a viewer may leave unread what was written to them."""

EVENT_STREAM: Final = "text/event-stream"
"""Content type of the events."""


def event(name: str, value: object) -> bytes:
    """One event, as it is written."""
    data = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()


@implementer(IPushProducer)
class Viewer:
    """One of them.

    Args:
        request: theirs, whose answer has no end.
        now: tells the time, in seconds.

    Attributes:
        ended: fires when the answer is to end; cancelled when the viewer has left.
        knows: whether what they were told last is what the next event builds on.
    """

    def __init__(self, request: AdminRequest, now: Callable[[], float]) -> None:
        self._request = request
        self._now = now
        self._unread_since: float | None = None
        self.ended: Deferred[bytes] = Deferred()
        self.knows = False
        request.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._unread_since = self._now()

    def resumeProducing(self) -> None:
        self._unread_since = None

    def stopProducing(self) -> None:
        """The connection is gone; the cancelling of `ended` tells of that."""

    @property
    def reads(self) -> bool:
        """Whether what was written before has gone out."""
        return self._unread_since is None

    @property
    def is_stuck(self) -> bool:
        """Whether they have read nothing for too long."""
        return self._unread_since is not None and self._now() - self._unread_since >= SLOW_S

    @property
    def is_admitted(self) -> bool:
        """Whether they may still look."""
        return self._request.stays()

    def write(self, *events: bytes) -> None:
        """Write events."""
        self._request.write(b"".join(events))

    def end(self, why: str) -> None:
        """Tell them that this was all, and end the answer."""
        self.write(event("end", {"why": why}))
        self._request.unregisterProducer()
        self.ended.callback(b"")

    def cut(self) -> None:
        """End the connection at once."""
        self._request.channel.transport.abortConnection()

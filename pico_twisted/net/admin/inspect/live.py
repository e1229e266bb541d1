"""The list as it goes on, in server-sent events: a row for each recording that is new or has changed.

A client that reads slowly gets the newest state of what changed meanwhile, as far as that is still kept: for one that
reads nothing at all no more waits than that.
"""

from __future__ import annotations

import json
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from pico_twisted.core.inspect.filters import Filter
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.inspect.shown import row

GATHER_S: Final = 0.1
"""Seconds for which changes are gathered: a list that moves more often cannot be read."""
BEAT_S: Final = 15.0
"""Seconds between two signs of life."""


@implementer(IPushProducer)
class LiveList:
    """One client that listens.

    Args:
        request: of the client; its answer goes on until it leaves.
        recordings: that it is told of.
        chosen: which of them.
        clock: tells when.
    """

    def __init__(self, request: Request, recordings: Recordings, chosen: Filter, clock: IReactorTime) -> None:
        self._request = request
        self._recordings = recordings
        self._chosen = chosen
        self._clock = clock
        self._changed: dict[int, Recording] = {}
        self._shown: set[int] = set()
        self._paused = False
        self._waiting: IDelayedCall | None = None

    def begin(self) -> None:
        """Tell of what is kept, and then of what changes."""
        self._request.notifyFinish().addBoth(lambda _: self.stopProducing())
        self._request.setHeader(b"content-type", b"text/event-stream")
        self._request.registerProducer(self, True)
        for recording in self._recordings:
            self._changed[recording.id] = recording
        self._recordings.watch(self, self._note)
        self._tell()

    def _note(self, recording: Recording | None) -> None:
        if recording is None:
            self._changed.clear()
            self._shown.clear()
            self._say("cleared", {})
            return
        self._changed[recording.id] = recording
        if len(self._changed) > 2 * len(self._recordings):
            self._changed = {id: one for id, one in self._changed.items() if self._recordings.get(id) is not None}
        self._wait(GATHER_S)

    def _wait(self, seconds: float) -> None:
        waiting = self._waiting
        if waiting is not None and waiting.active():
            if waiting.getTime() <= self._clock.seconds() + seconds:
                return
            waiting.cancel()
        self._waiting = self._clock.callLater(seconds, self._tell)

    def _tell(self) -> None:
        if self._paused:
            return
        changed, self._changed = self._changed, {}
        rows = []
        for recording in sorted(changed.values(), key=lambda one: one.id):
            if self._chosen.matches(recording):
                self._shown.add(recording.id)
                rows.append(row(recording))
            elif recording.id in self._shown:
                self._shown.discard(recording.id)
                rows.append({"id": recording.id, "gone": True})
        self._shown = {id for id in self._shown if self._recordings.get(id) is not None}
        self._say("rows", rows)
        self._wait(BEAT_S)

    def _say(self, event: str, data: object) -> None:
        self._request.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode("ascii"))

    def pauseProducing(self) -> None:
        """The client's connection holds enough (IPushProducer)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The client took what was written (IPushProducer)."""
        self._paused = False
        self._wait(0.0)

    def stopProducing(self) -> None:
        """The client has left (IPushProducer). Idempotent."""
        self._paused = True
        self._recordings.unwatch(self)
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._waiting = None

    def end(self) -> None:
        """The inspector ends."""
        self.stopProducing()
        self._request.unregisterProducer()
        self._request.finish()

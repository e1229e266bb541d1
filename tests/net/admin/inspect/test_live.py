"""The list as it goes on, for a client that reads when it likes."""

from __future__ import annotations

import json

from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from pico_twisted.core.inspect.filters import Filter
from pico_twisted.core.inspect.recording import Recordings
from pico_twisted.net.admin.inspect.live import LiveList
from tests.core.inspect.recorded import recorded


class Answer(DummyRequest):
    """One that is written to, and never pulls (a push producer)."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert streaming


def test_for_a_client_that_reads_nothing_little_waits() -> None:
    """A tab that sleeps, or a curl that was stopped: of what is forgotten meanwhile nothing is held for it, and when it
    reads again it is told what there is."""
    recordings, clock, request = Recordings(most=5), Clock(), Answer([b"live"])
    live = LiveList(request, recordings, Filter(""), clock)  # type: ignore[arg-type]  # a stand-in
    live.begin()
    live.pauseProducing()
    written = len(request.written)
    for _ in range(100):
        recorded(into=recordings)
        clock.advance(1)
    assert len(live._changed) <= 10 and len(request.written) == written
    live.resumeProducing()
    clock.advance(0)
    told = json.loads(request.written[-1].partition(b"data: ")[2])
    assert [row["id"] for row in told][-5:] == [96, 97, 98, 99, 100]
    live.stopProducing()
    assert not clock.getDelayedCalls()

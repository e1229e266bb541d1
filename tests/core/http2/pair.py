"""Two ends of a connection of HTTP/2, joined in memory; and one end that is fed by hand."""

from __future__ import annotations

from pico_twisted.core.http2.connection import Http2Connection
from pico_twisted.core.http2.events import DATA, Event
from pico_twisted.core.http2.settings import Http2Settings
from tests.peers import http2_frames as wire

MOST = 64 * 1024
GET = tuple(wire.request())


def flush(end: Http2Connection, most: int = MOST) -> tuple[bytes, list[Event]]:
    """All that it has to send, and what happened because of that."""
    out, events = [], []
    while data := end.to_send(most):
        out.append(data)
        events += end.events_of_sending()
    return b"".join(out), events + end.events_of_sending()


class Pair:
    """A client and a server, both ours. What each is told is kept; DATA is consumed at once unless told otherwise."""

    def __init__(self, settings: Http2Settings | None = None) -> None:
        settings = settings or Http2Settings()
        self.client = Http2Connection(client=True, settings=settings)
        self.server = Http2Connection(client=False, settings=settings)
        self.consumes = True
        self.pump()

    def pump(self) -> tuple[list[Event], list[Event]]:
        """Let both send until nothing is left. Returns what the client and the server were told."""
        told: dict[Http2Connection, list[Event]] = {self.client: [], self.server: []}
        went = True
        while went:
            went = False
            for end, other in ((self.client, self.server), (self.server, self.client)):
                out, events = flush(end)
                told[end] += events
                if out:
                    went = True
                    new = other.receive(out)
                    told[other] += new
                    for event in new:
                        if event[0] == DATA and self.consumes:
                            other.consumed(event[1], len(event[2]))
        return told[self.client], told[self.server]


class ByHand:
    """Our server, and frames by hand. `told` has all events, `sent` all frames of ours."""

    def __init__(self, settings: Http2Settings | None = None, *, client: bool = False) -> None:
        self.end = Http2Connection(client=client, settings=settings or Http2Settings())
        self.told: list[Event] = []
        self.sent: list[wire.Frame] = []
        self._rest = b""
        self.send((b"" if client else wire.PREFACE) + wire.settings() + wire.settings(ack=True))
        self.told.clear()
        self.sent.clear()

    def send(self, data: bytes, piece: int | None = None) -> list[Event]:
        """Send bytes, in pieces of a size if one is given; returns what was told because of them."""
        size = piece or len(data) or 1
        told: list[Event] = []
        for at in range(0, len(data), size):
            told += self.end.receive(data[at : at + size])
            told += self.flush()
        self.told += told
        return told

    def flush(self) -> list[Event]:
        out, events = flush(self.end)
        frames, self._rest = wire.read_frames(self._rest + out)
        self.sent += frames
        return events

    def kinds(self) -> list[int]:
        return [event[0] for event in self.told]

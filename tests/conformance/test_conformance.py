"""The engine does what the standard asks of a server, in memory; `make conformance` asks a node."""

from __future__ import annotations

import pytest

from pico_twisted.core.http2.connection import Http2Connection, StreamGone
from pico_twisted.core.http2.events import DATA, REQUEST, Event
from pico_twisted.core.http2.settings import Http2Settings
from tests.conformance.cases import ALL
from tests.conformance.conversation import Conversation

BODY = b"hello from the engine"


class Answering:
    """A server in memory: every request is answered once it is whole."""

    def __init__(self) -> None:
        self._end = Http2Connection(client=False, settings=Http2Settings())

    def send(self, data: bytes) -> None:
        """Give it bytes, and answer."""
        self._act(self._end.receive(data))

    def _act(self, events: list[Event]) -> None:
        for event in events:
            if event[0] == DATA:
                self._end.consumed(event[1], len(event[2]))
            if event[0] <= 5 and event[3]:
                try:
                    self._end.respond(event[1], ((b":status", b"200"),), ended=False)
                    self._end.send(event[1], BODY, ended=True)
                except StreamGone:
                    pass
            assert event[0] != REQUEST or event[2][0][0] == b":method"

    def read(self) -> bytes | None:
        """What it has to send."""
        data = self._end.to_send(64 * 1024)
        self._act(self._end.events_of_sending())
        if data:
            return data
        return b"" if self._end.ended else None


@pytest.mark.parametrize("number", ALL)
def test_case(number: str) -> None:
    """The case of this number is kept."""
    case = ALL[number]
    case.play(Conversation(Answering(), b"a.example", b"http"))


def test_all_are_there() -> None:
    """h2spec 2.6.1 has so many, two of them only when it is strict."""
    assert len(ALL) == 147

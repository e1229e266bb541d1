"""An open inspector for tests, and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from pico_twisted.config.values import Address
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.inspect.replay import Edits, ReplayRefused
from pico_twisted.net.admin.inspect import InspectorPort, open_inspector
from tests.net.in_reactor import DEADLINE_S, reactor

KEY = "the-key-of-the-inspector"


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # what JSON can hold
        """The body, read."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What it says is wrong."""
        return str(self.json["error"])


class Inspected:
    """An open inspector.

    Attributes:
        recordings: what it shows.
        replayed: what it was asked to send again.
        refuses: words with which it sends nothing again.
    """

    def __init__(self) -> None:
        self.recordings = Recordings()
        self.replayed: list[tuple[int, Edits]] = []
        self.refuses = ""
        self.port: InspectorPort = open_inspector(
            reactor, self.recordings, self._replay, version="1.2.3", address=Address("127.0.0.1", 0), key=KEY
        )

    def _replay(self, id: int, edits: Edits) -> Recording:
        if self.refuses:
            raise ReplayRefused(self.refuses)
        self.replayed.append((id, edits))
        return self.recordings.begin("shop", "localhost:3000", 0.0, tcp=False, replay_of=id)

    async def ask(
        self, path: str, method: str = "GET", fields: Mapping[str, str] | None = None, body: bytes | str | None = None
    ) -> Answer:
        """Ask it, with its key unless the fields say otherwise."""
        told = {"Authorization": f"Bearer {KEY}", "Host": f"127.0.0.1:{self.port.address.port}", **(fields or {})}

        def asked() -> Answer:
            connection = HTTPConnection("127.0.0.1", self.port.address.port, timeout=DEADLINE_S)
            try:
                connection.request(method, path, body, {name: value for name, value in told.items() if value})
                answer = connection.getresponse()
                named = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, named, answer.read())
            finally:
                connection.close()

        return await deferToThread(asked)

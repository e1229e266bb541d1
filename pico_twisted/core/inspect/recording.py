"""What is kept of the calls of an agent: bounded, the newest ones, with streams as they go on.

A recording grows while its call runs, and everybody who shows it reads it as it is. Three bounds hold: of each body
only the beginning is kept, of all calls only the newest, and of those only as many as have room together. What makes
room for newer ones may still run; nothing more is kept of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from pico_twisted.core.http1.head import RequestHead, ResponseHead

MOST_BODY_BYTES: Final = 64 * 1024
"""Most bytes that are kept of one body: forms, JSON and pages fit in; of a film its beginning says enough."""
MOST_RECORDINGS: Final = 500
"""Most calls that are kept: more than a person scrolls through."""
MOST_BYTES: Final = 32 * 1024 * 1024
"""Most bytes that all recordings hold together, so that looking costs a process about as much as a tab of a browser."""

_HEAD_BYTES: Final = 1024
"""What a recording and its heads cost beside their text."""
_FIELD_BYTES: Final = 200
"""What a field costs beside its text."""


class RecordedBody:
    """One body, as far as it is kept.

    Attributes:
        count: how many bytes it has, or had so far.
        kept: its beginning.
    """

    __slots__ = ("count", "kept")

    def __init__(self) -> None:
        self.count = 0
        self.kept = bytearray()

    @property
    def cut(self) -> bool:
        """Whether there is more of it than is kept."""
        return self.count > len(self.kept)


@attrs.define(kw_only=True, eq=False)
class Recording:
    """One call.

    Attributes:
        id: counts up, in this process.
        endpoint: the endpoint ID.
        service: the address that it goes to, as text.
        at_s: when it came, in seconds since 1970.
        began_s: the same by the clock that durations are measured with, which nobody sets.
        replay_of: the ID of the recording that it repeats; 0 for a call of a client.
        tcp: it is a call of TCP, which has no request of its own.
        request: its head, as the node sent it; None before it came.
        request_body: what came of it.
        request_ended: all of it came.
        response: the final head, as the caller gets it; None before.
        response_body: what went back.
        response_trailers: the block that it ended with; empty for none.
        bytes_in, bytes_out: bytes behind a 101, which are only counted.
        first_byte_s: seconds from the beginning to the final head; None before.
        duration_s: seconds from the beginning to the end; None while it runs.
        status: what it is counted with; 0 while it runs. 499 when its client gave up.
        error: the code of what went wrong; empty for nothing.
        trouble: the same in words.
        over: nothing more comes.
    """

    id: int
    endpoint: str
    service: str
    at_s: float
    began_s: float = 0.0
    replay_of: int = 0
    tcp: bool = False
    request: RequestHead | None = None
    request_body: RecordedBody = attrs.field(factory=RecordedBody)
    request_ended: bool = False
    response: ResponseHead | None = None
    response_body: RecordedBody = attrs.field(factory=RecordedBody)
    response_trailers: bytes = b""
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_s: float | None = None
    duration_s: float | None = None
    status: int = 0
    error: str = ""
    trouble: str = ""
    over: bool = False

    @property
    def method(self) -> str:
        """Of the request, `TCP` for a call of TCP; empty before it came."""
        if self.tcp:
            return "TCP"
        return "" if self.request is None else self.request.method.decode("latin-1")

    @property
    def target(self) -> str:
        """Of the request, as it came; empty before."""
        return "" if self.request is None or self.tcp else self.request.target.decode("latin-1")

    @property
    def client(self) -> str:
        """The address of its client, as the node tells it; empty when it does not."""
        told = b"" if self.request is None else self.request.by_name.get(b"x-forwarded-for", b"")
        return told.decode("latin-1").partition(",")[0].strip()

    @property
    def upgraded(self) -> bool:
        """Whether raw bytes went behind its heads."""
        return self.response is not None and self.response.status == 101

    @property
    def shown_status(self) -> int:
        """The status of its response; before that, what it is counted with."""
        return self.status if self.response is None else self.response.status

    @property
    def size_in(self) -> int:
        """Bytes of its request behind the head."""
        return self.request_body.count + self.bytes_in

    @property
    def size_out(self) -> int:
        """Bytes of its response behind the head."""
        return self.response_body.count + self.bytes_out


class Recordings:
    """Those that are kept.

    Args:
        most: recordings.
        most_bytes: of all together.
        most_body_bytes: of one body.
    """

    def __init__(
        self, most: int = MOST_RECORDINGS, most_bytes: int = MOST_BYTES, most_body_bytes: int = MOST_BODY_BYTES
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._most_body_bytes = most_body_bytes
        self._kept: dict[int, Recording] = {}  # the oldest first
        self._held: dict[int, int] = {}
        self._bytes = 0
        self._last_id = 0
        self._watchers: dict[object, Callable[[Recording | None], None]] = {}

    def __iter__(self) -> Iterator[Recording]:
        """The newest first."""
        return iter(list(reversed(self._kept.values())))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def held_bytes(self) -> int:
        """About how many bytes they hold."""
        return self._bytes

    def get(self, id: int) -> Recording | None:
        """The one with an ID; None when it is not kept."""
        return self._kept.get(id)

    def begin(
        self, endpoint: str, service: str, at_s: float, *, tcp: bool, began_s: float = 0.0, replay_of: int = 0
    ) -> Recording:
        """A call has begun. For the arguments see `Recording`."""
        self._last_id += 1
        made = Recording(
            id=self._last_id,
            endpoint=endpoint,
            service=service,
            at_s=at_s,
            began_s=began_s,
            tcp=tcp,
            replay_of=replay_of,
        )
        self._kept[made.id] = made
        self._holds(made, _HEAD_BYTES)
        self.changed(made)
        return made

    def forget_request(self, recording: Recording) -> None:
        """The request of a recording is read from its beginning, perhaps once more."""
        self._holds(recording, -len(recording.request_body.kept))
        recording.request_body = RecordedBody()

    def keep_head(self, recording: Recording, head: RequestHead | ResponseHead) -> None:
        """The head of a request or the final one of a response came; `changed` follows."""
        if isinstance(head, RequestHead):
            recording.request = head
            self._holds(recording, len(head.method) + len(head.target))
        else:
            recording.response = head
            self._holds(recording, len(head.reason))
        self._holds(recording, sum(_FIELD_BYTES + 2 * len(name) + len(value) for name, _, value in head.fields))

    def keep_trailers(self, recording: Recording, block: bytes) -> None:
        """The block came that a response ends with; `changed` follows."""
        if recording.id in self._kept:
            recording.response_trailers = block
            self._holds(recording, len(block))

    def keep(self, recording: Recording, body: RecordedBody, data: bytes) -> None:
        """A piece of one of the bodies of a recording came; `changed` follows."""
        body.count += len(data)
        room = self._most_body_bytes - len(body.kept)
        if room > 0 and recording.id in self._kept:
            body.kept += data[:room]
            self._holds(recording, min(room, len(data)))

    def changed(self, recording: Recording) -> None:
        """Something of a recording is new. Older ones may make room for it."""
        if recording.id not in self._kept:
            return
        while len(self._kept) > self._most or (self._bytes > self._most_bytes and len(self._kept) > 1):
            self._forget(next(iter(self._kept.values())))
        for watcher in list(self._watchers.values()):
            watcher(recording)

    def ended(self, recording: Recording) -> None:
        """A call is over: its watchers are told once more, the last time."""
        recording.over = True
        self.changed(recording)

    def clear(self) -> None:
        """Forget all; nothing more is kept of those that run."""
        for recording in list(self._kept.values()):
            self._forget(recording)
        for watcher in list(self._watchers.values()):
            watcher(None)

    def watch(self, who: object, watcher: Callable[[Recording | None], None]) -> None:
        """Call a function with each recording that is new or has changed, and with None when all are forgotten.

        Args:
            who: ends it, with `unwatch`.
            watcher: is called many times in the life of a recording.
        """
        self._watchers[who] = watcher

    def unwatch(self, who: object) -> None:
        """End what `watch` began. Idempotent."""
        self._watchers.pop(who, None)

    def _holds(self, recording: Recording, more_bytes: int) -> None:
        if recording.id in self._kept:
            self._held[recording.id] = self._held.get(recording.id, 0) + more_bytes
            self._bytes += more_bytes

    def _forget(self, recording: Recording) -> None:
        del self._kept[recording.id]
        self._bytes -= self._held.pop(recording.id, 0)
        for body in (recording.request_body, recording.response_body):
            body.kept = bytearray()  # whoever records its call holds it for as long as that runs

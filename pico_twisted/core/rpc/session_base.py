"""What the sessions of both versions share: the tables of calls, the turn in which they send, heartbeats.

See `session`, the one to read first, for what a session is and why it is made like this.
"""

from __future__ import annotations

import abc
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final, Literal

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import WINDOW_BYTES, Call, Place, Stream
from pico_twisted.core.rpc.frames import CREDIT, DRAIN, HEADER, HEADER_BYTES, MORE, RESPONSE, TRAILERS
from pico_twisted.core.rpc.heartbeats import Heartbeats

MAX_DATA_BYTES: Final = 60 * 1024
"""Most payload of one data frame, in bytes: header, masking key and payload together must fit the 64 KiB of the peer's
one read."""
BATCH_BYTES: Final = 64 * 1024
"""Bytes that `frames_to_send` gives at a time; more would only wait in the transport, in front of a small call."""
SMALL_BYTES: Final = 16 * 1024
"""Most bytes with which a stream begins that gets its first frame before those that have begun."""
SEND_HIGH_BYTES: Final = 128 * 1024
"""Most queued bytes of a call with which its writer goes on: two reads of its source."""
SEND_LOW_BYTES: Final = 32 * 1024
"""Queued bytes of a call below which its paused writer goes on."""
MAX_OWED_FRAMES: Final = 4096
"""Most small answers (resets, "not supported", answers to drains) that wait for the peer to read. A peer that makes us
owe more is closed."""

# What `receive` tells: the first item of an event.
OPENED: Final = 1  # the peer opened a call: its first payload, and whether more follows
FRAME: Final = 2  # a piece of the peer's stream: the payload, and whether more follows
WAS_RESET: Final = 3  # the call is over: code and text
DRAINING: Final = 4  # the peer drains; its answer is queued
DRAINED: Final = 5  # the peer answered our drain
ECHO: Final = 6  # the answer to our last heartbeat
ENDED_WITH: Final = 7  # the peer's stream of an http call has ended with trailers: the block

Event = (
    tuple[Literal[1, 2, 7], Call, bytes, bool]
    | tuple[Literal[3], Call, str, str]
    | tuple[Literal[4, 5, 6], None, bytes, bool]
)


U32: Final = struct.Struct(">I")


class SessionError(Exception):
    """The peer broke the protocol of the whole session: close the WebSocket with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


# Names of this module: a member of an enum is looked up in two steps, too many for each frame.
_OPEN = Stream.OPEN
_ENDED = Stream.ENDED
_CLOSED = Stream.CLOSED
_NEW = Place.NEW
_IN_ROW = Place.IN_ROW
_IDLE = Place.IDLE


class SessionBase(Heartbeats, abc.ABC):
    """What v1 and v2 share: the two tables of calls, the turn, heartbeats."""

    # What a version decides
    first_credit: ClassVar[int] = WINDOW_BYTES  # what each stream may send before the peer grants more
    max_data_bytes: ClassVar[int] = MAX_DATA_BYTES
    more_flag: ClassVar[int] = MORE  # marks each frame of a stream but the last
    messages_are_calls: ClassVar[bool] = False  # one message may be too large by the fault of one call

    def __init__(
        self, *, asks_always: bool, serves: Iterable[int] = (), max_calls: int, budget: Budget, now: float
    ) -> None:
        """A session of which nothing was sent or received yet.

        Args:
            asks_always: we are the node: a heartbeat at once and every 10 s. Else only after 15 s of silence.
            serves: the types of calls that we accept from the peer, besides heartbeat and drain.
            max_calls: calls of the peer open at once; further ones are refused.
            budget: the process's limit on held bytes.
            now: monotonic seconds, like every `now` here.
        """
        super().__init__(asks_always=asks_always, now=now)
        self.draining = False  # the peer said that it drains
        self.takes_trailers = False  # the peer does
        self._serves = frozenset(serves)
        self._max_calls = max_calls
        self._budget = budget
        self._ours: dict[int, Call] = {}
        self._unsent: dict[Call, None] = {}  # ours whose first frame waits: they have no ID yet
        self._theirs: dict[int, Call] = {}
        self.turn: deque[Call] = deque()  # calls that have something to send, in turn
        self.first: deque[Call] = deque()  # the same, whose stream begins, with little
        self._echo: bytes | None = None
        self.drained: list[Call] = []  # see `take_drained`
        self._credit_due: dict[Call, int] = {}  # credit that we grant with the next frames (v2)
        self._told_drain = False

    # What the glue asks

    def calls(self) -> Iterator[Call]:
        """All open calls, ours and theirs (a copy: calls may end meanwhile)."""
        return iter([*self._ours.values(), *self._unsent, *self._theirs.values()])

    def call_count(self) -> int:
        """How many calls are open."""
        return len(self._ours) + len(self._unsent) + len(self._theirs)

    def held_bytes(self) -> int:
        """Payload that is queued for the peer, or was given out and not yet taken by its consumer."""
        held = 0
        for call in self._unsent:
            held += call.queued
        for call in self._ours.values():
            held += call.queued + call.unconsumed
        for call in self._theirs.values():
            held += call.queued + call.unconsumed
        return held

    def take_drained(self) -> list[Call]:
        """The calls whose paused writers may go on, since the last time this was asked."""
        drained, self.drained = self.drained, []
        return drained

    def _answered(self) -> Event:
        self.asked_id = 0
        return (ECHO, None, b"", False)

    # What a version does in its own way

    @abc.abstractmethod
    def receive(self, message: bytes) -> Event | None:
        """Take one message of the peer.

        Returns:
            An event, see the constants of this module; None when there is nothing to tell.

        Raises:
            SessionError: the session cannot go on.
        """

    @abc.abstractmethod
    def consumed(self, call: Call, count: int, now: float) -> bool:
        """Our consumer took payload of the peer's stream.

        Args:
            call: whose payload it was.
            count: how many bytes.
            now: seconds, finer than a round trip; compared with nothing else.

        Returns:
            Whether credit waits to be sent.
        """

    @abc.abstractmethod
    def reset(self, call: Call, code: str, text: str = "") -> None:
        """Give a call up. Does nothing on a closed call.

        Args:
            call: which one.
            code: one of `RESET_CODES`; or `UNSUPPORTED`, of a call of the peer that was not answered yet.
            text: what else the peer may know.
        """

    @abc.abstractmethod
    def drain(self) -> bool:
        """Tell the peer that we drain; `DRAINED` comes when it answered. Returns whether the peer can be told."""

    # What we send

    def call_ahead(self, kind: int, payload: bytes) -> Call:
        """Open a call whose only frame leaves before all that is queued, and before any later heartbeat."""
        self._last_id += 1
        call = Call(self._last_id, kind, True, self.first_credit)
        call.sending = _CLOSED
        self._ours[call.id] = call
        self._control.append(frames.encode(kind, call.id, 0, payload))
        return call

    def call(self, kind: int, payload: bytes, more: bool) -> Call:
        """Open a call. Its first frame is queued; `call.started` says when it was taken.

        It gets its ID only then: a heartbeat overtakes what is queued, and IDs may only rise on the wire.

        Args:
            kind: a frame type.
            payload: what the first frame carries; of an http call the whole head, perhaps with body bytes.
            more: whether our stream goes on after it.
        """
        call = Call(0, kind, True, self.first_credit)
        self._unsent[call] = None
        call.queue.append(payload)
        call.queued = len(payload)
        if not more:
            call.sending = _ENDED
        call.place = _IN_ROW
        (self.first if call.queued <= SMALL_BYTES and kind != DRAIN else self.turn).append(call)
        return call

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """Queue bytes of our stream, perhaps none. `more=False` ends it. Does nothing on a closed or ended call."""
        if call.sending is not _OPEN:
            return
        if data:
            call.queue.append(data)
            call.queued += len(data)
            if call.queued > SEND_HIGH_BYTES:
                call.pausing = True
        elif more:
            return
        if not more:
            call.sending = _ENDED
        if call.place is not _IN_ROW and (call.credit > 0 or not call.queue):
            (self.first if call.place is _NEW and call.queued <= SMALL_BYTES else self.turn).append(call)
            call.place = _IN_ROW

    def send_trailers(self, call: Call, block: bytes) -> None:
        """End our stream of an http call with trailers, behind all that is queued.

        They leave in one frame, once the credit covers it. Where the peer does not take them the stream just ends: that
        is looked at only then, for a call may be queued before it is known who the peer is. Does nothing on a closed or
        ended call.

        Args:
            call: whose stream it is.
            block: as `core.http1.trailers` writes it; empty for none.
        """
        if call.sending is not _OPEN:
            return
        call.trailers = block
        call.queued += len(block)
        call.sending = _ENDED
        if call.place is not _IN_ROW and not call.queue and self._trailers_can_go(call):
            call.place = _IN_ROW
            self.turn.append(call)

    def _trailers_can_go(self, call: Call) -> bool:
        """Whether the end of a stream of which nothing else is queued may be sent: without trailers it always may."""
        return call.credit >= len(call.trailers) or not self.takes_trailers

    def has_output(self) -> bool:
        """Whether `frames_to_send` would give any."""
        return bool(self.first or self.turn or self._credit_due or self._control or self._echo is not None)

    def frames_to_send(self) -> list[bytes]:
        """Take the frames that may leave now, about 64 KiB of them; an empty list when there are none.

        Control frames go first, then small streams that begin, then one frame for each call in turn.
        """
        taken: list[bytes] = []
        if self._control:
            taken.extend(self._control)
            self._control.clear()
        if self._echo is not None:
            taken.append(self._echo)
            self._echo = None
        if self._credit_due:
            for call, grant in self._credit_due.items():
                if call.receiving is _OPEN:
                    flags = CREDIT if call.ours else CREDIT | RESPONSE
                    taken.append(HEADER.pack(call.kind, call.id, flags) + U32.pack(grant))
            self._credit_due.clear()
        size = 0
        row = self.first
        if row:
            # A drain, or its answer, is in the other row, and must not overtake a call that was there before it.
            shares = self.turn and not self._told_drain and not self.draining
            most = BATCH_BYTES // 2 if shares else BATCH_BYTES
            while row and size < most:
                size += self._take_frame(row.popleft(), taken)
        row = self.turn
        while row and size < BATCH_BYTES:
            size += self._take_frame(row.popleft(), taken)
        return taken

    def _take_frame(self, call: Call, taken: list[bytes]) -> int:
        """Take the next frame of a call whose turn it is. Returns its size; 0 when the call is over."""
        call.place = _IDLE
        if call.receiving is _CLOSED:
            return 0
        queue = call.queue
        payload: bytes | memoryview = b""
        size = 0
        flags = 0 if call.ours else RESPONSE
        if queue:
            payload = queue.popleft()
            size = len(payload)
            if size > call.credit or size > self.max_data_bytes:
                payload = self._cut(call, payload)
                size = len(payload)
            call.credit -= size
            call.queued -= size
        elif call.trailers:
            payload = self._take_trailers(call)
            size = len(payload)
            if payload:
                flags |= TRAILERS
        if not call.id and call.ours:
            del self._unsent[call]
            call.id = self._last_id = self._last_id + 1
            self._ours[call.id] = call
        if queue or call.sending is _OPEN or call.trailers:
            flags |= self.more_flag
            if (call.credit > 0) if queue else (call.trailers and self._trailers_can_go(call)):
                call.place = _IN_ROW
                self.turn.append(call)
            if call.pausing and call.queued < SEND_LOW_BYTES:
                call.pausing = False
                self.drained.append(call)
        elif call.receiving is _OPEN:
            call.sending = _CLOSED
        else:
            self._close(call)
        header = HEADER.pack(call.kind, call.id, flags)
        taken.append(header + payload if type(payload) is bytes else b"".join((header, payload)))
        return HEADER_BYTES + size

    def _cut(self, call: Call, payload: bytes | memoryview) -> bytes | memoryview:
        """As much of a payload as one frame carries now; the rest waits again. The head of a request is not cut."""
        unsent = call.id == 0 and call.ours
        most = min(frames.MAX_PAYLOAD_V2 if unsent else self.max_data_bytes, call.credit)
        if len(payload) <= most:
            return payload
        view = memoryview(payload)
        call.queue.appendleft(view[most:])
        return view[:most]

    def _take_trailers(self, call: Call) -> bytes:
        """What the last frame of a stream that ends with trailers carries."""
        block, call.trailers = call.trailers, b""
        call.queued -= len(block)
        if not self.takes_trailers:
            return b""
        call.credit -= len(block)
        return block

    def _close(self, call: Call) -> None:
        """Forget the call; nothing of it is sent any more."""
        call.receiving = call.sending = _CLOSED
        if call.ours and call.id == 0:
            self._unsent.pop(call, None)
        else:
            (self._ours if call.ours else self._theirs).pop(call.id, None)
        if call.queue or call.trailers:
            call.queue.clear()
            call.trailers = b""
            call.queued = 0

    def _check_invariants(self) -> None:
        """For tests: what must hold between any two calls of this object."""
        assert all(call.ours and call.place is _IN_ROW for call in self._unsent)
        open_calls = [(0, call, True) for call in self._unsent]
        open_calls += [(call_id, call, True) for call_id, call in self._ours.items()]
        open_calls += [(call_id, call, False) for call_id, call in self._theirs.items()]
        for call_id, call, ours in open_calls:
            assert call.id == call_id and call.ours is ours and call.receiving is not _CLOSED
            assert call.queued == sum(len(piece) for piece in call.queue) + len(call.trailers) >= 0
            assert not (call.sending is _CLOSED and call.queued)
            assert not call.trailers or call.sending is _ENDED
            assert call.credit >= 0 and call.receive_left >= 0
            assert call.unconsumed >= 0 and call.returned >= 0
            assert call.sending is not _CLOSED or call.receiving is _OPEN, "a finished call is forgotten"
            can_go = bool(call.queue and call.credit)
            can_go = can_go or (call.sending is _ENDED and not call.queue and self._trailers_can_go(call))
            assert not can_go or call.place is _IN_ROW, "a call that can send has its turn"
            assert call.place is not _IN_ROW or call in self.turn or call in self.first
        assert len(self._control) <= MAX_OWED_FRAMES + 2 * self._max_calls
        rows = [*self.turn, *self.first]
        assert len(rows) == len({id(call) for call in rows}), "one turn a call"

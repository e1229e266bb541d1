"""One RPC session: the calls that cross one WebSocket. It decides; `net/tunnel` moves the bytes.

What is needed. Two peers call each other over one ordered channel. A call is two byte streams, one each way; calls
interleave, and big ones must not hold up small ones. A slow consumer at one end of one call must slow down its own
sender only, with bounded memory. Either side may give a call up. The peer may be a first-generation agent (v1), which
knows nothing of all that, and it may be hostile.

What can go wrong. A reader that stops reading its socket stops every call on it: so credit, for each stream, is the
only backpressure, and the socket is always read. A peer that makes us owe answers faster than it takes them: so what is
owed is bounded by kind: one sum of credit a stream, one reset a call, one echo. A reset crosses frames in flight: so
frames for a call that is no longer open are dropped silently, which needs IDs that only rise. A drain crosses
calls that are queued but not written: so its answer waits its turn behind their first frames.

What was chosen. `receive()` takes one message and gives at most one event, a plain tuple, and plain calls queue output;
`frames_to_send()` takes what may leave now: heartbeats, credit and resets first, then small streams that begin, up to
half of a batch while others wait, then one frame per call in turn: behind 64 large bodies a turn is 4 MB.
Nothing here keeps received payload: it is handed out at once, and `consumed()` says when the consumer took it. That is
how held bytes are counted and credit is granted, batched at half a window.

What was rejected. HTTP/2's session-wide window: it couples calls, and one stuck consumer can use it up. Objects for
events and frames: they cost more than all of the logic.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from pico_twisted.core.protocol_limits import CLOSE_POLICY, CLOSE_PROTOCOL
from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import (
    GRANT_BYTES,
    MAX_WINDOW_BYTES,
    WINDOW_BYTES,
    Call,
)
from pico_twisted.core.rpc.frames import (
    CREDIT,
    DRAIN,
    HEADER,
    HEADER_BYTES,
    HEARTBEAT,
    HEARTBEAT_PAYLOAD,
    MORE,
    NOT_SUPPORTED,
    PROTOCOL,
    REFUSED_BUSY,
    RESET,
    RESPONSE,
    TCP,
)

MAX_DATA_BYTES: Final = 60 * 1024
"""Payload of one data frame: header, masking key and payload together must fit the 64 KiB of the peer's one read."""
BATCH_BYTES: Final = 64 * 1024
"""What `frames_to_send` gives at a time; more would only wait in the transport, in front of a small call."""
SMALL_BYTES: Final = 16 * 1024
"""A stream that begins with at most this is given its first frame before those that have begun."""
SEND_HIGH_BYTES: Final = 128 * 1024
"""A writer pauses when a call has more than this queued: two reads of its source."""
SEND_LOW_BYTES: Final = 32 * 1024
"""A paused writer goes on when a call has less than this queued."""
HEARTBEAT_S: Final = 10.0
"""How often a node asks for a sign of life."""
QUIET_S: Final = 15.0
"""A v2 agent asks only when this long no byte came."""
SILENCE_S: Final = 20.0
"""Without a byte for this long the session is dead."""
MAX_OWED_FRAMES: Final = 4096
"""Small answers (resets, "not supported", answers to drains) that wait for the peer to read. A peer that makes us owe
more is closed."""

# What `receive` tells: the first item of an event.
OPENED: Final = 1  # (OPENED, call, payload, more): the peer opened a call
FRAME: Final = 2  # (FRAME, call, payload, more): a piece of the peer's stream
WAS_RESET: Final = 3  # (WAS_RESET, call, code, text): the call is over
DRAINING: Final = 4  # (DRAINING, None, b"", False): the peer drains; its answer is queued
DRAINED: Final = 5  # (DRAINED, None, b"", False): the peer answered our drain
ECHO: Final = 6  # (ECHO, None, b"", False): the answer to our last heartbeat

_U32 = struct.Struct(">I")
ENDLESS = 2**62


class SessionError(Exception):
    """The peer broke the protocol of the whole session: close the WebSocket with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


Event = tuple[int, Any, Any, Any]


class Session(Protocol):
    """What both generations offer to the glue: see `SessionV2`, the one to read."""

    version: int
    last_received: float
    rtt_s: float
    draining: bool

    def receive(self, message: bytes) -> Event | None: ...
    def call(self, kind: int, payload: bytes, more: bool) -> Call: ...
    def send(self, call: Call, data: bytes, more: bool) -> None: ...
    def reset(self, call: Call, code: str, text: str = "") -> None: ...
    def consumed(self, call: Call, count: int, now: float) -> None: ...
    def took(self, rtt_s: float) -> None: ...
    def drain(self) -> bool: ...
    def has_output(self) -> bool: ...
    def frames_to_send(self) -> list[bytes]: ...
    def take_drained(self) -> list[Call]: ...
    def tick(self, now: float) -> str | None: ...
    def due_at(self) -> float: ...
    def calls(self) -> Iterator[Call]: ...
    def call_count(self) -> int: ...
    def held_bytes(self) -> int: ...


class SessionBase:
    """What v1 and v2 share: the two tables of calls, the turn, heartbeats."""

    version = 0

    def __init__(
        self, *, asks_always: bool, serves: Iterable[int] = (), max_calls: int, budget: Budget, now: float
    ) -> None:
        """
        Args:
            asks_always: we are the node: a heartbeat at once and every 10 s. Else only after 15 s of silence.
            serves: the types of calls that we accept from the peer, besides heartbeat and drain.
            max_calls: calls of the peer open at once; further ones are refused.
            budget: the process's limit on held bytes.
            now: monotonic seconds, like every `now` here.
        """
        self.last_received = now
        self.rtt_s = 0.0
        self.near_rtt_s = 0.0  # without what the round trips under load took longer
        self.draining = False  # the peer said that it drains
        self.says = HEARTBEAT_PAYLOAD  # what our heartbeats carry
        self.note: bytes | None = None  # what the peer's last heartbeat carried, if that was anything special
        self._asks_always = asks_always
        self._serves = frozenset(serves)
        self._max_calls = max_calls
        self._budget = budget
        self._ours: dict[int, Call] = {}
        self._unsent: dict[Call, None] = {}  # ours whose first frame waits: they have no ID yet
        self._theirs: dict[int, Call] = {}
        self._last_id = 0
        self.turn: deque[Call] = deque()  # calls that have something to send, in turn
        self.first: deque[Call] = deque()  # the same, whose stream begins, with little
        self._control: deque[bytes] = deque()
        self._echo: bytes | None = None
        self._drained: list[Call] = []
        self._credit_due: dict[Call, int] = {}  # credit that we grant with the next frames (v2)
        self.asked_id = 0  # of our heartbeat that was not answered yet
        self._ask_at = now if asks_always else now + QUIET_S
        self._asks_once = False  # the round trip needs to be known
        self._told_drain = False

    def took(self, rtt_s: float) -> None:
        """Take a measured round trip. Windows follow the shortest ones: a queue on the way is no reason to grow."""
        self.rtt_s = rtt_s
        if self.near_rtt_s == 0.0 or rtt_s < self.near_rtt_s:
            self.near_rtt_s = rtt_s
        else:
            self.near_rtt_s += (rtt_s - self.near_rtt_s) / 8

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
        drained = self._drained
        if drained:
            self._drained = []
        return drained

    def tick(self, now: float) -> str | None:
        """Look at the time: queue a heartbeat when one is due. Returns why the session is dead, if it is."""
        quiet = now - self.last_received
        if quiet > SILENCE_S:
            return f"no byte for {SILENCE_S:.0f} s"
        if now >= self._ask_at and (self._asks_always or self._asks_once or quiet >= QUIET_S):
            self.ask(now)
        return None

    def due_at(self) -> float:
        """Return when `tick` is to be called next, if no byte comes until then."""
        ask_at = self._ask_at
        if not (self._asks_always or self._asks_once):
            ask_at = max(ask_at, self.last_received + QUIET_S)
        return min(ask_at, self.last_received + SILENCE_S)

    def ask(self, now: float) -> None:
        """Queue a heartbeat."""
        self._ask_at = now + HEARTBEAT_S
        self._asks_once = False
        self._last_id += 1
        self.asked_id = self._last_id
        self._control.append(frames.encode(HEARTBEAT, self.asked_id, 0, self.says))

    def ask_sooner(self, seconds: float) -> None:
        """Ask again sooner than usual, once: sessions that began together should not be asked together for ever."""
        self._ask_at -= seconds

    def _answered(self) -> Event:
        self.asked_id = 0
        return (ECHO, None, b"", False)

    # What we send

    def call_ahead(self, kind: int, payload: bytes) -> Call:
        """Open a call whose only frame leaves before all that is queued, and before any later heartbeat."""
        self._last_id += 1
        call = Call(self._last_id, kind, True, self._first_credit())
        call.started = call.send_ended = call.send_closed = True
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
        call = Call(0, kind, True, self._first_credit())
        self._unsent[call] = None
        call.queue.append(payload)
        call.queued = len(payload)
        call.send_ended = not more
        call.ready = True
        (self.first if call.queued <= SMALL_BYTES and kind != DRAIN else self.turn).append(call)
        return call

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """Queue bytes of our stream. `more=False` ends it. Does nothing on a call that is closed or ended."""
        if call.closed or call.send_ended:
            return
        if data:
            call.queue.append(data)
            call.queued += len(data)
            if call.queued > SEND_HIGH_BYTES:
                call.waiting = True
        elif more:
            return
        if not more:
            call.send_ended = True
        if not call.ready and (call.credit > 0 or not call.queue):
            call.ready = True
            (self.turn if call.started or call.queued > SMALL_BYTES else self.first).append(call)

    def has_output(self) -> bool:
        """Whether `frames_to_send` would give any."""
        return bool(self.first or self.turn or self._control or self._echo is not None)

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
            self._take_credit(taken)
        size = 0
        if self.first:
            # A drain, or its answer, is in the other row, and must not overtake a call that was there before it.
            shares = self.turn and not self._told_drain and not self.draining
            size = self._take_data(self.first, BATCH_BYTES // 2 if shares else BATCH_BYTES, taken)
        if self.turn and size < BATCH_BYTES:
            self._take_data(self.turn, BATCH_BYTES - size, taken)
        return taken

    def _take_data(self, row: deque[Call], most: int, taken: list[bytes]) -> int:
        size = 0
        while row and size < most:
            call = row.popleft()
            call.ready = False
            if call.closed:
                continue
            frame = self._next_frame(call)
            size += len(frame)
            taken.append(frame)
        return size

    def _next_frame(self, call: Call) -> bytes:
        queue = call.queue
        payload: bytes | memoryview = b""
        if queue:
            payload = queue.popleft()
            most = min(self._max_data, call.credit)
            if len(payload) > most:
                view = memoryview(payload)
                queue.appendleft(view[most:])
                payload = view[:most]
            size = len(payload)
            call.credit -= size
            call.queued -= size
        flags = 0 if call.ours else RESPONSE
        if not call.started:
            call.started = True
            if call.ours:
                del self._unsent[call]
                call.id = self._last_id = self._last_id + 1
                self._ours[call.id] = call
        if queue or not call.send_ended:
            flags |= MORE
            if queue and call.credit > 0:
                call.ready = True
                self.turn.append(call)
            if call.waiting and call.queued < SEND_LOW_BYTES:
                call.waiting = False
                self._drained.append(call)
        else:
            call.send_closed = True
            if call.receive_ended:
                self._close(call)
        header = HEADER.pack(call.kind, call.id, flags if self.version == 2 else flags & ~MORE)
        if type(payload) is bytes:
            return header + payload
        return b"".join((header, payload))

    _max_data = MAX_DATA_BYTES

    def _first_credit(self) -> int:
        return WINDOW_BYTES

    def _take_credit(self, taken: list[bytes]) -> None:
        """Add the credit frames that are due."""

    def _close(self, call: Call) -> None:
        """Forget the call; nothing of it is sent any more."""
        call.closed = True
        if call.ours and not call.started:
            self._unsent.pop(call, None)
        else:
            (self._ours if call.ours else self._theirs).pop(call.id, None)
        if call.queue:
            call.queue.clear()
            call.queued = 0

    def _check_invariants(self) -> None:
        """For tests: what must hold between any two calls of this object."""
        assert all(call.ours and not call.started and call.ready for call in self._unsent)
        open_calls = [(0, call, True) for call in self._unsent]
        open_calls += [(call_id, call, True) for call_id, call in self._ours.items()]
        open_calls += [(call_id, call, False) for call_id, call in self._theirs.items()]
        for call_id, call, ours in open_calls:
            assert call.id == call_id and call.ours is ours and not call.closed
            assert call.queued == sum(len(piece) for piece in call.queue) >= 0
            assert not (call.send_closed and call.queue)
            assert call.credit >= 0 and call.receive_left >= 0
            assert call.unconsumed >= 0 and call.returned >= 0
            assert not (call.send_closed and call.receive_ended), "a finished call is forgotten"
            can_go = bool(call.queue and call.credit) or (call.send_ended and not call.queue and not call.send_closed)
            assert not can_go or call.ready, "a call that can send has its turn"
            assert (not call.ready) or call in self.turn or call in self.first
        assert len(self._control) <= MAX_OWED_FRAMES + 2 * self._max_calls
        rows = [*self.turn, *self.first]
        assert len(rows) == len({id(call) for call in rows}), "one turn a call"


class SessionV2(SessionBase):
    """The negotiated protocol (`pico.v2`): streams of any number of frames, credit, resets, drain."""

    version = 2

    def __init__(
        self, *, asks_always: bool, serves: Iterable[int] = (), max_calls: int, budget: Budget, now: float
    ) -> None:
        super().__init__(asks_always=asks_always, serves=serves, max_calls=max_calls, budget=budget, now=now)
        self._highest = 0  # of the peer's IDs

    def has_output(self) -> bool:
        """Whether `frames_to_send` would give any."""
        return bool(self.first or self.turn or self._credit_due or self._control or self._echo is not None)

    def receive(self, message: bytes) -> Event | None:
        """Take one message of the peer.

        Returns:
            An event (see the constants of this module), or None when there is nothing to tell.

        Raises:
            SessionError: the session cannot go on.
        """
        if len(message) < HEADER_BYTES:
            raise SessionError(CLOSE_PROTOCOL, "frame shorter than its header")
        kind, call_id, flags = HEADER.unpack_from(message)
        if flags & RESPONSE:
            call = self._ours.get(call_id)
            if call is None:
                return self._late_response(kind, call_id, message)
            if kind != call.kind:
                raise SessionError(CLOSE_PROTOCOL, "the type of a call changed")
            if flags & NOT_SUPPORTED:
                self._close(call)
                return (WAS_RESET, call, frames.UNSUPPORTED, "")
        else:
            call = self._theirs.get(call_id)
            if call is None:
                if call_id <= self._highest or flags & (RESET | CREDIT):
                    return None  # late
                return self._open(kind, call_id, flags, message)
            if kind != call.kind:
                raise SessionError(CLOSE_PROTOCOL, "the type of a call changed")
        if not flags & (RESET | CREDIT):
            return self._data(call, message, flags & MORE != 0)
        if flags & RESET:
            code, text = frames.decode_reset(message[HEADER_BYTES:])
            self._close(call)
            return (WAS_RESET, call, code, text)
        self._take_grant(call, message)
        return None

    def _late_response(self, kind: int, call_id: int, message: bytes) -> Event | None:
        if call_id == 0 or call_id > self._last_id:
            raise SessionError(CLOSE_PROTOCOL, "a response to an ID that was not used")
        if call_id == self.asked_id:
            if kind != HEARTBEAT:
                raise SessionError(CLOSE_PROTOCOL, "the type of a call changed")
            return self._answered()
        return None

    def _open(self, kind: int, call_id: int, flags: int, message: bytes) -> Event | None:
        if len(self._control) >= MAX_OWED_FRAMES or len(self._theirs) >= self._max_calls + MAX_OWED_FRAMES:
            raise SessionError(CLOSE_POLICY, "too many answers owed to a peer that does not read")
        self._highest = call_id
        more = flags & MORE != 0
        if kind == HEARTBEAT:
            payload = message[HEADER_BYTES:]
            if len(payload) > frames.MAX_HEARTBEAT_BYTES or more:
                raise SessionError(CLOSE_PROTOCOL, "a heartbeat of more than 125 bytes or one frame")
            self._echo = frames.encode(HEARTBEAT, call_id, RESPONSE, payload)
            if payload != HEARTBEAT_PAYLOAD:
                self.note = payload
            return None
        if kind == DRAIN:
            if len(message) > HEADER_BYTES or more:
                raise SessionError(CLOSE_PROTOCOL, "a drain with a payload")
            self._answer_drain(call_id)
            return (DRAINING, None, b"", False)
        if kind not in self._serves:
            self._control.append(HEADER.pack(kind, call_id, RESPONSE | NOT_SUPPORTED))
            return None
        if len(self._theirs) >= self._max_calls or self._budget.full:
            self._control.append(frames.encode(kind, call_id, RESPONSE | RESET, frames.encode_reset(REFUSED_BUSY)))
            return None
        size = len(message) - HEADER_BYTES
        if size == 0 or size > WINDOW_BYTES:
            text = "the first frame is empty" if size == 0 else "more than the credit"
            self._control.append(frames.encode(kind, call_id, RESPONSE | RESET, frames.encode_reset(PROTOCOL, text)))
            return None
        call = Call(call_id, kind, False, WINDOW_BYTES)
        call.receive_left -= size
        call.unconsumed = size
        call.receive_ended = not more
        self._theirs[call_id] = call
        return (OPENED, call, message[HEADER_BYTES:], more)

    def _answer_drain(self, call_id: int) -> None:
        """The answer takes a turn like data, so that calls which were queued before it start before it."""
        self.draining = True
        answer = Call(call_id, DRAIN, False, 0)
        answer.receive_ended = True
        answer.send_ended = True
        answer.ready = True
        self._theirs[call_id] = answer
        self.turn.append(answer)

    def _data(self, call: Call, message: bytes, more: bool) -> Event | None:
        if call.receive_ended:
            return self._break(call, "a frame after the last")
        size = len(message) - HEADER_BYTES
        if size > call.receive_left:
            return self._break(call, "more than the credit")
        if call.kind == DRAIN and (size or more):
            return self._break(call, "a drain's answer is empty")
        if size == 0 and more and not (call.kind == TCP and call.ours and call.receive_left == WINDOW_BYTES):
            return self._break(call, "an empty frame")
        call.receive_left -= size
        call.unconsumed += size
        if not more:
            call.receive_ended = True
            self._credit_due.pop(call, None)
            if call.send_closed:
                self._close(call)
            if call.kind == DRAIN:
                return (DRAINED, None, b"", False)
        return (FRAME, call, message[HEADER_BYTES:], more)

    def _break(self, call: Call, text: str) -> Event:
        self.reset(call, PROTOCOL, text)
        return (WAS_RESET, call, PROTOCOL, text)

    def _take_grant(self, call: Call, message: bytes) -> None:
        if len(message) != HEADER_BYTES + 4:
            raise SessionError(CLOSE_PROTOCOL, "a credit frame without its four bytes")
        (count,) = _U32.unpack_from(message, HEADER_BYTES)
        if not 0 < count <= frames.MAX_CREDIT:
            raise SessionError(CLOSE_PROTOCOL, "credit outside 1 to 2^31-1")
        if call.send_closed:
            return  # late
        call.credit = min(call.credit + count, frames.MAX_CREDIT)
        if call.queue and not call.ready:
            call.ready = True
            self.turn.append(call)

    def consumed(self, call: Call, count: int, now: float) -> None:
        """Our consumer took payload of the peer's stream: grant credit once half a window came together.

        `now` is to be finer than a round trip; it is compared with nothing else.
        """
        call.unconsumed -= count
        if call.receive_ended or call.closed:
            return
        call.returned += count
        window = call.window
        if call.returned < GRANT_BYTES and call.returned * 2 < window:
            return
        grant = call.returned
        if window < MAX_WINDOW_BYTES:
            rtt_s = self.near_rtt_s
            if call.is_held_up(grant, now, rtt_s, self.call_count()) and self._budget.allows_growth(call):
                call.grow(now, rtt_s)
                grant += window
            if rtt_s == 0.0 and not self.asked_id and not self._asks_once:
                self._asks_once = True
                self._ask_at = self.last_received  # due at once, by the clock of `tick`
        call.granted_at = now
        call.returned = 0
        call.receive_left += grant
        self._credit_due[call] = self._credit_due.get(call, 0) + grant

    def _take_credit(self, taken: list[bytes]) -> None:
        for call, grant in self._credit_due.items():
            if not call.closed:
                flags = CREDIT if call.ours else CREDIT | RESPONSE
                taken.append(HEADER.pack(call.kind, call.id, flags) + _U32.pack(grant))
        self._credit_due.clear()

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """Give a call up. The peer is told, unless it never heard of the call. Does nothing on a closed call."""
        if call.closed:
            return
        told = call.started or not call.ours
        self._close(call)
        self._credit_due.pop(call, None)
        if told:
            flags = RESET if call.ours else RESET | RESPONSE
            self._control.append(frames.encode(call.kind, call.id, flags, frames.encode_reset(code, text)))

    def drain(self) -> bool:
        """Tell the peer that we drain; `DRAINED` comes when it answered. Returns whether the peer can be told."""
        if not self._told_drain:
            self._told_drain = True
            self.call(DRAIN, b"", False)
        return True

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

from collections.abc import Iterable

from pico_twisted.core.http1.trailers import fault_in
from pico_twisted.core.protocol_limits import CLOSE_POLICY, CLOSE_PROTOCOL
from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import GRANT_BYTES, MAX_WINDOW_BYTES, WINDOW_BYTES, Call, Place, Stream
from pico_twisted.core.rpc.frames import (
    CREDIT,
    DRAIN,
    HEADER,
    HEADER_BYTES,
    HEARTBEAT,
    HEARTBEAT_PAYLOAD,
    HTTP,
    MORE,
    NOT_SUPPORTED,
    PROTOCOL,
    REFUSED_BUSY,
    RESET,
    RESPONSE,
    TRAILERS,
)
from pico_twisted.core.rpc.session_base import (
    DRAINED,
    DRAINING,
    ENDED_WITH,
    FRAME,
    MAX_OWED_FRAMES,
    OPENED,
    U32,
    WAS_RESET,
    Event,
    SessionBase,
    SessionError,
)

# As in `session_base`.
_OPEN = Stream.OPEN
_ENDED = Stream.ENDED
_CLOSED = Stream.CLOSED
_IN_ROW = Place.IN_ROW

_NOT_ONLY_DATA = NOT_SUPPORTED | RESET | CREDIT | TRAILERS


class SessionV2(SessionBase):
    """The negotiated protocol (`pico.v2`): streams of any number of frames, credit, resets, drain."""

    def __init__(
        self, *, asks_always: bool, serves: Iterable[int] = (), max_calls: int, budget: Budget, now: float
    ) -> None:
        super().__init__(asks_always=asks_always, serves=serves, max_calls=max_calls, budget=budget, now=now)
        self._highest = 0  # of the peer's IDs

    def receive(self, message: bytes) -> Event | None:
        """See `SessionBase.receive`."""
        if len(message) < HEADER_BYTES:
            raise SessionError(CLOSE_PROTOCOL, "frame shorter than its header")
        kind, call_id, flags = HEADER.unpack_from(message)
        if flags & RESPONSE:
            call = self._ours.get(call_id)
            if call is None:
                return self._late_response(kind, call_id, message)
        else:
            call = self._theirs.get(call_id)
            if call is None:
                if call_id <= self._highest or flags & (RESET | CREDIT):
                    return None  # late
                return self._open(kind, call_id, flags, message)
        if kind != call.kind:
            raise SessionError(CLOSE_PROTOCOL, "the type of a call changed")
        if flags & _NOT_ONLY_DATA:
            return self._not_only_data(call, flags, message)
        return self._data(call, message, flags & MORE != 0)

    def _not_only_data(self, call: Call, flags: int, message: bytes) -> Event | None:
        if flags & NOT_SUPPORTED and flags & RESPONSE:
            self._close(call)
            return (WAS_RESET, call, frames.UNSUPPORTED, "")
        if flags & RESET:
            code, text = frames.decode_reset(message[HEADER_BYTES:])
            self._close(call)
            return (WAS_RESET, call, code, text)
        if flags & CREDIT:
            self._take_grant(call, message)
            return None
        more = flags & MORE != 0
        return self._last(call, message, more) if flags & TRAILERS else self._data(call, message, more)

    def _late_response(self, kind: int, call_id: int, message: bytes) -> Event | None:
        if call_id == 0 or call_id > self._last_id:
            raise SessionError(CLOSE_PROTOCOL, "a response to an ID that was not used")
        if call_id == self.asked_id:
            if kind != HEARTBEAT:
                raise SessionError(CLOSE_PROTOCOL, "the type of a call changed")
            return self._answered()
        return None

    def _open(self, kind: int, call_id: int, flags: int, message: bytes) -> Event | None:
        theirs = len(self._theirs)
        if len(self._control) >= MAX_OWED_FRAMES or theirs >= self._max_calls + MAX_OWED_FRAMES:
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
        if theirs >= self._max_calls or self._budget.full:
            self._control.append(frames.encode(kind, call_id, RESPONSE | RESET, frames.encode_reset(REFUSED_BUSY)))
            return None
        size = len(message) - HEADER_BYTES
        trails = flags & TRAILERS and kind == HTTP
        if size == 0 or size > WINDOW_BYTES or trails:
            text = "the first frame is empty" if size == 0 else "more than the credit"
            text = "trailers before the head" if trails else text
            self._control.append(frames.encode(kind, call_id, RESPONSE | RESET, frames.encode_reset(PROTOCOL, text)))
            return None
        call = Call(call_id, kind, False, WINDOW_BYTES)
        call.receive_left -= size
        call.unconsumed = size
        if not more:
            call.receiving = _ENDED
        self._theirs[call_id] = call
        return (OPENED, call, message[HEADER_BYTES:], more)

    def _answer_drain(self, call_id: int) -> None:
        """The answer takes a turn like data, so that calls which were queued before it start before it."""
        self.draining = True
        answer = Call(call_id, DRAIN, False, 0)
        answer.receiving = answer.sending = _ENDED
        answer.place = _IN_ROW
        self._theirs[call_id] = answer
        self.turn.append(answer)

    def _data(self, call: Call, message: bytes, more: bool) -> Event | None:
        if call.receiving is not _OPEN:
            return self._break(call, "a frame after the last")
        size = len(message) - HEADER_BYTES
        if size > call.receive_left:
            return self._break(call, "more than the credit")
        if call.kind == DRAIN and (size or more):
            return self._break(call, "a drain's answer is empty")
        if size == 0 and more:
            return self._break(call, "an empty frame")
        call.receive_left -= size
        call.unconsumed += size
        if not more:
            if self._credit_due:
                self._credit_due.pop(call, None)
            if call.sending is _CLOSED:
                self._close(call)
            else:
                call.receiving = _ENDED
            if call.kind == DRAIN:
                return (DRAINED, None, b"", False)
        return (FRAME, call, message[HEADER_BYTES:], more)

    def _last(self, call: Call, message: bytes, more: bool) -> Event | None:
        """A frame that says that it carries trailers, which only http calls have."""
        if call.kind != HTTP:
            return self._data(call, message, more)
        fault = "trailers before the end" if more else fault_in(message[HEADER_BYTES:])
        if fault:
            return self._break(call, fault)
        event = self._data(call, message, False)
        return (ENDED_WITH, call, message[HEADER_BYTES:], False) if event is not None and event[0] == FRAME else event

    def _break(self, call: Call, text: str) -> Event:
        self.reset(call, PROTOCOL, text)
        return (WAS_RESET, call, PROTOCOL, text)

    def _take_grant(self, call: Call, message: bytes) -> None:
        if len(message) != HEADER_BYTES + 4:
            raise SessionError(CLOSE_PROTOCOL, "a credit frame without its four bytes")
        (count,) = U32.unpack_from(message, HEADER_BYTES)
        if not 0 < count <= frames.MAX_CREDIT:
            raise SessionError(CLOSE_PROTOCOL, "credit outside 1 to 2^31-1")
        if call.sending is _CLOSED:
            return  # late
        call.credit = min(call.credit + count, frames.MAX_CREDIT)
        if call.place is _IN_ROW:
            return
        if call.queue or (call.trailers and self._trailers_can_go(call)):
            call.place = _IN_ROW
            self.turn.append(call)

    def consumed(self, call: Call, count: int, now: float) -> bool:
        """See `SessionBase.consumed`. Credit is granted once half a window came together."""
        call.unconsumed -= count
        if call.receiving is not _OPEN:
            return False
        call.returned += count
        window = call.window
        if call.returned < GRANT_BYTES and call.returned * 2 < window:
            return False
        grant = call.returned
        if window < MAX_WINDOW_BYTES:
            rtt_s = self.near_rtt_s
            if call.is_held_up(grant, now, rtt_s, self.call_count()) and self._budget.allows_growth(call):
                call.grow(now, rtt_s)
                grant += window
            if rtt_s == 0.0 and not self.asked_id:
                self._ask_for_rtt()
        call.granted_at = now
        call.returned = 0
        call.receive_left += grant
        self._credit_due[call] = self._credit_due.get(call, 0) + grant
        return True

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """See `SessionBase.reset`. The peer is told, unless it never heard of the call."""
        if call.receiving is _CLOSED:
            return
        told = call.id != 0
        self._close(call)
        self._credit_due.pop(call, None)
        if told:
            if code == frames.UNSUPPORTED:
                flags, payload = RESPONSE | NOT_SUPPORTED, b""
            else:
                flags, payload = RESET if call.ours else RESET | RESPONSE, frames.encode_reset(code, text)
            self._control.append(frames.encode(call.kind, call.id, flags, payload))

    def drain(self) -> bool:
        """See `SessionBase.drain`."""
        if not self._told_drain:
            self._told_drain = True
            self.call(DRAIN, b"", False)
        return True

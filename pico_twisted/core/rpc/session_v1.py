"""The first generation's session: every stream is one frame, no credit, no resets, lenient about what it does not know.

It is spoken with every peer that did not negotiate `pico.v2`. What it shares with `session`, the one to read first, is
the turn of calls and the heartbeats.
"""

from __future__ import annotations

from pico_twisted.core.protocol_limits import CLOSE_POLICY, CLOSE_PROTOCOL
from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import HEADER, HEADER_BYTES, HEARTBEAT, HTTP, NOT_SUPPORTED, RESPONSE
from pico_twisted.core.rpc.session import (
    ENDLESS,
    FRAME,
    MAX_OWED_FRAMES,
    OPENED,
    WAS_RESET,
    Event,
    SessionBase,
    SessionError,
)


class SessionV1(SessionBase):
    """The first generation: every stream is one frame, no credit, no resets, lenient about all that it does not
    know."""

    version = 1
    _max_data = ENDLESS

    def _first_credit(self) -> int:
        return ENDLESS

    def receive(self, message: bytes) -> Event | None:
        """As `SessionV2.receive`."""
        if len(message) < HEADER_BYTES:
            raise SessionError(CLOSE_PROTOCOL, "frame shorter than its header")
        kind, call_id, flags = HEADER.unpack_from(message)
        if flags & RESPONSE:
            if call_id == self.asked_id and call_id:
                return self._answered()
            call = self._ours.get(call_id)
            if call is None:
                return None  # late
            if flags & NOT_SUPPORTED:
                self._close(call)
                return (WAS_RESET, call, frames.UNSUPPORTED, "")
            call.receive_ended = True
            call.unconsumed = len(message) - HEADER_BYTES
            self._close(call)
            return (FRAME, call, message[HEADER_BYTES:], False)
        if kind == HEARTBEAT:
            payload = message[HEADER_BYTES : HEADER_BYTES + frames.MAX_HEARTBEAT_BYTES]
            self._echo = frames.encode(HEARTBEAT, call_id, RESPONSE, payload)
            return None
        if len(self._control) >= MAX_OWED_FRAMES:
            raise SessionError(CLOSE_POLICY, "too many answers owed to a peer that does not read")
        if kind != HTTP or HTTP not in self._serves:
            self._control.append(HEADER.pack(kind, call_id, RESPONSE | NOT_SUPPORTED))
            return None
        if call_id in self._theirs:
            return None  # two answers under one ID could not be told apart
        if len(self._theirs) >= self._max_calls:
            self._control.append(HEADER.pack(kind, call_id, RESPONSE | NOT_SUPPORTED))
            return None
        call = Call(call_id, kind, False, ENDLESS)
        call.receive_ended = True
        call.unconsumed = len(message) - HEADER_BYTES
        self._theirs[call_id] = call
        return (OPENED, call, message[HEADER_BYTES:], False)

    def consumed(self, call: Call, count: int, now: float) -> None:
        """There is no credit in v1; only the count of held bytes changes."""
        call.unconsumed -= count

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """A v1 call that is given up is only forgotten."""
        if not call.closed:
            self._close(call)

    def drain(self) -> bool:
        """A v1 peer cannot be told: it is closed when idle."""
        return False

"""A tunnel without a connection: what is sent on its calls is kept, and the test plays the agent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.routing.affinity import Affinity
from pico_twisted.core.rpc.call import Stream
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.core.rpc.frames import MAX_BODY_V1, RESET_CODES
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.net.tunnel import Closed
from pico_twisted.net.tunnel.interfaces import ITunnel


class FakeCall:
    """One call of a `FakeTunnel`: what the user of the tunnel did, and what the test does as its peer.

    Attributes:
        sent: the user's stream so far.
        send_ended: and whether it has ended.
        queued: how much of it waits, while the tunnel does not take anything.
        started: the first frame has left.
        reset_code: the code of the user's reset; None while there is none.
        consumed: how much of our stream its consumer took.
        trailers: what the user's stream has ended with.
    """

    def __init__(self, tunnel: FakeTunnel, call_id: int, kind: int, payload: bytes, more: bool, receiver: Any) -> None:
        self.tunnel = tunnel
        self.id = call_id
        self.kind = kind
        self.receiver = receiver
        self.first = payload
        self.sent = bytearray(payload)
        self.send_ended = not more
        self.queued = 0 if tunnel.takes else len(payload)
        self.started = tunnel.takes
        self.receive_ended = False
        self.closed = False
        self.reset_code: str | None = None
        self.reset_text = ""
        self.consumed = 0
        self.waiting = False
        self.trailers = b""

    @property
    def sending(self) -> Stream:
        """The user's stream, as a `Call` tells of it."""
        return Stream.ENDED if self.send_ended else Stream.OPEN

    @property
    def receiving(self) -> Stream:
        """The peer's stream."""
        return Stream.CLOSED if self.closed else Stream.ENDED if self.receive_ended else Stream.OPEN

    def respond(self, payload: bytes, more: bool) -> None:
        """The peer sends a frame of its stream."""
        assert not self.closed and not self.receive_ended
        self.receive_ended = not more
        if not more and self.send_ended:
            self._close()
        self.receiver.frame(payload, more)

    def respond_with_trailers(self, block: bytes) -> None:
        """The peer ends its stream with trailers."""
        assert not self.closed and not self.receive_ended
        self.receive_ended = True
        if self.send_ended:
            self._close()
        self.receiver.trailers(block)

    def refuse(self, code: str, text: str = "") -> None:
        """The peer resets the call."""
        assert not self.closed
        self._close()
        self.receiver.reset(code, text)

    def take(self) -> None:
        """The peer takes what waits."""
        self.started = True
        self.queued = 0
        if self.waiting and not self.closed:
            self.waiting = False
            self.receiver.drained()

    def _close(self) -> None:
        self.closed = True
        if self in self.tunnel.calls:
            self.tunnel.calls.remove(self)


@implementer(ITunnel)
class FakeTunnel:
    """A session with an agent, as the data path sees it.

    Attributes:
        calls: those that are open.
        opened: all that ever were, in order.
        takes: whether what is sent leaves at once.
        heard_at, cut_off: as the test says.
        asked: how often it was asked for a sign of life.
    """

    def __init__(
        self,
        endpoint: str = "my-ep",
        *,
        agent_id: str = "agent-1",
        slot: str = "0",
        version: int = 2,
        node_id: str | None = None,
        v1_body_bytes: int = MAX_BODY_V1,
    ) -> None:
        self.endpoint = endpoint
        self.agent_id = agent_id
        self.agent_version = "0.1.0"
        self.slot = slot
        self.version = version
        self.dialect = V2 if version == 2 else dialect_v1(v1_body_bytes)
        self.node_id = node_id
        self.peer = "192.0.2.7:50007"
        self.rtt_s = self.near_rtt_s = 0.0
        self.draining = False
        self.alone = False
        self.speaks = "http"
        self.affinity = Affinity.NONE
        self.subject: Subject | None = None
        self.capabilities: frozenset[bytes] = frozenset()
        self.takes = True
        self.calls: list[FakeCall] = []
        self.opened: list[FakeCall] = []
        self.closed: Deferred[Closed] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.over = False
        self.heard_at = 0.0
        self.cut_off = False
        self.asked = 0

    @property
    def call_count(self) -> int:
        """Calls open now."""
        return len(self.calls)

    def held_bytes(self) -> int:
        """What waits in its calls."""
        return sum(call.queued for call in self.calls)

    def call(self, kind: int, payload: bytes, more: bool, receiver: Any) -> Any:
        """Open a call: a `FakeCall`."""
        call = FakeCall(self, len(self.opened) + 1, kind, payload, more, receiver)
        self.calls.append(call)
        self.opened.append(call)
        return call

    def send(self, call: Any, data: bytes, more: bool) -> None:
        """Send bytes of the user's stream."""
        if call.closed or call.send_ended:
            return
        call.sent += data
        if not self.takes:
            call.queued += len(data)
            call.waiting = call.waiting or call.queued > SEND_HIGH_BYTES
        if not more:
            call.send_ended = True
            if call.receive_ended:
                call._close()

    def send_trailers(self, call: Any, block: bytes) -> None:
        """End the user's stream with trailers, if the peer takes some."""
        if TRAILERS in self.capabilities and not call.closed and not call.send_ended:
            call.trailers = block
        self.send(call, b"", False)

    def reset(self, call: Any, code: str, text: str = "") -> None:
        """The user gives the call up."""
        assert code in RESET_CODES, code
        if not call.closed:
            call._close()
            call.reset_code = code
            call.reset_text = text

    def consumed(self, call: Any, count: int) -> None:
        """The user's consumer took payload."""
        call.consumed += count

    def ask(self) -> None:
        """The test gives the sign of life."""
        self.asked += 1

    def drain(self) -> Deferred[None]:
        """Answered at once."""
        self.draining = True
        return succeed(None)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session."""
        self.lose(by_us=True, clean=True, code=code, reason=reason)

    def abort(self) -> None:
        """Drop the session."""
        self.lose(by_us=True)

    def lose(
        self, *, by_us: bool = False, clean: bool = False, code: int | None = None, reason: str = "connection lost"
    ) -> None:
        """The session ends: everybody is told, in the order that a tunnel keeps."""
        if self.over:
            return
        self.over = True
        calls = list(self.calls)
        self.closed.callback(Closed(by_us=by_us, clean=clean, code=code, reason=reason))
        for call in calls:
            if not call.closed:
                call._close()
                call.receiver.lost()
        self.gone.callback(None)

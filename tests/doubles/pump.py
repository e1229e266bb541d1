"""Two RPC sessions joined without a network.

A `Pump` takes the frames of each session, carries them over a `Link` each way, and gives them to the other. A link
loses and reorders nothing, as TCP does, but it may be slow and it may stop. What a session tells is kept by its `End`,
which also plays the consumer: it takes payload at once, or only when the test says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.session_base import (
    DRAINED,
    DRAINING,
    ECHO,
    ENDED_WITH,
    FRAME,
    OPENED,
    WAS_RESET,
    Event,
    SessionBase,
    SessionError,
)

MAX_TURNS = 100_000
"""`Pump.settle` gives up after so many turns: two sessions that never come to rest are broken."""


class Link:
    """One direction between two sessions: messages arrive in order, each after its delay.

    Args:
        delay_turns: asked for each message; how many turns of the pump it travels.
    """

    def __init__(self, delay_turns: Callable[[], int] = lambda: 0) -> None:
        self._delay_turns = delay_turns
        self._messages: deque[tuple[int, bytes]] = deque()

    def put(self, message: bytes, turn: int) -> None:
        """Send a message."""
        due = turn + self._delay_turns()
        if self._messages:
            due = max(due, self._messages[-1][0])
        self._messages.append((due, message))

    def take(self, turn: int) -> bytes | None:
        """The next message that has arrived, if one has."""
        if self._messages and self._messages[0][0] <= turn:
            return self._messages.popleft()[1]
        return None

    def cut(self) -> None:
        """Lose what is on its way: the connection is gone."""
        self._messages.clear()

    def __len__(self) -> int:
        return len(self._messages)


class Inbound:
    """What came for one call.

    Attributes:
        data: the peer's stream so far.
        frames: how many frames that were.
        ended: the peer's stream is complete.
        reset: the code, when the peer gave the call up or broke the protocol in it.
        untaken: payload that was not taken by the consumer yet.
        trailers: the block that the peer's stream has ended with.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.frames = 0
        self.ended = False
        self.reset: str | None = None
        self.untaken = 0
        self.trailers = b""


class End:
    """One session at an end of a pump.

    Args:
        session: the core.
        link: carries what it sends.

    Attributes:
        writes: False while its transport is paused.
        takes: whether payload is consumed as it comes; else the test calls `take`.
        inbound: by call, for calls of either side.
        accepted: calls that the peer opened, in order.
        told: the events that belong to no call.
        error: what ended the session.
    """

    def __init__(self, session: SessionBase, link: Link) -> None:
        self.session = session
        self.link = link
        self.writes = True
        self.takes = True
        self.inbound: dict[Call, Inbound] = {}
        self.accepted: list[Call] = []
        self.told: list[int] = []
        self.drained: list[Call] = []
        self.error: SessionError | None = None

    def call(self, kind: int, payload: bytes, more: bool) -> Call:
        """Open a call."""
        call = self.session.call(kind, payload, more)
        self.inbound[call] = Inbound()
        return call

    def take(self, call: Call, count: int | None = None, *, now: float) -> int:
        """Let the consumer take payload of a call, all or at most `count` bytes. Returns how much it took."""
        inbound = self.inbound[call]
        size = inbound.untaken if count is None else min(count, inbound.untaken)
        if size:
            inbound.untaken -= size
            self.session.consumed(call, size, now)
        return size

    def send_out(self, turn: int) -> bool:
        """Put what may leave on the link. Returns whether anything did."""
        sent = False
        while self.writes and self.error is None:
            batch = self.session.frames_to_send()
            self.drained.extend(self.session.take_drained())
            if not batch:
                break
            sent = True
            for message in batch:
                self.link.put(message, turn)
        return sent

    def receive(self, message: bytes, now: float) -> Event | None:
        """Give a message to the session and keep what it tells. A `SessionError` ends the session."""
        if self.error is not None:
            return None
        self.session.last_received = now
        try:
            event = self.session.receive(message)
        except SessionError as error:
            self.error = error
            return None
        if event is not None:
            self._note(event, now)
        return event

    def _note(self, event: Event, now: float) -> None:
        if event[0] == DRAINING or event[0] == DRAINED or event[0] == ECHO:
            self.told.append(event[0])
        elif event[0] == WAS_RESET:
            inbound = self.inbound.get(event[1])
            if inbound is not None:
                inbound.reset = event[2]
        else:
            what, call, payload, extra = event
            assert what in (OPENED, FRAME, ENDED_WITH)
            if what == OPENED:
                self.accepted.append(call)
            inbound = self.inbound.setdefault(call, Inbound())
            if what == ENDED_WITH:
                inbound.trailers = payload
            else:
                inbound.data += payload
            inbound.frames += 1
            inbound.ended = not extra
            inbound.untaken += len(payload)
            if self.takes:
                self.take(call, now=now)


class Pump:
    """Carries messages between two sessions, a turn at a time.

    Args:
        left, right: the two cores.
        delay_turns: of both links.
        turn_s: how much time a turn takes, for the sessions' clocks.
    """

    def __init__(
        self,
        left: SessionBase,
        right: SessionBase,
        *,
        delay_turns: Callable[[], int] = lambda: 0,
        turn_s: float = 0.001,
        now: float = 0.0,
    ) -> None:
        self.left = End(left, Link(delay_turns))
        self.right = End(right, Link(delay_turns))
        self.turns = 0
        self.now = now
        self._turn_s = turn_s

    def turn(self) -> bool:
        """Take what leaves and deliver what arrived, both ways. Returns whether anything moved or is on its way."""
        self.turns += 1
        self.now += self._turn_s
        moved = self.left.send_out(self.turns)
        moved = self.right.send_out(self.turns) or moved
        for sender, receiver in ((self.left, self.right), (self.right, self.left)):
            while (message := sender.link.take(self.turns)) is not None:
                moved = True
                receiver.receive(message, self.now)
        return moved or bool(self.left.link) or bool(self.right.link)

    def settle(self) -> None:
        """Turn until nothing moves.

        Raises:
            RuntimeError: it never comes to rest.
        """
        for _ in range(MAX_TURNS):
            if not self.turn():
                return
        raise RuntimeError("the sessions do not come to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass with nothing on the links, then let both sessions look at it."""
        self.now += seconds
        for end in (self.left, self.right):
            end.session.tick(self.now)

    def cut(self) -> None:
        """The connection is gone: what was on its way is lost."""
        self.left.link.cut()
        self.right.link.cut()

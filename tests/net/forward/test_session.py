"""A session over a connection in memory, with a node that does as it likes."""

from __future__ import annotations

from typing import Final

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.websocket.opening import Opening
from pico_twisted.net.forward import session as session_module
from pico_twisted.net.forward.session import PING_S, TcpSession
from pico_twisted.net.sweep import ReactorSweep
from tests.core.websocket.test_opening import GOOD, opening
from tests.doubles.transport import MemoryTransport
from tests.peers.websocket import BINARY, CLOSE, PING, PONG, close_payload, frame_bytes

ZERO_KEY: Final = bytes(4)


class User:
    """Who has a session, and remembers what it was told (SessionUser)."""

    def __init__(self) -> None:
        self.data = b""
        self.told: list[str] = []

    def session_data(self, data: bytes) -> None:
        self.data += data

    def session_ended(self) -> None:
        self.told.append("ended")

    def session_took(self) -> None:
        self.told.append("took")

    def session_closed(self) -> None:
        self.told.append("closed")

    def session_cut(self, reason: str) -> None:
        self.told.append(reason)


def opened(clock: Clock) -> tuple[TcpSession, MemoryTransport, User, ReactorSweep]:
    """An open session over TLS, whose keys are zero."""
    made: Opening = opening()
    sweep = ReactorSweep(clock)
    sweep.start()
    session, transport, user = TcpSession(made, sweep, None), MemoryTransport(clock), User()
    transport.connect(session)
    assert bytes(transport.taken) == made.request
    transport.receive(GOOD)
    session.user = user
    transport.taken.clear()
    return session, transport, user, sweep


def masked(opcode: int, payload: bytes) -> bytes:
    """A frame of ours."""
    head = bytes((0x80 | opcode, 0x80 | len(payload))) + ZERO_KEY
    return head + payload


def test_a_node_that_pings_and_does_not_read_makes_us_hold_one_answer() -> None:
    """However many pings come while the transport is full: the last one is answered, when there is room."""
    session, transport, user, _ = opened(Clock())
    transport.takes = False
    session.write(bytes(100_000))
    assert not session.writable
    for number in range(1000):
        transport.receive(frame_bytes(PING, b"%d" % number, mask=False))
    transport.takes = True
    transport.take(10**9)
    assert bytes(transport.taken[-len(masked(PONG, b"999")) :]) == masked(PONG, b"999")
    assert len(transport.taken) < 100_100
    assert user.told == ["took"]


def test_a_silent_node_is_pinged_but_not_when_it_does_not_read() -> None:
    """A ping goes after each silence, unless what was sent before still waits for the node."""
    clock = Clock()
    session, transport, _, _ = opened(clock)
    pump(clock, PING_S + 1)
    assert bytes(transport.taken) == masked(PING, b"")
    transport.taken.clear()
    transport.takes = False
    session.write(bytes(100_000))
    pump(clock, 5 * PING_S)
    transport.takes = True
    transport.take(10**9)
    assert not transport.taken.endswith(masked(PING, b""))


def pump(clock: Clock, seconds: float) -> None:
    """Let time pass, a sweep at a time."""
    for _ in range(int(seconds * 5)):
        clock.advance(0.2)


def test_bytes_behind_the_answer_are_the_service_s() -> None:
    """What came in the same read as the 101 is lost to nobody: whoever is told that the call is open gets it."""
    session, user = TcpSession(opening(), ReactorSweep(Clock()), None), User()
    session.ready.addCallback(lambda ready: setattr(ready, "user", user))
    transport = MemoryTransport(Clock())
    transport.connect(session)
    transport.receive(GOOD + frame_bytes(BINARY, b"hello", mask=False) + frame_bytes(BINARY, b"", mask=False))
    assert (user.data, user.told) == (b"hello", ["ended"])


def test_a_node_that_is_lost_behind_both_ends_may_not_have_all() -> None:
    """Once both streams have ended only the node's close says that it has all: a connection that is lost before, or
    another close, is a cut."""
    for lose, reason in (
        (lambda transport: transport.receive_reset(), "the connection to the node was lost"),
        (
            lambda transport: transport.receive(frame_bytes(CLOSE, close_payload(1011, "gone"), mask=False)),
            "the node closed it (1011): gone",
        ),
        (lambda transport: transport.receive(frame_bytes(CLOSE, close_payload(1000), mask=False)), "closed"),
    ):
        session, transport, user, _ = opened(Clock())
        transport.receive(frame_bytes(BINARY, b"", mask=False))
        session.write(b"the last word")
        session.end()
        lose(transport)
        assert user.told == ["ended", reason]


def test_a_node_that_acknowledges_nothing_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would send our pings to it again for a quarter of an hour."""
    clock = Clock()
    _, transport, user, _ = opened(clock)
    monkeypatch.setattr(session_module, "is_unheard", lambda transport, seconds: True)
    pump(clock, PING_S + 1)
    assert transport.aborted and user.told == ["the node is gone: it acknowledges nothing"]

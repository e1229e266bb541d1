"""The rules of a v2 session, one at a time: heartbeats and drain."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.frames import CREDIT, DRAIN, HEARTBEAT, HTTP, MORE, NOT_SUPPORTED, RESET, RESPONSE
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import SessionError
from tests.core.rpc.sessions import credit, frame, make, sent
from tests.doubles.pump import Pump


class TestHeartbeat:
    """Signs of life."""

    def test_node_asks_at_once_and_every_ten_seconds(self) -> None:
        """The node's side sends a heartbeat at once, then every 10 s."""
        session = make(asks=True)
        asked = []
        for tenth in range(310):
            session.last_received = now = tenth / 10
            session.tick(now)
            for kind, _, flags, _ in sent(session):
                assert (kind, flags) == (HEARTBEAT, 0)
                asked.append(now)
        assert asked == [0.0, 10.0, 20.0, 30.0]

    def test_agent_asks_only_when_it_is_quiet(self, session: SessionV2) -> None:
        """The agent's side asks after 15 s without a byte, and not while bytes come."""
        for second in range(100):
            session.last_received = now = float(second)
            assert session.tick(now) is None
        assert sent(session) == []
        assert session.tick(99.0 + 14.9) is None
        assert sent(session) == []
        assert session.tick(99.0 + 15.0) is None
        assert [kind for kind, *_ in sent(session)] == [HEARTBEAT]

    def test_silence(self) -> None:
        """20 s without a byte end the session, on either side; any byte is life."""
        for asks in (True, False):
            session = make(asks=asks)
            session.last_received = 50.0
            assert session.tick(70.0) is None
            assert session.tick(70.1) == "no byte for 20 s"

    def test_echo(self, pump: Pump) -> None:
        """A heartbeat's payload is echoed, the newest one if several came; the peer's answer to ours is told."""
        pump.left.session.tick(0.0)
        pump.settle()
        assert pump.left.told == [rpc.ECHO]
        session = make()
        session.receive(frame(HEARTBEAT, 1, 0, b"first"))
        session.receive(frame(HEARTBEAT, 2, 0, b"second"))
        assert sent(session) == [(HEARTBEAT, 2, RESPONSE, b"second")]
        session.receive(frame(HEARTBEAT, 3, 0, b""))
        assert sent(session) == [(HEARTBEAT, 3, RESPONSE, b"")]

    def test_big_heartbeat(self) -> None:
        """A heartbeat is one frame with at most 125 bytes."""
        make().receive(frame(HEARTBEAT, 1, 0, bytes(125)))
        for message in (frame(HEARTBEAT, 1, 0, bytes(126)), frame(HEARTBEAT, 1, MORE, b"x")):
            with pytest.raises(SessionError) as caught:
                make().receive(message)
            assert caught.value.code == 1002

    def test_late_echo(self) -> None:
        """Only the answer to the newest heartbeat counts; older ones are dropped, and an answer counts once."""
        session = make(asks=True)
        session.tick(0.0)
        session.tick(10.0)
        old, new = (call_id for _, call_id, _, _ in sent(session))
        assert session.receive(frame(HEARTBEAT, old, RESPONSE, b"")) is None
        event = session.receive(frame(HEARTBEAT, new, RESPONSE, b""))
        assert event is not None and event[0] == rpc.ECHO
        assert session.receive(frame(HEARTBEAT, new, RESPONSE, b"")) is None

    def test_echo_of_another_type(self) -> None:
        """An answer to a heartbeat under another type is a changed type."""
        session = make(asks=True)
        session.tick(0.0)
        ((_, asked, _, _),) = sent(session)
        with pytest.raises(SessionError, match="type"):
            session.receive(frame(HTTP, asked, RESPONSE, b""))


class TestDrain:
    """Drain is a call, and crosses others safely."""

    def test_answered(self, pump: Pump) -> None:
        """A drain is answered empty; both sides are told."""
        assert pump.right.session.drain()
        pump.settle()
        assert pump.left.told[-1:] == [rpc.DRAINING]
        assert pump.left.session.draining
        assert pump.right.told == [rpc.DRAINED]
        assert pump.right.session.call_count() == 0

    def test_answer_waits_for_queued_calls(self, pump: Pump) -> None:
        """Calls that were queued when the drain came start before its answer: after the answer none can start."""
        pump.settle()
        pump.left.writes = False
        calls = [pump.left.call(HTTP, bytes(50_000), False) for _ in range(4)]
        pump.right.session.drain()
        pump.settle()
        assert pump.right.told == []
        pump.left.writes = True
        pump.settle()
        assert pump.right.told == [rpc.DRAINED]
        assert len(pump.right.accepted) == 4
        for theirs in pump.right.accepted:
            pump.right.session.send(theirs, b"served", False)
        pump.settle()
        assert all(call.closed and pump.left.inbound[call].ended for call in calls)

    def test_said_once(self, session: SessionV2) -> None:
        """Draining twice sends one drain."""
        session.drain()
        session.drain()
        assert [kind for kind, *_ in sent(session)] == [DRAIN]

    def test_with_a_payload(self) -> None:
        """A drain carries nothing, in one frame."""
        for message in (frame(DRAIN, 1, 0, b"x"), frame(DRAIN, 1, MORE)):
            with pytest.raises(SessionError) as caught:
                make().receive(message)
            assert caught.value.code == 1002

    @pytest.mark.parametrize(
        ("flags", "payload"), [(MORE, b""), (MORE, b"x"), (0, b"x"), (RESET, b"failed"), (NOT_SUPPORTED, b"")]
    )
    def test_odd_answers(self, session: SessionV2, flags: int, payload: bytes) -> None:
        """Whatever answers our drain ends that call or the session: it is never taken for a piece of a stream."""
        session.drain()
        sent(session)
        try:
            event = session.receive(frame(DRAIN, 1, RESPONSE | flags, payload))
        except SessionError as error:
            assert error.code == 1002
        else:
            assert event is not None and event[0] in (rpc.DRAINED, rpc.WAS_RESET)
            assert session.call_count() == 0

    def test_more_of_a_drain(self, session: SessionV2) -> None:
        """Frames behind a drain that waits for its turn change nothing for the calls."""
        session.receive(frame(DRAIN, 1))
        session.receive(frame(DRAIN, 1, CREDIT, credit(5)))
        session.receive(frame(DRAIN, 1, 0))
        sent(session)
        assert session.call_count() == 0

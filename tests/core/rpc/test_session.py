"""The rules of a v2 session, one at a time: streams, turns, IDs, what is late, limits."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.frames import (
    CANCELLED,
    CREDIT,
    DRAIN,
    HEARTBEAT,
    HTTP,
    MORE,
    NOT_SUPPORTED,
    RESET,
    RESPONSE,
    SYNC,
    TCP,
    UNSUPPORTED,
)
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import SessionError
from tests.core.rpc.sessions import WINDOW, credit, frame, make, opened, parts, sent
from tests.doubles.pump import Pump


class TestStreams:
    """Calls are two byte streams."""

    def test_call_and_answer(self, pump: Pump) -> None:
        """A request and its response arrive whole; afterwards neither side remembers the call."""
        call = pump.left.call(HTTP, b"request", False)
        pump.settle()
        (theirs,) = pump.right.accepted
        assert bytes(pump.right.inbound[theirs].data) == b"request"
        assert pump.right.inbound[theirs].ended
        pump.right.session.send(theirs, b"response", False)
        pump.settle()
        assert bytes(pump.left.inbound[call].data) == b"response"
        assert call.closed and theirs.closed
        assert pump.left.session.call_count() == pump.right.session.call_count() == 0

    def test_answers_in_any_order(self, pump: Pump) -> None:
        """Calls A, B, C may be answered B, C, A."""
        calls = [pump.left.call(HTTP, name, False) for name in (b"A", b"B", b"C")]
        pump.settle()
        a, b, c = pump.right.accepted
        for theirs, answer in ((b, b"to B"), (c, b"to C"), (a, b"to A")):
            pump.right.session.send(theirs, answer, False)
            pump.settle()
        assert [bytes(pump.left.inbound[call].data) for call in calls] == [b"to A", b"to B", b"to C"]

    def test_response_ends_first(self, pump: Pump) -> None:
        """A response may begin and end before its request has ended; the request still arrives."""
        call = pump.left.call(HTTP, b"begin ", True)
        pump.settle()
        (theirs,) = pump.right.accepted
        pump.right.session.send(theirs, b"early", False)
        pump.settle()
        assert pump.left.inbound[call].ended and not call.closed
        pump.left.session.send(call, b"end", False)
        pump.settle()
        assert bytes(pump.right.inbound[theirs].data) == b"begin end"
        assert call.closed and theirs.closed

    def test_stop_behind_an_early_response(self, pump: Pump) -> None:
        """The callee's stop comes behind its whole response, and nothing of the request is sent after it."""
        call = pump.left.call(HTTP, b"begin", True)
        pump.settle()
        (theirs,) = pump.right.accepted
        pump.right.session.send(theirs, b"early", False)
        pump.settle()
        pump.right.session.reset(theirs, frames.STOP)
        pump.settle()
        inbound = pump.left.inbound[call]
        assert bytes(inbound.data) == b"early" and inbound.ended and inbound.reset == frames.STOP
        pump.left.session.send(call, b"too late", False)
        assert sent(pump.left.session) == []

    def test_sending_on_what_is_over(self, session: SessionV2) -> None:
        """Bytes for a call that is closed, or whose stream we ended, are dropped without a word."""
        call = session.call(HTTP, b"x", False)
        session.send(call, b"more", True)
        assert [payload for *_, payload in sent(session)] == [b"x"]
        session.reset(call, frames.CANCELLED)
        session.reset(call, frames.CANCELLED)
        session.send(call, b"more", False)
        assert [(flags, payload) for _, _, flags, payload in sent(session)] == [(RESET, b"cancelled")]

    def test_end_without_bytes(self, session: SessionV2) -> None:
        """A stream that ends after its bytes were sent ends with one empty frame."""
        call = session.call(HTTP, b"x", True)
        assert sent(session) == [(HTTP, 1, MORE, b"x")]
        session.send(call, b"", True)
        assert sent(session) == []
        session.send(call, b"", False)
        session.send(call, b"", False)
        assert sent(session) == [(HTTP, 1, 0, b"")]

    def test_a_call_given_up_before_it_was_sent(self, session: SessionV2) -> None:
        """A call that is reset while its first frame waits never reaches the peer, and costs no ID."""
        first = session.call(HTTP, b"1", False)
        session.reset(first, frames.CANCELLED)
        second = session.call(HTTP, b"2", False)
        assert not first.started
        assert [payload for *_, payload in sent(session)] == [b"2"]
        assert second.started and session.call_count() == 1


class TestFairness:
    """Big calls do not hold up small ones."""

    def test_small_overtakes_megabytes(self, session: SessionV2) -> None:
        """A small call that is queued behind megabytes leaves with the next batch."""
        big = session.call(HTTP, b"big", True)
        session.send(big, bytes(8 * 1024 * 1024), True)
        big.credit = 16 * 1024 * 1024
        session.frames_to_send()
        small = session.call(HTTP, b"small", False)
        batch = [parts(message) for message in session.frames_to_send()]
        assert sum(len(payload) for *_, payload in batch) <= rpc.BATCH_BYTES + rpc.MAX_DATA_BYTES
        assert small.started
        assert (HTTP, small.id, 0, b"small") in batch
        session._check_invariants()

    def test_one_frame_a_call_in_turn(self, session: SessionV2) -> None:
        """Calls with much to send take turns, a frame each."""
        for _ in range(3):
            call = session.call(HTTP, b"head", True)
            session.send(call, bytes(200_000), True)
            call.credit = 1 << 20
        order = [call_id for _, call_id, _, payload in sent(session) if len(payload) > 1000]
        assert order[:6] == [1, 2, 3, 1, 2, 3]

    def test_frames_fit_one_read(self, session: SessionV2) -> None:
        """No data frame carries more than 60 KiB, so that it fits the 64 KiB that a peer reads at once; but a head of a
        request that is larger stays whole, as its callee wants it in the first frame."""
        call = session.call(HTTP, b"", True)
        session.send(call, bytes(WINDOW), False)
        assert [len(payload) for *_, payload in sent(session)] == [0, 60 * 1024, 4 * 1024]
        session.call(HTTP, bytes(WINDOW), False)
        assert [len(payload) for *_, payload in sent(session)] == [WINDOW]

    def test_control_goes_first(self) -> None:
        """Heartbeats, their echoes, credit and resets leave before data that was queued earlier."""
        session = make(asks=True)
        theirs = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW)))
        session.receive(frame(HTTP, 2, MORE, b"x"))
        session.call(HTTP, b"data", False)
        session.send(theirs, b"answer", True)
        session.consumed(theirs, WINDOW, 0.0)
        session.receive(frame(HEARTBEAT, 3, 0, b"?"))
        session.tick(0.0)
        kinds = [(kind, flags) for kind, _, flags, _ in sent(session)]
        assert kinds[:3] == [(HEARTBEAT, 0), (HEARTBEAT, RESPONSE), (HTTP, RESPONSE | CREDIT)]
        assert sorted(kinds[3:]) == [(HTTP, 0), (HTTP, RESPONSE | MORE)]

    def test_a_call_ahead(self) -> None:
        """A call that is made ahead leaves before calls that were queued earlier, before a heartbeat, and before the
        echo of the peer's; its ID is the lowest, and it is answered like any other."""
        session = make(asks=True)
        queued = session.call(HTTP, b"queued", False)
        session.receive(frame(HEARTBEAT, 1, 0, b"?"))
        ahead = session.call_ahead(SYNC, b"ahead")
        session.tick(0.0)
        assert session.call_count() == 2
        assert [(kind, call_id) for kind, call_id, _, _ in sent(session)] == [
            (SYNC, ahead.id),
            (HEARTBEAT, ahead.id + 1),
            (HEARTBEAT, 1),
            (HTTP, ahead.id + 2),
        ]
        assert queued.id == ahead.id + 2
        assert session.receive(frame(SYNC, ahead.id, RESPONSE)) == (rpc.FRAME, ahead, b"", False)
        assert ahead.closed and session.call_count() == 1
        session._check_invariants()


class TestIds:
    """IDs rise, and are never used twice."""

    def test_each_side_counts_its_own(self, pump: Pump) -> None:
        """Both sides may use the same number for calls of their own."""
        pump.settle()
        mine = pump.left.call(HTTP, b"from left", False)
        yours = pump.right.call(HTTP, b"from right", False)
        pump.settle()
        assert bytes(pump.right.inbound[pump.right.accepted[0]].data) == b"from left"
        assert bytes(pump.left.inbound[pump.left.accepted[0]].data) == b"from right"
        assert {mine.id, yours.id} == {1, 2} or mine.id == yours.id

    def test_first_frames_rise(self) -> None:
        """IDs of first frames only rise on the wire, heartbeats counted, whatever was queued before them."""
        session = make(asks=True)
        calls = [session.call(HTTP, b"queued while paused", False) for _ in range(3)]
        session.tick(0.0)
        session.call(HTTP, b"later", False)
        session.drain()
        ids = [call_id for _, call_id, _, _ in sent(session)]
        assert ids == sorted(ids) and len(set(ids)) == len(ids)
        assert all(call.id in ids for call in calls)

    def test_heartbeat_while_calls_wait(self, pump: Pump) -> None:
        """A heartbeat that falls due while calls wait for the transport loses none of them."""
        pump.settle()
        pump.left.writes = False
        calls = [pump.left.call(HTTP, b"%d" % number, False) for number in range(5)]
        pump.wait(10.0)
        pump.left.writes = True
        pump.settle()
        assert [bytes(pump.right.inbound[call].data) for call in pump.right.accepted] == [b"0", b"1", b"2", b"3", b"4"]
        for theirs in pump.right.accepted:
            pump.right.session.send(theirs, b"ok", False)
        pump.settle()
        assert all(call.closed for call in calls)

    def test_known_id_again_is_late(self, session: SessionV2) -> None:
        """A first frame with an ID not above the highest seen is dropped, also when that call is long over."""
        assert session.receive(frame(HTTP, 5, 0, b"x")) is not None
        for call_id in (0, 1, 4):
            assert session.receive(frame(HTTP, call_id, 0, b"late")) is None
        assert session.receive(frame(HTTP, 6, 0, b"next")) is not None
        assert session.call_count() == 2

    def test_gaps_are_fine(self, session: SessionV2) -> None:
        """IDs need not be neighbours; the last one is 2^64-1."""
        for call_id in (10, 2**32, 2**64 - 1):
            event = session.receive(frame(HTTP, call_id, 0, b"x"))
            assert event is not None and event[0] == rpc.OPENED

    def test_answer_to_an_id_never_used(self) -> None:
        """A response to a call that we never made ends the session."""
        for call_id in (0, 2, 2**64 - 1):
            session = make()
            session.call(HTTP, b"x", False)
            sent(session)
            with pytest.raises(SessionError) as caught:
                session.receive(frame(HTTP, call_id, RESPONSE, b"x"))
            assert caught.value.code == 1002

    def test_answer_before_the_question(self, session: SessionV2) -> None:
        """A response to a call whose first frame has not left us is an answer to an ID never used."""
        session.call(HTTP, b"x", False)
        with pytest.raises(SessionError) as caught:
            session.receive(frame(HTTP, 1, RESPONSE, b"x"))
        assert caught.value.code == 1002

    def test_changed_type(self, session: SessionV2) -> None:
        """Every frame of a call repeats its type; a different one ends the session, in both directions."""
        session.receive(frame(HTTP, 1, MORE, b"x"))
        with pytest.raises(SessionError, match="type"):
            session.receive(frame(TCP, 1, 0, b"x"))
        session = make()
        session.call(HTTP, b"x", False)
        sent(session)
        with pytest.raises(SessionError, match="type") as caught:
            session.receive(frame(TCP, 1, RESPONSE, b"x"))
        assert caught.value.code == 1002

    def test_short_frame(self) -> None:
        """A message under 12 bytes is no frame, and ends the session."""
        for size in range(12):
            with pytest.raises(SessionError) as caught:
                make().receive(bytes(size))
            assert caught.value.code == 1002

    def test_reserved_bits(self, session: SessionV2) -> None:
        """Flags that nobody defined are ignored."""
        event = session.receive(frame(HTTP, 1, 0x03FF | MORE, b"x"))
        assert event is not None and event[0] == rpc.OPENED and event[3] is True


class TestLate:
    """Frames that crossed a call's end are dropped silently."""

    def test_after_our_reset(self, session: SessionV2) -> None:
        """What the peer sent before it knew of our reset changes nothing and is answered by nothing."""
        call = session.call(HTTP, b"x", True)
        sent(session)
        session.reset(call, frames.CANCELLED)
        sent(session)
        for flags, payload in ((0, b"data"), (MORE, b"data"), (CREDIT, credit(5)), (RESET, b"failed")):
            assert session.receive(frame(HTTP, 1, RESPONSE | flags, payload)) is None
        assert sent(session) == []

    def test_after_our_answer(self, session: SessionV2) -> None:
        """Frames for a call of the peer that is over are dropped, resets and credit too."""
        call = opened(session, frame(HTTP, 1, MORE, b"x"))
        session.reset(call, frames.FAILED)
        sent(session)
        for flags, payload in ((0, b"data"), (MORE, b"data"), (CREDIT, credit(5)), (RESET, b"cancelled")):
            assert session.receive(frame(HTTP, 1, flags, payload)) is None
        assert sent(session) == []

    def test_reset_and_credit_open_nothing(self, session: SessionV2) -> None:
        """A reset or credit for a call that we never saw opens none, and does not use its ID up."""
        assert session.receive(frame(HTTP, 9, RESET, b"cancelled")) is None
        assert session.receive(frame(HTTP, 9, CREDIT, credit(1))) is None
        assert session.receive(frame(HTTP, 9, 0, b"x")) is not None

    def test_payload_before_a_reset(self, pump: Pump) -> None:
        """What came before a reset was delivered; the reset ends both streams and frees what was queued."""
        call = pump.left.call(HTTP, b"request", True)
        pump.settle()
        (theirs,) = pump.right.accepted
        pump.right.session.send(theirs, bytes(10), True)
        pump.settle()
        pump.left.writes = False
        pump.left.session.send(call, bytes(1000), True)
        pump.right.session.reset(theirs, frames.FAILED, "broke")
        pump.settle()
        assert bytes(pump.left.inbound[call].data) == bytes(10)
        assert pump.left.inbound[call].reset == frames.FAILED
        assert call.queued == 0 and pump.left.session.held_bytes() == 0

    def test_frame_after_the_last(self, session: SessionV2) -> None:
        """A stream that goes on after its end loses its call with `protocol`."""
        session.receive(frame(HTTP, 1, 0, b"whole"))
        event = session.receive(frame(HTTP, 1, 0, b"more"))
        assert event is not None and event[0] == rpc.WAS_RESET and event[2] == frames.PROTOCOL
        assert [flags for _, _, flags, _ in sent(session)] == [RESPONSE | RESET]

    def test_empty_frames(self, session: SessionV2) -> None:
        """An empty frame is only a stream's last; else the call is reset, of whatever type."""
        assert session.receive(frame(HTTP, 1, MORE)) is None  # a first frame
        session.receive(frame(HTTP, 2, MORE, b"x"))
        event = session.receive(frame(HTTP, 2, MORE))
        assert event is not None and event[0] == rpc.WAS_RESET
        assert [(call_id, flags) for _, call_id, flags, _ in sent(session)] == [
            (1, RESPONSE | RESET),
            (2, RESPONSE | RESET),
        ]
        tcp, http = session.call(TCP, b"ep", True), session.call(HTTP, b"head", True)
        sent(session)
        for call in (tcp, http):
            event = session.receive(frame(call.kind, call.id, RESPONSE | MORE))
            assert event is not None and event[0] == rpc.WAS_RESET


class TestNotSupported:
    """Types that a side does not serve are answered 0xC000."""

    @pytest.mark.parametrize("kind", [SYNC, 6, 77, 0, 0xFFFF])
    def test_unknown_type(self, session: SessionV2, kind: int) -> None:
        """A call of an unknown type is answered with flags 0xC000 and no payload; its later frames are dropped."""
        assert session.receive(frame(kind, 1, MORE, b"x")) is None
        assert sent(session) == [(kind, 1, RESPONSE | NOT_SUPPORTED, b"")]
        assert session.receive(frame(kind, 1, 0, b"more")) is None
        assert sent(session) == []
        assert session.receive(frame(HTTP, 2, 0, b"x")) is not None

    def test_a_call_that_its_acceptor_does_not_serve(self, session: SessionV2) -> None:
        """A call that was opened may be answered 0xC000 as well; its later frames are late, and it can be no reset."""
        event = session.receive(frame(TCP, 1, MORE, b"x"))
        assert event is not None and event[0] == rpc.OPENED
        session.reset(event[1], UNSUPPORTED)
        assert sent(session) == [(TCP, 1, RESPONSE | NOT_SUPPORTED, b"")]
        assert event[1].closed and session.receive(frame(TCP, 1, 0, b"more")) is None
        session.reset(event[1], CANCELLED)
        assert sent(session) == []

    def test_our_call_is_not_supported(self, session: SessionV2) -> None:
        """0xC000 ends a call of ours: the caller is told, and frames behind it are late."""
        call = session.call(HTTP, b"x", True)
        sent(session)
        event = session.receive(frame(HTTP, 1, RESPONSE | NOT_SUPPORTED))
        assert event == (rpc.WAS_RESET, call, frames.UNSUPPORTED, "")
        assert call.closed
        assert session.receive(frame(HTTP, 1, RESPONSE, b"x")) is None
        session.send(call, b"more", False)
        assert sent(session) == []


class TestLimits:
    """Everything that a peer can make us hold is bounded."""

    def test_too_many_calls(self) -> None:
        """A call beyond the limit is refused as busy, which is safe to retry; a free place is given to the next."""
        session = make(max_calls=2)
        first = opened(session, frame(HTTP, 1, 0, b"x"))
        session.receive(frame(HTTP, 2, 0, b"x"))
        assert session.receive(frame(HTTP, 3, 0, b"x")) is None
        assert sent(session) == [(HTTP, 3, RESPONSE | RESET, b"refused busy")]
        session.reset(first, frames.FAILED)
        assert session.receive(frame(HTTP, 4, 0, b"x")) is not None

    def test_no_memory(self) -> None:
        """While the process holds as much as it may, new calls are refused as busy."""
        budget = Budget(10)
        session = make(budget=budget)
        budget.measure(10)
        assert session.receive(frame(HTTP, 1, 0, b"x")) is None
        assert sent(session) == [(HTTP, 1, RESPONSE | RESET, b"refused busy")]
        budget.measure(9)
        assert session.receive(frame(HTTP, 2, 0, b"x")) is not None

    @pytest.mark.parametrize("kind", [HTTP, SYNC, DRAIN, HEARTBEAT])
    def test_answers_that_nobody_takes(self, kind: int) -> None:
        """A peer that makes us owe answers and takes none is closed, or we owe it one, whatever it sends."""
        session = make(max_calls=10)
        most = rpc.MAX_OWED_FRAMES + 100
        payload = b"x" if kind in (HTTP, SYNC) else b""
        try:
            for call_id in range(1, most + 100):
                session.receive(frame(kind, call_id, 0, payload))
        except SessionError as error:
            assert error.code == 1008
        owed = sent(session)
        assert len(owed) <= most
        if kind == HEARTBEAT:
            assert len(owed) == 1

    def test_call_and_reset_without_end(self) -> None:
        """Calls that are opened and reset by the peer leave nothing behind, however many."""
        session = make(max_calls=10)
        for call_id in range(1, 20_000):
            assert session.receive(frame(HTTP, call_id, MORE, b"x")) is not None
            assert session.receive(frame(HTTP, call_id, RESET, b"cancelled")) is not None
        assert session.call_count() == 0 and session.held_bytes() == 0
        assert sent(session) == []

    def test_broken_calls_without_end(self) -> None:
        """A peer that breaks one call after the other and reads no reset is closed at a bound."""
        session = make(max_calls=10)
        with pytest.raises(SessionError) as caught:
            for call_id in range(1, 20_000):
                session.receive(frame(HTTP, call_id, 0, b"x"))
                session.receive(frame(HTTP, call_id, 0, b"x"))
        assert caught.value.code == 1008
        session._check_invariants()


def test_held_bytes_follow_the_consumer(session: SessionV2) -> None:
    """What a session holds is what is queued for the peer and what its consumers have not taken."""
    call = opened(session, frame(HTTP, 1, MORE, bytes(1000)))
    session.call(HTTP, bytes(500), True)
    assert session.held_bytes() == 1500
    session.consumed(call, 400, 0.0)
    sent(session)
    assert session.held_bytes() == 600


def test_a_call_says_what_it_is(session: SessionV2) -> None:
    """Calls name themselves for logs."""
    call = session.call(HTTP, b"x", False)
    sent(session)
    assert repr(call) == "<Call http 1 ours>"
    event = session.receive(frame(TCP, 7, MORE, b"ep"))
    assert event is not None and repr(event[1]) == "<Call tcp 7 theirs>"

"""The rules of a v2 session, one at a time: credit, windows, writers."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import MAX_WINDOW_BYTES, NEAR_WINDOW_BYTES, Call
from pico_twisted.core.rpc.frames import CREDIT, DRAIN, HEARTBEAT, HTTP, MORE, RESET, RESPONSE
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import SessionError
from tests.core.rpc.sessions import WINDOW, credit, frame, make, opened, sent
from tests.doubles.pump import Pump


def hurry(session: SessionV2, number: int, call: Call | None = None, start: float = 0.0) -> Call:
    """A call whose stream brings all that it may in each of 40 round trips of 50 ms."""
    if call is None:
        call = opened(session, frame(HTTP, number, MORE, b"x"))
    for turn in range(1, 41):
        now = start + turn * 0.05
        while call.receive_left:
            size = min(call.receive_left, rpc.MAX_DATA_BYTES)
            session.receive(frame(HTTP, number, MORE, bytes(size)))
        session.consumed(call, call.unconsumed, now)
    return call


class TestCredit:
    """Credit is the only backpressure, and a promise both ways."""

    def test_never_more_than_the_window(self, session: SessionV2) -> None:
        """Without new credit a sender has one window of a stream outstanding, its first frame included."""
        call = session.call(HTTP, b"h" * 1000, True)
        session.send(call, bytes(1 << 20), False)
        assert sum(len(payload) for *_, payload in sent(session)) == WINDOW
        session.receive(frame(HTTP, 1, RESPONSE | CREDIT, credit(10)))
        assert sent(session) == [(HTTP, 1, MORE, bytes(10))]

    def test_credit_is_per_stream(self, session: SessionV2) -> None:
        """A call without credit does not stop another one."""
        stuck = session.call(HTTP, bytes(WINDOW), True)
        session.send(stuck, b"waits", True)
        sent(session)
        other = session.call(HTTP, b"goes", False)
        assert sent(session) == [(HTTP, other.id, 0, b"goes")]
        assert stuck.queued == 5

    def test_small_streams_begin_before_large_ones_go_on(self, session: SessionV2) -> None:
        """A small call does not wait behind a turn of all large ones; nor do the large ones wait for all small ones."""
        large = [session.call(HTTP, b"head" * 8192, True) for _ in range(20)]
        for call in large:
            session.send(call, bytes(30_000), True)
        assert len(session.frames_to_send()) == 2, "a batch"
        small = session.call(HTTP, b"small", False)
        taken = [frames.HEADER.unpack_from(one)[1] for one in session.frames_to_send()]
        assert taken[0] == small.id and len(taken) > 1
        session._check_invariants()
        for _ in range(100):
            session.call(HTTP, bytes(8192), False)
        sizes = [len(one) for one in session.frames_to_send()]
        assert 8192 + 12 in sizes and max(sizes) > 8192 + 12, "each kind has its share of a batch"

    def test_a_drain_overtakes_no_small_call(self, session: SessionV2) -> None:
        """What was opened before the peer's drain came has begun before its answer."""
        session.call(HTTP, b"head" * 8192, True)
        small = [session.call(HTTP, bytes(8192), False) for _ in range(40)]
        session.receive(frame(DRAIN, 1))
        kinds: list[int] = []
        while session.has_output():
            kinds += [frames.HEADER.unpack_from(one)[0] for one in session.frames_to_send()]
        assert kinds[-1] == DRAIN and kinds.count(HTTP) == 41
        assert all(call.started for call in small)

    def test_granted_at_half_a_window(self) -> None:
        """The receiver grants what its consumer took, in one sum once half a window came together."""
        session = make(now=100.0)
        call = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW)))
        session.consumed(call, WINDOW // 2 - 1, 200.0)
        assert sent(session) == []
        session.consumed(call, 1, 201.0)
        assert sent(session) == [(HTTP, 1, RESPONSE | CREDIT, credit(WINDOW // 2))]

    def test_window_grows_on_a_fast_stream(self, pump: Pump) -> None:
        """A stream that uses its window up within a few round trips gets a larger one, up to 256 KiB nearby."""
        call = pump.left.call(HTTP, b"head", True)
        pump.left.session.send(call, bytes(4 * 1024 * 1024), False)
        pump.settle()
        (theirs,) = pump.right.accepted
        assert theirs.window == NEAR_WINDOW_BYTES
        assert len(pump.right.inbound[theirs].data) == 4 * 1024 * 1024 + 4

    def test_window_stays_on_a_slow_stream(self, session: SessionV2) -> None:
        """A stream whose consumer takes half a window in a second keeps the window that it has."""
        call = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW)))
        for second in range(1, 20):
            session.consumed(call, WINDOW // 2, float(second))
            session.receive(frame(HTTP, 1, MORE, bytes(WINDOW // 2)))
        assert call.window == WINDOW

    @pytest.mark.parametrize(
        ("rtt_s", "calls", "most"),
        [
            (0.05, 1, MAX_WINDOW_BYTES),
            (0.001, 1, NEAR_WINDOW_BYTES),
            (0.05, 4, MAX_WINDOW_BYTES // 4),
            (0.05, 16, MAX_WINDOW_BYTES // 16),
            (0.05, 32, 2 * WINDOW),
            (0.05, 64, WINDOW),
        ],
    )
    def test_window_grows_with_the_round_trip(self, session: SessionV2, rtt_s: float, calls: int, most: int) -> None:
        """Up to 32 MiB for a stream that a long round trip holds up; less where many streams would need that much."""
        session.record_rtt(rtt_s)
        for number in range(2, calls + 1):
            session.receive(frame(HTTP, number - 1, MORE, b"x"))
        call = hurry(session, calls)
        assert call.window == most
        assert call.receive_left <= most
        session._check_invariants()

    def test_large_windows_are_promised_from_half_of_the_limit(self) -> None:
        """Of all sessions together: consumers that stop cannot make the process hold more. What ended gives way."""
        budget = Budget(2 * MAX_WINDOW_BYTES)
        calls = []
        for _ in range(3):
            session = make(budget=budget)
            session.record_rtt(0.05)
            calls.append((session, hurry(session, 1)))
        assert [call.window for _, call in calls] == [MAX_WINDOW_BYTES, NEAR_WINDOW_BYTES, NEAR_WINDOW_BYTES]
        session, first = calls[0]
        session.reset(first, "cancelled")
        session, last = calls[2]
        assert hurry(session, 1, last, start=10.0).window == MAX_WINDOW_BYTES

    def test_the_round_trip_is_asked_for_when_it_matters(self, session: SessionV2) -> None:
        """An agent, which asks for no signs of life while there are any, asks once when a window may be too small."""
        assert session.tick(0.0) is None and not session.has_output()
        call = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW)))
        for turn in range(1, 20):
            session.consumed(call, call.unconsumed, turn * 0.01)
            session.receive(frame(HTTP, 1, MORE, bytes(WINDOW // 2)))
        sent(session)
        session.tick(1.0)
        session.tick(2.0)
        assert [kind for kind, _, _, _ in sent(session)] == [HEARTBEAT]

    def test_no_growth_without_memory(self) -> None:
        """While the process holds as much as it may, no window grows."""
        budget = Budget(1000)
        session = make(budget=budget)
        call = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW)))
        budget.measure(1000)
        session.consumed(call, WINDOW, 0.0)
        assert call.window == WINDOW
        assert sent(session) == [(HTTP, 1, RESPONSE | CREDIT, credit(WINDOW))]

    def test_receiver_holds_at_most_its_window(self, pump: Pump) -> None:
        """With a consumer that takes nothing, what arrives is bounded by the window."""
        pump.right.takes = False
        call = pump.left.call(HTTP, b"head", True)
        pump.left.session.send(call, bytes(10 * WINDOW), False)
        pump.settle()
        (theirs,) = pump.right.accepted
        assert len(pump.right.inbound[theirs].data) == WINDOW
        assert pump.right.session.held_bytes() == WINDOW
        assert pump.left.session.held_bytes() == 9 * WINDOW + 4

    def test_exceeding_credit_resets_the_call(self, session: SessionV2) -> None:
        """A peer that sends more than it may loses that call, with `protocol`; the session goes on."""
        call = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW)))
        event = session.receive(frame(HTTP, 1, MORE, b"x"))
        assert event is not None and event[:3] == (rpc.WAS_RESET, call, frames.PROTOCOL)
        assert [(flags, payload[:8]) for _, _, flags, payload in sent(session)] == [(RESPONSE | RESET, b"protocol")]
        assert session.receive(frame(HTTP, 2, 0, b"next")) is not None

    def test_exceeding_credit_with_the_first_frame(self, session: SessionV2) -> None:
        """A first frame larger than the window is refused, and nothing is served of it."""
        assert session.receive(frame(HTTP, 1, MORE, bytes(WINDOW + 1))) is None
        assert [flags for _, _, flags, _ in sent(session)] == [RESPONSE | RESET]
        assert session.call_count() == 0

    def test_response_credit(self, session: SessionV2) -> None:
        """The response stream has a window of its own, granted by the caller without the response flag."""
        call = session.call(HTTP, b"x", False)
        sent(session)
        session.receive(frame(HTTP, 1, RESPONSE | MORE, bytes(WINDOW)))
        session.consumed(call, WINDOW, 100.0)
        assert sent(session) == [(HTTP, 1, CREDIT, credit(WINDOW))]

    def test_none_for_a_stream_that_ended(self, session: SessionV2) -> None:
        """Nothing is granted to a stream that has ended, or for a call that is over."""
        call = opened(session, frame(HTTP, 1, 0, bytes(WINDOW)))
        session.consumed(call, WINDOW, 0.0)
        assert sent(session) == []
        call = opened(session, frame(HTTP, 3, MORE, bytes(WINDOW // 2)))
        session.consumed(call, WINDOW // 2, 0.0)
        session.receive(frame(HTTP, 3, 0, b"end"))
        assert sent(session) == []
        call = opened(session, frame(HTTP, 4, MORE, bytes(WINDOW)))
        session.consumed(call, WINDOW, 0.0)
        session.reset(call, frames.FAILED)
        assert [flags for _, _, flags, _ in sent(session)] == [RESPONSE | RESET]

    def test_late_credit(self, session: SessionV2) -> None:
        """Credit for an ended stream, for a call that is over and for one that never was is dropped."""
        call = session.call(HTTP, b"x", False)
        sent(session)
        before = call.credit
        session.receive(frame(HTTP, 1, RESPONSE | CREDIT, credit(1)))
        assert call.credit == before
        session.reset(call, frames.CANCELLED)
        for call_id, flags in ((1, RESPONSE | CREDIT), (77, CREDIT)):
            assert session.receive(frame(HTTP, call_id, flags, credit(1))) is None

    @pytest.mark.parametrize("payload", [b"", b"\x00\x00\x00", credit(1) + b"x", credit(0), credit(2**31)])
    def test_bad_credit(self, session: SessionV2, payload: bytes) -> None:
        """Credit is four bytes and between 1 and 2^31-1; anything else ends the session."""
        call = session.call(HTTP, b"x", True)
        sent(session)
        with pytest.raises(SessionError) as caught:
            session.receive(frame(HTTP, call.id, RESPONSE | CREDIT, payload))
        assert caught.value.code == 1002

    def test_endless_credit(self, session: SessionV2) -> None:
        """Credit adds up to a bound: no sum of grants overflows."""
        call = session.call(HTTP, b"x", True)
        sent(session)
        for _ in range(5):
            session.receive(frame(HTTP, 1, RESPONSE | CREDIT, credit(frames.MAX_CREDIT)))
        assert call.credit == frames.MAX_CREDIT


class TestWriters:
    """Writers are told when a call's queue is short again."""

    def test_drained_once(self, pump: Pump) -> None:
        """A writer that queued more than 128 KiB is told once, when less than 32 KiB are left."""
        call = pump.left.call(HTTP, b"head", True)
        pump.left.writes = False
        pump.left.session.send(call, bytes(300_000), True)
        assert call.queued > rpc.SEND_HIGH_BYTES
        pump.left.writes = True
        pump.settle()
        assert pump.left.drained == [call]
        assert call.queued == 0
        for _ in range(5):
            pump.left.session.send(call, bytes(1000), True)
            pump.left.session.send(call, bytes(1000), True)
            pump.settle()
        assert pump.left.drained == [call]

    def test_small_writers_are_not_told(self, pump: Pump) -> None:
        """Who never queued much never hears that it drained."""
        call = pump.left.call(HTTP, b"head", True)
        pump.left.session.send(call, bytes(100_000), True)
        pump.settle()
        assert pump.left.drained == []

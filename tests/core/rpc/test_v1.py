"""The first generation's wire format, as its peers from 2024 speak it."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CREDIT, DRAIN, HEARTBEAT, HTTP, MORE, NOT_SUPPORTED, RESET, RESPONSE, TCP
from pico_twisted.core.rpc.http import CallProtocolError, ResponseTooLargeError
from pico_twisted.core.rpc.session_base import SessionError
from pico_twisted.core.rpc.v1 import ResponseMessage, SessionV1
from tests.core.rpc.sessions import sent

BIG = 5 * 1024 * 1024


def make(*, asks: bool = False, max_calls: int = 10, budget: Budget | None = None) -> SessionV1:
    """A session that serves http calls."""
    session = SessionV1(
        asks_always=asks, serves=(HTTP,), max_calls=max_calls, budget=budget or Budget(1 << 30), now=0.0
    )
    session._check_invariants()
    return session


@pytest.fixture
def session() -> SessionV1:
    """A session that serves http calls."""
    return make()


def opened(session: SessionV1, call_id: int, payload: bytes = b"request", flags: int = 0) -> Call:
    """A call of the peer."""
    event = session.receive(frames.encode(HTTP, call_id, flags, payload))
    assert event is not None and event[0] == rpc.OPENED and event[3] is False
    assert event[2] == payload
    call: Call = event[1]
    return call


def test_one_frame_each_way() -> None:
    """A request and its response are one frame each, of any size, without any flag but the response's."""
    caller, callee = make(), make()
    call = caller.call(HTTP, bytes(BIG), False)
    ((kind, call_id, flags, payload),) = sent(caller)
    assert (kind, flags, len(payload)) == (HTTP, 0, BIG)
    theirs = opened(callee, call_id, payload)
    callee.send(theirs, bytes(BIG), False)
    assert [(flags, len(payload)) for _, _, flags, payload in sent(callee)] == [(RESPONSE, BIG)]
    assert caller.receive(frames.encode(HTTP, call_id, RESPONSE, b"answer")) == (
        rpc.FRAME,
        call,
        b"answer",
        False,
    )
    assert call.closed and theirs.closed
    assert caller.call_count() == callee.call_count() == 0


def test_ids_out_of_order(session: SessionV1) -> None:
    """IDs of the peer may come in any order, 0 included, and be used again when their call is over."""
    calls = [opened(session, call_id) for call_id in (7, 3, 2**64 - 1, 0)]
    for call in reversed(calls):
        session.send(call, b"x", False)
    assert [call_id for _, call_id, _, _ in sent(session)] == [0, 2**64 - 1, 3, 7]
    opened(session, 3)


def test_an_id_twice_at_once(session: SessionV1) -> None:
    """A second call under an ID that is in use is dropped: two answers could not be told apart."""
    opened(session, 1)
    assert session.receive(frames.encode(HTTP, 1, 0, b"again")) is None
    assert session.call_count() == 1


@pytest.mark.parametrize("flags", [MORE, RESET, CREDIT, 0x07FF, MORE | RESET | CREDIT | NOT_SUPPORTED])
def test_unknown_flags(flags: int) -> None:
    """Flags that v1 does not know are ignored, those of v2 among them."""
    opened(make(), 1, flags=flags)
    session = make()
    call = session.call(HTTP, b"x", False)
    sent(session)
    event = session.receive(frames.encode(HTTP, 1, RESPONSE | (flags & ~NOT_SUPPORTED), b"answer"))
    assert event == (rpc.FRAME, call, b"answer", False)


@pytest.mark.parametrize("kind", [TCP, DRAIN, 5, 6, 0xFFFF])
def test_unknown_type(session: SessionV1, kind: int) -> None:
    """An unknown type is answered with flags 0xC000 and no payload, and the session goes on."""
    assert session.receive(frames.encode(kind, 9, 0, b"whatever")) is None
    assert sent(session) == [(kind, 9, RESPONSE | NOT_SUPPORTED, b"")]
    opened(session, 1)


def test_not_supported(session: SessionV1) -> None:
    """0xC000 tells our caller that the call reached nobody."""
    call = session.call(HTTP, b"x", False)
    sent(session)
    event = session.receive(frames.encode(HTTP, 1, RESPONSE | NOT_SUPPORTED))
    assert event == (rpc.WAS_RESET, call, frames.UNSUPPORTED, "")


def test_late_answers(session: SessionV1) -> None:
    """Answers that nobody waits for are dropped: to calls given up, already answered, never sent or never made."""
    given_up = session.call(HTTP, b"x", False)
    sent(session)
    session.reset(given_up, frames.CANCELLED)
    answered = session.call(HTTP, b"x", False)
    sent(session)
    assert session.receive(frames.encode(HTTP, answered.id, RESPONSE, b"x")) is not None
    for call_id in (given_up.id, answered.id, 77, 0):
        assert session.receive(frames.encode(HTTP, call_id, RESPONSE, b"late")) is None
    assert sent(session) == []


def test_a_cancelled_call_is_only_forgotten(session: SessionV1) -> None:
    """Nothing is sent about a call that is given up, on either side."""
    call = session.call(HTTP, b"x", False)
    theirs = opened(session, 1)
    sent(session)
    session.reset(call, frames.CANCELLED)
    session.reset(theirs, frames.FAILED)
    session.send(theirs, b"too late", False)
    assert sent(session) == []
    assert session.call_count() == 0


def test_no_credit(session: SessionV1) -> None:
    """Taking payload sends nothing; it only counts as no longer held."""
    theirs = opened(session, 1, bytes(1000))
    assert session.held_bytes() == 1000
    session.consumed(theirs, 1000, 0.0)
    assert session.held_bytes() == 0
    assert sent(session) == []


def test_drain_cannot_be_said(session: SessionV1) -> None:
    """A v1 peer cannot be told that we drain."""
    assert session.drain() is False
    assert sent(session) == []


def test_heartbeats_of_both() -> None:
    """Both sides may run heartbeats of their own; each is echoed, and the answer to ours is told."""
    session = make(asks=True)
    session.tick(0.0)
    ((kind, asked, flags, payload),) = sent(session)
    assert (kind, flags) == (HEARTBEAT, 0)
    assert session.receive(frames.encode(HEARTBEAT, 0, 0, b"yours")) is None
    assert sent(session) == [(HEARTBEAT, 0, RESPONSE, b"yours")]
    event = session.receive(frames.encode(HEARTBEAT, asked, RESPONSE, payload))
    assert event is not None and event[0] == rpc.ECHO


def test_a_long_heartbeat(session: SessionV1) -> None:
    """A heartbeat of any length is forgiven; at most 125 bytes of it are echoed."""
    session.receive(frames.encode(HEARTBEAT, 1, 0, bytes(10_000)))
    assert [len(payload) for *_, payload in sent(session)] == [125]


def test_silence() -> None:
    """20 s without a byte end a v1 session too."""
    assert make().tick(20.1) == "no byte for 20 s"


def test_too_many_calls() -> None:
    """A call beyond the limit is answered 0xC000, which is all that v1 can say."""
    session = make(max_calls=1)
    opened(session, 1)
    assert session.receive(frames.encode(HTTP, 2, 0, b"x")) is None
    assert sent(session) == [(HTTP, 2, RESPONSE | NOT_SUPPORTED, b"")]


def test_answers_that_nobody_takes(session: SessionV1) -> None:
    """A peer that makes us owe answers and reads none is closed; heartbeats alone make us owe one."""
    for call_id in range(100_000):
        session.receive(frames.encode(HEARTBEAT, call_id, 0, b"x"))
    assert len(sent(session)) == 1
    with pytest.raises(SessionError) as caught:
        for call_id in range(100_000):
            session.receive(frames.encode(TCP, call_id, 0, b"x"))
    assert caught.value.code == 1008
    assert len(sent(session)) <= rpc.MAX_OWED_FRAMES


def test_short_frames() -> None:
    """A message under 12 bytes is no frame in v1 either."""
    for size in range(12):
        with pytest.raises(SessionError) as caught:
            make().receive(bytes(size))
        assert caught.value.code == 1002


# Messages that are too large


def header(kind: int, call_id: int, flags: int = 0) -> bytes:
    """The first bytes of a message that was dropped."""
    return frames.HEADER.pack(kind, call_id, flags)


def test_a_response_that_is_too_large_costs_its_call(session: SessionV1) -> None:
    """The call fails alone, with the reason; one that nobody waits for is nothing."""
    call = session.call(HTTP, b"x", False)
    (_, call_id, _, _) = sent(session)[0]
    assert session.skipped(header(HTTP, call_id + 1, RESPONSE), b"") is None
    event = session.skipped(header(HTTP, call_id, RESPONSE), b"")
    assert event is not None and event[:3] == (rpc.WAS_RESET, call, frames.TOO_LARGE)
    assert call.closed and session.skipped(header(HTTP, call_id, RESPONSE), b"") is None


def test_a_request_that_is_too_large_is_answered(session: SessionV1) -> None:
    """In its service's place, once; one of a kind that nobody serves is not supported; the session goes on."""
    opened(session, 1)
    for number, kind in ((1, HTTP), (2, HTTP), (3, TCP)):
        assert session.skipped(header(kind, number), b"413") is None
    assert sent(session) == [(HTTP, 2, RESPONSE, b"413"), (TCP, 3, RESPONSE | NOT_SUPPORTED, b"")]
    opened(session, 4)


def test_answers_to_requests_that_are_too_large_are_bounded(session: SessionV1) -> None:
    """A peer that reads none of them is left."""
    for number in range(rpc.MAX_OWED_FRAMES):
        session.skipped(header(HTTP, number + 1), b"413")
    with pytest.raises(SessionError):
        session.skipped(header(HTTP, 0xFFFF), b"413")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "before the response"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "an upgrade over v1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour", "in the middle of the response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\neleven long", "too large"),
    ],
)
def test_answers_that_are_none(payload: bytes, words: str) -> None:
    """What is not one whole response within the limits is refused, with the reason."""
    message = ResponseMessage(HeadLimits(), b"GET", False, body_bytes=10)
    with pytest.raises((CallProtocolError, Http1Error, ResponseTooLargeError), match=words):
        message.feed(payload, False)

"""Trailers at the end of the streams of http calls: when they leave, and which are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http1.trailers import MAX_BLOCK_BYTES, MAX_TRAILERS, read_block
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.frames import CREDIT, HTTP, MORE, RESET, RESPONSE, TCP, TRAILERS
from pico_twisted.core.rpc.http import CallProtocolError, RequestStream, ResponseStream
from pico_twisted.core.rpc.session import SessionV2
from tests.core.rpc.sessions import WINDOW, credit, frame, joined, make, opened, sent

BLOCK = b"grpc-status: 0\r\ngrpc-message: \r\n"
LARGEST = b"a: " + bytes(97 for _ in range(MAX_BLOCK_BYTES - 5)) + b"\r\n"


def taker() -> SessionV2:
    """A session whose peer takes trailers."""
    session = make()
    session.takes_trailers = True
    return session


class TestSending:
    """Trailers leave in one frame, the last one of their stream, and never without credit."""

    def test_behind_all_that_is_queued(self) -> None:
        """They end the stream, in a frame of their own."""
        session = taker()
        call = session.call(HTTP, b"head", True)
        session.send(call, b"body", True)
        session.send_trailers(call, BLOCK)
        assert call.queued == 8 + len(BLOCK) and call.send_ended
        assert sent(session) == [(HTTP, 1, MORE, b"head"), (HTTP, 1, MORE, b"body"), (HTTP, 1, TRAILERS, BLOCK)]
        assert call.send_closed and call.queued == 0
        assert call.credit == WINDOW - 8 - len(BLOCK), "they count as payload"

    def test_as_the_callee(self) -> None:
        """A response ends with them too, and its call is over."""
        session = taker()
        call = opened(session, frame(HTTP, 1, 0, b"head"))
        session.send(call, b"answer", True)
        session.send_trailers(call, BLOCK)
        assert sent(session) == [(HTTP, 1, RESPONSE | MORE, b"answer"), (HTTP, 1, RESPONSE | TRAILERS, BLOCK)]
        assert call.closed

    def test_without_any(self) -> None:
        """An empty block just ends the stream."""
        session = taker()
        call = session.call(HTTP, b"head", True)
        sent(session)
        session.send_trailers(call, b"")
        assert sent(session) == [(HTTP, 1, 0, b"")]

    @pytest.mark.parametrize("short_by", [1, len(BLOCK) - 1, len(BLOCK)])
    def test_they_wait_for_credit(self, short_by: int) -> None:
        """They are not cut: they leave once the credit covers all of them."""
        session = taker()
        call = session.call(HTTP, bytes(WINDOW - len(BLOCK) + short_by), True)
        session.send_trailers(call, BLOCK)
        assert [flags for _, _, flags, _ in sent(session)] == [MORE], "a first frame is not cut"
        assert not session.has_output()
        for _ in range(short_by - 1):
            session.receive(frame(HTTP, 1, RESPONSE | CREDIT, credit(1)))
            assert sent(session) == []
        session.receive(frame(HTTP, 1, RESPONSE | CREDIT, credit(1)))
        assert sent(session) == [(HTTP, 1, TRAILERS, BLOCK)]

    def test_others_go_on_meanwhile(self) -> None:
        """Trailers that wait for credit hold up no other call."""
        session = taker()
        stuck = session.call(HTTP, bytes(WINDOW), True)
        session.send_trailers(stuck, BLOCK)
        sent(session)
        session.call(HTTP, b"head", False)
        assert sent(session) == [(HTTP, 2, 0, b"head")]

    def test_a_peer_that_takes_none(self) -> None:
        """What it did not list is never sent: the stream ends without, and needs no credit for that."""
        session = make()
        call = session.call(HTTP, bytes(WINDOW), True)
        session.send_trailers(call, BLOCK)
        assert [(flags, len(payload)) for _, _, flags, payload in sent(session)] == [(MORE, WINDOW), (0, 0)]
        assert call.queued == 0

    def test_it_is_looked_at_when_it_is_their_turn(self) -> None:
        """A call that waits for its link is queued before anybody knows who the peer is."""
        session = make()
        call = session.call(HTTP, b"head", True)
        session.send_trailers(call, BLOCK)
        session.takes_trailers = True
        assert sent(session) == [(HTTP, 1, MORE, b"head"), (HTTP, 1, TRAILERS, BLOCK)]

    def test_a_call_that_is_given_up(self) -> None:
        """Nothing of it is left, and nothing can be added."""
        session = taker()
        call = session.call(HTTP, bytes(WINDOW), True)
        session.send_trailers(call, BLOCK)
        sent(session)
        session.reset(call, "cancelled")
        session.send_trailers(call, BLOCK)
        assert call.queued == 0 and session.held_bytes() == 0
        assert sent(session) == [(HTTP, 1, RESET, b"cancelled")]

    @given(sizes=st.lists(st.integers(1, 70_000), max_size=12), each=st.booleans())
    def test_the_largest_always_arrive(self, sizes: list[int], each: bool) -> None:
        """A receiver that has taken everything has granted enough for any trailers, whatever went before them."""
        pump = joined()
        for end in (pump.left, pump.right):
            end.session.takes_trailers = True
        call = pump.left.call(HTTP, b"h", True)
        for size in sizes:
            pump.left.session.send(call, bytes(size), True)
            if each:
                pump.settle()
        pump.left.session.send_trailers(call, LARGEST)
        pump.settle()
        (inbound,) = pump.right.inbound.values()
        assert inbound.ended and inbound.trailers == LARGEST and len(inbound.data) == 1 + sum(sizes)


class TestReceiving:
    """Trailers that are no block, or stand where they may not, end their call, never the session."""

    def test_they_end_the_stream(self) -> None:
        """They are told as what they are, and count as payload."""
        session = make()
        call = opened(session, frame(HTTP, 1, MORE, b"head"))
        assert session.receive(frame(HTTP, 1, TRAILERS, BLOCK)) == (rpc.ENDED_WITH, call, BLOCK, False)
        assert call.unconsumed == 4 + len(BLOCK) and call.receive_left == WINDOW - 4 - len(BLOCK)
        session._check_invariants()

    def test_of_a_response(self) -> None:
        """They end a response, and with it the call."""
        session = make()
        call = session.call(HTTP, b"head", False)
        sent(session)
        session.receive(frame(HTTP, 1, RESPONSE | MORE, b"answer"))
        assert session.receive(frame(HTTP, 1, RESPONSE | TRAILERS, BLOCK)) == (rpc.ENDED_WITH, call, BLOCK, False)
        assert call.closed

    @pytest.mark.parametrize(
        "block",
        [
            b"",
            b"\r\n",
            b"a: b",
            b"a: b\n",
            b"a: b\r\n\r\n",
            b"a:b\r\n",
            b"a : b\r\n",
            b" a: b\r\n",
            b"A: b\r\n",
            b": b\r\n",
            b":status: 200\r\n",
            b"a: b\r\n c\r\n",
            b"a: b\rc\r\n",
            b"a: b\nc: d\r\n",
            b"a: b\x00\r\n",
            b"a: b\x7f\r\n",
            b"\xe4: b\r\n",
            b"a b: c\r\n",
            b"a\r\nGET / HTTP/1.1\r\n",
            b"a: b\r\n" * (MAX_TRAILERS + 1),
            LARGEST[:3] + LARGEST[2:],
        ],
    )
    @pytest.mark.parametrize("ours", [False, True])
    def test_what_is_no_block(self, block: bytes, ours: bool) -> None:
        """It resets the call with `protocol`, on either side; other calls go on."""
        session = make()
        if ours:
            call = session.call(HTTP, b"head", False)
            sent(session)
        else:
            call = opened(session, frame(HTTP, 1, MORE, b"head"))
        event = session.receive(frame(HTTP, 1, TRAILERS | (RESPONSE if ours else 0), block))
        assert event is not None and event[:3] == (rpc.WAS_RESET, call, "protocol")
        ((_, _, flags, reason),) = sent(session)
        assert flags == (RESET if ours else RESET | RESPONSE) and reason.startswith(b"protocol ")

    def test_before_the_end(self) -> None:
        """With *more* they are against the rules."""
        session = make()
        opened(session, frame(HTTP, 1, MORE, b"head"))
        event = session.receive(frame(HTTP, 1, TRAILERS | MORE, BLOCK))
        assert event is not None and event[2:] == ("protocol", "trailers before the end")

    def test_before_the_head(self) -> None:
        """A call does not begin with them; what follows is late."""
        session = make()
        for flags in (TRAILERS, TRAILERS | MORE):
            assert session.receive(frame(HTTP, 1 + (flags & MORE), flags, BLOCK)) is None
            ((_, _, answer, reason),) = sent(session)
            assert (answer, reason) == (RESET | RESPONSE, b"protocol trailers before the head")
        assert session.receive(frame(HTTP, 1, 0, b"more")) is None and session.call_count() == 0

    def test_behind_the_end(self) -> None:
        """A stream ends once."""
        for last in (0, TRAILERS):
            session = make()
            opened(session, frame(HTTP, 1, MORE, b"head"))
            session.receive(frame(HTTP, 1, last, BLOCK))
            for again in (0, TRAILERS):
                event = session.receive(frame(HTTP, 1, again, BLOCK))
                assert event is None or event[2:] == ("protocol", "a frame after the last")

    def test_more_than_the_credit(self) -> None:
        """They are held to the credit like all payload."""
        session = make()
        call = opened(session, frame(HTTP, 1, MORE, bytes(WINDOW - len(BLOCK) + 1)))
        event = session.receive(frame(HTTP, 1, TRAILERS, BLOCK))
        assert event is not None and event[:2] == (rpc.WAS_RESET, call)
        session = make()
        opened(session, frame(HTTP, 1, MORE, bytes(WINDOW - len(BLOCK))))
        event = session.receive(frame(HTTP, 1, TRAILERS, BLOCK))
        assert event is not None and event[0] == rpc.ENDED_WITH

    def test_late_ones(self) -> None:
        """Those that crossed the end of their call are dropped silently, like every frame."""
        session = make()
        call = opened(session, frame(HTTP, 1, MORE, b"head"))
        session.reset(call, "failed")
        sent(session)
        assert session.receive(frame(HTTP, 1, TRAILERS, BLOCK)) is None
        assert session.receive(frame(HTTP, 1, TRAILERS, b"nonsense")) is None
        assert sent(session) == []

    def test_other_calls_have_none(self) -> None:
        """The flag means nothing on frames of another type, nor beside *reset* and *credit*."""
        session = make()
        call = opened(session, frame(TCP, 1, MORE | TRAILERS, b"any"))
        assert session.receive(frame(TCP, 1, TRAILERS, b"bytes")) == (rpc.FRAME, call, b"bytes", False)
        call = opened(session, frame(HTTP, 2, MORE, b"head"))
        assert session.receive(frame(HTTP, 2, CREDIT | TRAILERS, credit(7))) is None
        assert call.credit == WINDOW + 7
        event = session.receive(frame(HTTP, 2, RESET | TRAILERS, b"cancelled"))
        assert event == (rpc.WAS_RESET, call, "cancelled", "")

    @given(
        block=st.binary(max_size=60)
        | st.lists(st.sampled_from([b"a", b"A", b": ", b":", b" ", b"\r\n", b"\n", b"x-y", b"\x80"]), max_size=20).map(
            b"".join
        )
    )
    def test_what_is_told_can_be_read(self, block: bytes) -> None:
        """Whatever a peer sends, its users get a block that can be read, or hear that the call was reset."""
        session = make()
        opened(session, frame(HTTP, 1, MORE, b"head"))
        event = session.receive(frame(HTTP, 1, TRAILERS, block))
        assert event is not None
        if event[0] == rpc.ENDED_WITH:
            for name, value in read_block(block):
                assert name == name.lower() and b"\r" not in value and b"\n" not in value
        else:
            assert event[0] == rpc.WAS_RESET


LIMITS = HeadLimits()
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n"


class TestReaders:
    """The lengths of bodies have to agree with their heads where trailers follow, too."""

    def test_a_request(self) -> None:
        """A whole one is fine, one that is too short is not."""
        for length in (b"", b"Content-Length: 3\r\n"):
            stream = RequestStream(LIMITS)
            stream.feed(HEAD % length + b"abc", True)
            stream.trailers()
        stream = RequestStream(LIMITS)
        stream.feed(HEAD % b"Content-Length: 3\r\n" + b"ab", True)
        with pytest.raises(CallProtocolError, match="fewer"):
            stream.trailers()

    def test_a_response(self) -> None:
        """As of a request; and they need a head."""
        for head, body in (
            (b"HTTP/1.1 200 OK\r\n\r\n", b"abc"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abc"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ):
            stream = ResponseStream(LIMITS, b"GET", False)
            stream.feed(head + body, True)
            stream.trailers()
        stream = ResponseStream(LIMITS, b"GET", False)
        stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", True)
        with pytest.raises(CallProtocolError, match="fewer"):
            stream.trailers()
        for begun in (b"", b"HTTP/1.1 200 OK\r\nX:", b"HTTP/1.1 103 Early Hints\r\n\r\n"):
            stream = ResponseStream(LIMITS, b"GET", False)
            if begun:
                stream.feed(begun, True)
            with pytest.raises(CallProtocolError, match="trailers where there are none"):
                stream.trailers()

    def test_behind_an_upgrade(self) -> None:
        """An upgraded protocol has no trailers, either way, nor has a request that offers one."""
        offer = b"Connection: Upgrade\r\nUpgrade: x\r\n"
        for granted in (False, True):
            request = RequestStream(LIMITS)
            request.feed(HEAD % offer, True)
            if granted:
                request.upgraded()
            with pytest.raises(CallProtocolError):
                request.trailers()
        response = ResponseStream(LIMITS, b"GET", True)
        response.feed(b"HTTP/1.1 101 Switching\r\n" + offer + b"\r\n", True)
        with pytest.raises(CallProtocolError):
            response.trailers()

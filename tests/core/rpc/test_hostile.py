"""Peers that send anything: a session ends with a `SessionError` or goes on, and holds no more than it may."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import NEAR_WINDOW_BYTES, Call
from pico_twisted.core.rpc.frames import CREDIT, DRAIN, HEARTBEAT, HTTP, MORE, NOT_SUPPORTED, RESET, RESPONSE, TCP
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.v1 import SessionV1
from tests.doubles.pump import End, Link, Pump
from tests.examples import examples
from tests.fuzz import mutations

MAX_CALLS = 8
BUDGET_BYTES = 1 << 24
CODES = (1002, 1008)

RELAXED = settings(max_examples=examples(150))


def make(version: int = 2, *, asks: bool = True) -> SessionV1 | SessionV2:
    """A session with few calls, one heartbeat asked."""
    cls = SessionV2 if version == 2 else SessionV1
    session = cls(asks_always=asks, serves=(HTTP, TCP), max_calls=MAX_CALLS, budget=Budget(BUDGET_BYTES), now=0.0)
    session.tick(0.0)
    return session


def feed(session: SessionV1 | SessionV2, messages: list[bytes], *, read: bool = True) -> tuple[End, list[bytes]]:
    """Give messages to a session as the glue does, whose consumers take everything. Returns also what it sent."""
    end = End(session, Link())
    sent: list[bytes] = []
    for message in messages:
        event = end.receive(message, 0.0)
        if end.error is not None:
            assert end.error.code in CODES
            break
        if event is not None and event[0] == rpc.OPENED and isinstance(session, SessionV2):
            session.send(event[1], b"HTTP/1.1 200 OK\r\n\r\n", True)
        session._check_invariants()
        if read:
            sent += session.frames_to_send()
    assert session.call_count() <= 2 * MAX_CALLS + rpc.MAX_OWED_FRAMES
    assert session.held_bytes() <= 3 * MAX_CALLS * NEAR_WINDOW_BYTES + BUDGET_BYTES // 2
    return end, sent


def judge_output(sent: list[bytes]) -> None:
    """What a v2 session sends is always in order, whatever it was sent."""
    for message in sent:
        assert 12 <= len(message) <= frames.MAX_MESSAGE_V2
        kind, _, flags = frames.HEADER.unpack_from(message)
        assert not flags & 0x07FF
        if flags & CREDIT:
            assert len(message) == 16 and not flags & (RESET | MORE | NOT_SUPPORTED)
        if flags & RESET:
            code, _ = frames.decode_reset(message[12:])
            assert message[12:].startswith(code.encode())
        if flags & NOT_SUPPORTED:
            assert flags == RESPONSE | NOT_SUPPORTED and len(message) == 12
        assert kind != DRAIN or flags & RESET or len(message) == 12


def raw_frames() -> st.SearchStrategy[bytes]:
    """Frames whose parts are drawn apart from each other."""
    return st.one_of(
        st.binary(max_size=40),
        st.builds(
            frames.encode,
            st.one_of(st.sampled_from([HEARTBEAT, HTTP, TCP, DRAIN, 5, 9]), st.integers(0, 0xFFFF)),
            st.one_of(st.integers(0, 6), st.integers(0, 2**64 - 1)),
            st.one_of(
                st.sampled_from([0, MORE, RESPONSE, RESPONSE | MORE, RESET, CREDIT, RESPONSE | CREDIT]),
                st.integers(0, 0xFFFF),
            ),
            st.one_of(st.binary(max_size=40), st.sampled_from([bytes(65536), bytes(65535), b"\x00\x00\x01\x00"])),
        ),
    )


@RELAXED
@given(st.lists(raw_frames(), max_size=40), st.booleans(), st.booleans())
def test_any_frames(messages: list[bytes], asks: bool, read: bool) -> None:
    """Any sequence of frames ends in a SessionError or in order, on both roles, whether or not the peer reads."""
    session = make(asks=asks)
    for _ in range(3):
        session.call(HTTP, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True)
    session.drain()
    session.frames_to_send()
    judge_output(feed(session, messages, read=read)[1])


@RELAXED
@given(st.lists(raw_frames(), max_size=40))
def test_any_frames_v1(messages: list[bytes]) -> None:
    """The same for v1, which forgives more."""
    session = make(1)
    for _ in range(3):
        session.call(HTTP, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False)
    session.frames_to_send()
    feed(session, messages)


def conversation() -> tuple[list[bytes], list[bytes]]:
    """Two sessions that do everything once; what the node sent, and what the agent sent."""
    node, agent = make(), make(asks=False)
    pump = Pump(node, agent)
    record: tuple[list[bytes], list[bytes]] = ([], [])
    for end, kept in ((pump.left, record[0]), (pump.right, record[1])):
        put = end.link.put

        def keep(message: bytes, turn: int, *, kept: list[bytes] = kept, put: object = put) -> None:
            kept.append(bytes(message))
            put(message, turn)  # type: ignore[operator]

        end.link.put = keep  # type: ignore[method-assign]
    calls = [pump.left.call(HTTP, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", True) for _ in range(3)]
    node.send(calls[0], bytes(100_000), False)
    node.send(calls[1], b"body", False)
    pump.settle()
    for theirs in pump.right.accepted:
        agent.send(theirs, b"HTTP/1.1 200 OK\r\n\r\n", True)
    pump.settle()
    agent.send(pump.right.accepted[0], bytes(200_000), False)
    agent.reset(pump.right.accepted[1], frames.FAILED, "so it is")
    agent.send(pump.right.accepted[2], b"", False)
    pump.settle()
    node.reset(calls[2], frames.CANCELLED)
    agent.drain()
    pump.settle()
    return record


NODE_SAID, AGENT_SAID = conversation()


class Replay:
    """The agent's half of the conversation again, at a node that believes to be in it."""

    def __init__(self) -> None:
        self.session = make()
        self.calls: list[Call] = []

    def run(self, messages: list[bytes]) -> End:
        """Say it, with the node's own doings in between."""
        for _ in range(3):
            self.calls.append(self.session.call(HTTP, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", True))
        self.session.send(self.calls[0], bytes(100_000), False)
        self.session.send(self.calls[1], b"body", False)
        self.session.frames_to_send()
        return feed(self.session, messages)[0]


@pytest.mark.parametrize("at", range(len(AGENT_SAID)))
def test_something_wrong_at_every_point_of_a_call(at: int) -> None:
    """A frame that is lost, broken, doubled or made up, at each place of a conversation: the session stays in order."""
    for seed in range(30):
        rng = Random(seed * 1000 + at)
        messages = list(AGENT_SAID)
        if seed == 0:
            del messages[at]
        elif seed == 1:
            messages.insert(at, messages[at])
        elif seed < 15:
            messages[at] = mutations.mutated_frame(rng, messages[at])
        else:
            messages.insert(at, mutations.random_frame(rng))
        Replay().run(messages)


@pytest.mark.parametrize("size", [*range(13), 15, 16, 17])
def test_cut_at_every_byte(size: int) -> None:
    """A frame cut anywhere is an error or a frame, and never an exception of another kind."""
    for message in AGENT_SAID + NODE_SAID:
        for asks in (True, False):
            session = make(asks=asks)
            session.call(HTTP, b"x", True)
            session.frames_to_send()
            feed(session, [message[:size]])


@RELAXED
@given(st.integers(0, 2**32))
def test_mutated_conversations(seed: int) -> None:
    """Conversations with a few things wrong anywhere."""
    rng = Random(seed)
    Replay().run(mutations.mutated_sequence(rng, AGENT_SAID))
    feed(make(asks=False), mutations.mutated_sequence(rng, NODE_SAID), read=rng.random() < 0.7)


def test_the_conversation_itself_is_in_order() -> None:
    """Said as it was recorded, it breaks nothing: the tests above begin where they mean to."""
    replay = Replay()
    end = replay.run(AGENT_SAID)
    assert end.error is None
    assert len(end.inbound[replay.calls[0]].data) == 200_019
    assert end.inbound[replay.calls[1]].reset == frames.FAILED
    assert end.told == [rpc.ECHO, rpc.DRAINING]

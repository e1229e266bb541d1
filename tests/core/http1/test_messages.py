"""The table of a connection's states, and what is kept of bytes that come again and again."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.head import Framing, HeadLimits
from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.http1.messages import TRANSITIONS, State, Step
from pico_twisted.core.http1.server import ServerConnection

EVENTS: list[Framing | Step] = [*Framing, *Step]


def test_each_state_is_reached_and_can_be_left() -> None:
    """The table has a row for each state; all of them are reached from the head of a message, and all end when the
    peer breaks HTTP or the bytes are taken away."""
    assert set(TRANSITIONS) == set(State)
    reached = {State.HEAD}
    for _ in State:
        reached |= {after for state in reached for after in TRANSITIONS[state].values()}
    assert reached == set(State)
    for row in TRANSITIONS.values():
        assert row[Step.BROKEN] is row[Step.TAKEN] is State.DEAD


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_each_event_has_its_place(event: Framing | Step) -> None:
    """No event is there in vain, and none but an end from outside happens everywhere."""
    rows = [state for state, row in TRANSITIONS.items() if event in row]
    assert rows
    assert (len(rows) == len(State)) is (event in (Step.BROKEN, Step.TAKEN))


def test_what_does_not_happen() -> None:
    """An owner who asks for what the state does not allow is told both, and the state stays."""
    connection = ServerConnection(HeadLimits())
    with pytest.raises(RuntimeError, match="REQUEST_WANTED while the state is HEAD"):
        connection.next_request()
    connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.next_event() is not None


def test_a_memo_is_bounded() -> None:
    """Results are kept up to a number and for short bytes alone, those of the start always; a failure is not kept."""
    asked: list[bytes] = []

    def measure(data: bytes) -> int:
        asked.append(data)
        if not data:
            raise ValueError("nothing to measure")
        return len(data)

    memo = Memo(measure, 3, longest_bytes=4, common=(b"a",))
    for _ in range(2):
        assert [memo[data] for data in (b"a", b"bb", b"ccc", b"dddd", b"eeeee")] == [1, 2, 3, 4, 5]
        with pytest.raises(ValueError, match="nothing"):
            memo[b""]
    assert asked == [b"a", b"bb", b"ccc", b"dddd", b"eeeee", b"", b"dddd", b"eeeee", b""]
    assert sorted(memo) == [b"a", b"bb", b"ccc"]

"""What a connector does next, event by event, without a connection, a clock or a Deferred."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.agent.dial_plan import AgentRandom, DialPlan, Ended, Failed
from pico_twisted.core.agent.life import MAX_SENT_ELSEWHERE, Command, Last, Life, NextSession, new_life

A, B = "http://a", "http://b"
LONG_AGO = Last(url=A, ended=Ended.IN_ORDER, lasted_s=100.0)
BROKEN = Last(url=A, ended=Ended.BROKEN, lasted_s=0.5)


class Highest(random.Random):
    """Draws the upper limit."""

    def uniform(self, a: float, b: float) -> float:
        return b


def new(*, insists: bool = False, rng: AgentRandom | None = None) -> tuple[NextSession, Life]:
    """A life that has not begun."""
    following = NextSession(DialPlan([A, B], rng or Highest(1), 0.0), insists=insists)
    return following, new_life(following)


def registered(*, insists: bool = False) -> tuple[NextSession, Life]:
    """One whose first attempt gave a session."""
    following, life = new(insists=insists)
    assert life.start(0.0, ()) is Command.WAIT
    assert life.due() is Command.OPEN
    assert life.opened() is Command.SERVE
    return following, life


def test_the_first_attempt_is_at_once_and_others_follow_until_one_gives_a_session() -> None:
    """Each failure makes the wait longer."""
    following, life = new()
    assert life.start(5.0, ()) is Command.WAIT
    assert following.due_at == 5.0 and following.dial.url in (A, B)
    waits = []
    for _ in range(4):
        assert life.due() is Command.OPEN
        assert life.failed(Failed.OTHER, 10.0, ()) is Command.WAIT
        waits.append(following.due_at - 10.0)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert life.due() is Command.OPEN
    assert life.opened() is Command.SERVE


def test_a_session_that_is_gone_is_followed_by_another() -> None:
    """At once if it ended in good order, else after a wait."""
    for last, wait_s in ((LONG_AGO, 0.0), (BROKEN, 0.1)):
        following, life = registered()
        assert life.wanted(last, 200.0, ()) is Command.WAIT
        assert following.due_at == pytest.approx(200.0 + wait_s)
        assert life.due() is Command.OPEN


def test_a_wait_is_shortened_and_never_prolonged() -> None:
    """The old session, which served on, may end in good order while its replacement waits."""
    following, life = registered()
    assert life.wanted(BROKEN, 200.0, ()) is Command.WAIT
    due_at = following.due_at
    assert life.wanted(BROKEN, 200.0, ()) is Command.NOTHING
    assert following.due_at == due_at
    assert life.wanted(LONG_AGO, 200.0, ()) is Command.WAIT
    assert following.due_at == 200.0


def test_one_attempt_at_a_time() -> None:
    """Whatever ends while one is under way."""
    _, life = registered()
    life.wanted(BROKEN, 200.0, ())
    life.due()
    assert life.wanted(LONG_AGO, 200.0, ()) is Command.NOTHING
    assert life.opened() is Command.SERVE


def test_a_session_moves_or_stays() -> None:
    """The attempt is at once, and at another address; what it comes to changes nothing for the session that serves."""
    following, life = registered()
    first = following.dial.url
    assert life.move(first, 10.0, ()) is Command.OPEN
    assert {first, following.dial.url} == {A, B}
    assert life.move(A, 10.0, ()) is Command.NOTHING
    assert life.failed(Failed.OTHER, 11.0, ()) is Command.STAY
    assert life.move(A, 12.0, ()) is Command.OPEN
    assert life.opened() is Command.MOVE
    assert life.wanted(LONG_AGO, 200.0, ()) is Command.WAIT


def test_a_session_that_is_lost_while_it_moves_is_followed_by_the_one_that_is_dialled() -> None:
    """The attempt goes on, and when it fails there is another."""
    for outcome, command in (("opened", Command.SERVE), ("failed", Command.WAIT)):
        _, life = registered()
        assert life.move(A, 10.0, ()) is Command.OPEN
        assert life.wanted(BROKEN, 10.0, ()) is Command.NOTHING
        got = life.opened() if outcome == "opened" else life.failed(Failed.OTHER, 11.0, ())
        assert got is command


def test_nothing_moves_that_does_not_serve() -> None:
    """Before the first session, while there is none, and behind the end."""
    _, life = new()
    for event in (lambda: life.start(0.0, ()), life.due, life.stop, life.stop):
        assert life.move(A, 0.0, ()) is Command.NOTHING
        event()
    assert life.move(A, 0.0, ()) is Command.NOTHING


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("new", Command.NOTHING),
        ("waiting", Command.GIVE_UP),
        ("dialling", Command.GIVE_UP),
        ("registered", Command.NOTHING),
        ("moving", Command.GIVE_UP),
    ],
)
def test_after_the_stop_nothing_is_dialled(stage: str, command: Command) -> None:
    """From every state; a session that comes too late is closed."""
    _, life = new()
    for name, event in (
        ("new", lambda: life.start(0.0, ())),
        ("waiting", life.due),
        ("dialling", life.opened),
        ("registered", lambda: life.move(A, 0.0, ())),
    ):
        if stage == name:
            break
        event()
    assert life.stop() is command
    assert life.stop() is Command.NOTHING
    assert life.failed(Failed.OTHER, 1.0, ()) is Command.NOTHING
    assert life.wanted(LONG_AGO, 1.0, ()) is Command.NOTHING
    assert life.opened() is Command.RETURN


def test_a_wish_is_dropped_after_a_while() -> None:
    """A session without a better place takes any, and the next session may wish again."""
    following, life = new()
    life.start(0.0, ())
    life.due()
    for _ in range(MAX_SENT_ELSEWHERE):
        assert following.may_be_sent_elsewhere(False)
        assert following.sent_elsewhere(False, 0.0, ())
        assert 0.0 < following.dial.delay_s < 0.1
    assert not following.may_be_sent_elsewhere(False)
    life.opened()
    assert following.may_be_sent_elsewhere(False)


@pytest.mark.parametrize("insists", [True, False])
def test_a_wish_that_is_kept_ends_the_attempt(insists: bool) -> None:
    """Of a session that insists, and of one that moves; the next attempt then asks only once."""
    following, life = registered(insists=insists)
    life.move(A, 0.0, ())
    for _ in range(MAX_SENT_ELSEWHERE - 1):
        assert following.sent_elsewhere(True, 0.0, ())
    assert not following.sent_elsewhere(True, 0.0, ())
    assert following.may_be_sent_elsewhere(True)
    assert not following.sent_elsewhere(True, 0.0, ())


@given(st.integers(0, 2**32), st.lists(st.sampled_from(["good", "bad", "lost", "old", "move"]), max_size=60))
def test_there_is_always_a_session_or_the_way_to_one(seed: int, history: list[str]) -> None:
    """Whatever happens, in any order: without a session for new calls we wait, which ends, or dial."""
    following, life = new(rng=random.Random(seed))
    doing = life.start(0.0, ())
    serves = False
    now = 0.0
    for what in history:
        if doing is Command.WAIT:
            assert not serves and following.due_at - now <= 15.0
            now = following.due_at
            doing = life.due()
        if what == "move":
            got = life.move(A, now, ())
            doing = got if got is Command.OPEN else doing
        elif what == "lost" and serves:
            serves = False
            got = life.wanted(BROKEN, now, ())
            doing = doing if got is Command.NOTHING else got
        elif what == "old" and not serves:
            assert life.wanted(LONG_AGO, now, ()) is Command.NOTHING
        elif what in ("good", "bad") and doing is Command.OPEN:
            expected = {
                True: {"good": Command.MOVE, "bad": Command.STAY},
                False: {"good": Command.SERVE, "bad": Command.WAIT},
            }
            got = life.opened() if what == "good" else life.failed(Failed.OTHER, now, ())
            assert got is expected[serves][what]
            serves = serves or what == "good"
            doing = Command.NOTHING if serves else Command.WAIT
        assert serves or doing in (Command.WAIT, Command.OPEN)

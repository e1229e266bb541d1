"""When a service is out, for how long, and what brings it back."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.agent.service_judge import (
    FAILURES_IN_A_ROW,
    FIRST_OUT_S,
    MOST_OUT_S,
    STEADY_S,
    TRIAL_S,
    ServiceJudge,
    Thresholds,
)
from pico_twisted.core.rpc.service_health import Standing

UP, OUT, TRIAL = Standing.UP, Standing.OUT, Standing.TRIAL


def failing(judge: ServiceJudge, now: float, times: int = FAILURES_IN_A_ROW) -> None:
    """Calls that get no answer, one after the other."""
    for _ in range(times):
        judge.failed(now, now)


def out(now: float = 0.0) -> ServiceJudge:
    """A judge whose service went out."""
    judge = ServiceJudge()
    failing(judge, now)
    assert judge.standing is OUT and judge.out_since == now
    return judge


def test_failures_in_a_row() -> None:
    """A few in a row put a service out, with an answer between them none do."""
    judge = ServiceJudge()
    for _ in range(10):
        failing(judge, 1.0, FAILURES_IN_A_ROW - 1)
        judge.answered(1.0, 1.0)
    assert judge.standing is UP and judge.failures == 0 and judge.due_at == math.inf
    failing(judge, 1.0)
    assert judge.standing is OUT and judge.due_at == 1.0 + FIRST_OUT_S


def test_the_way_back() -> None:
    """A check that finds the service leads to a trial, and an answer ends that; so does time when nobody calls."""
    judge = out()
    judge.checked(True, 1.0)
    assert judge.standing is TRIAL and judge.out_since == 0.0 and judge.due_at == 1.0 + TRIAL_S
    judge.answered(1.1, 1.2)
    assert judge.standing is UP and judge.out_since == math.inf and judge.failures == 0
    judge = out()
    judge.checked(True, 1.0)
    judge.waited(1.0 + TRIAL_S / 2)
    assert judge.standing is TRIAL
    judge.waited(1.0 + TRIAL_S)
    assert judge.standing is UP


def test_a_trial_that_fails() -> None:
    """One failure is enough then, and it is out since it went out first."""
    judge = out()
    judge.checked(True, 1.0)
    judge.failed(1.0, 2.0)
    assert judge.standing is OUT and judge.out_since == 0.0 and judge.due_at == 2.0 + 2 * FIRST_OUT_S


def test_an_answer_while_it_is_out() -> None:
    """Who is the only one is still asked, and its answer brings it back."""
    judge = out()
    judge.answered(0.5, 0.6)
    assert judge.standing is UP


def test_what_began_before_the_change_says_nothing() -> None:
    """Neither a connection that times out late, nor an answer to what was asked before."""
    judge = out(10.0)
    judge.answered(9.0, 10.5)
    assert judge.standing is OUT
    judge.answered(10.5, 10.6)
    failing(judge, 10.6, FAILURES_IN_A_ROW - 1)
    for began in range(10):
        judge.failed(float(began), 11.0)
    assert judge.standing is UP


def test_it_is_out_for_longer_each_time() -> None:
    """The time doubles up to a limit, and begins again once the service was up for long."""
    judge, now, spans = ServiceJudge(), 0.0, []
    for _ in range(8):
        failing(judge, now)
        spans.append(judge.due_at - now)
        now = judge.due_at
        judge.checked(True, now)
        judge.answered(now, now)
    assert spans == [1.0, 2.0, 4.0, 8.0, 16.0, MOST_OUT_S, MOST_OUT_S, MOST_OUT_S]
    failing(judge, now + STEADY_S)
    assert judge.due_at == now + STEADY_S + FIRST_OUT_S


def test_checks_that_go_on_all_the_time() -> None:
    """They put a service out and bring it back, each after so many in a row; answers of calls do not."""
    judge = ServiceJudge(Thresholds(unhealthy_after=2, healthy_after=3))
    for good, standing in ((False, UP), (True, UP), (False, UP), (False, OUT)):
        judge.checked(good, 0.0)
        assert judge.standing is standing
    judge.answered(5.0, 5.0)
    for good, standing in ((True, OUT), (True, OUT), (False, OUT), (True, OUT), (True, OUT), (True, UP)):
        judge.checked(good, 5.0)
        assert judge.standing is standing
    assert judge.due_at == math.inf, "they have a time of their own"


def test_a_service_that_is_healthy_and_answers_nobody() -> None:
    """Good checks do not bring it back before the end of its time."""
    judge = ServiceJudge(Thresholds(unhealthy_after=1, healthy_after=1))
    failing(judge, 0.0)
    judge.checked(True, FIRST_OUT_S / 2)
    assert judge.standing is OUT
    judge.checked(True, FIRST_OUT_S)
    assert judge.standing is UP
    failing(judge, 2.0)
    judge.checked(True, 2.0 + FIRST_OUT_S)
    assert judge.standing is OUT


EVENTS = st.tuples(st.sampled_from(["failed", "answered", "good", "bad", "waited"]), st.floats(0, 40), st.floats(0, 20))


CHECKS = st.sampled_from([None, Thresholds(unhealthy_after=3, healthy_after=2)])


@given(CHECKS, st.lists(EVENTS, max_size=200))
def test_whatever_happens(thresholds: Thresholds | None, events: list[tuple[str, float, float]]) -> None:
    """The verdict follows the rules, and is news only so often: between two times that a service goes out is the time
    that it was out, which grows to half a minute while it does not stay up."""
    judge, now = ServiceJudge(thresholds), 0.0
    went_out: list[float] = []
    for what, later, before in events:
        now += later
        was = judge.standing
        until = judge._until
        if what == "failed":
            judge.failed(now - before, now)
        elif what == "answered":
            judge.answered(now - before, now)
        elif what == "waited":
            judge.waited(now)
        elif thresholds is not None or (was is OUT and now >= judge.due_at):
            judge.checked(what == "good", now)
        judge._check_invariants()
        is_now = judge.standing
        if is_now is OUT and was is not OUT:
            assert what in ("failed", "bad")
            assert FIRST_OUT_S <= judge._until - now <= MOST_OUT_S
            went_out.append(now)
        if was is OUT and is_now is not OUT:
            assert what in ("answered", "good")
            assert what == "answered" or now >= until
        if was is UP and is_now is not UP:
            assert judge.out_since == now
        if thresholds is None and what == "answered" and before == 0.0:
            assert is_now is UP


@given(st.integers(1, 50), st.floats(0.001, 0.2))
def test_a_service_that_comes_and_goes_is_news_rarely(rate: int, up_s: float) -> None:
    """Whatever it does, with any number of calls: a few changes a minute, once it has shown that it does not stay."""
    judge, now, changes = ServiceJudge(), 0.0, 0
    step_s = 1 / rate
    while now < 300.0:
        now += step_s
        was = judge.standing
        if judge.standing is OUT:
            now = max(now, judge.due_at)
            judge.checked(True, now)
        elif judge.standing is TRIAL:
            judge.answered(now, now + up_s)
        else:
            judge.failed(now, now)
        changes += judge.standing is not was
    assert changes <= 3 * (6 + 300 / MOST_OUT_S)

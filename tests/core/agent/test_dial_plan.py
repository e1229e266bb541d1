"""When the agent dials next, and where."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.agent.dial_plan import (
    BASE_S,
    CLOSED_PORT_MAX_S,
    HELD_S,
    HOPE_S,
    MAX_S,
    SENT_ELSEWHERE_MAX_S,
    SENT_ELSEWHERE_S,
    STABLE_S,
    TAKEN_OVER_MAX_S,
    UNWELCOME_MAX_S,
    DialPlan,
    Ended,
    Failed,
)

A, B, C = "http://a", "http://b", "http://c"


class Highest(random.Random):
    """Draws the upper limit, and shuffles nothing."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def shuffle(self, x: object) -> None:
        pass


def test_the_first_attempt_is_at_once_and_the_next_ones_double() -> None:
    """100 ms, doubling to 15 s."""
    plan = DialPlan([A], Highest(), 0.0)
    assert plan.first(0.0).delay_s == 0.0
    delays = [plan.after_failure(A, Failed.OTHER, 0.0).delay_s for _ in range(12)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0, 15.0])


def test_waits_are_drawn_from_all_of_the_range() -> None:
    """Full jitter: a fleet that lost its node together does not come back together."""
    rng = random.Random(1)
    draws = []
    for _ in range(2000):
        plan = DialPlan([A], rng, 0.0)
        draws.append(plan.after_failure(A, Failed.OTHER, 0.0).delay_s)
    assert min(draws) < 0.05 * BASE_S and max(draws) > 0.95 * BASE_S
    assert sum(draws) / len(draws) == pytest.approx(BASE_S / 2, rel=0.1)


def test_only_a_stable_session_takes_the_wait_back() -> None:
    """A node that accepts and drops us again and again is dialled more and more slowly."""
    plan = DialPlan([A], Highest(), 0.0)
    delays = [plan.after_session(A, Ended.BROKEN, STABLE_S - 1, 0.0).delay_s for _ in range(5)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert plan.after_session(A, Ended.BROKEN, STABLE_S, 0.0).delay_s == pytest.approx(BASE_S)


def test_a_session_that_ended_in_order_is_replaced_at_once_elsewhere() -> None:
    """Another address first, and no wait."""
    plan = DialPlan([A, B], random.Random(3), 0.0)
    for url in (A, B, A, A, B):
        dial = plan.after_session(url, Ended.IN_ORDER, 10.0, 0.0)
        assert dial.delay_s == 0.0
    for seed in range(50):
        plan = DialPlan([A, B, C], random.Random(seed), 0.0)
        url = plan.first(0.0).url
        for _ in range(10):
            dial = plan.after_session(url, Ended.IN_ORDER, 10.0, 0.0)
            assert dial.url != url
            url = dial.url


@pytest.mark.parametrize("seed", range(20))
def test_a_session_that_broke_is_replaced_elsewhere_soon(seed: int) -> None:
    """The other address comes first, and soon however often nodes have died; then the common rule holds again."""
    plan = DialPlan([A, B], random.Random(seed), 0.0)
    url = plan.first(0.0).url
    for _ in range(20):
        dial = plan.after_session(url, Ended.BROKEN, HELD_S, 0.0)
        assert dial.url != url
        assert dial.delay_s <= CLOSED_PORT_MAX_S
        url = dial.url
    plan = DialPlan([A, B], Highest(), 0.0)
    delays = [plan.after_session(A, Ended.BROKEN, HELD_S - 1, 0.0).delay_s for _ in range(10)]
    assert delays[-1] == MAX_S
    delays = [plan.after_failure(B, Failed.OTHER, 0.0).delay_s for _ in range(10)]
    assert delays[-1] == MAX_S


def test_a_node_that_greets_and_closes_is_not_dialled_in_a_tight_loop() -> None:
    """A session of less than a second counts as a failure, however it was closed."""
    plan = DialPlan([A], Highest(), 0.0)
    delays = [plan.after_session(A, Ended.IN_ORDER, 0.01, 0.0).delay_s for _ in range(10)]
    assert delays[-1] == MAX_S and min(delays) == BASE_S


def test_a_place_that_was_taken_over_is_taken_back_more_slowly_each_time() -> None:
    """Two agents with one ID throw each other out ever more seldom, until one of them had its place for long."""
    plan = DialPlan([A], Highest(), 0.0)
    delays = [plan.after_session(A, Ended.TAKEN_OVER, 300.0, 0.0).delay_s for _ in range(10)]
    assert delays[:4] == [2.0, 4.0, 8.0, 16.0] and delays[-1] == 300.0
    assert plan.after_session(A, Ended.TAKEN_OVER, 600.0, 0.0).delay_s == 2.0


def test_what_a_stopping_node_refused_does_not_delay_us_after_its_end() -> None:
    """It answered 503 while it drained, then closed our old session in order and restarts."""
    plan = DialPlan([A], Highest(), 0.0)
    for _ in range(10):
        plan.after_failure(A, Failed.OTHER, 0.0)
    assert plan.after_session(A, Ended.IN_ORDER, 30.0, 0.0).delay_s == 0.0
    assert plan.after_failure(A, Failed.OTHER, 0.0).delay_s <= 0.8


def test_every_address_gets_its_turn() -> None:
    """In random order, each once before any is tried again, the one that just failed not first."""
    orders = set()
    for seed in range(50):
        plan = DialPlan([A, B, C], random.Random(seed), 0.0)
        url = plan.first(0.0).url
        tried = [url]
        for _ in range(8):
            url = plan.after_failure(url, Failed.OTHER, 0.0).url
            assert url != tried[-1]
            tried.append(url)
        assert set(tried[0:3]) == set(tried[3:6]) == set(tried[6:9]) == {A, B, C}
        orders.add(tuple(tried[:3]))
    assert len(orders) == 6


def test_a_refusal_is_retried_at_the_slow_end() -> None:
    """7.5 to 15 s, from the first refusal on."""
    for seed in range(20):
        plan = DialPlan([A], random.Random(seed), 0.0)
        for now in range(0, 100, 20):
            assert MAX_S / 2 <= plan.after_failure(A, Failed.TURNED_AWAY, now).delay_s <= MAX_S


def test_a_refused_credential_is_shown_ever_later() -> None:
    """Up to a minute; a session ends the count, and other nodes, which may know more, are asked at once."""
    plan = DialPlan([A], Highest(), 0.0)
    waits = [plan.after_failure(A, Failed.UNWELCOME, 1000.0 * turn).delay_s for turn in range(5)]
    assert waits == [10.0, 20.0, 40.0, 60.0, 60.0]
    plan.after_session(A, Ended.IN_ORDER, 100.0, 9000.0)
    assert plan.after_failure(A, Failed.UNWELCOME, 9000.0).delay_s == 10.0
    assert DialPlan([A, B], Highest(), 0.0).after_failure(A, Failed.UNWELCOME, 0.0).delay_s <= BASE_S


def test_other_addresses_are_tried_while_one_refuses() -> None:
    """An address that turned us away is left alone; when all have, the first whose time comes is next."""
    plan = DialPlan([A, B], random.Random(5), 0.0)
    dial = plan.after_failure(A, Failed.TURNED_AWAY, 0.0)
    assert dial.url == B and dial.delay_s <= BASE_S
    for _ in range(5):
        dial = plan.after_failure(B, Failed.OTHER, 0.1)
        assert dial.url == B
    dial = plan.after_failure(B, Failed.TURNED_AWAY, 1.0)
    assert 6.0 <= dial.delay_s <= 14.0


def test_a_closed_port_is_tried_often_for_a_while() -> None:
    """A node that was killed gets its agents back within a second of its return, five minutes long."""
    plan = DialPlan([A], Highest(), 0.0)
    plan.after_session(A, Ended.BROKEN, 1000.0, 1000.0)
    now = 1000.0
    while now < 1000.0 + HOPE_S:
        delay_s = plan.after_failure(A, Failed.CLOSED_PORT, now).delay_s
        assert delay_s <= CLOSED_PORT_MAX_S
        now += delay_s
    delays = [plan.after_failure(A, Failed.CLOSED_PORT, now).delay_s for _ in range(8)]
    assert delays[-1] == MAX_S


def test_a_node_that_is_killed_over_and_over_is_still_found_within_a_second() -> None:
    """Closed ports do not grow the wait after the session that follows them."""
    plan = DialPlan([A], Highest(), 0.0)
    now = 0.0
    for _ in range(20):
        assert plan.after_session(A, Ended.BROKEN, 5.0, now).delay_s <= 0.8
        for _ in range(10):
            now += 0.5
            assert plan.after_failure(A, Failed.CLOSED_PORT, now).delay_s <= CLOSED_PORT_MAX_S


def test_a_closed_port_after_a_long_trouble_is_tried_often_at_once() -> None:
    """A node that hung and was killed then: the count that its time-outs grew does not hold."""
    plan = DialPlan([A], Highest(), 0.0)
    for _ in range(10):
        plan.after_failure(A, Failed.OTHER, 10.0)
    assert plan.after_failure(A, Failed.CLOSED_PORT, 10.0).delay_s <= CLOSED_PORT_MAX_S
    assert plan.after_failure(A, Failed.OTHER, 10.0).delay_s <= 0.8


@given(
    st.integers(1, 4),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.sampled_from([*Failed, *Ended]), st.floats(0, 200), st.floats(0, 100)), max_size=60),
)
def test_whatever_happens_there_is_a_next_attempt_in_time(count: int, seed: int, history: list[Any]) -> None:
    """Every history leads to an attempt at a known address: within 15 s, or as long as the worst of it allows."""
    urls = [f"http://{number}" for number in range(count)]
    plan = DialPlan(urls, random.Random(seed), 0.0)
    now = 0.0
    longer = {
        Failed.SENT_ELSEWHERE: SENT_ELSEWHERE_MAX_S,
        Failed.UNWELCOME: UNWELCOME_MAX_S,
        Ended.TAKEN_OVER: TAKEN_OVER_MAX_S,
    }
    most_s = MAX_S
    dial = plan.first(now)
    for what, lasted_s, passed_s in history:
        now += dial.delay_s + passed_s
        if isinstance(what, Failed):
            dial = plan.after_failure(dial.url, what, now)
        else:
            dial = plan.after_session(dial.url, what, lasted_s, now)
        assert dial.url in urls
        most_s = max(most_s, longer.get(what, 0.0))
        assert 0.0 <= dial.delay_s <= most_s


def test_sent_elsewhere_in_vain_is_asked_again_ever_more_rarely() -> None:
    """Up to a quarter of an hour; a session takes that back. It says nothing against the address."""
    plan = DialPlan([A], Highest(), 0.0)
    delays = [plan.after_failure(A, Failed.SENT_ELSEWHERE, 0.0).delay_s for _ in range(8)]
    assert delays == [min(SENT_ELSEWHERE_S * 2**n, SENT_ELSEWHERE_MAX_S) for n in range(8)]
    plan.after_session(A, Ended.IN_ORDER, 60.0, 0.0)
    assert plan.after_failure(A, Failed.SENT_ELSEWHERE, 0.0).delay_s == SENT_ELSEWHERE_S


def test_addresses_of_siblings_come_last() -> None:
    """And still each comes once before any comes again."""
    for seed in range(20):
        plan = DialPlan([A, B, C], random.Random(seed), 0.0)
        urls = [plan.first(0.0, [B]).url]
        urls += [plan.elsewhere(urls[-1], 0.0, [B]).url for _ in range(2)]
        assert urls[-1] == B and set(urls) == {A, B, C}

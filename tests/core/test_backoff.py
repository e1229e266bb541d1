"""Waits that double, drawn or not."""

from __future__ import annotations

import random

import pytest

from pico_twisted.core.backoff import Backoff


def test_waits_double_up_to_the_longest_and_begin_again() -> None:
    """Without a source of chance each wait is its ceiling."""
    backoff = Backoff(0.1, 1.0)
    assert [backoff.next_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_s() == 0.1


def test_the_next_wait_can_be_held_down() -> None:
    """To a height that the following ones begin at; a ceiling that is lower already stays."""
    backoff = Backoff(1.0, 60.0)
    assert [backoff.next_s() for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    backoff.hold(3.0)
    assert [backoff.next_s() for _ in range(2)] == [3.0, 6.0]
    backoff.reset()
    backoff.hold(3.0)
    assert backoff.next_s() == 1.0


@pytest.mark.parametrize(("jitter", "least_s"), [(1.0, 0.0), (0.5, 5.0)])
def test_waits_are_drawn_from_all_that_the_jitter_allows(jitter: float, least_s: float) -> None:
    """Evenly, so that those who failed together do not come back together."""
    rng = random.Random(1)
    draws = [Backoff(10.0, 10.0, rng, jitter=jitter).next_s() for _ in range(2000)]
    assert least_s <= min(draws) < least_s + 0.1 and 9.9 < max(draws) <= 10.0
    assert sum(draws) / len(draws) == pytest.approx((least_s + 10.0) / 2, rel=0.1)

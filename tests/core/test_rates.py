"""Token buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.rates import TokenBucket


def test_so_many_at_once_and_so_many_a_second() -> None:
    """A burst of a second's worth, then as time allows; a clock that goes back gives nothing."""
    bucket = TokenBucket(5, 0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.wait_s(0.0) == 0.2
    assert bucket.take(0.2) and not bucket.take(0.2) and not bucket.take(0.1)
    assert not bucket.is_full(1.0) and bucket.is_full(1.3)


def test_less_than_one_a_second() -> None:
    """One at once, and the next one when its time has come."""
    bucket = TokenBucket(1 / 60, 0.0)
    assert bucket.take(0.0) and not bucket.take(59.0) and bucket.take(60.5)


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 2), max_size=100))
def test_never_more_than_the_rate(rate: float, pauses: list[float]) -> None:
    """In any time, and whatever the pauses: a burst and the rate."""
    bucket = TokenBucket(rate, 0.0)
    now, taken = 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
    assert taken <= max(1.0, rate) + rate * now + 1e-6

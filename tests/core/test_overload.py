"""What is refused by a process that comes late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.overload import LATE_S, LESS, MORE, MOST, TURNS, Overload

lags = st.lists(st.floats(0, 60, allow_nan=False), max_size=200)


def after(*lags_s: float) -> Overload:
    """The judge after turns that were so late."""
    overload = Overload()
    for lag_s in lags_s:
        overload.turn(lag_s)
    return overload


def test_one_pause_is_no_overload() -> None:
    """However long one turn was late, or a few that are not all in a row, nothing is refused."""
    assert after(3600.0).share == 0
    assert after(*[LATE_S * 2] * (TURNS - 1), 0.0, *[LATE_S * 2] * (TURNS - 1)).share == 0


def test_late_for_a_while() -> None:
    """The longer turns are late, the more is refused; a little is always let in."""
    shares = [after(*[LATE_S] * count).share for count in range(TURNS, TURNS + 20)]
    assert 0 < shares[0] < shares[3] < shares[-1] == MOST < 1
    assert after(*[LATE_S] * 100).refuses(0.5) and not after(*[LATE_S] * 100).refuses(MOST)


@given(lags)
def test_it_ends(lags_s: list[float]) -> None:
    """Whatever was, nothing is refused any more after so many turns in time."""
    overload = after(*lags_s)
    assert 0 <= overload.share <= MOST
    for _ in range(int(MOST / LESS) + 1):
        overload.turn(0.0)
    assert overload.share == 0 and not overload.refuses(0.0)


@given(lags)
def test_never_more_while_in_time(lags_s: list[float]) -> None:
    """The share grows in late turns alone, and by a step at most."""
    overload = Overload()
    for lag_s in lags_s:
        before = overload.share
        overload.turn(lag_s)
        assert overload.share <= before if lag_s < LATE_S else before <= overload.share <= before + MORE + 1e-9

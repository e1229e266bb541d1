"""What is refused by a process that comes late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.overload import CHANGE, LATE_S, LESS, MORE, MOST, TURNS, Overload

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
    shares = [after(*[2 * LATE_S] * count).share for count in range(TURNS, TURNS + 40)]
    assert 0 < shares[0] < shares[3] < shares[-1] == MOST < 1
    assert after(*[2 * LATE_S] * 100).refuses(0.5) and not after(*[2 * LATE_S] * 100).refuses(MOST)


def test_it_stops_when_it_is_enough() -> None:
    """While the process is late still, but less with each turn, no more is refused: what is refused shows late."""
    overload = after(*[3 * LATE_S] * 20)
    before = overload.share
    for lag_s in (2.8, 2.6, 2.4, 2.2, 2.0):
        overload.turn(lag_s * LATE_S)
        assert overload.share < before
        before = overload.share
    assert before > 0


def test_it_does_not_swing() -> None:
    """Clients who ask again at once, and whose refusal costs half of an answer, are as many all the time: then the line
    is about as long all the time, and so is the share. The line is seen a second late."""
    overload, line, seen = Overload(), 0.0, [0.0] * 5
    lags = []
    for turn in range(1000):
        line = max(
            0.0, line + 0.2 * (1.3 * (1 - overload.share / 2) - 1)
        )  # seconds of work that come in a fifth of one
        seen.append(line)
        overload.turn(seen[-6])
        if turn > 500:
            lags.append(line)
    assert max(lags) - min(lags) < LATE_S


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
    """The share grows in late turns alone, by steps at most, and by a small one when the turn before was later."""
    overload, last_s = Overload(), 0.0
    for lag_s in lags_s:
        before = overload.share
        overload.turn(lag_s)
        if lag_s < LATE_S:
            assert overload.share <= before
        else:
            assert overload.share <= before + MORE + CHANGE * (lag_s >= last_s) + 1e-9
        last_s = lag_s

"""What is seen of the ways to an endpoint, and what a call costs there."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.routing.latency import (
    DECAY_S,
    FLOOR_S,
    FORGET_S,
    MAX_LEVEL,
    MAX_S,
    SILENT_LEVEL,
    SLOW_LEVEL,
    Latency,
    level_of,
)
from pico_twisted.core.routing.registry import Registry

SECONDS = st.floats(0.0, 60.0)


class Way:
    """An agent with a service that takes some time, or hangs.

    Args:
        name: of the agent.
        takes_s: what it takes to the first byte; infinity when it hangs.
        unwell: see `Latency`.
    """

    endpoint = "ep"
    slot = "0"
    last_choice = False

    def __init__(self, name: str, takes_s: float, unwell: dict[Latency, None] | None = None) -> None:
        self.agent_id = name
        self.takes_s = takes_s
        self.calls: list[float] = []  # when they began
        self.latency = Latency("ep", name, "", self.calls, unwell)

    def pass_time(self, now: float) -> None:
        """Answer what is due, as the glue tells it."""
        for began in [began for began in self.calls if now - began >= self.takes_s]:
            self.calls.remove(began)
            self.latency.answered(self.takes_s, now)
        if self.calls:
            self.latency.waits(now - max(self.calls[0], self.latency.answered_at), now)
        self.latency.rest(now)


def shares(ways: list[Way], *, from_s: float, to_s: float, rate: int = 50, until_s: float = 0.0) -> dict[str, float]:
    """Let time pass at a constant rate of calls. Returns which share each way got from `until_s` on."""
    registry: Registry[Way] = Registry(100_000, random.Random(7).random)
    for way in ways:
        registry.add(way)
    counts: Counter[str] = Counter()
    for turn in range(round(from_s * rate), round(to_s * rate)):
        now = turn / rate
        for way in ways:
            way.pass_time(now)
        chosen = registry.take("ep")
        assert chosen is not None, "there is somebody"
        chosen.calls.append(now)
        if now >= until_s:
            counts[chosen.agent_id] += 1
    return {name: count / counts.total() for name, count in counts.items()}


def test_levels() -> None:
    """All that is quick is equal; then each doubling is one level more, up to a bound."""
    assert [level_of(seconds) for seconds in (0.0, FLOOR_S * 0.99, FLOOR_S, 0.02, 0.04, 0.25)] == [0, 0, 1, 2, 3, 5]
    assert level_of(MAX_S) == level_of(1000.0) == MAX_LEVEL < SILENT_LEVEL
    assert level_of(0.128) == SLOW_LEVEL


def test_a_worse_answer_counts_at_once_and_a_better_one_slowly() -> None:
    """The peak holds, and fades with the time constant, whatever the number of better answers."""
    for answers in (1, 10, 1000):
        latency = Latency("ep", "a", "", ())
        latency.answered(0.001, 0.0)
        assert latency.held == 0
        latency.answered(0.25, 1.0)
        assert latency.level == latency.held == 5
        for number in range(1, answers + 1):
            latency.answered(0.001, 1.0 + DECAY_S * number / answers)
        assert latency.held == level_of(0.001 + 0.249 / math.e), answers
    assert latency.usual_s < 0.01, "one slow answer of a thousand is not usual"


def test_silence_makes_one_call_cheaper() -> None:
    """What was slow is asked again after a while, with one call; the next ones cost what was measured."""
    calls: list[int] = []
    unwell: dict[Latency, None] = {}
    latency = Latency("ep", "a", "", calls, unwell)
    latency.answered(0.25, 0.0)
    assert list(unwell) == [latency]
    latency.rest(50.0)
    assert (latency.level, latency.held, latency.next_level) == (0, 5, 0)
    calls.append(1)
    assert latency.next_level == 5
    latency.answered(0.001, 50.1)
    assert latency.next_level == 0
    latency.rest(51.0)
    assert not unwell


def test_nothing_is_held_against_anybody_for_ever() -> None:
    """A way without calls for a minute is as one of which nothing is known."""
    unwell: dict[Latency, None] = {}
    latency = Latency("ep", "a", "", (), unwell)
    latency.answered(100.0, 0.0)
    for second in range(1, 200):
        latency.rest(float(second))
    assert (latency.level, latency.held) == (0, 0) and not unwell
    assert latency.usual_s == MAX_S and FORGET_S < 200


def test_stalled() -> None:
    """Calls that wait for longer than a second, and than eight times of what is usual, count as an answer of that."""
    calls = [1]
    latency = Latency("ep", "a", "", calls)
    latency.answered(0.001, 0.0)
    latency.waits(0.9, 1.0)
    assert not latency.stalled and latency.level == 0
    latency.waits(1.1, 1.2)
    assert latency.stalled and latency.held == level_of(1.1)
    latency.rest(60.0)
    assert latency.stalled and latency.level == level_of(1.1), "nothing decays while a call waits"
    latency.waits(60.0, 61.0)
    assert latency.held == MAX_LEVEL
    latency.answered(0.001, 62.0)
    assert not latency.stalled

    slow = Latency("ep", "b", "", calls)
    slow.answered(2.0, 0.0)
    slow.waits(15.0, 15.0)
    assert not slow.stalled
    slow.waits(17.0, 17.0)
    assert slow.stalled
    calls.clear()
    slow.rest(18.0)
    assert not slow.stalled, "those who waited have left"


def test_silent() -> None:
    """A session without a sign of life is the worst of all, until it gives one."""
    latency = Latency("ep", "a", "", ())
    latency.answered(0.25, 0.0)
    latency.silence(silent=True)
    latency.answered(0.001, 1.0)
    latency.rest(100.0)
    assert latency.silent and latency.level == latency.held == SILENT_LEVEL
    latency.silence(silent=False)
    latency.silence(silent=False)
    assert not latency.silent and latency.level == level_of(0.25 / math.exp(0.1)) == latency.held


def test_what_nobody_has_asked_is_tried_with_one_call() -> None:
    """A doubt makes only the second call dear, and holds nothing against who has answered."""
    calls: list[int] = []
    latency = Latency("ep", "n2", "n2", calls)
    latency.doubt(6)
    assert latency.next_level == 0
    calls.append(1)
    assert latency.next_level == 6
    latency.answered(0.001, 5.0)
    latency.doubt(6)
    assert latency.next_level == 0


@given(st.lists(st.tuples(st.sampled_from(["answered", "waits", "rest", "silent", "heard", "back"]), SECONDS)))
def test_whatever_happens_it_can_be_read(events: list[tuple[str, float]]) -> None:
    """Levels stay within their bounds, also when the clock goes back, and who is unwell is known."""
    unwell: dict[Latency, None] = {}
    latency = Latency("ep", "a", "", (), unwell)
    now = 0.0
    for what, seconds in events:
        now += -seconds if what == "back" else seconds
        if what == "answered":
            latency.answered(seconds - 1.0, now)
        elif what == "waits":
            latency.waits(seconds, now)
        elif what == "rest":
            latency.rest(now)
        elif what in ("silent", "heard"):
            latency.silence(silent=what == "silent")
        assert 0 <= latency.level <= latency.held <= SILENT_LEVEL
        assert latency in unwell or not latency.held
        assert 0.0 <= latency.usual_s <= MAX_S


@given(
    st.floats(0.0005, 0.005),
    st.floats(0.2, 2.0) | st.just(math.inf),
    st.integers(1, 6),
    st.integers(10, 100),
)
def test_what_is_slow_or_hangs_gets_little(quick_s: float, slow_s: float, others: int, rate: int) -> None:
    """Beside others that are well it gets less than a tenth within 5 s, and somebody is always chosen."""
    ways = [Way("slow", slow_s), *(Way(str(number), quick_s) for number in range(others))]
    found = shares(ways, from_s=0.0, to_s=15.0, rate=rate, until_s=5.0)
    assert found.get("slow", 0.0) < 0.1


@pytest.mark.parametrize("many", [2, 3, 12])
def test_what_became_well_gets_its_share_back(many: int) -> None:
    """Nobody is told that a service is well again: the few calls that it gets show it."""
    ways = [Way(str(number), 0.002) for number in range(many)]
    ways[0].takes_s = 0.5
    assert shares(ways, from_s=0.0, to_s=10.0, until_s=5.0).get("0", 0.0) < 0.1 / many
    ways[0].takes_s = 0.002
    found = shares(ways, from_s=10.0, to_s=120.0, until_s=100.0)
    assert found["0"] == pytest.approx(1 / many, rel=0.2)


def test_all_are_slow() -> None:
    """Where nobody is better, all get the same."""
    found = shares([Way(str(number), 0.7) for number in range(3)], from_s=0.0, to_s=30.0)
    assert all(share == pytest.approx(1 / 3, abs=0.05) for share in found.values())


def test_a_refusal_is_no_fast_answer() -> None:
    """Who has no room says so at once, and is slow for that: others are preferred, for a while."""
    unwell: dict[Latency, None] = {}
    way = Latency("ep", "n2", "n2", [], unwell)
    way.answered(FLOOR_S / 2, 0.0)
    assert way.level == 0 and not unwell
    way.refused(1.0)
    assert way.level >= SLOW_LEVEL and list(unwell) == [way] and not way.stalled
    way.rest(1.0 + 10 * DECAY_S)
    assert way.level == 0

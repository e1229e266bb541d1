"""Ceilings, and many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.ceilings import MOST_KEYS, Ceiling, Ceilings, Limit, Over, enter_all

FULL, FAST = Limit.ENDPOINT_IN_FLIGHT, Limit.ENDPOINT_RATE


def test_so_many_at_once() -> None:
    """As many as the limit are let in; each that leaves, told once or twice, makes room for one."""
    ceiling = Ceiling(FULL, FAST, most=2)
    assert [ceiling.enter(name, 0.0) for name in "ab"] == [None, None]
    assert ceiling.enter("c", 0.0) == Over(FULL, None)
    ceiling.leave("a")
    ceiling.leave("a")
    ceiling.leave("never came")
    assert ceiling.enter("c", 0.0) is None and ceiling.enter("d", 0.0) is not None


def test_so_many_a_second() -> None:
    """The rate holds for what begins, and who comes too early is told when to come again."""
    ceiling = Ceiling(FULL, FAST, rate=2)
    assert [ceiling.enter(name, 0.0) for name in "ab"] == [None, None]
    assert ceiling.enter("c", 0.0) == Over(FAST, 0.5)
    assert ceiling.enter("c", 0.5) is None
    assert not ceiling.inside, "without a limit of what is in flight, nothing is kept"


def test_who_is_refused_for_one_limit_uses_up_nothing_of_the_other() -> None:
    """What is refused since too much is in flight takes nothing from the rate."""
    ceiling = Ceiling(FULL, FAST, most=1, rate=2)
    assert ceiling.enter("a", 0.0) is None
    for _ in range(5):
        assert ceiling.enter("b", 0.0) == Over(FULL, None)
    ceiling.leave("a")
    assert ceiling.enter("b", 0.0) is None


def test_all_or_none() -> None:
    """What one of several ceilings refuses is in flight under none."""
    ceilings = [Ceiling(FULL, FAST, most=5), Ceiling(FULL, FAST, most=5), Ceiling(FULL, FAST, most=1)]
    assert enter_all(ceilings, "a", 0.0) is None
    assert enter_all(ceilings, "b", 0.0) == Over(FULL, None)
    assert [ceiling.inside for ceiling in ceilings] == [{"a"}] * 3


def test_other_limits_hold_at_once() -> None:
    """A key whose limits are changed keeps what is in flight, and holds to the new limits."""
    ceilings = Ceilings(FULL, FAST)
    assert ceilings.of("x", 1, None, 0.0).enter("a", 0.0) is None
    assert ceilings.of("x", 1, None, 0.0).enter("b", 0.0) is not None
    assert ceilings.of("x", 2, None, 0.0).enter("b", 0.0) is None
    assert ceilings.of("x", 1, None, 0.0).inside == {"a", "b"}
    assert ceilings.of("x", None, 1, 0.0).enter("c", 0.0) is None
    assert ceilings.of("x", None, 1, 0.0).enter("c", 0.0) == Over(FAST, 1.0)
    assert ceilings.of("x", None, 1000, 0.0).enter("c", 0.0) is None


@pytest.mark.parametrize("rate", [None, 0.001])
def test_a_hundred_thousand_keys(rate: float | None) -> None:
    """However many keys strangers show, memory stays bounded, and nothing that is in flight is forgotten."""
    ceilings = Ceilings(FULL, FAST)
    held = []
    for number in range(100):
        held.append(ceilings.of(f"held{number}", 1, rate, 0.0))
        assert held[-1].enter("a", 0.0) is None
    for number in range(100_000):
        ceiling = ceilings.of(f"2001:db8::{number:x}", 5, rate, 0.0)
        assert ceiling.enter("a", 0.0) is None
        ceiling.leave("a")
    assert len(ceilings) <= MOST_KEYS + len(held) + 1
    assert [ceilings.of(f"held{number}", 1, rate, 0.0) for number in range(100)] == held
    for number in range(10_000):
        ceilings.of(f"later{number}", 5, None, 1e6)
    assert len(ceilings) < 2 * len(held), "what is idle goes sooner"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from("wxyz"), st.floats(0, 1))))
def test_never_more_than_the_limits(steps: list[tuple[str, bool, str, float]]) -> None:
    """Whatever comes and goes, a key never has more in flight than its limit, nor what another one has."""
    ceilings = Ceilings(FULL, FAST)
    inside: dict[str, set[str]] = {key: set() for key in "abc"}
    now = 0.0
    for key, enters, what, pause in steps:
        now += pause
        ceiling = ceilings.of(key, 2, None, now)
        if not enters:
            ceiling.leave(what)
            inside[key].discard(what)
        elif len(inside[key]) < 2 or what in inside[key]:
            assert ceiling.enter(what, now) is None
            inside[key].add(what)
        else:
            assert ceiling.enter(what, now) == Over(FULL, None)
        assert ceiling.inside == inside[key]

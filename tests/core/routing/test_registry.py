"""Who gets the next call."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.routing.latency import Latency
from pico_twisted.core.routing.registry import Registry


class Session:
    """A registration, as the registry sees it."""

    def __init__(self, agent_id: str, endpoint: str = "ep", slot: str = "0") -> None:
        self.endpoint = endpoint
        self.agent_id = agent_id
        self.slot = slot
        self.calls = range(0)
        self.last_choice = False
        self.latency = Latency(endpoint, agent_id, "", ())

    def __repr__(self) -> str:
        return f"<{self.agent_id} {len(self.calls)}{' last' if self.last_choice else ''}>"


def registry_of(*sessions: Session) -> Registry[Session]:
    """A registry that holds them."""
    registry: Registry[Session] = Registry(10_000, random.Random(7).random)
    for session in sessions:
        registry.add(session)
    return registry


def test_nobody() -> None:
    """Where nobody holds an endpoint nobody is chosen, and no trace of the question stays."""
    registry = registry_of()
    assert registry.take("ep") is None
    assert not registry.held("ep") and len(registry) == 0 and registry.counts() == {}


def test_ties_in_turn() -> None:
    """Equally busy sessions get calls in turn."""
    sessions = [Session(name) for name in "abc"]
    registry = registry_of(*sessions)
    chosen = [registry.take("ep") for _ in range(9)]
    assert chosen == sessions * 3


def test_last_choices_among_many() -> None:
    """Where two of many are drawn, and both are the last choice, the others are looked at, too."""
    sessions = [Session(f"agent-{number}") for number in range(20)]
    registry = registry_of(*sessions)
    for session in sessions[:-1]:
        session.last_choice = True
    assert {registry.take("ep") for _ in range(50)} == {sessions[-1]}
    sessions[-1].last_choice = True
    assert len({registry.take("ep") for _ in range(200)}) > 10


def test_fewest_calls_first() -> None:
    """A session with fewer calls in flight comes before its turn."""
    a, b, c = sessions = [Session(name) for name in "abc"]
    registry = registry_of(*sessions)
    a.calls, b.calls, c.calls = range(2), range(1), range(3)
    assert [registry.take("ep") for _ in range(3)] == [b, b, b]
    b.calls = range(5)
    assert registry.take("ep") is a


def test_last_choices_last() -> None:
    """A session that is the last choice is chosen only when there is no other, however busy the others are."""
    a, b = Session("a"), Session("b")
    registry = registry_of(a, b)
    a.last_choice, b.calls = True, range(1000)
    assert registry.take("ep") is b
    b.last_choice = True
    assert registry.take("ep") is a
    assert registry.take("ep", [a]) is b


def test_excluded() -> None:
    """What was tried already is not chosen again."""
    a, b = Session("a"), Session("b")
    registry = registry_of(a, b)
    assert registry.take("ep", [a]) is b
    assert registry.take("ep", [a, b]) is None
    assert registry_of(a).take("ep", [a]) is None


def test_full_ones_are_passed_over() -> None:
    """A session with as many calls as it may have is not chosen, not even as the only one; it is still another one."""
    a, b = Session("a"), Session("b")
    registry: Registry[Session] = Registry(2, lambda: 0.0)
    registry.add(a)
    a.calls = range(2)
    assert registry.take("ep") is None and registry.has_other("ep")
    registry.add(b)
    b.calls, b.last_choice = range(1), True
    assert registry.take("ep") is b
    b.calls = range(2)
    assert registry.take("ep") is None
    a.calls = range(1)
    assert registry.take("ep") is a


def test_a_question_changes_nothing() -> None:
    """Who asks whether there is another one draws no turn."""
    sessions = [Session(name) for name in "abc"]
    registry = registry_of(*sessions)
    assert registry.take("ep") is sessions[0]
    for _ in range(3):
        assert registry.has_other("ep", sessions[:1])
    assert registry.take("ep") is sessions[1]
    assert not registry.has_other("ep", sessions) and not registry.has_other("other")


def test_replacement() -> None:
    """The same agent, endpoint and slot again replaces the session before; anything else stands beside it."""
    old = Session("a")
    registry = registry_of(old)
    new = Session("a")
    assert registry.add(new) is old
    assert list(registry) == [new]
    assert registry.add(new) is None
    assert registry.add(Session("a", slot="1")) is None
    assert registry.add(Session("b")) is None
    assert registry.add(Session("a", endpoint="other")) is None
    assert registry.counts() == {"ep": 3, "other": 1}
    assert registry.remove(old) is False
    assert len(registry) == 4


def test_gone_at_once() -> None:
    """A removed session is chosen no more; removing again does nothing."""
    a, b = Session("a"), Session("b")
    registry = registry_of(a, b)
    assert registry.remove(a) is True
    assert registry.remove(a) is False
    assert [registry.take("ep") for _ in range(3)] == [b, b, b]
    registry.remove(b)
    assert not registry.held("ep") and registry.counts() == {}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
    st.sets(st.integers(0, 7)),
)
def test_the_best_is_chosen(shapes: list[tuple[int, bool]], excluded: set[int]) -> None:
    """The one that is chosen is not excluded, and no other is better."""
    sessions = [Session(str(number)) for number in range(len(shapes))]
    for session, (calls, last_choice) in zip(sessions, shapes, strict=True):
        session.calls, session.last_choice = range(calls), last_choice
    out = [session for number, session in enumerate(sessions) if number in excluded]
    allowed = [session for session in sessions if session not in out]
    chosen = registry_of(*sessions).take("ep", out)
    if not allowed:
        assert chosen is None
    else:
        assert chosen in allowed
        assert (chosen.last_choice, len(chosen.calls)) == min((one.last_choice, len(one.calls)) for one in allowed)


@given(st.integers(1, 6), st.integers(1, 60))
def test_turns_are_even(sessions: int, calls: int) -> None:
    """Calls that end at once are spread evenly."""
    registry = registry_of(*[Session(str(number)) for number in range(sessions)])
    counts = Counter(repr(registry.take("ep")) for _ in range(calls))
    assert max(counts.values()) - min([*counts.values(), *([0] if len(counts) < sessions else [])]) <= 1


def test_a_slow_one_comes_last_among_those_that_are_as_busy() -> None:
    """One that is slow gets a call when the others have as many as it is slower; one that is silent, when none is."""
    a, b = Session("a"), Session("b")
    registry = registry_of(a, b)
    a.latency.answered(0.04, 0.0)  # level 3: 8 times
    b.calls = range(6)
    assert registry.take("ep") is b
    b.calls = range(8)
    assert registry.take("ep") is a
    a.latency.silence(silent=True)
    b.calls = range(9000)
    assert registry.take("ep") is b
    b.last_choice, b.calls = True, range(9)
    assert registry.take("ep") is b, "one that drains is better than one that says nothing"
    assert registry.take("ep", [b]) is a


@given(st.lists(st.sampled_from(["well", "full", "excluded", "silent", "draining"]), min_size=9, max_size=40))
def test_one_of_many(kinds: list[str]) -> None:
    """Of many two are drawn; but where there is somebody who can be chosen, somebody is."""
    sessions = [Session(str(number)) for number in range(len(kinds))]
    registry: Registry[Session] = Registry(3, random.Random(7).random)
    for session, kind in zip(sessions, kinds, strict=True):
        session.calls = range(3 if kind == "full" else 0)
        session.last_choice = kind == "draining"
        session.latency.silence(silent=kind == "silent")
        registry.add(session)
    out = [session for session, kind in zip(sessions, kinds, strict=True) if kind == "excluded"]
    allowed = [session for session, kind in zip(sessions, kinds, strict=True) if kind not in ("full", "excluded")]
    chosen = registry.take("ep", out)
    assert chosen in allowed if allowed else chosen is None


def test_many_get_nearly_the_same() -> None:
    """Calls that go on are spread over many sessions nearly evenly, though only two are looked at for each."""
    sessions = [Session(str(number)) for number in range(50)]
    registry = registry_of(*sessions)
    for _ in range(5000):
        chosen = registry.take("ep")
        assert chosen is not None
        chosen.calls = range(len(chosen.calls) + 1)
    assert all(90 <= len(session.calls) <= 110 for session in sessions)

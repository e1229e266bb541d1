"""What a node believes of others, given what it hears."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip import StatusChanged
from pico_twisted.core.gossip.events import Value
from pico_twisted.core.gossip.judging import LEARNING_S, MASS_FAILURE_PATIENCE, judge
from pico_twisted.core.gossip.own import OwnNode
from pico_twisted.core.gossip.packets import Delta, Digest
from pico_twisted.core.gossip.sync import Whole
from pico_twisted.core.gossip.sync_source import SyncSource
from pico_twisted.core.gossip.view import (
    FRESH,
    LOWER_GENERATION_AFTER,
    MAX_MEMBERS,
    OWN_LIFE_IGNORED_AFTER,
    PREVIOUS_S,
    UNCONFIRMED_S,
    View,
)
from tests.core.gossip.views import FORGET_S, INTERVAL_S, T, hear, speak, told, view_of
from tests.doubles.said import Changed, all_said, whole_map
from tests.examples import examples

# Hearsay


def test_hearsay_alone_is_not_shown() -> None:
    """A node that was only heard of is neither told, nor listed, nor spoken of, however often it is repeated."""
    view = view_of("a", "b")
    for _ in range(10):
        hear(view, 1, 50, 3, 0, 100)
        hear(view, 1, 50, 3, 0, 200, by="b", at=T + 0.5)
    assert told(view) == [] and "x" not in view.members and "x" in view.unconfirmed
    assert not view.holds("x", 1) and all(
        one.digest[0] != "x" for one in SyncSource(view, INTERVAL_S).given({}, {}, T, takes_parts=True)
    )


def test_a_later_heartbeat_confirms() -> None:
    """A heartbeat that was made after we first heard of the node confirms it: first its status is told, then its
    keys."""
    view = view_of("a")
    hear(view, 1, 50, 3, 0, 400)
    view.apply(Delta("x", 1, 0, 0, [("proxy_addr", "h:1", 3)]), "a", T)
    hear(view, 1, 90, 3, 0, 1500, at=T + 1)  # newer than what we knew, but made before we heard of the node
    assert told(view) == []
    hear(view, 1, 600, 3, 0, 100, at=T + 1)
    assert told(view) == [StatusChanged("x", "active"), Changed("x", {"proxy_addr": "h:1"})]


def test_an_echo_confirms() -> None:
    """A node that echoes our challenge is there."""
    view = view_of()
    speak(view, "x", 1, 50, T, proven=False)
    assert told(view) == [] and not view.unconfirmed
    speak(view, "x", 1, 50, T)
    assert told(view)[0] == StatusChanged("x", "active")


def test_old_hearsay_is_not_even_noted() -> None:
    """What was alive long ago does not become known."""
    view = view_of("a")
    hear(view, 1, 50, 3, 0, int(FRESH * INTERVAL_S * 1000) + 1)
    assert not view.unconfirmed


def test_hearsay_that_does_not_come_true_is_forgotten() -> None:
    """An unconfirmed node is forgotten after a while."""
    view = view_of("a")
    hear(view, 1, 50, 3, 0, 100)
    view.drop_rumours(T + UNCONFIRMED_S - 1)
    assert view.unconfirmed
    view.drop_rumours(T + UNCONFIRMED_S + 1)
    assert not view.unconfirmed


def test_hearsay_does_not_get_younger() -> None:
    """What goes round between nodes stays as old as it is: however often a dead node's last heartbeat is repeated, it
    is judged by when it was made."""
    views = [View(OwnNode(name, 7, T), INTERVAL_S, FORGET_S) for name in "pqr"]
    for view in views:
        for name in "pqr":
            if name != view.own.node_id:
                speak(view, name, 5, 100, T)
        speak(view, "x", 5, 100 if view.own.node_id != "p" else 400, T)
    now = T
    while now < T + 10:
        now += 0.1
        for one in views:
            for two in views:
                if one is not two:
                    said = [one.members["x"].digest(now)] if one.spoken_of(one.members["x"], now) else []
                    two.hear_all(said, one.own.node_id, now, now)
                    two.hear_all([(one.own.node_id, 5, int(now * 1000), 0, 0, 0)], one.own.node_id, now, now)
        for view in views:
            judge(view, now)
        if now > T + 3:
            assert {view.members["x"].status for view in views} == {"unreachable"}


def test_unproven_packets_say_nothing_of_who_lives() -> None:
    """Of a packet that does not prove to be new only versions are taken."""
    view = view_of("a", "x")
    before = view.members["x"].alive_at
    view.hear_versions([("x", 5, 900, 77, 0, 0), ("y", 1, 1, 1, 0, 0), ("me", 9, 1, 1, 0, 0)], "a", T + 1)
    speak(view, "a", 5, 900, T + 1, proven=False)
    assert view.members["x"].reported == 77 and view.members["x"].behind_since == T + 1
    assert view.members["x"].alive_at == view.members["a"].alive_at == before
    assert not view.unconfirmed and view.own.identity.generation is None


def test_older_generations_are_ignored() -> None:
    """What belongs to a life that is over changes nothing."""
    view = view_of("a", "x")
    hear(view, 4, 9999, 9, 0, 0, at=T + 1)
    speak(view, "x", 4, 9999, T + 1)
    assert view.apply(Delta("x", 4, 0, 0, [("k", 1, 9)]), "a", T + 1) == (False, None)
    assert told(view) == [] and view.members["x"].generation == 5 and not view.unconfirmed


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("by_itself", [False, True])
def test_an_older_generation_is_believed_when_the_last_life_is_over_for_long(left: bool, by_itself: bool) -> None:
    """A clock was set back, and others have forgotten the last life by now: whether we have makes no difference. It is
    one row still, with nothing of the last life."""
    view = view_of("a", "x")
    view.apply(Delta("x", 5, 0, 0, [("status", "left" if left else "active", 9), ("old", 1, 10)]), "x", T)
    judge(view, T + 20)
    assert view.members["x"].status == ("left" if left else "unreachable")
    outlived = T + LOWER_GENERATION_AFTER * FORGET_S

    def live(at: float) -> None:
        if by_itself:
            speak(view, "x", 4, int((at - T) * 1000), at)
        else:
            speak(view, "a", 5, 1000 + int((at - T) * 1000), at)
            hear(view, 4, int((at - T) * 1000), 0, 0, 0, at=at)

    for at in (outlived - 4, outlived - 1):
        live(at)
    assert view.members["x"].generation == 5 and not view.unconfirmed
    told(view)
    for at in (outlived + 1, outlived + 2):
        live(at)
    about_x = [event for event in told(view) if event.node_id == "x"]  # type: ignore[union-attr]
    assert view.members["x"].generation == 4 and view.members["x"].status == "active"
    assert about_x == [StatusChanged("x", None), StatusChanged("x", "active"), Changed("x", {})]


def test_an_own_life_that_all_have_outlived_is_not_heeded() -> None:
    """We need no higher generation than it had, and take none late, when everybody knows us by now."""
    for age_s, heeded in (
        (OWN_LIFE_IGNORED_AFTER * FORGET_S - 1, True),
        (OWN_LIFE_IGNORED_AFTER * FORGET_S + 1, False),
    ):
        view = view_of("a")
        view.hear_all([("me", 9, 5000, 3, 0, int(age_s * 1000))], "a", T, T)
        assert (view.own.identity.generation is not None) is heeded


def test_bounded() -> None:
    """However many nodes are spoken of, a bounded number is kept, and the confirmed ones stay."""
    view = view_of("a", "b")
    for number in range(MAX_MEMBERS + 100):
        hear(view, 1, 50, 3, 0, 100, name=f"x{number}")
    assert len(view.members) + len(view.unconfirmed) == MAX_MEMBERS and set(view.members) == {"a", "b"}
    view._check_invariants()


# Time


def test_silence_makes_unreachable_and_then_forgotten() -> None:
    """A silent node is shown as unreachable, is spoken of for half of the time until it is forgotten, and then it is
    forgotten; hearsay of it does not bring it back."""
    view = view_of("a", "x")
    judge(view, T + 1.9)
    assert told(view) == []
    judge(view, T + 2.2)
    assert StatusChanged("x", "unreachable") in told(view)
    assert view.spoken_of(view.members["x"], T + FORGET_S / 2 - 1)
    assert not view.spoken_of(view.members["x"], T + FORGET_S / 2 + 1)
    judge(view, T + FORGET_S - 1)
    assert told(view) == []
    judge(view, T + FORGET_S + 1)
    assert StatusChanged("x", None) in told(view) and "x" not in view.members
    hear(view, 5, 100, 0, 0, int(FORGET_S * 1000), at=T + FORGET_S + 2)
    assert "x" not in view.unconfirmed


def test_news_bring_an_unreachable_node_back() -> None:
    """A newer heartbeat brings it back if it is young; an old one, of before it fell silent, does not."""
    view = view_of("a", "x")
    judge(view, T + 5)
    told(view)
    hear(view, 5, 400, 0, 0, 4500, at=T + 5)
    assert told(view) == [] and view.members["x"].status == "unreachable"
    hear(view, 5, 5400, 0, 0, 300, at=T + 5.7)
    assert told(view) == [StatusChanged("x", "active")]


@pytest.mark.parametrize(
    ("silent", "patience"), [(1, 1.0), (3, 1.0), (4, MASS_FAILURE_PATIENCE), (11, MASS_FAILURE_PATIENCE)]
)
def test_many_that_fall_silent_at_once_are_judged_later(silent: int, patience: float) -> None:
    """Most of them are behind a cut, but those who are not have not been asked for a while. One that dies is judged as
    soon as ever."""
    names = [f"n{number}" for number in range(12)]
    view = view_of(*names)
    judge(view, T)
    for member in view.members.values():
        member.first_heard_at = T - 2 * LEARNING_S
    limit_s = view.members["n0"].accrual.unreachable_s

    def silent_for(seconds: float) -> list[str]:
        for name in names[silent:]:
            view.members[name].alive_at = T + seconds
        judge(view, T + seconds)
        return [name for name in names if view.members[name].status == "unreachable"]

    assert silent_for(patience * limit_s - 0.01) == []
    assert silent_for(patience * limit_s + 0.01) == names[:silent]


def test_our_own_pause_is_nobodys_silence() -> None:
    """After a pause nobody is judged by it, and what had waited meanwhile does not teach patience."""
    view = view_of("a", "x")
    limit_s = view.members["x"].accrual.unreachable_s
    now = T + 60.0
    for heartbeat in range(400, 4000, 400):  # what waited in the socket: said when the pause began, at the earliest
        view.hear_all([("x", 5, heartbeat, 0, 0, 0)], "a", T + 0.5, now)
    view.woke(now)
    judge(view, now)
    assert told(view) == [] and view.members["x"].accrual.unreachable_s == limit_s
    judge(view, now + 1.9)
    assert told(view) == []
    judge(view, now + 2.2)
    assert StatusChanged("x", "unreachable") in told(view)


def test_the_pause_of_another_hides_nobody() -> None:
    """A node that was paused knows heartbeats that it read afterwards as older than they are. When it speaks of them,
    others still hear from the next one how young they are."""
    view = view_of("a", "b", "x")
    hear(view, 5, 600, 0, 0, 9000, name="x", by="a", at=T + 0.5)
    assert view.members["x"].alive_at == T
    hear(view, 5, 600, 0, 0, 20, name="x", by="b", at=T + 0.52)
    assert view.members["x"].alive_at == T + 0.5


def test_many_packets_teach_no_impatience() -> None:
    """A node that has much to say sends many packets with one heartbeat. When it has no more to say, it is not missed
    sooner than others."""
    view = view_of("x")
    now = T
    for heartbeat in range(600, 60_000, 500):
        for _ in range(10):
            now += 0.05
            speak(view, "x", 5, heartbeat, now)
    assert view.members["x"].accrual.unreachable_s > 2.0


# Generations


def start_again(view: View, *entries: tuple[str, Value | None, int]) -> None:
    """Node x, which held keys at generation 5, starts again as 6."""
    view.apply(Delta("x", 5, 0, 0, [("status", "draining", 1), ("endpoint:a", 1, 2), ("endpoint:b", 2, 3)]), "x", T)
    told(view)
    speak(view, "x", 6, 10, T + 1, version=9)


def test_old_keys_stand_until_the_first_whole_map() -> None:
    """At a restart the keys of the last life stay until all of the new ones are there: what both have never goes, what
    only the last had goes then, and is told."""
    view = view_of("x")
    start_again(view)
    assert view.members["x"].status == "active"  # the status of the last life is not that of the new one
    assert told(view)[-1] == Changed("x", {"endpoint:a": 1, "endpoint:b": 2})
    view.apply(Delta("x", 6, 0, 0, [("status", "active", 4), ("endpoint:a", 3, 5)]), "x", T + 1.1)
    assert told(view) == [Changed("x", {"status": "active", "endpoint:a": 3})]
    assert all_said(view.members["x"]) == {"status": "active", "endpoint:a": 3, "endpoint:b": 2}
    view.apply(Delta("x", 6, 5, 0, [("proxy_addr", "h:1", 9)]), "x", T + 1.2)
    assert told(view) == [Changed("x", {"proxy_addr": "h:1"}), Changed("x", {"endpoint:b": None})]
    assert all_said(view.members["x"]) == {"status": "active", "endpoint:a": 3, "proxy_addr": "h:1"}


def test_old_keys_stand_no_longer_than_a_second() -> None:
    """Where the whole map does not come, the keys of the last life go after a second."""
    view = view_of("x")
    start_again(view)
    told(view)
    judge(view, T + 1 + PREVIOUS_S - 0.1)
    assert told(view) == [] and all_said(view.members["x"])["endpoint:a"] == 1
    judge(view, T + 1 + PREVIOUS_S)
    assert Changed("x", {"status": None, "endpoint:a": None, "endpoint:b": None}) in told(view)


def test_a_node_that_left_starts_afresh() -> None:
    """`left` is final for a generation; the next one is another row, told from nothing."""
    view = view_of("x")
    view.apply(Delta("x", 5, 0, 0, [("endpoint:a", 1, 2), ("status", "left", 3)]), "x", T)
    assert told(view)[-1] == StatusChanged("x", "left")
    speak(view, "x", 5, 9000, T + 9)
    hear(view, 5, 9500, 4, 0, 0, at=T + 9.5)
    view.apply(Delta("x", 5, 3, 0, [("status", "active", 4)]), "x", T + 9.6)
    assert view.members["x"].status == "left"
    told(view)
    speak(view, "x", 6, 10, T + 10)
    assert told(view) == [StatusChanged("x", None), StatusChanged("x", "active"), Changed("x", {})]


# Entries


def test_entries_with_something_missing_before_them() -> None:
    """Entries are taken only where all before them are known; else they are asked for."""
    view = view_of("x")
    assert view.apply(Delta("x", 5, 4, 0, [("k", 1, 6)]), "a", T) == (True, 0)
    assert view.members["x"].map.version == 0 and view.members["x"].reported == 6
    assert view.apply(Delta("x", 5, 0, 0, [("j", 1, 4)]), "a", T) == (False, 0)
    assert view.apply(Delta("x", 5, 4, 0, [("k", 1, 6)]), "a", T) == (False, 4)
    assert view.members["x"].behind_since is None


def test_below_the_floor() -> None:
    """Whoever may have missed a delete takes no entries, and asks for the whole map, which is one change: what is gone
    is told as gone, what stayed is not told at all."""
    view = view_of("x")
    syncs = SyncSource(view, INTERVAL_S)
    syncs.maps_taken()
    view.apply(Delta("x", 5, 0, 0, [("a", 1, 1), ("b", 1, 2), ("c", 1, 3)]), "x", T)
    told(view)
    hear(view, 5, 100, 90, 50, 0, name="x", by="x")
    assert view.apply(Delta("x", 5, 0, 50, [("d", 1, 80), ("e", 1, 90)]), "x", T) == (False, None)
    assert told(view) == [] and syncs.wanted(T) == "x"
    entries = [("a", 1, 1), ("c", 5, 60), ("d", 1, 80), ("e", 1, 90)]
    whole = Whole(("x", 5, 100, 90, 50, 0), whole_map(entries, 90, 50))
    assert view.take_whole(whole, "x", T, T)
    assert told(view) == [Changed("x", {"c": 5, "d": 1, "e": 1, "b": None})]
    assert not view.take_whole(whole, "x", T, T) and told(view) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "x", "y", "me"]),
            st.integers(4, 8),
            st.integers(0, 5000),
            st.integers(0, 9),
            st.integers(0, 9),
            st.integers(0, 9000),
        ),
        max_size=60,
    )
)
@settings(max_examples=examples(200))
def test_whatever_is_said(items: list[Digest]) -> None:
    """Whatever is said of whom, generations never go back, statuses are told as they are held, and nothing is
    raised."""
    view = view_of("a")
    syncs = SyncSource(view, INTERVAL_S)
    shown: dict[str, str | None] = {"a": "active"}
    generations: dict[str, int] = {}
    now = T
    for name, generation, heartbeat, version, floor, age_ms in items:
        now += 0.3
        view.hear_all([(name, generation, heartbeat, max(version, floor), floor, age_ms)], "a", now, now)
        view.apply(Delta(name, generation, floor, floor, [("k", 1, floor + 1 + version)]), "a", now)
        syncs.wanted(now)
        judge(view, now)
        for event in told(view):
            if isinstance(event, StatusChanged):
                shown[event.node_id] = event.status
        for node_id, member in view.members.items():
            assert member.generation >= generations.get(node_id, 0) and shown[node_id] == member.status
            generations[node_id] = member.generation

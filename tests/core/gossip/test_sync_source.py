"""Which node is asked for whole maps, and what others are given."""

from __future__ import annotations

import pytest

from pico_twisted.core.gossip.packets import Delta
from pico_twisted.core.gossip.sync_source import SYNC_AGAIN_S, SyncSource
from tests.core.gossip.views import INTERVAL_S, T, hear, view_of


def test_syncs_are_asked_for_in_turn_and_seldom() -> None:
    """A sync is wanted from who spoke of the newest version, and when that did not help, from the node itself; not
    more often than every two seconds for one node."""
    view = view_of("a", "x")
    syncs = SyncSource(view, INTERVAL_S)
    syncs.maps_taken()
    assert syncs.wanted(T) is None
    hear(view, 5, 100, 90, 0, 0, name="x", by="a")
    assert syncs.wanted(T) is None  # packets may still bring it
    assert [syncs.wanted(T + 1 + step) for step in (0, 0.5, SYNC_AGAIN_S, SYNC_AGAIN_S + 0.5)] == [
        "a",
        None,
        "x",
        None,
    ]
    view.apply(Delta("x", 5, 0, 0, [("k", 1, 90)]), "a", T + 4)
    assert syncs.wanted(T + 9) is None


def test_steady_news_want_no_sync() -> None:
    """Who takes entries all the time, each of them soon, is not behind, though there always are newer ones."""
    view = view_of("x")
    syncs = SyncSource(view, INTERVAL_S)
    syncs.maps_taken()
    for version in range(1, 200):
        now = T + version * 0.1
        hear(view, 5, 100 + version, version + 1, 0, 0, name="x", at=now, by="x")
        view.apply(Delta("x", 5, version - 1, 0, [(f"k{version}", 1, version)]), "x", now)
        assert syncs.wanted(now) is None


def test_one_question_a_round() -> None:
    """Who is behind with many nodes asks one of them at a time, and the one first that spoke of most."""
    view = view_of("a", *(f"x{number}" for number in range(20)))
    syncs = SyncSource(view, INTERVAL_S)
    syncs.maps_taken()
    for number in range(20):
        hear(view, 5, 100, 90, 0, 0, name=f"x{number}", by="a" if number < 15 else f"x{number}")
    asked = [syncs.wanted(T + 1 + 0.01 * step) for step in range(10)]
    assert asked[0] == "a" and len({one for one in asked if one}) == 6 and asked[6:] == [None] * 4


def test_who_cannot_be_reached_does_not_keep_us_from_others() -> None:
    """Who asks many in vain asks each of the others too, within a round for each."""
    names = [f"x{number}" for number in range(8)]
    view = view_of(*names)
    syncs = SyncSource(view, INTERVAL_S)
    syncs.maps_taken()
    for name in names[:7]:
        hear(view, 5, 100, 90, 0, 0, name=name, by=name)
        hear(view, 5, 100, 95, 0, 0, name="y", by=name)
    asked = []
    for step in range(40):
        if step == 20:
            hear(view, 5, 100, 90, 50, 0, name=names[7], by=names[7], at=T + 10)
        asked.append(syncs.wanted(T + 1 + 0.5 * step))
    assert names[7] in asked[20:24]


def test_first_sync() -> None:
    """A node asks the first node that it meets for everything, and after two seconds another one, until it was answered
    once. Meanwhile it asks nobody for what that answer brings."""
    view = view_of("a", "b")
    syncs = SyncSource(view, INTERVAL_S)
    assert syncs.wanted(T) is None  # nobody knows where it could be asked
    for name in ("a", "b"):
        view.apply(Delta(name, 5, 0, 0, [("gossip_addr", f"{name}:1", 9)]), name, T)
    hear(view, 5, 100, 90, 0, 0, name="b", by="b")
    assert syncs.wanted(T) == "a" and syncs.wanted(T + 1.9) is None and syncs.wanted(T + 3) == "b"
    assert syncs.wanted(T + 6) == "a"
    syncs.maps_taken()
    assert syncs.wanted(T + 9) == "b" and syncs.wanted(T + 9.1) is None


@pytest.mark.parametrize("takes_parts", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_is_given_to_whom(count: int, takes_parts: bool) -> None:
    """Those maps are given that are further than the asker's, and those of nodes that it does not know: whole ones, but
    of what it has up to a version what stands above that, if it takes that."""
    view = view_of("a", "b")
    for version in range(1, count + 1):
        view.apply(Delta("a", 5, version - 1, 0, [(f"k{version}", 1, version)]), "a", T)
    syncs = SyncSource(view, INTERVAL_S)

    def given(behind: dict[str, tuple[int, int]], known: dict[str, int]) -> list[tuple[str, int]]:
        return [(one.digest[0], one.after) for one in syncs.given(behind, known, T, takes_parts=takes_parts)]

    assert given({"a": (5, 1)}, {"me": 7}) == ([("a", int(takes_parts))] if count > 1 else []) + [("b", 0)]
    assert given({"a": (4, 1)}, {"me": 7, "b": 5}) == [("a", 0)]
    assert given({}, {"me": 6, "a": 5, "b": 5}) == [("me", 0)]

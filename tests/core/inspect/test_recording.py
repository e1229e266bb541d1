"""What is kept of the calls of an agent is bounded, whatever passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.inspect.recording import Recording, Recordings
from tests.core.inspect.recorded import recorded


def test_the_newest_are_kept() -> None:
    """Older calls make room for newer ones."""
    recordings = Recordings(most=3)
    for _ in range(5):
        recorded(into=recordings)
    assert [one.id for one in recordings] == [5, 4, 3]
    assert recordings.get(2) is None and recordings.get(5) is not None


def test_all_together_have_a_bound() -> None:
    """A few large calls take the place of many small ones, and one is kept however large it is."""
    recordings = Recordings(most_bytes=20_000)
    for _ in range(8):
        recorded(into=recordings)
    assert len(recordings) == 8
    recorded(b"POST / HTTP/1.1", b"Content-Length: 18000\r\n", bytes(18_000), into=recordings)
    assert len(recordings) == 1 and recordings.held_bytes < 21_000
    recorded(b"POST / HTTP/1.1", b"Content-Length: 60000\r\n", bytes(60_000), into=recordings)
    assert [one.request_body.count for one in recordings] == [60_000]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000)), max_size=60))
def test_no_order_of_things_breaks_the_bounds(steps: list[tuple[int, int]]) -> None:
    """Calls that begin, grow, end and are forgotten in any order: no more is held than is allowed, and it is counted
    right to the last byte."""
    recordings = Recordings(most=4, most_bytes=12_000, most_body_bytes=3000)
    made: list[Recording] = []
    for what, size in steps:
        if what == 0 or not made:
            made.append(recordings.begin("web", "localhost:1", 0.0, tcp=False))
        elif what == 3 and size % 10 == 0:
            recordings.clear()
        else:
            one = made[size % len(made)]
            recordings.keep(one, one.request_body if what == 1 else one.response_body, bytes(size))
            recordings.changed(one)
        kept = list(recordings)
        assert len(kept) <= 4
        assert recordings.held_bytes <= 12_000 or len(kept) == 1
        assert recordings.held_bytes == sum(
            1024 + len(one.request_body.kept) + len(one.response_body.kept) for one in kept
        )
        assert all(len(one.request_body.kept) <= 3000 for one in made)
        assert all(one.request_body.count >= len(one.request_body.kept) for one in made)


def test_calls_that_run_on_hold_no_bodies_once_they_are_forgotten() -> None:
    """Thousands of streams at once: the bound holds for all of them, also for those that have made room for others and
    are still recorded by whoever serves them."""
    recordings = Recordings(most=4, most_bytes=50_000)
    running = []
    for _ in range(100):
        one = recordings.begin("web", "localhost:1", 0.0, tcp=False)
        running.append(one)
        recordings.keep(one, one.request_body, bytes(5_000))
        recordings.keep(one, one.response_body, bytes(5_000))
        recordings.changed(one)
    assert sum(len(one.request_body.kept) + len(one.response_body.kept) for one in running) <= 50_000
    assert {one.size_out for one in running} == {5_000}


def test_all_of_a_head_counts() -> None:
    """Long targets and trailers are held like fields and bodies, so they make room like them."""
    recordings = Recordings(most_bytes=100_000)
    for _ in range(20):
        one = recorded(b"GET /" + b"x" * 30_000 + b" HTTP/1.1", into=recordings)
    assert len(recordings) == 3
    for _ in range(4):
        recordings.keep_trailers(one, b"x" * 30_000)
        recordings.changed(one)
    assert list(recordings) == [one]


def test_watchers_hear_of_changes_until_they_leave() -> None:
    """A page that is closed hears nothing any more."""
    recordings = Recordings()
    heard: list[int | None] = []
    recordings.watch("page", lambda one: heard.append(one.id if one else None))
    recorded(into=recordings)
    assert heard and set(heard) == {1}
    recordings.clear()
    assert heard[-1] is None
    recordings.unwatch("page")
    recordings.unwatch("page")
    recorded(into=recordings)
    assert heard[-1] is None

"""One coarse timer for many deadlines."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock

from pico_twisted.net.turn import INTERVAL_S, MAX_STEP_S, NEVER, Sweep
from tests.conftest import LoggedFailures
from tests.doubles.node import pass_time


class Item:
    """Something with a deadline."""

    def __init__(self, deadline: float, then: Callable[[float], None] | None = None) -> None:
        self.deadline = deadline
        self.passed: list[float] = []
        self._then = then

    def deadline_passed(self, now: float) -> None:
        self.passed.append(now)
        if self._then is not None:
            self._then(now)
        else:
            self.deadline = NEVER


def started() -> tuple[Clock, Sweep]:
    """A sweep that runs on a clock."""
    clock = Clock()
    sweep = Sweep(clock)
    sweep.start()
    return clock, sweep


def test_deadlines_are_met() -> None:
    """A deadline is met within an interval behind it, and never before."""
    clock, sweep = started()
    items = [Item(at / 10) for at in range(1, 50)]
    for item in items:
        sweep.add(item)
    due = {item: item.deadline for item in items}
    pass_time(clock, 6.0, 0.01)
    for item in items:
        (passed,) = item.passed
        assert 0 <= passed - due[item] <= INTERVAL_S + 0.011


def test_a_moved_deadline() -> None:
    """Only where a deadline stands when the sweep looks matters; an item may be looked at again and again."""
    clock, sweep = started()
    moved, again = Item(1.0), Item(1.0, lambda now: None)
    sweep.add(moved)
    sweep.add(again)
    sweep.add(again)
    pass_time(clock, 0.9)
    moved.deadline = 5.0
    pass_time(clock, 1.1)
    assert moved.passed == []
    assert len(again.passed) >= 4
    sweep.discard(again)
    sweep.discard(again)
    seen = len(again.passed)
    pass_time(clock, 1.0)
    assert len(again.passed) == seen


def test_a_process_that_was_stopped() -> None:
    """After a pause of the whole process nobody is judged by it: time moves on by a second at most."""
    clock, sweep = started()
    item = Item(10.0)
    sweep.add(item)
    before = sweep.now
    clock.advance(3600)
    assert sweep.now - before <= MAX_STEP_S
    assert item.passed == []
    assert sweep.lag_s > 3000
    pass_time(clock, 10.0)
    assert len(item.passed) == 1
    assert sweep.lag_s < 0.1


def test_callbacks() -> None:
    """What is to be done in each turn is done in each, before the deadlines."""
    clock, sweep = started()
    order: list[str] = []
    sweep.each(lambda now: order.append("each"))
    sweep.add(Item(INTERVAL_S, lambda now: order.append("item")))
    clock.advance(INTERVAL_S)
    assert order == ["each", "item"]


def test_survives_what_fails(logged_failures: LoggedFailures) -> None:
    """A task that fails is logged and stays; an item that fails is logged and dropped; the rest goes on."""
    clock, sweep = started()
    turns: list[float] = []

    def broken(now: float) -> None:
        raise ValueError("as the test wants")

    item = Item(0.0, broken)
    later = Item(0.0)
    sweep.each(broken)
    sweep.each(turns.append)
    sweep.add(item)
    sweep.add(later)
    for _ in range(3):
        clock.advance(INTERVAL_S)
    assert len(turns) == 3 and len(item.passed) == 1 and len(later.passed) == 1
    assert len(logged_failures.flush(ValueError)) == 4


def test_items_that_come_and_go_in_a_turn() -> None:
    """Items may add and discard others while deadlines are met."""
    clock, sweep = started()
    born = Item(0.0)
    victim = Item(0.0)

    def act(now: float) -> None:
        sweep.discard(victim)
        sweep.discard(actor)
        sweep.add(born)

    actor = Item(0.0, act)
    sweep.add(actor)
    sweep.add(victim)
    clock.advance(INTERVAL_S)
    clock.advance(INTERVAL_S)
    assert victim.passed == []
    assert len(actor.passed) == 1 and len(born.passed) == 1


def test_start_and_stop() -> None:
    """Both are idempotent, and a stopped sweep leaves no timer, even when stopped within a turn."""
    clock, sweep = started()
    sweep.start()
    assert len(clock.getDelayedCalls()) == 1
    sweep.each(lambda now: sweep.stop())
    clock.advance(INTERVAL_S)
    sweep.stop()
    assert clock.getDelayedCalls() == []
    sweep.start()
    assert len(clock.getDelayedCalls()) == 1

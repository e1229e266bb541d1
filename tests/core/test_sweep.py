"""Many deadlines, which are looked at together."""

from __future__ import annotations

from pico_twisted.core.sweep import INTERVAL_S, MAX_STEP_S, Sweep
from tests.doubles.timed import Item


class ToldSweep(Sweep):
    """A sweep that is told a time of the test's own, from 0 on."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.seconds = 0.0

    def take_turn(self, after_s: float = INTERVAL_S) -> None:
        """Take a turn so long after the one before, and call who is due."""
        self.seconds += after_s
        self.turn(self.seconds, 0.0)
        for item in self.due():
            item.deadline_passed(self.now)

    def go_on(self, seconds: float) -> None:
        """Take the turns of so many seconds."""
        for _ in range(round(seconds / INTERVAL_S)):
            self.take_turn()


def test_deadlines_are_met() -> None:
    """A deadline is met within an interval behind it, and never before."""
    sweep = ToldSweep()
    items = [Item(at / 10) for at in range(1, 50)]
    for item in items:
        sweep.add(item)
    due = {item: item.deadline for item in items}
    sweep.go_on(6.0)
    for item in items:
        (passed,) = item.passed
        assert 0 <= passed - due[item] <= INTERVAL_S


def test_a_moved_deadline() -> None:
    """Only where a deadline stands when the sweep looks matters; an item may be looked at again and again."""
    sweep = ToldSweep()
    moved, again = Item(0.9), Item(0.9, lambda now: None)
    sweep.add(moved)
    sweep.add(again)
    sweep.add(again)
    sweep.go_on(0.8)
    moved.deadline = 5.0
    sweep.go_on(1.0)
    assert moved.passed == []
    assert len(again.passed) == 5
    sweep.discard(again)
    sweep.discard(again)
    sweep.go_on(1.0)
    assert len(again.passed) == 5


def test_a_process_that_was_stopped() -> None:
    """After a pause of the whole process nobody is judged by it: time moves on by a second at most."""
    sweep = ToldSweep()
    item = Item(10.0)
    sweep.add(item)
    sweep.take_turn(3600)
    assert sweep.now <= MAX_STEP_S
    assert item.passed == []
    assert sweep.lag_s > 3000
    sweep.go_on(10.0)
    assert len(item.passed) == 1
    assert sweep.lag_s < 0.1


def test_a_process_that_is_late() -> None:
    """It is as late as its turn, or as what was sent to it and not looked at, whichever is more."""
    sweep = Sweep(0.0)
    sweep.turn(INTERVAL_S + 0.5, 0.2)
    assert abs(sweep.lag_s - 0.5) < 0.001
    sweep.turn(2 * INTERVAL_S + 0.5, 0.2)
    assert sweep.lag_s == 0.2
    sweep.turn(2 * INTERVAL_S + 0.6, 0.0)
    assert sweep.lag_s == 0.0


def test_time_before_the_first_turn() -> None:
    """A sweep that begins long after it was made has not slept meanwhile."""
    sweep = Sweep(0.0)
    sweep.begins(100.0)
    sweep.turn(100.0 + INTERVAL_S, 0.0)
    assert abs(sweep.now - INTERVAL_S) < 0.001 and sweep.lag_s < 0.001


def test_items_that_come_and_go_in_a_turn() -> None:
    """Items may add and discard others while deadlines are met."""
    sweep = ToldSweep()
    born = Item(0.0)
    victim = Item(0.0)

    def act(now: float) -> None:
        sweep.discard(victim)
        sweep.discard(actor)
        sweep.add(born)

    actor = Item(0.0, act)
    sweep.add(actor)
    sweep.add(victim)
    sweep.take_turn()
    assert born.passed == []
    sweep.take_turn()
    assert victim.passed == []
    assert len(actor.passed) == 1 and len(born.passed) == 1

"""The coarse timer of a process: a sweep whose turns the reactor brings."""

from __future__ import annotations

from twisted.internet.task import Clock

from pico_twisted.core.sweep import INTERVAL_S
from pico_twisted.net.sweep import ReactorSweep
from tests.conftest import LoggedFailures
from tests.doubles.timed import Item


def started() -> tuple[Clock, ReactorSweep]:
    """A sweep that runs on a clock."""
    clock = Clock()
    sweep = ReactorSweep(clock)
    sweep.start()
    return clock, sweep


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


def test_lag() -> None:
    """The process is late by the longest of its lines, wherever it is."""
    clock, sweep = started()
    sweep.lines += [lambda: 0.3, lambda: 0.7, lambda: 0.0]
    clock.advance(INTERVAL_S)
    assert sweep.lag_s == 0.7


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

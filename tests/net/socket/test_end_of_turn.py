"""What one turn of the reactor brings goes on together, at its end."""

from __future__ import annotations

from twisted.internet.task import Clock

from pico_twisted.net.socket.end_of_turn import EndOfTurn
from tests.conftest import LoggedFailures


def test_end_of_turn(logged_failures: LoggedFailures) -> None:
    """Work is done once, in order, before the clock moves on; work that fails is logged; new work is done too.

    A reactor that knows when its turn ends is asked to tell.
    """
    clock = Clock()
    end = EndOfTurn(clock)
    done: list[str] = []

    def broken() -> None:
        raise ValueError("as the test wants")

    def again() -> None:
        done.append("again")
        end.add(lambda: done.append("next"))

    end.add(lambda: done.append("first"))
    end.add(broken)
    end.add(again)
    assert done == [] and len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    clock.advance(0)
    assert done == ["first", "again", "next"] and clock.getDelayedCalls() == []
    assert len(logged_failures.flush(ValueError)) == 1
    clock.at_end_of_turn = lambda work: done.append("asked")  # type: ignore[attr-defined]
    EndOfTurn(clock).add(broken)
    assert done[-1] == "asked" and clock.getDelayedCalls() == []


def test_long_turns() -> None:
    """A reactor that knows how long its turn takes is asked; with another one no turn is long. What is for the next
    turn is done in that."""
    clock = Clock()
    end = EndOfTurn(clock)
    assert not end.turn_is_long()
    done: list[str] = []
    end.next_turn(lambda: done.append("next"))
    assert done == []
    clock.advance(0)
    assert done == ["next"]
    clock.turn_is_long = lambda: True  # type: ignore[attr-defined]
    assert EndOfTurn(clock).turn_is_long()

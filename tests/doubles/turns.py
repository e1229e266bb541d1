"""Turns of a reactor whose clock is a test's."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock


def one_turn(clock: Clock) -> None:
    """Do what is due now, and not what is asked for meanwhile: `Clock.advance` does that, too, and a reactor does it in
    its next turn."""
    due: list[Any] = [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]
    for call in due:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)

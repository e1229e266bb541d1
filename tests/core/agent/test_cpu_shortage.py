"""Whether a process lacks CPU: its limit has stopped it, or its turns are late again and again."""

from __future__ import annotations

import pytest

from pico_twisted.core.agent.cpu_shortage import KEPT_S, LATE_S, STOPPED_S, CpuShortage

TURN_S = 0.2


class Process:
    """A process whose turns and limit the test makes."""

    def __init__(self, stopped_s: float = 0.0) -> None:
        self.now = 100.0
        self.stopped_s = stopped_s
        self.shortage = CpuShortage(self.now, stopped_s)

    def turns(self, seconds: float, lag_s: float = 0.0) -> None:
        """Turns that come so much later than asked for."""
        for _ in range(round(seconds / (TURN_S + lag_s))):
            self.now += TURN_S + lag_s
            self.shortage.turn(lag_s)
            if self.shortage.is_due(self.now):
                self.shortage.keep(self.now, self.stopped_s)

    @property
    def lacked_s(self) -> float:
        """What it would say."""
        return self.shortage.lacked_s(self.now, self.stopped_s)


@pytest.mark.parametrize("warm_s", [0.0, 4.0, 60.0])
def test_stopped_by_its_limit(warm_s: float) -> None:
    """That is known at once, for as long as it may matter, and then forgotten."""
    process = Process(stopped_s=500.0)
    process.turns(warm_s)
    assert process.lacked_s == 0.0
    process.stopped_s += 0.087
    assert process.lacked_s == pytest.approx(0.087)
    process.turns(KEPT_S - TURN_S)
    assert process.lacked_s == pytest.approx(0.087)
    process.turns(2 * KEPT_S)
    assert process.lacked_s == 0.0


def test_stopped_for_a_moment() -> None:
    """A limit that is reached for less than what makes an answer slow is not worth a word."""
    process = Process()
    process.stopped_s += STOPPED_S / 2
    assert process.lacked_s == 0.0


def test_another_limit() -> None:
    """A process that comes under another limit begins anew: what was counted there before is not its lack."""
    process = Process(stopped_s=500.0)
    process.stopped_s = 0.5
    assert process.lacked_s == 0.0
    process.turns(3 * KEPT_S)
    process.stopped_s += 0.1
    assert process.lacked_s == pytest.approx(0.1)


def test_late_again_and_again() -> None:
    """A process that does not come to its turns lacks CPU within some seconds, whoever has it; and is well again."""
    process = Process()
    process.turns(60.0)
    process.turns(4.0, lag_s=0.05)
    assert process.lacked_s > 0.5
    process.turns(3 * KEPT_S)
    assert process.lacked_s == 0.0


@pytest.mark.parametrize("lag_s", [0.3, 5.0, 3600.0])
def test_late_once(lag_s: float) -> None:
    """A start, a long turn and a suspended machine are no lack of CPU."""
    process = Process()
    process.turns(2.0)
    process.now += lag_s
    process.shortage.turn(lag_s)
    assert process.lacked_s == 0.0


def test_at_work() -> None:
    """Turns that are late by a little say nothing, for however long."""
    process = Process()
    process.turns(60.0, lag_s=LATE_S * 0.9)
    assert process.lacked_s == 0.0

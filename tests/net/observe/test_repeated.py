"""Warnings that come up again and again."""

from __future__ import annotations

from pico_twisted.net.observe.repeated_warning import MAX_REMEMBERED, REPEAT_S, RepeatedWarning


def test_two_that_alternate() -> None:
    """Each is logged once in a while, however often others come in between; and what was left out is counted."""
    warnings = RepeatedWarning()
    for now in range(10):
        for warning in ("a", "b"):
            assert warnings.due(warning, float(now)) == (None if now else 0)
    assert warnings.due("a", REPEAT_S) == 9
    warnings.cleared()
    assert warnings.due("b", REPEAT_S) == 0


def test_few_are_remembered() -> None:
    """Warnings that are never the same cost no memory."""
    warnings = RepeatedWarning()
    for number in range(10 * MAX_REMEMBERED):
        assert warnings.due(str(number), 0.0) == 0
    assert warnings.due(str(10 * MAX_REMEMBERED - 1), 0.0) is None
    assert warnings.due("0", 0.0) == 0

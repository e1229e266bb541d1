"""How much silence is too much."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip.suspicion import LEAST_DEVIATION, MOST_PATIENT, SUSPECT, UNREACHABLE, Accrual
from tests.examples import examples

INTERVAL_S = 0.5


def test_at_first() -> None:
    """A node that was just met is judged as quickly as a calm one: within 2.1 s at the default interval."""
    accrual = Accrual(INTERVAL_S)
    assert accrual.unreachable_s <= 2.11
    assert INTERVAL_S < accrual.suspect_s < accrual.unreachable_s


def test_calm_network_is_quick_and_not_hasty() -> None:
    """Where news come regularly a few lost rounds are suffered, and what is dead is found within 2.1 s."""
    accrual = Accrual(INTERVAL_S)
    for _ in range(1000):
        accrual.observe(INTERVAL_S)
    assert 4 * INTERVAL_S < accrual.unreachable_s < 2.11


def test_bad_network_teaches_patience() -> None:
    """Where news come irregularly more silence is suffered, and less again when that is over."""
    rng, accrual = random.Random(1), Accrual(INTERVAL_S)
    for _ in range(200):
        accrual.observe(INTERVAL_S * rng.choice((1, 1, 2, 4)))
    patient_s = accrual.unreachable_s
    assert patient_s > 4.0
    for _ in range(200):
        accrual.observe(INTERVAL_S)
    assert accrual.unreachable_s < 2.2


@given(st.lists(st.floats(0, 1e6), max_size=200))
@settings(max_examples=examples(100))
def test_bounded_patience(silences: list[float]) -> None:
    """Whatever was seen, a dead node is found in the end, and never sooner than the least deviation allows."""
    accrual = Accrual(INTERVAL_S)
    for silence_s in silences:
        accrual.observe(silence_s)
    assert accrual.unreachable_s >= UNREACHABLE * LEAST_DEVIATION * INTERVAL_S
    assert accrual.unreachable_s <= MOST_PATIENT * INTERVAL_S


def test_value_is_what_the_limits_are_of() -> None:
    """The suspicion that operators see reaches the limits where the node is judged, and is never below nought."""
    accrual = Accrual(INTERVAL_S)
    for silence_s in (0.4, 0.9, 1.7, 0.5):
        accrual.observe(silence_s)
    assert abs(accrual.value(accrual.unreachable_s) - UNREACHABLE) < 1e-6
    assert abs(accrual.value(accrual.suspect_s) - SUSPECT) < 1e-6
    assert accrual.value(0.0) == 0.0

"""The simulator of very large clusters, in a small one."""

from __future__ import annotations

import pytest

from tests.simulator.size import Figure, SizeSettings, simulate_size

pytestmark = pytest.mark.slow


def test_a_small_cluster_is_simulated_as_a_large_one() -> None:
    """All that happens there happens, every figure is there, and no promise that does not depend on this machine is
    broken."""
    settings = SizeSettings(hosts=5, workers=2, endpoints=1500, largest=600, changes_per_s=50.0, seconds=3.0)
    figures, broken = simulate_size(settings)
    assert broken == []
    kept = {figure.what: figure.is_kept for figure in figures if figure.unit == "s"}
    assert len(kept) == 5 and all(kept.values())
    assert all(figure.what in str(figure) for figure in figures)


def test_a_broken_promise_is_shown() -> None:
    """A figure that is more than it may be says so."""
    late = Figure(what="something", value=0.4, unit="s", most=0.3)
    assert not late.is_kept and "BROKEN" in str(late)

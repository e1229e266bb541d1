"""The data path does not get dearer unseen: what `benchmarks/counted.py` counts stays near what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.counted import MOST_DEARER, Figures, count, dearer, recorded
from pico_twisted.core.rpc.session import SessionV2


@pytest.fixture(scope="module")
def figures() -> Figures:
    """What is counted now."""
    return count()


def _more() -> None:
    """A call that nobody needs."""


@pytest.fixture
def longer_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Every received frame costs some calls more."""
    receive = SessionV2.receive

    def slower(self: SessionV2, message: bytes) -> Any:
        for _ in range(request.param - 1):
            _more()
        return receive(self, message)

    monkeypatch.setattr(SessionV2, "receive", slower)
    yield request.param


class TestGuard:
    """Counted work."""

    def test_not_dearer(self, figures: Figures) -> None:
        """No daemon needs a tenth more calls for a request than is recorded."""
        lines = dearer(figures, recorded())
        assert not lines, (
            "The data path got dearer. Make it shorter; or, if this is worth it, record anew with "
            "`python benchmarks/counted.py --record` and say in the commit what the calls are for.\n" + "\n".join(lines)
        )

    def test_the_same_each_time(self, figures: Figures) -> None:
        """Counting again gives the same figures; a large body may be cut into a frame more or less."""
        again = count()
        for load, daemons in figures.items():
            assert again[load] == pytest.approx(daemons, rel=0.001), load

    @pytest.mark.parametrize("longer_path", [1], indirect=True)
    def test_sees_one_call(self, figures: Figures, longer_path: int) -> None:
        """One call more for each frame is seen: a small request brings one frame to each daemon."""
        slower = count()
        for daemon in ("node", "agent"):
            assert slower["small"][daemon] == pytest.approx(figures["small"][daemon] + 1, abs=0.2)
        for load in ("download 1 MiB", "upload 1 MiB"):
            for daemon in ("node", "agent"):
                assert slower[load][daemon] > figures[load][daemon]

    @pytest.mark.parametrize("longer_path", [60], indirect=True)
    def test_fails(self, figures: Figures, longer_path: int) -> None:
        """Enough calls more for each frame are too dear, for every daemon, and the lines say where."""
        lines = dearer(count(), figures)
        assert len(lines) == sum(len(daemons) for daemons in figures.values())
        assert any(line.startswith("small, node: ") and "recorded" in line for line in lines)

    def test_margin(self) -> None:
        """A tenth more is allowed, what is more is not; a figure that nobody recorded is a fault."""
        before = {"small": {"node": 100.0}}
        assert dearer({"small": {"node": 100.0 * MOST_DEARER}}, before) == []
        assert len(dearer({"small": {"node": 111.0}}, before)) == 1
        assert len(dearer({"small": {"agent": 1.0}}, before)) == 1

"""The shapes of mixed versions are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mixed_versions import old
from tests.system.stack import MIXED, Stack


def test_the_old_part_is_old(stack: Stack, request: pytest.FixtureRequest) -> None:
    """One process of the stack runs the earlier version's code, from its own environment; the others run this one's."""
    cache = request.config.cache.mkdir("old-version")
    programs = {process.name: Path(f"/proc/{process.pid}/cmdline").read_text() for process in stack.processes}
    aged = tuple(name for name, program in programs.items() if program.startswith(str(cache)))
    assert aged in MIXED.values()
    (installed,) = cache.glob(f"{old.COMMIT}-*/environment/lib/python*/site-packages/pico_twisted")
    # What was moved into rooms later is still where it was.
    assert (installed / "net" / "forward.py").exists()


def test_a_clone_without_the_history_is_told(tmp_path: Path) -> None:
    """A shallow clone cannot build the earlier version: the tests fail, and say what to do."""
    with pytest.raises(AssertionError, match=r"not here: .*In a shallow clone: git fetch --unshallow"):
        old.check_out("0123456789012345678901234567890123456789", tmp_path)

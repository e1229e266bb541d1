"""A request can be followed by a reader: few calls, and few changes of the file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def figures() -> str:
    """What is printed in a process of its own: here, other tests have filled what is remembered of heads."""
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "walk.py")], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    ("where", "most_calls", "most_file_changes"), [("one node", 170, 110), ("two nodes", 250, 170)]
)
def test_a_small_request_is_a_short_walk(figures: str, where: str, most_calls: int, most_file_changes: int) -> None:
    """A small GET, from the client to the service and back: `python benchmarks/walk.py --trace` shows each call."""
    found = re.search(rf"small GET, {where}: (\d+) calls of ours, (\d+) changes of the file", figures)
    assert found is not None, figures
    calls, file_changes = map(int, found.groups())
    assert calls <= most_calls, f"{where}: {calls} calls of ours, {most_calls} at most"
    assert file_changes <= most_file_changes, (
        f"{where}: {file_changes} changes of the file, {most_file_changes} at most"
    )

"""The fuzz run itself, briefly."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest

from tests.fuzz import mutations
from tests.fuzz.http2 import attack_http2
from tools.stage.processes import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1"])
def test_a_short_run(seed: str) -> None:
    """A run of a few seconds does all three attacks, serves honest traffic, finds nothing, and says so."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run"],
        cwd=ROOT,
        env={**os.environ, "FUZZ_SECONDS": "5", "FUZZ_SEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {seed}: nothing found" in done.stdout
    for what in ("broken conversations", "honest requests", "upstream attacks", "proxy attacks"):
        assert what in done.stdout


def test_made_again() -> None:
    """The same seed makes the same nonsense."""
    for make in (mutations.random_frame, lambda rng: mutations.mutated_http(rng, b"GET / HTTP/1.1\r\n\r\n")):
        assert [make(Random(seed)) for seed in range(200)] == [make(Random(seed)) for seed in range(200)]


def test_nonsense_of_http2() -> None:
    """What has to hold of a connection of HTTP/2 holds in some hundred broken conversations."""
    for number in range(300):
        attack_http2(Random(f"suite/{number}"))

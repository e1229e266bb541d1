"""How the tests are shared out among workers."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.groups import TESTS, begin_elsewhere

WORKERS = 4


def told_to_collect(worker: int | None, *args: str) -> list[str]:
    """What a worker collects, in its order, when the command line says this; without a number: the only process."""
    config: Any = SimpleNamespace(args=list(args))
    if worker is not None:
        config.workerinput = {"workerid": f"gw{worker}", "workercount": WORKERS}
    begin_elsewhere(config)
    return list(config.args)


def test_each_worker_begins_to_compile_elsewhere_and_misses_nothing() -> None:
    """All collect all files, each from another place on, so that none compiles what another one has compiled."""
    files = sorted(str(path) for path in TESTS.rglob("test_*.py"))
    collected = [told_to_collect(worker, str(TESTS)) for worker in range(WORKERS)]
    assert [sorted(each) for each in collected] == [files] * WORKERS
    begins = sorted(files.index(each[0]) for each in collected)
    assert all(after - before >= len(files) // WORKERS for before, after in itertools.pairwise(begins))


@pytest.mark.parametrize("worker", [None, 1])
def test_what_was_asked_for_is_collected(worker: int | None) -> None:
    """Files that the command line names stay what they are, and so does all without workers."""
    one = str(Path(__file__).resolve())
    assert told_to_collect(worker, one) == [one]
    assert told_to_collect(None, str(TESTS)) == [str(TESTS)]

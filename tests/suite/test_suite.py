"""The suite itself: what it reports when something that its tests share is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0

pytestmark = pytest.mark.processes

TWICE_BROKEN = """
import pytest
from tests.system.shared import Shared

attempts = []

def start():
    attempts.append(len(attempts))
    if len(attempts) <= {failures}:
        raise TimeoutError(f"no node after {{len(attempts)}} attempts")
    return "a stack"

@pytest.fixture(scope="session")
def running_stack():
    return Shared("the stack", start)

@pytest.mark.parametrize("number", range(20))
def test_it(running_stack, number):
    assert running_stack.get() == "a stack"
"""

STOPPED = """
import os
import signal

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

@pytest_twisted.ensureDeferred
async def test_stopped():
    os.kill(os.getpid(), signal.SIGTERM)
    await deferLater(reactor, 10.0, lambda: None)

@pytest.mark.parametrize("number", range(20))
def test_never_begun(number):
    pass
"""


def outcome(directory: Path, source: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a suite of one file, run with this suite's `conftest.py`."""
    (directory / "test_tiny.py").write_text(source)
    (directory / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rs",
            "-p",
            "tests.conftest",
            "--rootdir=.",
            *arguments,
            "test_tiny.py",
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_stack_that_does_not_start_is_one_failure(tmp_path: Path) -> None:
    """It is tried twice; then one test tells why, with what both attempts said, and the others are skipped with that
    reason: they are not hundreds of failures that hide another one."""
    status, output = outcome(tmp_path, TWICE_BROKEN.format(failures=99))
    assert status == 1
    assert "1 failed, 19 skipped" in output
    assert "attempt 1: TimeoutError: no node after 1 attempts" in output
    assert "attempt 2: TimeoutError: no node after 2 attempts" in output
    assert "attempt 3" not in output
    assert "the stack could not be started; the first test that needed it says why" in output


def test_a_stack_that_starts_at_the_second_attempt_will_do(tmp_path: Path) -> None:
    """A machine that was too busy once costs no test."""
    status, output = outcome(tmp_path, TWICE_BROKEN.format(failures=1))
    assert status == 0
    assert "20 passed" in output


@pytest.mark.parametrize("arguments", [(), ("-n", "2", "--dist", "load")], ids=["alone", "with workers"])
def test_a_reactor_that_was_stopped_ends_the_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """SIGTERM stops the reactor: the run says so and ends, and the tests that are left do not fail one by one."""
    status, output = outcome(tmp_path, STOPPED, *arguments)
    assert status == 2
    assert "the reactor was stopped, as SIGTERM does: no further test can run" in output
    assert "1 failed" in output
    assert "FAILED test_tiny.py::test_never_begun" not in output

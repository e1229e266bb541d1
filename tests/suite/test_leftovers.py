"""The suite itself: a test that leaves something behind fails."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest_twisted
from twisted.internet import defer, protocol, reactor
from twisted.logger import Logger

def test_leaves_timer():
    reactor.callLater(60, print)

def test_leaves_port():
    reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1")

def test_leaves_error():
    defer.fail(ValueError("nobody took this"))

@pytest_twisted.ensureDeferred
async def test_leaves_failure_in_the_log():
    try:
        raise ValueError("a bug")
    except ValueError:
        Logger().failure("It failed")

@pytest_twisted.ensureDeferred
async def test_is_fine():
    reactor.callLater(0.01, print)
    port = reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1")
    await port.stopListening()

def test_is_fine_with_an_expected_failure(logged_failures):
    defer.fail(ValueError("expected"))
    assert len(logged_failures.flush(ValueError)) == 1
"""


def test_what_is_left_behind_fails_the_test_that_left_it(tmp_path: Path) -> None:
    """Timers, sockets, errors that nobody took and logged failures; each is told, and the next test does not suffer."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    failed = re.findall(r"^ERROR test_suite.py::(\w+)", done.stdout, re.MULTILINE)
    assert failed == re.findall(r"def (test_leaves\w+)", SUITE), done.stdout
    assert "6 passed, 4 errors" in done.stdout

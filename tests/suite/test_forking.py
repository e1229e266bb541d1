"""Daemons that are forked for the tests are processes as those that twistd itself starts."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

from tools.stage import kernel
from tools.stage.forking import ForkServer
from tools.stage.processes import ROOT, environment
from tools.stage.waiting import wait_until

pytestmark = pytest.mark.processes

APPLICATION = """
import os
from twisted.application.service import Application
print(os.environ["TOLD"], os.getcwd(), os.getpgid(0) == os.getpid(), flush=True)
application = Application("told")
"""


def test_each_has_its_own_environment_directory_and_end(tmp_path: Path) -> None:
    """A forked twistd has the environment, directory and output that it was given, ends with its own status, and does
    not outlive the process that forked it."""
    (tmp_path / "told.tac").write_text(APPLICATION)
    server = ForkServer(environment(), ROOT)
    output = tmp_path / "output"
    started = {}
    for told in ("one", "two"):
        with output.open("ab") as log:
            arguments = ["-n", "--pidfile=", "-y", "told.tac"]
            started[told] = server.start(arguments, tmp_path, environment(TOLD=told), log.fileno())
    for told in started:
        wait_until(partial(_has, output, f"{told} {tmp_path} True\n"), f"the output of {told}")
    started["one"].kill()
    assert started["one"].wait(30.0) == -signal.SIGKILL
    assert started["two"].poll() is None
    server.close()
    wait_until(lambda: not kernel.runs(started["two"].pid), "the end of the other")


def _has(file: Path, text: str) -> bool:
    return text in file.read_text()


def test_one_that_cannot_start(tmp_path: Path) -> None:
    """Its exit status is told."""
    server = ForkServer(environment(), ROOT)
    with (tmp_path / "output").open("wb") as log:
        process = server.start(["-n", "--pidfile=", "nonsense"], tmp_path, environment(), log.fileno())
    assert process.wait(30.0) == 1
    server.close()

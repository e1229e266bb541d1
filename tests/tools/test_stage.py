"""The stage of the tests: what its processes wrote is looked at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.stage.processes import Process
from tools.stage.stage import open_stage

pytestmark = pytest.mark.processes

FAULTY = """
import sys
print("Unhandled: one", flush=True)
print("fine\\nUnhand", end="", flush=True)
sys.stdin = open({pipe!r})
sys.stdin.readline()
print("led: two", flush=True)
sys.stdin.readline()
"""


def test_each_fault_is_told_once(tmp_path: Path) -> None:
    """A line about a fault is told to whoever asks first after it was written whole, and to nobody else."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open_stage(tmp_path) as stage:
        process = stage.add(Process("faulty", [sys.executable, "-c", FAULTY.format(pipe=str(pipe))], tmp_path))
        with pipe.open("w") as told:
            process.wait_output(lambda output: output.endswith("fine\nUnhand"))
            assert stage.new_faults() == ["faulty: Unhandled: one"]
            assert stage.new_faults() == []
            told.write("go on\n")
            told.flush()
            process.wait_output("led: two\n")
            assert stage.new_faults() == ["faulty: Unhandled: two"]
        assert process.wait_exit() == 0
        assert stage.new_faults() == []

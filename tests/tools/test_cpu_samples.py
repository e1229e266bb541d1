"""The profiler of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.cpu_samples import PRELUDE, Sampler
from benchmarks.profile import functions_of_stacks
from tools.stage.processes import Process

PROGRAM = """
import os, pathlib, threading
def busy():
    sum(range(20_000))
def waits():
    pathlib.Path("ready").touch()
    while not os.path.exists("enough"):
        busy()
    threading.Event().wait()
waits()
"""


def test_functions_are_found(tmp_path: Path) -> None:
    """Functions are found by the CPU time that they use, from when it was asked for."""
    path = tmp_path / "stacks"
    process = Process("spender", [sys.executable, "-c", PRELUDE.format(path=str(path)) + PROGRAM], tmp_path)
    try:
        process.wait_until((tmp_path / "ready").exists, "the program")
        sampler = Sampler(process, path)
        used = process.cpu_s() + 0.2
        process.wait_until(lambda: process.cpu_s() > used, "some CPU time")
        (tmp_path / "enough").touch()
        functions = {each.name.partition(" ")[0]: each for each in functions_of_stacks(sampler.end())}
    finally:
        process.kill()
    assert functions["busy"].own > functions["waits"].own
    assert functions["waits"].total > 0.9

"""A log that nobody reads, under load: no request waits for it, and the stop neither."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.stage.nodes import Node
from tools.stage.processes import environment
from tools.stage.report import Report
from tools.stage.stage import Stage

RATE = 500
"""Requests a second."""
MAX_STOP_MS = 5000.0
NOISE_MS = 100.0
"""Milliseconds by which the slowest request may be slower than that of a node whose log is read."""
STDERR = "import os; os.dup2(os.open({path!r}, os.O_WRONLY), 2); "


def unread(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Load whose lines go to a file, to a pipe that nobody reads, and to files on a disk that hangs."""
    path = stage.directory / "unread"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)  # a writer waits for room, and not for a reader
    slowest_ms = 0.0
    for name in ("a file", "stderr that nobody reads", "a log file that hangs", "an access log file that hangs"):
        node = stage.node(
            f"node-{name.split()[1]}",
            settings={"proxy": {"access_log_file": str(path)}} if "access" in name else {},
            prelude=STDERR.format(path=str(path)) if "stderr" in name else "",
            options=["--logfile", str(path)] if "a log file" in name else [],
        )
        found = bench(node, options.unread, stage.directory)
        latency = {percent: seconds * 1000 for percent, seconds in found["latency_s"].items()}
        report.check(f"{name}: {found['succeeded']} requests, none failed", not found["failed"], str(found["errors"]))
        report.line(f"{name}: p99", latency["p99"])
        report.line(f"{name}: slowest", latency["max"], slowest_ms + NOISE_MS if slowest_ms else None)
        slowest_ms = slowest_ms or latency["max"]
        lost = node.admin.metric("pico_log_lines_lost_total")
        report.line(f"{name}: lines lost", lost, unit="")
        report.check(f"{name}: lines are lost there alone", (lost > 0) is (name != "a file"), str(lost))
        began = time.monotonic()
        node.terminate()
        report.check(f"{name}: exit status 0", node.wait_exit() == 0)
        report.line(f"{name}: SIGTERM to the end", (time.monotonic() - began) * 1000, MAX_STOP_MS)
    os.close(held)


def bench(node: Node, seconds: float, directory: Path) -> dict[str, Any]:
    """The report of a bench; latencies are from the time at which each request was due."""
    program = "from pico_twisted.ctl.main import main; main()"
    command = [sys.executable, "-c", program, "bench", "--json", "--rate", str(RATE), "--duration", f"{seconds:g}s"]
    command += ["--proxy", node.url(""), "--upstream", node.upstream_url]
    done = subprocess.run(command, cwd=directory, env=environment(), capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found

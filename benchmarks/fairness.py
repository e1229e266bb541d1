"""Whether many large bodies at once share a tunnel fairly, and what becomes of small requests beside them.

    python -m benchmarks.fairness [--transfers 64] [--seconds 15] [--json]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

from benchmarks.bed import ENDPOINT, Bed, Target, bed
from benchmarks.load import small_requests
from tools.stage.processes import environment
from tools.stage.report import Options, exit_status
from tools.stage.waiting import StageFailed

BODY_BYTES = 1_000_000_000
SMALL_CONNECTIONS = 2
SETTLE_S = 1.0
"""What the transfers get to be under way before small requests are measured, and to go on for behind them."""


def measure(test_bed: Bed, target: Target, transfers: int, seconds: float) -> dict[str, float]:
    """Start the transfers, and ask small requests while they run."""
    program = str(Path(__file__).with_name("fairness_clients.py"))
    command = [sys.executable, program, str(target.port), ENDPOINT, str(transfers), str(seconds + 2 * SETTLE_S)]
    alone = small_requests(target, connections=SMALL_CONNECTIONS, threads=1, seconds=2)
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as clients:
        try:
            clients.wait(SETTLE_S)
            raise StageFailed(f"the transfers ended early with status {clients.returncode}")
        except subprocess.TimeoutExpired:
            pass
        try:
            beside = small_requests(target, connections=SMALL_CONNECTIONS, threads=1, seconds=seconds)
            output, _ = clients.communicate(timeout=seconds + 30)
        finally:
            clients.kill()
    if clients.returncode != 0:
        raise StageFailed(f"the transfers ended with status {clients.returncode}")
    received: list[int] = json.loads(output)
    return {
        "MB/s": sum(received) / 1e6 / (seconds + 2 * SETTLE_S),
        "slowest / mean": min(received) / mean(received),
        "fastest / mean": max(received) / mean(received),
        "small p50 ms": beside.p50_ms,
        "small p99 ms": beside.p99_ms,
        "small alone p99 ms": alone.p99_ms,
    }


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.number("--transfers", 64, "at once")
    parser.number("--seconds", 15, "of small requests")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    arguments = parser.read()
    with bed(BODY_BYTES) as test_bed:
        rows = {
            target.name: measure(test_bed, target, arguments.transfers, arguments.seconds)
            for target in (test_bed.nginx(), test_bed.pico("pico"))
        }
    if arguments.json:
        print(json.dumps({"transfers": arguments.transfers, "rows": rows}, indent=2))
    else:
        print(f"{arguments.transfers} downloads at once, and small requests on {SMALL_CONNECTIONS} connections")
        for name, row in rows.items():
            print(name, *(f"{key} {value:.2f}" for key, value in row.items()), sep="  ")


if __name__ == "__main__":
    sys.exit(exit_status(main))

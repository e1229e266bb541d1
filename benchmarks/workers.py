"""What a request costs a node of several workers, beside a node of one, and how evenly workers take connections.

    benchmarks/workers.py [--workers 2] [--connections 32] [--seconds 8] [--repeat 5] [--json]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import sys
import time
from pathlib import Path
from statistics import median

# The package's own directory would be first otherwise, and profile.py in it would hide the module of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import ENDPOINT, Bed, RunningNode, bed  # noqa: E402
from benchmarks.load import small_requests  # noqa: E402
from benchmarks.processes import RunFailed, fetch  # noqa: E402

SPREADS = (100, 1000)
"""How many connections are opened to see who takes them."""
WARM_UP_S = 1.0
MEET_S = 30.0
BODY_BYTES = 1
"""There are no large bodies here."""


def by_worker(node: RunningNode, metric: str) -> list[float]:
    """A metric's sum at each worker."""
    sums: dict[str, float] = {}
    for line in fetch(node.admin, "/metrics")[1].decode().splitlines():
        if found := re.match(metric + r'\{worker="(\d+)"[^ ]*\} (\S+)', line):
            sums[found[1]] = sums.get(found[1], 0.0) + float(found[2])
    return [sums[worker] for worker in sorted(sums, key=int)]


def wait_for_agents(node: RunningNode, count: int) -> None:
    """Wait until the agent is at as many workers as it has sessions."""
    deadline = time.monotonic() + MEET_S
    while True:
        rows = json.loads(fetch(node.admin, "/status/cluster/nodes")[1] or b"[]")
        if sum(row["endpoints"] > 0 for row in rows) >= count:
            return
        if time.monotonic() > deadline:
            raise RunFailed(f"the agent is not at {count} workers: {rows}")
        time.sleep(0.1)


def spread(node: RunningNode, count: int) -> list[int]:
    """Open so many connections: how many each worker took."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", node.proxy)))
        deadline = time.monotonic() + MEET_S
        while sum(taken := by_worker(node, "pico_connections")) < count:
            if time.monotonic() > deadline:
                raise RunFailed(f"of {count} connections only {sum(taken):.0f} were taken")
            time.sleep(0.1)
    return [round(number) for number in taken]


def measure(test_bed: Bed, arguments: argparse.Namespace) -> dict[str, object]:
    """Load both in turn, round for round."""
    count: int = arguments.workers
    targets = []
    for workers in (1, count):
        target, node = test_bed.workers(f"workers: {workers}", workers)
        targets.append(target)
    wait_for_agents(node, min(count, 2))
    for target in targets:
        small_requests(target, test_bed.directory, connections=arguments.connections, threads=1, seconds=WARM_UP_S)
    rounds = []
    for number in range(arguments.repeat):
        if sys.stderr.isatty():
            print(f"\r\033[Kround {number + 1} of {arguments.repeat}", end="", file=sys.stderr, flush=True)
        row: dict[str, float] = {}
        before = by_worker(node, "pico_requests_total")
        # Who comes first in a round changes, so that a machine that gets slower or faster favours nobody.
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            result = small_requests(
                targets[place],
                test_bed.directory,
                connections=arguments.connections,
                threads=1,
                seconds=arguments.seconds,
            )
            name = ("one", "several")[place]
            row[f"{name}: node us/req"] = result.cpu_us("node")
            row[f"{name}: agent us/req"] = result.cpu_us("agent")
            row[f"{name}: requests/s"] = result.per_second
        after = by_worker(node, "pico_requests_total")
        served = [there - here for here, there in zip(before, after, strict=True)]
        row["ratio"] = row["several: node us/req"] / row["one: node us/req"]
        row["busiest worker's share"] = max(served) / sum(served)
        rounds.append(row)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return {
        "workers": count,
        "endpoint": ENDPOINT,
        "connections": arguments.connections,
        "medians": {key: median(row[key] for row in rounds) for key in rounds[0]},
        "ratios of the rounds": [row["ratio"] for row in rounds],
        "connections taken": {str(number): spread(node, number) for number in SPREADS},
    }


def show(found: dict[str, object]) -> str:
    """The figures for people."""
    medians, ratios, taken = found["medians"], found["ratios of the rounds"], found["connections taken"]
    assert isinstance(medians, dict) and isinstance(ratios, list) and isinstance(taken, dict)
    lines = [
        f"{found['workers']} workers beside one, {found['connections']} connections, medians of {len(ratios)} rounds"
    ]
    lines += [f"{key:<26}{value:>12,.2f}" for key, value in medians.items() if key != "ratio"]
    lines += [f"{'node CPU, several / one':<26}{medians['ratio']:>12.2f} ({min(ratios):.2f}-{max(ratios):.2f})"]
    lines += [f"of {number} connections the workers took {', '.join(map(str, each))}" for number, each in taken.items()]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="of the node beside that of one; default %(default)s")
    parser.add_argument("--connections", type=int, default=32, help="that wrk keeps open; default %(default)s")
    parser.add_argument("--seconds", type=int, default=8, help="of one load; default %(default)s")
    parser.add_argument("--repeat", type=int, default=5, help="rounds; default %(default)s")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    arguments = parser.parse_args()
    if arguments.workers < 2:
        parser.error("--workers has to be at least 2")
    try:
        with bed(BODY_BYTES) as test_bed:
            found = measure(test_bed, arguments)
    except RunFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if arguments.json else show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a request costs a node of several workers, beside a node of one, and how evenly workers take connections.

    python -m benchmarks.workers [--workers 2] [--connections 32] [--seconds 8] [--repeat 5] [--json]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import sys
from statistics import median

from benchmarks.bed import ENDPOINT, Bed, bed
from benchmarks.load import WARM_UP_S, small_requests
from tools.stage.nodes import Node
from tools.stage.report import Options, exit_status, progress

SPREADS = (100, 1000)
"""How many connections are opened to see who takes them."""


def by_worker(node: Node, metric: str) -> list[float]:
    """A metric's sum at each worker."""
    sums: dict[str, float] = {}
    for labels, value in node.admin.samples(metric):
        if found := re.match(r'\{worker="(\d+)"', labels):
            sums[found[1]] = sums.get(found[1], 0.0) + value
    return [sums[worker] for worker in sorted(sums, key=int)]


def wait_for_agents(node: Node, count: int) -> None:
    """Wait until the agent is at as many workers as it has sessions."""
    node.wait_until(
        lambda: sum(row["endpoints"] > 0 for row in node.admin.rows()) >= count, f"the agent at {count} workers"
    )


def spread(node: Node, count: int) -> list[int]:
    """Open so many connections: how many each worker took."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(node.proxy))
        node.wait_until(lambda: sum(by_worker(node, "pico_connections")) >= count, f"{count} connections to be taken")
        return [round(number) for number in by_worker(node, "pico_connections")]


def measure(test_bed: Bed, arguments: argparse.Namespace) -> dict[str, object]:
    """Load both in turn, round for round."""
    count: int = arguments.workers
    targets = []
    for workers in (1, count):
        target, node = test_bed.workers(f"workers: {workers}", workers)
        targets.append(target)
    wait_for_agents(node, min(count, 2))
    for target in targets:
        small_requests(target, connections=arguments.connections, threads=1, seconds=WARM_UP_S)
    rounds = []
    for number in range(arguments.repeat):
        progress(f"round {number + 1} of {arguments.repeat}")
        row: dict[str, float] = {}
        before = by_worker(node, "pico_requests_total")
        # Who comes first in a round changes, so that a machine that gets slower or faster favours nobody.
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            result = small_requests(
                targets[place],
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
    progress("")
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


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.number("--workers", 2, "of the node beside that of one")
    parser.number("--connections", 32, "that wrk keeps open")
    parser.number("--seconds", 8, "of one load")
    parser.number("--repeat", 5, "rounds")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    arguments = parser.read()
    if arguments.workers < 2:
        parser.error("--workers has to be at least 2")
    with bed() as test_bed:
        found = measure(test_bed, arguments)
    print(json.dumps(found, indent=2) if arguments.json else show(found))


if __name__ == "__main__":
    sys.exit(exit_status(main))

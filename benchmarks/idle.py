"""What a node of a cluster costs when nobody sends requests: gossip about all nodes and endpoints, and heartbeats.

    python benchmarks/idle.py [--nodes 25] [--endpoints 10000] [--seconds 30]

All nodes are real processes on this machine, each with an agent that serves its share of the endpoints. Every node is
looked at, so the figures are those of a node with its share of the sessions.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import bed  # noqa: E402
from benchmarks.processes import RunFailed  # noqa: E402

SETTLE_S = 10.0
"""After the start, until what was new has been told and the sessions have asked for their first heartbeats."""


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=25, help="of the cluster [25]")
    parser.add_argument("--endpoints", type=int, default=10_000, help="of the cluster [10000]")
    parser.add_argument("--seconds", type=float, default=30.0, help="that are measured [30]")
    arguments = parser.parse_args()
    try:
        with bed(1000) as test_bed:
            nodes = [node.process for node in test_bed.idle_cluster(arguments.nodes, arguments.endpoints)]
            time.sleep(SETTLE_S)
            before, began = [node.cpu_s() for node in nodes], time.monotonic()
            time.sleep(arguments.seconds)
            took_s = time.monotonic() - began
            shares = [100 * (node.cpu_s() - cpu_s) / took_s for node, cpu_s in zip(nodes, before, strict=True)]
            memory = [node.memory_mib() for node in nodes]
    except RunFailed as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.nodes} idle nodes, {arguments.endpoints} endpoints, {took_s:.0f} s")
    print(f"{'':<12}{'median':>10}{'worst':>10}")
    print(f"{'% of a core':<12}{median(shares):>10.2f}{max(shares):>10.2f}")
    print(f"{'MiB':<12}{median(memory):>10.1f}{max(memory):>10.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a node of a cluster costs when nobody sends requests: gossip about all nodes and endpoints, and heartbeats.

    python -m benchmarks.idle [--nodes 25] [--endpoints 10000] [--seconds 30]

All nodes are real processes on this machine, each with an agent that serves its share of the endpoints. Every node is
looked at, so the figures are those of a node with its share of the sessions.
"""

from __future__ import annotations

import sys
import time
from statistics import median

from benchmarks.bed import bed
from tools.stage.report import Options, exit_status

SETTLE_S = 10.0
"""After the start, until what was new has been told and the sessions have asked for their first heartbeats."""


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.number("--nodes", 25, "of the cluster")
    parser.number("--endpoints", 10_000, "of the cluster")
    parser.number("--seconds", 30, "that are measured")
    arguments = parser.read()
    with bed() as test_bed:
        nodes = test_bed.idle_cluster(arguments.nodes, arguments.endpoints)
        time.sleep(SETTLE_S)
        before, began = [node.cpu_s() for node in nodes], time.monotonic()
        time.sleep(arguments.seconds)
        took_s = time.monotonic() - began
        shares = [100 * (node.cpu_s() - cpu_s) / took_s for node, cpu_s in zip(nodes, before, strict=True)]
        memory = [node.memory_mib() for node in nodes]
    print(f"{arguments.nodes} idle nodes, {arguments.endpoints} endpoints, {took_s:.0f} s")
    print(f"{'':<12}{'median':>10}{'worst':>10}")
    print(f"{'% of a core':<12}{median(shares):>10.2f}{max(shares):>10.2f}")
    print(f"{'MiB':<12}{median(memory):>10.1f}{max(memory):>10.1f}")


if __name__ == "__main__":
    sys.exit(exit_status(main))

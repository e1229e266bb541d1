"""What clients see while something goes wrong: one fault after the other, under load at a constant rate.

    python -m tests.faults.run                         every part
    python -m tests.faults.run stopped-agent partition some of them

Run by `make faults`. Three nodes, three agents with their services, clients and a balancer have a network namespace
each. Each part starts a cluster of its own, asks it at a constant rate, whatever becomes of the earlier requests, and
prints what it saw beside what is promised; the table comes in the end. The exit status is 1 when a promise was broken.
Needs root, iproute2, nftables, haproxy; `docs/reliability.md` reads the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

from tests.faults import flood, machine_faults, network_faults, process_faults, rolling
from tests.faults.rig import FaultsRig, on_machines
from tests.faults.table import FaultsReport
from tests.netns.machines import missing
from tools.stage.report import Options, exit_status

Part = Callable[[FaultsRig, argparse.Namespace, FaultsReport], None]
PARTS: dict[str, Part] = {
    "baseline": network_faults.baseline,
    "reset-agents": network_faults.reset_agents,
    "reset-nodes": network_faults.reset_nodes,
    "starved-agent": process_faults.starved_agent,
    "starved-node": process_faults.starved_node,
    "starved-service": process_faults.starved_service,
    "stopped-agent": process_faults.stopped_agent,
    "stopped-node": process_faults.stopped_node,
    "hung-service": process_faults.hung_service,
    "balancer-drops": network_faults.balancer_drops,
    "balancer-answers": network_faults.balancer_answers,
    "loss": network_faults.loss,
    "partition": network_faults.partition,
    "dns": machine_faults.dns,
    "clocks": machine_faults.clocks,
    "disk": machine_faults.disk,
    "descriptors": machine_faults.descriptors,
    "memory": machine_faults.memory,
    "certificate": machine_faults.certificate,
    "flood-requests": flood.flood_requests,
    "flood-connections": flood.flood_connections,
    "flood-handshakes": flood.flood_handshakes,
    "flood-streams": flood.flood_streams,
    "rolling-restart": rolling.rolling_restart,
    "rolling-upgrade": rolling.rolling_upgrade,
    "balancer-retries": rolling.balancer_retries,
    "balancer-once": rolling.balancer_once,
    "at-rest": rolling.at_rest,
}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    parser = Options(__doc__, PARTS)
    parser.number("--rate", 100, "requests a second")
    parser.number("--rolling-rate", 500, "requests a second in the rolling parts")
    parser.number("--flood-seconds", 60, "of more requests than a node can serve")
    parser.number("--rest-seconds", 60, "without a request")
    options = parser.read()
    if lack := missing():
        print(f"faults: {lack}", file=sys.stderr)
        return 1
    report = FaultsReport()
    status = report.run("faults", PARTS, options, partial(on_machines, options=options))
    report.print_table()
    return status


if __name__ == "__main__":
    sys.exit(exit_status(main))

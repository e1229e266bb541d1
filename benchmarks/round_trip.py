"""How much of a far link one large body gets: from nginx directly, and through a tunnel.

    benchmarks/round_trip.py [--delay-ms 25] [--mbit 100] [--megabytes 120] [--json]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

# The package's own directory would be first otherwise, and profile.py in it would hide the module of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import ENDPOINT, Bed, Target, bed  # noqa: E402
from benchmarks.load import large_bodies  # noqa: E402
from benchmarks.processes import Process, RunFailed, fetch, free_port  # noqa: E402

DIRECTIONS = ("download", "upload")
TRANSFERS = 1


def far(test_bed: Bed, name: str, target_port: int, arguments: argparse.Namespace) -> tuple[Process, int]:
    """Put a port far away: the relay, and the port where it is reached."""
    port = free_port()
    program = str(Path(__file__).with_name("far_link.py"))
    command = [sys.executable, program, str(port), str(target_port), str(arguments.delay_ms), str(arguments.mbit)]
    return Process(name, command, test_bed.directory), port


def measure(test_bed: Bed, arguments: argparse.Namespace, relays: list[Process]) -> list[dict[str, object]]:
    """One row for each direction."""
    service = test_bed.service
    relay, direct_port = far(test_bed, "relay-direct", service.port, arguments)
    relays.append(relay)
    relay.wait_until(lambda: fetch(direct_port, "/small")[0] == 200, "the service through the relay")
    node = test_bed.node("node")
    relay, upstream_port = far(test_bed, "relay-tunnel", node.upstream, arguments)
    relays.append(relay)
    agent = test_bed.agent("agent", replace(node, upstream=upstream_port), [ENDPOINT])
    agent.wait_until(
        lambda: fetch(node.proxy, "/small", {"x-pico-endpoint": ENDPOINT})[0] == 200, "the service through the tunnel"
    )
    targets = [
        Target("nginx", direct_port, {}),
        Target("pico", node.proxy, {"node": node.process, "agent": agent}),
    ]
    rows: list[dict[str, object]] = []
    for direction in DIRECTIONS:
        row: dict[str, object] = {"direction": direction}
        speeds = []
        for target in targets:
            bodies = large_bodies(target, direction, service.large, service.uploaded, TRANSFERS)
            speeds.append(bodies.megabytes_per_second)
            row[f"{target.name} MB/s"] = bodies.megabytes_per_second
            row |= {f"{hop} memory +MiB": growth for hop, growth in bodies.growth_mib.items()}
        row["share"] = speeds[1] / speeds[0]
        rows.append(row)
    return rows


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay-ms", type=float, default=25.0, help="of each direction; default %(default)s")
    parser.add_argument("--mbit", type=float, default=100.0, help="rate of the link; 0: none; default %(default)s")
    parser.add_argument("--megabytes", type=int, default=120, help="of the body; default %(default)s")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    arguments = parser.parse_args()
    relays: list[Process] = []
    try:
        with bed(arguments.megabytes * 1_000_000) as test_bed:
            try:
                rows = measure(test_bed, arguments, relays)
            finally:
                for relay in relays:
                    relay.kill()
    except RunFailed as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"delay_ms": arguments.delay_ms, "mbit": arguments.mbit, "rows": rows}, indent=2))
    else:
        rate = f"{arguments.mbit:g} Mbit/s" if arguments.mbit else "no rate"
        print(f"{arguments.megabytes} MB over {arguments.delay_ms * 2:g} ms of round trip, {rate}")
        for row in rows:
            print(
                "  ".join(
                    f"{key} {value:.2f}" if isinstance(value, float) else str(value) for key, value in row.items()
                )
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

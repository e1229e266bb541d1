"""How much of a far link one large body gets: from nginx directly, and through a tunnel.

    python -m benchmarks.round_trip [--delay-ms 25] [--mbit 100] [--megabytes 120] [--json]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bed import ENDPOINT, Bed, Target, bed
from benchmarks.load import large_bodies
from benchmarks.nginx import Service
from tools.stage.asking import try_get
from tools.stage.ports import free_port
from tools.stage.processes import Process
from tools.stage.report import Options, exit_status

DIRECTIONS = ("download", "upload")
TRANSFERS = 1


@contextmanager
def far(test_bed: Bed, name: str, target_port: int, arguments: argparse.Namespace) -> Iterator[tuple[Process, int]]:
    """Put a port far away: the relay, and the port where it is reached."""
    port = free_port()
    program = str(Path(__file__).with_name("far_link.py"))
    command = [sys.executable, program, str(port), str(target_port), str(arguments.delay_ms), str(arguments.mbit)]
    relay = test_bed.stage.add(Process(name, command, test_bed.directory))
    yield relay, port
    test_bed.stage.remove(relay)


def measure(test_bed: Bed, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each direction."""
    node = test_bed.node("node")
    with (
        far(test_bed, "relay-direct", test_bed.service.port, arguments) as (relay, direct_port),
        far(test_bed, "relay-tunnel", node.ports.upstream, arguments) as (_, upstream_port),
    ):
        relay.wait_until(lambda: try_get(direct_port, "/small")[0] == 200, "the service through the relay")
        agent = test_bed.agent("agent", f"http://127.0.0.1:{upstream_port}")
        proxy = node.ports.proxy
        agent.wait_until(
            lambda: try_get(proxy, "/small", {"x-pico-endpoint": ENDPOINT})[0] == 200, "the service through the tunnel"
        )
        targets = [Target("nginx", direct_port, {}), Target("pico", proxy, {"node": node, "agent": agent})]
        return [_row(test_bed.service, direction, targets) for direction in DIRECTIONS]


def _row(service: Service, direction: str, targets: Sequence[Target]) -> dict[str, object]:
    row: dict[str, object] = {"direction": direction}
    speeds = []
    for target in targets:
        bodies = large_bodies(target, direction, service.large, service.uploaded, TRANSFERS)
        speeds.append(bodies.megabytes_per_second)
        row[f"{target.name} MB/s"] = bodies.megabytes_per_second
        row |= {f"{hop} memory +MiB": growth for hop, growth in bodies.growth_mib.items()}
    return row | {"share": speeds[1] / speeds[0]}


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.add_argument("--delay-ms", type=float, default=25.0, help="of each direction [%(default)s]")
    parser.add_argument("--mbit", type=float, default=100.0, help="rate of the link; 0: none [%(default)s]")
    parser.number("--megabytes", 120, "of the body")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    arguments = parser.read()
    with bed(arguments.megabytes * 1_000_000) as test_bed:
        rows = measure(test_bed, arguments)
    if arguments.json:
        print(json.dumps({"delay_ms": arguments.delay_ms, "mbit": arguments.mbit, "rows": rows}, indent=2))
        return
    rate = f"{arguments.mbit:g} Mbit/s" if arguments.mbit else "no rate"
    print(f"{arguments.megabytes} MB over {arguments.delay_ms * 2:g} ms of round trip, {rate}")
    for row in rows:
        cells = [f"{key} {value:.2f}" if isinstance(value, float) else str(value) for key, value in row.items()]
        print("  ".join(cells))


if __name__ == "__main__":
    sys.exit(exit_status(main))

"""Runs the gossip of a whole cluster on a virtual clock, and checks what it promises.

    python -m tests.simulator.run --nodes 100 --endpoints 10000 --loss 0.1 --minutes 60 --seed 1

Everything befalls the cluster while that runs (see `chaos`): crashes, restarts, stops, partitions, leaves, clocks
that jump, endpoints that move. `promises` has what is checked. In the end it prints how long what took, and what was
broken. The exit status is 1 when a promise was broken. The same arguments give the same run, to the last packet.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import attrs

from tests.simulator.chaos import Weather, WeatherSettings
from tests.simulator.cluster import ClusterSettings, SimulatedCluster
from tests.simulator.network import NetworkSettings
from tests.simulator.promises import ACTIVE_S, CALM_S

KINDS = {
    "start": "start, until shown as active",
    "endpoint": "change of an endpoint, until known",
    "draining": "drain, until shown",
    "left": "leave, until shown",
    "crash": "crash, until shown as unreachable",
    "heal": "partition healed, until shown again",
}
"""What is timed."""


def simulate(
    cluster: ClusterSettings,
    weather: WeatherSettings,
    minutes: float,
    show_progress: bool = False,
    enough: Callable[[SimulatedCluster], bool] | None = None,
) -> SimulatedCluster:
    """Run one simulation: a start of all nodes, then the weather, then calm.

    Args:
        cluster: what is simulated.
        weather: what befalls it.
        minutes: of virtual time, all in all.
        show_progress: write a line to stderr that is renewed each second.
        enough: asked twice a second of virtual time; it ends when this is true.
    """
    simulated = SimulatedCluster(cluster)
    befalls = Weather(simulated, weather)
    simulated.start_all(within_s=2.0, keys=befalls.keys)
    befalls.begin()
    began_at, shown_at = time.monotonic(), 0.0
    while simulated.time.now < minutes * 60 and not (enough and enough(simulated)):
        simulated.run(min(0.5, max(minutes * 60 - simulated.time.now, 0.001)))
        took_s = time.monotonic() - began_at
        if show_progress and took_s > shown_at + 1.0:
            shown_at = took_s
            broken = len(simulated.promises.broken) + simulated.promises.more_broken
            at_s = simulated.time.now
            sys.stderr.write(
                f"\r{at_s / 60:6.1f} of {minutes:g} minutes in {took_s:5.0f} s, "
                f"{len(simulated.running())} nodes, {broken} promises broken  "
            )
            sys.stderr.flush()
    if show_progress:
        sys.stderr.write("\n")
    return simulated


def report(cluster: SimulatedCluster) -> list[str]:
    """The lines that say how it went."""
    spreads, promises, network = cluster.spreads, cluster.promises, cluster.network
    node_s = cluster.time.now * cluster.settings.nodes
    lines = [f"{'seconds':<38}{'each other node':>28}{'':>4}{'the last of them':>28}"]
    lines.append(f"{'':<38}{'median':>10}{'p99':>9}{'worst':>9}{'':>4}{'median':>10}{'p99':>9}{'worst':>9}{'times':>8}")
    for kind, text in KINDS.items():
        each, last = sorted(spreads.each_s.get(kind, [])), sorted(spreads.last_s.get(kind, []))
        if each:
            missing = spreads.missing.get(kind, 0)
            never = f", {missing} never" if missing else ""
            lines.append(f"{text:<38}{_three(each)}{'':>4}{_three(last)}{len(last):>8}{never}")
    lines.append("")
    lines.append(f"a node a second: {network.packets / node_s:.1f} packets, {network.sent_bytes / node_s:.0f} bytes")
    lines.append(f"largest packet: {network.largest_bytes} of {cluster.settings.max_packet_bytes} bytes")
    lines.append("at most: " + "; ".join(f"{count} {what}" for what, count in sorted(promises.most.items())))
    lines.append("happened: " + "; ".join(f"{count} {what}" for what, count in sorted(cluster.counts.items())))
    lines.append(
        f"promised: no process shown as there {cluster.ghost_s:.1f} s after its end; shown by all "
        f"{ACTIVE_S:.0f} s after its start; everything as it should be {CALM_S:.0f} s after what disturbed it"
    )
    lines.append(f"digest of all that happened: {cluster.digest()}")
    broken = promises.broken + ([f"and {promises.more_broken} further"] if promises.more_broken else [])
    lines.append("")
    lines.append(f"{len(promises.broken) + promises.more_broken} promises broken" + (":" if broken else ""))
    return lines + broken


def _three(values: list[float]) -> str:
    if not values:
        return f"{'-':>10}{'-':>9}{'-':>9}"
    places = (0.5, 0.99, 1.0)
    median, p99, worst = (values[min(len(values) - 1, int(place * len(values)))] for place in places)
    return f"{median:>10.3f}{p99:>9.3f}{worst:>9.3f}"


def main(arguments: Sequence[str]) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator.run",
        description="Simulate the gossip of a cluster and check its promises.",
    )
    parser.add_argument("--nodes", type=int, default=100, help="how many (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="of a host; with more than one, one lies (%(default)s)")
    parser.add_argument("--endpoints", type=int, default=10_000, help="of the whole cluster (%(default)s)")
    parser.add_argument(
        "--changes", type=float, default=5.0, help="registrations and deregistrations a second (%(default)s)"
    )
    parser.add_argument("--loss", type=float, default=0.1, help="share of the packets that is lost (%(default)s)")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="that most packets take at most (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="of virtual time (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (%(default)s)")
    parser.add_argument(
        "--forget-s", type=float, default=300.0, help="after which dead nodes are forgotten (%(default)s)"
    )
    parser.add_argument("--secret", default="", help="seal the packets")
    parser.add_argument(
        "--calm", type=float, default=1.0, help="everything befalls that many times as rarely (%(default)s)"
    )
    given = parser.parse_args(arguments)
    cluster = ClusterSettings(
        nodes=given.nodes,
        seed=given.seed,
        network=NetworkSettings(loss=given.loss, delay_s=given.delay_ms / 1000, workers=given.workers),
        forget_s=given.forget_s,
        liars=int(given.workers > 1),
        secrets=(given.secret,) if given.secret else (),
    )
    weather = WeatherSettings(endpoints=given.endpoints, changes_per_s=given.changes)
    rarely = {
        name: given.calm * getattr(weather, name)
        for name in ("crash_s", "leave_s", "stop_s", "cut_s", "long_cut_s", "twin_s")
    }
    simulated = simulate(cluster, attrs.evolve(weather, **rarely), given.minutes, sys.stderr.isatty())
    sys.stdout.write("\n".join(report(simulated)) + "\n")
    return 1 if simulated.promises.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

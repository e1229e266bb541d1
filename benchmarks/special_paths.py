"""What each special path of ours is worth: node and agent as they are, beside ones that do one thing the ordinary way.

    python -m benchmarks.special_paths [--connections 32] [--seconds 4] [--repeat 5] [WAY...]

A path that is worth less than a twentieth of a daemon's CPU, or of the requests in a second, is not worth its lines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.bed import Bed, Target, bed
from benchmarks.load import MANY, WARM_UP_S, Requests, rounds, small_requests
from benchmarks.ordinary import WAYS
from tools.stage.report import Options, exit_status, progress

_ACROSS = frozenset({"relay"})
"""Ways that only requests across two nodes take."""
_LOGGED = frozenset({"access log"})
"""Ways that only requests take that are logged."""
_CROWDED = frozenset({"long turns", "garbage"})
"""Ways that matter with many connections."""
_MANY = f"{MANY} connections"
_OURS = "ours"


def _kind(way: str) -> str:
    if way in _ACROSS:
        return "two nodes"
    if way in _LOGGED:
        return "access log"
    return _MANY if way in _CROWDED else "one node"


def _start(test_bed: Bed, kind: str, name: str) -> Target:
    if kind == "two nodes":
        return test_bed.two_nodes(name)
    return test_bed.pico(name, access_log=kind == "access log")


class Run:
    """All ways that were asked for, each beside ours.

    Args:
        test_bed: with its service running.
        arguments: the command line.
    """

    def __init__(self, test_bed: Bed, arguments: argparse.Namespace) -> None:
        self._bed = test_bed
        self._arguments = arguments

    def rows(self) -> list[str]:
        """Load ours and the ordinary ways in turn, and compare."""
        rows = []
        for kind in dict.fromkeys(map(_kind, self._arguments.parts)):
            rows += self._compared(kind, [way for way in self._arguments.parts if _kind(way) == kind])
        progress("")
        return rows

    def _compared(self, kind: str, ways: Sequence[str]) -> list[str]:
        targets = {_OURS: _start(self._bed, kind, f"ours {kind}")}
        for way in ways:
            progress(f"starting {way}")
            with self._bed.ordinary(way):
                targets[way] = _start(self._bed, kind, f"ordinary {way}")
        connections = MANY if kind == _MANY else self._arguments.connections

        def load(target: Target, seconds: float) -> Requests:
            return small_requests(target, connections=connections, threads=1, seconds=seconds)

        for target in targets.values():
            load(target, WARM_UP_S)
        found = rounds(kind, self._arguments.repeat, targets, partial(load, seconds=self._arguments.seconds))
        hops = targets[_OURS].hops
        ours = ", ".join(f"{hop} {median(result[_OURS].cpu_us(hop) for result in found):.1f}" for hop in hops)
        return [f"ours, {kind}: {ours} us a request", *(self._row(way, targets[way], found) for way in ways), ""]

    def _row(self, way: str, target: Target, found: Sequence[dict[str, Requests]]) -> str:
        changes = {
            hop: [result[way].cpu_us(hop) / result[_OURS].cpu_us(hop) - 1.0 for result in found] for hop in target.hops
        }
        changes["requests/s"] = [result[way].per_second / result[_OURS].per_second - 1.0 for result in found]
        cells = [
            f"{name} {median(ratios):+6.1%} ({min(ratios):+.1%} to {max(ratios):+.1%})"
            for name, ratios in changes.items()
        ]
        return f"  {WAYS[way][0]}:\n    {', '.join(cells)}"


def main() -> None:
    """The command."""
    parser = Options(__doc__, WAYS)
    parser.number("--connections", 32, "that wrk keeps open")
    parser.number("--seconds", 4, "of one load")
    parser.number("--repeat", 5, "rounds; figures are medians")
    arguments = parser.read()
    with bed() as test_bed:
        rows = Run(test_bed, arguments).rows()
    print("CPU that the ordinary way needs more than ours, and requests that it serves more in a second\n")
    print("\n".join(rows).rstrip())


if __name__ == "__main__":
    sys.exit(exit_status(main))

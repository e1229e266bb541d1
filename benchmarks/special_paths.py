"""What each special path of ours is worth: node and agent as they are, beside ones that do one thing the ordinary way.

    python benchmarks/special_paths.py [--connections 32] [--seconds 4] [--repeat 5] [WAY...]

A path that is worth less than a twentieth of a daemon's CPU, or of the requests in a second, is not worth its lines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import Bed, Target, bed  # noqa: E402
from benchmarks.load import Requests, small_requests  # noqa: E402
from benchmarks.ordinary import WAYS  # noqa: E402
from benchmarks.processes import RunFailed  # noqa: E402
from benchmarks.run import MANY, WARM_UP_S, Progress, positive  # noqa: E402

_ACROSS = frozenset({"relay"})
"""Ways that only requests across two nodes take."""
_LOGGED = frozenset({"access log"})
"""Ways that only requests take that are logged."""
_CROWDED = frozenset({"long turns", "garbage"})
"""Ways that matter with many connections."""
_MANY = f"{MANY} connections"


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
        self._progress = Progress()

    def rows(self) -> list[str]:
        """Load ours and the ordinary ways in turn, and compare."""
        rows = []
        for kind in dict.fromkeys(map(_kind, self._arguments.ways)):
            ways = [way for way in self._arguments.ways if _kind(way) == kind]
            rows += self._compared(kind, ways)
        self._progress("")
        return rows

    def _compared(self, kind: str, ways: Sequence[str]) -> list[str]:
        targets = {"": _start(self._bed, kind, f"ours {kind}")}
        for way in ways:
            self._progress(f"starting {way}")
            with self._bed.ordinary(way):
                targets[way] = _start(self._bed, kind, f"ordinary {way}")
        for target in targets.values():
            self._load(kind, target, WARM_UP_S)
        rounds: list[dict[str, Requests]] = []
        for number in range(self._arguments.repeat):
            result = {}
            for way, target in targets.items():
                self._progress(f"{kind}: round {number + 1} of {self._arguments.repeat}, {way or 'ours'}")
                result[way] = self._load(kind, target, self._arguments.seconds)
            rounds.append(result)
        ours = ", ".join(f"{hop} {median(result[''].cpu_us(hop) for result in rounds):.1f}" for hop in targets[""].hops)
        return [f"ours, {kind}: {ours} us a request", *(self._row(way, targets[way], rounds) for way in ways), ""]

    def _row(self, way: str, target: Target, rounds: Sequence[dict[str, Requests]]) -> str:
        changes = {
            hop: [result[way].cpu_us(hop) / result[""].cpu_us(hop) - 1.0 for result in rounds] for hop in target.hops
        }
        changes["requests/s"] = [result[way].per_second / result[""].per_second - 1.0 for result in rounds]
        cells = [
            f"{name} {median(ratios):+6.1%} ({min(ratios):+.1%} to {max(ratios):+.1%})"
            for name, ratios in changes.items()
        ]
        return f"  {WAYS[way][0]}:\n    {', '.join(cells)}"

    def _load(self, kind: str, target: Target, seconds: float) -> Requests:
        connections = MANY if kind == _MANY else self._arguments.connections
        return small_requests(target, self._bed.directory, connections=connections, threads=1, seconds=seconds)


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)} [all]")
    parser.add_argument("--connections", type=positive, default=32, help="that wrk keeps open [32]")
    parser.add_argument("--seconds", type=positive, default=4, help="of one load [4]")
    parser.add_argument("--repeat", type=positive, default=5, help="rounds; figures are medians [5]")
    arguments = parser.parse_args()
    if unknown := [way for way in arguments.ways if way not in WAYS]:
        parser.error(f"no such way: {', '.join(unknown)}; there are {', '.join(WAYS)}")
    arguments.ways = arguments.ways or list(WAYS)
    try:
        with bed(1000) as test_bed:
            rows = Run(test_bed, arguments).rows()
    except RunFailed as error:
        print(f"\nthe run failed: {error}", file=sys.stderr)
        return 1
    print("CPU that the ordinary way needs more than ours, and requests that it serves more in a second\n")
    print("\n".join(rows).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())

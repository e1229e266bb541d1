"""How much a node and an agent cost, beside nginx's own reverse proxy doing the same in the same run.

    benchmarks/run.py [--connections 32] [--seconds 8] [--repeat 3] [--megabytes 100] [--json] [PART...]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import FrameType
from typing import TypeVar

# The package's own directory would be first otherwise, and profile.py in it would hide the module of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import Bed, Target, bed  # noqa: E402
from benchmarks.load import Bodies, Requests, large_bodies, small_requests  # noqa: E402
from benchmarks.processes import RunFailed, find_program  # noqa: E402

PARTS = ("small", "logged", "many", "two", "single", "download", "upload")
LARGE_BYTES = 100_000_000
TRANSFERS_BYTES = 400_000_000
"""Of the large bodies of a round together, at least: nginx needs so little CPU that less would be hard to read."""
MANY = 256
WARM_UP_S = 1.0
RATIO = "x nginx"
LATENCY = "p50 x nginx"
L = TypeVar("L", Requests, Bodies)


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: of the target, or of one of its hops.
        figures: by the names of the columns; medians of the rounds.
        rounds: what each ratio to nginx was, round for round.
    """

    name: str
    figures: dict[str, float]
    rounds: list[float]


@dataclass(frozen=True)
class Table:
    """The result of a part."""

    title: str
    rows: list[Row]


class Progress:
    """Tells on a terminal's stderr what goes on."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        if self._shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def requests_table(title: str, rounds: Sequence[dict[str, Requests]]) -> Table:
    """The table of a load with small requests; each round has a result for each target, nginx first."""
    rows = []
    for name, first in rounds[0].items():
        results = [result[name] for result in rounds]
        seen = {
            "requests/s": median(result.per_second for result in results),
            "p50 ms": median(result.p50_ms for result in results),
            "p99 ms": median(result.p99_ms for result in results),
            LATENCY: median(result[name].p50_ms / result["nginx"].p50_ms for result in rounds),
        }
        if len(first.cpu_s) > 1:
            rows.append(Row(name, seen, []))
            seen = {}
        for hop in first.cpu_s:
            ratios = [result[name].cpu_us(hop) / result["nginx"].cpu_us("nginx") for result in rounds]
            cpu = {"CPU us/req": median(result.cpu_us(hop) for result in results), RATIO: median(ratios)}
            rows.append(Row(hop if len(first.cpu_s) == 1 else f"  {hop}", seen | cpu, ratios))
    return Table(title, rows)


def bodies_table(title: str, rounds: Sequence[dict[str, Bodies]]) -> Table:
    """The table of large bodies in one direction."""
    rows = []
    for name, first in rounds[0].items():
        results = [result[name] for result in rounds]
        seen = {"MB/s": median(result.megabytes_per_second for result in results)}
        if len(first.cpu_s) > 1:
            rows.append(Row(name, seen, []))
            seen = {}
        for hop in first.cpu_s:
            ratios = [result[name].cpu_s_per_gb(hop) / result["nginx"].cpu_s_per_gb("nginx") for result in rounds]
            used = {
                "CPU s/GB": median(result.cpu_s_per_gb(hop) for result in results),
                RATIO: median(ratios),
                "memory +MiB": max(result.growth_mib[hop] for result in results),
            }
            rows.append(Row(hop if len(first.cpu_s) == 1 else f"  {hop}", seen | used, ratios))
    return Table(title, rows)


class Run:
    """All parts that were asked for, on one test bed.

    Args:
        test_bed: with its service running.
        arguments: the command line.
    """

    def __init__(self, test_bed: Bed, arguments: argparse.Namespace) -> None:
        self._bed = test_bed
        self._arguments = arguments
        self._progress = Progress()

    def tables(self) -> list[Table]:
        """Start what the parts need, and load it."""
        parts: Sequence[str] = self._arguments.parts
        self._progress("starting")
        targets = [self._bed.nginx(), self._bed.pico("pico")]
        tables = []
        if "small" in parts or "logged" in parts:
            loaded = [*targets, self._bed.pico("pico, access log", access_log=True)] if "logged" in parts else targets
            connections = self._arguments.connections
            title = f"small responses, {connections} connections"
            for target in loaded:
                self._progress(f"warming up {target.name}")
                self._small(target, connections, WARM_UP_S)
            rounds = self._rounds(title, loaded, lambda target: self._small(target, connections))
            tables.append(requests_table(title, rounds))
        if "many" in parts:
            tables.append(self._many(targets))
        if "two" in parts:
            tables.append(self._two_nodes(targets))
        if "single" in parts:
            title = "small responses, 1 connection"
            tables.append(requests_table(title, self._rounds(title, targets, lambda target: self._small(target, 1))))
        for direction in ("download", "upload"):
            if direction in parts:
                title = f"{direction} of {self._arguments.megabytes} MB"
                load = partial(self._bodies, direction=direction)
                tables.append(bodies_table(title, self._rounds(title, targets, load)))
        self._progress("")
        return tables

    def _many(self, targets: Sequence[Target]) -> Table:
        """Many connections beside the usual number: the rate must not fall."""
        few = self._arguments.connections
        title = f"small responses, {MANY} connections"
        rates: dict[str, list[float]] = {target.name: [] for target in targets}

        def load(target: Target) -> Requests:
            usual = self._small(target, few).per_second
            result = self._small(target, MANY)
            rates[target.name].append(result.per_second / usual)
            return result

        table = requests_table(title, self._rounds(title, targets, load))
        column = f"rate x {few}"
        rows = [Row(f"{name}: {MANY} / {few}", {column: median(ratios)}, []) for name, ratios in rates.items()]
        return Table(title, [*table.rows, *rows])

    def _two_nodes(self, targets: Sequence[Target]) -> Table:
        """Requests that one node takes and another holds, beside those that one node does both for."""
        title = f"small responses across two nodes, {self._arguments.connections} connections"
        loaded = [*targets, self._bed.two_nodes("pico, two nodes")]
        for target in loaded:
            self._progress(f"warming up {target.name}")
            self._small(target, self._arguments.connections, WARM_UP_S)
        rounds = self._rounds(title, loaded, lambda target: self._small(target, self._arguments.connections))
        table = requests_table(title, rounds)
        one, two = targets[1].name, loaded[-1].name
        ratios = [
            (result[two].cpu_us("asked") + result[two].cpu_us("holder")) / result[one].cpu_us("node")
            for result in rounds
        ]
        return Table(table.title, [*table.rows, Row("two nodes / one node", {"x one node": median(ratios)}, [])])

    def _rounds(self, title: str, targets: Sequence[Target], load: Callable[[Target], L]) -> list[dict[str, L]]:
        """Load the targets in turn, round for round."""
        rounds = []
        for number in range(self._arguments.repeat):
            result = {}
            for target in targets:
                self._progress(f"{title}: round {number + 1} of {self._arguments.repeat}, {target.name}")
                result[target.name] = load(target)
            rounds.append(result)
        return rounds

    def _bodies(self, target: Target, direction: str) -> Bodies:
        service = self._bed.service
        transfers = -(-TRANSFERS_BYTES // (self._arguments.megabytes * 1_000_000))
        return large_bodies(target, direction, service.large, service.uploaded, transfers)

    def _small(self, target: Target, connections: int, seconds: float | None = None) -> Requests:
        return small_requests(
            target,
            self._bed.directory,
            connections=connections,
            threads=self._arguments.threads,
            seconds=seconds or self._arguments.seconds,
        )


def show(tables: Sequence[Table], setting: dict[str, object]) -> str:
    """The tables as text."""
    lines = [", ".join(f"{name} {value}" for name, value in setting.items())]
    for table in tables:
        columns = list(dict.fromkeys(column for row in table.rows for column in row.figures))
        ranges = len(table.rows[0].rounds) > 1
        heads = [_padded(column, "(min-max)" if ranges and column == RATIO else "") for column in columns]
        lines += ["", f"{table.title:<32}{''.join(heads)}".rstrip()]
        for row in table.rows:
            spread = f"({min(row.rounds):.1f}-{max(row.rounds):.1f})" if ranges and row.rounds else ""
            cells = [_padded(_figure(row.figures.get(column)), spread if column == RATIO else "") for column in columns]
            lines.append(f"{row.name:<32}{''.join(cells)}".rstrip())
    return "\n".join(lines)


def _padded(text: str, behind: str) -> str:
    return f"{text:>12}" + (f" {behind:<10}" if behind else "")


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def as_json(tables: Sequence[Table], setting: dict[str, object]) -> str:
    """The tables for programs."""
    return json.dumps(
        {
            "setting": setting,
            "tables": {
                table.title: [
                    {"name": row.name.strip(), **row.figures, "ratios of the rounds": row.rounds} for row in table.rows
                ]
                for table in tables
            },
        },
        indent=2,
    )


def setting_of(arguments: argparse.Namespace) -> dict[str, object]:
    """What a reader has to know about a run."""
    version = subprocess.run(
        [find_program("nginx", "nginx-light"), "-v"], capture_output=True, text=True, check=False
    ).stderr
    return {
        "nginx": version.strip().rpartition("/")[2],
        "Python": platform.python_version(),
        "CPUs": len(os.sched_getaffinity(0)),
        "rounds": arguments.repeat,
        "seconds each": arguments.seconds,
        "wrk threads": arguments.threads,
    }


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def parse(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run, of {', '.join(PARTS)} [all]")
    parser.add_argument("--connections", type=positive, default=32, help="that wrk keeps open [32]")
    parser.add_argument("--threads", type=positive, default=1, help="of wrk [1]")
    parser.add_argument("--seconds", type=positive, default=8, help="of one load [8]")
    parser.add_argument("--repeat", type=positive, default=3, help="rounds; figures are medians [3]")
    parser.add_argument(
        "--megabytes", type=positive, default=LARGE_BYTES // 1_000_000, help="of a large body [%(default)s]"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(command_line)
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    arguments.parts = arguments.parts or list(PARTS)
    return arguments


def interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Run; the exit status."""
    arguments = parse()
    signal.signal(signal.SIGTERM, interrupted)
    try:
        setting = setting_of(arguments)
        for program in ("wrk", "curl"):
            find_program(program, program)
        with bed(arguments.megabytes * 1_000_000) as test_bed:
            tables = Run(test_bed, arguments).tables()
    except RunFailed as error:
        print(f"\nbenchmark failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    print(as_json(tables, setting) if arguments.json else show(tables, setting))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How much a node and an agent cost, beside nginx's own reverse proxy doing the same in the same run, and beside a
bare twisted.web server that answers by itself.

    python -m benchmarks.run [--connections 32] [--seconds 8] [--repeat 3] [--megabytes 100] [--auth token] [--json]
                             [PART...]

README.md beside this file says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.bed import OBSERVED, Bed, Target, bed
from benchmarks.credentials import KINDS
from benchmarks.load import MANY, WARM_UP_S, Bodies, Requests, large_bodies, rounds, small_requests
from tools.stage.processes import find_program
from tools.stage.report import Options, exit_status, progress

PARTS = ("small", "logged", "many", "two", "unix", "h2c", "single", "download", "upload")
LARGE_BYTES = 100_000_000
TRANSFERS_BYTES = 400_000_000
"""Of the large bodies of a round together, at least: nginx needs so little CPU that less would be hard to read."""
RATIO = "x nginx"
HELLO_RATIO = "x hello"
LATENCY = "p50 x nginx"


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


def requests_table(title: str, rounds: Sequence[dict[str, Requests]]) -> Table:
    """The table of a load with small requests; each round has a result for each target, nginx and hello first."""
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
            beside = [result[name].cpu_us(hop) / result["hello"].cpu_us("hello") for result in rounds]
            cpu = {
                "CPU us/req": median(result.cpu_us(hop) for result in results),
                RATIO: median(ratios),
                HELLO_RATIO: median(beside),
            }
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
        self._connections: int = arguments.connections

    def tables(self) -> list[Table]:
        """Start what the parts need, and load it."""
        progress("starting")
        targets = [self._bed.nginx(), self._bed.hello(), self._bed.pico("pico")]
        tables = [part(targets) for part in self._parts()]
        progress("")
        return tables

    def _parts(self) -> Iterator[Callable[[Sequence[Target]], Table]]:
        parts: Sequence[str] = self._arguments.parts
        if "small" in parts or "logged" in parts:
            yield self._usual
        if "many" in parts:
            yield self._many
        if "two" in parts:
            yield self._two_nodes
        if "unix" in parts:
            yield self._unix
        if "h2c" in parts:
            yield self._h2c
        if "single" in parts:
            yield lambda targets: self._requests(", 1 connection", targets, lambda target: self._small(target, 1))
        for direction in ("download", "upload"):
            if direction in parts:
                yield partial(self._bodies, direction)

    def _usual(self, targets: Sequence[Target]) -> Table:
        more = [self._bed.pico("pico, access log", access_log=True)] if "logged" in self._arguments.parts else []
        kinds: Sequence[str] = self._arguments.auth
        more += [self._bed.pico(f"pico, {kind}", auth=kind) for kind in kinds]
        observed: Sequence[str] = self._arguments.observed
        more += [self._bed.pico(f"pico, {kind}", observed=kind) for kind in observed]
        table = self._warm(f", {self._connections} connections", [*targets, *more])
        for kind in observed:
            for hop in ("node", "agent"):
                ratios = [one[f"pico, {kind}"].cpu_us(hop) / one["pico"].cpu_us(hop) for one in self._last]
                table.rows.append(Row(f"{hop} with {kind} / without", {"x without": median(ratios)}, ratios))
        for kind in kinds:
            ratios = [result[f"pico, {kind}"].cpu_us("node") / result["pico"].cpu_us("node") for result in self._last]
            table.rows.append(Row(f"node with a {kind} / without", {"x without": median(ratios)}, ratios))
        return table

    def _many(self, targets: Sequence[Target]) -> Table:
        """Many connections beside the usual number: the rate must not fall."""
        few = self._connections
        rates: dict[str, list[float]] = {target.name: [] for target in targets}

        def load(target: Target) -> Requests:
            usual = self._small(target, few).per_second
            result = self._small(target, MANY)
            rates[target.name].append(result.per_second / usual)
            return result

        table = self._requests(f", {MANY} connections", targets, load)
        column = f"rate x {few}"
        rows = [Row(f"{name}: {MANY} / {few}", {column: median(ratios)}, []) for name, ratios in rates.items()]
        return Table(table.title, [*table.rows, *rows])

    def _two_nodes(self, targets: Sequence[Target]) -> Table:
        """Requests that one node takes and another holds, beside those that one node does both for."""
        loaded = [*targets, self._bed.two_nodes("pico, two nodes")]
        table = self._warm(f" across two nodes, {self._connections} connections", loaded)
        one, two = targets[-1].name, loaded[-1].name
        ratios = [
            (result[two].cpu_us("asked") + result[two].cpu_us("holder")) / result[one].cpu_us("node")
            for result in self._last
        ]
        return Table(table.title, [*table.rows, Row("two nodes / one node", {"x one node": median(ratios)}, [])])

    def _unix(self, targets: Sequence[Target]) -> Table:
        """A service on a unix socket, beside the same one on a port."""
        loaded = [*targets, self._bed.pico("pico, unix service", over="unix")]
        table = self._warm(f", a service on a unix socket, {self._connections} connections", loaded)
        tcp, unix = targets[-1].name, loaded[-1].name
        ratios = [result[unix].cpu_us("agent") / result[tcp].cpu_us("agent") for result in self._last]
        return Table(table.title, [*table.rows, Row("agent, unix / TCP", {"x TCP": median(ratios)}, [])])

    def _h2c(self, targets: Sequence[Target]) -> Table:
        """A service that speaks HTTP/2, beside the same one that speaks HTTP/1.1."""
        loaded = [*targets, self._bed.pico("pico, service of http/two", over="h2c")]
        table = self._warm(f", a service of HTTP/2, {self._connections} connections", loaded)
        http1, http2 = targets[-1].name, loaded[-1].name
        ratios = [result[http2].cpu_us("agent") / result[http1].cpu_us("agent") for result in self._last]
        return Table(table.title, [*table.rows, Row("agent, HTTP/2 / HTTP/1.1", {"x HTTP/1.1": median(ratios)}, [])])

    def _warm(self, what: str, targets: Sequence[Target]) -> Table:
        """Warm targets up, and load each with the usual number of connections."""
        for target in targets:
            progress(f"warming up {target.name}")
            self._small(target, self._connections, WARM_UP_S)
        return self._requests(what, targets, lambda target: self._small(target, self._connections))

    def _requests(self, what: str, targets: Sequence[Target], load: Callable[[Target], Requests]) -> Table:
        title = f"small responses{what}"
        self._last = rounds(title, self._arguments.repeat, {target.name: target for target in targets}, load)
        return requests_table(title, self._last)

    def _bodies(self, direction: str, targets: Sequence[Target]) -> Table:
        service = self._bed.service
        transfers = -(-TRANSFERS_BYTES // (self._arguments.megabytes * 1_000_000))
        title = f"{direction} of {self._arguments.megabytes} MB"

        def load(target: Target) -> Bodies:
            return large_bodies(target, direction, service.large, service.uploaded, transfers)

        named = {target.name: target for target in targets if target.name != "hello"}  # which has no large body
        return bodies_table(title, rounds(title, self._arguments.repeat, named, load))

    def _small(self, target: Target, connections: int, seconds: float | None = None) -> Requests:
        return small_requests(
            target,
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


def main() -> None:
    """The command."""
    parser = Options(__doc__, PARTS)
    parser.number("--connections", 32, "that wrk keeps open")
    parser.number("--threads", 1, "of wrk")
    parser.number("--seconds", 8, "of one load")
    parser.number("--repeat", 3, "rounds; figures are medians")
    parser.number("--megabytes", LARGE_BYTES // 1_000_000, "of a large body")
    parser.add_argument(
        "--auth", choices=KINDS, action="append", default=[], help="small: load a node that wants this, too; repeatable"
    )
    parser.add_argument(
        "--observed",
        choices=OBSERVED,
        action="append",
        default=[],
        help="small: load a node with this, too; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.read()
    setting = setting_of(arguments)
    for program in ("wrk", "curl"):
        find_program(program, program)
    with bed(arguments.megabytes * 1_000_000) as test_bed:
        tables = Run(test_bed, arguments).tables()
    print(as_json(tables, setting) if arguments.json else show(tables, setting))


if __name__ == "__main__":
    sys.exit(exit_status(main))

"""Where node and agent spend their CPU time under the load of the benchmark.

    python -m benchmarks.profile [--load small|single|download|upload] [--top 20] [--keep DIRECTORY]

The running daemons are sampled each time that they have used some CPU time: see `cpu_samples`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bed import Bed, Target, bed
from benchmarks.cpu_samples import Sampler
from benchmarks.load import WARM_UP_S, large_bodies, small_requests
from benchmarks.run import LARGE_BYTES
from tools.stage.report import Options, exit_status

LOADS = ("small", "single", "download", "upload")


@dataclass(frozen=True)
class Function:
    """Shares of the CPU time, from 0 to 1: in the function itself, and in all that it called too."""

    name: str
    own: float
    total: float


def functions_of_stacks(text: str) -> list[Function]:
    """Functions from collapsed stacks: `outer (file);inner (file) samples` in each line."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            total[frame] += int(samples)
    whole = sum(own.values()) or 1
    return [Function(name, own[name] / whole, samples / whole) for name, samples in total.items()]


def table(title: str, functions: list[Function], top: int) -> str:
    """The functions with the most time of their own."""
    lines = [title, f"{'own %':>8}{'total %':>9}  function"]
    dearest = sorted(functions, key=lambda each: each.own, reverse=True)[:top]
    lines += [f"{each.own * 100:>8.1f}{each.total * 100:>9.1f}  {each.name}" for each in dearest]
    return "\n".join(lines)


def load_of(test_bed: Bed, target: Target, arguments: argparse.Namespace) -> Callable[[float], str]:
    """Loads the target for about so many seconds; returns what it did."""
    service = test_bed.service

    def requests(seconds: float) -> str:
        connections = 1 if arguments.load == "single" else arguments.connections
        seen = small_requests(target, connections=connections, threads=1, seconds=seconds)
        cpu = ", ".join(f"{hop} {seen.cpu_us(hop):.1f} us" for hop in target.hops)
        return f"{seen.requests} requests, {seen.per_second:.0f}/s; CPU of a request, with the sampling: {cpu}"

    def bodies(seconds: float) -> str:
        first = large_bodies(target, arguments.load, service.large, service.uploaded, 1)
        count = max(1, round(seconds / first.seconds) - 1)
        seen = large_bodies(target, arguments.load, service.large, service.uploaded, count)
        cpu = ", ".join(f"{hop} {seen.cpu_s_per_gb(hop):.2f} s" for hop in target.hops)
        return f"{seen.total_bytes // LARGE_BYTES} bodies, {seen.megabytes_per_second:.0f} MB/s; CPU of a GB: {cpu}"

    return bodies if arguments.load in ("download", "upload") else requests


def profiled(arguments: argparse.Namespace) -> list[str]:
    """Load node and agent; what was done, and a table for each of them."""
    with bed(LARGE_BYTES) as test_bed:
        paths = {name: test_bed.directory / f"{name}.stacks" for name in ("node", "agent")}
        target = test_bed.pico("pico", access_log=arguments.access_log, samples=paths)
        load = load_of(test_bed, target, arguments)
        load(WARM_UP_S)
        samplers = {name: Sampler(process, paths[name]) for name, process in target.hops.items()}
        tables = [load(arguments.seconds)]
        for name, sampler in samplers.items():
            stacks = sampler.end()
            tables.append(table(name, functions_of_stacks(stacks), arguments.top))
            if arguments.keep is not None:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{name}.stacks").write_text(stacks)
        return tables


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.add_argument("--load", choices=LOADS, default="small", help="what goes through [small]")
    parser.number("--connections", 32, "of the load `small`")
    parser.number("--seconds", 8, "how long, about")
    parser.add_argument("--access-log", action="store_true", help="let the node log each request")
    parser.number("--top", 20, "functions to print for each daemon")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep the stacks, for flame graphs")
    print("\n\n".join(profiled(parser.read())))


if __name__ == "__main__":
    sys.exit(exit_status(main))

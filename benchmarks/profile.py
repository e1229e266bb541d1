"""Where node and agent spend their time under the load of the benchmark.

    python -m benchmarks.profile [--load small|single|download|upload] [--with py-spy|cprofile] [--top 20]

py-spy samples the running daemons and slows them little; time in C code counts for the Python function that called it.
cProfile counts every call and makes calls look dearer than they are.
"""

from __future__ import annotations

import argparse
import os
import pstats
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bed import Bed, Target, bed
from benchmarks.load import WARM_UP_S, large_bodies, small_requests
from benchmarks.run import LARGE_BYTES
from tools.stage.processes import Process
from tools.stage.report import Options, exit_status
from tools.stage.waiting import StageFailed

LOADS = ("small", "single", "download", "upload")
_SAMPLES_PER_S = 250
_END_S = 20.0
_WAITING = "Condition.wait (threading.py"
"""A thread of the pool with nothing to do, which py-spy takes for a busy one now and then."""


@dataclass(frozen=True)
class Function:
    """Shares of the busy time, from 0 to 1: in the function itself, and in all that it called too."""

    name: str
    own: float
    total: float


def py_spy_program() -> str | None:
    """py-spy beside the running Python, or on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


class Sampler:
    """py-spy, attached to a daemon until `end`.

    Args:
        program: py-spy's path.
        process: the daemon.
        directory: for the samples.
    """

    def __init__(self, program: str, process: Process, directory: Path) -> None:
        self.path = directory / f"{process.name}.stacks"
        command = [program, "record", "--pid", str(process.pid), "--rate", str(_SAMPLES_PER_S), "--format", "raw"]
        command += ["--function", "--duration", "unlimited", "--output", str(self.path)]
        self._popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
        )

    def end(self) -> list[Function]:
        """Stop sampling; what was seen."""
        self._popen.send_signal(signal.SIGINT)
        said, _ = self._popen.communicate(timeout=_END_S)
        if not self.path.exists():
            raise StageFailed(f"py-spy got no samples; it wrote\n{said.decode('utf-8', 'replace').strip()}")
        return functions_of_stacks(self.path.read_text("utf-8", "replace"))

    def kill(self) -> None:
        """End py-spy at once. Idempotent."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()


def functions_of_stacks(text: str) -> list[Function]:
    """Functions from collapsed stacks: `outer (file);inner (file) samples` in each line."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(_WAITING):
            continue
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            total[frame] += int(samples)
    whole = sum(own.values()) or 1
    return [Function(name, own[name] / whole, samples / whole) for name, samples in total.items()]


def functions_of_profile(path: Path) -> list[Function]:
    """Functions from a file of cProfile. What waits for the network is left out."""
    if not path.exists():
        raise StageFailed(f"cProfile wrote no {path.name}")
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]]
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    busy = {key: row for key, row in stats.items() if "'poll' of 'select.epoll'" not in key[2]}
    whole = sum(row[2] for row in busy.values()) or 1.0
    waiting = sum(row[2] for row in stats.values()) - whole
    functions = []
    for (file, line, name), (_, _, own, total, _) in busy.items():
        where = "" if file == "~" else f" ({_short(file)}:{line})"
        # Whoever contains the loop contains the waiting too.
        total_s = total - waiting if total > whole else total
        functions.append(Function(name + where, own / whole, total_s / whole))
    return functions


def _short(file: str) -> str:
    """The last parts of a file's name: enough to find it."""
    return "/".join(Path(file).parts[-3:])


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
        return f"{seen.requests} requests, {seen.per_second:.0f}/s; CPU of a request, with the profiler's: {cpu}"

    def bodies(seconds: float) -> str:
        first = large_bodies(target, arguments.load, service.large, service.uploaded, 1)
        count = max(1, round(seconds / first.seconds) - 1)
        seen = large_bodies(target, arguments.load, service.large, service.uploaded, count)
        cpu = ", ".join(f"{hop} {seen.cpu_s_per_gb(hop):.2f} s" for hop in target.hops)
        return f"{seen.total_bytes // LARGE_BYTES} bodies, {seen.megabytes_per_second:.0f} MB/s; CPU of a GB: {cpu}"

    return bodies if arguments.load in ("download", "upload") else requests


def sampled(program: str, arguments: argparse.Namespace) -> list[str]:
    """Profile with py-spy; the tables."""
    with bed(LARGE_BYTES) as test_bed, ExitStack() as stack:
        target = test_bed.pico("pico", access_log=arguments.access_log)
        load = load_of(test_bed, target, arguments)
        load(WARM_UP_S)
        samplers = {}
        for name, process in target.hops.items():
            samplers[name] = Sampler(program, process, test_bed.directory)
            stack.callback(samplers[name].kill)
        tables = [load(arguments.seconds)]
        for name, sampler in samplers.items():
            tables.append(table(name, sampler.end(), arguments.top))
            _keep(sampler.path, arguments.keep)
        return tables


def counted(arguments: argparse.Namespace) -> list[str]:
    """Profile with cProfile, which begins with the daemons and writes when they end; the tables."""
    with bed(LARGE_BYTES) as test_bed:
        paths = {name: test_bed.directory / f"{name}.pstats" for name in ("node", "agent")}
        target = test_bed.pico("pico", access_log=arguments.access_log, profiles=paths)
        tables = [load_of(test_bed, target, arguments)(arguments.seconds)]
        if complaints := test_bed.stage.stop():
            raise StageFailed("\n".join(complaints))
        for name, path in paths.items():
            tables.append(table(name, functions_of_profile(path), arguments.top))
            _keep(path, arguments.keep)
        return tables


def _keep(path: Path, directory: Path | None) -> None:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, directory)


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.add_argument("--load", choices=LOADS, default="small", help="what goes through [small]")
    parser.number("--connections", 32, "of the load `small`")
    parser.number("--seconds", 8, "how long, about")
    parser.add_argument("--access-log", action="store_true", help="let the node log each request")
    parser.add_argument(
        "--with", dest="profiler", choices=("py-spy", "cprofile"), help="[py-spy if installed, else cprofile]"
    )
    parser.number("--top", 20, "functions to print for each daemon")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIRECTORY",
        help="keep py-spy's stacks (for flame graphs) or the files of cProfile",
    )
    arguments = parser.read()
    program = py_spy_program() if arguments.profiler != "cprofile" else None
    if arguments.profiler == "py-spy" and program is None:
        raise StageFailed("py-spy is not installed (pip install py-spy)")
    try:
        tables = sampled(program, arguments) if program is not None else counted(arguments)
    except StageFailed as error:
        if program is None or os.geteuid() == 0:
            raise
        raise StageFailed(f"{error}\n(py-spy may need root; --with cprofile does not)") from None
    print("\n\n".join(tables))


if __name__ == "__main__":
    sys.exit(exit_status(main))

"""Load on a target: many small requests by wrk, large bodies by curl. An error of any kind ends the run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.bed import ENDPOINT, Target
from benchmarks.nginx import SMALL_BODY
from tools.stage.processes import environment, find_program
from tools.stage.report import progress
from tools.stage.waiting import StageFailed
from tools.stage.wrk import Wrk

MANY = 256
"""The connections of a crowd."""
WARM_UP_S = 1.0
"""The seconds of load before the first that counts."""


@dataclass(frozen=True)
class Requests:
    """One load of small requests: what wrk saw, and the CPU of each hop."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: dict[str, float]

    @property
    def per_second(self) -> float:
        """Requests in a second."""
        return self.requests / self.seconds

    def cpu_us(self, hop: str) -> float:
        """CPU microseconds of a hop for one request."""
        return self.cpu_s[hop] * 1e6 / self.requests


@dataclass(frozen=True)
class Bodies:
    """Some large bodies in one direction: the time they took, and CPU and memory of each hop."""

    total_bytes: int
    seconds: float
    cpu_s: dict[str, float]
    growth_mib: dict[str, float]

    @property
    def megabytes_per_second(self) -> float:
        """Millions of bytes in a second."""
        return self.total_bytes / 1e6 / self.seconds

    def cpu_s_per_gb(self, hop: str) -> float:
        """CPU seconds of a hop for 10^9 bytes."""
        return self.cpu_s[hop] * 1e9 / self.total_bytes


@dataclass
class _Cpu:
    used_s: dict[str, float] = field(default_factory=dict)


L = TypeVar("L")


@contextmanager
def _cpu_of(target: Target) -> Iterator[_Cpu]:
    """The CPU that the hops use meanwhile. One that ends meanwhile is a fault of its own."""
    cpu = _Cpu()
    before = {name: hop.cpu_s() for name, hop in target.hops.items()}
    yield cpu
    for name, hop in target.hops.items():
        if not hop.running:
            raise StageFailed(f"{hop.name} ended; it wrote\n{hop.output}")
        cpu.used_s[name] = hop.cpu_s() - before[name]


def small_requests(target: Target, *, connections: int, threads: int, seconds: float) -> Requests:
    """GET the small answer over kept connections, each with the next request as soon as the last is answered.

    Raises:
        StageFailed: wrk counted an error, an answer that is not 2xx, or nothing at all.
    """
    with _cpu_of(target) as cpu:
        url = f"http://127.0.0.1:{target.port}/small"
        result = Wrk(
            url, ENDPOINT, seconds=seconds, connections=connections, threads=threads, fields=target.fields
        ).result()
    if result.failed:
        raise StageFailed(f"{result.failed} requests of wrk through {target.name} failed:\n{result.output}")
    if not result.requests or result.received_bytes < result.requests * len(SMALL_BODY):
        raise StageFailed(f"wrk got no whole answers through {target.name}:\n{result.output}")
    return Requests(result.requests, result.seconds, result.p50_ms, result.p99_ms, cpu.used_s)


def large_bodies(target: Target, direction: str, body: Path, uploaded: Path, count: int) -> Bodies:
    """Download or upload a large body a few times, one after the other.

    Args:
        target: what it goes through.
        direction: `download` or `upload`.
        body: the file that the service serves, and that is uploaded.
        uploaded: where the service puts an upload.
        count: how many times.

    Raises:
        StageFailed: a transfer failed or was not whole.
    """
    size = body.stat().st_size
    url = f"http://127.0.0.1:{target.port}"
    command = [find_program("curl", "curl"), "--silent", "--show-error", "--fail", "--noproxy", "*"]
    command += ["--max-time", "120", "--header", f"x-pico-endpoint: {ENDPOINT}", "--output", "/dev/null"]
    command += ["--write-out", "%{size_download} %{size_upload} %{time_total}"]
    if direction == "download":
        command += [f"{url}/large"]
    else:
        command += ["--header", "Expect:", "--upload-file", str(body), f"{url}/upload/large"]
    for hop in target.hops.values():
        hop.reset_peak()
    resting = {name: hop.memory_mib() for name, hop in target.hops.items()}
    seconds = 0.0
    with _cpu_of(target) as cpu:
        for _ in range(count):
            uploaded.unlink(missing_ok=True)
            down, up, took = _run(command, 150).split()
            seconds += float(took)
            if int(down if direction == "download" else up) != size:
                raise StageFailed(f"a {direction} through {target.name} had {down} bytes down and {up} up, not {size}")
            if direction == "upload" and uploaded.stat().st_size != size:
                raise StageFailed(f"the service got {uploaded.stat().st_size} bytes through {target.name}, not {size}")
    return Bodies(
        total_bytes=size * count,
        seconds=seconds,
        cpu_s=cpu.used_s,
        growth_mib={name: hop.memory_mib("VmHWM") - resting[name] for name, hop in target.hops.items()},
    )


def rounds(title: str, repeat: int, targets: Mapping[str, Target], load: Callable[[Target], L]) -> list[dict[str, L]]:
    """Load targets in turn, round for round.

    Args:
        title: of what is measured, for those who wait.
        repeat: how many rounds.
        targets: by name.
        load: loads one.

    Returns:
        For each round, what came of each target, by name.
    """

    def one(number: int, name: str) -> L:
        progress(f"{title}: round {number} of {repeat}, {name}")
        return load(targets[name])

    return [{name: one(number, name) for name in targets} for number in range(1, repeat + 1)]


def _run(command: list[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise StageFailed(f"{command[0]} did not end within {timeout_s:.0f} s") from None
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (output + done.stderr.decode("utf-8", "replace")).strip()
        raise StageFailed(f"{command[0]} ended with status {done.returncode}: {said}")
    return output

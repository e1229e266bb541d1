"""Processes that get too little: of the CPU, of memory, of descriptors."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.stage import kernel
from tools.stage.processes import Process

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 100_000


def _group(controller: str) -> Path | None:
    """A new control group of ours; None where the controller is not there. Version 2 has one tree, version 1 one for
    each controller."""
    try:
        if controller in (_CGROUPS / "cgroup.controllers").read_text().split():
            (_CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
            tree = _CGROUPS
        else:
            return None
    except OSError:
        tree = _CGROUPS / controller
    group = tree / f"pico-faults-{os.getpid()}-{controller}"
    try:
        group.mkdir()
    except OSError:
        return None
    return group


@contextlib.contextmanager
def _confined(process: Process, controller: str, values: dict[str, str]) -> Iterator[bool]:
    """Keep a process in a control group; False when that is not possible here.

    Args:
        process: with all its threads.
        controller: `cpu` or `memory`.
        values: by the name of the file, of version 1 or 2; those whose file is not there are not written.
    """
    group = _group(controller)
    if group is None:
        yield False
        return
    try:
        try:
            for name, value in values.items():
                if (group / name).exists():
                    (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(process.pid))
        except OSError:
            yield False
            return
        yield True
    finally:
        with contextlib.suppress(OSError):  # it may have ended
            (group.parent / "cgroup.procs").write_text(str(process.pid))
        group.rmdir()


@contextlib.contextmanager
def starved(process: Process, percent: float = 1.0, period_us: int = _PERIOD_US) -> Iterator[None]:
    """Let a process have so much of one core, by a control group or, where there is none, by stopping it meanwhile."""
    quota = str(round(period_us * percent / 100))
    values = {"cpu.cfs_period_us": str(period_us), "cpu.cfs_quota_us": quota, "cpu.max": f"{quota} {period_us}"}
    with _confined(process, "cpu", values) as done:
        if done:
            yield
            return
    over = threading.Event()

    def in_turns() -> None:
        period_s = period_us / 1e6
        while not over.wait(period_s * percent / 100):
            period_s = _PERIOD_US / 1e6 * random.uniform(0.5, 1.5)  # a timer of it would fall in step with equal ones
            process.signal(signal.SIGSTOP)
            over.wait(period_s * (1 - percent / 100))
            process.signal(signal.SIGCONT)

    thread = threading.Thread(target=in_turns, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def short_of_memory(process: Process, more_mib: int) -> Iterator[None]:
    """Let a process have so much memory beside what it has now; the kernel kills it when it takes more."""
    limit = str(round(kernel.memory_mib(process.pid) + more_mib) << 20)
    with _confined(process, "memory", {"memory.limit_in_bytes": limit, "memory.max": limit}) as done:
        if done:
            yield
            return
    size = round(kernel.memory_mib(process.pid, "VmSize") + more_mib) << 20
    resource.prlimit(process.pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def short_of_descriptors(process: Process, more: int) -> Iterator[None]:
    """Let a process open so many descriptors beside those that it has."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    taken = len(os.listdir(f"/proc/{process.pid}/fd"))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken + more, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)

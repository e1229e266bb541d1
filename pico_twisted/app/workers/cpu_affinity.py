"""A core for each worker, where there are as many workers as cores.

Workers that are woken for every few bytes and moved between cores find cold caches there, and interrupt each other in
the middle of a turn. On a core of its own, and scheduled as a process that computes (SCHED_BATCH: when it is woken, it
lets a running process finish its slice), a worker finds more to do in each turn, and needs a tenth less for a request.
Fewer workers than cores are left to the kernel, which has room to keep them apart. Neither needs a privilege.
"""

from __future__ import annotations

import os

from twisted.logger import Logger

log = Logger()


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def settle(pid: int, core: int) -> None:
    """Keep a process of ours on a core. Where that is not allowed or there is no such thing, it stays as it is."""
    if not hasattr(os, "sched_setaffinity"):
        return
    try:
        os.sched_setaffinity(pid, {core})
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:
        log.debug("A worker cannot be given a core of its own", reason=str(error))

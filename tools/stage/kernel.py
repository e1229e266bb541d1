"""What Linux knows of a process: proc(5)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def state(pid: int) -> str:
    """The letter for what a process does; empty when there is none."""
    try:
        return _stat(pid)[0]
    except OSError:
        return ""


def runs(pid: int) -> bool:
    """Whether it is a process, and not one that has ended and that nobody has looked at since."""
    return state(pid) not in ("", "Z")


def children(pid: int) -> list[int]:
    """The IDs of the processes that a process has started and that are there, the older first."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def memory_mib(pid: int | str = "self", field: str = "VmRSS") -> float:
    """A memory figure of a process in MiB; `VmHWM` is the peak of `VmRSS`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def reset_peak(pid: int) -> None:
    """Start the peak of a process's memory (VmHWM) again from what it uses now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used so far, in user and system mode, all threads."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid() makes of a process ID
    except OSError:
        # Some sandboxes have no such clock: the same sum, in ticks.
        fields = _stat(pid)
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def listening(pid: int) -> list[str]:
    """The TCP addresses that a process listens at, IPv6 too, as the kernel writes them: `0100007F:1F90`."""
    descriptors = Path(f"/proc/{pid}/fd")
    own = {link for name in descriptors.iterdir() if (link := _link(name)).startswith("socket:")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.append(fields[1])
    return found


def _link(name: Path) -> str:
    try:
        return str(name.readlink())
    except OSError:  # closed meanwhile
        return ""

"""For how long limits of the CPU have stopped this process, as the kernel counts it (cgroups(7), `cpu.stat`)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

_MEMBERSHIP: Final = "proc/self/cgroup"
_TREES: Final = {"cpu": "sys/fs/cgroup/cpu", "": "sys/fs/cgroup"}
"""Where the groups of a hierarchy are, by the controller that it is asked for: of version 1, and of version 2."""
_UNITS: Final = {b"throttled_time": 1e-9, b"throttled_usec": 1e-6}
"""The name of the counter in version 1 and 2, and what part of a second it counts in."""
_MOST_BYTES: Final = 16_384


def stopped_s(root: Path = Path("/")) -> float:
    """Return the seconds for which the limit of its control group, or of one above, has stopped this process and the
    others there; 0.0 where there is no limit, or nobody says.

    Args:
        root: of the file system.
    """
    total_s = 0.0
    for line in _read(root / _MEMBERSHIP).decode("utf-8", "surrogateescape").splitlines():
        _, _, line = line.partition(":")
        controllers, _, path = line.partition(":")
        tree = _TREES.get("cpu" if "cpu" in controllers.split(",") else controllers)
        if tree is None:
            continue
        group = PurePosixPath(path.lstrip("/"))
        if ".." in group.parts:  # outside of what this container sees
            group = PurePosixPath()
        for level in (group, *group.parents):
            total_s += _counted_s(_read(root / tree / level / "cpu.stat"))
    return total_s


def _counted_s(stat: bytes) -> float:
    for line in stat.splitlines():
        name, _, value = line.partition(b" ")
        if name in _UNITS and value.isdigit():
            return int(value) * _UNITS[name]
    return 0.0


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError):  # a path that is none
        return b""

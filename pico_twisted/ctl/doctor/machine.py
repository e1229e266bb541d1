"""What the machine gives a daemon: settings of the kernel, room for files, and who may read which of them."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from pico_twisted.core.text import escaped
from pico_twisted.ctl.doctor.lines import Line, green, red, yellow
from pico_twisted.net.admin.shapes.summary import NEAR

ROOT: Final = Path("/")
LEAST_FREE_BYTES: Final = 100 << 20
"""Bytes that a disk should have free for logs and state: below it the next hour's log may not fit."""
LEAST_FREE_SHARE: Final = 0.05
"""And this share of it."""
LEAST_QUEUE: Final = 1024
"""Connections that the kernel should let wait for a port: fewer are lost when a fleet of agents comes back."""
_PAGE_BYTES: Final = 4096


def kernel_lines(root: Path = ROOT) -> Iterator[Line]:
    """The settings of the kernel that matter.

    Args:
        root: where `proc` is.
    """
    settings = root / "proc/sys/net"
    troubles = []
    queue = _number(settings / "core/somaxconn")
    if queue is not None and queue < LEAST_QUEUE:
        cure = f"sysctl -w net.core.somaxconn=4096, and in /etc/sysctl.d: {queue} connections may wait now"
        troubles.append(yellow("kernel", "bursts of connections are dropped (net.core.somaxconn)", cure))
    used, most = (_number(settings / f"netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    if used is not None and most and used >= NEAR * most:
        cure = "a larger net.netfilter.nf_conntrack_max, or no connection tracking for the ports of Pico"
        troubles.append(red("kernel", f"{used} of {most} connections that the firewall can follow are used", cure))
    pages, ceiling = _tcp_pages(root), _numbers(settings / "ipv4/tcp_mem")
    if pages is not None and len(ceiling) == 3 and pages >= NEAR * ceiling[2]:
        share = f"{pages * _PAGE_BYTES >> 20} of {ceiling[2] * _PAGE_BYTES >> 20} MiB"
        troubles.append(red("kernel", f"TCP uses {share} (net.ipv4.tcp_mem)", "a larger net.ipv4.tcp_mem"))
    yield from troubles or [green("kernel", "queues, connection tracking and TCP memory have room")]


def disk_lines(directories: Collection[str]) -> Iterator[Line]:
    """Free room where files are written.

    Args:
        directories: in which; those that are not there are left out, which the configuration's check tells.
    """
    seen: set[int] = set()
    troubles, shown = [], []
    for directory in sorted(directories):
        try:
            found, device = os.statvfs(directory), os.stat(directory).st_dev
        except OSError:
            continue
        if device in seen:
            continue
        seen.add(device)
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        words = f"{escaped(directory)}: {free >> 20} of {size >> 20} MiB free"
        shown.append(words)
        if free < LEAST_FREE_BYTES or found.f_favail == 0:
            troubles.append(red("disk", words, "make room: the log, and what is revoked, cannot be written"))
        elif size and free < LEAST_FREE_SHARE * size:
            troubles.append(yellow("disk", words, "make room for the log"))
    yield from troubles or ([green("disk", ", ".join(shown))] if shown else [])


def rights_lines(files: Sequence[tuple[str, bool]], user: str) -> Iterator[Line]:
    """Who may read the files that a configuration names.

    Args:
        files: their names, and whether each is a secret.
        user: who runs the daemon.
    """
    try:
        found = pwd.getpwnam(user)
        groups = set(os.getgrouplist(user, found.pw_gid))
    except KeyError:
        yield red("file rights", f"there is no user {escaped(user)}", "make it: picoctl service install, or --as USER")
        return
    troubles = []
    for name, is_secret in files:
        try:
            closed = _closed_part(Path(name), found.pw_uid, groups)
            mode = os.stat(name).st_mode
        except FileNotFoundError:
            troubles.append(red("file rights", f"{escaped(name)} is not there", "put it there, or change the key"))
            continue
        except OSError as error:
            words = f"{escaped(name)} cannot be looked at: {error.strerror}"
            troubles.append(yellow("file rights", words, "run picoctl doctor as root"))
            continue
        if closed is not None:
            cure = f"setfacl, chgrp or: install -o {user} -m 400"
            troubles.append(red("file rights", f"{user} cannot read {escaped(name)} (for {closed})", cure))
        elif is_secret and mode & stat.S_IROTH:
            troubles.append(yellow("file rights", f"everybody can read {escaped(name)}", f"chmod o-r {name}"))
    yield from troubles or [green("file rights", f"{user} can read all {len(files)} files, and strangers no secret")]


def _closed_part(path: Path, uid: int, groups: Collection[int]) -> Path | None:
    """The file, or the directory above it, that keeps a user out; None when nothing does."""
    if uid == 0:
        return None
    for part in reversed(path.absolute().parents):
        if not _allowed(os.stat(part), uid, groups, stat.S_IXUSR):
            return part
    return None if _allowed(os.stat(path), uid, groups, stat.S_IRUSR) else path


def _allowed(found: os.stat_result, uid: int, groups: Collection[int], bit: int) -> bool:
    shift = 0 if found.st_uid == uid else 3 if found.st_gid in groups else 6
    return bool(found.st_mode & (bit >> shift))


def _number(path: Path) -> int | None:
    found = _numbers(path)
    return found[0] if found else None


def _numbers(path: Path) -> list[int]:
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []


def _tcp_pages(root: Path) -> int | None:
    """Pages of memory that TCP uses, out of the line `TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 1`."""
    try:
        text = (root / "proc/net/sockstat").read_text(encoding="ascii")
    except OSError:
        return None
    words = next((line.split() for line in text.splitlines() if line.startswith("TCP:")), [])
    return int(words[words.index("mem") + 1]) if "mem" in words[:-1] else None

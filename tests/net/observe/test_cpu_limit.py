"""What the kernel counts of limits of the CPU: of both versions of control groups, and of none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.net.observe.cpu_limit import stopped_s

V2 = b"usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec %d\nnr_bursts 0\n"
V1 = b"nr_periods 9\nnr_throttled 2\nthrottled_time %d\nnr_bursts 0\n"


def machine(root: Path, membership: bytes, stats: dict[str, bytes]) -> Path:
    """A file system with what a process finds there."""
    for name, data in {"proc/self/cgroup": membership, **stats}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_version_2(tmp_path: Path) -> None:
    """Its own group counts, and those above: a limit may be there. The root has none."""
    stats = {
        "sys/fs/cgroup/cpu.stat": b"usage_usec 7\n",
        "sys/fs/cgroup/a.slice/cpu.stat": V2 % 250_000,
        "sys/fs/cgroup/a.slice/b.service/cpu.stat": V2 % 1_000_000,
        "sys/fs/cgroup/other/cpu.stat": V2 % 9_000_000,
    }
    assert stopped_s(machine(tmp_path, b"0::/a.slice/b.service\n", stats)) == pytest.approx(1.25)


def test_version_1(tmp_path: Path) -> None:
    """Only the hierarchy of the CPU counts, beside which there may be others, that of version 2 too."""
    stats = {
        "sys/fs/cgroup/cpu/cpu.stat": V1 % 0,
        "sys/fs/cgroup/cpu/docker/x/cpu.stat": V1 % 1_500_000_000,
        "sys/fs/cgroup/memory/docker/x/cpu.stat": V1 % 9_000_000_000,
    }
    membership = b"12:memory:/docker/x\n4:cpuset:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n0::/\n"
    assert stopped_s(machine(tmp_path, membership, stats)) == pytest.approx(1.5)


@pytest.mark.parametrize("path", [b"/docker/x", b"/../../other"])
def test_a_container_that_sees_only_itself(tmp_path: Path, path: bytes) -> None:
    """Its own group is the root of what it sees, whatever the group is called outside."""
    stats = {"sys/fs/cgroup/cpu.stat": V2 % 500_000}
    assert stopped_s(machine(tmp_path, b"0::" + path + b"\n", stats)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "membership", [b"", b"\n", b"nonsense", b"0::", b"0::/\xff\xfe\n", b"0::/a\0b\n", b":" * 20, b"0::/" + b"x" * 5000]
)
@pytest.mark.parametrize("stat", [b"", b"throttled_usec", b"throttled_usec -5\n", b"throttled_usec 1e9\n", b"\xff\n"])
def test_nothing_that_can_be_read(tmp_path: Path, membership: bytes, stat: bytes) -> None:
    """Whatever is there, or is not, is no reason to fail."""
    assert stopped_s(machine(tmp_path, membership, {"sys/fs/cgroup/cpu.stat": stat})) == 0.0


def test_other_systems(tmp_path: Path) -> None:
    """Where there are no such files, nothing has stopped us; and here they are read."""
    assert stopped_s(tmp_path) == 0.0
    assert stopped_s() >= 0.0

"""Snapshots as files: written for their owner, read without trust, compared."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pico_twisted.ctl.exits import SaidNo
from pico_twisted.ctl.snapshot.archive import ABOUT, MAX_MEMBER_BYTES, MAX_MEMBERS, Snapshot, read, write
from pico_twisted.ctl.snapshot.comparing import differences
from tests.ctl.harness import picoctl

METRICS = '# TYPE a_total counter\na_total{{x="1"}} {}\n# TYPE b gauge\nb {}\n'


def snapshot(at_s: float, **parts: Any) -> Snapshot:
    """A snapshot of one node with some parts."""
    nodes = [{"id": "n1", "status": "active", "version": "0.1.0", "endpoints": 1}]
    told = {"nodes.json": nodes, "nodes/n1/metrics.txt": METRICS.format(10, 1), **parts}
    return Snapshot({ABOUT: {"at_s": at_s}, **told})


def test_written_and_read(tmp_path: Path) -> None:
    """It comes back as it was; its owner alone can read it; no file is written over."""
    path = tmp_path / "a.tar.gz"
    made = snapshot(5.0, **{"agents.json": {"sessions": []}, "nodes/n%2F1/ready.json": {"status": "ré"}})
    write(made, str(path))
    assert read(str(path)) == made and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.nodes("ready.json") == {"n%2F1": {"status": "ré"}}
    with pytest.raises(SaidNo, match="is there already"):
        write(made, str(path))
    with pytest.raises(SaidNo, match="cannot be written"):
        write(made, str(tmp_path / "none" / "a.tar.gz"))


def member(name: str, data: bytes = b"{}", kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    """A tar archive with one member, compressed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, len(data) if size is None else size, "/etc/passwd"
        archive.fileobj.write(info.tobuf())
        archive.fileobj.write(data.ljust(512, b"\0"))
    return out.getvalue()


def before_part(size: int) -> bytes:
    """What `tarfile` reads whole before it tells of a part: a comment of this size (POSIX.1-2001 pax)."""
    out = io.BytesIO()
    text = b"%d comment=" % size
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, size
        archive.fileobj.write(info.tobuf())
        archive.fileobj.write((text + b"x" * (size - len(text) - 1) + b"\n").ljust(-(-size // 512) * 512, b"\0"))
        info = tarfile.TarInfo(ABOUT)
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    return out.getvalue()


def many(count: int) -> bytes:
    """So many parts, all of one name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for _ in range(count):
            info = tarfile.TarInfo(ABOUT)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    return out.getvalue()


def spoiled(data: bytes) -> bytes:
    """The same with bytes in the middle that no compressor writes."""
    middle = len(data) // 2
    return data[:middle] + b"\xff" * 8 + data[middle + 8 :]


NONE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no archive",
    "cut": lambda: member(ABOUT)[:40],
    "another": lambda: member("other.json"),
    "no JSON": lambda: member(ABOUT, b"{"),
    "deep": lambda: member(ABOUT, b"[" * 500),
    "link": lambda: member(ABOUT, kind=tarfile.SYMTYPE),
    "pipe": lambda: member(ABOUT, kind=tarfile.FIFOTYPE),
    "large": lambda: member(ABOUT, size=MAX_MEMBER_BYTES + 1),
    "large before a part": lambda: before_part(MAX_MEMBER_BYTES + 1),
    "many of one name": lambda: many(MAX_MEMBERS + 1),
    "spoiled": lambda: spoiled(member(ABOUT, json.dumps(list(range(100_000))).encode())),
}
"""Each is made by its test: to make them all takes a second, which every worker would spend while it collects."""


@pytest.mark.parametrize("make", NONE.values(), ids=NONE.keys())
def test_what_is_none(tmp_path: Path, make: Callable[[], bytes]) -> None:
    """Whatever somebody sends: it is refused in words, and nothing is unpacked."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(make())
    with pytest.raises(SaidNo):
        read(str(path))
    assert picoctl("snapshot", "compare", str(path), str(path)).returncode == 1
    assert [one.name for one in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("at_s", [10**400, -1, float("inf"), float("nan"), "soon", None])
def test_a_time_that_is_none(tmp_path: Path, at_s: object) -> None:
    """Whatever a snapshot says of its time, it is compared."""
    path = tmp_path / "a.tar.gz"
    write(Snapshot({ABOUT: {"at_s": at_s}}), str(path))
    assert read(str(path)).at_s == 0.0
    done = picoctl("snapshot", "compare", str(path), str(path))
    assert done.returncode == 0 and "nothing changed" in done.stdout


def compared(before: Snapshot, after: Snapshot) -> dict[str, list[str]]:
    return dict(differences(before, after))


def test_what_is_different() -> None:
    """Nodes, agents, configuration: what came, went and changed; counters as rates, gauges not."""
    session = {"agent": "a1", "version": "0.1.0", "node": "n1", "endpoint": "web", "address": "10.0.0.1:4"}
    before = snapshot(0.0, **{"nodes/n1/configuration.json": {"log.level": "info"}, "agents.json": {"sessions": []}})
    nodes = [{"id": "n1", "status": "draining", "intake": "cordoned", "version": "0.1.0", "endpoints": 1}, {"id": "n2"}]
    after = snapshot(
        10.0,
        **{
            "nodes.json": nodes,
            "nodes/n1/metrics.txt": METRICS.format(30, 9),
            "nodes/n1/configuration.json": {"log.level": "debug"},
            "agents.json": {"sessions": [session]},
            "doctor.json": [{"verdict": "red", "check": "nodes", "words": "n9"}, {"verdict": "green"}],
        },
    )
    assert compared(before, after) == {
        "nodes": ["  n1 intake: nothing -> cordoned", "  n1 status: active -> draining", "+ n2"],
        "agents": ["+ a1: version 0.1.0, node n1, endpoint web, address 10.0.0.1"],
        "configuration": ["  n1 log.level: info -> debug"],
        "doctor": ["+ red nodes: n9"],
        "counters of n1, in 10 s": ['       2.000/s  a_total{x="1"}'],
    }
    assert compared(before, before) == {}
    again = compared(after, snapshot(20.0))["counters of n1, in 10 s"]
    assert again == ["  it has started again in between: its counters began anew"]


@pytest.mark.parametrize(
    "spoil",
    [lambda part: None, lambda part: 5, lambda part: [1, None], lambda part: {"x": 1}, lambda part: "\x1b[2J{"],
)
def test_parts_that_are_something_else(tmp_path: Path, spoil: Callable[[Any], Any]) -> None:
    """Of what is no table nothing is told, and nothing breaks or moves a cursor."""
    names = ("nodes.json", "agents.json", "endpoints.json", "doctor.json", "nodes/\x1b/metrics.txt")
    spoilt = snapshot(1.0, **{name: json.loads(json.dumps(spoil(name))) for name in names})
    assert all(line.isprintable() for lines in compared(snapshot(0.0), spoilt).values() for line in lines)

"""Files are replaced whole, and are of whom they should be of."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pico_twisted.config.replacing import replace_file

DAEMON = 12345


def owners(path: Path) -> tuple[int, int, int]:
    """User, group and mode of a file."""
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def give(path: Path, group: int = DAEMON) -> None:
    """Let it be the daemon's, where tests run as root."""
    if os.geteuid() == 0:
        os.chown(path, DAEMON, group)


def test_a_new_file(tmp_path: Path) -> None:
    """It is for its owner alone, who is the one of the directory, also when root makes it."""
    give(tmp_path)
    replace_file(str(tmp_path / "file"), b"text")
    assert owners(tmp_path / "file") == (*owners(tmp_path)[:2], 0o600)
    assert (tmp_path / "file").read_bytes() == b"text" and os.listdir(tmp_path) == ["file"]


def test_a_file_that_was_there(tmp_path: Path) -> None:
    """Owner, group and mode stay."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    give(path, 54321)
    before = owners(path)
    replace_file(str(path), b"new")
    assert owners(path) == before and path.read_bytes() == b"new"


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written whole changes nothing, and leaves nothing behind."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        replace_file(str(path), b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]

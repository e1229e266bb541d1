"""What is revoked is in a file when a node starts again."""

from __future__ import annotations

import queue
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from pico_twisted.app.process import kept_revocations
from pico_twisted.app.process.kept_revocations import keep_revocations
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.core.access.revocations import Meant
from pico_twisted.net.access.shared import SharedRevocations
from tests.doubles.node import MemoryNode

PATIENCE_S = 30.0


class Threads:
    """A reactor that is told of threads, when the test says so."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], *given: Any) -> None:
        self.told.put(lambda: call(*given))

    def hear(self) -> None:
        """Wait for a thread, and hear of it."""
        self.told.get(timeout=PATIENCE_S)()


@pytest.fixture
def threads() -> Threads:
    """As above."""
    return Threads()


def started(threads: Threads, path: Path, **environ: str) -> SharedRevocations:
    """The revocations of a node that starts with this file."""
    node = MemoryNode(Clock())
    node.stop()
    shared = node.node.membership.revocations
    keep_revocations(shared, str(path) if path.name else "", environ, cast(IDaemonReactor, threads))
    return shared


def test_kept(tmp_path: Path, threads: Threads) -> None:
    """A node that starts again refuses whom it refused, until that is taken back; the file is its own."""
    path = tmp_path / "revoked"
    first = started(threads, path)
    assert first.kept and not path.exists()
    first.revoke(Meant.AGENT, "agent-1", "op")
    threads.hear()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = started(threads, path)
    assert second.revocations.is_revoked(None, "agent-1")
    assert path.read_text().startswith("# What is revoked.")
    second.undo(Meant.AGENT, "agent-1", "op")
    threads.hear()
    assert not started(threads, path).revocations.is_revoked(None, "agent-1")


def test_the_last_is_kept(tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that come while the file is written the last list is written, once."""
    shared = started(threads, tmp_path / "revoked")
    for number in range(20):
        shared.revoke(Meant.NAME, f"ci-{number}", "op")
    threads.hear()
    threads.hear()
    assert threads.told.empty()
    assert started(threads, tmp_path / "revoked").revocations.digest == shared.revocations.digest


def test_where_systemd_keeps_it(tmp_path: Path, threads: Threads) -> None:
    """Without a file in the configuration it is in the state directory; without that it is kept nowhere."""
    shared = started(threads, Path(), STATE_DIRECTORY=str(tmp_path))
    shared.revoke(Meant.NAME, "ci", "op")
    threads.hear()
    assert (tmp_path / "revocations").exists()
    assert not started(threads, Path()).kept


@pytest.mark.parametrize("content", [b"nonsense\n", b'["name","ci",true,1,0]\n', None])
def test_a_file_that_is_none(tmp_path: Path, threads: Threads, content: bytes | None) -> None:
    """A node does not start without what it should refuse."""
    path = tmp_path / "revoked"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(CannotStart, match=str(path)):
        started(threads, path)


def test_a_directory_that_is_not_there(tmp_path: Path, threads: Threads) -> None:
    """It is found at the start, and not when the first is revoked."""
    with pytest.raises(CannotStart, match="no directory"):
        started(threads, tmp_path / "nowhere" / "revoked")


def test_a_disk_that_is_full(tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node goes on, and the next change is kept."""

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    shared = started(threads, tmp_path / "revoked")
    with monkeypatch.context() as patched:
        patched.setattr(kept_revocations, "replace_file", full)
        shared.revoke(Meant.NAME, "a", "op")
        threads.hear()
    assert not (tmp_path / "revoked").exists()
    shared.revoke(Meant.NAME, "b", "op")
    threads.hear()
    assert len(started(threads, tmp_path / "revoked").revocations) == 2


def test_no_thread_to_be_had(tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is revoked is refused all the same, at this node and at others, and is in the file with the next change."""

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    shared = started(threads, tmp_path / "revoked")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        shared.revoke(Meant.AGENT, "agent-1", "op")
    assert shared.revocations.is_revoked(None, "agent-1")
    shared.revoke(Meant.NAME, "b", "op")
    threads.hear()
    assert started(threads, tmp_path / "revoked").revocations.is_revoked(None, "agent-1")

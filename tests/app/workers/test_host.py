"""A worker's place at its parent: back-off, signs of life, and who gets new connections. Time is a Clock."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pico_twisted.app.workers import runtime_dir
from pico_twisted.app.workers.process import HEALTHY_S, WorkerProcess
from pico_twisted.app.workers.reuseport_bpf import program, steer


class Reactor(Clock):
    """A Clock that listens nowhere."""

    def listenUNIXDatagram(self, path: str, protocol: Any, maxPacketSize: int, mode: int) -> Any:
        return SimpleNamespace(stopListening=lambda: None)


class Parent:
    """Notes what a worker asks of it."""

    def __init__(self) -> None:
        self.reactor: Any = Reactor()
        self.stopping = False
        self.again = True
        self.spawned: list[float] = []
        self.signals: list[object] = []
        self.changes: list[bool] = []
        self.wrote = ""
        self.worker = WorkerProcess(self, 0)
        self.no_process: OSError | None = None

    def socket_path(self, number: int) -> str:
        return "nowhere"

    def spawn(self, protocol: ProcessProtocol, number: int) -> Any:
        self.spawned.append(self.reactor.seconds())
        if self.no_process is not None:
            raise self.no_process
        return SimpleNamespace(signalProcess=self.signals.append, pid=1234)

    def worker_is_ready(self, number: int, pid: int) -> None:
        assert (number, pid) == (0, 1234)

    def worker_changed(self) -> None:
        self.changes.append(self.worker.takes)

    def worker_ended(self, number: int, status: str) -> bool:
        return self.again

    def worker_reloads(self) -> None:
        """Nothing here depends on it."""

    def worker_wrote(self, text: str) -> None:
        self.wrote += text

    # What happens

    def pass_s(self, seconds: float) -> None:
        """Let time pass, turn for turn."""
        for _ in range(round(seconds * 16)):
            self.reactor.advance(1 / 16)

    def live_s(self, seconds: float) -> None:
        """Let time pass with a sign of life each second."""
        for _ in range(round(seconds)):
            self.worker.told("WATCHDOG=1")
            self.pass_s(1)

    def end(self) -> None:
        """The process ends."""
        self.worker.processEnded(Failure(ProcessTerminated(signal=signal.SIGKILL)))


@pytest.fixture
def parent() -> Parent:
    """Its worker was started."""
    parent = Parent()
    parent.worker.start()
    return parent


def test_the_wait_doubles_up_to_a_bound(parent: Parent) -> None:
    """A worker that ends at once costs the host less and less."""
    for _ in range(9):
        parent.end()
        parent.pass_s(6)
    starts = [0.0, *(6.0 * at for at in range(9))]
    waited = [start - end for start, end in zip(parent.spawned[1:], starts[1:], strict=True)]
    assert waited == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], abs=1 / 16)


def test_a_minute_of_health_begins_the_wait_anew(parent: Parent) -> None:
    """A worker that dies once a day is back at once each time."""
    for _ in range(3):
        parent.end()
        parent.pass_s(1)
    parent.live_s(HEALTHY_S)
    at = parent.reactor.seconds()
    parent.end()
    parent.pass_s(1)
    assert parent.spawned[-1] - at == pytest.approx(0.1, abs=1 / 16)


def test_a_process_that_cannot_be_started_is_tried_again(parent: Parent) -> None:
    """No memory for a fork is no reason to do without the worker for ever."""
    parent.no_process = BlockingIOError(11, "Resource temporarily unavailable")
    parent.end()
    parent.pass_s(1)
    assert len(parent.spawned) > 2 and not parent.worker.running
    parent.no_process = None
    parent.pass_s(6)
    assert parent.worker.running


def test_none_is_started_when_all_end(parent: Parent) -> None:
    """A worker that dies while the host stops, or that waits for its next start then, stays away."""
    parent.end()
    parent.stopping = True
    parent.pass_s(6)
    assert len(parent.spawned) == 1
    parent.worker.cut()
    assert not parent.reactor.getDelayedCalls()


def test_a_silent_worker_gets_nothing_and_is_killed(parent: Parent) -> None:
    """First it gets no new connections, later SIGABRT, which has Python say where it hangs, and then SIGKILL."""
    parent.worker.told("READY=1")
    parent.live_s(20)
    assert parent.changes == [True] and parent.signals == []
    parent.pass_s(4)
    assert parent.changes == [True, False] and parent.signals == []
    parent.pass_s(5.5)
    assert parent.signals == [signal.SIGABRT]
    parent.pass_s(1)
    assert parent.signals == [signal.SIGABRT, signal.SIGKILL]
    parent.end()
    parent.pass_s(0.5)
    assert len(parent.spawned) == 2


def test_a_worker_that_speaks_again_gets_connections_again(parent: Parent) -> None:
    """A pause is not the end."""
    parent.worker.told("READY=1")
    parent.pass_s(5)
    parent.live_s(5)
    assert parent.changes == [True, False, True] and parent.signals == []


def test_a_slow_start_is_not_silence(parent: Parent) -> None:
    """Until its first sign of life a process may take its time, though not for ever."""
    parent.pass_s(30)
    assert parent.signals == []
    parent.pass_s(35)
    assert parent.signals == [signal.SIGABRT, signal.SIGKILL]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_waits_for_the_end_of_a_start(parent: Parent, number: int) -> None:
    """A process that is still starting would die of the signal for a reload, or of that for log files: it gets it once
    it is ready. The next process of the worker reads all anew, and gets none."""
    parent.worker.pass_on(number)
    assert parent.signals == []
    parent.end()
    parent.pass_s(1.0)
    parent.worker.told("READY=1")
    assert parent.signals == []
    parent.worker.pass_on(number)
    assert parent.signals == [number]
    parent.end()
    parent.pass_s(1.0)
    parent.worker.pass_on(number)
    parent.worker.told("READY=1")
    assert parent.signals == [number, number]


def test_a_parent_that_slept_judges_nobody(parent: Parent) -> None:
    """After a pause of the parent its timers come before the signs of life that waited meanwhile."""
    parent.worker.told("READY=1")
    parent.live_s(3)
    parent.reactor.advance(3600)
    parent.live_s(3)
    assert parent.changes == [True] and parent.signals == []


def test_a_worker_that_stops_gets_no_connections(parent: Parent) -> None:
    """One that was told to end drains, and is not sent clients meanwhile. What it says later changes nothing."""
    for line in ("READY=1", "STOPPING=1", "RELOADING=1", "READY=1"):
        parent.worker.told(line)
    assert parent.changes == [True, False]
    parent.worker.processEnded(Failure(ProcessDone(0)))
    parent.pass_s(0.5)
    assert len(parent.spawned) == 2


def test_lines_are_passed_on_whole(parent: Parent) -> None:
    """However the pipe cuts them."""
    for data, wrote in ((b"on", ""), (b"e\ntw", "one\n"), (b"o\n", "one\ntwo\n"), (b"a\nb\n", "one\ntwo\na\nb\n")):
        parent.worker.childDataReceived(2, data)
        assert parent.wrote == wrote


@pytest.mark.parametrize("numbers", [[0], [2], [1, 3], [0, 1, 3]])
def test_connections_go_to_the_sockets_that_are_named(numbers: list[int]) -> None:
    """The kernel gives new connections to no other ones; and to all again afterwards."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True, backlog=200) as first:
        port = first.getsockname()[1]
        others = [socket.create_server(("127.0.0.1", port), reuse_port=True, backlog=200) for _ in range(3)]
        sockets = [first, *others]
        for sock in sockets:
            sock.setblocking(False)
        steer(first, numbers, 4)
        assert _taken(sockets, port, 60) == set(numbers)
        steer(first, [0, 1, 2, 3], 4)
        assert _taken(sockets, port, 160) == {0, 1, 2, 3}
        for sock in others:
            sock.close()


def _taken(sockets: list[socket.socket], port: int, count: int) -> set[int]:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    taken = set()
    for number, sock in enumerate(sockets):
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            taken.add(number)
    for client in clients:
        client.close()
    return taken


def test_a_program_for_many_workers_fits() -> None:
    """The kernel takes programs of up to 4096 lines."""
    assert len(program(range(1000))) < 4096


def test_directories_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start removes what nobody holds, and nothing else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "pico-other").mkdir()
    held, abandoned = runtime_dir.RuntimeDir(), runtime_dir.RuntimeDir()
    Path(abandoned.path, "notify-0").touch()
    os.close(abandoned.descriptor)
    new = runtime_dir.RuntimeDir()
    assert {path.name for path in tmp_path.iterdir()} == {
        "pico-other",
        os.path.basename(held.path),
        os.path.basename(new.path),
    }
    assert os.stat(new.path).st_mode & 0o777 == 0o700
    for one in (held, new):
        one.remove()
        os.close(one.descriptor)
    assert [path.name for path in tmp_path.iterdir()] == ["pico-other"]

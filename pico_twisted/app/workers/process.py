"""One worker as its parent sees it: a place that a process has, and another after it.

A worker tells its parent what a daemon tells systemd: that it is ready, that it is alive, that it stops. A worker that
does not say that it is alive gets no new connections, and when that goes on it is killed: a hanging process holds
whatever was sent to it. Whether a sign of life is missing is found out by looking once a second, not by the clock: a
parent that stood still itself looks once when it goes on, and judges no worker by the time that it slept.
"""

from __future__ import annotations

import contextlib
import enum
import signal
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProcessTransport
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.core.backoff import Backoff

log = Logger()

FIRST_WAIT_S: Final = 0.1
"""Seconds before a worker is started again after its first end. The wait doubles with each further one."""
MAX_WAIT_S: Final = 5.0
"""Most seconds before a worker is started again."""
HEALTHY_S: Final = 60.0
"""Seconds of life after which a process that ended is followed after the first, short wait."""
LOOK_S: Final = 1.0
"""Seconds between two looks at a worker, which is to show signs of life that often."""
QUIET_LOOKS: Final = 3
"""Looks without a sign of life after which a worker gets no new connections."""
HANGING_LOOKS: Final = 10
"""Looks without a sign of life after which a worker is killed."""
STARTING_LOOKS: Final = 60
"""Looks without a first sign of life after which a worker is killed: a slow disk or name server may keep it busy."""
MAX_LINE_BYTES: Final = 1024 * 1024
"""Most bytes of a line that are kept until its end comes. Lines of our log are far shorter."""
MAX_NOTICE_BYTES: Final = 8192
"""Most bytes of one datagram in which a worker says how it is."""
KILL_S: Final = 1.0
"""Seconds that a hanging process gets between SIGABRT and SIGKILL, to say where it hangs."""


class Stage(enum.Enum):
    """What the process is up to."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Parent(Protocol):
    """What a worker needs of its parent."""

    reactor: IDaemonReactor

    @property
    def stopping(self) -> bool:
        """Whether all workers end."""

    def socket_path(self, number: int) -> str:
        """The path of the socket on which the worker tells how it is."""

    def spawn(self, protocol: ProcessProtocol, number: int) -> IProcessTransport:
        """Start a process; its transport."""

    def worker_is_ready(self, number: int, pid: int) -> None:
        """A worker has started."""

    def worker_changed(self) -> None:
        """A worker began or ceased to take connections."""

    def worker_ended(self, number: int, status: str) -> bool:
        """A process ended. Whether another one is to be started."""

    def worker_reloads(self) -> None:
        """A process reads the configuration again."""

    def worker_wrote(self, text: str) -> None:
        """A process wrote whole lines to a pipe of ours."""


class WorkerProcess(ProcessProtocol):
    """One worker, over all of its processes.

    Args:
        parent: of all workers.
        number: its own, from 0.
    """

    def __init__(self, parent: Parent, number: int) -> None:
        self.number = number
        self.stage = Stage.ABSENT
        self._parent = parent
        self._reactor = parent.reactor
        self._transport: IProcessTransport | None = None
        self._listener: IListeningPort | None = None
        self._backoff = Backoff(FIRST_WAIT_S, MAX_WAIT_S)
        self._started_s = 0.0
        self._spoke = False
        self._missed = 0
        self._line = b""
        self._when_ready: set[int] = set()
        self._timers: dict[Callable[[], None], IDelayedCall] = {}

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return self.stage is not Stage.ABSENT

    @property
    def ready(self) -> bool:
        """Whether it serves, as far as it has told."""
        return self.stage is Stage.READY

    @property
    def takes(self) -> bool:
        """Whether new connections should be given to it."""
        return self.ready and self._missed < QUIET_LOOKS

    def start(self) -> None:
        """Start a process, unless all end."""
        self._timers.pop(self.start, None)
        if self._parent.stopping:
            return
        if self._listener is None:
            self._listener = self._reactor.listenUNIXDatagram(
                self._parent.socket_path(self.number), _Notices(self), MAX_NOTICE_BYTES, 0o666
            )
        self._started_s = self._reactor.seconds()
        self._spoke = False
        self._missed = 0
        self._when_ready.clear()
        try:
            self._transport = self._parent.spawn(self, self.number)
        except OSError as error:  # no memory, too many processes
            self._ended(f"it cannot be started: {error}")
            return
        self.stage = Stage.STARTING
        self._later(LOOK_S, self._look)

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self.running and self._transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self._transport.signalProcess(number)

    def pass_on(self, number: int) -> None:
        """Send a signal that a process which is still starting would die of: it gets it when it is ready."""
        if self.stage is Stage.STARTING:
            self._when_ready.add(number)
        else:
            self.signal(number)

    def cut(self) -> None:
        """Kill the process, and start none. Idempotent."""
        self._cancel()
        self._kill()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stopListening()

    def told(self, line: str) -> None:
        """The worker tells something, as it would tell systemd."""
        if not self.running:
            return
        took = self.takes
        self._spoke = True
        self._missed = 0
        if line == "READY=1" and self.stage is Stage.STARTING:
            assert self._transport is not None  # whose process tells this
            self.stage = Stage.READY
            self._parent.worker_is_ready(self.number, self._transport.pid)
            for number in self._when_ready:
                self.signal(number)
        elif line == "RELOADING=1":
            self._parent.worker_reloads()
        elif line == "STOPPING=1":
            self.stage = Stage.STOPPING
        if self.takes is not took:
            self._parent.worker_changed()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """The worker wrote something, where it has no stderr of ours."""
        whole, newline, rest = (self._line + data).rpartition(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            whole, rest = whole + newline + rest, b""
            newline = b"\n"
        self._line = rest
        if newline:
            self._parent.worker_wrote((whole + newline).decode("utf-8", "backslashreplace"))

    def processEnded(self, reason: Failure) -> None:
        """Start another one, if it is to go on."""
        error: Any = reason.value  # ProcessDone or ProcessTerminated, which have no types
        self._ended(f"signal {error.signal}" if error.signal else f"status {error.exitCode}")

    def _ended(self, status: str) -> None:
        self._cancel()
        self.stage = Stage.ABSENT
        self._parent.worker_changed()
        if not self._parent.worker_ended(self.number, status):
            return
        if self._reactor.seconds() - self._started_s >= HEALTHY_S:
            self._backoff.reset()
        self._later(self._backoff.next_s(), self.start)

    # Signs of life

    def _look(self) -> None:
        took = self.takes
        self._missed += 1
        if self._missed >= (HANGING_LOOKS if self._spoke else STARTING_LOOKS):
            log.error("Worker {worker} shows no sign of life and is killed", worker=self.number)
            self.signal(signal.SIGABRT)
            self._later(KILL_S, self._kill)
            return
        self._later(LOOK_S, self._look)
        if self.takes is not took:
            log.warn("Worker {worker} is silent and gets no new connections", worker=self.number)
            self._parent.worker_changed()

    def _kill(self) -> None:
        self._timers.pop(self._kill, None)
        self.signal(signal.SIGKILL)

    def _later(self, after_s: float, work: Callable[[], None]) -> None:
        self._timers[work] = self._reactor.callLater(after_s, work)

    def _cancel(self) -> None:
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            if timer.active():
                timer.cancel()


class _Notices(DatagramProtocol):
    """Where a worker speaks as to systemd."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Lines of NAME=value."""
        for line in datagram.decode("utf-8", "replace").splitlines():
            self._worker.told(line)

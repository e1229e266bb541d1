"""What both daemons do with their process: signals, ordered stop, exit status.

twistd stops its services together and waits for none of them in turn, and a second signal does nothing to it. So a
daemon here is one service. The first SIGTERM or SIGINT stops the reactor, which waits for `stopService`: that runs
the drain, with `grace_period` as its deadline. A second signal, or the deadline, cuts what is left. SIGHUP reloads;
on a terminal it says that the terminal is gone, and is as good as SIGTERM.
SIGUSR1 opens the log files again, which SIGHUP does too. systemd is told of all that, if it listens.
"""

from __future__ import annotations

import atexit
import enum
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import FrameType
from typing import Generic

import attrs
from prometheus_client.core import CounterMetricFamily
from twisted.application.service import Service
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from pico_twisted.app.cli.banner import stop_line
from pico_twisted.app.cli.options import C, DaemonOptions
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor, spare_what_stays
from pico_twisted.app.process.reading import read_in_time
from pico_twisted.app.process.systemd import Notifier, notifier_from
from pico_twisted.app.process.watching import FileWatch, Read
from pico_twisted.config import ConfigFaults
from pico_twisted.config.certificates import certificate_warnings
from pico_twisted.config.changes import changes, in_force
from pico_twisted.net.admin.shapes.reload import Reloaded
from pico_twisted.net.observe.logs import Logging
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.socket.names import NameLookups

log = Logger()

CERTIFICATE_WARNING = "A certificate needs attention: {reason}"
"""The message of the log for each line of `certificate_warnings`."""
IGNORED = (signal.SIGUSR2, signal.SIGALRM)
"""Signals that mean nothing to a daemon and would end it: they may come from a recipe that was made for another."""
TERMINAL_STREAMS_S = 2.0
"""Most seconds that streams which nobody ends have at a stop on a terminal."""
POLL_S = 0.05
"""Seconds between two looks of a drain at whether it may go on."""


class _End(enum.Enum):
    """How far a daemon is on its way to its end."""

    NOT_YET = enum.auto()
    DRAINING = enum.auto()
    CUT = enum.auto()  # nothing is waited for any more


class Daemon(Service, Generic[C]):
    """A service that owns its process. Subclasses bind, serve, drain, cut and take a new configuration.

    Args:
        reactor: of the process.
        options: how twistd was called.
        grace_s: from the first signal to the end.
        logging: of the process.
    """

    def __init__(self, reactor: IDaemonReactor, options: DaemonOptions[C], grace_s: float, logging: Logging) -> None:
        self.reactor = reactor
        self.logging = logging
        self.options = options
        self.grace_s = grace_s
        self._end_stage = _End.NOT_YET
        self._status = 0
        self._last_reload = (time.time(), Reloaded())  # or the start, which has read it as well
        self._notifier = Notifier(reactor, self.ready_state, self.status_line)
        self._watches: list[FileWatch] = []
        self._old_handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    # What subclasses do

    def bind(self) -> None:
        """Take what may be taken only once, and only with privileges: ports, certificates. Raises `CannotStart`."""

    def make_ready(self) -> None:
        """Take what else is needed, as the user that the process runs as. Raises `CannotStart`."""

    def serve(self) -> None:
        """Everything is bound: begin."""

    async def drain(self) -> None:
        """Finish in order. Ends by itself; what it waits for ends it early when `cut_now` was called."""

    def cut(self) -> None:
        """Drop everything that is still open."""

    def prepare(self, config: C) -> Callable[[], Iterable[str]]:
        """Make ready to take what can change while running from a configuration that was read again. Runs in a thread.

        Returns:
            What takes it, which cannot fail, and says in words what that changed beside keys with one value.

        Raises:
            ConfigFaults: something in it cannot be taken; nothing has changed.
        """
        return tuple

    def ready_state(self) -> bool:
        """Whether systemd may take the start for done. Asked until it is true, from the reactor."""
        return True

    def status_line(self) -> str:
        """What the daemon does, in one line for people: systemd shows it."""
        return ""

    def in_progress(self) -> tuple[int, int]:
        """Requests in progress that end by themselves, and streams that do not."""
        return 0, 0

    def tell_status(self) -> None:
        """Tell systemd what has just changed, rather than a moment later."""
        self._notifier.status(self.status_line())

    def watch(self, names: Callable[[], Iterable[str]], read: Read) -> None:
        """Read files again when they change, from now on until the stop; arguments as of `FileWatch`."""
        self._watches.append(FileWatch(self.reactor, names, read))
        self._watches[-1].start()

    def count_in(self, metrics: Metrics) -> None:
        """Add what concerns the process to the metrics of the daemon."""
        lost = "Lines that could not be written: who reads the log stands still, or the disk is full."
        metrics.families(lambda: [CounterMetricFamily("pico_log_lines_lost", lost, value=self.logging.lost)])
        metrics.gauge("pico_time_seconds", "The clock of this machine, in seconds since 1970.", time.time)
        metrics.gauge(
            "pico_config_last_reload_success", "Whether the last reload was taken: 1, or 0.", self._reloaded_well
        )
        metrics.gauge(
            "pico_config_last_reload_timestamp_seconds",
            "When the configuration was last read, in seconds since 1970.",
            lambda: self._last_reload[0],
        )

    def _reloaded_well(self) -> float:
        return not self._last_reload[1].faults

    @property
    def attended(self) -> bool:
        """Whether somebody sits at the terminal that shows what we say. A daemon in the background has left it."""
        return self.logging.on_terminal and not self.options.background

    def patient(self, config: C) -> C:
        """The configuration, but that nobody at a terminal waits long for streams."""
        if not self.attended:
            return config
        return attrs.evolve(config, drain_streams=min(config.drain_streams, TERMINAL_STREAMS_S))

    @property
    def stopping(self) -> bool:
        """Whether the daemon is on its way to its end."""
        return self._end_stage is not _End.NOT_YET

    def reload(self, by: str) -> Reloaded:
        """Open the log files again, read the configuration again, and take all of it that takes no restart, or nothing.

        Args:
            by: who asks, for the log.

        Returns:
            What came of it. The log has that too.
        """
        self.reopen_logs()
        if self.stopping:
            return Reloaded(faults=(f"{self.options.command} stops",))
        with self._notifier.reloading():
            try:
                reloaded = self._reload()
            except ConfigFaults as error:
                reloaded = Reloaded(faults=tuple(map(str, error.faults)))
            except Exception:
                log.failure("The configuration could not be reloaded")
                reloaded = Reloaded(faults=("internal error; the log says more",))
        for fault in reloaded.faults:
            log.error("The configuration is not reloaded: {fault}", fault=fault, by=by)
        for warning in reloaded.warnings:
            log.warn(CERTIFICATE_WARNING, reason=warning)
        self._last_reload = (time.time(), reloaded)
        if not reloaded.faults:
            log.info("Configuration reloaded: {verdict}", verdict=reloaded.line(), by=by)
        return reloaded

    def _reload(self) -> Reloaded:
        def read() -> tuple[C, Callable[[], Iterable[str]], tuple[str, ...]]:
            config = self.options.reload()
            return config, self.prepare(config), tuple(certificate_warnings(config, datetime.now(UTC)))

        before = self.options.config
        after, take, warnings = read_in_time(read)
        found = list(changes(before, after))
        self.options.config = in_force(before, after)
        self.logging.set_level(after.log.level, after.log.subsystems)
        return Reloaded(
            changed=(*(change.words for change in found if change.live), *take()),
            needs_restart=tuple(change.path for change in found if not change.live),
            warnings=warnings,
        )

    def fail(self, message: str) -> None:
        """The daemon cannot go on: say why, stop in order, and end with status 1."""
        if self._status:
            return
        self._status = 1
        log.critical("The daemon ends: {reason}", reason=message)
        self._notifier.status(message)
        if not self.logging.on_console:
            self._say_fault(message)
        self._end()

    def _say_fault(self, message: str) -> None:
        lines = [f"{self.options.command}: {line}\n" for line in message.splitlines()]
        self.logging.say("".join(lines), "critical")

    def _exit(self) -> None:
        """All else is done: write the last lines. twistd ends with status 0 however its reactor ends."""
        self.logging.stop()
        if self._status:
            os._exit(self._status)

    # IService

    def setServiceParent(self, parent: object) -> None:
        """twistd gives us our application: our log takes the place of its own."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.logging.observer)

    def privilegedStartService(self) -> None:
        """Bind, as long as the process may take every port: twistd lays privileges down behind this. Or end with status
        1, and a line for each fault."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.logging.start()
        self.logging.await_banner()
        self.reactor.installNameResolver(NameLookups(self.reactor))
        atexit.register(self._exit)
        self._notifier = notifier_from(os.environ, os.getpid(), self.reactor, self.ready_state, self.status_line)
        self._or_end(self.bind)

    def startService(self) -> None:
        """Serve. The ports are bound."""
        super().startService()  # type: ignore[no-untyped-call]
        self._or_end(self.make_ready)
        self._catch_signals()
        self.reactor.callWhenRunning(self._catch_signals)
        self.reactor.callWhenRunning(self._notifier.start)
        self.reactor.callWhenRunning(spare_what_stays)
        self.serve()

    def _or_end(self, step: Callable[[], None]) -> None:
        """Take a step of the start, or end with status 1."""
        try:
            step()
        except CannotStart as error:
            self.cut()
            self._notifier.status(str(error))
            if not self.logging.on_console:
                log.critical("The daemon cannot start: {reason}", reason=str(error))
            if self.options.background:  # stderr is closed by now; twistd tells its caller of an exception
                sys.excepthook = lambda *details: None  # nor of the stack, which would go to the log line by line
                raise
            self._say_fault(str(error))
            raise SystemExit(1) from error

    def stopService(self) -> Deferred[None]:
        """Drain. The reactor waits for the result."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        told = not self._status or self.ready_state()  # the end of a start that failed has been told
        if self._end_stage is _End.NOT_YET:
            self._end_stage = _End.DRAINING
        self._notifier.stopping()
        self.logging.await_no_banner()
        if told:
            log.info("Stopping: requests in progress have {grace_s} s", grace_s=self.grace_s)
        if self.attended and any(self.in_progress()):
            self.logging.say(stop_line(*self.in_progress()))
        timer = self.reactor.callLater(self.grace_s, self._cut_now, "the grace period is over")
        try:
            await self.drain()
        except Exception:
            log.failure("The ordered stop failed")
        if timer.active():
            timer.cancel()
        self.cut()
        for watch in self._watches:
            watch.stop()
        self._release_signals()
        self._notifier.stop()
        if told:
            log.info("Stopped")
        self.logging.flush()

    async def until(self, reached: Callable[[], bool], within_s: float | None = None) -> bool:
        """Wait for a condition, until everything is cut, or for `within_s`. Returns whether it was reached."""
        end = None if within_s is None else self.reactor.seconds() + within_s
        while not reached():
            if self._end_stage is _End.CUT or (end is not None and self.reactor.seconds() >= end):
                return False
            await task.deferLater(self.reactor, POLL_S)
        return True

    def _cut_now(self, why: str) -> None:
        if self._end_stage is not _End.CUT:
            log.warn("Cutting what is left: {reason}", reason=why)
            self._end_stage = _End.CUT
            self.cut()

    def on_terminal(self, banner: Callable[[], str]) -> bool:
        """Print the one block for a person who started us on a terminal. Returns whether it stands in for the log."""
        if self.logging.on_terminal:
            self.logging.banner(banner())
        return self.logging.on_terminal and self.logging.on_console

    # Signals

    def _catch_signals(self) -> None:
        """Take the signals: before it is said that we are up, and again once the reactor has set its own."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *IGNORED):
            handler = signal.signal(number, self._signalled)
            if handler != self._signalled:
                self._old_handlers[number] = handler

    def _release_signals(self) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not self.attended:
            self.reactor.callFromThread(self.reload, "SIGHUP")
        elif number == signal.SIGUSR1:
            self.reactor.callFromThread(self.reopen_logs)
        elif number not in IGNORED:
            self.reactor.callFromThread(self._end)

    def reopen_logs(self) -> None:
        """Go on in the log files that have the names now: somebody has renamed the old ones."""
        self.logging.reopen()

    def _end(self) -> None:
        if self.stopping:
            self._cut_now("second signal")
            return
        try:
            self.reactor.stop()
        except ReactorNotRunning:
            self._cut_now("second signal")

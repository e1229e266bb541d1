"""Log lines: what is logged, where they go, and how the log is installed under twistd.

One line is one event, whatever it holds. A line of JSON has `time` (RFC 3339, UTC, milliseconds), `level`, `subsystem`,
`message`, and the plain fields of the event: text, numbers, booleans and None. A failure adds `traceback`. A line of
text has the same, less what `formats` leaves out. Nothing raised in here reaches the caller, and nothing waits; lines
that cannot be written are counted (`writer`).

**Levels.** `log.level` is the least severe level that is written. `log.subsystems` names subsystems that are
written at every level, `debug` included, whatever `log.level` says. The name of a subsystem is the module's without
`pico_twisted.` and without the layer `net.`: `proxy.channel`, `routing.cluster_service`, `agent.forwarder`, `app.node`.
A name covers what lies below it: `agent` covers `agent.forwarder`. Libraries go by their module names, such as
`autobahn` or `twisted.internet`. What a library says at level info ("Starting factory", "reactor class") matters to no
operator of Pico and counts as debug; its warnings and errors are kept.

**Secrets.** Values of fields whose names speak of tokens, cookies or passwords are hidden; so is what follows
`Authorization:`, `Cookie:` and `Bearer` in messages and tracebacks of libraries that print headers.

**Under twistd**, whose own log is text on stdout: twistd asks the application for its component `ILogObserver`
before it makes an observer of its own. So the daemon's service, when twistd gives it the application as its parent,
sets the observer of `log_under_twistd` there. There is never a second one, and what was logged before comes out too.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LoggingFile,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)

from pico_twisted.config.common import LogConfig
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.events import EventMemory
from pico_twisted.net.observe.formats import Place, chosen_format, line_maker, place_of, priority
from pico_twisted.net.observe.lines import OURS, LineObserver, Quieter
from pico_twisted.net.observe.writer import LineWriter, LogFile, Stream, descriptor_of

LAST_FLUSH_S: Final = 1.0
"""Seconds that a reader who does not keep up gets at the end of the process."""


class Logging:
    """The log of this process.

    Args:
        config: the `log` section of the configuration.
        target: where lines go.
        wall_clock: seconds of the Unix epoch.
        access_file: where access lines go, if not to `target`.
        console: the stderr of the process, where what is said to whoever starts it goes; None when there is nobody.
        journal_stream: systemd's `JOURNAL_STREAM`.

    Attributes:
        events: what was said lately, from the start on.
    """

    def __init__(
        self,
        config: LogConfig,
        target: Stream | LogFile,
        wall_clock: Callable[[], float] = time.time,
        *,
        access_file: LogFile | None = None,
        console: Stream | None = None,
        journal_stream: str = "",
    ) -> None:
        self._config = config
        self._wall_clock = wall_clock
        self._place = place_of(descriptor_of(target), journal_stream)
        render, self._render_own = (
            line_maker(chosen_format(config.format, self._place), self._place) for _ in ("here", "in threads")
        )
        self._writer = LineWriter(target, self._own_line)
        self._access_writer = self._writer
        if access_file is not None:
            self._access_writer = LineWriter(access_file, self._tell_of_access_file)
        self._console = self._writer
        self._console_place = self._place
        if console is not None and console is not target:
            self._console = LineWriter(console, _untold)
            self._console_place = place_of(descriptor_of(console), journal_stream)
        self._levels = LogLevelFilterPredicate()
        self._access: list[AccessLog] = []
        self._awaits_banner = False
        self.set_level(config.level, config.subsystems)
        self.events = EventMemory(wall_clock)
        predicates: list[ILogFilterPredicate] = [self._levels]
        self.observer: ILogObserver = Quieter(FilteringLogObserver(LineObserver(self.write, render), predicates))

    @property
    def on_terminal(self) -> bool:
        """Whether a person started us on a terminal."""
        return self._console_place is Place.TERMINAL

    @property
    def on_console(self) -> bool:
        """Whether lines go to the stderr of the process."""
        return self._console is self._writer

    @property
    def lost(self) -> int:
        """Lines that could not be written since the start."""
        return sum(writer.lost for writer in self._writers())

    def start(self) -> None:
        """Begin to write. To be called once the process stays what it is: behind a fork there are no threads."""
        globalLogPublisher.addObserver(self.events.observer)
        for writer in self._writers():
            writer.start()

    def write(self, text: str) -> None:
        """Write whole lines as they are."""
        self._writer.write(text)

    def say(self, text: str, level: str = "info") -> None:
        """Write lines to stderr for whoever started us, wherever the log goes."""
        self._console.write(priority(level, self._console_place) + text)

    def await_banner(self) -> None:
        """On a terminal, write only what is wrong until `banner`: the rest stands below it, or is told by it."""
        self._awaits_banner = self._place is Place.TERMINAL
        self.set_level(*self._wanted)

    def banner(self, text: str) -> None:
        """Say to the person who started us on a terminal what there is to know, and await it no more."""
        self.say(text)
        self.await_no_banner()

    def await_no_banner(self) -> None:
        """Log as configured from here on: the banner has come, or never will."""
        self._awaits_banner = False
        self.set_level(*self._wanted)

    def set_level(self, level: str, subsystems: Sequence[str] = ()) -> None:
        """Change what is logged; called at the start and for a reload.

        Args:
            level: debug, info, warn, error or critical.
            subsystems: those that are logged at every level.
        """
        self._wanted = level, subsystems
        held = self._awaits_banner and level == "info"
        self._levels.defaultLogLevel = LogLevel.warn if held else LogLevel.levelWithName(level)
        self._levels.clearLogLevels()
        for name in subsystems:
            for namespace in (name, f"{OURS}.{name}", f"{OURS}.net.{name}"):
                self._levels.setLogLevelForNamespace(namespace, LogLevel.debug)

    def access_log(self, enabled: bool = True, worker: int | None = None) -> AccessLog:
        """An access log that is written here, and flushed by `flush` and `stop`."""
        writer = self._access_writer
        place = self._place if writer is self._writer else Place.ELSEWHERE
        format = self._config.format if self._config.access_format == "auto" else self._config.access_format
        access = AccessLog(writer.write, format, enabled, self._wall_clock, worker, place)
        self._access.append(access)
        return access

    def flush(self) -> None:
        """Write the access lines. To be called some times a second."""
        for access in self._access:
            access.flush()

    def reopen(self) -> None:
        """Go on in the files that have the names of the log's now: somebody has renamed the old ones."""
        self.flush()
        for writer in self._writers():
            writer.reopen()

    def stop(self) -> None:
        """Write what is left, and log no more. Waits a moment for a reader who does not keep up. Idempotent."""
        self.flush()
        until = time.monotonic() + LAST_FLUSH_S
        for writer in self._writers():
            writer.close(max(0.0, until - time.monotonic()))
        for observer in (self.observer, self.events.observer):
            globalLogPublisher.removeObserver(observer)

    def _writers(self) -> set[LineWriter]:
        return {self._writer, self._access_writer, self._console}

    def _own_line(self, message: str, /, **fields: str | int) -> str:
        about = {"level": "warn", "subsystem": "observe.logs", "message": message, **fields}
        return self._render_own(self._wall_clock(), about, "")

    def _tell_of_access_file(self, message: str, /, **fields: str | int) -> str:
        """What goes wrong with the access log is told in the log: programs read the other."""
        self.write(self._own_line(message, file="access log", **fields))
        return ""


def log_under_twistd(config: LogConfig, options: Mapping[str, object], access_file: str = "") -> Logging:
    """The log of a daemon that twistd runs: where twistd would write its own, but stderr where that would be stdout.

    twistd takes the observer from the application, whose component `ILogObserver` the daemon's service sets; it starts
    it once the service is made, and stops it at the end. An operator's own `--logger` stays in charge.

    Args:
        config: the `log` section of the configuration.
        options: twistd's own options, parsed.
        access_file: the name of a file for access lines; empty when they go with the others.

    Raises:
        OSError: a file cannot be opened.
    """
    path = str(options.get("logfile") or "")
    console = real_stderr()
    target: Stream | LogFile = console
    if path == "-":
        target = sys.__stdout__ or console
    elif path or in_background(options):
        target = LogFile(path or "twistd.log")
    logging = Logging(
        config,
        target,
        access_file=LogFile(access_file) if access_file else None,
        console=console,
        journal_stream=os.environ.get("JOURNAL_STREAM", ""),
    )
    atexit.register(logging.stop)  # also when the daemon never starts: twistd may have said why
    return logging


def in_background(options: Mapping[str, object]) -> bool:
    """Whether twistd leaves the terminal; given its own options, parsed."""
    return "nodaemon" in options and not (options.get("nodaemon") or options.get("debug"))


def real_stderr() -> Stream:
    """The process's stderr, also when twistd has replaced `sys.stderr` by a stream that logs."""
    stream = sys.stderr
    if stream is None or isinstance(stream, LoggingFile):
        stream = sys.__stderr__
    return stream if stream is not None else _Nowhere()


def _untold(message: str, /, **fields: str | int) -> str:
    """What is lost of what is said to whoever started us is lost."""
    return ""


class _Nowhere:
    def write(self, text: str, /) -> object:
        return len(text)

    def flush(self) -> object:
        return None

"""Log lines on stderr: what is logged, how a line looks, and how to install it under twistd.

One line is one event, whatever it holds: JSON (the default), or text for people. A line has `time` (RFC 3339, UTC,
milliseconds), `level`, `subsystem`, `message`, and the plain fields of the event: text, numbers, booleans and None.
A failure adds `traceback`. Nothing raised in here reaches the caller; lines that cannot be written are counted.

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
from twisted.python.logfile import LogFile

from pico_twisted.config.common import LogConfig
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.lines import (
    OURS,
    LineObserver,
    LineWriter,
    Quieter,
    Stream,
    Timestamps,
    json_line,
    text_line,
)

LAST_FLUSH_S: Final = 1.0
"""Seconds that a slow reader of stderr gets at the end of the process."""


class Logging:
    """The log of this process.

    Args:
        config: the `log` section of the configuration.
        stream: where lines go.
        wall_clock: seconds of the Unix epoch.
    """

    def __init__(self, config: LogConfig, stream: Stream, wall_clock: Callable[[], float] = time.time) -> None:
        self._format = config.format
        self._wall_clock = wall_clock
        self._render = {"json": json_line, "text": text_line}[config.format]
        self._timestamps = Timestamps()
        self._writer = LineWriter(stream, self._about_lost)
        self._levels = LogLevelFilterPredicate()
        self._access: list[AccessLog] = []
        self.set_level(config.level, config.subsystems)
        predicates: list[ILogFilterPredicate] = [self._levels]
        self.observer: ILogObserver = Quieter(FilteringLogObserver(LineObserver(self.write, self._render), predicates))

    def write(self, text: str) -> None:
        """Write whole lines as they are; what an `AccessLog` is given."""
        self._writer.write(text)

    def set_level(self, level: str, subsystems: Sequence[str] = ()) -> None:
        """Change what is logged; called at the start and for a reload.

        Args:
            level: debug, info, warn, error or critical.
            subsystems: those that are logged at every level.
        """
        self._levels.defaultLogLevel = LogLevel.levelWithName(level)
        self._levels.clearLogLevels()
        for name in subsystems:
            for namespace in (name, f"{OURS}.{name}", f"{OURS}.net.{name}"):
                self._levels.setLogLevelForNamespace(namespace, LogLevel.debug)

    def access_log(self, enabled: bool = True, worker: int | None = None) -> AccessLog:
        """An access log that is written here, and flushed by `flush` and `stop`."""
        access = AccessLog(self.write, self._format, enabled, self._wall_clock, worker)
        self._access.append(access)
        return access

    def flush(self) -> None:
        """Write the access lines, and what waits for a slow reader. To be called some times a second."""
        for access in self._access:
            access.flush()
        self._writer.flush()

    def stop(self) -> None:
        """Write what is left, and log no more. Idempotent."""
        self.flush()
        self._writer.flush(LAST_FLUSH_S)
        globalLogPublisher.removeObserver(self.observer)

    def _about_lost(self, count: int) -> str:
        return self._render(
            {
                "time": self._timestamps.text(self._wall_clock()),
                "level": "warn",
                "subsystem": "observe.logs",
                "message": "log lines could not be written and are lost",
                "lost": count,
            }
        )


def log_under_twistd(config: LogConfig, options: Mapping[str, object]) -> Logging:
    """The log of a daemon that twistd runs: where twistd would write its own, but stderr where that would be stdout.

    twistd takes the observer from the application, whose component `ILogObserver` the daemon's service sets; it starts
    it once the service is made, and stops it at the end. An operator's own `--logger` stays in charge.

    Args:
        config: the `log` section of the configuration.
        options: twistd's own options, parsed.
    """
    path = str(options.get("logfile") or "")
    stream: Stream = real_stderr()
    if path == "-":
        stream = sys.__stdout__ or stream
    elif path or in_background(options):
        stream = LogFile.fromFullPath(path or "twistd.log")
    return Logging(config, stream)


def in_background(options: Mapping[str, object]) -> bool:
    """Whether twistd leaves the terminal; given its own options, parsed."""
    return "nodaemon" in options and not (options.get("nodaemon") or options.get("debug"))


def real_stderr() -> Stream:
    """The process's stderr, also when twistd has replaced `sys.stderr` by a stream that logs."""
    stream = sys.stderr
    if stream is None or isinstance(stream, LoggingFile):
        stream = sys.__stderr__
    return stream if stream is not None else _Nowhere()


class _Nowhere:
    def write(self, text: str, /) -> object:
        return len(text)

    def flush(self) -> object:
        return None

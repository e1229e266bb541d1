"""Log lines on stderr: what is logged, how a line looks, and how to install it under twistd.

One line is one event, whatever it holds: JSON (the default), or text for people. A line has `time` (RFC 3339, UTC,
milliseconds), `level`, `subsystem`, `message`, and the plain fields of the event: text, numbers, booleans and None.
A failure adds `traceback`. Nothing raised in here reaches the caller; lines that cannot be written are counted.

**Levels.** `log.level` is the least severe level that is written. `log.subsystems` names subsystems that are
written at every level, `debug` included, whatever `log.level` says. The name of a subsystem is the module's without
`pico_twisted.` and without the layer `net.`: `proxy`, `tunnel`, `agent.forwarder`, `app.node`. A name covers what
lies below it: `agent` covers `agent.forwarder`. Libraries go by their module names, such as `autobahn` or
`twisted.internet`. What a library says at level info ("Starting factory", "reactor class") matters to nobody who runs
Pico and counts as debug; its warnings and errors are kept.

**Secrets.** Values of fields whose names speak of tokens, cookies or passwords are hidden; so is what follows
`Authorization:`, `Cookie:` and `Bearer` in messages and tracebacks of libraries that print headers.

**Under twistd**, whose own log is text on stdout: twistd asks the application for its component `ILogObserver`
before it makes an observer of its own. So the daemon's service, when twistd gives it the application as its parent,
sets the observer of `log_under_twistd` there. There is never a second one, and what was logged before comes out too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import starmap
from typing import Any, Final, Protocol

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LoggingFile,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.logfile import LogFile

from pico_twisted.net.observe.lines import (
    MAX_FIELD_CHARS,
    OURS,
    LineObserver,
    LineWriter,
    Quieter,
    Stream,
    Timestamps,
    bounded,
    hide_query_secrets,
    json_line,
    text_line,
    text_value,
)

ACCESS_BUFFER_CHARS: Final = 64 * 1024
"""Access lines that wait for the next flush: one write for some two hundred requests, and what a crash may lose."""

LAST_FLUSH_S: Final = 1.0
"""What a slow reader of stderr gets at the end of the process."""

LINE_CHARS: Final = 320
"""What a line is taken to be long beside its target."""

_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii


class LogSettings(Protocol):
    """The `log` section of a configuration."""

    @property
    def level(self) -> str: ...

    @property
    def format(self) -> str: ...

    @property
    def subsystems(self) -> Sequence[str]: ...


class Logging:
    """The log of this process.

    Args:
        settings: the `log` section of the configuration.
        stream: where lines go.
        wall_clock: seconds of the Unix epoch.
    """

    def __init__(self, settings: LogSettings, stream: Stream, wall_clock: Callable[[], float] = time.time) -> None:
        self._format = settings.format
        self._wall_clock = wall_clock
        self._render = {"json": json_line, "text": text_line}[settings.format]
        self._timestamps = Timestamps()
        self._writer = LineWriter(stream, self._about_lost)
        self._levels = LogLevelFilterPredicate()
        self._access: list[AccessLog] = []
        self.set_level(settings.level, settings.subsystems)
        predicates: list[ILogFilterPredicate] = [self._levels]
        self.observer: ILogObserver = Quieter(FilteringLogObserver(LineObserver(self.write, self._render), predicates))

    @property
    def lost(self) -> int:
        """Lines lost since one could be written."""
        return self._writer.lost

    def write(self, text: str) -> None:
        """Write whole lines as they are; what an `AccessLog` is given."""
        self._writer.write(text)

    def set_level(self, level: str, subsystems: Sequence[str] = ()) -> None:
        """Change what is logged; called at the start and on SIGHUP.

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

    def start(self) -> None:
        """Log all of this process here. Under twistd the application's component does that."""
        globalLogBeginner.beginLoggingTo([self.observer], redirectStandardIO=False)

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
                "subsystem": "logs",
                "message": "log lines could not be written and are lost",
                "lost": count,
            }
        )


def start_logging(settings: LogSettings, stream: Stream | None = None) -> Logging:
    """Log this process's events from now on, those included that were logged before.

    Args:
        settings: the `log` section of the configuration.
        stream: where lines go; the process's stderr when None.
    """
    logging = Logging(settings, stream if stream is not None else real_stderr())
    logging.start()
    return logging


def log_under_twistd(settings: LogSettings, options: Mapping[str, Any]) -> Logging:
    """The log of a daemon that twistd runs: where twistd would write its own, but stderr where that would be stdout.

    twistd takes the observer from the application, whose component `ILogObserver` the daemon's service sets; it starts
    it once the service is made, and stops it at the end. An operator's own `--logger` stays in charge.

    Args:
        settings: the `log` section of the configuration.
        options: twistd's own options, parsed.
    """
    path = options.get("logfile") or ""
    stream: Stream = real_stderr()
    if path == "-":
        stream = sys.__stdout__ or stream
    elif path or in_background(options):
        stream = LogFile.fromFullPath(path or "twistd.log")
    return Logging(settings, stream)


def in_background(options: Mapping[str, Any]) -> bool:
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


class AccessLog:
    """A line for each request, of the subsystem `access`.

    Requests are many and their lines all alike, so they do not pass through the logger: what is known of each is kept,
    and `flush` puts the lines together from quoted values and writes them with one call. Many lines in a row cost half
    of what they do one by one, between all else that a request is. `proxy.access_log` alone decides whether they are
    written; `log.level` does not.

    Args:
        stream_write: takes whole lines; `Logging.write`.
        format: `json` or `text`.
        enabled: whether lines are made at all; may be changed later.
        wall_clock: seconds of the Unix epoch.
        worker: the number of the worker that speaks, on a host with several.
    """

    def __init__(
        self,
        stream_write: Callable[[str], object],
        format: str = "json",
        enabled: bool = True,
        wall_clock: Callable[[], float] = time.time,
        worker: int | None = None,
    ) -> None:
        if worker is None:
            self._end = "}\n" if format == "json" else "\n"
        else:
            self._end = f',"worker":{worker}}}\n' if format == "json" else f" worker={worker}\n"
        self.enabled = enabled
        self._write = stream_write
        self._json = format == "json"
        self._wall_clock = wall_clock
        self._timestamps = Timestamps()
        self._waiting: list[tuple[Any, ...]] = []  # the arguments of `_line`
        self._chars = 0

    def request(
        self,
        *,
        client: str,
        method: bytes,
        target: bytes,
        endpoint: str,
        upstream: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        first_byte_s: float | None,
        duration_s: float,
        request_id: str,
        error: str = "",
    ) -> None:
        """Log a request that is over, also one that failed before it was routed.

        Args:
            client: the address that it came from.
            method: as received; may be empty when there was no request line.
            target: path and query, as received; values of parameters that look like credentials are hidden.
            endpoint: the endpoint ID, empty when none was found.
            upstream: which agent or node served it, empty when none did.
            status: what the client got; 499 when it went away first.
            bytes_in: bytes of the request's body.
            bytes_out: bytes of the answer's body.
            first_byte_s: seconds until the answer began; None when it did not.
            duration_s: seconds from the first byte of the head to the end.
            request_id: the `x-request-id` that it went on with.
            error: the code of an error that Pico made, empty when it made none.
        """
        if not self.enabled:
            return
        self._waiting.append(
            (
                self._wall_clock(),
                client,
                method,
                target,
                endpoint,
                upstream,
                status,
                bytes_in,
                bytes_out,
                first_byte_s,
                duration_s,
                request_id,
                error,
            )
        )
        self._chars += LINE_CHARS + len(target)
        if self._chars >= ACCESS_BUFFER_CHARS:
            self.flush()

    def _line(
        self,
        now: float,
        client: str,
        method: bytes,
        target: bytes,
        endpoint: str,
        upstream: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        first_byte_s: float | None,
        duration_s: float,
        request_id: str,
        error: str,
    ) -> str:
        target_text = target.decode("ascii", "backslashreplace")
        if len(target_text) > MAX_FIELD_CHARS:
            target_text = bounded(target_text)
        if "?" in target_text:
            target_text = hide_query_secrets(target_text)
        stamp = self._timestamps.text(now)
        method_text = method.decode("ascii", "backslashreplace")
        if self._json:
            first = "null" if first_byte_s is None else f"{first_byte_s:.6f}"
            line = (
                f'{{"time":"{stamp}","level":"info","subsystem":"access","message":"request","client":{_quote(client)},'
                f'"method":{_quote(method_text)},"target":{_quote(target_text)},"endpoint":{_quote(endpoint)},'
                f'"upstream":{_quote(upstream)},"status":{status},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
                f'"first_byte_s":{first},"duration_s":{duration_s:.6f},"request_id":{_quote(request_id)},'
                f'"error":{_quote(error)}{self._end}'
            )
            if "\x7f" in line:
                line = line.replace("\x7f", "\\u007f")
        else:
            first = "-" if first_byte_s is None else f"{first_byte_s:.6f}"
            line = (
                f"{stamp} info     access: {text_value(method_text)} {text_value(target_text)} status={status} "
                f"client={text_value(client)} endpoint={text_value(endpoint)} upstream={text_value(upstream)} "
                f"bytes_in={bytes_in} bytes_out={bytes_out} first_byte_s={first} duration_s={duration_s:.6f} "
                f"request_id={text_value(request_id)} error={text_value(error)}{self._end}"
            )
        return line

    def flush(self) -> None:
        """Write what is kept. Called by the sweep several times a second, and at the end."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._chars = 0
            self._write("".join(starmap(self._line, waiting)))

"""How an event becomes a line, and how a line is written.

An event may hold anything, a peer's words among it. So a line is bounded and stays one line whatever is in it, values
that look like credentials are hidden, and neither making nor writing it ever raises.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.text import escaped

HIDDEN: Final = "(hidden)"
"""What is written in place of a credential."""

MAX_FIELD_CHARS: Final = 8 * 1024
"""Most characters of a message or a field: a peer's words may be in it, and a line must stay readable."""

MAX_TRACEBACK_CHARS: Final = 32 * 1024
"""Most characters of a traceback."""

MAX_PENDING_BYTES: Final = 1024 * 1024
"""Most bytes that wait for a reader of a non-blocking stderr that does not keep up; more is lost, and counted."""

OURS: Final = "pico_twisted"
"""Namespace of our own loggers."""

_STDIO: Final = frozenset(("stdout", "stderr"))
_RESERVED: Final = frozenset(("time", "level", "subsystem", "message", "traceback"))
_SHOWN_BARE: Final = frozenset(("time", "level", "subsystem", "message"))
_LEGACY: Final = frozenset(("message", "time", "system", "format", "isError", "failure", "why", "logLevel"))
_LEVEL: Final = type(LogLevel.info)
_NOISE: Final = ("Starting factory", "Stopping factory", "Warning: primary log target selected twice")

# Peers can bring text before these patterns: none may take more than linear time.
_SECRET_NAME: Final = re.compile(
    r"token|secret|passw|authori[sz]ation|cookie|credential|private[-_]?key|api[-_]?key|signature|jwt", re.IGNORECASE
)
_HARMLESS_NAME: Final = re.compile(r"_(?:file|path|count)\Z")
_SECRET_HEADER: Final = re.compile(
    r"""((?:authorization|cookie2?)(?:\\?['"]\s*[:=,]|\s*[:=])\s*)(?:[\[(]?b?(['"]).*?\2|[^\r\n]+)""", re.IGNORECASE
)
_SECRET_SCHEME: Final = re.compile(r"\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)


class Stream(Protocol):
    """Where lines go: a text file. One with a descriptor is written to directly, without Python's buffer."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Timestamps:
    """RFC 3339 in UTC with milliseconds. The part down to the second is kept, since most lines share it."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        """The text for a time in seconds of the Unix epoch."""
        second = int(now)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{int((now - second) * 1000):03d}Z"


class LineWriter:
    """Writes whole lines and never raises.

    A reader that went away (EPIPE) or a full disk must not stop a proxy. What cannot be written is lost; once lines can
    be written again, one says how many were. A line that was written in part is ended, so that the next stays whole.
    What a non-blocking stream does not take at once waits for the next call. Into a pipe lines go in pieces that the
    kernel takes whole, so that those of several processes do not end up in each other.

    Args:
        stream: where lines go.
        about_lost: makes the line that says how many were lost.
    """

    def __init__(self, stream: Stream, about_lost: Callable[[int], str]) -> None:
        self._stream = stream
        self._about_lost = about_lost
        self._lock = threading.Lock()
        self._pending = b""
        self._torn = False
        self._lost = 0
        try:
            self._descriptor: int | None = stream.fileno()  # type: ignore[attr-defined]
        except (AttributeError, OSError, ValueError):
            self._descriptor = None
        # Several processes may write to one pipe, as the workers of a host do. A file takes any write whole.
        self._shared = not _is_file(self._descriptor)

    @property
    def lost(self) -> int:
        """Lines lost since one could be written."""
        return self._lost

    def write(self, text: str) -> None:
        """Write one or more whole lines, each ended by a newline."""
        with self._lock:
            before = self._lost
            if before:
                text = self._about_lost(before) + text
            lines = text.count("\n")
            lost = self._put(text)
            if before and lost >= lines:
                lost += before - 1  # the line about those lost before is lost too, and is none of them
            self._lost = lost

    def flush(self, timeout_s: float = 0.0) -> None:
        """Write what is waiting.

        Args:
            timeout_s: how long the reader may take to make room; at the end of a process it gets a moment.
        """
        with self._lock:
            if self._descriptor is None:
                return
            until = time.monotonic() + timeout_s
            while self._pending:
                self._lost += self._drain(self._descriptor)
                left = until - time.monotonic()
                if left <= 0 or not self._pending:
                    return
                select.select((), (self._descriptor,), (), left)

    def _put(self, text: str) -> int:
        """Write the text, or keep it. Returns how many lines were lost."""
        if self._descriptor is None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                return text.count("\n")
            return 0
        data = text.encode("utf-8", "backslashreplace")
        lost = 0
        if len(self._pending) + len(data) > MAX_PENDING_BYTES:
            lost = self._drain(self._descriptor)
            if self._pending:
                return lost + data.count(b"\n")
        self._pending += data
        return lost + self._drain(self._descriptor)

    def _drain(self, descriptor: int) -> int:
        """Write what is pending, as far as that goes. Returns how many lines were lost: all the rest, or none."""
        data, at = self._pending, 0
        try:
            if self._torn and data:
                os.write(descriptor, b"\n")
                self._torn = False
            while at < len(data):
                at += os.write(descriptor, data[at : self._end_of_piece(data, at)])
        except BlockingIOError:
            pass
        except OSError:
            lost = data.count(b"\n", at)
            # A part of the first of these lines may have been written.
            self._torn = True
            at = len(data)
            return lost
        finally:
            self._pending = data[at:]
        return 0

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """Where the next write ends: as many whole lines as a pipe takes in one piece, or one line that is longer."""
        if not self._shared or len(data) - at <= select.PIPE_BUF:
            return len(data)
        return data.rfind(b"\n", at, at + select.PIPE_BUF) + 1 or data.find(b"\n", at) + 1 or len(data)


def _is_file(descriptor: int | None) -> bool:
    try:
        return descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def subsystem_of(namespace: str) -> str:
    """The name of the subsystem that a logger's namespace belongs to."""
    for prefix in (f"{OURS}.net.", f"{OURS}."):
        if namespace.startswith(prefix):
            return namespace[len(prefix) :]
    return "twisted" if namespace in ("log_legacy", "") else namespace


def hide_secrets(text: str) -> str:
    """The text without credentials that libraries may have put into it."""
    return _SECRET_SCHEME.sub(rf"\1 {HIDDEN}", _SECRET_HEADER.sub(rf"\1{HIDDEN}", text))


def hide_query_secrets(target: str) -> str:
    """A request target without the values of parameters whose names speak of credentials."""
    path, _, query = target.partition("?")
    if not _SECRET_NAME.search(query):
        return target
    shown = []
    for parameter in query.split("&"):
        name, equals, value = parameter.partition("=")
        shown.append(f"{name}={HIDDEN}" if value and _SECRET_NAME.search(name) else name + equals + value)
    return f"{path}?{'&'.join(shown)}"


def bounded(text: str, limit: int = MAX_FIELD_CHARS) -> str:
    """The text, cut when it is too long."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def text_value(value: object) -> str:
    """A value as it stands behind `name=`: quoted when it would not be seen as one word."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    if text and text.isprintable() and not any(char in text for char in ' "='):
        return text
    return '"' + escaped(text.replace("\\", "\\\\")).replace('"', '\\"') + '"'


def json_line(fields: dict[str, object]) -> str:
    """One line with a JSON object, in ASCII."""
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"


def text_line(fields: dict[str, object]) -> str:
    """One line for people: time, level, subsystem, message, then `name=value` for the rest."""
    named = ((name, value) for name, value in fields.items() if name not in _SHOWN_BARE)
    rest = "".join(f" {escaped(name)}={text_value(value)}" for name, value in named)
    message = escaped(str(fields["message"]))
    return f"{fields['time']} {fields['level']:<8} {escaped(str(fields['subsystem']))}: {message}{rest}\n"


@implementer(ILogObserver)
class LineObserver:
    """Turns an event into a line and writes it.

    Args:
        write: takes the finished line.
        render: `json_line` or `text_line`.
    """

    def __init__(self, write: Callable[[str], None], render: Callable[[dict[str, object]], str]) -> None:
        self._write = write
        self._render = render
        self._timestamps = Timestamps()

    def __call__(self, event: LogEvent) -> None:
        try:
            line = self._render(self._fields(event))
        except Exception as error:
            # An object that cannot be shown must not stop the program; that it could not is worth a line.
            namespace = event.get("log_namespace")
            line = self._render(
                {
                    "time": self._timestamps.text(time.time()),
                    "level": "error",
                    "subsystem": "observe.lines",
                    "message": f"an event could not be logged: {type(error).__name__}",
                    "origin": namespace if isinstance(namespace, str) else None,
                }
            )
        self._write(line)

    def _fields(self, event: LogEvent) -> dict[str, object]:
        namespace = str(event.get("log_namespace") or "")
        legacy = namespace == "log_legacy"
        level = event.get("log_level") or LogLevel.info
        if legacy and level is LogLevel.critical:
            level = LogLevel.error  # all that the old interface knows is whether it was an error
        # An event of the old interface has no fields of its own; what it says is made of the event as it is.
        fields, hidden = ({}, {}) if legacy else _plain_fields(event)
        failure = event.get("log_failure") or (event.get("failure") if legacy else None)
        if not isinstance(failure, Failure):
            failure = None
        message = _message({**event, **hidden} if hidden else event, failure, legacy)
        line: dict[str, object] = {
            "time": self._timestamps.text(event.get("log_time") or time.time()),
            "level": level.name,
            "subsystem": subsystem_of(namespace),
            "message": hide_secrets(bounded(message)),
            **fields,
        }
        if failure is not None:
            line["traceback"] = hide_secrets(bounded(failure.getTraceback(), MAX_TRACEBACK_CHARS))
        return line


def _plain_fields(event: LogEvent) -> tuple[dict[str, object], dict[str, str]]:
    """The fields of an event that have plain values, and which of them are hidden."""
    fields: dict[str, object] = {}
    hidden: dict[str, str] = {}
    # An observer of the old interface, when there is one, adds its own keys to the event.
    bridged = "log_legacy" in event
    for name, value in event.items():
        if name.startswith("log_") or (bridged and name in _LEGACY):
            continue
        if value is None or isinstance(value, (str, int, float)):
            if isinstance(value, str) and _SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name):
                value = hidden[name] = HIDDEN
            fields[f"{name}_" if name in _RESERVED else name] = _plain(value)
    return fields, hidden


def _plain(value: str | float | None) -> object:
    if isinstance(value, str):
        return hide_secrets(bounded(str(value)))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _message(event: LogEvent, failure: Failure | None, legacy: bool) -> str:
    if legacy and failure is not None:
        # The text of such an event holds the whole traceback, which has a field of its own.
        return str(event.get("why") or "unhandled error")
    text = formatEvent(event).strip()
    if not text and failure is not None:
        return f"{failure.type.__name__ if failure.type else 'failure'}: {failure.getErrorMessage()}"
    return text


@implementer(ILogObserver)
class Quieter:
    """Passes events on, with what libraries say at level info turned into debug.

    An event without a proper level or namespace, which Twisted's filter would drop or stumble over, gets one.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        namespace = event.get("log_namespace")
        if not isinstance(level, _LEVEL) or not isinstance(namespace, str) or not namespace:
            level = level if isinstance(level, _LEVEL) else LogLevel.info
            namespace = "log_legacy"
            event = {**event, "log_level": level, "log_namespace": namespace}
        if level is LogLevel.info or level is LogLevel.warn:
            said = event.get("log_format")
            noise = isinstance(said, str) and said.startswith(_NOISE)
            ours = namespace == OURS or namespace.startswith(f"{OURS}.") or namespace in _STDIO
            if noise or (level is LogLevel.info and not ours):
                event = {**event, "log_level": LogLevel.debug}
        self._observer(event)

"""What of an event goes into its line.

An event may hold anything, a peer's words among it. So a line is bounded and stays one line whatever is in it, values
that look like credentials are hidden, and making it never raises.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.access.credentials_file import TOKEN_PREFIX
from pico_twisted.core.secret_names import HIDDEN, SECRET_NAME
from pico_twisted.net.observe.formats import Render
from pico_twisted.net.observe.repeated_warning import RepeatedWarning

MAX_FIELD_CHARS: Final = 8 * 1024
"""Most characters of a message or a field: a peer's words may be in it, and a line must stay readable."""

MAX_TRACEBACK_CHARS: Final = 32 * 1024
"""Most characters of a traceback."""

OURS: Final = "pico_twisted"
"""Namespace of our own loggers."""

NO_DESCRIPTORS: Final = "No descriptors are left: new connections are closed (LimitNOFILE of the unit)"
"""The warning of a process that has as many files open as it may."""

_STDIO: Final = frozenset(("stdout", "stderr"))
_RESERVED: Final = frozenset(("time", "level", "subsystem", "message", "traceback"))
_LEGACY: Final = frozenset(("message", "time", "system", "format", "isError", "failure", "why", "logLevel"))
_LEVEL: Final = type(LogLevel.info)
_NO_DESCRIPTORS: Final = ("EMFILE", "ENFILE")
_NOISE: Final = ("Starting factory", "Stopping factory", "Warning: primary log target selected twice")

# Peers can bring text before these patterns: none may take more than linear time.
_HARMLESS_NAME: Final = re.compile(r"_(?:file|path|count)\Z")
_SECRET_HEADER: Final = re.compile(
    r"""((?:authorization|cookie2?)(?:\\?['"]\s*[:=,]|\s*[:=])\s*)(?:[\[(]?b?(['"]).*?\2|[^\r\n]+)""", re.IGNORECASE
)
_SECRET_SCHEME: Final = re.compile(r"\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)

_OWN_TOKEN: Final = re.compile(TOKEN_PREFIX + "[0-9a-f]{64}")


def subsystem_of(namespace: str) -> str:
    """The name of the subsystem that a logger's namespace belongs to."""
    for prefix in (f"{OURS}.net.", f"{OURS}."):
        if namespace.startswith(prefix):
            return namespace[len(prefix) :]
    return "twisted" if namespace in ("log_legacy", "") else namespace


def hide_secrets(text: str) -> str:
    """The text without credentials that libraries may have put into it."""
    return _OWN_TOKEN.sub(HIDDEN, _SECRET_SCHEME.sub(rf"\1 {HIDDEN}", _SECRET_HEADER.sub(rf"\1{HIDDEN}", text)))


def bounded(text: str, limit: int = MAX_FIELD_CHARS) -> str:
    """The text, cut when it is too long."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


@implementer(ILogObserver)
class LineObserver:
    """Turns an event into a line and writes it.

    Args:
        write: takes the finished line.
        render: makes the line of the event's fields.
    """

    def __init__(self, write: Callable[[str], None], render: Render) -> None:
        self._write = write
        self._render = render

    def __call__(self, event: LogEvent) -> None:
        said = event.get("log_format")
        at, fields = facts_of(event)
        try:
            line = self._render(at, fields, said if isinstance(said, str) else "")
        except Exception as error:
            line = self._render(time.time(), _unshown(event, error), "")
        self._write(line)


def facts_of(event: LogEvent) -> tuple[float, dict[str, object]]:
    """What is told of an event: when it was, in seconds since 1970, and its fields, the message among them.

    An object that cannot be shown must not stop the program: that it could not is told in its place.
    """
    try:
        return event.get("log_time") or time.time(), _fields(event)
    except Exception as error:
        return time.time(), _unshown(event, error)


def _unshown(event: LogEvent, error: Exception) -> dict[str, object]:
    namespace = event.get("log_namespace")
    return {
        "level": "error",
        "subsystem": "observe.lines",
        "message": f"an event could not be logged: {type(error).__name__}",
        "origin": namespace if isinstance(namespace, str) else None,
    }


def _fields(event: LogEvent) -> dict[str, object]:
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
            if isinstance(value, str) and SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name):
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

    An event without a proper level or namespace, which Twisted's filter would drop or stumble over, gets one. And one
    thing that Twisted says at level info is a warning, now and then: that connections are closed since no descriptor is
    left. Nothing else could tell, since the admin port takes no connection then, either.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer
        self._closing = RepeatedWarning()

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
            if _lacks_descriptors(event):
                suppressed = self._closing.due("", event.get("log_time") or time.time())
                told = LogLevel.debug if suppressed is None else LogLevel.warn
                event = {**event, "log_level": told, "log_format": NO_DESCRIPTORS, "suppressed": suppressed or 0}
            elif noise or (level is LogLevel.info and not ours):
                event = {**event, "log_level": LogLevel.debug}
        self._observer(event)


def _lacks_descriptors(event: LogEvent) -> bool:
    """Whether Twisted says that it could not accept since no descriptor is left, of the process or of the machine."""
    said = event.get("log_format")
    began = isinstance(said, str) and said.startswith("EMFILE encountered")
    return began or event.get("acceptError") in _NO_DESCRIPTORS

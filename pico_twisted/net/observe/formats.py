"""How a line looks where it goes: JSON for programs, text for people, with less of it where somebody else adds it.

journald keeps the time and the level of each line itself: it takes the level from a number in front, as the kernel's
log has it (sd-daemon(3)), and a time in the line would stand there twice. On a terminal the date is known, and a line
has to fit; so it gets the time of day, and the level only when it is not `info`.
"""

from __future__ import annotations

import enum
import functools
import json
import os
import string
import time
from collections.abc import Callable, Mapping
from typing import Final

from pico_twisted.core.text import escaped

REPEATED_CHARS: Final = 8
"""Characters from which a field is left out of a line of text when the message has them already: a short one may only
look like a part of it."""

_PRIORITIES: Final = {"debug": "<7>", "info": "<6>", "warn": "<4>", "error": "<3>", "critical": "<2>"}
_MANY_FORMATS: Final = 1024

Render = Callable[[float, Mapping[str, object], str], str]
"""Makes a line of a time, of fields that begin with level, subsystem and message, and of the format of the message."""


class Place(enum.Enum):
    """Where lines go, as far as it matters to how they look."""

    TERMINAL = enum.auto()
    JOURNAL = enum.auto()
    ELSEWHERE = enum.auto()


def place_of(descriptor: int | None, journal_stream: str) -> Place:
    """Where a descriptor leads.

    Args:
        descriptor: what is written to; None for a stream that has none.
        journal_stream: systemd's `JOURNAL_STREAM`: device and inode of what it gave as stderr. Programs that were
            started by ours inherit it, but perhaps not the descriptor.
    """
    if descriptor is None:
        return Place.ELSEWHERE
    try:
        if os.isatty(descriptor):
            return Place.TERMINAL
        status = os.fstat(descriptor)
    except OSError:
        return Place.ELSEWHERE
    return Place.JOURNAL if journal_stream == f"{status.st_dev}:{status.st_ino}" else Place.ELSEWHERE


def chosen_format(format: str, place: Place) -> str:
    """What `auto` means there: `text` where people read, else `json`. Another format stays what it is."""
    if format != "auto":
        return format
    return "json" if place is Place.ELSEWHERE else "text"


def priority(level: str, place: Place) -> str:
    """What stands in front of a line for journald; nothing elsewhere."""
    return _PRIORITIES.get(level, "<6>") if place is Place.JOURNAL else ""


class Timestamps:
    """Times as text: RFC 3339 in UTC with milliseconds. The part that most lines share is kept."""

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


def time_of_day(now: float) -> str:
    """The local time of day of a time in seconds of the Unix epoch."""
    return time.strftime("%H:%M:%S", time.localtime(now))


def text_value(value: object) -> str:
    """A value as it stands behind `name=`: quoted when it would not be seen as one word."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    if text and text.isprintable() and not any(char in text for char in ' "='):
        return text
    return '"' + escaped(text.replace("\\", "\\\\")).replace('"', '\\"') + '"'


def line_maker(format: str, place: Place) -> Render:
    """What makes the lines of a log.

    Args:
        format: `json` or `text`.
        place: where they go.
    """
    timestamps = Timestamps()

    def json_line(at: float, fields: Mapping[str, object], said: str) -> str:
        text = json.dumps({"time": timestamps.text(at), **fields}, separators=(",", ":")).replace("\x7f", "\\u007f")
        return f"{priority(str(fields['level']), place)}{text}\n"

    def text_line(at: float, fields: Mapping[str, object], said: str) -> str:
        level, subsystem = str(fields["level"]), escaped(str(fields["subsystem"]))
        if place is Place.TERMINAL:
            shown = {"info": "", "debug": f"debug {subsystem}: "}.get(level, f"{level}: ")
            start = f"{time_of_day(at)}  {shown}"
        elif place is Place.JOURNAL:
            start = f"{priority(level, place)}{subsystem}: "
        else:
            start = f"{timestamps.text(at)} {level:<8} {subsystem}: "
        return f"{start}{escaped(str(fields['message']))}{untold_fields(fields, said)}\n"

    return json_line if format == "json" else text_line


def untold_fields(fields: Mapping[str, object], said: str) -> str:
    """The fields that the message does not tell."""
    message = str(fields["message"])
    told = _named(said)
    rest = []
    for name, value in fields.items():
        if name in ("level", "subsystem", "message") or name in told:
            continue
        if isinstance(value, str) and len(value) >= REPEATED_CHARS and value in message:
            continue
        rest.append(f" {escaped(name)}={text_value(value)}")
    return "".join(rest)


@functools.lru_cache(_MANY_FORMATS)
def _named(said: str) -> frozenset[str]:
    """The names of the fields in a format."""
    try:
        return frozenset(name for _, name, _, _ in string.Formatter().parse(said) if name)
    except ValueError:
        return frozenset()

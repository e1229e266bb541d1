"""What a run tells: to a person on a terminal, to a program in lines of JSON, or the URL alone."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import attrs

from pico_twisted.core.text import escaped, milliseconds, span
from pico_twisted.expose.lines import (
    INDENT,
    Layout,
    closed_line,
    opened_line,
    request_lines,
    stream_kind,
    target_text,
    wrapped,
)
from pico_twisted.expose.plan import Shown
from pico_twisted.net.observe.access_log import LoggedRequest
from pico_twisted.net.observe.writer import LineWriter

CLOSE_S: Final = 1.0
"""Seconds that a reader of the output gets at the end to take the last lines."""


@attrs.frozen(kw_only=True)
class Place:
    """Where something is reached.

    Attributes:
        endpoint: its ID.
        service: what is reached there, for people.
        url: where; empty when no URL leads there.
        otherwise: how else it is reached, or further ways; empty when there is nothing to say.
    """

    endpoint: str
    service: str
    url: str = ""
    otherwise: str = ""


class Report(Protocol):
    """Tells what goes on. Nothing here waits."""

    def up(self, places: Sequence[Place], nodes: str, rtt_s: float, inspector: str) -> None:
        """Everything is reachable.

        Args:
            places: all of them.
            nodes: which node it is registered at, for people.
            rtt_s: the round trip to it.
            inspector: URL of the inspector; empty when there is none.
        """

    def request(self, request: LoggedRequest, at: float, reason: str) -> None:
        """A request is over; arguments as of `lines.request_lines`."""

    def opened(self, request: LoggedRequest, at: float) -> None:
        """Something began that does not end by itself."""

    def closed(self, request: LoggedRequest, at: float) -> None:
        """It ended."""

    def lost(self, reason: str) -> None:
        """Nothing is reachable for now, and why."""

    def back(self, nodes: str, after_s: float) -> None:
        """It is again, after that time."""

    def note(self, text: str) -> None:
        """Something that a person should know."""

    def ending(self, text: str) -> None:
        """It is to end; what that waits for, empty for nothing."""

    def ended(self) -> None:
        """It has ended in order."""

    def close(self) -> None:
        """Nothing more is told. Waits a moment until all is written."""


class TerminalReport:
    """For people: on stdout, and what is wrong on stderr.

    Args:
        shown: what is wanted.
        names: the endpoint IDs.
        environ: the environment: whether there may be colour.
    """

    def __init__(self, shown: Shown, names: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> None:
        self._shown = shown
        self._names = names
        self._colour = sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._out = LineWriter(sys.stdout, _lost)
        self._err = LineWriter(sys.stderr, _lost)
        self._out.start()
        self._err.start()

    @property
    def _layout(self) -> Layout:
        """As wide as the terminal is now."""
        return Layout.of(shutil.get_terminal_size().columns, self._colour, self._names)

    def up(self, places: Sequence[Place], nodes: str, rtt_s: float, inspector: str) -> None:
        """See `Report.up`."""
        if self._shown.quiet:
            self._say("\n".join(place.url or place.otherwise for place in places))
            return
        layout = self._layout
        lines = ["", *(line for place in places for line in self._place(place, layout))]
        about = [f"{nodes}, {milliseconds(rtt_s)}" if rtt_s else nodes]
        if inspector:  # with its key for whoever sits there, and for no file
            about.append(f"inspect: {inspector if sys.stdout.isatty() else inspector.partition('/#')[0]}")
        whole = f"{INDENT}{'     '.join(about)}"
        lines += [whole] if len(whole) <= layout.columns else [f"{INDENT}{one}" for one in about]
        if sys.stdout.isatty():
            lines.append(f"{INDENT}(closing this terminal or Ctrl-C ends it)")
        self._say("\n".join([*lines, ""]))

    def _place(self, place: Place, layout: Layout) -> list[str]:
        where = place.url or f"endpoint {place.endpoint}"
        styled = layout.style(where, bold=True, underline=True) if place.url else where
        behind = f"->  {escaped(place.service)}"
        if len(INDENT) + len(where) + 2 + len(behind) <= layout.columns:
            lines = [f"{INDENT}{styled}  {behind}"]
        else:
            lines = [f"{INDENT}{styled}", f"{INDENT}{INDENT}{behind}"]
        if place.otherwise:
            lines.append(f"{INDENT}{INDENT}{place.otherwise}")
        if self._shown.qr and place.url:
            lines += ["", qr_code(place.url)]
        return lines

    def request(self, request: LoggedRequest, at: float, reason: str) -> None:
        """See `Report.request`."""
        self._say_more(request_lines(request, at, reason, self._layout))

    def opened(self, request: LoggedRequest, at: float) -> None:
        """See `Report.opened`."""
        self._say_more(opened_line(request, at, self._layout))

    def closed(self, request: LoggedRequest, at: float) -> None:
        """See `Report.closed`."""
        self._say_more(closed_line(request, at, self._layout))

    def lost(self, reason: str) -> None:
        """See `Report.lost`."""
        self._warn(f"the node is gone: trying again until it is back{f' ({reason})' if reason else ''}")

    def back(self, nodes: str, after_s: float) -> None:
        """See `Report.back`."""
        self._warn(f"reachable again after {span(after_s)}: {nodes}")

    def note(self, text: str) -> None:
        """See `Report.note`."""
        self._warn(text)

    def ending(self, text: str) -> None:
        """See `Report.ending`."""
        if text and not self._shown.quiet:
            self._say(f"\n{INDENT}{text}; Ctrl-C again to stop now")

    def ended(self) -> None:
        """See `Report.ended`."""
        self._say_more(f"{INDENT}stopped")

    def close(self) -> None:
        """See `Report.close`."""
        self._out.close(CLOSE_S)
        self._err.close(CLOSE_S)

    def _say(self, text: str) -> None:
        self._out.write(f"{text}\n")

    def _say_more(self, text: str) -> None:
        if not self._shown.quiet:
            self._say(text)

    def _warn(self, text: str) -> None:
        lines = wrapped(f"picoctl: {escaped(text)}", self._layout.columns, "") if sys.stderr.isatty() else None
        self._err.write("\n".join(lines or [f"picoctl: {escaped(text)}"]) + "\n")


class JsonReport:
    """For programs: an object in each line of stdout, with its kind as `event`."""

    def __init__(self) -> None:
        self._out = LineWriter(sys.stdout, _lost)
        self._out.start()

    def up(self, places: Sequence[Place], nodes: str, rtt_s: float, inspector: str) -> None:
        """See `Report.up`."""
        for place in places:
            self._say("url", endpoint=place.endpoint, url=place.url, service=place.service, otherwise=place.otherwise)
        self._say("ready", nodes=nodes, rtt_ms=round(rtt_s * 1000, 3), inspector=inspector)

    def request(self, request: LoggedRequest, at: float, reason: str) -> None:
        """See `Report.request`."""
        self._say("request", at, **_members(request), **({"reason": reason} if reason else {}))

    def opened(self, request: LoggedRequest, at: float) -> None:
        """See `Report.opened`."""
        self._say("opened", at, kind=stream_kind(request), **_members(request))

    def closed(self, request: LoggedRequest, at: float) -> None:
        """See `Report.closed`."""
        self._say("closed", at, kind=stream_kind(request), **_members(request))

    def lost(self, reason: str) -> None:
        """See `Report.lost`."""
        self._say("lost", reason=reason)

    def back(self, nodes: str, after_s: float) -> None:
        """See `Report.back`."""
        self._say("back", nodes=nodes, after_ms=round(after_s * 1000))

    def note(self, text: str) -> None:
        """See `Report.note`."""
        self._say("note", text=text)

    def ending(self, text: str) -> None:
        """See `Report.ending`."""
        self._say("ending", waits_for=text)

    def ended(self) -> None:
        """See `Report.ended`."""
        self._say("ended")

    def close(self) -> None:
        """See `Report.close`."""
        self._out.close(CLOSE_S)

    def _say(self, event: str, at: float | None = None, **members: str | float) -> None:
        timed = {} if at is None else {"at": round(at, 3)}
        self._out.write(json.dumps({"event": event, **timed, **members}) + "\n")


def _members(request: LoggedRequest) -> dict[str, str | float]:
    return {
        "endpoint": request["endpoint"],
        "method": request["method"].decode("ascii", "backslashreplace"),
        "target": target_text(request),
        "status": request["status"],
        "duration_ms": round(request["duration_s"] * 1000, 3),
        "bytes_in": request["bytes_in"],
        "bytes_out": request["bytes_out"],
        "client": request["client"],
        "request_id": request["request_id"],
        "error": request["error"],
    }


def qr_code(url: str) -> str:
    """A QR code (ISO/IEC 18004) of a URL, in half blocks of a dark terminal or a light one.

    Args:
        url: what it says.
    """
    import segno

    drawn = io.StringIO()
    segno.make(url, error="l", micro=False).terminal(drawn, border=2, compact=True)
    return drawn.getvalue().rstrip("\n")


def _lost(message: str, /, **fields: str | int) -> str:
    """The line that says how many were lost, on stderr or stdout."""
    return f"picoctl: {message} {' '.join(f'{name}={value}' for name, value in fields.items())}\n"

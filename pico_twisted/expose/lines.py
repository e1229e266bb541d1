"""How what goes on looks on a terminal: a line for each request, that fits where it is shown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Final

import attrs
import click

from pico_twisted.core.secret_names import hide_query_secrets
from pico_twisted.core.text import escaped, milliseconds, short_size, span
from pico_twisted.net.observe.access_log import LoggedRequest
from pico_twisted.net.observe.formats import time_of_day

INDENT: Final = "  "
"""What every line begins with."""
LEAST_COLUMNS: Final = 40
"""Columns that a terminal is taken to have at least: below that lines are broken by it."""
TARGET_COLUMNS: Final = range(12, 61)
"""Columns that a target may have."""
CLIENT_COLUMNS: Final = 15
"""Columns of a client's address: that of IPv4; a longer one sticks out."""
ROOM_FOR_CLIENT: Final = 76
"""Columns from which on the client is shown."""
_OURSELVES: Final = ("127.0.0.1", "::1")
_FIXED: Final = len("  18:06:12  GET  ") + len(" 200   12.0 ms     87 B")
_LEAST_NAME: Final = 4
_MOST_NAME: Final = 14
_MOST_METHOD: Final = 12
_NOTHING_LISTENS: Final = "nothing listens there"
"""Words of `net.tls.failures`."""
SWITCHED: Final = 101
"""The status of a connection that speaks another protocol than HTTP from then on."""

WORDS: Final[Mapping[str, str]] = {
    "service-failed": "your server closed the connection without an answer",
    "bad-response": "what your server answered is no HTTP",
    "service-timeout": "your server did not answer in time",
    "listener-address": "this client's address is not allowed",
    "listener-login": "no user name and password, or wrong ones",
    "listener-logins": "too many passwords wait to be checked",
}
"""What went wrong, by the code of an error that was answered in the service's place."""


@attrs.frozen(kw_only=True)
class Layout:
    """How lines are to look.

    Attributes:
        columns: that there are.
        colour: whether there is any.
        names: columns for endpoint IDs; 0 where there is one endpoint only.
    """

    columns: int = 80
    colour: bool = False
    names: int = 0

    @classmethod
    def of(cls, columns: int, colour: bool, names: tuple[str, ...]) -> Layout:
        """What fits.

        Args:
            columns: of the terminal.
            colour: whether it has any.
            names: the endpoint IDs.
        """
        columns = max(columns, LEAST_COLUMNS)
        room = columns - _FIXED - _of_client(columns) - TARGET_COLUMNS[0]
        wanted = min(max(map(len, names)), _MOST_NAME) + 2 if len(names) > 1 else 0
        shown = min(wanted, room) if room >= _LEAST_NAME + 2 else 0
        return cls(columns=columns, colour=colour, names=shown)

    def style(self, text: str, **looks: str | bool) -> str:
        """A text in colour, if there is colour."""
        return click.style(text, **looks) if self.colour else text  # type: ignore[arg-type]  # of click's many options

    @property
    def target(self) -> int:
        """Columns for a target."""
        left = self.columns - _FIXED - self.names - _of_client(self.columns)
        return max(TARGET_COLUMNS[0], min(left, TARGET_COLUMNS[-1]))


def _of_client(columns: int) -> int:
    """How many of the columns are a client's."""
    return CLIENT_COLUMNS + 2 if columns >= ROOM_FOR_CLIENT else 0


def request_lines(request: LoggedRequest, at: float, reason: str, layout: Layout) -> str:
    """The line of a request that is over; if it failed, with the reason in words, which may take further lines.

    Args:
        request: what is known of it.
        at: when it ended, in seconds of the Unix epoch.
        reason: what went wrong, in words; empty when its status says all.
        layout: how lines look.
    """
    status = request["status"]
    shown = layout.style(f"{status:>3}", fg=_colour(status))
    start = f"{_start(request, at, layout)} {shown}"
    if reason:
        return _with_words(start, reason, layout)
    size = short_size(request["bytes_out"]) if request["bytes_out"] else ""
    return f"{start} {milliseconds(request['duration_s']):>9} {size:>8}{_client(request, layout)}".rstrip()


def opened_line(request: LoggedRequest, at: float, layout: Layout) -> str:
    """The line of a WebSocket, a stream of events or a TCP connection that has begun; arguments as of
    `request_lines`."""
    status = request["status"]
    shown = layout.style(f"{status:>3}", fg=_colour(status))
    return f"{_start(request, at, layout)} {shown} {stream_kind(request)} opened{_client(request, layout)}"


def closed_line(request: LoggedRequest, at: float, layout: Layout) -> str:
    """The line of one that has ended; arguments as of `request_lines`."""
    moved = f"{short_size(request['bytes_out'])} out, {short_size(request['bytes_in'])} in"
    return f"{_start(request, at, layout)} {'':>3} closed after {span(request['duration_s'])}, {moved}"


def stream_kind(request: LoggedRequest) -> str:
    """What somebody calls a call that does not end by itself."""
    if request["method"] == b"TCP":
        return "connection"
    if request["status"] != SWITCHED:
        return "stream"
    return "WebSocket" if request["fields"].get(b"upgrade", b"").lower() == b"websocket" else "upgrade"


def target_text(request: LoggedRequest) -> str:
    """The target for people and programs, with its secrets hidden."""
    return hide_query_secrets(request["target"].decode("ascii", "backslashreplace"))


def failure_words(code: str, service: str, why: str) -> str:
    """What went wrong with a request, for whoever can mend it.

    Args:
        code: of the error that was answered; empty when the service answered itself.
        service: where it is.
        why: what was met, in the words of the system or of a parser; empty when that is not known.
    """
    if code == "service-unreachable":
        if not why or _NOTHING_LISTENS in why:
            return f"nothing listens at {service}. Is your server running?"
        help = ". --service-ca FILE trusts it, --insecure does not look" if "certificate" in why else ""
        return f"{service} cannot be reached: {why}{help}"
    words = WORDS.get(code, "")
    return f"{words}: {why}" if words and why and code == "bad-response" else words


def _start(request: LoggedRequest, at: float, layout: Layout) -> str:
    method = _cut(escaped(request["method"].decode("ascii", "backslashreplace")), _MOST_METHOD)
    name = f"{_cut(request['endpoint'], layout.names - 2):<{layout.names}}" if layout.names else ""
    room = max(4, layout.target - max(0, len(method) - 4))
    target = _cut(escaped(target_text(request)), room)
    return f"{INDENT}{layout.style(time_of_day(at), dim=True)}  {name}{method:<4} {target:<{room}}"


def _client(request: LoggedRequest, layout: Layout) -> str:
    client = request["client"]
    known = client and layout.columns >= ROOM_FOR_CLIENT and client not in _OURSELVES
    return f"  {escaped(client)}" if known else ""


def _with_words(start: str, reason: str, layout: Layout) -> str:
    """The words behind the line if they fit there, or else below it."""
    used = len(click.unstyle(start)) + 2
    if used + len(reason) <= layout.columns:
        return f"{start}  {reason}"
    indent = f"{INDENT}{' ' * 10}"
    return "\n".join([start.rstrip(), *wrapped(reason, layout.columns, indent)])


def wrapped(text: str, columns: int, indent: str = INDENT) -> list[str]:
    """Lines of a text, none longer than there are columns if words allow it."""
    return textwrap.wrap(
        text,
        max(columns, LEAST_COLUMNS),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cut(text: str, columns: int) -> str:
    """A text that is not wider than this."""
    return text if len(text) <= columns else f"{text[: columns - 3]}..."


def _colour(status: int) -> str:
    return {2: "green", 3: "cyan", 4: "yellow", 5: "red"}.get(status // 100, "blue")

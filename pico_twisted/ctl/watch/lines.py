"""Events and requests as lines for people, and what is missing among them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pico_twisted.core.text import escaped, milliseconds, short_size
from pico_twisted.net.admin.shapes.events import EventRow
from pico_twisted.net.admin.shapes.requests import RequestRow

MOST_TARGET_COLUMNS: Final = 40
"""Columns that a target takes at most: what is behind it matters more."""

_SHOWN_FIELDS: Final = ("peer", "address", "client", "endpoint", "subject", "reason", "by", "failure")
_LEVELS: Final = {"info": "", "warn": "warn: ", "error": "error: ", "critical": "critical: "}


def clock(at_s: float, *, date: bool = False) -> str:
    """A time of day where the terminal is, with the date if wanted; from seconds since 1970."""
    try:
        at = time.localtime(at_s)
    except (ValueError, OverflowError, OSError):  # a server may say anything
        return "--:--:--"
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", at)


def event_line(row: EventRow) -> str:
    """An event in one line: when, where, what, and what its message does not say of it already."""
    fields = {name: str(row.fields.get(name) or "") for name in _SHOWN_FIELDS}
    more = " ".join(f"{name}={value}" for name, value in fields.items() if value and value not in row.message)
    text = f"{_LEVELS.get(row.level, row.level)}{row.message}{f'  {more}' if more else ''}"
    return f"{clock(row.at_s)}  {escaped(row.node)}  {escaped(text)}"


def request_line(row: RequestRow, *, endpoint: bool = True) -> str:
    """A request in one line: when, at which node, what, with which outcome, how long, how much, and for whom.

    Args:
        row: the request.
        endpoint: whether to name that, where not all are of one.
    """
    target = escaped(row.target)
    if len(target) > MOST_TARGET_COLUMNS:
        target = f"{target[: MOST_TARGET_COLUMNS - 3]}..."
    parts = [
        f"{clock(row.at_s)}  {escaped(row.node)}  {escaped(row.method):<4} {target:<20} {row.status or '-'} "
        f"{milliseconds(row.duration_s):>8} {short_size(row.bytes_out):>7}",
        escaped(row.endpoint) if endpoint else "",
        escaped(row.client),
        outcome(row),
    ]
    return "  ".join(filter(None, parts))


def outcome(row: RequestRow) -> str:
    """Why a request failed, and with which ID to ask for more; empty when it did not."""
    return escaped(f"{row.error or 'failed'} at {row.hop}, {row.request_id or 'no ID'}") if row.hop else ""


def silent(unanswered: Mapping[str, str]) -> Iterator[str]:
    """A line for each node that gave no answer."""
    return (f"node {escaped(id)} is missing: {escaped(why)}" for id, why in sorted(unanswered.items()))


def joined(lines: Iterable[str], *more: Iterable[str]) -> str:
    """Lines, and others below them behind an empty line."""
    text = "\n".join(lines)
    below = "\n".join(line for part in more for line in part)
    return f"{text}\n\n{below}" if below else text

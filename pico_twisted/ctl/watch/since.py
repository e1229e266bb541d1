"""Times as people give them: a time of day, how long ago, or a whole date."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

import click

EXPECTED: Final = "a time such as 3:02, 15:04:05, 10m or 2026-11-29T03:02:00Z"

_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_AGO: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Since(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """An option that is a time in the past, as text or in seconds since 1970."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """The seconds since 1970 (called by click)."""
        if not isinstance(value, str):
            return value
        try:
            return since(value, datetime.now().astimezone())
        except (ValueError, OverflowError):
            self.fail(f"found {value!r}, expected {EXPECTED}", param, ctx)


def since(text: str, now: datetime) -> float:
    """Read a time in the past, in seconds since 1970.

    Args:
        text: as in `EXPECTED`; a time of day is the last one there was, where the terminal is.
        now: the time, with the zone of the terminal.

    Raises:
        ValueError: it is none.
    """
    if ago := _AGO.fullmatch(text):
        return (now - timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2]])).timestamp()
    if clock := _CLOCK.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        at = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (at if at <= now else at - timedelta(days=1)).timestamp()
    given = datetime.fromisoformat(text)
    return (given if given.tzinfo is not None else given.replace(tzinfo=now.tzinfo)).timestamp()

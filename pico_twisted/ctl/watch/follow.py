"""Shows what is new, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import click

from pico_twisted.ctl.exits import OK, NoAnswer
from pico_twisted.net.admin.shapes.events import EventRow, Events
from pico_twisted.net.admin.shapes.requests import RequestRow, Requests

POLL_S: Final = 1.0
"""Seconds between two questions."""
_ROUNDED_S: Final = 0.001  # to which times of rows are rounded

R = TypeVar("R", EventRow, RequestRow)
T = TypeVar("T", Events, Requests)


class Newness:
    """Tells which rows are new.

    Each node has a clock of its own. So what is asked for next is what was since the time of the node that is farthest
    behind; what others then tell twice is left out.

    Args:
        since_s: nothing older, in seconds since 1970.

    Attributes:
        since_s: what is to be asked for next.
    """

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self._seen: set[tuple[str, int, float]] = set()

    def of(self, rows: Sequence[R], now_s: Sequence[float]) -> list[R]:
        """The rows that were not there before.

        Args:
            rows: that nodes told.
            now_s: the time of each of these nodes.
        """
        found = [row for row in rows if (row.node, row.seq, row.at_s) not in self._seen]
        if now_s:
            self.since_s = max(self.since_s, min(now_s) - _ROUNDED_S)
        self._seen = {(row.node, row.seq, row.at_s) for row in rows if row.at_s >= self.since_s}
        return found


def follow(ask: Callable[[float], T], since_s: float, show: Callable[[T, Newness], None]) -> None:
    """Ask again and again, until Ctrl-C.

    Args:
        ask: for what is since a time, in seconds since 1970.
        since_s: the first such time.
        show: shows what is new.

    Raises:
        click.exceptions.Exit: Ctrl-C.
    """
    newness, answered = Newness(since_s), True
    try:
        while True:
            try:
                told = ask(newness.since_s)
            except NoAnswer as error:  # the node may be starting again
                if answered:
                    error.show()
                answered = False
            else:
                answered = True
                show(told, newness)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(OK) from None

"""What the doctor says: a line for each check, with what to do about it."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

import attrs

T = TypeVar("T")

PATIENCE_S: Final = 4.0
"""Seconds that a look-up, a connection or an answer may take before it counts as none."""


class Verdict(enum.Enum):
    """How a check went, in words and as a colour of the terminal."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@attrs.frozen
class Line:
    """What came of one check.

    Attributes:
        check: what was looked at.
        verdict: how that is.
        words: what was found.
        cure: what to do; empty where nothing is to be done.
    """

    check: str
    verdict: Verdict
    words: str
    cure: str = ""


def green(check: str, words: str) -> Line:
    """All is well."""
    return Line(check, Verdict.GREEN, words)


def yellow(check: str, words: str, cure: str) -> Line:
    """It works, and somebody should look."""
    return Line(check, Verdict.YELLOW, words, cure)


def red(check: str, words: str, cure: str) -> Line:
    """It does not work."""
    return Line(check, Verdict.RED, words, cure)


def at_once(asked: Sequence[Callable[[], T]], within_s: float = PATIENCE_S) -> list[T | Exception]:
    """Call functions side by side, each in a thread that is left behind when the time is over.

    Args:
        asked: what is called; each may wait for the network.
        within_s: for all together.

    Returns:
        What each returned or raised, in their order; `TimeoutError` of those that did neither.
    """
    found: list[T | Exception] = [TimeoutError("no answer in time") for _ in asked]

    def call(at: int, function: Callable[[], T]) -> None:
        try:
            found[at] = function()
        except Exception as error:  # it is the answer
            found[at] = error

    threads = [threading.Thread(target=call, args=pair, daemon=True) for pair in enumerate(asked)]
    for thread in threads:
        thread.start()
    ends = threading.Event()
    timer = threading.Timer(within_s, ends.set)
    timer.daemon = True
    timer.start()
    for thread in threads:
        while thread.is_alive() and not ends.is_set():
            thread.join(0.02)
    timer.cancel()
    return list(found)


def worst_first(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines with those first that need somebody."""
    order = (Verdict.RED, Verdict.YELLOW, Verdict.GREEN)
    return iter(sorted(lines, key=lambda line: order.index(line.verdict)))

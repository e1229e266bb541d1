"""Waiting for conditions, always with a deadline; and what is raised when something on the stage goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE_S: Final = 30.0
"""The seconds that anything may take: a machine with two slow cores may be busy with something else."""
_POLL_S: Final = 0.02

Value = TypeVar("Value")
Pause = Callable[[float], object]


class StageFailed(Exception):
    """Something did not work; the text says what."""


class StartFailed(StageFailed):
    """A process ended, or did not get ready, when it should have started."""


class WaitedInVain(StageFailed, TimeoutError):
    """A condition did not come true in time."""


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def wait_until(
    condition: Callable[[], Value | None], what: str, timeout: float = PATIENCE_S, pause: Pause = _pause
) -> Value:
    """Look at a condition again and again until it is true.

    Args:
        condition: what is waited for.
        what: it, in words.
        timeout: seconds.
        pause: waits for so many seconds between two looks; it may raise.

    Returns:
        The value of the condition.

    Raises:
        WaitedInVain: it did not come true in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise WaitedInVain(f"waited {timeout:g} s in vain for {what}")
        pause(_POLL_S)

"""Ctrl-C and its like. They only set flags, so that no step is torn apart: every wait looks at them."""

from __future__ import annotations

import signal
import threading


class Interrupted(Exception):
    """A signal asks for the end."""


class Signals:
    """Those that end the demo.

    Attributes:
        stop: one came.
        hurry: another one came.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._came)

    def _came(self, number: int, frame: object) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

    def check(self) -> None:
        """Raise Interrupted after a signal."""
        if self.stop.is_set():
            raise Interrupted

    def pause(self, seconds: float) -> None:
        """Wait for so long, or raise Interrupted once a signal comes."""
        self.stop.wait(seconds)
        self.check()

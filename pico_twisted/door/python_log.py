"""What our parts log, told to Python's `logging`: a program of asyncio has no other log.

Twisted keeps its events to itself until a program begins to log them, and programs of asyncio never do. Then a node
that cannot be reached, and an endpoint that waits for it, would be one long silence. `logging` writes warnings to
stderr even where nothing was set up.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from pico_twisted.net.observe.formats import untold_fields
from pico_twisted.net.observe.lines import OURS, LineObserver

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def begin_telling() -> None:
    """Tell all that happens from here on. Idempotent."""
    globalLogPublisher.addObserver(_TELLING)


def stop_telling() -> None:
    """Tell no more. Idempotent."""
    globalLogPublisher.removeObserver(_TELLING)


@implementer(ILogObserver)
class _Telling:
    """Tells an event of ours to the logger of its namespace."""

    def __call__(self, event: LogEvent) -> None:
        namespace, level = event.get("log_namespace"), event.get("log_level")
        if not isinstance(namespace, str) or not namespace.startswith(f"{OURS}."):
            return
        number = _LEVELS.get(getattr(level, "name", ""), logging.INFO)
        logger = logging.getLogger(namespace)
        if logger.isEnabledFor(number):
            LineObserver(lambda line: logger.log(number, "%s", line), _line)(event)


_TELLING: Final = _Telling()


def _line(at: float, fields: Mapping[str, object], said: str) -> str:
    """A message and what it does not tell; the traceback of a fault of ours, or of the program's, below it."""
    traceback = fields.get("traceback")
    rest = {name: value for name, value in fields.items() if name != "traceback"}
    line = f"{fields['message']}{untold_fields(rest, said)}"
    return line if traceback is None else f"{line}\n{traceback}"

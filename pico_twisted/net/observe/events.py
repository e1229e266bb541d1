"""What happened lately: the newest lines of the log, in memory.

The log says what happened, but no program on another machine can ask for it where it goes. So the lines of level info
and above are kept here as well, whatever `log.level` says; what is hidden in lines is hidden here. Access lines are
none of them: see `requests`.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from twisted.logger import FilteringLogObserver, ILogObserver, LogEvent, LogLevel, LogLevelFilterPredicate
from zope.interface import implementer

from pico_twisted.net.observe.lines import Quieter, bounded, facts_of

MOST_EVENTS: Final = 1000
"""Most events that are remembered."""
MAX_TEXT_CHARS: Final = 512
"""Most characters of a message or a field: all that is kept together then has a few megabytes at most."""
MOST_FIELDS: Final = 12
"""Most fields of an event that are kept."""

Value = str | int | float | bool | None


class Happened(NamedTuple):
    """An event.

    Attributes:
        seq: its number.
        at_s: when it was, in seconds since 1970.
        level, subsystem, message: as in its line.
        fields: more about it.
    """

    seq: int
    at_s: float
    level: str
    subsystem: str
    message: str
    fields: Mapping[str, Value]


@implementer(ILogObserver)
class EventMemory:
    """Remembers what is logged. To be added to the publisher of the process as `observer`.

    Args:
        wall: seconds since 1970.

    Attributes:
        observer: takes events as they come.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._began_s = wall()
        self._seqs = itertools.count(1)
        self._events: deque[Happened] = deque(maxlen=MOST_EVENTS)
        level = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
        self.observer: ILogObserver = Quieter(FilteringLogObserver(self, [level]))

    def __call__(self, event: LogEvent) -> None:
        at, facts = facts_of(event)
        traceback = facts.pop("traceback", None)
        level, subsystem, message = (_text(facts.pop(name)) for name in ("level", "subsystem", "message"))
        fields = {name: _value(value) for name, value in itertools.islice(facts.items(), MOST_FIELDS)}
        if traceback is not None:
            fields["failure"] = _text(str(traceback).rstrip().rpartition("\n")[2])
        self._events.append(Happened(next(self._seqs), at, level, subsystem, message, fields))

    @property
    def since_s(self) -> float:
        """Since when all events are remembered, in seconds since 1970."""
        return self._events[0].at_s if len(self._events) == MOST_EVENTS else self._began_s

    def remembered(self) -> Iterator[Happened]:
        """All that is remembered, in the order in which it was told."""
        return iter(tuple(self._events))  # threads log, too


def _text(value: object) -> str:
    return bounded(str(value), MAX_TEXT_CHARS)


def _value(value: object) -> Value:
    return value if value is None or isinstance(value, int | float) else _text(value)

"""The reactor of the daemons: Twisted's epoll reactor, with less done for each event.

Twisted's own sets up a logging context around each event, about ten calls, for `twisted.python.log` to say which
transport a message came from. Nothing here logs through that, and a busy node spends 6 % of its time on it. And it
knows when the events of a turn have been dispatched, so what is to be done then (`EndOfTurn`) needs no timer. A turn is
short: what it brought leaves at its end, so the process on the other side of a tunnel has work while ours goes on. With
a turn of all that is ready the two take turns with hundreds of requests, and cores stand idle. The clock is monotonic:
Twisted's goes by the wall clock, and stands still when that is set back.

Where there is no epoll, or where the operator chose a reactor (`twistd --reactor`), that one is used.

Python's garbage collector, too, is kept from stopping a daemon for tens of milliseconds. A full collection looks at
every object, and nearly all of those that a daemon has are modules, classes and functions, which stay. They are frozen:
no collection looks at them again. The requests that are in progress outlive a young generation of 700 objects, and are
looked at three times over; so it holds more.
"""

from __future__ import annotations

import errno
import gc
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
    IReactorUNIXDatagram,
)
from twisted.logger import Logger

log = Logger()


class IDaemonReactor(
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
    IReactorUNIXDatagram,
):
    """What a daemon asks of its reactor."""


EVENTS_OF_A_TURN: Final = 16
"""Most events that are dispatched before what they brought leaves. The kernel has those that wait take their turn."""

YOUNG_OBJECTS: Final = 5000
"""Objects made, less those freed, until a collection of the young ones: about a hundred requests' worth."""
OLDER: Final = (5, 3)
"""Collections of the young objects until one of the middle generation, and of that until one of all objects. With
Python's own figures, of 10 each, thousands of tunnels that are gone would wait five times longer to be found."""


def install_reactor() -> None:
    """Install our reactor, unless there is one already. To be called before anything imports the global one."""
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        from twisted.internet.epollreactor import EPollReactor
    except ImportError:
        return
    from twisted.internet.main import installReactor

    class LeanReactor(EPollReactor):
        """See the module."""

        seconds = staticmethod(time.monotonic)

        def __init__(self) -> None:
            self._waiting: list[Callable[[], None]] = []
            self._dispatching = False
            super().__init__()  # type: ignore[no-untyped-call]

        def at_end_of_turn(self, work: Callable[[], None]) -> None:
            """Call `work` when the events of this turn have been dispatched; from elsewhere, in the next turn."""
            if self._dispatching:
                self._waiting.append(work)
            else:
                self.callLater(0, work)

        def doPoll(self, timeout: float | None) -> None:
            """Wait for events and dispatch them (as in Twisted's, without the logging context)."""
            selectables: Any = self._selectables  # of Twisted, which has no types there
            try:
                ready = self._poller.poll(-1 if timeout is None else timeout, EVENTS_OF_A_TURN)
            except OSError as error:
                if error.errno == errno.EINTR:
                    return
                raise
            dispatch = self._doReadOrWrite
            self._dispatching = True
            for descriptor, event in ready:
                selectable = selectables.get(descriptor)
                if selectable is not None:
                    try:
                        dispatch(selectable, descriptor, event)  # type: ignore[no-untyped-call]
                    except Exception:
                        log.failure("An event could not be handled")
            waiting = self._waiting
            while waiting:
                self._waiting = []
                for work in waiting:
                    try:
                        work()
                    except Exception:
                        log.failure("Work at the end of a turn failed")
                waiting = self._waiting
            self._dispatching = False

        doIteration = doPoll

    installReactor(LeanReactor())


def spare_what_stays() -> None:
    """Freeze what is there now. To be called when a daemon has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *OLDER)

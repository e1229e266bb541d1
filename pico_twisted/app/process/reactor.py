"""The reactor of the daemons, and what Python's garbage collector does beside it.

The reactor is that of `turns`. Where there is no epoll, or where the operator chose one (`twistd --reactor`), that
other one is used.

Python's garbage collector is kept from stopping a daemon for tens of milliseconds. A full collection looks at every
object, and nearly all of those that a daemon has are modules, classes and functions, which stay. They are frozen: no
collection looks at them again. The requests that are in progress outlive a young generation of 700 objects, and are
looked at three times over; so it holds more.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

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
        from pico_twisted.app.process.turns import TurnReactor
    except ImportError:
        return
    from twisted.internet.main import installReactor

    installReactor(TurnReactor())


def spare_what_stays() -> None:
    """Freeze what is there now. To be called when a daemon has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *OLDER)

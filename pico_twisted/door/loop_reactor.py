"""A reactor of Twisted on an asyncio loop that runs already, for as long as somebody needs it.

What is needed. A program of asyncio has a loop of its own, perhaps uvloop's, perhaps one after the other; and it may
use Twisted elsewhere, with a reactor that is installed. Our parts are all given their reactor, so theirs need not be
the installed one. So each loop gets a reactor of its own, which nobody else finds.

What can go wrong. A reactor that is never stopped leaves its descriptors behind; one that stops as Twisted's does stops
the loop of its owner, and waits for its threads, of which one may look up a name for half a minute: so names are looked
up as our daemons do it. Parts of Twisted that are not given a clock take the installed reactor, which never runs here.

What was rejected. `asyncioreactor.install`: once in a process, for one loop, and not beside another reactor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.posixbase import PosixReactorBase

from pico_twisted.door.python_log import begin_telling, stop_telling
from pico_twisted.net.socket.names import NameLookups


class LoopReactor(AsyncioSelectorReactor):
    """Runs as long as its owner's loop does, from `begin` to `end`.

    Args:
        loop: runs already.
    """

    _registerAsIOThread = False  # whether calls come from the reactor's thread is asked of the installed reactor

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.users = 0

    def crash(self) -> None:
        """Stop, and leave the loop to its owner."""
        PosixReactorBase.crash(self)

    def begin(self) -> None:
        """Start what Twisted starts when a reactor runs."""
        self.installNameResolver(NameLookups(self))
        self.startRunning(installSignalHandlers=False)

    # Twisted gives it no types, and names its first argument as only a position can.
    def callFromThread(  # type: ignore[override]
        self, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        """Call it on the loop, if that is still there: a look-up of a name may outlive it."""
        with contextlib.suppress(RuntimeError):
            super().callFromThread(callable, *args, **kwargs)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Drop all connections and timers, end the threads, and let go of the loop."""
        self.fireSystemEvent("shutdown")
        for reader in self.getReaders():  # those that wake it up, which no shutdown takes away
            self.removeReader(reader)
            reader.connectionLost(None)
        for call in self.getDelayedCalls():
            call.cancel()


_reactors: dict[asyncio.AbstractEventLoop, LoopReactor] = {}
"""Those in use, by their loops."""


def borrow_reactor() -> LoopReactor:
    """The reactor of the running loop; `give_back` it."""
    loop = asyncio.get_running_loop()
    reactor = _reactors.get(loop)
    if reactor is None:
        begin_telling()
        reactor = _reactors[loop] = LoopReactor(loop)
        reactor.begin()
    reactor.users += 1
    return reactor


def give_back(reactor: LoopReactor) -> None:
    """Whoever borrowed it does not need it any more."""
    reactor.users -= 1
    if not reactor.users:
        for loop, one in list(_reactors.items()):
            if one is reactor:
                del _reactors[loop]
        try:
            reactor.end()
        finally:
            if not _reactors:
                stop_telling()

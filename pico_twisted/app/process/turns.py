"""The reactor of the daemons: Twisted's epoll reactor, with less done for each event, and in short turns.

Twisted's own sets up a logging context around each event, about ten calls, for `twisted.python.log` to say which
transport a message came from. Nothing here logs through that, and a busy node spends 6 % of its time on it. And it
knows when the events of a turn have been dispatched, so what is to be done then (`EndOfTurn`) needs no timer. A turn is
short: what it brought leaves at its end, so the process on the other side of a tunnel has work while ours goes on. With
a turn of all that is ready the two take turns with hundreds of requests, and cores stand idle. The clock is monotonic:
Twisted's goes by the wall clock, and stands still when that is set back.

What is needed when there is too much. With two thousand clients that ask as fast as they can, the line of what is ready
is a second long, and everybody stands in it: whoever asks the admin port three times for one answer (to be accepted,
read and written), agents with their answers and heartbeats, other nodes with their gossip. Timers are in time all the
while, so nothing tells that the process is late.

What was chosen. Whoever goes first is in a second set of the kernel's, too, which is asked when a turn is full: so it
waits for one turn, however long the line is. Of these, too, a turn takes no more than of all others, who have theirs in
each. And where turns are full, an event of our own stands in the line now and then, and tells how long that is. A turn
that takes too long is put off, but for what went first. One event may be long, too: hundreds of answers of an agent, a
hundred requests of one connection of HTTP/2. Whoever reads so much asks now and then whether the turn has taken its
time (`turn_is_long`), and goes on in the next one.

What was rejected. To have the kernel tell all that is ready, and to sort that: with thousands of clients this costs
more than the turn itself. To ask the second set in each turn: one system call more for each request of a quiet process.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()

EVENTS_OF_A_TURN: Final = 16
"""Most events that are dispatched before what they brought leaves. The kernel has those that wait take their turn."""

LONG_TURN_S: Final = 0.05
"""Seconds after which the rest of a turn is put off to the next, behind timers and who goes first: one event may be a
hundred requests of one connection, or a handshake of TLS. Timers, who goes first and all others have so much each."""

LONG_LINE_S: Final = 0.25
"""Seconds of waiting in the line from which on the process is late: half of what makes a node refuse requests."""

Events = list[tuple[int, int]]
"""Descriptors, and what epoll says of them."""
Seen = tuple[object, int, int]
"""An event, with the selectable that it was of."""


class Selectable(Protocol):
    """What has a descriptor that is looked at: a connection, or a port."""

    reactor: object

    def fileno(self) -> int: ...
    def startReading(self) -> object: ...
    def stopReading(self) -> object: ...


class FirstReactor:
    """The reactor, for those who go first: it is theirs in the place of the one that it stands for.

    Args:
        reactor: the other.
    """

    def __init__(self, reactor: TurnReactor) -> None:
        self._reactor = reactor
        self._poller = select.epoll()

    # All else that is asked of a reactor.
    def __getattr__(self, name: str) -> object:
        return getattr(self._reactor, name)

    def _changed(self, descriptor: int, before: int) -> None:
        now = self._flags(descriptor)
        if not before:
            self._poller.register(descriptor, now)
        elif now:
            self._poller.modify(descriptor, now)
        else:
            self._poller.unregister(descriptor)

    def _flags(self, descriptor: int) -> int:
        reads, writes = descriptor in self._reactor._reads, descriptor in self._reactor._writes
        return select.EPOLLIN * reads | select.EPOLLOUT * writes

    def _change(self, change: Callable[[Selectable], object], selectable: Selectable) -> None:
        descriptor = selectable.fileno()
        before = self._flags(descriptor)
        change(selectable)
        if descriptor >= 0 and self._flags(descriptor) != before:  # else the kernel has forgotten it
            self._changed(descriptor, before)

    def addReader(self, reader: Selectable) -> None:
        self._change(self._reactor.addReader, reader)

    def addWriter(self, writer: Selectable) -> None:
        self._change(self._reactor.addWriter, writer)

    def removeReader(self, reader: Selectable) -> None:
        self._change(self._reactor.removeReader, reader)

    def removeWriter(self, writer: Selectable) -> None:
        self._change(self._reactor.removeWriter, writer)

    def serve(self, selectable: Selectable) -> None:
        """Have this one, which reads, go first from now on; and whom it accepts, if it is a port."""
        selectable.stopReading()
        selectable.reactor = self
        selectable.startReading()

    def before(self, ready: Events, most: int) -> tuple[Events, Events]:
        """What a turn does that is full: so many events of those who go first, and what is ready of the others."""
        first = self._poller.poll(0, most)
        if not first:
            return first, ready
        descriptors = {descriptor for descriptor, _ in first}
        return first, [event for event in ready if event[0] not in descriptors]

    def seen(self, left: Events) -> list[Seen]:
        """Events that are left for the next turn, and whose they are."""
        of = self._reactor._selectables
        return [(of[descriptor], descriptor, event) for descriptor, event in left if descriptor in of]

    def still(self, left: Sequence[Seen]) -> Events:
        """What of them is to be done still: their descriptors may be closed by now, be others', or be paused. The
        kernel tells again of those that have ended."""
        of = self._reactor._selectables
        events = [
            (descriptor, event & self._flags(descriptor))
            for whose, descriptor, event in left
            if of.get(descriptor) is whose
        ]
        return [event for event in events if event[1]]


@implementer(IReadDescriptor)
class WaitProbe:
    """Stands in the line of what is ready, to see how long it is.

    Args:
        seconds: tells the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asked_at: float | None = None
        self._waited_s = 0.0

    def wait_s(self, *, busy: bool) -> float:
        """How long the line is, in seconds: as long as the last wait in it was, or this one is already.

        Args:
            busy: the process has a line at all. Then this goes to its end, unless it stands there.
        """
        if self._asked_at is not None:
            return max(self._waited_s, self._seconds() - self._asked_at)
        if busy:
            self._asked_at = self._seconds()
            os.eventfd_write(self._descriptor, 1)
            return self._waited_s
        return 0.0

    # IReadDescriptor

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        os.eventfd_read(self._descriptor)
        if self._asked_at is not None:
            self._waited_s = self._seconds() - self._asked_at
            self._asked_at = None

    def connectionLost(self, reason: Failure | None = None) -> None:
        os.close(self._descriptor)

    def logPrefix(self) -> str:
        return "wait"


class TurnReactor(EPollReactor):
    """See the module.

    Attributes:
        line_s: what `wait_s` gave last.
    """

    line_s = 0.0
    seconds = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._dispatching = False
        self._full = False  # the last turn left something behind, perhaps
        self._cut = False  # it could not be done in its time
        self._left: list[Seen] = []  # of it, for the next one
        self._until = 0.0  # what is done now has its time
        super().__init__()  # type: ignore[no-untyped-call]
        self._first = FirstReactor(self)
        self._probe = WaitProbe(self.seconds)
        self._internalReaders.add(self._probe)
        self.addReader(self._probe)

    def serve_first(self, selectable: Selectable) -> None:
        """Look at what a connection or a port brings before all others, however many these are."""
        self._first.serve(selectable)

    def _disconnectSelectable(self, selectable: Selectable, *why: object) -> None:
        # Twisted's asks the reactor itself to look at it no longer, and not that of the selectable.
        getattr(selectable, "reactor", self).removeReader(selectable)
        super()._disconnectSelectable(selectable, *why)  # type: ignore[no-untyped-call]

    def wait_s(self) -> float:
        """How long what is ready has to wait for its turn, in seconds. To be asked some times a second."""
        self.line_s = self._probe.wait_s(busy=self._full)
        return self.line_s

    @property
    def is_late(self) -> bool:
        """Whether what is ready waits for long, or the last turn could not be done in its time."""
        return self._cut or self.line_s >= LONG_LINE_S

    def turn_is_long(self) -> bool:
        """Whether what is done now has taken its time: the rest of it is for the next turn. To be asked by whoever does
        much at once, now and then."""
        return self.seconds() > self._until

    def at_end_of_turn(self, work: Callable[[], None]) -> None:
        """Call `work` when the events of this turn have been dispatched; from elsewhere, in the next turn."""
        if self._dispatching:
            self._waiting.append(work)
        else:
            self.callLater(0, work)

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events and dispatch them (as in Twisted's, without the logging context)."""
        self._cut = bool(self._left)
        if self._cut:
            ready = self._first.still(self._left)
            self._full = True
        else:
            try:
                ready = self._poller.poll(-1 if timeout is None else timeout, EVENTS_OF_A_TURN)
            except OSError as error:
                if error.errno == errno.EINTR:
                    return
                raise
            self._full = len(ready) == EVENTS_OF_A_TURN
        self._dispatching = True
        if self._full:
            first, ready = self._first.before(ready, EVENTS_OF_A_TURN)
            self._dispatch(first)  # of what is left the kernel tells again
        left = self._dispatch(ready)
        self._left = self._first.seen(left) if left else []
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
        self._until = self.seconds() + LONG_TURN_S  # of the timers, which come next

    def _dispatch(self, ready: Events) -> Events:
        """Handle events for as long as a turn may take, but one at least. Returns those that are left."""
        until = self._until = self.seconds() + LONG_TURN_S
        selectables: Any = self._selectables  # of Twisted, which has no types there
        handle = self._doReadOrWrite
        for number, (descriptor, event) in enumerate(ready, 1):
            selectable = selectables.get(descriptor)
            if selectable is not None:
                try:
                    handle(selectable, descriptor, event)  # type: ignore[no-untyped-call]
                except Exception:
                    log.failure("An event could not be handled")
                if self.seconds() > until:
                    return ready[number:]
        return []

    doIteration = doPoll

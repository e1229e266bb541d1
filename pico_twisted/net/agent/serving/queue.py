"""Calls that wait until the service of a listener has room for them: for a connection of their own, or for a stream.

They wait in a `core.agent.fair_queue`: clients take turns, as the node names them by address (an IPv6 one by its /64),
since one client would else keep the others waiting. What the node does not name counts as one client. So many may wait
and for so long: whoever is too much is answered 503 with `service-busy`, and told to come back.

`Places` is for services whose connections serve one call at a time. A call has a place from the moment that it may use
a connection until it is over, an upgraded one as long as that lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred

from pico_twisted.core.agent.fair_queue import FairQueue
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.core.text import network_of
from pico_twisted.net.access.retry_after import RETRY_AFTER, soon
from pico_twisted.net.agent.serving.counts import ServiceCounts
from pico_twisted.net.agent.serving.policy import Denied

MOST_WAITING: Final = 1000
"""Most calls that wait for one service, which is what a node has in progress on half of a session."""

TOO_MANY: Final = "too many requests wait for the service"
"""What a call is told that finds no place to wait, or has to leave its own."""
TOO_LONG: Final = "the request waited for the service for too long"
"""What a call is told whose time to wait is over."""

T = TypeVar("T")


def busy(words: str) -> Denied:
    """The answer to a call that may not wait, or not any longer."""
    return Denied(503, words, "service-busy", [(RETRY_AFTER, soon())])


class ServiceQueue(Generic[T]):
    """Calls that wait for a service.

    Args:
        sweep: tells the time.
        counts: of the process; None where nothing is counted.
        wait_s: how long each may wait; `NEVER` for as long as it likes.
        refuse: called with each that has to leave, and why in words.

    Attributes:
        deadline: of the one that waits for longest.
    """

    def __init__(
        self, sweep: Sweep, counts: ServiceCounts | None, wait_s: float, refuse: Callable[[T, str], object]
    ) -> None:
        self.deadline = NEVER
        self._sweep = sweep
        self._counts = counts
        self._wait_s = wait_s
        self._refuse = refuse
        self._queue: FairQueue[T] = FairQueue(MOST_WAITING)

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, client: str, item: T) -> bool:
        """Let a call wait, perhaps in the place of another one. Returns whether it may.

        Args:
            client: its address, as the node told it.
            item: the call.
        """
        leaves = self._queue.add(network_of(client.encode("ascii", "replace")), item, self._sweep.now)
        if leaves is item:
            return False
        if self.deadline is NEVER and self._wait_s is not NEVER:
            self._watch()
        if leaves is not None:
            self._refuse(leaves, TOO_MANY)
        return True

    def take(self) -> T | None:
        """Take the call that has its turn."""
        taken = self._queue.take()
        if taken is None:
            return None
        if self._counts is not None:
            self._counts.waited(self._sweep.now - taken[1])
        return taken[0]

    def put_back(self, client: str, item: T) -> None:
        """What was just taken waits again, at the front."""
        self._queue.put_back(network_of(client.encode("ascii", "replace")), item, self._sweep.now)

    def discard(self, item: T) -> None:
        """A call waits no longer. Idempotent."""
        self._queue.discard(item)

    def take_all(self) -> list[T]:
        """Take all, in the order in which they came."""
        found = self._queue.items()
        for item in found:
            self._queue.discard(item)
        return found

    def _watch(self) -> None:
        oldest = self._queue.oldest()
        if oldest is None:
            self.deadline = NEVER
            self._sweep.discard(self)
        else:
            self.deadline = oldest + self._wait_s
            self._sweep.add(self)

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep: some may have waited for too long."""
        for item in self._queue.came_before(now - self._wait_s):
            self._queue.discard(item)
            self._refuse(item, TOO_LONG)
        self._watch()


@attrs.frozen(eq=False)
class _Turn:
    """A call that waits for a place; `granted` fires when it has one."""

    call: object
    granted: Deferred[None]


class Places:
    """The connections of a service with `max_connections`, and the calls that wait for one.

    Args:
        most: how many connections there may be.
        wait_s: how long a call may wait for one.
        sweep, counts: as of `ServiceQueue`.

    Attributes:
        most: the same.
        inside: the calls that have one, or open it.
    """

    def __init__(self, most: int, wait_s: float, sweep: Sweep, counts: ServiceCounts | None) -> None:
        self.most = most
        self.inside: set[object] = set()
        self._queue: ServiceQueue[_Turn] = ServiceQueue(
            sweep, counts, wait_s, lambda turn, words: turn.granted.errback(busy(words))
        )

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._queue)

    def enter(self, call: object, client: str) -> Deferred[None] | None:
        """Give a call a place, until it leaves.

        Args:
            call: to `leave` when it is over, whether it had one or not.
            client: its address, as the node told it.

        Returns:
            None when it has one; else what fires when it does, or fails with `Denied`, and can be cancelled.

        Raises:
            Denied: too many wait.
        """
        if len(self.inside) < self.most and not self._queue:
            self.inside.add(call)
            return None
        turn = _Turn(call, Deferred(lambda _: self._queue.discard(turn)))
        if not self._queue.add(client, turn):
            raise busy(TOO_MANY)
        return turn.granted

    def behind(self, waits: Deferred[None] | None, call: object, client: str) -> Deferred[None] | None:
        """The same for a call that first waits for something else, if that is not None."""
        return self.enter(call, client) if waits is None else waits.addCallback(lambda _: self.enter(call, client))

    def leave(self, call: object) -> None:
        """A call is over. Idempotent."""
        self.inside.discard(call)
        while len(self.inside) < self.most and (turn := self._queue.take()) is not None:
            self.inside.add(turn.call)
            turn.granted.callback(None)
